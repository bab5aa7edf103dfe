//! Checks of durability.
//!
//! Writes reported as durable are durable, a restarted node has what was written, and committed
//! entries are durable on a majority.

use std::collections::VecDeque;

use super::members::decides;
use super::violation::{CheckResult, check};
use crate::types::{Configuration, HardState, Index, Message, NodeId, Term, TermTable, Write};

/// The durable contents of all disks. See the module.
#[derive(Debug)]
pub(super) struct Disks {
    nodes: Vec<NodeDisk>,
}

/// The durable content of a node's disk, and the writes that may follow.
#[derive(Debug, Default)]
struct NodeDisk {
    content: DiskContent,
    /// Changes that are not known to be durable, in order, with their sequences.
    pending: VecDeque<(u64, DiskChange)>,
    durable_sequence: u64,
    /// The last entry of the newest snapshot that is known to be durable.
    snapshot: Index,
    /// The terms of the log before the disk forgot. Leaders count them until one learns of it.
    forgotten: Vec<Term>,
}

#[derive(Clone, Debug)]
enum DiskChange {
    Write(Write),
    /// A snapshot replaces the log, unless the log has its last entry. These are the terms up to
    /// that entry.
    Install(Vec<Term>),
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct DiskContent {
    hard_state: HardState,
    /// From index 1 on, compacted ones included.
    terms: Vec<Term>,
}

impl DiskContent {
    fn change(&mut self, change: &DiskChange) {
        match change {
            DiskChange::Write(write) => self.write(write),
            DiskChange::Install(terms) if self.terms.get(terms.len() - 1) == terms.last() => {}
            DiskChange::Install(terms) => self.terms.clone_from(terms),
        }
    }

    fn write(&mut self, write: &Write) {
        if let Some(hard_state) = write.hard_state {
            self.hard_state = hard_state;
        }
        if let Some(from) = write.truncate_from {
            self.terms.truncate(from.previous().0 as usize);
        }
        self.terms.extend(write.entries.iter().map(|entry| entry.term));
    }
}

impl Disks {
    pub(super) fn new(nodes: usize) -> Disks {
        Disks { nodes: (0..nodes).map(|_| NodeDisk::default()).collect() }
    }

    pub(super) fn issued(&mut self, node: usize, write: &Write) {
        self.nodes[node].pending.push_back((write.sequence, DiskChange::Write(write.clone())));
    }

    pub(super) fn install_issued(&mut self, node: usize, sequence: u64, terms: Vec<Term>) {
        self.nodes[node].pending.push_back((sequence, DiskChange::Install(terms)));
    }

    /// The disk was put back to this content.
    pub(super) fn on_put_back(
        &mut self,
        node: usize,
        hard_state: HardState,
        snapshot: Index,
        terms: Vec<Term>,
    ) {
        let before = std::mem::take(&mut self.nodes[node]);
        let content = DiskContent { hard_state, terms };
        self.nodes[node] =
            NodeDisk { content, snapshot, forgotten: before.content.terms, ..NodeDisk::default() };
    }

    /// A leader has learnt that the disk forgot.
    pub(super) fn on_amnesia_proved(&mut self, node: usize) {
        self.nodes[node].forgotten.clear();
    }

    /// The snapshot was damaged, so nothing has changed.
    pub(super) fn install_refused(&mut self, node: usize, sequence: u64) {
        self.nodes[node].pending.retain(|(number, _)| *number != sequence);
    }

    pub(super) fn snapshot_durable(&mut self, node: usize, index: Index) {
        let known = &mut self.nodes[node].snapshot;
        *known = index.max(*known);
    }

    pub(super) fn durable(&mut self, node: usize, sequence: u64) {
        let disk = &mut self.nodes[node];
        while let Some((_, change)) = disk.pending.pop_front_if(|(number, _)| *number <= sequence) {
            disk.content.change(&change);
        }
        disk.durable_sequence = disk.durable_sequence.max(sequence);
    }

    pub(super) fn reported(&self, node: usize, sequence: u64) -> CheckResult {
        let durable = self.nodes[node].durable_sequence;
        check(sequence <= durable, "durable before it is reported durable", || {
            format!(
                "write {sequence} is reported durable to node {}; only {durable} writes are",
                node + 1
            )
        })
    }

    /// Checks that a node starts with the durable content, perhaps with some complete later
    /// changes.
    pub(super) fn recovered(
        &mut self,
        node: usize,
        hard_state: HardState,
        snapshot: Index,
        terms: &[Term],
        is_damaged: bool,
    ) -> CheckResult {
        let disk = &mut self.nodes[node];
        let found = DiskContent { hard_state, terms: terms.to_vec() };
        // A damaged snapshot is skipped while the log still has all its entries.
        check(snapshot >= disk.snapshot || is_damaged, "a snapshot survives a restart", || {
            format!(
                "node {} starts with a snapshot of {snapshot}; durable was that of {}",
                node + 1,
                disk.snapshot
            )
        })?;
        let mut possible = disk.content.clone();
        let mut fits = possible == found;
        for (_, change) in &disk.pending {
            if fits {
                break;
            }
            possible.change(change);
            fits = possible == found;
        }
        check(fits, "a restarted node has what was written", || {
            format!(
                "node {} starts with {found:?}; durable was {:?}, followed by {:?}",
                node + 1,
                disk.content,
                disk.pending
            )
        })?;
        let forgotten = std::mem::take(&mut disk.forgotten);
        *disk = NodeDisk { content: found, snapshot, forgotten, ..NodeDisk::default() };
        Ok(())
    }

    pub(super) fn check_on_majority(
        &self,
        node: usize,
        index: Index,
        term: Term,
        configuration: &Configuration,
    ) -> CheckResult {
        let place = index.previous().0 as usize;
        let has = |node: NodeId| {
            let disk = &self.nodes[node.0 as usize - 1];
            [&disk.content.terms, &disk.forgotten]
                .iter()
                .any(|terms| terms.get(place) == Some(&term))
        };
        check(decides(configuration, has), "committed entries are on a majority's disks", || {
            let holders: Vec<u64> =
                (1..=self.nodes.len() as u64).filter(|&id| has(NodeId(id))).collect();
            format!(
                "node {} commits entry {index} of term {term}, durable on {holders:?}, in \
                 {configuration:?}",
                node + 1
            )
        })
    }

    /// Checks that a node promoted to voter by the entry at `index` lacks at most `lag` earlier
    /// entries.
    ///
    /// Later entries do not count: the leader had not appended them when it decided.
    pub(super) fn check_caught_up(&self, voter: NodeId, index: Index, lag: u64) -> CheckResult {
        let length = self.nodes[voter.0 as usize - 1].content.terms.len() as u64;
        check(length + lag >= index.previous().0, "a learner catches up before it votes", || {
            format!("node {voter} is promoted by entry {index} with a log of {length} on its disk")
        })
    }

    /// Checks that the target of a transfer has the leader's whole log on its disk, unless a later
    /// leader has truncated it since.
    pub(super) fn check_has_all(
        &self,
        leader: usize,
        timeout_now: &Message,
        terms: &TermTable,
    ) -> CheckResult {
        let to = timeout_now.to;
        let (last, last_term) = (terms.last_index(), terms.last_term());
        let content = &self.nodes[to.0 as usize - 1].content;
        let found = content.terms.get(last.previous().0 as usize);
        let is_past = content.hard_state.term > timeout_now.term;
        check(
            is_past || found == Some(&last_term),
            "the target of a transfer has everything on its disk",
            || {
                format!(
                    "node {} transfers to {to}, which has {found:?} at {last}, not {last_term}",
                    leader + 1
                )
            },
        )
    }
}
