//! Where timers are kept: nodes in one vector, named by index and generation, reused
//! last-freed-first.

use alloc::vec::Vec;
use core::fmt;
use core::hint::black_box;
use core::num::NonZeroU32;

use crate::ahead::{AHEAD, Hints};
use crate::geometry::Place;
use crate::links::{Id, Links, MOST_TIMERS, NONE, index_of};

/// The last generation. A node that reaches it is never used again (4 billion reuses cost 40-odd
/// bytes), because its next owner's key would equal a key that was given out before.
const LAST_GENERATION: u32 = u32::MAX;

/// The name of one timer of one [`Wheel`](crate::Wheel): 12 bytes, in an `Option`, too.
///
/// It stays the timer's name when the timer is rescheduled or re-armed. When the timer is gone
/// (fired, cancelled) the key finds nothing, although its memory has a new owner; nor does it find
/// anything in another wheel.
// Packed, because the caller's table of keys is part of what must fit into a cache. And a whole
// word is written where a whole word is read: moves of other widths wait until all earlier stores
// have reached the cache.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
#[repr(C, packed(4))]
pub struct Key {
    /// The generation above, the link's name below.
    name: u64,
    wheel: NonZeroU32,
}

impl Key {
    #[inline]
    fn new(id: Id, generation: u32, wheel: NonZeroU32) -> Key {
        Key { name: u64::from(generation) << 32 | u64::from(id), wheel }
    }

    #[inline]
    fn id(self) -> Id {
        self.name as u32
    }

    #[inline]
    fn generation(self) -> u32 {
        (self.name >> 32) as u32
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
    /// The slot whose list this timer is in, and the [`Since`] above it.
    state: u32,
    /// `None` if nobody uses the node.
    pub(crate) value: Option<T>,
}

/// Whether the timer's deadline is its tick (0), and if not, why: because of its slack (1), or
/// because it was already due when it was set, in or after the advance of this number.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Since(u16);

impl Since {
    pub(crate) const EXACT: Since = Since(0);
    pub(crate) const SLACK: Since = Since(1);
    pub(crate) const FIRST_ADVANCE: Since = Since(2);

    /// The number of the advance after this one. Numbers wrap around.
    pub(crate) fn next_advance(self) -> Since {
        self.0.checked_add(1).map_or(Since::FIRST_ADVANCE, Since)
    }
}

impl<T> Node<T> {
    #[inline]
    pub(crate) fn place(&self) -> Place {
        Place::from_bits(self.state & 0xffff)
    }

    #[inline]
    pub(crate) fn since(&self) -> Since {
        Since((self.state >> 16) as u16)
    }

    #[inline]
    pub(crate) fn set_place(&mut self, place: Place) {
        self.state = self.state >> 16 << 16 | place.bits();
    }

    #[inline]
    pub(crate) fn set(&mut self, place: Place, tick: u64, since: Since) {
        self.tick = tick;
        self.state = place.bits() | u32::from(since.0) << 16;
    }
}

/// A timer that was, and whether the slot that it was in is empty now.
pub(crate) struct Removed<T> {
    pub(crate) value: Option<T>,
    pub(crate) place: Place,
    pub(crate) tick: u64,
    pub(crate) emptied: bool,
}

#[derive(Debug)]
pub(crate) struct Slab<T> {
    nodes: Vec<Node<T>>,
    /// The deadlines of those timers whose deadline is not their tick. Apart, so that the others
    /// need not touch it.
    deadlines: Vec<u64>,
    pub(crate) links: Links,
    pub(crate) hints: Hints,
    len: usize,
    /// Tells this wheel's keys from other wheels' keys.
    wheel: NonZeroU32,
}

impl<T> Slab<T> {
    pub(crate) fn with_capacity(wheel: NonZeroU32, capacity: usize) -> Slab<T> {
        Slab {
            nodes: Vec::with_capacity(capacity),
            deadlines: Vec::with_capacity(capacity),
            links: Links::with_capacity(capacity),
            hints: Hints::with_capacity(capacity),
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

    /// Makes a timer, which is in no list yet. There must be an unused node.
    #[inline(always)]
    pub(crate) fn insert(
        &mut self,
        id: Id,
        place: Place,
        tick: u64,
        since: Since,
        value: T,
    ) -> Key {
        self.len += 1;
        let node = &mut self.nodes[index_of(id)];
        node.set(place, tick, since);
        node.value = Some(value);
        Key::new(id, node.generation, self.wheel)
    }

    /// One node and link more, in no list.
    pub(crate) fn grow(&mut self) -> Id {
        assert!(self.nodes.len() < MOST_TIMERS, "a timer wheel holds at most {MOST_TIMERS} timers");
        self.deadlines.push(0);
        self.nodes.push(Node { tick: 0, generation: 0, state: 0, value: None });
        self.hints.grow(self.nodes.len());
        self.links.grow()
    }

    /// Ends a timer: makes its keys stale and takes it out of its list.
    #[inline(always)]
    pub(crate) fn remove(&mut self, id: Id) -> Removed<T> {
        self.len -= 1;
        let node = &mut self.nodes[index_of(id)];
        let (value, place, tick) = (node.value.take(), node.place(), node.tick);
        node.generation += 1;
        let emptied = match node.generation {
            LAST_GENERATION => self.links.unlink(id),
            _ => self.links.unlink_for_good(id),
        };
        Removed { value, place, tick, emptied }
    }

    /// Looks at the memory of those timers that may come [`AHEAD`] after these.
    #[inline]
    pub(crate) fn read_ahead(&self, ids: &[Id]) {
        let mut hints = [NONE; AHEAD];
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

    /// [`read_ahead`](Slab::read_ahead) for this timer and those after it.
    pub(crate) fn read_ahead_from(&self, place: Place, id: Id) {
        let mut ids = [NONE; AHEAD];
        let (mut count, mut next) = (0, Some(id));
        while let Some(id) = next.filter(|_| count < AHEAD) {
            ids[count] = id;
            count += 1;
            next = self.links.after(place, id);
        }
        self.read_ahead(&ids[..count]);
    }

    /// The deadline that the timer was given.
    #[inline]
    pub(crate) fn deadline(&self, id: Id) -> u64 {
        let node = self.node(id);
        if node.since() == Since::EXACT { node.tick } else { self.deadlines[index_of(id)] }
    }

    #[inline]
    pub(crate) fn set_deadline(&mut self, id: Id, deadline: u64) {
        self.deadlines[index_of(id)] = deadline;
    }

    #[inline]
    pub(crate) fn key(&self, id: Id) -> Key {
        Key::new(id, self.node(id).generation, self.wheel)
    }

    /// The timer that `key` names, if it is still pending. (To be removed gives a node a new
    /// generation, so it need not be asked whether it is in use.)
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
