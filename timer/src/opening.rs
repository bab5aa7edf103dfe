//! Opening a slot: dealing its timers out to lower levels; and what a slot's earliest timer leaves behind when it goes.
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

use crate::geometry::Place;
use crate::slab::NIL;
use crate::wheel::Wheel;

/// A slot's earliest timer was taken out: up to how many others are looked at for the next earliest. A list of `n`
/// timers loses its earliest in one of `n` cancellations, so the expected cost is one look, whatever `n`; the limit
/// bounds the worst case. 16 nodes are 16 cache misses at most, which the processor overlaps.
const SEARCH_LIMIT: u32 = 16;

impl<T> Wheel<T> {
    /// A timer was added to this place. For each that comes to the slot that is being opened two are dealt out, so that it
    /// gets empty however many come.
    #[inline]
    pub(crate) fn deal_in_turn(&mut self, place: Place) {
        if self.opening == Some(place) {
            self.deal(place, 2);
        }
    }

    /// Moves the first timers of a list that has any to where they belong now: at most `limit`, and at most a block of them.
    /// Says how many.
    #[inline(never)]
    pub(crate) fn deal(&mut self, from: Place, limit: usize) -> usize {
        let (_, block) = self.front(from);
        let start = from.start(self.lists.earliest(from));
        let (entries, first) = self.lists.left_in(block);
        // Not beyond the last timer: the next one that comes takes the entry after it.
        let limit = limit.min(self.lists.len(from) as usize);
        let (mut moved, mut entry) = (0, first);
        while entry < entries.len() && moved < limit {
            let index = entries[entry];
            entry += 1;
            if index == NIL {
                continue;
            }
            moved += 1;
            let node = self.slab.node_mut(index);
            let (tick, to) = (node.tick, Place::of(self.cursor, node.tick));
            let location = if from.start(tick) == start {
                self.lists.append(to, tick, index)
            } else {
                // It was rescheduled out of this slot. In front, because timers that were set for now during an advance
                // must stay last in their list (see `expiry.rs`), and this one may be due in this very advance.
                self.lists.prepend(to, tick, index)
            };
            node.moved(to, location);
        }
        if self.lists.pop_to(from, entry, moved) == 0 {
            self.emptied(from);
        }
        moved
    }

    /// The earliest timer of this slot, for tick `before`, has gone, and so many are left: looks for the next, in a list short
    /// enough.
    pub(crate) fn earliest_has_gone(&mut self, place: Place, before: u64, left: u32) {
        // On level 0 all timers of a slot have one tick; a slot that is being opened is due whatever is in it.
        if place.level() == 0 || self.opening == Some(place) || left > SEARCH_LIMIT {
            return;
        }
        let ticks = self.lists.timers(place).map(|index| self.slab.node(index).tick);
        let earliest = ticks.min().expect("timers are left");
        if place.start(earliest) == place.start(before) {
            self.lists.set_earliest(place, earliest);
            return;
        }
        // Only rescheduled timers are left, and all belong to later slots. An `earliest` from outside the slot would
        // hide what lies between; to keep the old one would wake somebody for nothing.
        while self.lists.len(place) > 0 {
            self.deal(place, usize::MAX);
        }
    }
}
