//! Where timers are kept: nodes named by index and generation, reused last-freed-first.
//!
//! With a value of four bytes a node is half a cache line, and nodes are laid out so that none straddles two: whatever is
//! done to a timer touches one line here, and one in its list (`lists.rs`).

use alloc::vec::Vec;
use core::fmt;
use core::num::{NonZeroU32, NonZeroU64};

use crate::blocks::Location;
use crate::geometry::Place;

/// No node: an entry whose timer has gone, or the end of the free list.
pub(crate) const NIL: u32 = u32::MAX;

/// How many timers a wheel can hold. Each needs a place in a block of a list, of which there can be as many.
pub(crate) const LIMIT: u32 = 1 << 28;

/// The last generation. A node that reaches it is never used again (4 billion reuses cost 40-odd bytes), because its
/// next owner's key would equal a key that was given out before.
const LAST_GENERATION: NonZeroU32 = NonZeroU32::MAX;

/// The name of one timer of one [`Wheel`](crate::Wheel): 16 bytes, in an `Option`, too.
///
/// It stays the timer's name when the timer is rescheduled or re-armed. When the timer is gone (fired, cancelled) the key
/// finds nothing, although its memory has a new owner; nor does it find anything in another wheel.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Key {
    /// Generation and index. Two words travel in registers; three were copied through memory by moves of another width than
    /// they had been written with, for which a processor waits until all its earlier stores have reached the cache.
    name: NonZeroU64,
    wheel: u32,
}

impl Key {
    #[inline]
    fn new(generation: NonZeroU32, index: u32, wheel: u32) -> Key {
        let high = u64::from(generation.get()) << 32;
        Key { name: NonZeroU64::new(high | u64::from(index)).expect("generations begin at 1"), wheel }
    }

    #[inline]
    fn index(self) -> u32 {
        self.name.get() as u32
    }

    #[inline]
    fn generation(self) -> u32 {
        (self.name.get() >> 32) as u32
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({}:{}.{})", self.wheel, self.index(), self.generation())
    }
}

/// When a timer fires, and why then.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Schedule {
    /// When the timer fires: the deadline, or `now` if that had passed when it was set, or a later tick within its slack.
    pub(crate) tick: u64,
    /// When the timer was asked to fire.
    pub(crate) deadline: u64,
    /// The number of the advance in or after which the timer was set while already due; 0 if it was not due then.
    pub(crate) due_since: u16,
}

#[derive(Debug)]
pub(crate) struct Node<T> {
    pub(crate) tick: u64,
    pub(crate) deadline: u64,
    /// Where in its list this node is; of an unused node, the index of the next unused one.
    location: Location,
    generation: NonZeroU32,
    /// `None` if nobody uses the node.
    pending: Option<Pending<T>>,
}

/// Beside the value what fits into the gap before it.
#[derive(Debug)]
struct Pending<T> {
    place: Place,
    due_since: u16,
    value: T,
}

/// What is known of a timer that was removed.
pub(crate) struct Removed<T> {
    pub(crate) tick: u64,
    pub(crate) place: Place,
    pub(crate) location: Location,
    pub(crate) value: T,
}

impl<T> Node<T> {
    const UNUSED: Node<T> =
        Node { tick: 0, deadline: 0, location: Location(NIL), generation: NonZeroU32::MIN, pending: None };

    fn pending(&self) -> &Pending<T> {
        self.pending.as_ref().expect("a listed node is pending")
    }

    #[inline]
    pub(crate) fn place(&self) -> Place {
        self.pending().place
    }

    #[inline]
    pub(crate) fn location(&self) -> Location {
        self.location
    }

    #[inline]
    pub(crate) fn due_since(&self) -> u16 {
        self.pending().due_since
    }

    #[inline]
    pub(crate) fn value(&self) -> Option<&T> {
        self.pending.as_ref().map(|pending| &pending.value)
    }

    #[inline]
    pub(crate) fn value_mut(&mut self) -> Option<&mut T> {
        self.pending.as_mut().map(|pending| &mut pending.value)
    }

    /// The timer is elsewhere in its list.
    #[inline]
    pub(crate) fn relocated(&mut self, location: Location) {
        self.location = location;
    }

    /// The timer is in another list.
    #[inline]
    pub(crate) fn moved(&mut self, place: Place, location: Location) {
        self.location = location;
        if let Some(pending) = &mut self.pending {
            pending.place = place;
        }
    }

    /// Ends the node's generation and makes it the first of the free ones, if it may be used again.
    #[inline]
    fn vacate(&mut self, next_free: u32) -> Option<(Removed<T>, bool)> {
        let Pending { place, value, .. } = self.pending.take()?;
        let removed = Removed { tick: self.tick, place, location: self.location, value };
        self.generation = self.generation.saturating_add(1);
        self.location = Location(next_free);
        Some((removed, self.generation != LAST_GENERATION))
    }

    /// The timer has another deadline, and is in another list.
    #[inline]
    pub(crate) fn set(&mut self, schedule: Schedule, place: Place, location: Location) {
        self.tick = schedule.tick;
        self.deadline = schedule.deadline;
        self.location = location;
        if let Some(pending) = &mut self.pending {
            pending.place = place;
            pending.due_since = schedule.due_since;
        }
    }

    /// The timer has another deadline, and stays in its list.
    #[inline]
    pub(crate) fn put_off(&mut self, schedule: Schedule) {
        self.tick = schedule.tick;
        self.deadline = schedule.deadline;
        if let Some(pending) = &mut self.pending {
            pending.due_since = schedule.due_since;
        }
    }
}

const LEAF: usize = 8;

/// Eight nodes take a whole number of cache lines, whatever the size of `T`, so that aligning them wastes nothing.
#[derive(Debug)]
#[repr(align(64))]
struct Leaf<T>([Node<T>; LEAF]);

#[derive(Debug)]
pub(crate) struct Slab<T> {
    leaves: Vec<Leaf<T>>,
    /// So many nodes, from the first, have been used.
    used: u32,
    first_free: u32,
    len: usize,
    /// Tells this wheel's keys from other wheels' keys.
    wheel: u32,
}

impl<T> Slab<T> {
    pub(crate) fn with_capacity(wheel: u32, capacity: usize) -> Slab<T> {
        Slab { leaves: Vec::with_capacity(capacity.div_ceil(LEAF)), used: 0, first_free: NIL, len: 0, wheel }
    }

    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// How many timers fit without an allocation.
    pub(crate) fn capacity(&self) -> usize {
        self.leaves.capacity() * LEAF
    }

    /// How many nodes there are, used or not.
    pub(crate) fn used(&self) -> u32 {
        self.used
    }

    #[inline]
    fn get(&self, index: u32) -> Option<&Node<T>> {
        Some(&self.leaves.get(index as usize / LEAF)?.0[index as usize % LEAF])
    }

    #[inline]
    fn get_mut(&mut self, index: u32) -> Option<&mut Node<T>> {
        Some(&mut self.leaves.get_mut(index as usize / LEAF)?.0[index as usize % LEAF])
    }

    #[inline]
    pub(crate) fn node(&self, index: u32) -> &Node<T> {
        &self.leaves[index as usize / LEAF].0[index as usize % LEAF]
    }

    #[inline]
    pub(crate) fn node_mut(&mut self, index: u32) -> &mut Node<T> {
        &mut self.leaves[index as usize / LEAF].0[index as usize % LEAF]
    }

    /// Some word of a node, if there is such a node; see `lookahead.rs`.
    #[inline]
    pub(crate) fn peek(&self, index: u32) -> u64 {
        self.get(index).map_or(0, |node| node.tick)
    }

    /// The node that the next timer will have; `None` if none is free.
    #[inline]
    pub(crate) fn vacant(&self) -> Option<u32> {
        (self.first_free != NIL).then_some(self.first_free)
    }

    /// Makes a vacant node, when there is none.
    pub(crate) fn grow(&mut self) -> u32 {
        let index = self.used;
        assert!(index < LIMIT, "a timer wheel holds at most {LIMIT} timers");
        if index as usize == self.leaves.len() * LEAF {
            self.leaves.push(Leaf([const { Node::UNUSED }; LEAF]));
        }
        self.used += 1;
        self.first_free = index;
        index
    }

    /// A timer for the node that [`vacant`](Slab::vacant) named.
    #[inline]
    pub(crate) fn occupy(&mut self, schedule: Schedule, place: Place, location: Location, value: T) -> Key {
        let index = self.first_free;
        let wheel = self.wheel;
        let node = self.node_mut(index);
        let (generation, Location(next)) = (node.generation, node.location);
        node.tick = schedule.tick;
        node.deadline = schedule.deadline;
        node.location = location;
        node.pending = Some(Pending { place, due_since: schedule.due_since, value });
        self.first_free = next;
        self.len += 1;
        Key::new(generation, index, wheel)
    }

    /// Frees the node that `key` names, if it still exists. It is in its list still.
    #[inline]
    pub(crate) fn remove(&mut self, key: Key) -> Option<Removed<T>> {
        let (next, wheel) = (self.first_free, self.wheel);
        let node = self.get_mut(key.index())?;
        if node.generation.get() != key.generation() || wheel != key.wheel {
            return None;
        }
        let (removed, is_reusable) = node.vacate(next)?;
        self.vacated(key.index(), is_reusable);
        Some(removed)
    }

    /// Frees a node. It is in its list still.
    #[inline]
    pub(crate) fn remove_at(&mut self, index: u32) -> Option<Removed<T>> {
        let next = self.first_free;
        let (removed, is_reusable) = self.node_mut(index).vacate(next)?;
        self.vacated(index, is_reusable);
        Some(removed)
    }

    #[inline]
    fn vacated(&mut self, index: u32, is_reusable: bool) {
        if is_reusable {
            self.first_free = index;
        }
        self.len -= 1;
    }

    #[inline]
    pub(crate) fn key(&self, index: u32) -> Key {
        Key::new(self.node(index).generation, index, self.wheel)
    }

    /// The node that `key` names, if it still exists.
    #[inline]
    pub(crate) fn find(&self, key: Key) -> Option<u32> {
        let node = self.get(key.index())?;
        let same = node.generation.get() == key.generation() && self.wheel == key.wheel && node.pending.is_some();
        same.then_some(key.index())
    }

    #[cfg(test)]
    pub(crate) fn set_generation(&mut self, index: u32, generation: u32) {
        self.node_mut(index).generation = NonZeroU32::new(generation).expect("generations begin at 1");
    }

    #[cfg(test)]
    pub(crate) fn retired(&self) -> usize {
        (0..self.used).filter(|&index| self.node(index).generation == LAST_GENERATION).count()
    }

    /// The unused nodes, in the order of their reuse.
    #[cfg(test)]
    pub(crate) fn free(&self) -> impl Iterator<Item = u32> {
        let some = |index| Some(index).filter(|&index| index != NIL);
        core::iter::successors(some(self.first_free), move |&index| some(self.node(index).location.0))
    }
}
