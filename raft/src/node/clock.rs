//! The only place of this crate that reads clocks.
//!
//! Every input gets a reading of its own: a lease read must not be judged, nor a leader's message
//! be taken in, by a time from before it arrived
//! ([`Core::lease_read`](crate::core::Core::lease_read)), and a turn of the loop can be long. The
//! clock counts the time that the machine is suspended, because others' promises run out meanwhile.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use kodiak_sys::boot_clock;

use crate::types::{Now, Stamp, Time};

/// The replica's time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    origin: Duration,
    /// Reads the time; tests give one that they advance.
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

    /// What is now.
    pub(super) fn now(&self) -> Now {
        // A wall clock before 1970 stamps nothing: stamps never run backwards along the log anyway.
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Now {
            monotonic: self.monotonic(),
            wall: Stamp(u64::try_from(wall.as_millis()).unwrap_or(u64::MAX)),
        }
    }

    /// When a time of the replica comes, on the loop's clock: later by what passes between two
    /// readings, never earlier.
    pub(super) fn instant(&self, time: Time) -> Instant {
        let left = time.since(self.monotonic());
        Instant::now() + left
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    /// Promises and leases are counted by it: at another speed they would be longer or shorter than
    /// what other nodes take them for.
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
        // And what comes in a while by it comes in that while by the loop's clock.
        let (wait, start) = (Duration::from_secs(100), Instant::now());
        let at = clock.instant(Time::default().after(shown + wait));
        assert!(at >= start + wait - (boot_clock() - earlier) && at <= Instant::now() + wait);
    }
}
