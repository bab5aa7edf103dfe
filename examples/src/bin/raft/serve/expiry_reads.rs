//! Reads that meet a key whose deadline may have passed.
//!
//! Keys expire by log time, which stands still while nothing is written. A read that finds a
//! deadline between the stamp of the last entry and this node's clock is undecided. The server
//! writes a time entry, which brings the leader's time into the log, and then submits the read
//! again.
//!
//! ```text
//! read -> undecided -.                        .-> submitted again, answered by log time
//! read -> undecided --+-- time entry (one) ---+
//!                     |      at a time        |
//! read -> undecided --'-- next time entry ----'   it came while one was in flight, which may have
//!                                                 an earlier stamp
//! ```
//! Reads of the same connection behind such a read wait with it: its answer will be newer than
//! theirs.
//!
//! If this node's wall clock is ahead of log time, the key may still exist after the time entry.
//! Then the read answers that it exists.

use std::mem;

use kodiak_raft::replica::RequestId;

/// The number of the time entry among the node's requests; the others are numbered from 0.
pub(super) const TIME_ENTRY_ID: RequestId = RequestId(u64::MAX);

/// Reads that wait for a time entry, by their indexes among the pending requests.
#[derive(Debug, Default)]
pub(super) struct ExpiryReads {
    /// They wait for the next time entry.
    next: Vec<usize>,
    /// They wait for the time entry that is in flight.
    in_flight: Vec<usize>,
}

impl ExpiryReads {
    /// Adds a read, which waits from now on.
    pub(super) fn add(&mut self, read: usize) {
        self.next.push(read);
    }

    /// Starts a time entry if one is wanted and none is in flight. The caller writes it then.
    pub(super) fn start_time_entry(&mut self) -> bool {
        let starts = self.in_flight.is_empty() && !self.next.is_empty();
        if starts {
            self.in_flight = mem::take(&mut self.next);
        }
        starts
    }

    /// Ends the time entry that is in flight, and returns the reads that waited for it.
    pub(super) fn finish_time_entry(&mut self) -> Vec<usize> {
        mem::take(&mut self.in_flight)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_read_during_a_time_entry_waits_for_the_next() {
        let mut reads = ExpiryReads::default();
        assert!(!reads.start_time_entry());
        reads.add(1);
        reads.add(2);
        assert!(reads.start_time_entry() && !reads.start_time_entry());
        reads.add(3);
        assert!(!reads.start_time_entry());
        assert_eq!(reads.finish_time_entry(), [1, 2]);
        assert!(reads.start_time_entry());
        assert_eq!(reads.finish_time_entry(), [3]);
        assert!(!reads.start_time_entry());
    }
}
