//! The simulator's random number generator.

use std::time::Duration;

use crate::core::ElectionTimeout;

/// A range of durations, both ends included.
#[derive(Clone, Copy, Debug)]
pub(super) struct DurationRange {
    pub(super) min: Duration,
    pub(super) max: Duration,
}

impl DurationRange {
    pub(super) fn new(min: Duration, max: Duration) -> DurationRange {
        DurationRange { min, max }
    }
}

impl From<ElectionTimeout> for DurationRange {
    fn from(timeout: ElectionTimeout) -> DurationRange {
        DurationRange { min: timeout.min, max: timeout.max }
    }
}

/// SplitMix64 (Steele, Lea, Flood, "Fast splittable pseudorandom number generators", 2014): one
/// word of state, and the same numbers on every machine.
#[derive(Clone, Debug)]
pub(super) struct Random {
    state: u64,
}

impl Random {
    pub(super) fn new(seed: u64) -> Random {
        Random { state: seed }
    }

    pub(super) fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let value = (self.state ^ (self.state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        value ^ (value >> 31)
    }

    /// A number below `limit`, which is at least 1.
    pub(super) fn below(&mut self, limit: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(limit)) >> 64) as u64
    }

    /// A number from `low` to `high`, both included.
    pub(super) fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high - low + 1)
    }

    /// True this many times in ten thousand.
    pub(super) fn chance(&mut self, in_ten_thousand: u32) -> bool {
        self.below(10_000) < u64::from(in_ten_thousand)
    }

    /// One of `choices`, which is not empty.
    pub(super) fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len() as u64) as usize]
    }

    /// A duration from `low` to `high`, both included.
    pub(super) fn duration(&mut self, low: Duration, high: Duration) -> Duration {
        Duration::from_nanos(self.between(low.as_nanos() as u64, high.as_nanos() as u64))
    }

    /// A duration in this range.
    pub(super) fn duration_in(&mut self, range: DurationRange) -> Duration {
        self.duration(range.min, range.max)
    }
}
