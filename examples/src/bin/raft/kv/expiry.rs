//! Keys that expire.
//!
//! Time is the log's own: an entry carries a stamp, and a key is gone from the first entry on whose
//! stamp has reached its deadline. So it is gone at the same entry on every node, whatever their
//! clocks say, and no clock is asked when an entry is applied.
//!
//! ```text
//! log      SET k v PX 100      …          SET x y            INCR k
//! stamp        1000                        1050                1130
//! deadline     1100            k is there, for writes          k was gone: INCR makes it anew
//! ```
//!
//! The stamp of the last entry stands still while nothing is written. So each node counts on from
//! when it applied that entry. A read that meets a key whose deadline has passed by that, or by the
//! node's wall clock, and not by the last stamp, has a [`Tick`](super::operation::Operation::Tick)
//! written first, which brings log time into the log, and is asked again after it. What a `TTL` has
//! left is counted from log time, not from the wall clock.
//!
//! What has expired is taken out as writes come, a few keys with each ([`REMOVALS_MAX`]): more than
//! a write can add, so that they do not pile up, and few, so that no write is slow because many
//! keys expire at once.

use std::{collections::BTreeSet, sync::Arc};

use imbl::HashMap;

use super::digest;

/// Expired keys that an operation takes out besides its own work. An operation gives at most one
/// key a deadline.
pub(super) const REMOVALS_MAX: usize = 4;
/// The same for a tick, which has no other work.
pub(super) const REMOVALS_PER_TICK_MAX: usize = 1000;

/// When a key expires, as an operation says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum When {
    /// As before.
    Keep,
    /// So many milliseconds after the entry's stamp.
    After(i64),
    /// At this stamp.
    At(i64),
    /// Not at all.
    Never,
}

impl When {
    /// As an argument of an operation: a byte that says which, and a number.
    pub(crate) fn encode(self) -> [u8; 9] {
        let (which, number) = match self {
            When::Keep => (0, 0),
            When::After(ms) => (1, ms),
            When::At(ms) => (2, ms),
            When::Never => (3, 0),
        };
        let mut bytes = [which; 9];
        bytes[1..].copy_from_slice(&number.to_le_bytes());
        bytes
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<When> {
        let (&which, number) = bytes.split_first()?;
        let number = i64::from_le_bytes(number.try_into().ok()?);
        Some(match which {
            0 => When::Keep,
            1 => When::After(number),
            2 => When::At(number),
            3 => When::Never,
            _ => return None,
        })
    }

    /// The deadline of a key that has `before` and gets this from an entry that is stamped `now`.
    /// One in the past is 0.
    pub(super) fn deadline(self, now: u64, before: Option<u64>) -> Option<u64> {
        match self {
            When::Keep => before,
            When::After(ms) => Some(now.saturating_add_signed(ms)),
            When::At(ms) => Some(u64::try_from(ms).unwrap_or(0)),
            When::Never => None,
        }
    }
}

/// On what condition `EXPIRE` takes effect: bits of an argument.
pub(crate) mod conditions {
    /// The key has no deadline.
    pub(crate) const NONE_YET: u8 = 1;
    /// The key has one.
    pub(crate) const SOME_ALREADY: u8 = 2;
    /// The new one is later.
    pub(crate) const LATER: u8 = 4;
    /// The new one is earlier, or the only one.
    pub(crate) const EARLIER: u8 = 8;
}

/// Whether `conditions` let a deadline take the place of another one.
pub(super) fn may_replace(conditions: u8, before: Option<u64>, next: u64) -> bool {
    let asks = |condition| conditions & condition != 0;
    // A key without a deadline lives for ever.
    let before_or_end = before.unwrap_or(u64::MAX);
    !(asks(conditions::NONE_YET) && before.is_some()
        || asks(conditions::SOME_ALREADY) && before.is_none()
        || asks(conditions::LATER) && next <= before_or_end
        || asks(conditions::EARLIER) && next >= before_or_end)
}

/// A copy of it costs nothing, and goes into the snapshot.
pub(super) type DeadlineMap = HashMap<Arc<[u8]>, u64>;

/// The deadlines of those keys that have one; keys without pay nothing for it.
#[derive(Debug, Default)]
pub(super) struct Deadlines {
    of: DeadlineMap,
    order: BTreeSet<(u64, Arc<[u8]>)>,
    /// The sum of the digests of all deadlines.
    digest: u64,
}

impl Deadlines {
    pub(super) fn new(of: DeadlineMap) -> Deadlines {
        let order = of.iter().map(|(key, &deadline)| (deadline, key.clone())).collect();
        let digests = of.iter().map(|(key, &deadline)| digest::of_deadline(key, deadline));
        let digest = digests.fold(0, u64::wrapping_add);
        Deadlines { of, order, digest }
    }

    pub(super) fn map(&self) -> &DeadlineMap {
        &self.of
    }

    /// The sum of the digests of all deadlines.
    pub(super) fn digest(&self) -> u64 {
        self.digest
    }

    pub(super) fn get(&self, key: &[u8]) -> Option<u64> {
        if self.of.is_empty() { None } else { self.of.get(key).copied() }
    }

    pub(super) fn is_due(&self, key: &[u8], now: u64) -> bool {
        self.get(key).is_some_and(|deadline| deadline <= now)
    }

    pub(super) fn set(&mut self, key: &Arc<[u8]>, deadline: u64) {
        if let Some(before) = self.of.insert(key.clone(), deadline) {
            self.order.remove(&(before, key.clone()));
            self.digest = self.digest.wrapping_sub(digest::of_deadline(key, before));
        }
        self.digest = self.digest.wrapping_add(digest::of_deadline(key, deadline));
        self.order.insert((deadline, key.clone()));
    }

    pub(super) fn remove(&mut self, key: &[u8]) {
        if self.of.is_empty() {
            return;
        }
        if let Some((key, deadline)) = self.of.remove_with_key(key) {
            self.digest = self.digest.wrapping_sub(digest::of_deadline(&key, deadline));
            self.order.remove(&(deadline, key));
        }
    }

    /// The key that has been due for longest.
    pub(super) fn first_due(&self, now: u64) -> Option<Arc<[u8]>> {
        self.order.first().filter(|(deadline, _)| *deadline <= now).map(|(_, key)| key.clone())
    }

    /// Whether any key becomes due after `now`, and until `then`.
    pub(super) fn any_between(&self, now: u64, then: u64) -> bool {
        // Keys are not empty slices of their own: the first of a deadline is at or after the empty
        // one.
        let from = (now.saturating_add(1), Arc::from(&b""[..]));
        now < then && self.order.range(from..).next().is_some_and(|(deadline, _)| *deadline <= then)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn whens_are_decoded_as_they_were_encoded() {
        for when in
            [When::Keep, When::After(i64::MIN), When::After(7), When::At(i64::MAX), When::Never]
        {
            assert_eq!(When::decode(&when.encode()), Some(when));
        }
        assert_eq!(When::decode(&[4; 9]), None);
        assert_eq!(When::decode(&[1; 8]), None);
        assert_eq!(When::After(i64::MAX).deadline(u64::MAX, None), Some(u64::MAX));
        assert_eq!(When::After(-10).deadline(5, None), Some(0));
        assert_eq!(When::At(-1).deadline(5, None), Some(0));
    }

    #[test]
    fn conditions_are_those_of_redis() {
        use conditions::{EARLIER, LATER, NONE_YET, SOME_ALREADY};
        for (conditions, before, next, expected) in [
            (0, None, 5, true),
            (NONE_YET, None, 5, true),
            (NONE_YET, Some(9), 5, false),
            (SOME_ALREADY, None, 5, false),
            (SOME_ALREADY, Some(9), 5, true),
            (LATER, Some(4), 5, true),
            (LATER, Some(5), 5, false),
            (LATER, None, 5, false),
            (EARLIER, Some(6), 5, true),
            (EARLIER, Some(5), 5, false),
            (EARLIER, None, 5, true),
            (SOME_ALREADY | LATER, Some(4), 5, true),
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
        fn both_halves_agree(steps in prop::collection::vec((0u8..6, prop::option::of(0u64..9)), 0..40), now in 0u64..9, then in 0u64..9) {
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
            let first = model.iter().map(|(&key, &deadline)| (deadline, key)).min().filter(|&(deadline, _)| deadline <= now);
            prop_assert_eq!(deadlines.first_due(now).map(|key| key[0]), first.map(|(_, key)| key));
            let any = model.values().any(|&deadline| now < deadline && deadline <= then);
            prop_assert_eq!(deadlines.any_between(now, then), any);
            let again = Deadlines::new(deadlines.map().clone());
            prop_assert_eq!(again.digest, deadlines.digest);
            prop_assert_eq!(again.order, deadlines.order);
        }
    }
}
