//! The slots' lists: putting a timer where it belongs, taking it out, dealing a slot out to lower
//! levels.
//!
//! What always holds (`tests/invariants.rs` checks it after every step of the model test):
//!
//! - A timer's tick is never before the cursor, and the cursor never after `now`.
//! - A timer is in the slot its tick belongs to, or in one *before* it, when it was rescheduled by
//!   one store (it moves on when its slot is opened).
//! - A slot's `earliest` is a tick of that slot, and no timer in its list is before it. It is the
//!   earliest timer's tick unless that timer was taken out of a list too long to search (see
//!   [`SEARCH_LIMIT`]): then the wheel may wake once too early for this slot, never too late.
//! - While a slot is being dealt out (`opening`), the cursor is inside it, and a new timer for that
//!   slot queues up at its end, behind older ones of the same tick.

use crate::ahead::AHEAD;
use crate::geometry::{Place, TICKS};
use crate::links::Id;
use crate::wheel::Wheel;

/// A slot's earliest timer was taken out: how many of the others are looked at for the next
/// earliest. A list of `n` timers loses its earliest in one of `n` cancellations, so the expected
/// cost is one look, whatever `n`; the limit bounds the worst case. 16 nodes are 16 cache misses at
/// most, about a microsecond.
const SEARCH_LIMIT: usize = 16;

/// How many timers are dealt out at once: for so many, hints lead to the next.
const DEAL: usize = AHEAD;

impl<T> Wheel<T> {
    /// Whether a timer that belongs here must queue up in the slot that is being opened, behind the
    /// older timers of its tick.
    #[inline]
    pub(crate) fn is_inside_opening(&self, place: Place) -> bool {
        place.bits() < self.opening
    }

    /// Puts a timer that belongs inside the slot that is being opened at that slot's end. Two are
    /// dealt out, so that the slot gets empty however many come.
    pub(crate) fn push_opening(&mut self, id: Id) {
        let open = Place::from_bits(self.opening);
        let node = self.slab.node_mut(id);
        let tick = node.tick;
        node.set_place(open);
        self.push_back(open, id, tick);
        self.deal(open, 2);
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

    #[inline(always)]
    pub(crate) fn push_back(&mut self, place: Place, id: Id, tick: u64) {
        if self.slab.links.push_back(place, id) {
            self.occupancy.set(place);
        }
        self.slab.hints.put(place, id);
        match self.earliest.get_mut(place.upper()) {
            // Not before the earliest of its slot, it cannot be the earliest of all.
            Some(earliest) if tick >= *earliest => return,
            Some(earliest) => *earliest = tick,
            None => {}
        }
        if tick < self.quiet_until {
            self.quiet_until = tick;
        }
    }

    #[inline(always)]
    fn note_earliest(&mut self, place: Place, tick: u64) {
        if let Some(earliest) = self.earliest.get_mut(place.upper())
            && tick < *earliest
        {
            *earliest = tick;
        }
    }

    /// A timer was taken out of its list.
    #[inline(always)]
    pub(crate) fn unlinked(&mut self, place: Place, tick: u64, emptied: bool) {
        if emptied {
            self.emptied(place);
        } else if self.earliest.get(place.upper()) == Some(&tick) {
            self.find_earliest(place);
        }
    }

    /// A timer that is due was taken out: it was the earliest of all, and on level 0, or alone in
    /// its slot.
    #[inline(always)]
    pub(crate) fn unlinked_due(&mut self, place: Place, tick: u64, emptied: bool) {
        if emptied {
            self.emptied(place);
        }
        self.cursor = tick;
    }

    #[inline]
    fn emptied(&mut self, place: Place) {
        self.occupancy.clear(place);
        if let Some(earliest) = self.earliest.get_mut(place.upper()) {
            *earliest = u64::MAX;
            if self.opening == place.bits() {
                self.opening = 0;
            }
        }
    }

    /// The earliest timer of this slot has gone: looks for the next, in a list short enough.
    #[cold]
    fn find_earliest(&mut self, place: Place) {
        if self.opening == place.bits() {
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
            // Only rescheduled timers are left, and all belong to later slots. An `earliest` from
            // outside the slot would hide what lies between; to keep the old one would wake
            // somebody for nothing.
            self.deal(place, SEARCH_LIMIT);
        }
    }

    /// Moves the first timers of a slot, so many at most, to where they belong now, and says how
    /// many it moved.
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
        if self.slab.hints.is_crowd() {
            self.slab.read_ahead(&ids[..count]);
        }
        let earliest = self.earliest_of(from);
        self.slab.links.cut_front(from, next);
        if next.is_none() {
            self.emptied(from);
        }
        for (&id, &tick) in ids[..count].iter().zip(&ticks) {
            let place = Place::of(self.cursor, tick);
            self.slab.node_mut(id).set_place(place);
            if from.start(tick) == from.start(earliest) {
                self.push_back(place, id, tick);
            } else {
                // It was rescheduled out of this slot. In front, because timers that were set for
                // now during an advance must stay last in their list (see `expiry.rs`), and this
                // one may be due in this very advance.
                self.slab.links.push_front(place, id);
                self.occupancy.set(place);
                self.note_earliest(place, tick);
            }
        }
        count
    }
}
