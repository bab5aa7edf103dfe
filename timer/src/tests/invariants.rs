//! What must hold between any two calls; the list is at the top of `lists.rs`.

use std::vec;

use crate::Wheel;
use crate::geometry::{LEVELS, Occupancy, Place, SLOTS};
use crate::slab::Node;

impl<T> Wheel<T> {
    /// Panics unless counts, links, bitmaps and places agree.
    pub(crate) fn check(&self) {
        assert!(self.cursor <= self.now, "the cursor is ahead of now");
        let mut listed = vec![false; self.slab.used() as usize];
        let mut occupancy = Occupancy::EMPTY;
        for level in 0..LEVELS {
            for slot in 0..SLOTS {
                let place = Place::new(level as u32, slot as u32);
                if self.check_slot(place, &mut listed) > 0 {
                    occupancy.set(place);
                }
            }
        }
        assert_eq!(occupancy, self.lists.occupancy, "the bitmaps disagree with the lists");
        assert_eq!(listed.iter().filter(|&&l| l).count(), self.len(), "the count disagrees with the lists");
        self.check_unused(&listed);
        self.lists.check_blocks(self.len());
        if let Some(open) = self.opening {
            assert!(self.lists.len(open) > 0 && open.level() > 0, "an empty slot is being opened");
            let earliest = self.lists.earliest(open);
            assert_eq!(open.start(self.cursor), open.start(earliest), "the cursor is not in the slot it opens");
        }
        let earliest = self.nodes().filter(|node| node.value().is_some()).map(|node| node.tick).min();
        assert_eq!(earliest.is_none(), self.next_deadline().is_none());
        assert!(self.next_deadline() <= earliest, "the next deadline is late");
        let counted = self.iter().count();
        assert_eq!(counted, self.len(), "iteration disagrees with the count");
    }

    fn nodes(&self) -> impl Iterator<Item = &Node<T>> {
        (0..self.slab.used()).map(|index| self.slab.node(index))
    }

    /// Walks one list, marks its nodes, and returns how many there are.
    fn check_slot(&self, place: Place, listed: &mut [bool]) -> u32 {
        let mut count = 0;
        let slots_earliest = self.lists.earliest(place);
        for (index, location) in self.lists.check_list(place) {
            let node = self.slab.node(index);
            assert!(!listed[index as usize], "node {index} is in two lists, or twice in one");
            listed[index as usize] = true;
            assert!(node.value().is_some(), "node {index} is listed without a value");
            assert_eq!((node.place(), node.location()), (place, location), "node {index} disagrees with its list");
            assert!(node.tick >= self.cursor, "node {index} was passed by");
            assert!(node.tick >= slots_earliest, "node {index} is before its slot's earliest");
            assert!(place.level() > 0 || node.tick == slots_earliest, "two ticks in one slot of level 0");
            let lags = place.start(node.tick) > place.start(slots_earliest);
            let belongs = Place::of(self.cursor, node.tick) == place;
            assert!(belongs || lags || self.opening == Some(place), "node {index} is in a wrong slot");
            count += 1;
        }
        assert_eq!(self.lists.len(place), count, "a list's length is wrong");
        if count > 0 && self.opening != Some(place) {
            assert_eq!(Place::of(self.cursor, slots_earliest), place, "a slot's earliest lies outside it");
        }
        assert!(count > 0 || slots_earliest == u64::MAX, "an empty slot has an earliest timer");
        count
    }

    /// Nodes in no list are in the free list, except those that used up their generations.
    fn check_unused(&self, listed: &[bool]) {
        let mut free = 0;
        for index in self.slab.free() {
            assert!(!listed[index as usize], "node {index} is free and pending");
            assert!(self.slab.node(index).value().is_none(), "node {index} is free with a value");
            free += 1;
            assert!(free <= listed.len(), "the free list is a circle");
        }
        assert_eq!(free + self.len() + self.slab.retired(), listed.len(), "nodes were lost");
    }
}
