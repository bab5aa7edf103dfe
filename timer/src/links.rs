//! Circular lists of timers: two words a timer, in an array of their own.
//!
//! Whoever cancels a timer must touch its two neighbours, who may be anywhere. Eight of these links
//! share a cache line, and those of 100,000 timers take 0.8 MB, which a second-level cache may
//! hold.
//!
//! Each list has a link of its own in the same array, its *anchor*, that closes the circle. So
//! putting in and taking out never ask whether a neighbour exists, and a timer whose two neighbours
//! are the same link was alone: that link is the anchor, and says which list has become empty.

use alloc::vec::Vec;

use crate::geometry::{PLACES, Place};

/// The first link that is a timer's.
const FIRST: u32 = PLACES as u32;

/// No timer's link: where the unused links end.
pub(crate) const NONE: Id = 0;

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
pub(crate) struct Links {
    links: Vec<Link>,
    /// The first of the unused links; each names the next.
    unused: Id,
}

/// The link of the timer whose node has this index.
#[inline]
pub(crate) fn id_of(index: usize) -> Id {
    index as u32 + FIRST
}

/// The index of the node of the timer with this link; one that no node has, if no timer has such a
/// link.
#[inline]
pub(crate) fn index_of(id: Id) -> usize {
    id.wrapping_sub(FIRST) as usize
}

impl Links {
    pub(crate) fn with_capacity(capacity: usize) -> Links {
        let mut links = Vec::with_capacity(capacity + FIRST as usize);
        links.extend((0..FIRST).map(|anchor| Link { prev: anchor, next: anchor }));
        Links { links, unused: NONE }
    }

    /// How many timers fit without an allocation.
    pub(crate) fn capacity(&self) -> usize {
        self.links.capacity() - FIRST as usize
    }

    /// A link that is in no list.
    #[inline(always)]
    pub(crate) fn take_unused(&mut self) -> Option<Id> {
        let id = self.unused;
        if id == NONE {
            return None;
        }
        self.unused = self.links[id as usize].next;
        Some(id)
    }

    /// One link more.
    pub(crate) fn grow(&mut self) -> Id {
        let id = self.links.len() as u32;
        self.links.push(Link { prev: id, next: id });
        id
    }

    /// Puts a link at the end of a list, and says whether the list was empty.
    #[inline(always)]
    pub(crate) fn push_back(&mut self, place: Place, id: Id) -> bool {
        let links = &mut self.links[..];
        let anchor = place.index();
        let last = links[anchor].prev;
        links[anchor].prev = id;
        links[id as usize] = Link { prev: last, next: anchor as u32 };
        links[last as usize].next = id;
        last == anchor as u32
    }

    #[inline]
    pub(crate) fn push_front(&mut self, place: Place, id: Id) {
        let links = &mut self.links[..];
        let anchor = place.index();
        let first = links[anchor].next;
        links[anchor].next = id;
        links[id as usize] = Link { prev: anchor as u32, next: first };
        links[first as usize].prev = id;
    }

    /// Takes a link out of its list, and says whether the list is empty now.
    #[inline(always)]
    pub(crate) fn unlink(&mut self, id: Id) -> bool {
        let links = &mut self.links[..];
        let Link { prev, next } = links[id as usize];
        links[prev as usize].next = next;
        links[next as usize].prev = prev;
        prev == next
    }

    /// [`unlink`](Links::unlink), and keeps the link for [`take_unused`](Links::take_unused), which
    /// will take it first.
    #[inline(always)]
    pub(crate) fn unlink_for_good(&mut self, id: Id) -> bool {
        let links = &mut self.links[..];
        let link = &mut links[id as usize];
        let Link { prev, next } = *link;
        link.next = self.unused;
        self.unused = id;
        links[prev as usize].next = next;
        links[next as usize].prev = prev;
        prev == next
    }

    /// Makes `first` the first of this list, nothing of which was before it is in it any more.
    /// `None` empties it.
    #[inline]
    pub(crate) fn cut_front(&mut self, place: Place, first: Option<Id>) {
        let anchor = place.index() as u32;
        let first = first.unwrap_or(anchor);
        self.links[anchor as usize].next = first;
        self.links[first as usize].prev = anchor;
    }

    /// The first of a list, if it is not empty.
    #[inline]
    pub(crate) fn first(&self, place: Place) -> Option<Id> {
        let first = self.links[place.index()].next;
        (first != place.index() as u32).then_some(first)
    }

    /// Whatever follows this link: a timer or an anchor.
    #[inline]
    pub(crate) fn next(&self, id: Id) -> Id {
        self.links[id as usize].next
    }

    /// The one that follows `id` in the list of this slot.
    #[inline]
    pub(crate) fn after(&self, place: Place, id: Id) -> Option<Id> {
        let next = self.links[id as usize].next;
        (next != place.index() as u32).then_some(next)
    }

    /// Whether a list has just one link.
    #[inline]
    pub(crate) fn is_single(&self, place: Place) -> bool {
        let Link { prev, next } = self.links[place.index()];
        prev == next && next != place.index() as u32
    }
}

#[cfg(test)]
impl Links {
    /// The ids of a list in both directions, which must be the same.
    pub(crate) fn ids(&self, place: Place) -> Vec<Id> {
        let (mut ids, mut id) = (Vec::new(), self.links[place.index()].next);
        let mut previous = place.index() as u32;
        while id != place.index() as u32 {
            assert_eq!(
                self.links[id as usize].prev, previous,
                "link {id} disagrees with the one before it"
            );
            ids.push(id);
            (previous, id) = (id, self.links[id as usize].next);
            assert!(ids.len() <= self.links.len(), "a list has become a rho");
        }
        assert_eq!(
            self.links[place.index()].prev,
            previous,
            "a list does not end where its anchor says"
        );
        ids
    }

    pub(crate) fn unused(&self) -> Vec<Id> {
        let (mut ids, mut id) = (Vec::new(), self.unused);
        while id != NONE {
            ids.push(id);
            id = self.links[id as usize].next;
            assert!(ids.len() <= self.links.len(), "the unused links have become a rho");
        }
        ids
    }
}
