//! A machine's clocks: each with an origin and a speed of its own.

use crate::types::{Now, Stamp, Time};

/// How much faster or slower than time a clock may run, in millionths: more than a machine's quartz is ever off.
pub(super) const MOST_DRIFT: u64 = 10_000;

/// What clocks are off by where leases are to be tried, in millionths: so much that a lease that does not allow for it is
/// soon wrong.
pub(super) const WIDE_DRIFT: u64 = 200_000;

/// A machine's clocks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    /// Added to virtual time.
    pub(super) monotonic_offset: u64,
    /// The wall clock at virtual time 0, in milliseconds; jumps.
    pub(super) wall_offset: u64,
    /// What it shows of a million units of time.
    pub(super) speed: u64,
}

impl Clock {
    pub(super) fn now(self, virtual_time: Time) -> Now {
        let shown = self.shown(virtual_time.0);
        Now { monotonic: Time(shown + self.monotonic_offset), wall: Stamp(shown / 1_000_000 + self.wall_offset) }
    }

    /// How far the clock has come. Virtual time is at most hours, so that the product fits.
    fn shown(self, virtual_nanos: u64) -> u64 {
        virtual_nanos * self.speed / 1_000_000
    }

    /// The first virtual time at which the clock shows `monotonic`.
    pub(super) fn to_virtual(self, monotonic: Time) -> Time {
        let shown = monotonic.0.saturating_sub(self.monotonic_offset);
        let virtual_nanos = (u128::from(shown) * 1_000_000).div_ceil(u128::from(self.speed));
        Time(u64::try_from(virtual_nanos).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_has_come_when_its_virtual_time_has() {
        for speed in
            [1_000_000 - MOST_DRIFT, 999_999, 1_000_000, 1_000_001, 1_000_000 + MOST_DRIFT, 1_000_000 - WIDE_DRIFT]
        {
            let clock = Clock { monotonic_offset: 17, wall_offset: 0, speed };
            for deadline in [0, 17, 18, 1_017, 123_456_789_017, 3_600_000_000_000] {
                let at = clock.to_virtual(Time(deadline));
                assert!(clock.now(at).monotonic >= Time(deadline), "{speed} {deadline}");
                assert!(at == Time(0) || clock.now(Time(at.0 - 1)).monotonic < Time(deadline), "{speed} {deadline}");
            }
        }
    }
}
