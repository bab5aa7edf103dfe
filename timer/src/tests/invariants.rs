//! What must hold between any two calls; the list is at the top of `lists.rs`.

use std::vec;

use crate::Wheel;
use crate::geometry::{Occupancy, Place, SLOTS, TICKS, UPPER_LEVELS};
use crate::links::index_of;

impl<T> Wheel<T> {
    /// Panics unless counts, links, bitmaps and places agree.
    pub(crate) fn check(&self) {
        assert!(self.cursor <= self.now, "the cursor is ahead of now");
        let mut listed = vec![false; self.slab.nodes().len()];
        let mut occupancy = Occupancy::EMPTY;
        let ticks = (0..TICKS).map(|slot| Place::new(0, slot));
        let above =
            (0..UPPER_LEVELS * SLOTS).map(|slot| Place::new(1 + slot / SLOTS, slot % SLOTS));
        for place in ticks.chain(above) {
            if self.check_slot(place, &mut listed) > 0 {
                occupancy.set(place);
            }
        }
        assert_eq!(occupancy, self.occupancy, "the bitmaps disagree with the lists");
        assert_eq!(
            listed.iter().filter(|&&l| l).count(),
            self.len(),
            "the count disagrees with the lists"
        );
        self.check_unused(&listed);
        if self.opening != 0 {
            let open = Place::from_bits(self.opening);
            assert!(
                self.slab.links.first(open).is_some() && open.is_upper(),
                "an empty slot is being opened"
            );
            assert_eq!(
                open.start(self.cursor),
                open.start(self.earliest_of(open)),
                "the cursor is not in the slot it opens"
            );
        }
        let earliest = self
            .slab
            .nodes()
            .iter()
            .filter(|node| node.value.is_some())
            .map(|node| node.tick)
            .min();
        assert_eq!(earliest.is_none(), self.next_deadline().is_none());
        assert!(self.next_deadline() <= earliest, "the next deadline is late");
        assert!(
            earliest.is_none_or(|earliest| self.quiet_until <= earliest),
            "a timer is due in what is thought a quiet time"
        );
        assert!(
            self.earliest.iter().all(|earliest| self.quiet_until <= *earliest),
            "a slot's earliest timer is in what is thought a quiet time"
        );
        let counted = self.iter().count();
        assert_eq!(counted, self.len(), "iteration disagrees with the count");
    }

    /// Walks one list, marks its nodes, and returns how many there are.
    fn check_slot(&self, place: Place, listed: &mut [bool]) -> usize {
        let ids = self.slab.links.ids(place);
        let earliest = self.earliest_of(place);
        for &id in &ids {
            let node = self.slab.node(id);
            assert!(!listed[index_of(id)], "timer {id} is in two lists, or twice in one");
            listed[index_of(id)] = true;
            assert_eq!(node.place(), place, "timer {id} disagrees with its list");
            assert!(node.value.is_some(), "timer {id} is pending without a value");
            assert!(node.tick >= self.cursor, "timer {id} was passed by");
            assert!(node.tick >= earliest, "timer {id} is before its slot's earliest");
            assert!(place.is_upper() || node.tick == earliest, "two ticks in one slot of level 0");
            let lags = place.start(node.tick) > place.start(earliest);
            let belongs = Place::of(self.cursor, node.tick) == place;
            assert!(
                belongs || lags || self.opening == place.bits(),
                "timer {id} is in a wrong slot"
            );
        }
        if ids.is_empty() {
            assert!(
                !place.is_upper() || earliest == u64::MAX,
                "an empty slot has an earliest timer"
            );
        } else if self.opening != place.bits() {
            assert_eq!(
                Place::of(self.cursor, earliest),
                place,
                "a slot's earliest lies outside it"
            );
        }
        ids.len()
    }

    /// Nodes in no list are unused, except those that used up their generations.
    fn check_unused(&self, listed: &[bool]) {
        let unused = self.slab.links.unused();
        for &id in &unused {
            assert!(!listed[index_of(id)], "timer {id} is unused and pending");
            assert!(self.slab.node(id).value.is_none(), "timer {id} is unused with a value");
        }
        assert_eq!(
            unused.len() + self.len() + self.slab.retired(),
            listed.len(),
            "nodes were lost"
        );
    }
}
