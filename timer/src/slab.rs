//! The memory of the timers: nodes in one vector, reused last-freed-first, with generations.

use alloc::vec::Vec;
use core::fmt;
use core::hint::black_box;
use core::num::NonZeroU32;

use crate::geometry::Slot;
use crate::links::{Id, Links, MAX_TIMERS, NONE, index_of};
use crate::prefetch::{PREFETCH_DISTANCE, PrefetchHints};

/// The last generation. A node that reaches it is never used again, because the key of its next
/// timer would equal an older key. (So 4 billion reuses cost some 40 bytes.)
const LAST_GENERATION: u32 = u32::MAX;

/// Names one timer of one [`Wheel`](crate::Wheel). Takes 12 bytes, also in an `Option`.
///
/// It stays valid when the timer is rescheduled or re-armed. Once the timer has fired or was
/// cancelled, the key finds nothing, even if another timer has its memory. It finds nothing in
/// another wheel either.
// Packed, because the caller's table of keys is part of what must fit into a cache. And a whole
// word is written where a whole word is read: moves of other widths wait until all earlier stores
// have reached the cache.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
#[repr(C, packed(4))]
pub struct Key {
    /// The generation in the upper half, the [`Id`] in the lower.
    bits: u64,
    wheel: NonZeroU32,
}

impl Key {
    #[inline]
    fn new(id: Id, generation: u32, wheel: NonZeroU32) -> Key {
        Key { bits: u64::from(generation) << 32 | u64::from(id), wheel }
    }

    #[inline]
    fn id(self) -> Id {
        self.bits as u32
    }

    #[inline]
    fn generation(self) -> u32 {
        (self.bits >> 32) as u32
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let wheel = self.wheel;
        write!(f, "Key({wheel}:{}.{})", self.id(), self.generation())
    }
}

#[derive(Debug)]
pub(crate) struct Node<T> {
    /// When the timer fires: the deadline, or `now` if that had passed when it was set, or a later
    /// tick within its slack.
    pub(crate) tick: u64,
    generation: u32,
    /// The slot whose list this timer is in (lower half) and the [`TickOrigin`] (upper half).
    state: u32,
    /// `None` if the node is unused.
    pub(crate) value: Option<T>,
}

/// Why a timer fires at its tick.
///
/// 0: the tick is its deadline. 1: the tick is later, within its slack. Otherwise it was already
/// due when it was set, and this is the number of the advance in or after which that was.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct TickOrigin(u16);

impl TickOrigin {
    pub(crate) const EXACT: TickOrigin = TickOrigin(0);
    pub(crate) const SLACK: TickOrigin = TickOrigin(1);
    pub(crate) const FIRST_ADVANCE: TickOrigin = TickOrigin(2);

    /// The number of the advance after this one. Numbers wrap around.
    pub(crate) fn next_advance(self) -> TickOrigin {
        self.0.checked_add(1).map_or(TickOrigin::FIRST_ADVANCE, TickOrigin)
    }
}

impl<T> Node<T> {
    #[inline]
    pub(crate) fn slot(&self) -> Slot {
        Slot::from_bits(self.state & 0xffff)
    }

    #[inline]
    pub(crate) fn tick_origin(&self) -> TickOrigin {
        TickOrigin((self.state >> 16) as u16)
    }

    #[inline]
    pub(crate) fn set_slot(&mut self, slot: Slot) {
        self.state = self.state >> 16 << 16 | slot.bits();
    }

    #[inline]
    pub(crate) fn set(&mut self, slot: Slot, tick: u64, origin: TickOrigin) {
        self.tick = tick;
        self.state = slot.bits() | u32::from(origin.0) << 16;
    }
}

/// A removed timer, and whether its slot is empty now.
pub(crate) struct Removed<T> {
    pub(crate) value: Option<T>,
    pub(crate) slot: Slot,
    pub(crate) tick: u64,
    pub(crate) is_empty_now: bool,
}

#[derive(Debug)]
pub(crate) struct Slab<T> {
    nodes: Vec<Node<T>>,
    /// The deadlines of timers whose deadline is not their tick. Kept apart, so that the other
    /// timers need not touch this memory.
    deadlines: Vec<u64>,
    pub(crate) links: Links,
    pub(crate) hints: PrefetchHints,
    len: usize,
    /// The wheel's number, which distinguishes its keys from other wheels' keys.
    wheel: NonZeroU32,
}

impl<T> Slab<T> {
    pub(crate) fn with_capacity(wheel: NonZeroU32, capacity: usize) -> Slab<T> {
        Slab {
            nodes: Vec::with_capacity(capacity),
            deadlines: Vec::with_capacity(capacity),
            links: Links::with_capacity(capacity),
            hints: PrefetchHints::with_capacity(capacity),
            len: 0,
            wheel,
        }
    }

    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// How many timers fit without an allocation.
    pub(crate) fn capacity(&self) -> usize {
        let nodes = self.nodes.capacity().min(self.deadlines.capacity());
        nodes.min(self.links.capacity()).min(self.hints.capacity())
    }

    #[inline]
    pub(crate) fn node(&self, id: Id) -> &Node<T> {
        &self.nodes[index_of(id)]
    }

    #[inline]
    pub(crate) fn node_mut(&mut self, id: Id) -> &mut Node<T> {
        &mut self.nodes[index_of(id)]
    }

    /// Fills the unused node `id` with a timer, which is in no list yet.
    #[inline(always)]
    pub(crate) fn insert(
        &mut self,
        id: Id,
        slot: Slot,
        tick: u64,
        origin: TickOrigin,
        value: T,
    ) -> Key {
        self.len += 1;
        let node = &mut self.nodes[index_of(id)];
        node.set(slot, tick, origin);
        node.value = Some(value);
        Key::new(id, node.generation, self.wheel)
    }

    /// Adds a node and its link, which is in no list.
    pub(crate) fn grow(&mut self) -> Id {
        assert!(self.nodes.len() < MAX_TIMERS, "a timer wheel holds at most {MAX_TIMERS} timers");
        self.deadlines.push(0);
        self.nodes.push(Node { tick: 0, generation: 0, state: 0, value: None });
        self.hints.grow(self.nodes.len());
        self.links.grow()
    }

    /// Removes a timer from its list and makes its keys stale.
    #[inline(always)]
    pub(crate) fn remove(&mut self, id: Id) -> Removed<T> {
        self.len -= 1;
        let node = &mut self.nodes[index_of(id)];
        let (value, slot, tick) = (node.value.take(), node.slot(), node.tick);
        node.generation += 1;
        let is_empty_now = match node.generation {
            LAST_GENERATION => self.links.unlink(id),
            _ => self.links.unlink_and_free(id),
        };
        Removed { value, slot, tick, is_empty_now }
    }

    /// Loads the memory of the timers that may come [`PREFETCH_DISTANCE`] after these.
    #[inline]
    pub(crate) fn prefetch(&self, ids: &[Id]) {
        let mut hints = [NONE; PREFETCH_DISTANCE];
        for (hint, &id) in hints.iter_mut().zip(ids) {
            *hint = self.hints.later(id);
        }
        let mut read = 0;
        for &id in &hints {
            let tick = self.nodes.get(index_of(id)).map_or(0, |node| node.tick);
            read ^= tick ^ u64::from(self.links.next(id)) ^ u64::from(self.hints.later(id));
        }
        black_box(read);
    }

    /// [`prefetch`](Slab::prefetch) for this timer and the ones after it.
    pub(crate) fn prefetch_from(&self, slot: Slot, id: Id) {
        let mut ids = [NONE; PREFETCH_DISTANCE];
        let (mut count, mut next) = (0, Some(id));
        while let Some(id) = next.filter(|_| count < PREFETCH_DISTANCE) {
            ids[count] = id;
            count += 1;
            next = self.links.after(slot, id);
        }
        self.prefetch(&ids[..count]);
    }

    /// The deadline that the timer was set for.
    #[inline]
    pub(crate) fn deadline(&self, id: Id) -> u64 {
        let node = self.node(id);
        if node.tick_origin() == TickOrigin::EXACT {
            node.tick
        } else {
            self.deadlines[index_of(id)]
        }
    }

    #[inline]
    pub(crate) fn set_deadline(&mut self, id: Id, deadline: u64) {
        self.deadlines[index_of(id)] = deadline;
    }

    #[inline]
    pub(crate) fn key(&self, id: Id) -> Key {
        Key::new(id, self.node(id).generation, self.wheel)
    }

    /// The timer of `key`, if it is still pending. (A removal gives the node a new generation, so
    /// there is no need to check whether the node is in use.)
    #[inline(always)]
    pub(crate) fn find(&self, key: Key) -> Option<Id> {
        let node = self.nodes.get(index_of(key.id()))?;
        (node.generation == key.generation() && self.wheel == key.wheel).then_some(key.id())
    }

    /// All nodes, used or not, in the order of their indices.
    pub(crate) fn nodes(&self) -> &[Node<T>] {
        &self.nodes
    }

    #[cfg(test)]
    pub(crate) fn set_generation(&mut self, index: usize, generation: u32) {
        self.nodes[index].generation = generation;
    }

    #[cfg(test)]
    pub(crate) fn retired(&self) -> usize {
        self.nodes.iter().filter(|node| node.generation == LAST_GENERATION).count()
    }
}
