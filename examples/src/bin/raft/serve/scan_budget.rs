//! `SCAN` and `KEYS` look at many keys in one go, and nothing else happens on the node meanwhile:
//! no heartbeat is sent. So many of them in one turn of the loop, and the others in later ones: a
//! single packet has room for thousands.

use std::collections::VecDeque;

/// No look begins in a turn that has come to so many keys. The last one may exceed it, by as many
/// as one may look at.
const KEYS_PER_TURN: usize = 100_000;

/// What is looked at, and which clients wait for their turn.
#[derive(Debug, Default)]
pub(super) struct ScanBudget {
    /// Keys looked at in this turn, or to be looked at by what is under way, whenever it will be:
    /// perhaps in one turn.
    keys: usize,
    /// How many of them belong to this turn only.
    ended_keys: usize,
    later: VecDeque<(usize, u64)>,
    /// Whether it is the turn of one that has waited.
    is_next_ones: bool,
}

impl ScanBudget {
    /// Whether another look may begin now. While some wait, that is the turn of the one that
    /// [`ScanBudget::next`] has given, and of nobody else: who asks again and again would leave the
    /// others nothing.
    pub(super) fn has_room(&self) -> bool {
        self.keys < KEYS_PER_TURN && (self.is_next_ones || self.later.is_empty())
    }

    /// A look at so many keys begins.
    pub(super) fn begin(&mut self, keys: usize) {
        self.keys += keys;
    }

    /// A look at so many keys is done.
    pub(super) fn end(&mut self, keys: usize) {
        self.ended_keys += keys;
    }

    /// A client, by its slot and its number, waits for a later turn.
    pub(super) fn wait(&mut self, slot: usize, client: u64) {
        self.later.push_back((slot, client));
    }

    /// The turn is over. Says whether the next one should come at once: clients wait, and there is
    /// room.
    pub(super) fn end_turn(&mut self) -> bool {
        self.keys -= std::mem::take(&mut self.ended_keys);
        self.keys < KEYS_PER_TURN && !self.later.is_empty()
    }

    /// The next client that waits, the first to wait first, if there is room for it. It has its
    /// turn until the next one is asked for.
    pub(super) fn next(&mut self) -> Option<(usize, u64)> {
        let next = if self.keys < KEYS_PER_TURN { self.later.pop_front() } else { None };
        self.is_next_ones = next.is_some();
        next
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turn_has_room_for_so_many_keys_and_what_is_under_way_counts_in_each() {
        let mut budget = ScanBudget::default();
        budget.begin(KEYS_PER_TURN - 1);
        assert!(budget.has_room());
        budget.begin(1);
        assert!(!budget.has_room());
        budget.wait(3, 1);
        budget.end(1);
        assert!(!budget.has_room(), "it was in this turn");
        assert!(budget.end_turn());
        budget.begin(5);
        assert!(!budget.has_room() && !budget.end_turn(), "the first is under way");
        budget.end(KEYS_PER_TURN - 1);
        assert!(budget.end_turn());
        assert_eq!((budget.next(), budget.next()), (Some((3, 1)), None));
        assert!(!budget.end_turn() && budget.has_room());
    }

    #[test]
    fn those_that_wait_come_before_those_that_come() {
        let mut budget = ScanBudget::default();
        budget.begin(KEYS_PER_TURN);
        [1, 2].into_iter().for_each(|slot| budget.wait(slot, 0));
        budget.end(KEYS_PER_TURN);
        assert!(budget.next().is_none(), "not in this turn");
        assert!(
            budget.end_turn() && !budget.has_room(),
            "there is room, but not for who comes now"
        );
        assert_eq!(budget.next(), Some((1, 0)));
        assert!(budget.has_room());
        budget.begin(KEYS_PER_TURN);
        budget.wait(1, 0);
        assert!(budget.next().is_none() && !budget.has_room());
        budget.end(KEYS_PER_TURN);
        assert!(budget.end_turn());
        assert_eq!(
            [budget.next(), budget.next(), budget.next()],
            [Some((2, 0)), Some((1, 0)), None]
        );
        assert!(budget.has_room());
    }
}
