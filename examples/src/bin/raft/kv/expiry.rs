//! Keys that expire.
//!
//! They expire by log time: an entry carries a stamp, and a key has expired at the first entry
//! whose stamp has reached its deadline. So it expires at the same entry on every node, whatever
//! their clocks say, and no clock is read when an entry is applied.
//!
//! ```text
//! log      SET k v PX 100      …          SET x y            INCR k
//! stamp        1000                        1050                1130
//! deadline     1100            k is there, for writes          k had expired: INCR sets it to 1
//! ```
//!
//! The stamp of the last entry stands still while nothing is written, so each node estimates log
//! time from when it applied that entry. If a deadline has passed by that estimate, or by the
//! node's wall clock, but not by the last stamp, the expiration is undecided. A read of such a key
//! waits for a time entry ([`AdvanceTime`](super::operation::Operation::AdvanceTime)), which brings
//! the leader's time into the log, and is then repeated. `TTL` counts from log time, not from the
//! wall clock.
//!
//! Each write removes a few expired keys ([`REMOVALS_MAX`]): more than it can add, so that they do
//! not pile up, and few, so that no write is slow because many keys expire at once.

use std::{collections::BTreeSet, sync::Arc};

use imbl::HashMap;

use super::digest;

/// Expired keys that an operation removes besides its own work. An operation gives at most one key
/// a deadline.
pub(super) const REMOVALS_MAX: usize = 4;
/// The same for a time entry, which has no other work.
pub(super) const REMOVALS_PER_TIME_ENTRY_MAX: usize = 1000;

/// When a key expires, as an operation states it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Expiration {
    /// As before.
    Keep,
    /// This number of milliseconds after the entry's stamp.
    After(i64),
    /// At this stamp.
    At(i64),
    /// Not at all.
    Never,
}

impl Expiration {
    /// As an argument of an operation: a byte for the variant, and a number.
    pub(crate) fn encode(self) -> [u8; 9] {
        let (which, number) = match self {
            Expiration::Keep => (0, 0),
            Expiration::After(ms) => (1, ms),
            Expiration::At(ms) => (2, ms),
            Expiration::Never => (3, 0),
        };
        let mut bytes = [which; 9];
        bytes[1..].copy_from_slice(&number.to_le_bytes());
        bytes
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<Expiration> {
        let (&which, number) = bytes.split_first()?;
        let number = i64::from_le_bytes(number.try_into().ok()?);
        Some(match which {
            0 => Expiration::Keep,
            1 => Expiration::After(number),
            2 => Expiration::At(number),
            3 => Expiration::Never,
            _ => return None,
        })
    }

    /// The deadline that a key gets from an entry stamped `now`, if it had the deadline `before`.
    /// A deadline before 1970 is 0.
    pub(super) fn deadline(self, now: u64, before: Option<u64>) -> Option<u64> {
        match self {
            Expiration::Keep => before,
            Expiration::After(ms) => Some(now.saturating_add_signed(ms)),
            Expiration::At(ms) => Some(u64::try_from(ms).unwrap_or(0)),
            Expiration::Never => None,
        }
    }
}

/// The conditions of `EXPIRE`, by Redis' names: bits of an argument.
pub(crate) mod conditions {
    /// The key has no deadline.
    pub(crate) const NX: u8 = 1;
    /// The key has one.
    pub(crate) const XX: u8 = 2;
    /// The new deadline is later.
    pub(crate) const GT: u8 = 4;
    /// The new deadline is earlier, or the key has none.
    pub(crate) const LT: u8 = 8;
}

/// Whether the conditions let the deadline `next` replace `before`.
pub(super) fn may_replace(conditions: u8, before: Option<u64>, next: u64) -> bool {
    let has = |condition| conditions & condition != 0;
    // A key without a deadline never expires.
    let before_or_end = before.unwrap_or(u64::MAX);
    !(has(conditions::NX) && before.is_some()
        || has(conditions::XX) && before.is_none()
        || has(conditions::GT) && next <= before_or_end
        || has(conditions::LT) && next >= before_or_end)
}

/// Deadlines by key. A copy costs nothing, and goes into the snapshot.
pub(super) type DeadlineMap = HashMap<Arc<[u8]>, u64>;

/// The deadlines of the keys that have one; other keys take no memory here.
#[derive(Debug, Default)]
pub(super) struct Deadlines {
    by_key: DeadlineMap,
    by_time: BTreeSet<(u64, Arc<[u8]>)>,
    /// The sum of the digests of all deadlines.
    digest: u64,
}

impl Deadlines {
    pub(super) fn new(by_key: DeadlineMap) -> Deadlines {
        let by_time = by_key.iter().map(|(key, &deadline)| (deadline, key.clone())).collect();
        let digests = by_key.iter().map(|(key, &deadline)| digest::of_deadline(key, deadline));
        let digest = digests.fold(0, u64::wrapping_add);
        Deadlines { by_key, by_time, digest }
    }

    pub(super) fn map(&self) -> &DeadlineMap {
        &self.by_key
    }

    /// The sum of the digests of all deadlines.
    pub(super) fn digest(&self) -> u64 {
        self.digest
    }

    pub(super) fn get(&self, key: &[u8]) -> Option<u64> {
        if self.by_key.is_empty() { None } else { self.by_key.get(key).copied() }
    }

    pub(super) fn has_expired(&self, key: &[u8], now: u64) -> bool {
        self.get(key).is_some_and(|deadline| deadline <= now)
    }

    pub(super) fn set(&mut self, key: &Arc<[u8]>, deadline: u64) {
        if let Some(before) = self.by_key.insert(key.clone(), deadline) {
            self.by_time.remove(&(before, key.clone()));
            self.digest = self.digest.wrapping_sub(digest::of_deadline(key, before));
        }
        self.digest = self.digest.wrapping_add(digest::of_deadline(key, deadline));
        self.by_time.insert((deadline, key.clone()));
    }

    pub(super) fn remove(&mut self, key: &[u8]) {
        if self.by_key.is_empty() {
            return;
        }
        if let Some((key, deadline)) = self.by_key.remove_with_key(key) {
            self.digest = self.digest.wrapping_sub(digest::of_deadline(&key, deadline));
            self.by_time.remove(&(deadline, key));
        }
    }

    /// The key that has been expired for longest.
    pub(super) fn first_expired(&self, now: u64) -> Option<Arc<[u8]>> {
        self.by_time.first().filter(|(deadline, _)| *deadline <= now).map(|(_, key)| key.clone())
    }

    /// Whether any key expires after `now`, and until `then`.
    pub(super) fn any_between(&self, now: u64, then: u64) -> bool {
        // Of the keys with one deadline, none comes before the empty key.
        let from = (now.saturating_add(1), Arc::from(&b""[..]));
        now < then
            && self.by_time.range(from..).next().is_some_and(|(deadline, _)| *deadline <= then)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn expirations_are_decoded_as_they_were_encoded() {
        for when in [
            Expiration::Keep,
            Expiration::After(i64::MIN),
            Expiration::After(7),
            Expiration::At(i64::MAX),
            Expiration::Never,
        ] {
            assert_eq!(Expiration::decode(&when.encode()), Some(when));
        }
        assert_eq!(Expiration::decode(&[4; 9]), None);
        assert_eq!(Expiration::decode(&[1; 8]), None);
        assert_eq!(Expiration::After(i64::MAX).deadline(u64::MAX, None), Some(u64::MAX));
        assert_eq!(Expiration::After(-10).deadline(5, None), Some(0));
        assert_eq!(Expiration::At(-1).deadline(5, None), Some(0));
    }

    #[test]
    fn conditions_are_those_of_redis() {
        use conditions::{GT, LT, NX, XX};
        for (conditions, before, next, expected) in [
            (0, None, 5, true),
            (NX, None, 5, true),
            (NX, Some(9), 5, false),
            (XX, None, 5, false),
            (XX, Some(9), 5, true),
            (GT, Some(4), 5, true),
            (GT, Some(5), 5, false),
            (GT, None, 5, false),
            (LT, Some(6), 5, true),
            (LT, Some(5), 5, false),
            (LT, None, 5, true),
            (XX | GT, Some(4), 5, true),
        ] {
            assert_eq!(
                may_replace(conditions, before, next),
                expected,
                "{conditions} {before:?} {next}"
            );
        }
    }

    proptest! {
        #[test]
        fn both_indexes_agree(
            steps in prop::collection::vec((0u8..6, prop::option::of(0u64..9)), 0..40),
            now in 0u64..9,
            then in 0u64..9,
        ) {
            let mut deadlines = Deadlines::default();
            let mut model = std::collections::BTreeMap::new();
            for (key, deadline) in steps {
                match deadline {
                    Some(deadline) => {
                        deadlines.set(&Arc::from([key]), deadline);
                        model.insert(key, deadline);
                    }
                    None => {
                        deadlines.remove(&[key]);
                        model.remove(&key);
                    }
                }
            }
            for key in 0..6 {
                prop_assert_eq!(deadlines.get(&[key]), model.get(&key).copied());
            }
            let first = model.iter().map(|(&key, &deadline)| (deadline, key)).min();
            let first = first.filter(|&(deadline, _)| deadline <= now).map(|(_, key)| key);
            prop_assert_eq!(deadlines.first_expired(now).map(|key| key[0]), first);
            let any = model.values().any(|&deadline| now < deadline && deadline <= then);
            prop_assert_eq!(deadlines.any_between(now, then), any);
            let again = Deadlines::new(deadlines.map().clone());
            prop_assert_eq!(again.digest, deadlines.digest);
            prop_assert_eq!(again.by_time, deadlines.by_time);
        }
    }
}
