//! Reads that meet a key whose deadline may have passed.
//!
//! Keys expire by log time, which stands still while nothing is written. A read that finds a
//! deadline between the stamp of the last entry and this node's clock waits until a tick is in the
//! log, which brings the leader's time, and is submitted again.
//!
//! ```text
//! read -> undecided -.                 .-> read again, answered by log time
//! read -> undecided --+-- tick, one ---+
//!                     |   at a time    |
//! read -> undecided --'-- next tick ---'   came while a tick was in flight, which may bear an
//!                                          earlier time
//! ```
//! Reads of the same connection behind such a read wait with it: its answer will be newer than
//! theirs.
//!
//! If this node's wall clock is ahead of log time, the key may still exist after the tick. Then the
//! read answers that it exists.

use std::mem;

use kodiak_raft::replica::RequestId;

/// The number of the tick among the node's requests; the others are numbered from 0.
pub(super) const TICK_ID: RequestId = RequestId(u64::MAX);

/// Reads that wait for a tick, by their indexes among the pending requests.
#[derive(Debug, Default)]
pub(super) struct ExpiryReads {
    /// They wait for the next tick.
    next: Vec<usize>,
    /// They wait for the tick that is in flight.
    in_flight: Vec<usize>,
}

impl ExpiryReads {
    /// Adds a read, which waits from now on.
    pub(super) fn add(&mut self, read: usize) {
        self.next.push(read);
    }

    /// Starts a tick if one is wanted and none is in flight. The caller writes it then.
    pub(super) fn start_tick(&mut self) -> bool {
        let starts = self.in_flight.is_empty() && !self.next.is_empty();
        if starts {
            self.in_flight = mem::take(&mut self.next);
        }
        starts
    }

    /// Ends the tick that is in flight, and returns the reads that waited for it.
    pub(super) fn finish_tick(&mut self) -> Vec<usize> {
        mem::take(&mut self.in_flight)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_read_that_comes_during_a_tick_waits_for_the_next() {
        let mut reads = ExpiryReads::default();
        assert!(!reads.start_tick());
        reads.add(1);
        reads.add(2);
        assert!(reads.start_tick() && !reads.start_tick());
        reads.add(3);
        assert!(!reads.start_tick());
        assert_eq!(reads.finish_tick(), [1, 2]);
        assert!(reads.start_tick());
        assert_eq!(reads.finish_tick(), [3]);
        assert!(!reads.start_tick());
    }
}
