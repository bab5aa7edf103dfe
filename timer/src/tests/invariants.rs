//! What must hold between any two calls; the list is at the top of `lists.rs`.

use std::vec;

use crate::Wheel;
use crate::geometry::{LEVELS, Occupancy, Place, SLOTS};
use crate::slab::NIL;

impl<T> Wheel<T> {
    /// Panics unless counts, links, bitmaps and places agree.
    pub(crate) fn check(&self) {
        assert!(self.cursor <= self.now, "the cursor is ahead of now");
        let mut listed = vec![false; self.slab.nodes().len()];
        let mut occupancy = Occupancy::EMPTY;
        for level in 0..LEVELS {
            for slot in 0..SLOTS {
                let place = Place::new(level, slot);
                if self.check_slot(place, &mut listed) > 0 {
                    occupancy.set(place);
                }
            }
        }
        assert_eq!(occupancy, self.occupancy, "the bitmaps disagree with the lists");
        assert_eq!(listed.iter().filter(|&&l| l).count(), self.len(), "the count disagrees with the lists");
        self.check_unused(&listed);
        if let Some(open) = self.opening {
            let slot = &self.slots[open.index()];
            assert!(slot.head != NIL && open.level() > 0, "an empty slot is being opened");
            assert_eq!(open.start(self.cursor), open.start(slot.earliest), "the cursor is not in the slot it opens");
        }
        let earliest = self.slab.nodes().iter().filter(|node| node.value.is_some()).map(|node| node.tick).min();
        assert_eq!(earliest.is_none(), self.next_deadline().is_none());
        assert!(self.next_deadline() <= earliest, "the next deadline is late");
        let counted = self.iter().count();
        assert_eq!(counted, self.len(), "iteration disagrees with the count");
    }

    /// Walks one list, marks its nodes, and returns how many there are.
    fn check_slot(&self, place: Place, listed: &mut [bool]) -> usize {
        let slot = &self.slots[place.index()];
        let (mut count, mut previous, mut index) = (0, NIL, slot.head);
        while index != NIL {
            let node = self.slab.node(index);
            assert!(!listed[index as usize], "node {index} is in two lists, or twice in one");
            listed[index as usize] = true;
            assert_eq!((node.prev, node.place), (previous, place), "node {index} disagrees with its list");
            assert!(node.value.is_some(), "node {index} is pending without a value");
            assert!(node.tick >= self.cursor, "node {index} was passed by");
            assert!(node.tick >= slot.earliest, "node {index} is before its slot's earliest");
            assert!(place.level() > 0 || node.tick == slot.earliest, "two ticks in one slot of level 0");
            let lags = place.start(node.tick) > place.start(slot.earliest);
            let belongs = Place::of(self.cursor, node.tick) == place;
            assert!(belongs || lags || self.opening == Some(place), "node {index} is in a wrong slot");
            (count, previous, index) = (count + 1, index, node.next);
        }
        assert_eq!(slot.tail, previous, "a list's tail is not its last node");
        if count > 0 && self.opening != Some(place) {
            assert_eq!(Place::of(self.cursor, slot.earliest), place, "a slot's earliest lies outside it");
        }
        count
    }

    /// Nodes in no list are in the free list, except those that used up their generations.
    fn check_unused(&self, listed: &[bool]) {
        let (mut free, mut index) = (0, self.slab.first_free());
        while index != NIL {
            let node = self.slab.node(index);
            assert!(!listed[index as usize], "node {index} is free and pending");
            assert!(node.value.is_none() && node.place == Place::NONE, "node {index} is free with a value");
            (free, index) = (free + 1, node.next);
            assert!(free <= listed.len(), "the free list is a circle");
        }
        assert_eq!(free + self.len() + self.slab.retired(), listed.len(), "nodes were lost");
    }
}
