//! Leader completeness, state-machine safety, and the promises of commitment to clients.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use bytes::Bytes;

use super::disks::Disks;
use super::logs::Logs;
use super::violation::{CheckResult, check};
use crate::core::Core;
use crate::replica::{
    Committed, MachineError, MachineRunner, Outcome, Query, Sessions, StateMachine,
};
use crate::sim::kv::{Command, Kv};
use crate::sim::trace::stable_hash;
use crate::types::{Configuration, Entries, Index, Payload, SnapshotMeta, Stamp, Term};

/// The committed entries and their checks. See the module.
#[derive(Debug)]
pub(super) struct Commits {
    /// The committed entries, from index 1 on.
    entries: Vec<CommittedEntry>,
    /// The index at which each command was committed.
    indexes: BTreeMap<u64, Index>,
    /// Commands that were refused.
    refused: BTreeSet<u64>,
    /// The state that the committed commands give, applied here in order.
    reference: Kv,
    /// The sessions of that state.
    sessions: Sessions,
    /// The indexes at which each key was changed.
    changes: BTreeMap<u8, Vec<Index>>,
    /// The last index that each node has given to its state machine since its start.
    applied: Vec<Index>,
    /// The number of restored snapshots from leaders.
    restored: u64,
}

#[derive(Debug)]
struct CommittedEntry {
    term: Term,
    /// The term of the node that first considered it committed; never decreases along the log.
    committed_in: Term,
    stamp: Stamp,
    /// The answer of the state machine.
    output: Bytes,
    /// A hash of the state after it.
    state: u64,
}

impl Commits {
    pub(super) fn new(nodes: usize) -> Commits {
        Commits {
            entries: Vec::new(),
            indexes: BTreeMap::new(),
            refused: BTreeSet::new(),
            reference: Kv::default(),
            sessions: Sessions::new(),
            changes: BTreeMap::new(),
            applied: vec![Index(0); nodes],
            restored: 0,
        }
    }

    pub(super) fn last(&self) -> Index {
        Index(self.entries.len() as u64)
    }

    pub(super) fn snapshots_restored(&self) -> u64 {
        self.restored
    }

    /// Whether a machine has the state that the committed commands give.
    pub(super) fn is_reference(&self, machine: &MachineRunner<Kv>) -> bool {
        self.reference == *machine.machine() && self.sessions == *machine.sessions()
    }

    /// The same, without the corruption of the machine's state.
    pub(super) fn is_corrected_reference(&self, machine: &MachineRunner<Kv>) -> bool {
        self.reference == machine.machine().corrected() && self.sessions == *machine.sessions()
    }

    /// The index of the first change of a key after `index`.
    pub(super) fn next_change(&self, key: u8, index: Index) -> Option<Index> {
        let changes = self.changes.get(&key)?;
        changes.get(changes.partition_point(|&change| change <= index)).copied()
    }

    /// The index of the last committed change of a key.
    pub(super) fn last_change(&self, key: u8) -> Index {
        self.reference.get(key).index
    }

    /// A node starts with an empty state machine.
    pub(super) fn started(&mut self, node: usize) {
        self.applied[node] = Index(0);
    }

    /// The terms of the committed entries up to here.
    pub(super) fn terms_up_to(&self, index: Index) -> Vec<Term> {
        self.entries.iter().take(index.0 as usize).map(|entry| entry.term).collect()
    }

    /// Checks that a snapshot's last entry is committed.
    pub(super) fn check_committed(&self, node: usize, meta: &SnapshotMeta) -> CheckResult {
        let found = self.at(meta.index).map(|entry| (entry.term, entry.stamp));
        check(
            found == Some((meta.term, meta.stamp)),
            "a snapshot includes committed entries only",
            || {
                format!(
                    "node {} has a snapshot of {meta:?}; committed there is {found:?}",
                    node + 1
                )
            },
        )
    }

    /// A node's state machine is about to be restored from a snapshot.
    pub(super) fn restored(
        &mut self,
        node: usize,
        meta: &SnapshotMeta,
        replaces_diverged: bool,
    ) -> CheckResult {
        self.check_committed(node, meta)?;
        let first = if replaces_diverged { meta.index.next() } else { meta.index };
        check(first > self.applied[node], "a snapshot reverts nothing", || {
            format!(
                "node {} restores {} after {} was applied",
                node + 1,
                meta.index,
                self.applied[node]
            )
        })?;
        // The first restore after a start is from the node's own snapshot.
        self.restored += u64::from(self.applied[node] > Index(0));
        self.applied[node] = meta.index;
        Ok(())
    }

    /// Checks that a state machine has the state that the commands up to a snapshot's index give.
    pub(super) fn check_state_of(
        &self,
        node: usize,
        meta: &SnapshotMeta,
        machine: &MachineRunner<Kv>,
    ) -> CheckResult {
        self.check_committed(node, meta)?;
        let expected = self.at(meta.index).map(|entry| entry.state);
        check(
            expected == Some(stable_hash(&(machine.machine(), machine.sessions()))),
            "a snapshot is the state of its index",
            || format!("node {}'s state is not that of {}: {machine:?}", node + 1, meta.index),
        )
    }

    /// The index at which a command was committed, if it was.
    pub(super) fn index_of(&self, id: u64) -> Option<Index> {
        self.indexes.get(&id).copied()
    }

    /// A command was refused: it must never be committed.
    pub(super) fn refused(&mut self, command: Command) -> CheckResult {
        let place = self.index_of(command.id());
        check(place.is_none(), "a refused command has no effect", || {
            format!("{command:?} was refused and is committed at {place:?}")
        })?;
        self.refused.insert(command.id());
        Ok(())
    }

    /// The answer of the state machine to the command committed at `index`.
    pub(super) fn output(&self, index: Index) -> Option<&Bytes> {
        self.at(index).map(|entry| &entry.output)
    }

    fn at(&self, index: Index) -> Option<&CommittedEntry> {
        self.entries.get((index.0 as usize).checked_sub(1)?)
    }

    /// Checks that a new leader has all entries committed in earlier terms. By log matching the
    /// last one suffices.
    pub(super) fn check_leader_complete(&self, node: usize, core: &Core) -> CheckResult {
        let term = core.term();
        let earlier = self.entries.partition_point(|entry| entry.committed_in < term);
        let last = Index(earlier as u64);
        check(core.terms().last_term() == term, "a leader opens its term with an entry", || {
            format!(
                "node {} leads term {term}, and its last entry is of term {}",
                node + 1,
                core.terms().last_term()
            )
        })?;
        let expected = self.at(last).map_or(Term(0), |entry| entry.term);
        let is_compacted = last < core.terms().base();
        check(
            is_compacted || core.terms().term_at(last) == Some(expected),
            "leader completeness",
            || {
                format!(
                    "node {} leads term {term} without entry {last} of term {expected}, committed \
                     earlier; it has {:?} there",
                    node + 1,
                    core.terms().term_at(last)
                )
            },
        )
    }

    /// Checks that the entries that a node considers committed are the known ones, or new ones that
    /// are durable on a quorum.
    pub(super) fn observe(
        &mut self,
        node: usize,
        core: &Core,
        logs: &Logs,
        disks: Option<&Disks>,
        configuration: &Configuration,
    ) -> CheckResult {
        let commit = core.commit();
        if commit > self.last() {
            let term = core.terms().term_at(commit).unwrap_or_default();
            check(
                !core.is_leader() || term == core.term(),
                "a leader counts only entries of its own term",
                || {
                    format!(
                        "node {} leads term {} and commits entry {commit} of term {term}",
                        node + 1,
                        core.term()
                    )
                },
            )?;
            if let Some(disks) = disks {
                disks.check_on_majority(node, commit, term, configuration)?;
            }
            while self.last() < commit {
                self.commit_next(node, core, logs)?;
            }
        }
        let expected = self.at(commit).map_or(Term(0), |entry| entry.term);
        check(
            core.terms().term_at(commit) == Some(expected),
            "committed entries are the same on all nodes",
            || {
                let found = core.terms().term_at(commit);
                format!(
                    "node {} considers {found:?} committed at {commit}; known is {expected:?}",
                    node + 1
                )
            },
        )
    }

    fn commit_next(&mut self, node: usize, core: &Core, logs: &Logs) -> CheckResult {
        let index = self.last().next();
        let term = core.terms().term_at(index).unwrap_or_default();
        let entry = logs.entry(index, term);
        check(entry.is_some(), "committed entries were written", || {
            format!(
                "node {} considers entry {index} of term {term} committed, which no node has \
                 written",
                node + 1
            )
        })?;
        let mut output = Bytes::new();
        let stamp = entry.map_or(Stamp(0), |entry| entry.stamp);
        if let Some(entry) = entry {
            let mut machine = Recorder { kv: &mut self.reference, applied: None };
            let outcome = self.sessions.apply(entry, &mut machine).unwrap_or_default();
            let applied = machine.applied;
            if let Some(Outcome::Answer(answer)) = outcome {
                output = answer.bytes;
            }
            if let Some(command) = applied {
                self.command_applied(index, command, &entry.payload)?;
            }
        }
        let committed_in =
            core.term().max(self.entries.last().map_or(Term(0), |entry| entry.committed_in));
        let state = stable_hash(&(&self.reference, &self.sessions));
        self.entries.push(CommittedEntry { term, committed_in, stamp, output, state });
        Ok(())
    }

    /// A command takes effect at this index, and must do so only once.
    fn command_applied(
        &mut self,
        index: Index,
        command: Command,
        payload: &Payload,
    ) -> CheckResult {
        let id = command.id();
        if self.reference.get(command.key()).index == index {
            self.changes.entry(command.key()).or_default().push(index);
        }
        let earlier = self.indexes.insert(id, index);
        let rule = match payload {
            Payload::SessionCommand(_) => "a command of a session is applied once",
            _ => "a command is committed once",
        };
        check(earlier.is_none(), rule, || {
            format!("command {id} is applied at {index}, and was at {earlier:?}")
        })?;
        check(!self.refused.contains(&id), "a refused command has no effect", || {
            format!("command {id} is committed at {index} after it was refused")
        })
    }

    /// Checks that a node gives the committed entries to its state machine in order.
    pub(super) fn applied(&mut self, node: usize, entries: &Entries, logs: &Logs) -> CheckResult {
        for entry in entries {
            let next = self.applied[node].next();
            check(entry.index == next, "entries are applied in order", || {
                format!("node {} applies entry {}, where {next} is next", node + 1, entry.index)
            })?;
            let same = self.at(next).is_some_and(|committed| committed.term == entry.term)
                && logs.entry(entry.index, entry.term) == Some(entry);
            check(same, "state-machine safety", || {
                format!("node {} applies {entry:?}, which is not what is committed there", node + 1)
            })?;
            self.applied[node] = next;
        }
        Ok(())
    }
}

/// The reference state machine, which records whether it received a command.
struct Recorder<'a> {
    kv: &'a mut Kv,
    applied: Option<Command>,
}

impl StateMachine for Recorder<'_> {
    fn apply(&mut self, entry: &Committed<'_>) -> Result<Bytes, MachineError> {
        self.applied = Command::decode(entry.command);
        self.kv.apply(entry)
    }

    fn query(&self, query: &Query<'_>) -> Bytes {
        self.kv.query(query)
    }

    fn snapshot(&self) -> Box<dyn io::Read + Send> {
        self.kv.snapshot()
    }

    fn restore(&mut self, snapshot: &mut dyn io::Read) -> io::Result<()> {
        self.kv.restore(snapshot)
    }
}
