//! Fetching timers from memory before they are needed.
//!
//! A million timers do not fit into a processor's cache, and time does not pass in the order in which they lie in memory:
//! each timer that fires or moves is a miss, 100 ns and more. The processor can wait for a dozen at once, but only if it
//! is told their addresses, and it cannot guess which timer comes next. The list knows: when the walk comes to a
//! block, the twelve timers of the block after it are read, all at once; by the time their turn comes they are there.
//!
//! Rust has no prefetch instruction outside `unsafe`. So this is a plain read of one word of each, whose sum goes to
//! [`black_box`]. What that costs: a read must complete before what comes after it in the program can retire, so the
//! processor runs ahead as far as its reorder buffer reaches (some 500 instructions: half a block's worth of
//! timers) and then waits for the rest; a prefetch would never wait.

use core::hint::black_box;

use crate::blocks::Warmth;
use crate::geometry::Place;
use crate::wheel::Wheel;

/// So few timers are in the cache anyway. (In tests fewer, so that they come here.)
const CACHED: usize = if cfg!(test) { 4 } else { 16_384 };

impl<T> Wheel<T> {
    /// The first timer of a list that has one, and its block.
    #[inline]
    pub(crate) fn front(&mut self, place: Place) -> (u32, u32) {
        if !self.lists.is_settled() {
            self.lists.settle(&mut self.slab);
        }
        let (index, block) = self.lists.front(place);
        if self.slab.len() > CACHED && self.lists.warmth(block) != Warmth::Current {
            self.look_ahead(place, block);
        }
        (index, block)
    }

    /// The walk has come to this block.
    #[inline(never)]
    fn look_ahead(&mut self, place: Place, block: u32) {
        if self.lists.warmth(block) == Warmth::Cold {
            self.fetch(block);
        }
        self.lists.warm(block, Warmth::Current);
        let following = self.lists.following(block).or_else(|| {
            // The tick after this one. (What comes after a slot of a higher level is first dealt out itself.)
            let next = if place.level() == 0 { self.lists.occupancy.after(place) } else { None };
            self.lists.head(next?)
        });
        if let Some(following) = following
            && self.lists.warmth(following) == Warmth::Cold
        {
            self.fetch(following);
            self.lists.warm(following, Warmth::Fetched);
        }
    }

    /// Reads something of each timer of a block, and of the block after it.
    fn fetch(&self, block: u32) {
        let timers = self.lists.entries(block).iter().fold(0, |sum, &index| sum ^ self.slab.peek(index));
        let next = self.lists.following(block).map(|next| self.lists.entries(next)[0]);
        black_box((timers, next));
    }
}
