//! The only place of this crate that reads clocks.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use crate::types::{Now, Stamp, Time};

/// Turns the loop's time into the replica's.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    origin: Instant,
}

impl Clock {
    /// A clock whose time starts at `origin`.
    pub(super) fn new(origin: Instant) -> Clock {
        Clock { origin }
    }

    /// The loop's time of this turn, with the wall clock beside it.
    pub(super) fn now(&self, turn: Instant) -> Now {
        let monotonic = Time::default().after(turn.saturating_duration_since(self.origin));
        // A wall clock before 1970 stamps nothing: stamps never run backwards along the log anyway.
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Now { monotonic, wall: Stamp(u64::try_from(wall.as_millis()).unwrap_or(u64::MAX)) }
    }

    /// When a time of the replica comes, on the loop's clock.
    pub(super) fn instant(&self, time: Time) -> Instant {
        self.origin + time.since(Time::default())
    }
}
