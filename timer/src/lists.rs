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

use crate::geometry::Place;
use crate::slab::NIL;
use crate::wheel::Wheel;

/// A slot's earliest timer was taken out: how many of the others are looked at for the next earliest. A list of `n`
/// timers loses its earliest in one of `n` cancellations, so the expected cost is one look, whatever `n`; the limit
/// bounds the worst case. 16 nodes are 16 cache misses at most, about a microsecond.
const SEARCH_LIMIT: usize = 16;

#[derive(Clone, Copy, Debug)]
pub(crate) struct Slot {
    /// No timer in the list fires before this tick. Meaningless while the list is empty.
    pub(crate) earliest: u64,
    pub(crate) head: u32,
    pub(crate) tail: u32,
}

impl Slot {
    pub(crate) const EMPTY: Slot = Slot { earliest: u64::MAX, head: NIL, tail: NIL };
}

impl<T> Wheel<T> {
    /// Puts a node, whose tick is set, at the end of the list it belongs to.
    #[inline]
    pub(crate) fn link(&mut self, index: u32) {
        let place = Place::of(self.cursor, self.slab.node(index).tick);
        match self.opening {
            // Behind the older timers of its tick. Two are dealt out for each that comes, so that the slot gets empty
            // however many come.
            Some(open) if place.level() < open.level() => {
                self.append(index, open);
                self.deal_one();
                self.deal_one();
            }
            _ => self.append(index, place),
        }
    }

    #[inline]
    fn append(&mut self, index: u32, place: Place) {
        let slot = &mut self.slots[place.index()];
        let last = slot.tail;
        let node = self.slab.node_mut(index);
        node.place = place;
        node.prev = last;
        node.next = NIL;
        slot.tail = index;
        if last == NIL {
            slot.head = index;
            slot.earliest = node.tick;
            self.occupancy.set(place);
        } else {
            slot.earliest = slot.earliest.min(node.tick);
            self.slab.node_mut(last).next = index;
        }
    }

    fn prepend(&mut self, index: u32, place: Place) {
        let slot = &mut self.slots[place.index()];
        let first = slot.head;
        let node = self.slab.node_mut(index);
        node.place = place;
        node.prev = NIL;
        node.next = first;
        slot.head = index;
        if first == NIL {
            slot.tail = index;
            slot.earliest = node.tick;
            self.occupancy.set(place);
        } else {
            slot.earliest = slot.earliest.min(node.tick);
            self.slab.node_mut(first).prev = index;
        }
    }

    /// Takes a node out of its list.
    #[inline]
    pub(crate) fn unlink(&mut self, index: u32) {
        let node = self.slab.node(index);
        let (place, tick, prev, next) = (node.place, node.tick, node.prev, node.next);
        let slot = &mut self.slots[place.index()];
        let was_earliest = slot.earliest == tick;
        if prev == NIL {
            slot.head = next;
        }
        if next == NIL {
            slot.tail = prev;
        }
        if slot.head == NIL {
            self.emptied(place);
            return;
        }
        if prev != NIL {
            self.slab.node_mut(prev).next = next;
        }
        if next != NIL {
            self.slab.node_mut(next).prev = prev;
        }
        // On level 0 all timers of a slot have one tick; a slot that is being opened is due whatever is in it.
        if was_earliest && place.level() > 0 && self.opening != Some(place) {
            self.find_earliest(place);
        }
    }

    #[inline]
    fn emptied(&mut self, place: Place) {
        self.occupancy.clear(place);
        if self.opening == Some(place) {
            self.opening = None;
        }
    }

    /// The earliest timer of this slot has gone: looks for the next, in a list short enough.
    fn find_earliest(&mut self, place: Place) {
        let slot = self.slots[place.index()];
        let mut earliest = u64::MAX;
        let mut index = slot.head;
        for _ in 0..SEARCH_LIMIT {
            let node = self.slab.node(index);
            earliest = earliest.min(node.tick);
            index = node.next;
            if earliest == slot.earliest || index == NIL {
                break;
            }
        }
        if earliest == slot.earliest || index != NIL {
            return;
        }
        if place.start(earliest) == place.start(slot.earliest) {
            self.slots[place.index()].earliest = earliest;
        } else {
            // Only rescheduled timers are left, and all belong to later slots. An `earliest` from outside the slot would
            // hide what lies between; to keep the old one would wake somebody for nothing.
            while self.slots[place.index()].head != NIL {
                self.deal_from(place);
            }
        }
    }

    /// Deals out the first timer of the slot that is being opened.
    #[inline]
    pub(crate) fn deal_one(&mut self) {
        if let Some(open) = self.opening {
            self.deal_from(open);
        }
    }

    /// Moves the first timer of a list to where it belongs now.
    #[inline]
    fn deal_from(&mut self, from: Place) {
        let slot = &mut self.slots[from.index()];
        let index = slot.head;
        let node = self.slab.node(index);
        let (next, tick) = (node.next, node.tick);
        let late = from.start(tick) != from.start(slot.earliest);
        slot.head = next;
        if next == NIL {
            slot.tail = NIL;
            self.emptied(from);
        } else {
            self.slab.node_mut(next).prev = NIL;
        }
        let to = Place::of(self.cursor, tick);
        if late {
            // It was rescheduled out of this slot. In front, because timers that were set for now during an advance
            // must stay last in their list (see `expiry.rs`), and this one may be due in this very advance.
            self.prepend(index, to);
        } else {
            self.append(index, to);
        }
    }
}
