//! Between the clock and the wheel: `Instant` and `Duration` to ticks and back (feature `std`).

use std::time::{Duration, Instant};

/// A scale: where tick 0 is, and how long a tick takes.
///
/// Deadlines are rounded **up** and the present **down**, so a timer never fires early, and late by
/// less than one tick.
///
/// ```
/// use kodiak_timer::{Ticks, Wheel};
/// use std::time::{Duration, Instant};
///
/// let start = Instant::now();
/// let ticks = Ticks::new(start, Duration::from_millis(1));
/// let mut wheel = Wheel::new(ticks.ticks_down(start));
/// wheel.insert(ticks.ticks_up(start + Duration::from_micros(1_500)), "soon");
/// assert_eq!(wheel.next_deadline(), Some(2));
/// assert_eq!(ticks.until(2, start), Duration::from_millis(2));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Ticks {
    origin: Instant,
    nanos_per_tick: u64,
}

impl Ticks {
    /// One millisecond: fine enough for timeouts, and the timers of one millisecond share a
    /// wake-up.
    pub const DEFAULT_RESOLUTION: Duration = Duration::from_millis(1);

    /// A scale whose tick 0 is `origin` and whose ticks are `resolution` long. A resolution finer
    /// than a nanosecond counts as a nanosecond, one coarser than 584 years as 584 years.
    #[must_use]
    pub fn new(origin: Instant, resolution: Duration) -> Ticks {
        let nanos_per_tick = u64::try_from(resolution.as_nanos()).unwrap_or(u64::MAX).max(1);
        Ticks { origin, nanos_per_tick }
    }

    /// The instant of tick 0.
    #[must_use]
    pub fn origin(&self) -> Instant {
        self.origin
    }

    /// The length of a tick.
    #[must_use]
    pub fn resolution(&self) -> Duration {
        Duration::from_nanos(self.nanos_per_tick)
    }

    /// The first tick that is not before `instant`: for deadlines. Tick 0 for an instant before the
    /// origin.
    #[inline]
    #[must_use]
    pub fn ticks_up(&self, instant: Instant) -> u64 {
        self.duration_up(instant.saturating_duration_since(self.origin))
    }

    /// The last tick that is not after `instant`: for the present. Tick 0 for an instant before the
    /// origin.
    #[inline]
    #[must_use]
    pub fn ticks_down(&self, instant: Instant) -> u64 {
        let duration = instant.saturating_duration_since(self.origin);
        match whole_nanos(duration) {
            Some(nanos) => nanos / self.nanos_per_tick,
            None => saturate(duration.as_nanos() / u128::from(self.nanos_per_tick)),
        }
    }

    /// How many ticks `duration` takes, rounded up; `u64::MAX` if that is more.
    #[inline]
    #[must_use]
    pub fn duration_up(&self, duration: Duration) -> u64 {
        match whole_nanos(duration) {
            Some(nanos) => nanos.div_ceil(self.nanos_per_tick),
            None => saturate(duration.as_nanos().div_ceil(u128::from(self.nanos_per_tick))),
        }
    }

    /// The instant at which `tick` begins; `None` if it is further off than an `Instant` can say.
    #[must_use]
    pub fn instant_of(&self, tick: u64) -> Option<Instant> {
        self.origin.checked_add(self.duration_of(tick))
    }

    /// How long to sleep from `now` to the beginning of `tick`; zero if that has passed.
    #[inline]
    #[must_use]
    pub fn until(&self, tick: u64, now: Instant) -> Duration {
        match now.checked_duration_since(self.origin) {
            Some(elapsed) => self.duration_of(tick).saturating_sub(elapsed),
            None => self.duration_of(tick).saturating_add(self.origin.duration_since(now)),
        }
    }

    /// How long this many ticks take, exactly.
    #[inline]
    #[must_use]
    pub fn duration_of(&self, ticks: u64) -> Duration {
        match ticks.checked_mul(self.nanos_per_tick) {
            Some(nanos) => Duration::from_nanos(nanos),
            None => {
                let nanos = u128::from(ticks) * u128::from(self.nanos_per_tick);
                match u64::try_from(nanos / 1_000_000_000) {
                    Ok(secs) => Duration::new(secs, (nanos % 1_000_000_000) as u32),
                    Err(_) => Duration::MAX,
                }
            }
        }
    }
}

/// The duration in nanoseconds, if it is shorter than 584 years: one word instead of two, so a
/// division takes 5 ns and not 30.
#[inline]
fn whole_nanos(duration: Duration) -> Option<u64> {
    duration.as_secs().checked_mul(1_000_000_000)?.checked_add(u64::from(duration.subsec_nanos()))
}

fn saturate(ticks: u128) -> u64 {
    u64::try_from(ticks).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deadlines_round_up_and_the_present_down() {
        let origin = Instant::now();
        let ticks = Ticks::new(origin, Ticks::DEFAULT_RESOLUTION);
        for (micros, up, down) in [(0, 0, 0), (1, 1, 0), (999, 1, 0), (1000, 1, 1), (1001, 2, 1)] {
            let instant = origin + Duration::from_micros(micros);
            assert_eq!(
                (ticks.ticks_up(instant), ticks.ticks_down(instant)),
                (up, down),
                "{micros} µs"
            );
            assert!(ticks.instant_of(up).is_some_and(|rounded| rounded >= instant));
        }
    }

    #[test]
    fn what_is_too_far_saturates() {
        let origin = Instant::now();
        let ticks = Ticks::new(origin, Duration::ZERO);
        assert_eq!(ticks.resolution(), Duration::from_nanos(1));
        assert_eq!(ticks.duration_up(Duration::MAX), u64::MAX);
        assert_eq!(ticks.duration_of(u64::MAX), Duration::from_nanos(u64::MAX));
        assert_eq!(Ticks::new(origin, Duration::MAX).duration_of(u64::MAX), Duration::MAX);
        let micros = Ticks::new(origin, Duration::from_micros(1));
        assert_eq!(micros.duration_of(u64::MAX), Duration::from_micros(u64::MAX));
        assert_eq!(micros.duration_up(Duration::from_secs(40_000_000_000)), 40_000_000_000_000_000);
    }

    #[test]
    fn an_instant_before_the_origin_is_tick_zero() {
        let now = Instant::now();
        let ticks = Ticks::new(now + Duration::from_secs(1), Duration::from_millis(1));
        assert_eq!((ticks.ticks_up(now), ticks.ticks_down(now)), (0, 0));
        assert_eq!(ticks.until(5, now), Duration::from_millis(1005));
        assert_eq!(ticks.until(0, now + Duration::from_secs(3)), Duration::ZERO);
    }
}
