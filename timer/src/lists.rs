//! The slots' lists: linking a timer, unlinking it, cascading a slot to lower levels.
//!
//! What always holds (`tests/invariants.rs` checks it after every step of the model test):
//!
//! - A timer's tick is never before the cursor, and the cursor never after `now`.
//! - A timer is in the slot its tick belongs to, or in one *before* it, when it was rescheduled by
//!   one store (it moves on when its slot is cascaded).
//! - A slot's `earliest` is a tick of that slot, and no timer in its list is before it. It is the
//!   earliest timer's tick unless that timer was taken out of a list too long to search (see
//!   [`SEARCH_LIMIT`]): then the wheel may wake once too early for this slot, never too late.
//! - While a slot is being cascaded (`cascading`), the cursor is inside it, and a new timer for
//!   that slot goes to its end, behind older timers of the same tick.

use crate::geometry::{LEVEL_0_SLOTS, Slot};
use crate::links::Id;
use crate::prefetch::PREFETCH_DISTANCE;
use crate::wheel::Wheel;

/// How many timers are searched for the next earliest when a slot loses its earliest. A list of `n`
/// timers loses its earliest in one of `n` cancellations, so the expected cost is one look,
/// whatever `n`; the limit bounds the worst case. 16 nodes are 16 cache misses at most, about a
/// microsecond.
const SEARCH_LIMIT: usize = 16;

/// How many timers are cascaded at once: as many as one prefetch loads.
const CASCADE_BATCH: usize = PREFETCH_DISTANCE;

impl<T> Wheel<T> {
    /// Whether a timer of this slot must go through the slot that is being cascaded, behind the
    /// older timers of its tick.
    #[inline]
    pub(crate) fn is_in_cascading(&self, slot: Slot) -> bool {
        slot.bits() < self.cascading
    }

    /// Puts a timer at the end of the slot that is being cascaded. Moves two timers on, so that the
    /// slot becomes empty however many timers are added.
    pub(crate) fn push_cascading(&mut self, id: Id) {
        let open = Slot::from_bits(self.cascading);
        let node = self.slab.node_mut(id);
        let tick = node.tick;
        node.set_slot(open);
        self.push_back(open, id, tick);
        self.cascade(open, 2);
    }

    /// No timer of this slot, which has some, fires before this tick.
    #[inline]
    pub(crate) fn earliest_of(&self, slot: Slot) -> u64 {
        match self.earliest.get(slot.upper()) {
            Some(&earliest) => earliest,
            // On level 0 a slot has one tick, which shares all higher digits with the cursor.
            None => self.cursor & !(LEVEL_0_SLOTS as u64 - 1) | slot.index() as u64,
        }
    }

    #[inline(always)]
    pub(crate) fn push_back(&mut self, slot: Slot, id: Id, tick: u64) {
        if self.slab.links.push_back(slot, id) {
            self.occupancy.set(slot);
        }
        self.slab.hints.record_insert(slot, id);
        match self.earliest.get_mut(slot.upper()) {
            // Not before the earliest of its slot, it cannot be the earliest of all.
            Some(earliest) if tick >= *earliest => return,
            Some(earliest) => *earliest = tick,
            None => {}
        }
        if tick < self.idle_until {
            self.idle_until = tick;
        }
    }

    #[inline(always)]
    fn lower_earliest(&mut self, slot: Slot, tick: u64) {
        if let Some(earliest) = self.earliest.get_mut(slot.upper())
            && tick < *earliest
        {
            *earliest = tick;
        }
    }

    /// Updates the slot of a timer that was taken out of its list.
    #[inline(always)]
    pub(crate) fn after_unlink(&mut self, slot: Slot, tick: u64, is_empty_now: bool) {
        if is_empty_now {
            self.mark_empty(slot);
        } else if self.earliest.get(slot.upper()) == Some(&tick) {
            self.find_earliest(slot);
        }
    }

    /// The same for a due timer: it was the earliest of all, and on level 0, or alone in its slot.
    #[inline(always)]
    pub(crate) fn after_unlink_due(&mut self, slot: Slot, tick: u64, is_empty_now: bool) {
        if is_empty_now {
            self.mark_empty(slot);
        }
        self.cursor = tick;
    }

    #[inline]
    fn mark_empty(&mut self, slot: Slot) {
        self.occupancy.clear(slot);
        if let Some(earliest) = self.earliest.get_mut(slot.upper()) {
            *earliest = u64::MAX;
            if self.cascading == slot.bits() {
                self.cascading = 0;
            }
        }
    }

    /// Finds the earliest timer of this slot after the old one went, if the list is short enough.
    #[cold]
    fn find_earliest(&mut self, slot: Slot) {
        if self.cascading == slot.bits() {
            return; // due, whatever is in it
        }
        let old = self.earliest[slot.upper()];
        let mut earliest = u64::MAX;
        let mut next = self.slab.links.first(slot);
        for _ in 0..SEARCH_LIMIT {
            let Some(id) = next else { break };
            earliest = earliest.min(self.slab.node(id).tick);
            if earliest == old {
                return;
            }
            next = self.slab.links.after(slot, id);
        }
        if next.is_some() {
            return;
        }
        if slot.start(earliest) == slot.start(old) {
            self.earliest[slot.upper()] = earliest;
        } else {
            // Only rescheduled timers are left, and all belong to later slots. An `earliest` from
            // outside the slot would hide what lies between; to keep the old one would wake the
            // caller for nothing.
            self.cascade(slot, SEARCH_LIMIT);
        }
    }

    /// Moves the first timers of a slot to where they belong now, at most `most` of them. Returns
    /// how many it moved.
    pub(crate) fn cascade(&mut self, from: Slot, most: usize) -> usize {
        let most = most.min(CASCADE_BATCH);
        let (mut ids, mut ticks) = ([0; CASCADE_BATCH], [0; CASCADE_BATCH]);
        let mut count = 0;
        let mut next = self.slab.links.first(from);
        while let Some(id) = next.filter(|_| count < most) {
            ids[count] = id;
            ticks[count] = self.slab.node(id).tick;
            count += 1;
            next = self.slab.links.after(from, id);
        }
        if self.slab.hints.is_active() {
            self.slab.prefetch(&ids[..count]);
        }
        let earliest = self.earliest_of(from);
        self.slab.links.cut_front(from, next);
        if next.is_none() {
            self.mark_empty(from);
        }
        for (&id, &tick) in ids[..count].iter().zip(&ticks) {
            let slot = Slot::of(self.cursor, tick);
            self.slab.node_mut(id).set_slot(slot);
            if from.start(tick) == from.start(earliest) {
                self.push_back(slot, id, tick);
            } else {
                // It was rescheduled out of this slot. In front, because timers that were set for
                // now during an advance must stay last in their list (see `expiry.rs`), and this
                // one may be due in this very advance.
                self.slab.links.push_front(slot, id);
                self.occupancy.set(slot);
                self.lower_earliest(slot, tick);
            }
        }
        count
    }
}
