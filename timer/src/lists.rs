//! The slots' lists: putting a timer where it belongs, taking it out, dealing a slot out to lower levels.
//!
//! What always holds (`tests/invariants.rs` checks it after every step of the model test):
//!
//! - A timer's tick is never before the cursor, and the cursor never after `now`.
//! - A timer is in the slot its tick belongs to, or in one *before* it, when it was rescheduled by one store (it moves on
//!   when its slot is opened).
//! - A slot's `earliest` is a tick of that slot, and no timer in its list is before it. It is the earliest timer's tick
//!   unless that timer was taken out of a list too long to search (see [`SEARCH_LIMIT`]): then the wheel may wake once
//!   too early for this slot, never too late.
//! - While a slot is being dealt out (`opening`), the cursor is inside it, and a new timer for that slot queues up
//!   at its end, behind older ones of the same tick.

use crate::geometry::{Place, TICKS};
use crate::links::Id;
use crate::wheel::Wheel;

/// A slot's earliest timer was taken out: how many of the others are looked at for the next earliest. A list of `n`
/// timers loses its earliest in one of `n` cancellations, so the expected cost is one look, whatever `n`; the limit
/// bounds the worst case. 16 nodes are 16 cache misses at most, about a microsecond.
const SEARCH_LIMIT: usize = 16;

/// How many timers are dealt out at once. Their nodes are looked at one right after the other, before anything is done that depends on them,
/// so that the processor fetches them side by side.
const DEAL: usize = 16;

impl<T> Wheel<T> {
    /// Where a timer for this tick is to queue up now.
    #[inline]
    pub(crate) fn place_for(&self, tick: u64) -> Place {
        let place = Place::of(self.cursor, tick);
        match self.opening {
            // Behind the older timers of its tick.
            Some(open) if place.index() < open.index() => open,
            _ => place,
        }
    }

    /// After a timer was put into the slot that is being opened, two are dealt out, so that the slot gets empty however many come.
    #[inline]
    pub(crate) fn deal_for_newcomer(&mut self, place: Place) {
        if self.opening == Some(place) {
            self.deal(place, 2);
        }
    }

    /// No timer of this slot, which has some, fires before this tick.
    #[inline]
    pub(crate) fn earliest_of(&self, place: Place) -> u64 {
        match self.earliest.get(place.upper()) {
            Some(&earliest) => earliest,
            // On level 0 a slot has one tick, which shares all higher digits with the cursor.
            None => self.cursor & !(TICKS as u64 - 1) | place.index() as u64,
        }
    }

    #[inline]
    pub(crate) fn push_back(&mut self, place: Place, id: Id, tick: u64) {
        self.slab.links.push_back(place, id);
        self.occupied(place, tick);
    }

    #[inline]
    fn occupied(&mut self, place: Place, tick: u64) {
        if let Some(earliest) = self.earliest.get_mut(place.upper()) {
            *earliest = (*earliest).min(tick);
        }
        self.occupancy.set(place);
    }

    /// Takes a timer out of its list.
    #[inline]
    pub(crate) fn unlink(&mut self, id: Id) {
        let node = self.slab.node(id);
        let (place, tick) = (node.place, node.tick);
        if self.slab.links.unlink(id) {
            self.emptied(place);
        } else if self.earliest.get(place.upper()) == Some(&tick) {
            self.find_earliest(place);
        }
    }

    /// Takes out a timer that is due: it was on level 0, or alone in its slot.
    #[inline]
    pub(crate) fn unlink_due(&mut self, id: Id) {
        let node = self.slab.node(id);
        let (place, tick) = (node.place, node.tick);
        if self.slab.links.unlink(id) {
            self.emptied(place);
        }
        // It was the earliest of all.
        self.cursor = tick;
    }

    #[inline]
    fn emptied(&mut self, place: Place) {
        self.occupancy.clear(place);
        if let Some(earliest) = self.earliest.get_mut(place.upper()) {
            *earliest = u64::MAX;
            if self.opening == Some(place) {
                self.opening = None;
            }
        }
    }

    /// The earliest timer of this slot has gone: looks for the next, in a list short enough.
    #[cold]
    fn find_earliest(&mut self, place: Place) {
        if self.opening == Some(place) {
            return; // due, whatever is in it
        }
        let old = self.earliest[place.upper()];
        let mut earliest = u64::MAX;
        let mut next = self.slab.links.first(place);
        for _ in 0..SEARCH_LIMIT {
            let Some(id) = next else { break };
            earliest = earliest.min(self.slab.node(id).tick);
            if earliest == old {
                return;
            }
            next = self.slab.links.after(place, id);
        }
        if next.is_some() {
            return;
        }
        if place.start(earliest) == place.start(old) {
            self.earliest[place.upper()] = earliest;
        } else {
            // Only rescheduled timers are left, and all belong to later slots. An `earliest` from outside the slot would
            // hide what lies between; to keep the old one would wake somebody for nothing.
            self.deal(place, SEARCH_LIMIT);
        }
    }

    /// Moves the first timers of a slot, so many at most, to where they belong now, and says how many it moved.
    pub(crate) fn deal(&mut self, from: Place, most: usize) -> usize {
        let most = most.min(DEAL);
        let (mut ids, mut ticks) = ([0; DEAL], [0; DEAL]);
        let mut count = 0;
        let mut next = self.slab.links.first(from);
        while let Some(id) = next.filter(|_| count < most) {
            ids[count] = id;
            ticks[count] = self.slab.node(id).tick;
            count += 1;
            next = self.slab.links.after(from, id);
        }
        let earliest = self.earliest_of(from);
        self.slab.links.cut_front(from, next);
        if next.is_none() {
            self.emptied(from);
        }
        for (&id, &tick) in ids[..count].iter().zip(&ticks) {
            let place = Place::of(self.cursor, tick);
            self.slab.node_mut(id).place = place;
            if from.start(tick) == from.start(earliest) {
                self.slab.links.push_back(place, id);
            } else {
                // It was rescheduled out of this slot. In front, because timers that were set for now during an advance
                // must stay last in their list (see `expiry.rs`), and this one may be due in this very advance.
                self.slab.links.push_front(place, id);
            }
            self.occupied(place, tick);
        }
        count
    }
}
