//! The only randomness of the core: a seeded generator that is part of its state.

use std::time::Duration;

/// SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", OOPSLA
/// 2014, figure 12).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct SplitMix64(u64);

impl SplitMix64 {
    pub(super) fn new(seed: u64) -> SplitMix64 {
        SplitMix64(seed)
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A duration between the two, each nanosecond (nearly) equally likely.
    pub(super) fn between(&mut self, (shortest, longest): (Duration, Duration)) -> Duration {
        let spread = u64::try_from(longest.saturating_sub(shortest).as_nanos()).unwrap_or(u64::MAX);
        // The high half of a 64 by 64 bit product: 0 ..= spread, without a division.
        let offset = (u128::from(self.next()) * (u128::from(spread) + 1)) >> 64;
        shortest.saturating_add(Duration::from_nanos(offset as u64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn produces_the_published_sequence() {
        // The first outputs for seed 1234567, as every implementation of SplitMix64 gives them.
        let mut jitter = SplitMix64::new(1_234_567);
        assert_eq!(jitter.next(), 6_457_827_717_110_365_317);
        assert_eq!(jitter.next(), 3_203_168_211_198_807_973);
    }

    #[test]
    fn stays_between_and_reaches_both_halves() {
        let range = (Duration::from_millis(100), Duration::from_millis(200));
        let mut jitter = SplitMix64::new(7);
        let draws: Vec<Duration> = (0..1000).map(|_| jitter.between(range)).collect();
        assert!(draws.iter().all(|&draw| range.0 <= draw && draw <= range.1));
        let late = draws.iter().filter(|&&draw| draw > Duration::from_millis(150)).count();
        assert!((400..600).contains(&late), "{late} of 1000 in the later half");
        assert_eq!(jitter.between((range.0, range.0)), range.0);
    }
}
