//! Timeouts: the timing wheel, and the conversion between its ticks and the clock.
//!
//! Ticks are microseconds since the loop was built. Deadlines are rounded up and the present down,
//! so nothing fires early.

use std::cell::Cell;
use std::time::{Duration, Instant};

use kodiak_timer::{Advance, Key, Ticks, Wheel};

use crate::TimerError;

/// A handle to a timeout, for [`clear_timeout`](crate::EventLoop::clear_timeout) and
/// [`reset_timeout`](crate::EventLoop::reset_timeout).
///
/// It is valid until the timeout has fired or was cleared; that of an interval, until it is
/// cleared. A stale handle never refers to another timeout.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Timeout(Key);

#[derive(Debug)]
struct Timer<T> {
    token: T,
    /// In ticks; 0 fires once.
    period: u64,
}

#[derive(Debug)]
pub(crate) struct Timers<T> {
    wheel: Wheel<Timer<T>>,
    ticks: Ticks,
    capacity: usize,
    next: Cell<NextDeadline>,
}

/// The earliest deadline, cached so that most turns compare two instants instead of searching the
/// wheel.
#[derive(Clone, Copy, Debug)]
enum NextDeadline {
    Unknown,
    Never,
    At(Instant),
}

const RESOLUTION: Duration = Duration::from_micros(1);

impl<T: Copy> Timers<T> {
    pub(crate) fn new(origin: Instant, capacity: usize) -> Timers<T> {
        let (wheel, ticks) = (Wheel::new(0), Ticks::new(origin, RESOLUTION));
        Timers { wheel, ticks, capacity, next: Cell::new(NextDeadline::Never) }
    }

    pub(crate) fn set(&mut self, token: T, deadline: Instant) -> Result<Timeout, TimerError> {
        self.insert(token, self.ticks.ticks_up(deadline), 0)
    }

    pub(crate) fn set_periodic(
        &mut self,
        token: T,
        first: Instant,
        period: Duration,
    ) -> Result<Timeout, TimerError> {
        if period < RESOLUTION {
            return Err(TimerError::ZeroPeriod);
        }
        self.insert(token, self.ticks.ticks_up(first), self.ticks.duration_up(period))
    }

    fn insert(&mut self, token: T, deadline: u64, period: u64) -> Result<Timeout, TimerError> {
        if self.wheel.len() >= self.capacity {
            return Err(TimerError::TooMany { limit: self.capacity });
        }
        self.next.set(NextDeadline::Unknown);
        Ok(Timeout(self.wheel.insert(deadline, Timer { token, period })))
    }

    pub(crate) fn clear(&mut self, timeout: Timeout) -> Option<T> {
        self.next.set(NextDeadline::Unknown);
        self.wheel.cancel(timeout.0).map(|timer| timer.token)
    }

    pub(crate) fn reset(&mut self, timeout: Timeout, deadline: Instant) -> Result<(), TimerError> {
        let deadline = self.ticks.ticks_up(deadline);
        self.next.set(NextDeadline::Unknown);
        if self.wheel.reschedule(timeout.0, deadline) {
            Ok(())
        } else {
            Err(TimerError::NotPending)
        }
    }

    pub(crate) fn deadline(&self, timeout: Timeout) -> Option<Instant> {
        self.ticks.instant_of(self.wheel.deadline(timeout.0)?)
    }

    pub(crate) fn len(&self) -> usize {
        self.wheel.len()
    }

    /// When the earliest timeout is due; `None` if there is none, or if it lies beyond what the
    /// clock can say.
    fn next(&self) -> Option<Instant> {
        match self.next.get() {
            NextDeadline::At(instant) => Some(instant),
            NextDeadline::Never => None,
            NextDeadline::Unknown => {
                let next = self.wheel.next_deadline().and_then(|tick| self.ticks.instant_of(tick));
                self.next.set(next.map_or(NextDeadline::Never, NextDeadline::At));
                next
            }
        }
    }

    /// How long from `now` until the earliest timeout; `None` if there is none.
    pub(crate) fn until_next(&self, now: Instant) -> Option<Duration> {
        self.next().map(|next| next.saturating_duration_since(now))
    }

    /// Whether a timeout is due at `now`.
    pub(crate) fn is_due(&self, now: Instant) -> bool {
        self.next().is_some_and(|next| next <= now)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.wheel.is_empty()
    }

    pub(crate) fn advance(&mut self, now: Instant, budget: usize) -> Advance {
        self.next.set(NextDeadline::Unknown);
        self.wheel.advance(self.ticks.ticks_down(now), budget)
    }

    /// The token of the next timeout that is due in this advance. A periodic one is set again, for
    /// the first multiple of its period after its deadline that lies in the future: periods that
    /// were missed are skipped.
    pub(crate) fn next_due(&mut self, advance: &mut Advance) -> Option<T> {
        let now = self.wheel.now();
        self.next.set(NextDeadline::Unknown);
        let expired = advance.next(&mut self.wheel)?;
        let Timer { token, period } = *expired.value();
        if period == 0 {
            drop(expired);
            return Some(token);
        }
        let missed = now.saturating_sub(expired.deadline()) / period;
        let next = expired.deadline().saturating_add(period.saturating_mul(missed + 1));
        expired.rearm(next);
        Some(token)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The tokens of all that is due at `now`.
    fn due(timers: &mut Timers<u8>, now: Instant) -> Vec<u8> {
        let mut advance = timers.advance(now, usize::MAX);
        std::iter::from_fn(|| timers.next_due(&mut advance)).collect()
    }

    /// To the nanosecond, wherever between two ticks deadline and present lie. A test with the real
    /// clock, which is always later by more, could not see it.
    #[test]
    fn deadlines_are_rounded_up_to_a_tick_and_the_present_down() {
        let origin = Instant::now();
        let after = |nanos: u64| origin + Duration::from_nanos(nanos);
        for nanos in [1_u64, 999, 1_000, 1_001, 1_999, 4_096_000_001, 4_096_999_999] {
            let tick = nanos.div_ceil(1_000) * 1_000;
            let mut timers = Timers::new(origin, 2);
            let once = timers.set(1, after(nanos)).unwrap();
            timers.set_periodic(2, after(nanos), RESOLUTION).unwrap();
            assert_eq!(timers.deadline(once), Some(after(tick)));
            assert_eq!(timers.until_next(origin), Some(Duration::from_nanos(tick)), "{nanos}");
            for early in [nanos - 1, tick - 1] {
                assert!(!timers.is_due(after(early)), "{nanos}");
                assert_eq!(due(&mut timers, after(early)), [0_u8; 0], "{nanos} at {early}");
            }
            assert!(timers.is_due(after(tick)), "{nanos}");
            assert_eq!(due(&mut timers, after(tick)), [1, 2], "{nanos}");
        }
    }

    #[test]
    fn the_deadline_of_a_moved_timeout_is_rounded_up() {
        let origin = Instant::now();
        let mut timers = Timers::new(origin, 1);
        let timeout = timers.set(1, origin).unwrap();
        timers.reset(timeout, origin + Duration::from_nanos(5_001)).unwrap();
        assert_eq!(due(&mut timers, origin + Duration::from_nanos(5_999)), [0_u8; 0]);
        assert_eq!(due(&mut timers, origin + Duration::from_nanos(6_000)), [1]);
    }
}
