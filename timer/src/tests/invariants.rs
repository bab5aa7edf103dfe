//! What must hold between any two calls; the list is at the top of `lists.rs`.

use std::vec;

use crate::Wheel;
use crate::geometry::{LEVEL_0_SLOTS, Occupancy, SLOTS, Slot, UPPER_LEVELS};
use crate::links::index_of;

impl<T> Wheel<T> {
    /// Panics unless counts, links, bitmaps and slots agree.
    pub(crate) fn check(&self) {
        assert!(self.cursor <= self.now, "the cursor is ahead of now");
        let mut listed = vec![false; self.slab.nodes().len()];
        let mut occupancy = Occupancy::EMPTY;
        let ticks = (0..LEVEL_0_SLOTS).map(|digit| Slot::new(0, digit));
        let above = (0..UPPER_LEVELS * SLOTS).map(|n| Slot::new(1 + n / SLOTS, n % SLOTS));
        for slot in ticks.chain(above) {
            if self.check_slot(slot, &mut listed) > 0 {
                occupancy.set(slot);
            }
        }
        assert_eq!(occupancy, self.occupancy, "the bitmaps disagree with the lists");
        assert_eq!(
            listed.iter().filter(|&&l| l).count(),
            self.len(),
            "the count disagrees with the lists"
        );
        self.check_unused(&listed);
        if self.cascading != 0 {
            let cascading = Slot::from_bits(self.cascading);
            assert!(
                self.slab.links.first(cascading).is_some() && cascading.is_upper(),
                "an empty slot is being cascaded"
            );
            assert_eq!(
                cascading.start(self.cursor),
                cascading.start(self.earliest_of(cascading)),
                "the cursor is not in the slot that is being cascaded"
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
            earliest.is_none_or(|earliest| self.idle_until <= earliest),
            "a timer is due before `idle_until`"
        );
        assert!(
            self.earliest.iter().all(|earliest| self.idle_until <= *earliest),
            "a slot's earliest timer is before `idle_until`"
        );
        let counted = self.iter().count();
        assert_eq!(counted, self.len(), "iteration disagrees with the count");
    }

    /// Walks one list, marks its nodes, and returns how many there are.
    fn check_slot(&self, slot: Slot, listed: &mut [bool]) -> usize {
        let ids = self.slab.links.ids(slot);
        let earliest = self.earliest_of(slot);
        for &id in &ids {
            let node = self.slab.node(id);
            assert!(!listed[index_of(id)], "timer {id} is in two lists, or twice in one");
            listed[index_of(id)] = true;
            assert_eq!(node.slot(), slot, "timer {id} disagrees with its list");
            assert!(node.value.is_some(), "timer {id} is pending without a value");
            assert!(node.tick >= self.cursor, "timer {id} was passed by");
            assert!(node.tick >= earliest, "timer {id} is before its slot's earliest");
            assert!(slot.is_upper() || node.tick == earliest, "two ticks in one slot of level 0");
            let lags = slot.start(node.tick) > slot.start(earliest);
            let belongs = Slot::of(self.cursor, node.tick) == slot;
            assert!(
                belongs || lags || self.cascading == slot.bits(),
                "timer {id} is in a wrong slot"
            );
        }
        if ids.is_empty() {
            assert!(
                !slot.is_upper() || earliest == u64::MAX,
                "an empty slot has an earliest timer"
            );
        } else if self.cascading != slot.bits() {
            assert_eq!(Slot::of(self.cursor, earliest), slot, "a slot's earliest lies outside it");
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
