//! Prefetch hints for long lists.
//!
//! A linked list gives the processor one address at a time, so a walk waits for one cache miss
//! after the other: 50 to 200 ns each once the timers outgrow the second-level cache. Eight misses
//! side by side take a tenth of that. So in a large wheel each timer has a *hint*: the timer that
//! was put into the same list [`PREFETCH_DISTANCE`] timers later. A walk that reaches a timer can
//! load the later one's memory early.
//!
//! Hints are never trusted. When a timer leaves its list, the hints to it stay as they are. What
//! they lead to exists and is loaded, but nothing is done because of it.
//!
//! A hint costs a store somewhere in the memory of all timers, and pays off only for timers that
//! fire. Where most timers are cancelled before their time, as timeouts of requests are, hints lead
//! to timers that are gone. So hints are recorded only while timers fire.
//!
//! `core` has no safe prefetch instruction. A load whose result is not waited for does the same, as
//! long as the processor has room to go on meanwhile: hence the loads for eight timers right after
//! each other, before the work on eight others.

use alloc::vec;
use alloc::vec::Vec;
use core::mem;

use crate::geometry::{ALL_SLOTS, Slot};
use crate::links::{Id, NONE, index_of};

/// How many timers ahead a hint leads, and how many timers are loaded together.
pub(crate) const PREFETCH_DISTANCE: usize = 8;

/// The number of timers from which hints pay off: below it, the lists stay in the cache. (Tests use
/// hints at once.)
const MIN_TIMERS: usize = if cfg!(test) { PREFETCH_DISTANCE } else { 1 << 16 };

/// The timers last added to one list, as a ring buffer.
#[derive(Clone, Copy, Debug)]
struct Recent {
    ids: [Id; PREFETCH_DISTANCE],
    count: u32,
}

/// The number of cancellations without a firing after which no more hints are recorded. Each firing
/// makes up for [`CREDIT_PER_FIRING`] cancellations.
const CREDIT_MAX: u32 = if cfg!(test) { 4 * PREFETCH_DISTANCE as u32 } else { 1 << 14 };
const CREDIT_PER_FIRING: u32 = 2;

/// The hints of one wheel; empty while the wheel has fewer than [`MIN_TIMERS`] timers.
#[derive(Debug)]
pub(crate) struct PrefetchHints {
    /// Hints are recorded while this is above zero.
    credit: u32,
    recent: Vec<Recent>,
    /// The hint of each timer, by its node's index.
    later: Vec<Id>,
}

impl PrefetchHints {
    pub(crate) fn with_capacity(capacity: usize) -> PrefetchHints {
        let mut hints = PrefetchHints { credit: CREDIT_MAX, recent: Vec::new(), later: Vec::new() };
        if capacity >= MIN_TIMERS {
            hints.later.reserve_exact(capacity);
            hints.prepare();
        }
        hints
    }

    fn prepare(&mut self) {
        self.recent = vec![Recent { ids: [NONE; PREFETCH_DISTANCE], count: 0 }; ALL_SLOTS];
    }

    /// How many timers fit without an allocation.
    pub(crate) fn capacity(&self) -> usize {
        self.later.capacity().max(MIN_TIMERS - 1)
    }

    /// Makes room for the hints of `count` timers.
    pub(crate) fn grow(&mut self, count: usize) {
        if count >= MIN_TIMERS {
            if self.recent.is_empty() {
                self.prepare();
            }
            self.later.resize(count, NONE);
        }
    }

    /// Whether the wheel has enough timers for hints.
    #[inline]
    pub(crate) fn is_active(&self) -> bool {
        !self.later.is_empty()
    }

    /// Records that a timer was put at the end of this list.
    #[inline(always)]
    pub(crate) fn record_insert(&mut self, slot: Slot, id: Id) {
        if self.credit > 0
            && let Some(recent) = self.recent.get_mut(slot.index())
        {
            let latest = &mut recent.ids[recent.count as usize % PREFETCH_DISTANCE];
            recent.count = recent.count.wrapping_add(1);
            let earlier = mem::replace(latest, id);
            if let Some(later) = self.later.get_mut(index_of(earlier)) {
                *later = id;
            }
        }
    }

    /// Records that a timer was cancelled.
    #[inline(always)]
    pub(crate) fn record_cancel(&mut self) {
        self.credit = self.credit.saturating_sub(1);
    }

    /// Records that a timer fired.
    #[inline(always)]
    pub(crate) fn record_firing(&mut self) {
        self.credit = (self.credit + CREDIT_PER_FIRING).min(CREDIT_MAX);
    }

    /// The hint of this timer: the timer that may come [`PREFETCH_DISTANCE`] after it.
    #[inline]
    pub(crate) fn later(&self, id: Id) -> Id {
        self.later.get(index_of(id)).copied().unwrap_or(NONE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::links::id_of;

    /// Puts timers into one list, and returns how many of them have a hint.
    fn hint_count(hints: &mut PrefetchHints) -> usize {
        hints.later.fill(NONE);
        for index in 0..64 {
            hints.record_insert(Slot::on_level_0(7), id_of(index));
        }
        hints.later.iter().filter(|&&later| later != NONE).count()
    }

    #[test]
    fn hints_lead_eight_timers_ahead() {
        let mut hints = PrefetchHints::with_capacity(64);
        hints.grow(64);
        assert_eq!(hint_count(&mut hints), 64 - PREFETCH_DISTANCE);
        assert!(
            (0..64 - PREFETCH_DISTANCE)
                .all(|index| hints.later(id_of(index)) == id_of(index + PREFETCH_DISTANCE))
        );
    }

    #[test]
    fn hints_are_recorded_while_timers_fire() {
        let mut hints = PrefetchHints::with_capacity(64);
        hints.grow(64);
        for _ in 0..CREDIT_MAX {
            assert!(hint_count(&mut hints) > 0);
            hints.record_cancel();
        }
        assert_eq!(hint_count(&mut hints), 0);
        hints.record_cancel();
        hints.record_firing();
        assert!(hint_count(&mut hints) > 0);
        hints.record_cancel();
        hints.record_cancel();
        assert_eq!(hint_count(&mut hints), 0);
    }
}
