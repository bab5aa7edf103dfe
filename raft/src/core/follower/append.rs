//! AppendEntries at its receiver (figure 3.1; §3.5, §3.6.2).

use crate::core::Core;
use crate::core::mutants::{Mutant, planted};
use crate::types::{Append, Body, Echo, Entries, Entry, Index, NodeId, Stamp, Term};

impl Append {
    /// The index of its last entry, or what precedes it if it has none; `None` if the message
    /// cannot be a leader's of `term`: its entries are not consecutive, or their terms fall, or
    /// exceed the leader's own.
    fn last_index(&self, term: Term) -> Option<Index> {
        let (mut index, mut previous_term) = (self.previous_index, self.previous_term);
        let mut stamp = Stamp(0);
        if term == Term(0)
            || previous_term > term
            || (index == Index(0)) != (previous_term == Term(0))
        {
            return None;
        }
        for entry in &self.entries {
            let expected = Index(index.0.checked_add(1)?);
            let is_sound =
                entry.index == expected && previous_term <= entry.term && entry.stamp >= stamp;
            if !is_sound || entry.term > term || entry.term == Term(0) {
                return None;
            }
            (index, previous_term, stamp) = (expected, entry.term, entry.stamp);
        }
        (index < Index(u64::MAX)).then_some(index)
    }
}

impl Core {
    pub(in crate::core) fn handle_append_entries(&mut self, from: NodeId, append: Append) {
        let Some(last) = append.last_index(self.term) else { return self.ignore() };
        if !self.accept_leader(from, append.echo) {
            return;
        }
        let must_wait = self.snapshots.is_installing() && !planted(Mutant::EntriesDuringInstall);
        if must_wait && !append.entries.is_empty() {
            return; // The log they would follow is about to go; the leader sends them again.
        }
        if planted(Mutant::FollowerPushesBack) && self.is_backlogged() && !append.entries.is_empty()
        {
            return;
        }
        let Append { previous_index, previous_term, mut entries, commit, echo } = append;
        let Echo { round, .. } = echo;
        let is_known = self.log.terms().term_at(previous_index);
        let is_blind = planted(Mutant::AppendWithoutPrevious) && is_known.is_some();
        let base = self.log.base();
        if previous_index < base {
            // Up to the base everything is committed, so the leader has it, too (leader
            // completeness).
            let included = entries.iter().take_while(|entry| entry.index <= base).count();
            entries = entries.after_first(included);
        } else if is_known != Some(previous_term) && !is_blind {
            return self.reject(from, previous_index, previous_term, round);
        }
        self.following.note_round(round);
        self.following.must_acknowledge |= !entries.is_empty();
        let entries = self.without_known(entries);
        let first = entries.first().map(|entry| entry.index);
        if let Some(index) = first.filter(|&first| first <= self.log.commit()) {
            return self.stop_at_conflict(from, index);
        }
        self.accept(entries, commit);
        self.following.verified_to(last.max(base));
        let believed = if planted(Mutant::CommitBeyondVerified) {
            self.log.last_index()
        } else {
            self.following.verified
        };
        let commit = commit.min(believed);
        if commit > self.log.commit() {
            self.log.commit_to(commit);
        }
    }

    /// Says where the two logs may still agree: nothing of ours with a term above the leader's term
    /// at `previous_index` can. The leader answers in kind ([`Core::handle_rejected`]), so that
    /// each exchange skips a whole term:
    ///
    /// ```text
    ///  index    1 2 3 4 5 6 7 8 9
    ///  leader   1 1 1 5 5 5 5 5 5     asks about index 9, term 5
    ///  follower 1 1 1 2 2 2 3         answers: index 7, term 3
    ///                                 the leader has no term 2 or 3: its last entry of
    ///                                 at most term 3 is index 3
    /// ```
    fn reject(&mut self, leader: NodeId, previous_index: Index, previous_term: Term, round: u64) {
        let hint_index = self.log.terms().last_at_or_before(previous_index, previous_term);
        let hint_term = self.log.terms().term_at(hint_index).unwrap_or_default();
        let report = self.follower_report(round);
        self.send(leader, Body::Rejected { previous_index, hint_index, hint_term, report });
    }

    /// The entries from the first one on that this log does not have. That one contradicts this log
    /// if its index is within it.
    fn without_known(&self, entries: Entries) -> Entries {
        let is_hasty = planted(Mutant::TruncateWithoutConflict);
        let (last, commit) = (self.log.last_index(), self.log.commit());
        let is_known = |entry: &&Entry| {
            entry.index <= last
                && self.log.terms().term_at(entry.index) == Some(entry.term)
                && (!is_hasty || entry.index <= commit)
        };
        let known = entries.iter().take_while(is_known).count();
        entries.after_first(known)
    }

    /// Appends entries of which the log has none. What contradicts the leader goes, with all that
    /// follows it.
    ///
    /// ```text
    ///  ours     1 1 2 2 2     entries 4 4 after index 2: index 3 differs, so 3, 4 and 5 go
    ///  entries      4 4       entries 2 2 after index 2: nothing differs, so nothing goes,
    ///                         not even index 5
    /// ```
    fn accept(&mut self, entries: Entries, commit: Index) {
        let Some(&Entry { index: first, term, .. }) = entries.first() else { return };
        if first <= self.log.last_index() {
            // The only place where anything is ever removed: the terms at `first` differ, which
            // proves the conflict.
            assert!(
                planted(Mutant::TruncateWithoutConflict)
                    || self.log.terms().term_at(first) != Some(term),
                "nothing conflicts at {first}"
            );
            self.log.truncate_from(first);
            self.log_time.truncated();
            self.writes.truncate_from(first);
        }
        self.log.append(&entries);
        self.note_received(commit);
        self.writes.append(entries);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Payload;

    fn append(previous_index: u64, previous_term: u64, entries: &[(u64, u64, u64)]) -> Append {
        let entry = |&(index, term, stamp): &(u64, u64, u64)| {
            let (index, term, stamp) = (Index(index), Term(term), Stamp(stamp));
            Entry { index, term, stamp, payload: Payload::Noop }
        };
        let entries: Entries = entries.iter().map(entry).collect();
        let append = Append::after(Index(previous_index), Term(previous_term));
        append.entries(entries).echo(Echo::of_round(1))
    }

    /// The last index of what a leader of term 3 sends.
    fn last(previous: (u64, u64), entries: &[(u64, u64, u64)]) -> Option<u64> {
        append(previous.0, previous.1, entries).last_index(Term(3)).map(|index| index.0)
    }

    #[test]
    fn only_what_a_leader_can_have_is_taken() {
        assert_eq!(last((0, 0), &[]), Some(0));
        assert_eq!(last((4, 2), &[(5, 2, 7), (6, 3, 7), (7, 3, 8)]), Some(7));
        assert_eq!(last((4, 2), &[(6, 2, 7)]), None, "a gap");
        assert_eq!(last((4, 2), &[(5, 1, 7)]), None, "terms fall");
        assert_eq!(last((4, 2), &[(5, 3, 7), (6, 2, 7)]), None, "terms fall");
        assert_eq!(last((4, 2), &[(5, 4, 7)]), None, "a term beyond the leader's");
        assert_eq!(last((4, 4), &[]), None, "a term beyond the leader's");
        assert_eq!(last((0, 0), &[(1, 0, 7)]), None, "no entry is of term 0");
        assert_eq!(last((4, 2), &[(5, 2, 7), (6, 2, 6)]), None, "log time runs backwards");
    }

    #[test]
    fn nothing_but_entry_0_is_of_term_0() {
        assert_eq!(last((0, 1), &[]), None);
        assert_eq!(last((4, 0), &[]), None);
        assert_eq!(append(0, 0, &[]).last_index(Term(0)), None, "no leader is of term 0");
    }

    #[test]
    fn the_last_index_of_all_has_no_entry() {
        let end = u64::MAX;
        assert_eq!(last((end - 1, 2), &[]), Some(end - 1));
        assert_eq!(last((end, 2), &[]), None);
        assert_eq!(last((end - 1, 2), &[(end, 2, 7)]), None);
    }
}
