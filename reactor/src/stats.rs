//! What the loop has done so far.

use std::time::Duration;

/// Counters of one loop since it was built, for tests, dashboards and curiosity: see
/// [`EventLoop::stats`](crate::EventLoop::stats).
///
/// Counting costs an addition each. The times cost clock readings, which a turn otherwise does
/// without, so they stay zero unless the builder said
/// [`measure_time(true)`](crate::Builder::measure_time).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct Stats {
    /// Turns completed. An idle loop's does not grow.
    pub turns: u64,
    /// Times the loop was ready to block in the kernel (it may have returned at once).
    pub sleeps: u64,
    /// Events of sources that were delivered.
    pub events: u64,
    /// Events that the kernel had reported for a source which was dropped or deregistered before
    /// its turn came.
    pub stale_events: u64,
    /// Times a source was suspended because nobody reacted to its hang-up, error or urgent data:
    /// see [`register_opt`](crate::EventLoop::register_opt). Not zero means that a handler ignores
    /// something.
    pub suspensions: u64,
    /// Times somebody woke the loop: at most once for each time it was about to sleep, however many
    /// messages were sent.
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
