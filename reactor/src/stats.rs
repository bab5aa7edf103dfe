//! [`Stats`], the counters of a loop.

use std::time::Duration;

/// Counters of one loop since it was built, from [`EventLoop::stats`](crate::EventLoop::stats).
///
/// A counter costs an addition. The times cost readings of the clock, so they stay zero unless the
/// builder's [`measure_time`](crate::Builder::measure_time) is on.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct Stats {
    /// Turns completed. An idle loop completes none.
    pub turns: u64,
    /// Waits that were allowed to block in the kernel (they may have returned at once).
    pub sleeps: u64,
    /// Events of sources that were delivered.
    pub events: u64,
    /// Events that were not delivered, because their source was dropped or deregistered after the
    /// kernel reported them.
    pub stale_events: u64,
    /// Sources [suspended](crate::EventLoop::register_opt) because the handler did not
    /// react to a hang-up, an error or urgent data. If it is not zero, a handler ignores some.
    pub suspensions: u64,
    /// Wakes by senders and remotes: at most one per sleep, however many messages were sent.
    pub wakes: u64,
    /// Waits that a signal handler interrupted.
    pub interruptions: u64,
    /// Timeouts fired, periodic ones once per firing.
    pub timers_fired: u64,
    /// Messages delivered over the loop's own channel.
    pub messages: u64,
    /// Signals delivered.
    pub signals: u64,
    /// Ends of child processes delivered.
    pub children: u64,
    /// Time spent waiting. Zero unless times are measured.
    pub idle: Duration,
    /// Time spent on turns. Zero unless times are measured.
    pub busy: Duration,
    /// The longest single callback. Zero unless times are measured.
    pub longest_callback: Duration,
}
