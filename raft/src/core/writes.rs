//! What goes to the disk, and what must wait until it is there.
//!
//! Everything that one step changes is collected in a draft and leaves as one [`Write`] with the
//! next sequence number. Messages that promise something (a vote, a candidacy) carry the number of
//! the write that makes the promise true and stay here until it is done (§3.8: "servers must
//! persist … before responding to RPCs").
//!
//! A completion says only "write 7 is done". What that makes durable was recorded when write 7
//! left, and every truncation since then has lowered the record. So a late completion makes no
//! entries durable that took the place of those it wrote:
//!
//! ```text
//!  write 7: entries 5 6 (term 1)     note: durable up to 6
//!  truncate from 5                   note: durable up to 4
//!  write 8: entries 5 6 (term 2)     note: durable up to 6
//!  done 7                            durable = 4, not 6
//!  done 8                            durable = 6
//! ```

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use crate::types::{DiskId, Entries, HardState, Index, Message, PeerRecord, Time, Write};

use super::commit_mark::CommitMark;
use super::mutants::{Mutant, planted};
use super::tail::Tail;

/// The most messages that wait for writes. Any message may be lost, so the latest beyond these are.
const WITHHELD_LIMIT: usize = 256;

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Draft {
    hard_state: Option<HardState>,
    truncate_from: Option<Index>,
    entries: Tail,
    /// They wait for a write that something else makes.
    peer_records: BTreeMap<DiskId, PeerRecord>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Outstanding {
    sequence: u64,
    since: Time,
    /// Once it is done, the log is durable up to here.
    durable_to: Index,
}

/// A message that must not leave before a write is done.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Withheld {
    sequence: u64,
    message: Message,
}

/// Drafts, outstanding writes and withheld messages.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Writes {
    draft: Draft,
    issued: u64,
    done: u64,
    outstanding: VecDeque<Outstanding>,
    withheld: VecDeque<Withheld>,
    /// The write that carries the current term and vote.
    hard_state_sequence: u64,
    /// The write that carries the length of the longest promise that may bind.
    promise_sequence: u64,
    commit_mark: CommitMark,
}

impl Writes {
    /// What is on disk says that entries up to `commit` are committed.
    pub(super) fn after_restart(commit: Index) -> Writes {
        let mut writes = Writes::default();
        writes.commit_mark.written(commit);
        writes
    }

    fn has_draft(&self) -> bool {
        self.draft.hard_state.is_some()
            || self.draft.truncate_from.is_some()
            || !self.draft.entries.is_empty()
    }

    /// Puts term and vote into the draft. Returns the sequence number at which they will be
    /// durable.
    pub(super) fn set_hard_state(&mut self, hard_state: HardState) -> u64 {
        self.draft.hard_state = Some(hard_state);
        self.hard_state_sequence = self.issued + 1;
        self.hard_state_sequence
    }

    /// Puts what was learnt of another node's disk into the draft, which makes no write of it by
    /// itself.
    pub(super) fn record_peer(&mut self, disk: DiskId, record: PeerRecord) {
        self.draft.peer_records.insert(disk, record);
    }

    /// Puts a longer promise into the draft, with the term and vote that were set before.
    pub(super) fn set_promise(&mut self, hard_state: HardState) {
        self.draft.hard_state = Some(hard_state);
        self.promise_sequence = self.issued + 1;
    }

    /// Whether the length of this node's promises is on disk.
    pub(super) fn is_promise_durable(&self) -> bool {
        self.promise_sequence <= self.done
    }

    /// Whether term and vote are on disk as they are in memory.
    pub(super) fn is_hard_state_durable(&self) -> bool {
        self.hard_state_sequence <= self.done
    }

    /// The sequence number at which term and vote are durable.
    pub(super) fn hard_state_sequence(&self) -> u64 {
        self.hard_state_sequence
    }

    /// Whether this write, and all before it, are on disk.
    pub(super) fn is_done(&self, sequence: u64) -> bool {
        sequence <= self.done
    }

    /// Puts entries into the draft.
    pub(super) fn append(&mut self, entries: Entries) {
        self.draft.entries.push(entries);
    }

    /// Removes the entries from `from` on.
    pub(super) fn truncate_from(&mut self, from: Index) {
        for outstanding in &mut self.outstanding {
            if !planted(Mutant::StaleAppendAck) {
                outstanding.durable_to = outstanding.durable_to.min(from.previous());
            }
        }
        let draft = &mut self.draft;
        let is_within = draft.entries.first_index().is_some_and(|first| from >= first);
        draft.entries.truncate_from(from);
        if is_within {
            return;
        }
        draft.truncate_from = Some(draft.truncate_from.map_or(from, |earlier| earlier.min(from)));
    }

    /// The draft becomes a write, if there is anything in it.
    pub(super) fn issue(&mut self, now: Time, last_index: Index, commit: Index) -> Option<Write> {
        if !self.has_draft() {
            return None;
        }
        self.issued += 1;
        let sequence = self.issued;
        let Draft { hard_state, truncate_from, entries, peer_records } = &mut self.draft;
        let peer_records = std::mem::take(peer_records).into_iter().collect();
        let (hard_state, truncate_from, entries) =
            (hard_state.take(), truncate_from.take(), entries.take());
        if let Some(last) = entries.last() {
            assert!(
                last.index == last_index,
                "the draft ends at {} but the log at {last_index}",
                last.index
            );
        }
        self.outstanding.push_back(Outstanding { sequence, since: now, durable_to: last_index });
        let commit = commit.min(last_index);
        self.commit_mark.written(commit);
        Some(Write { sequence, hard_state, truncate_from, entries, commit, peer_records })
    }

    /// The installation of a snapshot takes its place among the writes. It makes no entry durable
    /// by itself: when it is done, the log starts over.
    pub(super) fn issue_install(&mut self, now: Time) -> u64 {
        assert!(!self.has_draft(), "what was drafted leaves before a snapshot is installed");
        self.issued += 1;
        let sequence = self.issued;
        self.outstanding.push_back(Outstanding { sequence, since: now, durable_to: Index(0) });
        sequence
    }

    /// A snapshot was installed: the log begins after `index`, whatever the writes that are still
    /// outstanding, which can hold only term and vote, found it to be.
    pub(super) fn installed(&mut self, index: Index) {
        assert!(
            self.draft.entries.is_empty() && self.draft.truncate_from.is_none(),
            "the log was not to change"
        );
        self.commit_mark.written(index);
        for outstanding in &mut self.outstanding {
            if !planted(Mutant::WriteOutlivesInstall) {
                outstanding.durable_to = outstanding.durable_to.min(index);
            }
        }
    }

    /// Write `sequence` and all before it are done. Returns up to where that makes the log durable;
    /// `None` if it is no news.
    ///
    /// # Panics
    /// If there never was such a write.
    pub(super) fn finish(&mut self, sequence: u64) -> Option<Index> {
        assert!(
            sequence <= self.issued,
            "write {sequence} is said to be done, but only {} were issued",
            self.issued
        );
        let mut durable_to = None;
        while let Some(oldest) = self.outstanding.front() {
            if oldest.sequence > sequence {
                break;
            }
            durable_to = durable_to.max(Some(oldest.durable_to));
            self.outstanding.pop_front();
        }
        self.done = self.done.max(sequence);
        durable_to
    }

    /// When the oldest outstanding write was issued.
    pub(super) fn oldest_since(&self) -> Option<Time> {
        self.outstanding.front().map(|oldest| oldest.since)
    }

    /// The commit index to be written to the disk now, if no write has carried it for an
    /// `interval`.
    pub(super) fn mark_commit(
        &mut self,
        now: Time,
        commit: Index,
        interval: Duration,
    ) -> Option<Index> {
        self.commit_mark.advance(now, commit, interval)
    }

    /// When [`Writes::mark_commit`] should be asked again.
    pub(super) fn commit_mark_deadline(&self) -> Option<Time> {
        self.commit_mark.deadline()
    }

    /// Keeps a message until write `sequence` is done, once even if it is withheld twice.
    pub(super) fn withhold(&mut self, sequence: u64, message: Message) {
        let is_known = self.withheld.iter().any(|withheld| withheld.message == message);
        if !is_known && self.withheld.len() < WITHHELD_LIMIT {
            self.withheld.push_back(Withheld { sequence, message });
        }
    }

    /// The next message whose write is done, in the order in which they were withheld.
    pub(super) fn release(&mut self) -> Option<Message> {
        let withheld = self.withheld.pop_front_if(|withheld| withheld.sequence <= self.done)?;
        Some(withheld.message)
    }

    /// Drops what is withheld: it speaks of a term that is over.
    pub(super) fn forget_withheld(&mut self) {
        self.withheld.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{Body, Entry, NodeId, Payload, Stamp, Term};

    fn entry(index: u64, term: u64) -> Entry {
        Entry { index: Index(index), term: Term(term), stamp: Stamp(0), payload: Payload::Noop }
    }

    #[test]
    fn one_step_is_one_write_and_numbers_count_up() {
        let mut writes = Writes::default();
        assert_eq!(writes.issue(Time(1), Index(0), Index(0)), None);
        let hard_state = HardState { term: Term(1), vote: Some(NodeId(1)), ..HardState::default() };
        assert_eq!(writes.set_hard_state(hard_state), 1);
        writes.append(vec![entry(1, 1)].into());
        writes.append(vec![entry(2, 1)].into());
        let write = writes.issue(Time(1), Index(2), Index(0)).unwrap();
        assert_eq!(
            (write.sequence, write.hard_state, write.entries.len()),
            (1, Some(hard_state), 2)
        );
        assert!(!writes.is_hard_state_durable());
        assert_eq!(writes.finish(1), Some(Index(2)));
        assert!(writes.is_hard_state_durable());
        assert_eq!(writes.finish(1), None);
    }

    #[test]
    fn a_late_completion_makes_no_replaced_entries_durable() {
        let mut writes = Writes::default();
        writes.append((1..=6).map(|index| entry(index, 1)).collect());
        writes.issue(Time(1), Index(6), Index(0)).unwrap();
        writes.truncate_from(Index(5));
        writes.append(vec![entry(5, 2), entry(6, 2)].into());
        let second = writes.issue(Time(2), Index(6), Index(0)).unwrap();
        assert_eq!(second.truncate_from, Some(Index(5)));
        assert_eq!(writes.finish(1), Some(Index(4)));
        assert_eq!(writes.finish(2), Some(Index(6)));
    }

    #[test]
    fn truncation_within_the_draft_needs_no_truncation_on_disk() {
        let mut writes = Writes::default();
        writes.append(vec![entry(1, 1), entry(2, 1), entry(3, 1)].into());
        writes.truncate_from(Index(2));
        writes.append(vec![entry(2, 2)].into());
        let write = writes.issue(Time(1), Index(2), Index(0)).unwrap();
        assert_eq!(
            (write.truncate_from, write.entries),
            (None, vec![entry(1, 1), entry(2, 2)].into())
        );
        writes.append(vec![entry(3, 2)].into());
        writes.truncate_from(Index(2));
        writes.append(vec![entry(2, 3)].into());
        let write = writes.issue(Time(1), Index(2), Index(0)).unwrap();
        assert_eq!((write.truncate_from, write.entries), (Some(Index(2)), entry(2, 3).into()));
    }

    #[test]
    fn withheld_messages_leave_in_order_once_their_write_is_done() {
        let message = |to, granted| Message {
            from: NodeId(1),
            to: NodeId(to),
            term: Term(1),
            body: Body::Vote { granted },
        };
        let mut writes = Writes::default();
        let first = writes.set_hard_state(HardState::default());
        writes.issue(Time(1), Index(0), Index(0)).unwrap();
        let second = writes.set_hard_state(HardState::default());
        writes.issue(Time(1), Index(0), Index(0)).unwrap();
        writes.withhold(first, message(2, true));
        writes.withhold(first, message(2, true));
        writes.withhold(second, message(3, true));
        assert_eq!(writes.release(), None);
        writes.finish(first);
        assert_eq!(writes.release(), Some(message(2, true)));
        assert_eq!(writes.release(), None, "once, and the other still waits");
        writes.finish(second);
        assert_eq!(writes.release(), Some(message(3, true)));
    }

    #[test]
    fn truncations_of_one_step_reach_the_disk_as_the_earliest() {
        let mut writes = Writes::default();
        writes.truncate_from(Index(5));
        writes.truncate_from(Index(3));
        writes.truncate_from(Index(4));
        let write = writes.issue(Time(1), Index(2), Index(0)).expect("a truncation is a write");
        assert_eq!((write.truncate_from, write.entries.len()), (Some(Index(3)), 0));
        writes.append(vec![entry(3, 2), entry(4, 2)].into());
        writes.truncate_from(Index(3));
        assert_eq!(writes.issue(Time(1), Index(2), Index(0)), None, "the disk never had what goes");
    }

    #[test]
    fn an_installation_has_a_number_among_the_writes() {
        let mut writes = Writes::default();
        let first = writes.set_hard_state(HardState::default());
        writes.issue(Time(1), Index(4), Index(0)).unwrap();
        writes.finish(first);
        let install = writes.issue_install(Time(2));
        assert_eq!(install, first + 1);
        assert_eq!(writes.oldest_since(), Some(Time(2)), "it may stall as a write may");
        let last = writes.set_hard_state(HardState::default());
        let write = writes.issue(Time(3), Index(4), Index(0)).unwrap();
        assert_eq!(write.sequence, install + 1);
        assert_eq!(writes.finish(install), Some(Index(0)), "of itself it makes nothing durable");
        writes.installed(Index(9));
        assert!(!writes.is_done(last));
        assert_eq!(writes.finish(last), Some(Index(4)));
    }

    #[test]
    fn an_installed_snapshot_carries_its_commit_index() {
        let mut writes = Writes::default();
        let interval = Duration::from_nanos(10);
        assert_eq!(writes.mark_commit(Time(1), Index(3), interval), None);
        writes.installed(Index(9));
        assert_eq!(writes.mark_commit(Time(90), Index(9), interval), None);
        assert_eq!(writes.commit_mark_deadline(), None);
    }

    #[test]
    fn what_is_withheld_is_bounded_and_ends_with_its_term() {
        let mut writes = Writes::default();
        let sequence = writes.set_hard_state(HardState::default());
        writes.issue(Time(1), Index(0), Index(0)).unwrap();
        let message = |to: usize| {
            let body = Body::Vote { granted: true };
            Message { from: NodeId(1), to: NodeId(to as u64), term: Term(1), body }
        };
        for to in 0..=WITHHELD_LIMIT {
            writes.withhold(sequence, message(to));
        }
        assert_eq!(writes.withheld.len(), WITHHELD_LIMIT);
        writes.forget_withheld();
        writes.finish(sequence);
        assert_eq!(writes.release(), None);
    }

    #[test]
    fn what_is_learnt_of_a_peer_goes_with_the_next_write() {
        let mut writes = Writes::default();
        let record = PeerRecord::default();
        writes.record_peer(DiskId(7), record);
        assert_eq!(writes.issue(Time(1), Index(0), Index(0)), None, "it makes no write by itself");
        writes.set_hard_state(HardState::default());
        let write = writes.issue(Time(1), Index(0), Index(0)).unwrap();
        assert_eq!(write.peer_records, [(DiskId(7), record)]);
        writes.set_hard_state(HardState::default());
        assert_eq!(writes.issue(Time(1), Index(0), Index(0)).unwrap().peer_records, []);
    }
}
