//! The slots' lists: first in, first out, and anything may leave from the middle. They know timers by their indices only.
//!
//! To cancel is to blank an entry: one store, for which nobody waits. That the block has an entry less is only noted; every so
//! often what was noted is counted, all at once, so that the processor fetches those blocks from memory together; and blocks
//! that are used up are used again. Whether a *slot* is empty is known at once.
//!
//! How many blocks there can be, whatever the order in which timers go: two neighbours whose timers fit into one block are
//! merged, as leaves of a B-tree are. To look at a block's neighbours each time it loses a timer would cost two more misses.
//! So that is done when 9, 6, 3 or no timers are left in it, and when it gets new neighbours. Two neighbours that were not
//! merged then had more than 12 timers; until the next look they may lose two each, but not fall to the next of the
//! marks. So, rounded up to 12, 9, 6 or 3 each, they have 15 together at least, which are 10 and 1, or 7 and 4: **11 timers at
//! least for any two neighbours**. The first block of a list, which is being emptied, and the last, which is being filled,
//! are left alone. This makes at most `2 n / 11 + 3` blocks for a list of `n` timers, and at most `n + 1`, because none
//! but the last is empty. What was noted and not yet counted adds its number ([`bound`]).
//!
//! A merge moves no more than 12 timers and gives back a block, which took 12 insertions to fill: one move a timer at most on
//! average.

use alloc::boxed::Box;
use alloc::vec;

use crate::blocks::{Block, Blocks, ENTRIES, Location, Warmth};
use crate::geometry::{LEVELS, Occupancy, PLACES, Place, SLOTS};
use crate::slab::{NIL, Slab};

/// After so many notes the blocks' entries are counted.
const NOTED: usize = 32;
/// Room for those that come until somebody asks: for each timer of a block that is dealt out, one.
const NOTES: usize = 2 * NOTED;
/// In a note: the block has lost no entry, but has new neighbours.
const NEIGHBOURS: u32 = 1 << 31;

/// How many blocks so many timers can need.
fn bound(timers: usize) -> usize {
    const LISTS: usize = LEVELS * SLOTS;
    // Those that have gone and are not counted yet, or are being dealt out and are in two lists.
    let counted = timers + NOTES;
    counted.min(2 * counted / 11 + 2 * LISTS) + LISTS + NOTES
}

#[derive(Clone, Copy, Debug)]
struct Slot {
    /// No timer in the list fires before this tick; `u64::MAX` if there is none.
    earliest: u64,
    /// How many timers.
    len: u32,
    /// The first block; [`NIL`] if there is none.
    head: u32,
    /// Where the next timer goes if there is room: behind the last one of the last block.
    end: Location,
}

impl Slot {
    const EMPTY: Slot = Slot { earliest: u64::MAX, len: 0, head: NIL, end: Location::NONE };

    fn last_block(&self) -> u32 {
        if self.head == NIL { NIL } else { self.end.block() }
    }
}

#[derive(Debug)]
pub(crate) struct Lists {
    slots: Box<[Slot; PLACES]>,
    pub(crate) occupancy: Occupancy,
    blocks: Blocks,
    /// The blocks that have an entry less than they know, or [`NEIGHBOURS`].
    noted: [u32; NOTES],
    noted_len: usize,
}

impl Lists {
    pub(crate) fn new() -> Lists {
        let Ok(slots) = vec![Slot::EMPTY; PLACES].into_boxed_slice().try_into() else {
            unreachable!("it has that length")
        };
        Lists { slots, occupancy: Occupancy::EMPTY, blocks: Blocks::new(), noted: [NIL; NOTES], noted_len: 0 }
    }

    /// Memory for so many timers, however they are spread and in whatever order they come and go.
    pub(crate) fn reserve(&mut self, timers: usize) {
        self.blocks.reserve(bound(timers));
    }

    #[inline]
    pub(crate) fn len(&self, place: Place) -> u32 {
        self.slots[place.index()].len
    }

    #[inline]
    pub(crate) fn earliest(&self, place: Place) -> u64 {
        self.slots[place.index()].earliest
    }

    pub(crate) fn set_earliest(&mut self, place: Place, tick: u64) {
        self.slots[place.index()].earliest = tick;
    }

    /// One more timer in the list.
    #[inline]
    fn count(&mut self, place: Place, tick: u64) -> &mut Slot {
        let slot = &mut self.slots[place.index()];
        if slot.len == 0 {
            self.occupancy.set(place);
        }
        slot.earliest = slot.earliest.min(tick);
        slot.len += 1;
        slot
    }

    /// Puts a timer at the end of a list.
    #[inline]
    pub(crate) fn append(&mut self, place: Place, tick: u64, index: u32) -> Location {
        match self.append_to_block(place, tick, index) {
            Some(location) => location,
            None => self.append_block(place, tick, index),
        }
    }

    /// Puts a timer at the end of a list, if there is room in its last block.
    #[inline]
    pub(crate) fn append_to_block(&mut self, place: Place, tick: u64, index: u32) -> Option<Location> {
        let end = &mut self.slots[place.index()].end;
        let location = *end;
        if location.entry() >= ENTRIES {
            return None;
        }
        *end = Location(location.0 + 1);
        self.blocks.block_mut(location.block()).set(location.entry(), index);
        self.count(place, tick);
        Some(location)
    }

    #[cold]
    #[inline(never)]
    fn append_block(&mut self, place: Place, tick: u64, index: u32) -> Location {
        self.count(place, tick);
        let at = self.blocks.add(place, false);
        let slot = &mut self.slots[place.index()];
        let last = slot.last_block();
        slot.end = Location::new(at, 1);
        match self.blocks.get_mut(last) {
            Some(block) => block.next = at,
            None => slot.head = at,
        }
        let block = self.blocks.block_mut(at);
        block.prev = last;
        block.set(0, index);
        self.note_neighbours(last);
        Location::new(at, 0)
    }

    /// The block was the first or the last of its list, or both, and is no more.
    fn note_neighbours(&mut self, at: u32) {
        if self.blocks.get(at).is_some_and(|block| block.gone > 0 && block.prev != NIL && block.next != NIL) {
            self.note(at | NEIGHBOURS);
        }
    }

    #[inline]
    fn note(&mut self, note: u32) {
        self.noted[self.noted_len % NOTES] = note;
        self.noted_len += 1;
    }

    /// Puts a timer in front of a list.
    pub(crate) fn prepend(&mut self, place: Place, tick: u64, index: u32) -> Location {
        let head = self.count(place, tick).head;
        if let Some(entry) = self.blocks.get_mut(head).and_then(|block| block.push_front(index)) {
            return Location::new(head, entry);
        }
        let at = self.blocks.add(place, true);
        let slot = &mut self.slots[place.index()];
        slot.head = at;
        match self.blocks.get_mut(head) {
            Some(block) => block.prev = at,
            None => slot.end = Location::new(at, ENTRIES),
        }
        let block = self.blocks.block_mut(at);
        block.next = head;
        let entry = block.push_front(index).expect("a new block has room");
        self.note_neighbours(head);
        Location::new(at, entry)
    }

    /// Takes a timer out, wherever it is. Says how many are left in its list.
    #[inline]
    pub(crate) fn remove(&mut self, place: Place, location: Location) -> u32 {
        self.blocks.block_mut(location.block()).set(location.entry(), NIL);
        self.note(location.block());
        self.uncount(place, 1)
    }

    /// Whether [`settle`](Lists::settle) is due: before another timer is put in or taken out.
    #[inline]
    pub(crate) fn is_to_settle(&self) -> bool {
        self.noted_len >= NOTED
    }

    #[inline]
    pub(crate) fn is_settled(&self) -> bool {
        self.noted_len == 0
    }

    /// So many timers less in the list.
    #[inline]
    fn uncount(&mut self, place: Place, timers: u32) -> u32 {
        let slot = &mut self.slots[place.index()];
        slot.len -= timers;
        let left = slot.len;
        if left == 0 {
            slot.earliest = u64::MAX;
            self.occupancy.clear(place);
        }
        left
    }

    /// Counts what was noted, and merges. After that every block of a list has timers, but perhaps the last.
    #[inline(never)]
    pub(crate) fn settle<T>(&mut self, slab: &mut Slab<T>) {
        assert!(self.noted_len <= NOTES, "more was noted than there is room for");
        let mut marked = [NIL; NOTES];
        let mut count = 0;
        // Without a branch that depends on what is read, so that all are read at once.
        for &note in self.noted.iter().take(self.noted_len) {
            let at = note & !NEIGHBOURS;
            let block = self.blocks.block_mut(at);
            block.gone += u8::from(note == at);
            marked[count % NOTES] = at;
            count += usize::from(note != at || block.is_at_mark());
        }
        self.noted_len = 0;
        for &at in &marked[..count] {
            self.mend(at, slab);
        }
    }

    /// Frees a block that is used up, and merges as long as neighbours fit into one. A neighbour may be marked, too, and be
    /// merged before its turn comes: hence its neighbours are looked at now.
    fn mend<T>(&mut self, mut at: u32, slab: &mut Slab<T>) {
        let &Block { prev, place, .. } = self.blocks.block(at);
        if place.is_none() {
            return; // it was merged into another, or has gone
        }
        if self.blocks.block(at).is_used_up() {
            self.free_block(at);
            if prev == NIL {
                return;
            }
            at = prev;
        }
        while let Some(merged) = self.merge(self.blocks.block(at).prev, at, slab) {
            at = merged;
        }
        while let Some(merged) = self.merge(at, self.blocks.block(at).next, slab) {
            at = merged;
        }
    }

    /// Merges two neighbours if they fit into one. Says which is left.
    fn merge<T>(&mut self, front: u32, back: u32, slab: &mut Slab<T>) -> Option<u32> {
        let (&first, &second) = (self.blocks.get(front)?, self.blocks.get(back)?);
        // The first and the last block of a list are left alone: some of their entries are not used yet, or are in hand.
        if first.prev == NIL || second.next == NIL || !first.fit_together(&second) {
            return None;
        }
        let before = if first.gone <= second.gone { first } else { second };
        let (into, from) = if first.gone <= second.gone { (front, back) } else { (back, front) };
        let block = self.blocks.block_mut(into);
        if into == front {
            block.merge_back(&second)
        } else {
            block.merge_front(&first)
        }
        for (entry, (&index, &old)) in block.entries().iter().zip(before.entries()).enumerate() {
            if index != NIL && index != old {
                slab.node_mut(index).relocated(Location::new(into, entry));
            }
        }
        self.free_block(from);
        Some(into)
    }

    /// Takes a block out of its list.
    fn free_block(&mut self, at: u32) {
        let &Block { prev, next, place, .. } = self.blocks.block(at);
        let slot = &mut self.slots[place.expect("a block in a list knows its list").index()];
        match self.blocks.get_mut(prev) {
            Some(block) => block.next = next,
            None => slot.head = next,
        }
        match self.blocks.get_mut(next) {
            Some(block) => block.prev = prev,
            None if prev == NIL => slot.end = Location::NONE,
            None => slot.end = Location::new(prev, ENTRIES),
        }
        self.blocks.free(at);
    }

    /// The first timer of a list that has one, and its block.
    #[inline]
    pub(crate) fn front(&mut self, place: Place) -> (u32, u32) {
        assert!(self.is_settled(), "the first block may be used up");
        let at = self.slots[place.index()].head;
        (self.blocks.block_mut(at).front(), at)
    }

    /// Takes the [`front`](Lists::front) out. Says how many are left in the list.
    #[inline]
    pub(crate) fn pop_front(&mut self, place: Place) -> u32 {
        let at = self.slots[place.index()].head;
        let entry = usize::from(self.blocks.block(at).first) + 1;
        self.pop_to(place, entry, 1)
    }

    /// Takes what is before this entry of the first block out: so many timers. Says how many are left in the list.
    #[inline]
    pub(crate) fn pop_to(&mut self, place: Place, entry: usize, timers: usize) -> u32 {
        let at = self.slots[place.index()].head;
        let block = self.blocks.block_mut(at);
        block.first = entry as u8;
        block.gone += timers as u8;
        if block.is_used_up() {
            self.free_block(at);
        }
        self.uncount(place, timers as u32)
    }

    /// The entries of a block, and the first that counts.
    #[inline]
    pub(crate) fn left_in(&self, at: u32) -> ([u32; ENTRIES], usize) {
        let block = self.blocks.block(at);
        (*block.entries(), usize::from(block.first))
    }

    #[inline]
    pub(crate) fn warmth(&self, at: u32) -> Warmth {
        self.blocks.block(at).warmth
    }

    /// Says that the block is at least so warm.
    pub(crate) fn warm(&mut self, at: u32, warmth: Warmth) {
        let block = self.blocks.block_mut(at);
        block.warmth = block.warmth.max(warmth);
    }

    /// The timers of a block; [`NIL`] where there is none.
    #[inline]
    pub(crate) fn entries(&self, at: u32) -> &[u32; ENTRIES] {
        self.blocks.block(at).entries()
    }

    /// The block after this one in its list, if there is one.
    #[inline]
    pub(crate) fn following(&self, at: u32) -> Option<u32> {
        let next = self.blocks.block(at).next;
        (next != NIL).then_some(next)
    }

    #[inline]
    pub(crate) fn head(&self, place: Place) -> Option<u32> {
        let head = self.slots[place.index()].head;
        (head != NIL).then_some(head)
    }

    /// The blocks of a list.
    fn blocks_of(&self, place: Place) -> impl Iterator<Item = &Block> {
        let mut next = self.slots[place.index()].head;
        core::iter::from_fn(move || {
            let block = self.blocks.get(next)?;
            next = block.next;
            Some(block)
        })
    }

    /// The timers of a list, in their order.
    pub(crate) fn timers(&self, place: Place) -> impl Iterator<Item = u32> {
        self.blocks_of(place).flat_map(Block::left).copied().filter(|&index| index != NIL)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    #[test]
    fn a_block_is_a_cache_line() {
        assert_eq!(size_of::<Block>(), 64);
    }

    impl Lists {
        /// The timers of a list and where they are. Panics if its blocks are not linked as they should be.
        pub(crate) fn check_list(&self, place: Place) -> Vec<(u32, Location)> {
            let slot = &self.slots[place.index()];
            let (mut timers, mut previous, mut at) = (Vec::new(), NIL, slot.head);
            while at != NIL {
                let block = self.blocks.block(at);
                assert_eq!((block.place, block.prev), (Some(place), previous), "block {at} disagrees with its list");
                assert!(!block.is_used_up(), "block {at} is used up and still in its list");
                let entries = block.entries().iter().enumerate().skip(block.first.into());
                let live: Vec<_> = entries.filter(|(_, index)| **index != NIL).map(|(e, &i)| (e, i)).collect();
                let noted = self.noted[..self.noted_len].iter().filter(|&&noted| noted == at).count();
                let end = if block.next == NIL { slot.end.entry() } else { ENTRIES };
                assert_eq!(live.len() + usize::from(block.gone) + noted, end, "block {at} has miscounted");
                assert!(live.last().is_none_or(|&(entry, _)| entry < end), "block {at} is used beyond its end");
                timers.extend(live.iter().map(|&(entry, index)| (index, Location::new(at, entry))));
                (previous, at) = (at, block.next);
            }
            assert_eq!(slot.last_block(), previous, "a list's end is not in its last block");
            assert!(slot.head != NIL || slot.end == Location::NONE, "a list without blocks has an end");
            self.check_density(slot.head);
            timers
        }

        /// Two neighbours have 11 timers at least, but for the first and the last block.
        fn check_density(&self, head: u32) {
            let is_noted = |at| self.noted[..self.noted_len].contains(&(at | NEIGHBOURS));
            let inner = |at| self.blocks.get(at).filter(|block| block.prev != NIL && block.next != NIL);
            let mut at = head;
            while let Some(block) = self.blocks.get(at) {
                if let (Some(one), Some(other)) = (inner(at), inner(block.next)) {
                    let both = 2 * ENTRIES - usize::from(one.gone) - usize::from(other.gone);
                    let excused = is_noted(at) || is_noted(block.next);
                    assert!(both >= 11 || excused, "blocks {at} and {} have {both} timers together", block.next);
                }
                at = block.next;
            }
        }

        /// No block is lost, and there are no more than the documentation says.
        pub(crate) fn check_blocks(&self, timers: usize) {
            let used = self.blocks.all().iter().filter(|block| block.place.is_some()).count();
            let slots = self.slots.iter().filter(|slot| slot.head != NIL).count();
            let counted = timers + self.noted_len;
            let most = counted.min(2 * counted / 11 + 2 * slots) + slots + self.noted_len;
            assert!(used <= most, "{used} blocks for {timers} timers in {slots} slots");
            let listed: usize = self.slots.iter().map(|slot| self.list_blocks(slot)).sum();
            assert_eq!(used, listed, "blocks are in no list");
            assert_eq!(self.blocks.free_len() + used, self.blocks.all().len(), "blocks were lost");
        }

        fn list_blocks(&self, slot: &Slot) -> usize {
            core::iter::successors(self.blocks.get(slot.head), |block| self.blocks.get(block.next)).count()
        }
    }
}
