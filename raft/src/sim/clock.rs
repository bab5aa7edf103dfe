//! A machine's clocks, each with its own origin and speed.

use crate::types::{Now, Stamp, Time};

/// The most that a clock drifts, in millionths: more than the quartz of any machine.
pub(super) const MOST_DRIFT: u64 = 10_000;

/// The drift of clocks in runs that test leases, in millionths.
///
/// It is so large that a lease that does not allow for it soon fails.
pub(super) const WIDE_DRIFT: u64 = 200_000;

/// A wall clock is wrong by `by_ms` for a while.
#[derive(Clone, Copy, Debug)]
pub(super) struct WallError {
    pub(super) from: Time,
    pub(super) until: Time,
    pub(super) by_ms: i64,
}

/// A machine's clocks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    /// Added to virtual time.
    pub(super) monotonic_offset: u64,
    /// The wall clock at virtual time 0, in milliseconds; jumps.
    pub(super) wall_offset: u64,
    /// The same, without jumps.
    pub(super) true_offset: u64,
    /// A temporary error of the wall clock.
    pub(super) wall_error: Option<WallError>,
    /// The time shown for a million units of real time.
    pub(super) speed: u64,
}

impl Clock {
    pub(super) fn now(self, virtual_time: Time) -> Now {
        let shown = self.shown(virtual_time.0);
        let error = self
            .wall_error
            .filter(|error| error.from <= virtual_time && virtual_time < error.until);
        let wall = shown / 1_000_000 + self.wall_offset;
        let wall = Stamp(wall.saturating_add_signed(error.map_or(0, |error| error.by_ms)));
        Now { monotonic: Time(shown + self.monotonic_offset), wall }
    }

    /// The reading of the wall clock without its errors.
    pub(super) fn true_wall(self, virtual_time: Time) -> u64 {
        self.shown(virtual_time.0) / 1_000_000 + self.true_offset
    }

    /// Whether the wall clock is, or has been, wrong.
    pub(super) fn was_wrong_by(self, virtual_time: Time) -> bool {
        self.wall_offset != self.true_offset
            || self.wall_error.is_some_and(|error| error.from <= virtual_time)
    }

    /// The time that has passed by this clock. Virtual time is at most hours, so the product fits.
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
        for speed in [
            1_000_000 - MOST_DRIFT,
            999_999,
            1_000_000,
            1_000_001,
            1_000_000 + MOST_DRIFT,
            1_000_000 - WIDE_DRIFT,
        ] {
            let clock = Clock {
                monotonic_offset: 17,
                wall_offset: 0,
                true_offset: 0,
                wall_error: None,
                speed,
            };
            for deadline in [0, 17, 18, 1_017, 123_456_789_017, 3_600_000_000_000] {
                let at = clock.to_virtual(Time(deadline));
                assert!(clock.now(at).monotonic >= Time(deadline), "{speed} {deadline}");
                assert!(
                    at == Time(0) || clock.now(Time(at.0 - 1)).monotonic < Time(deadline),
                    "{speed} {deadline}"
                );
            }
        }
    }
}
