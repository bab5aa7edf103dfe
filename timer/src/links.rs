//! Circular lists of timers: two words a timer, in an array of their own.
//!
//! Whoever cancels a timer must touch its two neighbours, who may be anywhere. Eight of these links share a cache line, and those of
//! 100,000 timers take 0.8 MB: a tenth of what the timers take.
//!
//! Each list has a link of its own in the same array, its *anchor*, that closes the circle. So putting in and taking out never ask
//! whether a neighbour exists, and a timer whose two neighbours are the same link was alone: that link is the anchor, and says which list
//! has become empty.

use alloc::vec::Vec;

use crate::geometry::{PLACES, Place};

/// The list of unused links; its anchor comes after those of the slots.
const FREE: u32 = PLACES as u32;
/// The first link that is a timer's.
const FIRST: u32 = FREE + 1;

/// The name of a timer's link.
pub(crate) type Id = u32;

/// How many timers can be named.
pub(crate) const MOST_TIMERS: usize = (u32::MAX - FIRST) as usize;

#[derive(Clone, Copy, Debug)]
struct Link {
    prev: u32,
    next: u32,
}

#[derive(Debug)]
pub(crate) struct Links(Vec<Link>);

/// The link of the timer whose node has this index.
#[inline]
pub(crate) fn id_of(index: usize) -> Id {
    index as u32 + FIRST
}

/// The index of the node of the timer with this link; one that no node has, if no timer has such a link.
#[inline]
pub(crate) fn index_of(id: Id) -> usize {
    id.wrapping_sub(FIRST) as usize
}

impl Links {
    pub(crate) fn with_capacity(capacity: usize) -> Links {
        let mut links = Vec::with_capacity(capacity + FIRST as usize);
        links.extend((0..FIRST).map(|anchor| Link { prev: anchor, next: anchor }));
        Links(links)
    }

    /// How many timers fit without an allocation.
    pub(crate) fn capacity(&self) -> usize {
        self.0.capacity() - FIRST as usize
    }

    /// A link that is in no list.
    #[inline]
    pub(crate) fn take_unused(&mut self) -> Option<Id> {
        let id = self.0[FREE as usize].next;
        if id == FREE {
            return None;
        }
        self.0[FREE as usize].next = self.0[id as usize].next;
        Some(id)
    }

    /// One link more.
    pub(crate) fn grow(&mut self) -> Id {
        let id = self.0.len() as u32;
        self.0.push(Link { prev: id, next: id });
        id
    }

    /// Keeps a link that is in no list for [`take_unused`](Links::take_unused), which will take it first.
    #[inline]
    pub(crate) fn give_back(&mut self, id: Id) {
        self.0[id as usize].next = self.0[FREE as usize].next;
        self.0[FREE as usize].next = id;
    }

    #[inline]
    pub(crate) fn push_back(&mut self, place: Place, id: Id) {
        let anchor = place.index();
        let last = self.0[anchor].prev;
        self.0[id as usize] = Link { prev: last, next: anchor as u32 };
        self.0[anchor].prev = id;
        self.0[last as usize].next = id;
    }

    #[inline]
    pub(crate) fn push_front(&mut self, place: Place, id: Id) {
        let anchor = place.index();
        let first = self.0[anchor].next;
        self.0[id as usize] = Link { prev: anchor as u32, next: first };
        self.0[anchor].next = id;
        self.0[first as usize].prev = id;
    }

    /// Takes a link out of its list, and says whether the list is empty now.
    #[inline]
    pub(crate) fn unlink(&mut self, id: Id) -> bool {
        let Link { prev, next } = self.0[id as usize];
        self.0[prev as usize].next = next;
        self.0[next as usize].prev = prev;
        prev == next
    }

    /// Makes `first` the first of this list, nothing of which was before it is in it any more. `None` empties it.
    #[inline]
    pub(crate) fn cut_front(&mut self, place: Place, first: Option<Id>) {
        let anchor = place.index() as u32;
        let first = first.unwrap_or(anchor);
        self.0[anchor as usize].next = first;
        self.0[first as usize].prev = anchor;
    }

    /// The first of a list, if it is not empty.
    #[inline]
    pub(crate) fn first(&self, place: Place) -> Option<Id> {
        let first = self.0[place.index()].next;
        (first != place.index() as u32).then_some(first)
    }

    /// The one that follows `id` in the list of this slot.
    #[inline]
    pub(crate) fn after(&self, place: Place, id: Id) -> Option<Id> {
        let next = self.0[id as usize].next;
        (next != place.index() as u32).then_some(next)
    }

    /// Whether a list has just one link.
    #[inline]
    pub(crate) fn is_single(&self, place: Place) -> bool {
        let Link { prev, next } = self.0[place.index()];
        prev == next && next != place.index() as u32
    }
}

#[cfg(test)]
impl Links {
    /// The ids of a list in both directions, which must be the same.
    pub(crate) fn ids(&self, place: Place) -> Vec<Id> {
        let (mut ids, mut id) = (Vec::new(), self.0[place.index()].next);
        let mut previous = place.index() as u32;
        while id != place.index() as u32 {
            assert_eq!(self.0[id as usize].prev, previous, "link {id} disagrees with the one before it");
            ids.push(id);
            (previous, id) = (id, self.0[id as usize].next);
            assert!(ids.len() <= self.0.len(), "a list has become a rho");
        }
        assert_eq!(self.0[place.index()].prev, previous, "a list does not end where its anchor says");
        ids
    }

    pub(crate) fn unused(&self) -> Vec<Id> {
        let (mut ids, mut id) = (Vec::new(), self.0[FREE as usize].next);
        while id != FREE {
            ids.push(id);
            id = self.0[id as usize].next;
            assert!(ids.len() <= self.0.len(), "the unused links have become a rho");
        }
        ids
    }
}
