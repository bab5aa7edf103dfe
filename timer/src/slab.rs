//! Where timers are kept: nodes in one vector, named by index and generation, reused last-freed-first.

use alloc::vec::Vec;
use core::fmt;
use core::num::NonZeroU64;

use crate::geometry::Place;

/// No node: the end of a list.
pub(crate) const NIL: u32 = u32::MAX;

/// The last generation. A node that reaches it is never used again (4 billion reuses cost 40-odd bytes), because its
/// next owner's key would equal a key that was given out before.
const LAST_GENERATION: u32 = u32::MAX;

/// The name of one timer of one [`Wheel`](crate::Wheel): 16 bytes, in an `Option`, too.
///
/// It stays the timer's name when the timer is rescheduled or re-armed. When the timer is gone (fired, cancelled) the key
/// finds nothing, although its memory has a new owner; nor does it find anything in another wheel.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Key {
    /// Generation, and index + 1. Two words travel in registers; three were copied through memory by moves of another width
    /// than they had been written with, for which a processor waits until all its earlier stores have reached the cache.
    name: NonZeroU64,
    wheel: u32,
}

impl Key {
    #[inline]
    fn new(index: u32, generation: u32, wheel: u32) -> Key {
        let name = NonZeroU64::MIN.saturating_add(u64::from(generation) << 32 | u64::from(index));
        Key { name, wheel }
    }

    #[inline]
    fn index(self) -> u32 {
        (self.name.get() - 1) as u32
    }

    #[inline]
    fn generation(self) -> u32 {
        ((self.name.get() - 1) >> 32) as u32
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({}:{}.{})", self.wheel, self.index(), self.generation())
    }
}

#[derive(Debug)]
pub(crate) struct Node<T> {
    /// When the timer fires: the deadline, or `now` if that had passed when it was set, or a later tick within its slack.
    pub(crate) tick: u64,
    /// When the timer was asked to fire.
    pub(crate) deadline: u64,
    pub(crate) prev: u32,
    /// The next node of the slot's list, or of the free list.
    pub(crate) next: u32,
    generation: u32,
    /// The slot whose list this node is in; [`Place::NONE`] if nobody uses the node.
    pub(crate) place: Place,
    /// The number of the advance in or after which the timer was set while already due; 0 if it was not due then.
    pub(crate) due_since: u16,
    pub(crate) value: Option<T>,
}

#[derive(Debug)]
pub(crate) struct Slab<T> {
    nodes: Vec<Node<T>>,
    first_free: u32,
    len: usize,
    /// Tells this wheel's keys from other wheels' keys.
    wheel: u32,
}

impl<T> Slab<T> {
    pub(crate) fn with_capacity(wheel: u32, capacity: usize) -> Slab<T> {
        Slab { nodes: Vec::with_capacity(capacity), first_free: NIL, len: 0, wheel }
    }

    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// How many timers fit without an allocation.
    pub(crate) fn capacity(&self) -> usize {
        self.nodes.capacity()
    }

    #[inline]
    pub(crate) fn node(&self, index: u32) -> &Node<T> {
        &self.nodes[index as usize]
    }

    #[inline]
    pub(crate) fn node_mut(&mut self, index: u32) -> &mut Node<T> {
        &mut self.nodes[index as usize]
    }

    /// A node with this value; its place is not set yet.
    #[inline]
    pub(crate) fn insert(&mut self, tick: u64, deadline: u64, due_since: u16, value: T) -> u32 {
        self.len += 1;
        let index = self.first_free;
        if index == NIL {
            return self.grow(tick, deadline, due_since, value);
        }
        let node = &mut self.nodes[index as usize];
        self.first_free = node.next;
        node.tick = tick;
        node.deadline = deadline;
        node.due_since = due_since;
        node.value = Some(value);
        index
    }

    fn grow(&mut self, tick: u64, deadline: u64, due_since: u16, value: T) -> u32 {
        assert!(self.nodes.len() < NIL as usize, "a timer wheel holds at most {NIL} timers");
        let index = self.nodes.len() as u32;
        let (place, value) = (Place::NONE, Some(value));
        self.nodes.push(Node { tick, deadline, prev: NIL, next: NIL, generation: 0, place, due_since, value });
        index
    }

    /// Frees a node that is in no list any more.
    #[inline]
    pub(crate) fn remove(&mut self, index: u32) -> Option<T> {
        self.len -= 1;
        let node = &mut self.nodes[index as usize];
        node.place = Place::NONE;
        if node.generation != LAST_GENERATION {
            node.generation += 1;
        }
        if node.generation != LAST_GENERATION {
            node.next = self.first_free;
            self.first_free = index;
        }
        node.value.take()
    }

    #[inline]
    pub(crate) fn key(&self, index: u32) -> Key {
        Key::new(index, self.node(index).generation, self.wheel)
    }

    /// The node that `key` names, if it still exists.
    #[inline]
    pub(crate) fn find(&self, key: Key) -> Option<u32> {
        let node = self.nodes.get(key.index() as usize)?;
        let same = node.generation == key.generation() && node.place != Place::NONE && self.wheel == key.wheel;
        same.then_some(key.index())
    }

    /// All nodes, used or not, in the order of their indices.
    pub(crate) fn nodes(&self) -> &[Node<T>] {
        &self.nodes
    }

    #[cfg(test)]
    pub(crate) fn set_generation(&mut self, index: u32, generation: u32) {
        self.nodes[index as usize].generation = generation;
    }

    #[cfg(test)]
    pub(crate) fn retired(&self) -> usize {
        self.nodes.iter().filter(|node| node.generation == LAST_GENERATION).count()
    }

    #[cfg(test)]
    pub(crate) fn first_free(&self) -> u32 {
        self.first_free
    }
}
