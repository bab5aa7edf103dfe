//! Where timers are kept: nodes in one vector, named by index and generation, reused last-freed-first.

use alloc::vec::Vec;
use core::fmt;
use core::num::NonZeroU64;

use crate::geometry::Place;
use crate::links::{Id, Links, MOST_TIMERS, index_of};

/// The last generation. A node that reaches it is never used again (4 billion reuses cost 40-odd bytes), because its
/// next owner's key would equal a key that was given out before.
const LAST_GENERATION: u32 = u32::MAX;

/// The name of one timer of one [`Wheel`](crate::Wheel): 12 bytes, in an `Option`, too.
///
/// It stays the timer's name when the timer is rescheduled or re-armed. When the timer is gone (fired, cancelled) the key
/// finds nothing, although its memory has a new owner; nor does it find anything in another wheel.
// Packed, because the caller's table of keys is part of what must fit into a cache. And a whole word is written where a whole word is
// read: moves of other widths wait until all earlier stores have reached the cache.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
#[repr(C, packed(4))]
pub struct Key {
    /// The generation above, the link's name (which is never 0) below.
    name: NonZeroU64,
    wheel: u32,
}

impl Key {
    #[inline]
    fn new(id: Id, generation: u32, wheel: u32) -> Key {
        let name = NonZeroU64::new(u64::from(generation) << 32 | u64::from(id)).unwrap_or(NonZeroU64::MIN);
        Key { name, wheel }
    }

    #[inline]
    fn id(self) -> Id {
        self.name.get() as u32
    }

    #[inline]
    fn generation(self) -> u32 {
        (self.name.get() >> 32) as u32
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
    /// When the timer fires: the deadline, or `now` if that had passed when it was set, or a later tick within its slack.
    pub(crate) tick: u64,
    /// When the timer was asked to fire.
    pub(crate) deadline: u64,
    generation: u32,
    /// The slot whose list this timer is in.
    pub(crate) place: Place,
    /// The number of the advance in or after which the timer was set while already due; 0 if it was not due then.
    pub(crate) due_since: u16,
    /// `None` if nobody uses the node.
    pub(crate) value: Option<T>,
}

#[derive(Debug)]
pub(crate) struct Slab<T> {
    nodes: Vec<Node<T>>,
    pub(crate) links: Links,
    len: usize,
    /// Tells this wheel's keys from other wheels' keys.
    wheel: u32,
}

impl<T> Slab<T> {
    pub(crate) fn with_capacity(wheel: u32, capacity: usize) -> Slab<T> {
        Slab { nodes: Vec::with_capacity(capacity), links: Links::with_capacity(capacity), len: 0, wheel }
    }

    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// How many timers fit without an allocation.
    pub(crate) fn capacity(&self) -> usize {
        self.nodes.capacity().min(self.links.capacity())
    }

    #[inline]
    pub(crate) fn node(&self, id: Id) -> &Node<T> {
        &self.nodes[index_of(id)]
    }

    #[inline]
    pub(crate) fn node_mut(&mut self, id: Id) -> &mut Node<T> {
        &mut self.nodes[index_of(id)]
    }

    /// Makes a timer, which is in no list yet.
    #[inline]
    pub(crate) fn insert(&mut self, tick: u64, deadline: u64, due_since: u16, place: Place, value: T) -> (Id, Key) {
        self.len += 1;
        let Some(id) = self.links.take_unused() else { return self.grow(tick, deadline, due_since, place, value) };
        let wheel = self.wheel;
        let node = self.node_mut(id);
        node.tick = tick;
        node.deadline = deadline;
        node.place = place;
        node.due_since = due_since;
        node.value = Some(value);
        (id, Key::new(id, node.generation, wheel))
    }

    #[cold]
    fn grow(&mut self, tick: u64, deadline: u64, due_since: u16, place: Place, value: T) -> (Id, Key) {
        assert!(self.nodes.len() < MOST_TIMERS, "a timer wheel holds at most {MOST_TIMERS} timers");
        let id = self.links.grow();
        self.nodes.push(Node { tick, deadline, generation: 0, place, due_since, value: Some(value) });
        (id, Key::new(id, 0, self.wheel))
    }

    /// Frees a node that is in no list any more.
    #[inline]
    pub(crate) fn remove(&mut self, id: Id) -> Option<T> {
        self.len -= 1;
        let node = self.node_mut(id);
        let value = node.value.take();
        node.generation += 1;
        if node.generation != LAST_GENERATION {
            self.links.give_back(id);
        }
        value
    }

    #[inline]
    pub(crate) fn key(&self, id: Id) -> Key {
        Key::new(id, self.node(id).generation, self.wheel)
    }

    /// The timer that `key` names, if it is still pending. (To be removed gives a node a new generation, so it need not be asked whether it
    /// is in use.)
    #[inline]
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
