//! The log as the core knows it: the term of every index, the last entries, the configurations,
//! four marks, and the snapshot that stands for what is gone.
//!
//! ```text
//!   index    1  2  3  4  5  6  7  8  9 10 11
//!   term        1  1  2  2  2  2  4  4  4  4     known from the base (here 2) on (`terms`);
//!                                                1 and 2 are compacted
//!   tail                 [5  6  7  8  9 10 11]   in memory; 3 and 4 must be fetched
//!   marks          ^3    ^5       ^8    ^10
//!            applied  handed out  commit durable
//! ```
//!
//! `durable` may be behind `commit` (others were quicker) or ahead of it. Nothing at or below
//! `commit` is ever replaced; it goes only when a snapshot includes it: base <= snapshot <= commit.

use std::collections::VecDeque;

use crate::types::{
    Configuration, Entries, Entry, Index, NodeId, Payload, Proposal, Saved, SnapshotMeta, Stamp,
    Term, TermTable,
};

use super::ConfigError;
use super::backlog::Backlog;
use super::mutants::{Mutant, planted};
use super::tail::Tail;

/// Entries that were handed out together to be applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct ApplyingBatch {
    last: Index,
    bytes: usize,
}

/// The log, its marks, and the window of what is being applied.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Log {
    terms: TermTable,
    tail: Tail,
    tail_limit_bytes: usize,
    /// The newest one on disk.
    snapshot: Option<SnapshotMeta>,
    /// In force as of the snapshot; the initial one without any.
    first_configuration: Configuration,
    /// The entry that brought it: 0 for the initial one, the snapshot's for one that was installed
    /// or found with it.
    first_configuration_index: Index,
    /// The configuration in force has changed since that was last asked.
    has_configuration_news: bool,
    /// Those in the log after the snapshot.
    configurations: Vec<(Index, Configuration)>,
    durable: Index,
    commit: Index,
    handed_out: Index,
    applied: Index,
    /// Batches that are being applied, oldest first.
    applying: VecDeque<ApplyingBatch>,
    applying_bytes: usize,
    /// What is committed and not applied.
    backlog: Backlog,
}

impl Log {
    pub(super) fn new(
        saved: Saved,
        tail_limit_bytes: usize,
        backlog_bytes: usize,
    ) -> Result<Log, ConfigError> {
        let last = saved.terms.last_index();
        let wrong = |what: String| Err(ConfigError::Saved(what));
        let base = saved.terms.base();
        let included = saved.snapshot.as_ref().map_or(Index(0), |snapshot| snapshot.index);
        let included_term = saved.snapshot.as_ref().map_or(Term(0), |snapshot| snapshot.term);
        if base > included
            || (included > base && saved.terms.term_at(included) != Some(included_term))
        {
            return wrong(format!(
                "its log begins after {base}, its snapshot is of {included} (term {included_term})"
            ));
        }
        if included > last || (included == base && saved.terms.term_at(base) != Some(included_term))
        {
            return wrong(format!(
                "its snapshot is of {included} (term {included_term}), its log of {base} to {last}"
            ));
        }
        let first = last.0.checked_sub(saved.tail.len() as u64);
        for (position, entry) in saved.tail.iter().enumerate() {
            let expected = first.map(|first| Index(first + 1 + position as u64));
            if Some(entry.index) != expected || saved.terms.term_at(entry.index) != Some(entry.term)
            {
                return wrong(format!(
                    "entry {} of term {} does not fit the log's terms",
                    entry.index, entry.term
                ));
            }
        }
        if saved.configurations.iter().any(|&(index, _)| index > last || index <= included)
            || !saved.configurations.is_sorted_by(|a, b| a.0 < b.0)
        {
            return wrong("its configurations are out of order".to_owned());
        }
        if saved.terms.last_term() > saved.hard_state.term {
            return wrong(format!(
                "the log is of term {}, beyond {:?}",
                saved.terms.last_term(),
                saved.hard_state
            ));
        }
        let commit = included.max(saved.commit);
        if commit > last {
            return wrong(format!(
                "it says that {commit} is committed, beyond its last entry {last}"
            ));
        }
        let mut tail = Tail::default();
        tail.push(saved.tail.into());
        let mut log = Log {
            terms: saved.terms,
            tail,
            tail_limit_bytes,
            first_configuration: saved
                .snapshot
                .as_ref()
                .map_or(saved.initial_configuration, |s| s.configuration.clone()),
            snapshot: saved.snapshot,
            first_configuration_index: included,
            has_configuration_news: false,
            configurations: saved.configurations,
            durable: last,
            commit: included,
            handed_out: included,
            applied: included,
            applying: VecDeque::new(),
            applying_bytes: 0,
            backlog: Backlog::new(backlog_bytes),
        };
        log.commit_to(commit);
        Ok(log)
    }

    pub(super) fn terms(&self) -> &TermTable {
        &self.terms
    }

    /// The index before the first one that can be read from this node's disk.
    pub(super) fn base(&self) -> Index {
        self.terms.base()
    }

    pub(super) fn snapshot(&self) -> Option<&SnapshotMeta> {
        self.snapshot.as_ref()
    }

    /// What the newest snapshot includes; 0 without one.
    pub(super) fn snapshot_index(&self) -> Index {
        self.snapshot.as_ref().map_or(Index(0), |snapshot| snapshot.index)
    }

    pub(super) fn last_index(&self) -> Index {
        self.terms.last_index()
    }

    pub(super) fn last_term(&self) -> Term {
        self.terms.last_term()
    }

    pub(super) fn durable(&self) -> Index {
        self.durable
    }

    pub(super) fn commit(&self) -> Index {
        self.commit
    }

    pub(super) fn applied(&self) -> Index {
        self.applied
    }

    /// Begins with a state machine without state: returns the snapshot that it must restore, if
    /// any.
    pub(super) fn begin_restore(&mut self) -> Option<SnapshotMeta> {
        let meta = self.snapshot.clone()?;
        self.applied = Index(0);
        Some(meta)
    }

    pub(super) fn handed_out(&self) -> Index {
        self.handed_out
    }

    /// The configuration in force: the last one in the log, committed or not (§4.1).
    pub(super) fn configuration(&self) -> &Configuration {
        if planted(Mutant::ConfigurationWhenCommitted) {
            return self.configuration_at(self.commit);
        }
        self.configurations
            .last()
            .map_or(&self.first_configuration, |(_, configuration)| configuration)
    }

    /// The entry that brought the configuration in force.
    pub(super) fn configuration_index(&self) -> Index {
        self.configurations.last().map_or(self.first_configuration_index, |&(index, _)| index)
    }

    /// Whether `node` votes in the configuration in force, or in one that the cluster may still
    /// use: the one as of the commit index, or any after it.
    ///
    /// ```text
    ///  node 1   {1 2} x {2}     it has removed itself, and no other node knows: if it stopped
    ///  node 2   {1 2} x         now, node 2 could not be elected, for node 1 has the longer log
    /// ```
    pub(super) fn may_vote(&self, node: NodeId) -> bool {
        if self.configuration().is_voter(node) {
            return true;
        }
        if self.configuration_index() <= self.commit || planted(Mutant::RemovalSilencesAtOnce) {
            return false;
        }
        let committed = self.configurations.iter().rposition(|&(index, _)| index <= self.commit);
        let first = Some(&self.first_configuration).filter(|_| committed.is_none());
        let open = self.configurations[committed.unwrap_or(0)..]
            .iter()
            .map(|(_, configuration)| configuration);
        first.into_iter().chain(open).any(|configuration| configuration.is_voter(node))
    }

    /// Whether a configuration after `index`, known to be committed, has `node` without a vote.
    pub(super) fn is_without_vote_after(&self, node: NodeId, index: Index) -> bool {
        let is_later = |at: Index| index < at && at <= self.commit;
        let first = (self.first_configuration_index, &self.first_configuration);
        let later = self.configurations.iter().map(|(at, configuration)| (*at, configuration));
        std::iter::once(first)
            .chain(later)
            .any(|(at, configuration)| is_later(at) && !configuration.is_voter(node))
    }

    /// Returns whether another configuration is in force than at the last call.
    pub(super) fn take_configuration_change(&mut self) -> bool {
        std::mem::take(&mut self.has_configuration_news)
    }

    /// The configuration in force as of `index`, which the newest snapshot must not be beyond.
    pub(super) fn configuration_at(&self, index: Index) -> &Configuration {
        assert!(
            index >= self.snapshot_index(),
            "{index} is compacted up to {}",
            self.snapshot_index()
        );
        let earlier = self.configurations.iter().rev().find(|&&(at, _)| at <= index);
        earlier.map_or(&self.first_configuration, |(_, configuration)| configuration)
    }

    /// Whether a log with this end is at least as good as ours (§3.6.1): a later last term, or the
    /// same and as long.
    pub(super) fn is_up_to_date(&self, last_term: Term, last_index: Index) -> bool {
        (last_term, last_index) >= (self.last_term(), self.last_index())
    }

    /// The last entry's stamp; `None` while that entry must still be fetched.
    pub(super) fn last_stamp(&self) -> Option<Stamp> {
        match self.tail.last() {
            Some(entry) => Some(entry.stamp),
            None if self.last_index() == Index(0) => Some(Stamp(0)),
            None => {
                self.snapshot.as_ref().filter(|s| s.index == self.last_index()).map(|s| s.stamp)
            }
        }
    }

    /// The first index in memory; the one after the last if there is none.
    pub(super) fn first_in_tail(&self) -> Index {
        self.tail.first_index().unwrap_or(self.last_index().next())
    }

    /// The entry at `index`, if it is in memory.
    pub(super) fn entry(&self, index: Index) -> Option<&Entry> {
        self.tail.get(index)
    }

    /// Entries in memory from `from`, not beyond `to`: as many as fit `limit_bytes`, but at least
    /// one.
    ///
    /// # Panics
    /// If `from` is not in memory or is beyond `to`.
    pub(super) fn entries(&self, from: Index, to: Index, limit_bytes: usize) -> Entries {
        let first = self.first_in_tail();
        assert!(
            first <= from && from <= to && to <= self.last_index(),
            "{from} to {to} is not in memory from {first}"
        );
        self.tail.entries(from, to, limit_bytes)
    }

    /// The bytes of the entries in memory from `from` to `to`.
    pub(super) fn bytes_of(&self, from: Index, to: Index) -> usize {
        let first = self.first_in_tail();
        assert!(
            first <= from && to <= self.last_index(),
            "{from} to {to} is not in memory from {first}"
        );
        if from > to { 0 } else { self.tail.bytes_of(from, to) }
    }

    /// Adds the next entries. A configuration is in force from its entry on.
    pub(super) fn append(&mut self, entries: &Entries) {
        for entry in entries {
            self.terms.append(entry.index, entry.term);
            if let Payload::Configuration(configuration) = &entry.payload {
                self.configurations.push((entry.index, (**configuration).clone()));
                self.has_configuration_news = true;
            }
        }
        self.tail.push(entries.clone());
    }

    /// Removes `from` and all that follow; the configuration before them is in force again.
    ///
    /// # Panics
    /// If that would remove what is committed: the cluster's promise would be broken.
    pub(super) fn truncate_from(&mut self, from: Index) {
        assert!(
            from > self.commit,
            "entry {from} conflicts with the leader's although {} is committed",
            self.commit
        );
        assert!(self.applied <= self.handed_out && self.handed_out <= self.commit);
        self.terms.truncate_from(from);
        let is_removed = self.configuration_index() >= from;
        if !planted(Mutant::TruncationKeepsConfiguration) {
            self.configurations.retain(|&(index, _)| index < from);
        }
        self.has_configuration_news |= is_removed;
        self.tail.truncate_from(from);
        self.durable = self.durable.min(from.previous());
    }

    /// Marks the log as durable up to `index`.
    pub(super) fn mark_durable(&mut self, index: Index) {
        assert!(
            index <= self.last_index(),
            "{index} is durable, but the log ends at {}",
            self.last_index()
        );
        self.durable = self.durable.max(index);
    }

    /// Everything up to `index` is committed.
    ///
    /// # Panics
    /// If the log does not reach that far, or the mark would go back.
    pub(super) fn commit_to(&mut self, index: Index) {
        let (commit, last) = (self.commit, self.last_index());
        assert!(
            commit <= index && index <= last,
            "commit goes from {commit} to {index} in a log up to {last}"
        );
        let bytes = self.bytes_or_estimate(commit.next(), index);
        self.commit = index;
        if bytes > 0 {
            self.backlog.committed(index, bytes);
        }
    }

    /// The bytes of the entries from `from` to `to`; those that are not in memory are taken to be
    /// as long as those that are.
    fn bytes_or_estimate(&self, from: Index, to: Index) -> usize {
        let first = self.first_in_tail();
        let known = if to >= first { self.bytes_of(from.max(first), to) } else { 0 };
        let unknown =
            usize::try_from(first.0.min(to.0 + 1).saturating_sub(from.0)).unwrap_or(usize::MAX);
        if unknown == 0 {
            return known;
        }
        let last = self.last_index();
        let entries = usize::try_from(last.0 + 1 - first.0).unwrap_or(usize::MAX);
        let average =
            self.bytes_of(first, last).checked_div(entries).unwrap_or(Proposal::OVERHEAD_BYTES);
        known.saturating_add(unknown.saturating_mul(average))
    }

    /// What is committed and not applied.
    pub(super) fn backlog(&self) -> &Backlog {
        &self.backlog
    }

    /// Forgets old entries: not the last, nor any that is not both durable and committed.
    pub(super) fn trim(&mut self) {
        self.tail.trim(self.tail_limit_bytes, self.durable.min(self.commit));
    }

    /// This node's own snapshot is on disk.
    ///
    /// # Panics
    /// If it includes what is not committed, or is not of this log.
    pub(super) fn snapshot_taken(&mut self, meta: SnapshotMeta) {
        assert!(
            meta.index <= self.commit,
            "a snapshot of {}, but {} is committed",
            meta.index,
            self.commit
        );
        assert!(
            self.terms.term_at(meta.index) == Some(meta.term),
            "{} is not of term {}",
            meta.index,
            meta.term
        );
        self.keep_configurations(&meta);
        self.snapshot = Some(meta);
    }

    /// Removes the entries up to `base`.
    ///
    /// # Panics
    /// If no snapshot includes them, or the state machine lacks them.
    pub(super) fn compact_to(&mut self, base: Index) {
        let included = self.snapshot_index();
        assert!(base <= included, "compacting to {base} with a snapshot of {included}");
        let applied = self.applied;
        assert!(base <= applied, "compacting to {base}, but only {applied} is applied");
        self.terms.compact_to(base);
    }

    /// A leader's snapshot takes the log's place, with all that it includes. What follows in the
    /// log stays only if it follows from it, that is, if the log has the snapshot's last entry;
    /// otherwise all of it goes, for it continues another history:
    ///
    /// ```text
    ///  index      1 2 3 4 5 6 7
    ///  ours       1 1 2 2 2 2 2        the snapshot includes 5 of term 3: 6 and 7 of term 2
    ///  snapshot   1 1 1 3 3            would follow 5 of term 3, as in no leader's log
    /// ```
    ///
    /// # Panics
    /// If as much is committed here: what is applied cannot be taken back.
    pub(super) fn install(&mut self, meta: SnapshotMeta) {
        let (index, term) = (meta.index, meta.term);
        let is_blind = planted(Mutant::InstallBelowCommit);
        assert!(
            index > self.commit || is_blind,
            "installing {index}, but {} is committed",
            self.commit
        );
        if self.terms.term_at(index) == Some(term) {
            self.durable = self.durable.max(index);
            self.configurations.retain(|&(at, _)| at > index);
            self.terms.compact_to(index);
        } else {
            let all = self.tail.take();
            self.terms = TermTable::after(index, term);
            self.configurations.clear();
            self.durable = index;
            if planted(Mutant::KeepSuffixAtInstall) {
                let suffix = all.iter().skip_while(|entry| entry.index <= index).cloned();
                let suffix: Entries =
                    suffix.map(|entry| Entry { term: entry.term.max(term), ..entry }).collect();
                if suffix.first().is_some_and(|entry| entry.index == index.next()) {
                    self.append(&suffix);
                }
            }
        }
        if !planted(Mutant::SnapshotWithoutConfiguration) {
            self.first_configuration = meta.configuration.clone();
            self.first_configuration_index = index;
            self.has_configuration_news = true;
        }
        self.commit = index;
        self.backlog.clear();
        self.handed_out = index;
        self.snapshot = Some(meta);
    }

    /// A leader's snapshot takes the place of the state machine's state, which had gone wrong, or
    /// of a snapshot that cannot be read. All that it includes is committed here, and the log
    /// stays: what follows the snapshot is applied again.
    ///
    /// # Panics
    /// If the log does not hold its last entry, or what follows it.
    pub(super) fn replace_state(&mut self, meta: SnapshotMeta) {
        let (index, commit) = (meta.index, self.commit);
        assert!(
            index <= commit,
            "a state of {index} takes the place of another, but {commit} is committed"
        );
        assert!(
            self.terms.term_at(index) == Some(meta.term),
            "{index} is not of term {}",
            meta.term
        );
        assert!(index >= self.snapshot_index(), "{index} is before the snapshot");
        self.keep_configurations(&meta);
        self.handed_out = index;
        self.applying.clear();
        self.applying_bytes = 0;
        self.snapshot = Some(meta);
    }

    /// The configurations up to a snapshot of this log are in the snapshot.
    fn keep_configurations(&mut self, meta: &SnapshotMeta) {
        let includes = |&&(index, _): &&(Index, Configuration)| index <= meta.index;
        if let Some(&(latest, _)) = self.configurations.iter().rev().find(includes) {
            self.first_configuration_index = latest;
        }
        self.configurations.retain(|&(index, _)| index > meta.index);
        self.first_configuration = meta.configuration.clone();
    }

    /// Brings back the last entry after a start with an empty tail.
    pub(super) fn restore_last(&mut self, last: Entries) {
        if self.tail.is_empty() && last.last().is_some_and(|entry| entry.index == self.last_index())
        {
            self.tail.push(last);
        }
    }

    /// How many bytes may be handed out to be applied now; 0 if nothing is to be applied or the
    /// window is full.
    pub(super) fn apply_window(&self, limit_bytes: usize) -> usize {
        if self.handed_out < self.commit {
            limit_bytes.saturating_sub(self.applying_bytes)
        } else {
            0
        }
    }

    /// These entries are handed out to be applied.
    pub(super) fn hand_out(&mut self, entries: &Entries) {
        let bytes = entries.size_bytes();
        let (first, last) =
            (entries.first().expect("at least one"), entries.last().expect("at least one"));
        let handed_out = self.handed_out;
        let is_next = first.index == handed_out.next() || planted(Mutant::InstallBelowCommit);
        assert!(is_next, "entry {} is applied after {handed_out}", first.index);
        assert!(
            last.index <= self.commit,
            "entry {} is applied but {} is committed",
            last.index,
            self.commit
        );
        self.handed_out = last.index;
        self.applying.push_back(ApplyingBatch { last: last.index, bytes });
        self.applying_bytes += bytes;
    }

    /// The state machine has applied everything up to `index`.
    ///
    /// # Panics
    /// If that was never handed out.
    pub(super) fn applied_to(&mut self, index: Index) {
        assert!(
            index <= self.handed_out,
            "{index} is applied but only {} was handed out",
            self.handed_out
        );
        self.applied = self.applied.max(index);
        self.backlog.applied(self.applied);
        while let Some(&ApplyingBatch { last, bytes }) = self.applying.front() {
            if last > self.applied {
                break;
            }
            self.applying.pop_front();
            self.applying_bytes -= bytes;
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::types::{HardState, Member};

    fn configuration(nodes: &[u64]) -> Configuration {
        Configuration::of_voters(nodes.iter().map(|&node| (NodeId(node), Member::default())))
    }

    fn saved(terms: &[u64]) -> Saved {
        let mut table = TermTable::new();
        for (position, &term) in terms.iter().enumerate() {
            table.append(Index(position as u64 + 1), Term(term));
        }
        let hard_state = HardState { term: table.last_term(), ..HardState::default() };
        Saved {
            hard_state,
            initial_configuration: configuration(&[1, 2, 3]),
            snapshot: None,
            configurations: vec![],
            terms: table,
            tail: vec![],
            ..Saved::default()
        }
    }

    fn command(index: u64, term: u64) -> Entry {
        let payload = Payload::Command(Bytes::from_static(&[7; 68]));
        Entry { index: Index(index), term: Term(term), stamp: Stamp(index), payload }
    }

    fn log_of(entries: u64, tail_limit_bytes: usize) -> Log {
        let mut log = Log::new(saved(&[]), tail_limit_bytes, 1 << 20).unwrap();
        (1..=entries).for_each(|index| log.append(&command(index, 1).into()));
        log
    }

    #[test]
    fn keeps_what_is_not_both_durable_and_committed() {
        let mut log = log_of(10, 250);
        log.trim();
        assert_eq!(log.first_in_tail(), Index(1));
        log.mark_durable(Index(6));
        log.commit_to(Index(4));
        log.trim();
        assert_eq!(log.first_in_tail(), Index(5));
        log.commit_to(Index(10));
        log.mark_durable(Index(10));
        log.trim();
        assert_eq!(log.first_in_tail(), Index(9), "two entries of 100 bytes fit 250");
        assert_eq!((log.entry(Index(8)), log.entry(Index(9)).unwrap().index), (None, Index(9)));
        assert_eq!(log.terms().term_at(Index(1)), Some(Term(1)), "terms stay known");
    }

    #[test]
    fn entries_stop_at_the_limit_but_never_before_the_first() {
        let log = log_of(5, 1 << 20);
        assert_eq!(log.entries(Index(2), Index(5), 250).len(), 2);
        assert_eq!(log.entries(Index(2), Index(5), 1).len(), 1);
        let two = log.entries(Index(2), Index(3), 1 << 20);
        assert_eq!((two.size_bytes(), two), (200, vec![command(2, 1), command(3, 1)].into()));
        assert_eq!(log.bytes_of(Index(2), Index(5)), 400);
    }

    #[test]
    fn a_configuration_is_in_force_until_its_entry_is_truncated() {
        let mut log = log_of(2, 1 << 20);
        assert_eq!(log.configuration(), &configuration(&[1, 2, 3]));
        let payload = Payload::Configuration(configuration(&[1, 2]).into());
        log.append(&Entry { payload, ..command(3, 1) }.into());
        assert_eq!(log.configuration(), &configuration(&[1, 2]));
        log.mark_durable(Index(3));
        log.truncate_from(Index(3));
        assert_eq!(log.configuration(), &configuration(&[1, 2, 3]));
        assert_eq!((log.durable(), log.last_index()), (Index(2), Index(2)));
    }

    #[test]
    #[should_panic(expected = "is committed")]
    fn what_is_committed_is_never_removed() {
        let mut log = log_of(5, 1 << 20);
        log.commit_to(Index(3));
        log.truncate_from(Index(3));
    }

    #[test]
    fn applies_within_its_window() {
        let mut log = log_of(5, 1 << 20);
        assert_eq!(log.apply_window(250), 0, "nothing is committed");
        log.commit_to(Index(5));
        let batch = log.entries(Index(1), Index(5), log.apply_window(250));
        assert_eq!(batch.len(), 2);
        log.hand_out(&batch);
        assert_eq!(log.apply_window(200), 0);
        log.applied_to(Index(1));
        assert_eq!(log.apply_window(200), 0, "the batch is not through");
        log.applied_to(Index(2));
        assert_eq!(log.apply_window(200), 200);
    }

    #[test]
    fn refuses_saved_state_that_contradicts_itself() {
        let refused = |saved| matches!(Log::new(saved, 1, 1), Err(ConfigError::Saved(_)));
        assert!(!refused(saved(&[1, 1, 2])));
        assert!(refused(Saved { tail: vec![command(3, 1)], ..saved(&[1, 1, 2]) }), "wrong term");
        assert!(
            refused(Saved { tail: vec![command(2, 1)], ..saved(&[1, 1, 2]) }),
            "a gap at the end"
        );
        assert!(refused(Saved { tail: vec![command(1, 1); 4], ..saved(&[1, 1, 2]) }), "too many");
        assert!(
            refused(Saved { hard_state: HardState::default(), ..saved(&[1, 1, 2]) }),
            "a log from the future"
        );
        assert!(refused(Saved {
            configurations: vec![(Index(4), configuration(&[1]))],
            ..saved(&[1, 1, 2])
        }));
    }

    fn snapshot(index: u64, term: u64, nodes: &[u64]) -> SnapshotMeta {
        let (index, term, stamp) = (Index(index), Term(term), Stamp(index));
        SnapshotMeta { index, term, stamp, configuration: configuration(nodes), digest: None }
    }

    /// Six entries of term 1, of which the second and the fifth are configurations.
    fn with_two_configurations() -> Log {
        let mut log = log_of(0, 1 << 20);
        for index in 1..=6 {
            let of_nodes = |nodes: &[u64]| Payload::Configuration(configuration(nodes).into());
            let entry = match index {
                2 => Entry { payload: of_nodes(&[1, 2]), ..command(2, 1) },
                5 => Entry { payload: of_nodes(&[1]), ..command(5, 1) },
                _ => command(index, 1),
            };
            log.append(&entry.into());
        }
        log
    }

    #[test]
    fn an_installed_snapshot_replaces_the_configurations_up_to_it() {
        let mut log = with_two_configurations();
        log.install(snapshot(3, 1, &[1, 2]));
        assert_eq!(log.configuration_index(), Index(5), "what follows in the log stays in force");
        assert_eq!(log.configuration(), &configuration(&[1]));
        assert_eq!(log.configuration_at(Index(3)), &configuration(&[1, 2]));
        log.truncate_from(Index(5));
        assert_eq!(log.configuration_index(), Index(3), "now it is that of the snapshot");
    }

    #[test]
    fn a_snapshot_of_this_log_keeps_where_its_configuration_is_from() {
        for replaces in [false, true] {
            let mut log = with_two_configurations();
            log.commit_to(Index(4));
            let meta = snapshot(3, 1, &[1, 2]);
            if replaces {
                log.replace_state(meta)
            } else {
                log.snapshot_taken(meta)
            }
            assert_eq!(log.configuration_index(), Index(5));
            assert_eq!(log.configuration_at(Index(4)), &configuration(&[1, 2]));
            log.truncate_from(Index(5));
            assert_eq!(log.configuration_index(), Index(2));
            assert_eq!(log.configuration(), &configuration(&[1, 2]));
        }
    }

    #[test]
    fn the_last_stamp_is_that_of_a_snapshot_without_a_tail() {
        let mut log = log_of(0, 1 << 20);
        assert_eq!(log.last_stamp(), Some(Stamp(0)));
        log.install(snapshot(3, 1, &[1, 2]));
        assert_eq!(log.last_stamp(), Some(Stamp(3)));
        let read_back = Saved { snapshot: Some(snapshot(1, 1, &[1])), ..saved(&[1, 1]) };
        let mut log = Log::new(read_back, 1 << 20, 1 << 20).unwrap();
        assert_eq!(log.last_stamp(), None, "the last entry is to be read");
        log.restore_last(command(2, 1).into());
        assert_eq!(log.last_stamp(), Some(Stamp(2)));
    }

    #[test]
    fn a_restore_at_the_start_begins_before_everything() {
        let read_back = Saved { snapshot: Some(snapshot(2, 1, &[1])), ..saved(&[1, 1, 1]) };
        let mut log = Log::new(read_back, 1 << 20, 1 << 20).unwrap();
        assert_eq!(log.begin_restore().map(|meta| meta.index), Some(Index(2)));
        assert_eq!(log.applied(), Index(0));
        assert_eq!(log_of(3, 1 << 20).begin_restore(), None);
    }
    #[test]
    fn a_snapshot_that_is_not_of_its_log_is_refused() {
        let refused = |saved| matches!(Log::new(saved, 1, 1), Err(ConfigError::Saved(_)));
        let with = |snapshot, saved| Saved { snapshot: Some(snapshot), ..saved };
        assert!(!refused(with(snapshot(2, 1, &[1]), saved(&[1, 1, 2]))));
        assert!(refused(with(snapshot(2, 2, &[1]), saved(&[1, 1, 2]))), "wrong term");
        assert!(refused(with(snapshot(4, 2, &[1]), saved(&[1, 1, 2]))), "beyond the end");
        let mut compacted = saved(&[1, 1, 2]);
        compacted.terms.compact_to(Index(2));
        assert!(!refused(with(snapshot(2, 1, &[1]), compacted.clone())));
        assert!(refused(with(snapshot(2, 2, &[1]), compacted.clone())), "wrong term at the base");
        assert!(refused(with(snapshot(1, 1, &[1]), compacted.clone())), "a gap behind it");
        assert!(refused(compacted), "nothing stands for what is gone");
    }

    #[test]
    fn a_saved_configuration_is_not_within_the_snapshot() {
        let refused = |index| {
            let configurations = vec![(Index(index), configuration(&[1]))];
            let snapshot = Some(snapshot(2, 1, &[1]));
            let saved = Saved { configurations, snapshot, ..saved(&[1, 1, 2]) };
            matches!(Log::new(saved, 1, 1), Err(ConfigError::Saved(_)))
        };
        assert_eq!([1, 2, 3].map(refused), [true, true, false]);
    }

    #[test]
    fn only_nodes_without_a_vote_are_without_one() {
        let mut log = with_two_configurations();
        log.commit_to(Index(4));
        let is_without = |log: &Log, node| log.is_without_vote_after(NodeId(node), Index(1));
        assert_eq!([1, 2, 3].map(|node| is_without(&log, node)), [false, false, true]);
        assert!(!log.is_without_vote_after(NodeId(3), Index(2)), "it must be later");
        log.commit_to(Index(5));
        assert_eq!([1, 2, 3].map(|node| is_without(&log, node)), [false, true, true]);
    }

    #[test]
    fn entries_not_in_memory_are_taken_to_be_as_long() {
        let mut log = log_of(10, 250);
        log.mark_durable(Index(10));
        log.commit_to(Index(10));
        log.trim();
        assert_eq!(log.first_in_tail(), Index(9));
        let bytes = |from, to| log.bytes_or_estimate(Index(from), Index(to));
        assert_eq!(bytes(1, 10), 1_000);
        assert_eq!(bytes(1, 3), 300);
        assert_eq!(bytes(8, 9), 200);
        assert_eq!((bytes(9, 10), bytes(10, 10)), (200, 100));
    }

    #[test]
    fn an_installed_snapshot_is_durable() {
        let mut log = log_of(5, 1 << 20);
        log.install(snapshot(3, 1, &[1]));
        assert_eq!((log.durable(), log.last_index()), (Index(3), Index(5)));
    }

    #[test]
    fn a_snapshots_configurations_are_not_kept_twice() {
        let mut log = with_two_configurations();
        log.commit_to(Index(6));
        log.replace_state(snapshot(3, 1, &[1, 2]));
        assert_eq!(log.configurations, [(Index(5), configuration(&[1]))]);
        assert_eq!(log.first_configuration, configuration(&[1, 2]));
    }

    #[test]
    fn the_last_entry_is_brought_back_once() {
        let mut log = log_of(3, 1 << 20);
        log.restore_last(command(3, 1).into());
        assert_eq!((log.first_in_tail(), log.bytes_of(Index(1), Index(3))), (Index(1), 300));
    }
}
