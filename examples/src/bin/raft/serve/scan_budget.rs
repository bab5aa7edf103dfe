//! The number of keys that `SCAN` and `KEYS` may go through in a turn of the loop.
//!
//! Such a command runs without a pause, and no heartbeat is sent until it ends. A single packet can
//! hold thousands of them, so those that exceed the budget wait for later turns.

use std::collections::VecDeque;

/// No scan starts in a turn that has reached this number of keys. The last one may exceed it by the
/// keys of one scan.
const KEYS_PER_TURN: usize = 100_000;

/// The budget, and the clients that wait for more of it.
#[derive(Debug, Default)]
pub(super) struct ScanBudget {
    /// Keys of the scans of this turn, and of all scans in flight: these may all run in one turn.
    keys: usize,
    /// Keys of the scans that are done; they no longer count in the next turn.
    finished_keys: usize,
    waiting: VecDeque<(usize, u64)>,
    /// Whether the room belongs to the client that [`ScanBudget::next_waiting`] returned last.
    serves_waiting: bool,
}

impl ScanBudget {
    /// Whether another scan may start now. While clients wait, only the one that
    /// [`ScanBudget::next_waiting`] returned may: otherwise a client that sends scans without a
    /// pause would leave the others nothing.
    pub(super) fn has_room(&self) -> bool {
        self.keys < KEYS_PER_TURN && (self.serves_waiting || self.waiting.is_empty())
    }

    /// Counts a scan that starts.
    pub(super) fn start(&mut self, keys: usize) {
        self.keys += keys;
    }

    /// Counts a scan that is done.
    pub(super) fn finish(&mut self, keys: usize) {
        self.finished_keys += keys;
    }

    /// Queues a client, by its slot and id, for a later turn.
    pub(super) fn queue_client(&mut self, slot: usize, client: u64) {
        self.waiting.push_back((slot, client));
    }

    /// Ends the turn. True if clients wait and there is room: then the next turn should begin at
    /// once.
    pub(super) fn end_turn(&mut self) -> bool {
        self.keys -= std::mem::take(&mut self.finished_keys);
        self.keys < KEYS_PER_TURN && !self.waiting.is_empty()
    }

    /// Takes the client that has waited longest, if there is room for it. The room is that client's
    /// until the next call.
    pub(super) fn next_waiting(&mut self) -> Option<(usize, u64)> {
        let next = if self.keys < KEYS_PER_TURN { self.waiting.pop_front() } else { None };
        self.serves_waiting = next.is_some();
        next
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scans_in_flight_count_in_every_turn() {
        let mut budget = ScanBudget::default();
        budget.start(KEYS_PER_TURN - 1);
        assert!(budget.has_room());
        budget.start(1);
        assert!(!budget.has_room());
        budget.queue_client(3, 1);
        budget.finish(1);
        assert!(!budget.has_room(), "it was in this turn");
        assert!(budget.end_turn());
        budget.start(5);
        assert!(!budget.has_room() && !budget.end_turn(), "the first is in flight");
        budget.finish(KEYS_PER_TURN - 1);
        assert!(budget.end_turn());
        assert_eq!((budget.next_waiting(), budget.next_waiting()), (Some((3, 1)), None));
        assert!(!budget.end_turn() && budget.has_room());
    }

    #[test]
    fn clients_that_wait_come_before_new_requests() {
        let mut budget = ScanBudget::default();
        budget.start(KEYS_PER_TURN);
        [1, 2].into_iter().for_each(|slot| budget.queue_client(slot, 0));
        budget.finish(KEYS_PER_TURN);
        assert!(budget.next_waiting().is_none(), "not in this turn");
        assert!(budget.end_turn() && !budget.has_room(), "the room is for those that wait");
        assert_eq!(budget.next_waiting(), Some((1, 0)));
        assert!(budget.has_room());
        budget.start(KEYS_PER_TURN);
        budget.queue_client(1, 0);
        assert!(budget.next_waiting().is_none() && !budget.has_room());
        budget.finish(KEYS_PER_TURN);
        assert!(budget.end_turn());
        let order = [(); 3].map(|()| budget.next_waiting());
        assert_eq!(order, [Some((2, 0)), Some((1, 0)), None]);
        assert!(budget.has_room());
    }
}
