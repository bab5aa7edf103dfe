//! The node's clock: what the replica knows of time.
//!
//! Every input of the replica gets a reading of its own. A turn of the loop can be long, and
//! neither a lease read nor a leader's message may be judged by a time from before its arrival
//! ([`Core::lease_read`](crate::core::Core::lease_read)). The clock counts the time that the
//! machine is suspended, because the promises of other nodes expire meanwhile.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use kodiak_sys::boot_clock;

use crate::types::{Now, Stamp, Time};

/// The replica's time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    origin: Duration,
    /// Reads the time. Tests replace it by one that they advance.
    pub(super) read: fn() -> Duration,
}

impl Clock {
    /// A clock whose time starts now.
    pub(super) fn new() -> Clock {
        Clock { origin: boot_clock(), read: boot_clock }
    }

    fn monotonic(&self) -> Time {
        Time::default().after((self.read)().saturating_sub(self.origin))
    }

    /// The monotonic time and the wall clock, now.
    pub(super) fn now(&self) -> Now {
        // A wall clock before 1970 counts as 1970: stamps never decrease along the log anyway.
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Now {
            monotonic: self.monotonic(),
            wall: Stamp(u64::try_from(wall.as_millis()).unwrap_or(u64::MAX)),
        }
    }

    /// A time of the replica on the loop's clock: later by the time between two readings, never
    /// earlier.
    pub(super) fn instant(&self, time: Time) -> Instant {
        let left = time.since(self.monotonic());
        Instant::now() + left
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    /// Promises and leases count by this clock. At another speed they would be longer or shorter
    /// than other nodes assume.
    #[test]
    fn the_clock_runs_as_fast_as_the_systems() {
        let before = boot_clock();
        let clock = Clock::new();
        let made = boot_clock();
        while boot_clock() < made + Duration::from_millis(20) {
            thread::yield_now();
        }
        let earlier = boot_clock();
        let shown = clock.monotonic().since(Time::default());
        let later = boot_clock();
        assert!(earlier - made <= shown && shown <= later - before, "{shown:?}");
        // A wait is as long by this clock as by the loop's.
        let (wait, start) = (Duration::from_secs(100), Instant::now());
        let at = clock.instant(Time::default().after(shown + wait));
        assert!(at >= start + wait - (boot_clock() - earlier) && at <= Instant::now() + wait);
    }
}
