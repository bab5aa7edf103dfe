//! Reads that have met a key whose deadline may have passed, and has not by the stamp of the last
//! entry, which stands still while nothing is written. They wait until a tick is in the log, and
//! are asked again.
//!
//! ```text
//! read -> due -.                 .-> read, answered by the log's time
//! read -> due --+-- tick, one ---+
//!               |   at a time    |
//! read -> due --'-- next tick ---'   came while the first was under way, which may bear an earlier time
//! ```
//! Reads of the same connection behind such a one wait with it: otherwise it would be answered with
//! something newer than they are.
//!
//! By log time a key may still be there afterwards, where this node's wall clock is ahead of it:
//! then it is there.

use std::mem;

use kodiak_raft::replica::RequestId;

/// The number of the tick among the node's requests; the others are numbered from 0.
pub(super) const TICK_ID: RequestId = RequestId(u64::MAX);

/// Reads that wait, by the places of their askers.
#[derive(Debug, Default)]
pub(super) struct ExpiryReads {
    fresh: Vec<usize>,
    under_way: Vec<usize>,
}

impl ExpiryReads {
    /// This one waits from now on.
    pub(super) fn add(&mut self, place: usize) {
        self.fresh.push(place);
    }

    /// Whether a tick is to be written now.
    pub(super) fn begin_tick(&mut self) -> bool {
        let begins = self.under_way.is_empty() && !self.fresh.is_empty();
        if begins {
            self.under_way = mem::take(&mut self.fresh);
        }
        begins
    }

    /// The tick has its outcome: those who waited for it.
    pub(super) fn end_tick(&mut self) -> Vec<usize> {
        mem::take(&mut self.under_way)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_tick_is_under_way_and_who_comes_later_waits_for_the_next() {
        let mut reads = ExpiryReads::default();
        assert!(!reads.begin_tick());
        reads.add(1);
        reads.add(2);
        assert!(reads.begin_tick() && !reads.begin_tick());
        reads.add(3);
        assert!(!reads.begin_tick());
        assert_eq!(reads.end_tick(), [1, 2]);
        assert!(reads.begin_tick());
        assert_eq!(reads.end_tick(), [3]);
        assert!(!reads.begin_tick());
    }
}
