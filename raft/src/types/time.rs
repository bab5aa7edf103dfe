//! Time as an argument. No room but `node` reads a clock.

use std::time::Duration;

/// A point of the driver's monotonic time, in nanoseconds since an origin of the driver's choice.
/// It never runs backwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Time(pub u64);

impl Time {
    /// This time and `duration` later; stops at the end of time (584 years after the origin).
    #[must_use]
    pub fn after(self, duration: Duration) -> Time {
        Time(self.0.saturating_add(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)))
    }

    /// How long after `earlier` this is; zero if it is not.
    #[must_use]
    pub fn since(self, earlier: Time) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

/// A point of log time, in milliseconds since 1970; never less than that of the entry before. What
/// expires, expires by stamps, so that it expires at the same entry on every node.
///
/// Log time runs by the leader's monotonic clock, and keeps to the greatest wall clock that a
/// majority of the voters has reached: at twice the speed while it is behind, at half the speed
/// while it is ahead. So it is right while a majority of the voters' clocks are, and a clock that
/// is wrong for a moment moves it by no more than that moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Stamp(pub u64);

/// What the driver's clocks say: handed to every input.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct Now {
    /// For deadlines.
    pub monotonic: Time,
    /// What log time is steered by: a leader's own, and what followers answer with.
    pub wall: Stamp,
}

impl Now {
    /// What is now if the clocks say `now`, after they said this: monotonic time never runs
    /// backwards.
    pub(crate) fn then(self, now: Now) -> Now {
        Now { monotonic: self.monotonic.max(now.monotonic), wall: now.wall }
    }
}
