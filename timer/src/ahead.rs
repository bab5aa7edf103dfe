//! Reading ahead in long lists.
//!
//! A list gives the processor one address at a time, so whoever walks it waits for one cache miss
//! after the other: 50 to 200 ns each once the timers outgrow the second-level cache, and a tenth
//! of that where eight run side by side. So in a big wheel each timer has a *hint*: the timer that
//! was put into the same list [`AHEAD`] timers later. Whoever comes to a timer can look at that
//! one's memory early, without having walked there.
//!
//! Hints are never trusted. A timer that is taken out of its list leaves the hints to it as they
//! are; what they lead to exists, and is looked at, but nothing is done because of it.
//!
//! A hint costs a store somewhere in the memory of all timers, and serves those that are walked to.
//! Where most timers are cancelled before their time, as timeouts of requests are, hints lead to
//! what has gone; so they are given only while timers fire.
//!
//! `core` has no safe prefetch. A load whose result nobody waits for is one, too, as long as the
//! processor has room to go on meanwhile: hence the loads for eight timers right after each other,
//! before the work on eight others.

use alloc::vec;
use alloc::vec::Vec;
use core::mem;

use crate::geometry::{PLACES, Place};
use crate::links::{Id, NONE, index_of};

/// How far a hint leads, and how many timers are looked at together.
pub(crate) const AHEAD: usize = 8;

/// From so many timers on, hints are worth their keep: below, the lists stay in the cache. (Tests
/// want hints at once.)
const CROWD: usize = if cfg!(test) { AHEAD } else { 1 << 16 };

/// The latest timers of one list, in a ring.
#[derive(Clone, Copy, Debug)]
struct Recent {
    ids: [Id; AHEAD],
    count: u32,
}

/// After so many cancellations without a firing hints are given up. Each firing makes up for
/// [`WORTH`] cancellations.
const CREDIT: u32 = if cfg!(test) { 4 * AHEAD as u32 } else { 1 << 14 };
const WORTH: u32 = 2;

/// Empty as long as the wheel is no crowd.
#[derive(Debug)]
pub(crate) struct Hints {
    /// Hints are given while there is any.
    credit: u32,
    recent: Vec<Recent>,
    /// By the node's index.
    later: Vec<Id>,
}

impl Hints {
    pub(crate) fn with_capacity(capacity: usize) -> Hints {
        let mut hints = Hints { credit: CREDIT, recent: Vec::new(), later: Vec::new() };
        if capacity >= CROWD {
            hints.later.reserve_exact(capacity);
            hints.prepare();
        }
        hints
    }

    fn prepare(&mut self) {
        self.recent = vec![Recent { ids: [NONE; AHEAD], count: 0 }; PLACES];
    }

    /// How many timers fit without an allocation.
    pub(crate) fn capacity(&self) -> usize {
        self.later.capacity().max(CROWD - 1)
    }

    /// There are so many timers now.
    pub(crate) fn grow(&mut self, count: usize) {
        if count >= CROWD {
            if self.recent.is_empty() {
                self.prepare();
            }
            self.later.resize(count, NONE);
        }
    }

    #[inline]
    pub(crate) fn is_crowd(&self) -> bool {
        !self.later.is_empty()
    }

    /// A timer was put at the end of this list.
    #[inline(always)]
    pub(crate) fn put(&mut self, place: Place, id: Id) {
        if self.credit > 0
            && let Some(recent) = self.recent.get_mut(place.index())
        {
            let latest = &mut recent.ids[recent.count as usize % AHEAD];
            recent.count = recent.count.wrapping_add(1);
            let earlier = mem::replace(latest, id);
            if let Some(later) = self.later.get_mut(index_of(earlier)) {
                *later = id;
            }
        }
    }

    /// A timer was cancelled.
    #[inline(always)]
    pub(crate) fn cancelled(&mut self) {
        self.credit = self.credit.saturating_sub(1);
    }

    /// A timer fired.
    #[inline(always)]
    pub(crate) fn fired(&mut self) {
        self.credit = (self.credit + WORTH).min(CREDIT);
    }

    /// The timer that may come [`AHEAD`] after this one.
    #[inline]
    pub(crate) fn later(&self, id: Id) -> Id {
        self.later.get(index_of(id)).copied().unwrap_or(NONE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::links::id_of;

    /// Puts timers into one list, and says to how many of them hints lead.
    fn hinted(hints: &mut Hints) -> usize {
        hints.later.fill(NONE);
        for index in 0..64 {
            hints.put(Place::at(7), id_of(index));
        }
        hints.later.iter().filter(|&&later| later != NONE).count()
    }

    #[test]
    fn hints_lead_eight_timers_ahead() {
        let mut hints = Hints::with_capacity(64);
        hints.grow(64);
        assert_eq!(hinted(&mut hints), 64 - AHEAD);
        assert!((0..64 - AHEAD).all(|index| hints.later(id_of(index)) == id_of(index + AHEAD)));
    }

    #[test]
    fn hints_are_given_while_timers_fire() {
        let mut hints = Hints::with_capacity(64);
        hints.grow(64);
        for _ in 0..CREDIT {
            assert!(hinted(&mut hints) > 0);
            hints.cancelled();
        }
        assert_eq!(hinted(&mut hints), 0);
        hints.cancelled();
        hints.fired();
        assert!(hinted(&mut hints) > 0);
        hints.cancelled();
        hints.cancelled();
        assert_eq!(hinted(&mut hints), 0);
    }
}
