//! During a transfer a leader accepts no proposals.

use crate::types::{Entry, Index, Payload, Term, Write};

/// The last proposal that a leader accepted before a transfer began.
///
/// Its write may be issued only during the transfer.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct LastProposal {
    /// The leader's term, and the last entry of its log when the transfer was first seen.
    transfer: Option<(Term, Index)>,
}

impl LastProposal {
    /// Observes a core. Called before each poll of its replica, because only a poll makes
    /// proposals. `term` is that of the current transfer.
    pub(super) fn observe(&mut self, term: Option<Term>, last_index: Index) {
        self.transfer = term.map(|term| match self.transfer {
            Some((known, index)) if known == term => (term, index),
            _ => (term, last_index),
        });
    }

    /// The first command of a write that was proposed during the transfer.
    pub(super) fn first_late<'a>(&self, write: &'a Write) -> Option<&'a Entry> {
        let (_, last) = self.transfer?;
        let is_command = |entry: &&Entry| matches!(entry.payload, Payload::Command(_));
        write.entries.iter().filter(is_command).find(|entry| entry.index > last)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::types::Stamp;

    fn write(indexes: std::ops::RangeInclusive<u64>) -> Write {
        let payload = Payload::Command(Bytes::from_static(b"set"));
        let (term, stamp) = (Term(2), Stamp(0));
        let entry = |index| Entry { index: Index(index), term, stamp, payload: payload.clone() };
        Write { entries: indexes.map(entry).collect(), ..Write::default() }
    }

    #[test]
    fn earlier_proposals_may_be_written_in_a_transfer() {
        let mut proposals = LastProposal::default();
        assert!(proposals.first_late(&write(1..=9)).is_none(), "there is no transfer");
        proposals.observe(Some(Term(2)), Index(3));
        assert!(proposals.first_late(&write(3..=3)).is_none());
        proposals.observe(Some(Term(2)), Index(4));
        let late = write(3..=5);
        assert_eq!(proposals.first_late(&late).map(|entry| entry.index), Some(Index(4)));
    }

    #[test]
    fn each_transfer_counts_from_its_own_beginning() {
        let mut proposals = LastProposal::default();
        proposals.observe(Some(Term(2)), Index(3));
        proposals.observe(Some(Term(4)), Index(7));
        assert!(proposals.first_late(&write(7..=7)).is_none(), "a later term");
        proposals.observe(None, Index(8));
        proposals.observe(Some(Term(4)), Index(9));
        assert!(proposals.first_late(&write(9..=9)).is_none(), "a later transfer");
        assert!(proposals.first_late(&write(10..=10)).is_some());
    }
}
