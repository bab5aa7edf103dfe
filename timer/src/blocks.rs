//! What the lists are made of: blocks of twelve timers' indices, a cache line each.
//!
//! Why not pointers from timer to timer? To walk such a list is to wait for memory once for each timer, because the
//! address of the next one is in the last; to take one out is to write to both its neighbours. A block names twelve timers
//! at once, so that they can be fetched together (`lookahead.rs`), and to take one out is to blank its entry.
//!
//! The price: an entry is used once. Blocks that have become sparse are merged with their neighbours (`lists.rs`), so that
//! the number of blocks is bounded by the number of timers, whatever the order in which timers go.

use alloc::vec::Vec;

use crate::geometry::Place;
use crate::slab::{LIMIT, NIL};

pub(crate) const ENTRIES: usize = 12;
/// After each so many timers that went, a block is looked at.
pub(crate) const MARK: u8 = 3;

/// Where in the lists a timer is: which block, which entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Location(pub(crate) u32);

const ENTRY_BITS: u32 = ENTRIES.next_power_of_two().trailing_zeros();

impl Location {
    /// Nowhere; it has no room.
    pub(crate) const NONE: Location = Location(u32::MAX);

    #[inline]
    pub(crate) fn new(block: u32, entry: usize) -> Location {
        Location(block << ENTRY_BITS | entry as u32)
    }

    #[inline]
    pub(crate) fn block(self) -> u32 {
        self.0 >> ENTRY_BITS
    }

    /// [`ENTRIES`] or more: none of the block's.
    #[inline]
    pub(crate) fn entry(self) -> usize {
        self.0 as usize & ((1 << ENTRY_BITS) - 1)
    }
}

/// How far a block has come in being walked.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Warmth {
    Cold,
    /// Its timers have been fetched from memory.
    Fetched,
    /// It is the first of its list, and what comes after it has been fetched, too.
    Current,
}

#[derive(Clone, Copy, Debug)]
#[repr(align(64))]
pub(crate) struct Block {
    /// From `first` on, [`NIL`] has not been used yet, or has gone.
    entries: [u32; ENTRIES],
    /// The next block of the list, or of the free ones; [`NIL`] if it is the last.
    pub(crate) next: u32,
    pub(crate) prev: u32,
    /// The list that the block is in; `None` if it is free.
    pub(crate) place: Option<Place>,
    /// All entries before this one have gone, or were never used.
    pub(crate) first: u8,
    /// How many entries were used and have gone, or will not be used.
    pub(crate) gone: u8,
    pub(crate) warmth: Warmth,
}

impl Block {
    /// Whether the last timer that went left 9, 6, 3 or none: then somebody looks whether it can be merged.
    #[inline]
    pub(crate) fn is_at_mark(&self) -> bool {
        self.gone.is_multiple_of(MARK)
    }

    /// Whether the timers of both fit into one, if all entries of both have been used.
    pub(crate) fn fit_together(&self, other: &Block) -> bool {
        usize::from(self.gone) + usize::from(other.gone) >= ENTRIES
    }

    /// Takes in the timers of the block after it, which [fit](Block::fit_together). Its own stay where they are as far as they
    /// can.
    pub(crate) fn merge_back(&mut self, back: &Block) {
        let (mut merged, mut start) = ([NIL; ENTRIES], ENTRIES);
        for (_, index) in back.timers().rev() {
            start -= 1;
            merged[start] = index;
        }
        for (entry, index) in self.timers().rev() {
            start = entry.min(start - 1);
            merged[start] = index;
        }
        self.merge(merged, back);
    }

    /// [`merge_back`](Block::merge_back) with the block before it.
    pub(crate) fn merge_front(&mut self, front: &Block) {
        let (mut merged, mut end) = ([NIL; ENTRIES], 0);
        for (_, index) in front.timers() {
            merged[end] = index;
            end += 1;
        }
        for (entry, index) in self.timers() {
            let entry = entry.max(end);
            merged[entry] = index;
            end = entry + 1;
        }
        self.merge(merged, front);
    }

    fn merge(&mut self, merged: [u32; ENTRIES], other: &Block) {
        self.entries = merged;
        self.first = 0;
        self.gone = self.gone + other.gone - ENTRIES as u8;
        self.warmth = self.warmth.min(other.warmth);
    }

    /// The timers with their entries.
    fn timers(&self) -> impl DoubleEndedIterator<Item = (usize, u32)> {
        let first = usize::from(self.first);
        let entries = self.entries.iter().copied().enumerate().skip(first);
        entries.filter(|&(_, index)| index != NIL)
    }

    #[inline]
    pub(crate) fn is_used_up(&self) -> bool {
        usize::from(self.gone) == ENTRIES
    }

    /// In front; `None` if the block has no room there.
    pub(crate) fn push_front(&mut self, index: u32) -> Option<usize> {
        self.first = self.first.checked_sub(1)?;
        self.gone -= 1;
        let entry = usize::from(self.first);
        self.entries[entry] = index;
        Some(entry)
    }

    /// The first timer; there must be one.
    #[inline]
    pub(crate) fn front(&mut self) -> u32 {
        loop {
            let index = self.entries[usize::from(self.first)];
            if index != NIL {
                return index;
            }
            self.first += 1;
        }
    }

    #[inline]
    pub(crate) fn set(&mut self, entry: usize, index: u32) {
        self.entries[entry] = index;
    }

    #[inline]
    pub(crate) fn entries(&self) -> &[u32; ENTRIES] {
        &self.entries
    }

    /// The entries that count, [`NIL`] ones among them.
    pub(crate) fn left(&self) -> &[u32] {
        &self.entries[usize::from(self.first)..]
    }
}

/// All blocks of all lists, and free ones.
#[derive(Debug)]
pub(crate) struct Blocks {
    all: Vec<Block>,
    first_free: u32,
}

impl Blocks {
    pub(crate) fn new() -> Blocks {
        Blocks { all: Vec::new(), first_free: NIL }
    }

    /// Makes sure that so many can be in use without an allocation.
    pub(crate) fn reserve(&mut self, count: usize) {
        self.all.reserve_exact(count.saturating_sub(self.all.len()));
    }

    #[inline]
    pub(crate) fn get(&self, at: u32) -> Option<&Block> {
        self.all.get(at as usize)
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, at: u32) -> Option<&mut Block> {
        self.all.get_mut(at as usize)
    }

    #[inline]
    pub(crate) fn block(&self, at: u32) -> &Block {
        &self.all[at as usize]
    }

    #[inline]
    pub(crate) fn block_mut(&mut self, at: u32) -> &mut Block {
        &mut self.all[at as usize]
    }

    /// A block with nothing in it, for the list `place`, with its room at the end, or in front.
    pub(crate) fn add(&mut self, place: Place, room_in_front: bool) -> u32 {
        let first = if room_in_front { ENTRIES as u8 } else { 0 };
        let (next, prev, place, warmth) = (NIL, NIL, Some(place), Warmth::Cold);
        let block = Block { entries: [NIL; ENTRIES], next, prev, place, first, gone: first, warmth };
        let at = self.first_free;
        if let Some(free) = self.get_mut(at) {
            let next = free.next;
            *free = block;
            self.first_free = next;
            return at;
        }
        let at = self.all.len() as u32;
        assert!(at < LIMIT, "a timer wheel has at most {LIMIT} blocks of timers");
        self.all.push(block);
        at
    }

    /// Of a block that is in no list any more.
    pub(crate) fn free(&mut self, at: u32) {
        let next = self.first_free;
        let block = self.block_mut(at);
        block.place = None;
        block.next = next;
        self.first_free = at;
    }

    #[cfg(test)]
    pub(crate) fn free_len(&self) -> usize {
        core::iter::successors(self.get(self.first_free), |block| self.get(block.next)).count()
    }

    #[cfg(test)]
    pub(crate) fn all(&self) -> &[Block] {
        &self.all
    }
}
