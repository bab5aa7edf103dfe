//! What must hold after every step. Each file keeps one kind of promise; all remember the whole
//! run, over all lives.

mod commits;
mod disks;
mod elections;
mod history;
mod leaders;
pub(super) mod leases;
mod logs;
mod members;
mod reads;
mod transfers;
mod verdict;

use commits::Commits;
use disks::Disks;
use elections::Elections;
pub(super) use history::{History, Operation, OperationKind};
use logs::Logs;
use members::Members;
use reads::Reads;
pub(super) use verdict::{Verdict, Violation, check};

use super::kv::{Command, Kv};
use crate::core::Core;
use crate::replica::{Answer, MachineRunner};
use crate::types::{
    Body, Configuration, Entries, Entry, HardState, Index, Message, Now, Saved, SnapshotMeta, Write,
};

/// Everything that is checked.
#[derive(Debug)]
pub(super) struct Checks {
    elections: Elections,
    logs: Logs,
    commits: Commits,
    reads: Reads,
    disks: Option<Disks>,
    pub(super) members: Members,
    pub(super) history: History,
    /// Disks have forgotten more than a cluster bears: nothing here is promised any more.
    rests: bool,
}

impl Checks {
    pub(super) fn new(nodes: usize, looks_at_disks: bool) -> Checks {
        Checks {
            elections: Elections::new(nodes),
            logs: Logs::new(nodes),
            commits: Commits::new(nodes),
            reads: Reads::new(nodes),
            disks: looks_at_disks.then(|| Disks::new(nodes)),
            members: Members::new(Vec::new()),
            history: History::default(),
            rests: false,
        }
    }

    /// What each node was born with.
    pub(super) fn born(&mut self, with: Vec<Configuration>) {
        self.members = Members::new(with);
    }

    /// A node has started with what its disk held; `is_damaged` if not all of it was what was
    /// written.
    pub(super) fn recovered(
        &mut self,
        node: usize,
        saved: &Saved,
        entries: &[Entry],
        is_damaged: bool,
    ) -> Verdict {
        if self.rests {
            return Ok(());
        }
        let snapshot = saved.snapshot.as_ref().map_or(Index(0), |meta| meta.index);
        if let Some(meta) = &saved.snapshot {
            self.commits.is_committed(node, meta)?;
        }
        let compacted = self.commits.terms_up_to(saved.terms.base());
        self.logs.recovered(node, compacted, entries)?;
        self.members.log_is(node, self.logs.terms(node), snapshot > Index(0));
        if let Some(disks) = &mut self.disks {
            disks.recovered(node, saved.hard_state, snapshot, self.logs.terms(node), is_damaged)?;
        }
        self.elections.started(node, saved.hard_state, snapshot)?;
        self.commits.started(node);
        self.reads.started(node);
        Ok(())
    }

    /// From now on nothing is checked.
    pub(super) fn rest(&mut self) {
        self.rests = true;
    }

    /// A node is about to start with an earlier state of its disk. What it had acknowledged counts
    /// until somebody has noticed.
    pub(super) fn forgot(&mut self, node: usize, saved: &Saved, entries: &[Entry]) {
        let snapshot = saved.snapshot.as_ref().map_or(Index(0), |meta| meta.index);
        let mut terms = self.commits.terms_up_to(saved.terms.base());
        terms.extend(entries.iter().map(|entry| entry.term));
        if let Some(disks) = &mut self.disks {
            disks.forgot(node, saved.hard_state, snapshot, terms);
        }
        self.elections.forgot(node, saved.hard_state);
    }

    /// A leader has learnt that the node forgot: what it had acknowledged counts no longer.
    pub(super) fn proved(&mut self, node: usize) {
        if let Some(disks) = &mut self.disks {
            disks.proved(node);
        }
    }

    /// Looks at a node's core. To be called after every input, and after the effects of that input.
    pub(super) fn observe(&mut self, node: usize, life: u64, core: &Core) -> Verdict {
        if self.rests {
            return Ok(());
        }
        let elected = self.elections.observe(node, life, core)?;
        if elected {
            self.commits.leader_is_complete(node, core)?;
            self.members
                .check_elected(node, core.term(), |voter| self.elections.has_voted(voter, core))?;
        }
        self.commits.observe(node, core, &self.logs, self.disks.as_ref(), self.members.latest(node))
    }

    /// A node has been told that its timer has fired.
    pub(super) fn timer_fired(&mut self, node: usize, core: &Core, now: Now) -> Verdict {
        if self.rests {
            return Ok(());
        }
        self.log_is_as_written(node, core)?;
        self.members.timer_fired(node, core, now)?;
        leaders::check_leader(node, core, now)
    }

    /// The log that a node believes it has ends as the one that its storage was told to write. To
    /// be called when all that the core has asked for has been handed on.
    pub(super) fn log_is_as_written(&self, node: usize, core: &Core) -> Verdict {
        if self.rests {
            return Ok(());
        }
        let terms = self.logs.terms(node);
        let written = (Index(terms.len() as u64), terms.last().copied());
        let term = core.terms().term_at(core.last_index()).filter(|_| core.last_index() > Index(0));
        check(
            written == (core.last_index(), term),
            "a log ends where it was written to end",
            || {
                format!(
                    "node {}'s log ends at {} of {term:?}; written was {written:?}",
                    node + 1,
                    core.last_index()
                )
            },
        )
    }

    /// A node hands a write to its storage.
    pub(super) fn write_issued(&mut self, node: usize, write: &Write) -> Verdict {
        if self.rests {
            return Ok(());
        }
        if let Some(disks) = &mut self.disks {
            disks.issued(node, write);
        }
        if let Some(HardState { term, vote: Some(candidate), .. }) = write.hard_state {
            let terms = self.logs.terms(node);
            let log = (terms.last().copied().unwrap_or_default(), Index(terms.len() as u64));
            self.elections.decided(node, term, candidate, log);
        }
        self.logs.written(node, write)
    }

    /// The same, for what it says of members.
    pub(super) fn members_written(&mut self, node: usize, write: &Write, core: &Core) -> Verdict {
        if self.rests {
            return Ok(());
        }
        if let Some(disks) = &self.disks {
            let voters = self.members.promoted(node, write);
            voters.into_iter().filter(|&(voter, _)| voter != core.id()).try_for_each(
                |(voter, at)| disks.has_most(voter, at, core.config().promotion_lag),
            )?;
        }
        self.members.written(node, write, core)
    }

    /// A node hands a snapshot to its storage that is to take its log's place.
    pub(super) fn install_issued(
        &mut self,
        node: usize,
        meta: &SnapshotMeta,
        sequence: u64,
    ) -> Verdict {
        if self.rests {
            return Ok(());
        }
        self.commits.is_committed(node, meta)?;
        if let Some(disks) = &mut self.disks {
            disks.install_issued(node, sequence, self.commits.terms_up_to(meta.index));
        }
        Ok(())
    }

    /// The storage has done that, or found the snapshot damaged.
    pub(super) fn installed(
        &mut self,
        node: usize,
        meta: &SnapshotMeta,
        sequence: u64,
        is_valid: bool,
    ) {
        if is_valid {
            self.logs.installed(node, self.commits.terms_up_to(meta.index));
            self.snapshot_durable(node, meta.index);
        } else if let Some(disks) = &mut self.disks {
            disks.install_refused(node, sequence);
        }
    }

    /// A snapshot that includes everything up to here is on the platter.
    pub(super) fn snapshot_durable(&mut self, node: usize, index: Index) {
        if let Some(disks) = &mut self.disks {
            disks.snapshot_durable(node, index);
        }
    }

    /// A node's state machine is to take a snapshot's state.
    pub(super) fn restored(
        &mut self,
        node: usize,
        meta: &SnapshotMeta,
        replaces_wrong: bool,
    ) -> Verdict {
        if self.rests {
            return Ok(());
        }
        // Only now does the node know that its log begins with the snapshot.
        self.members.log_is(node, self.logs.terms(node), true);
        self.commits.restored(node, meta, replaces_wrong)
    }

    /// A node's state machine cannot be restored, and begins again with another snapshot.
    pub(super) fn state_lost(&mut self, node: usize) {
        self.commits.started(node);
    }

    /// Whether a state machine's state is what a snapshot stands for.
    pub(super) fn is_state_of(
        &self,
        node: usize,
        meta: &SnapshotMeta,
        machine: &MachineRunner<Kv>,
    ) -> Verdict {
        if self.rests {
            return Ok(());
        }
        self.commits.is_state_of(node, meta, machine)
    }

    /// Everything up to this write is on the platter.
    pub(super) fn write_durable(&mut self, node: usize, sequence: u64) {
        if let Some(disks) = &mut self.disks {
            disks.durable(node, sequence);
        }
    }

    /// The node is told that everything up to this write is durable.
    pub(super) fn write_reported(&mut self, node: usize, sequence: u64) -> Verdict {
        if self.rests {
            return Ok(());
        }
        self.disks.as_ref().map_or(Ok(()), |disks| disks.reported(node, sequence))
    }

    /// A node hands entries to its state machine.
    pub(super) fn applied(&mut self, node: usize, entries: &Entries) -> Verdict {
        if self.rests {
            return Ok(());
        }
        self.commits.applied(node, entries, &self.logs)
    }

    /// A node is about to be told something.
    pub(super) fn hears(&mut self, node: usize, core: &Core, message: &Message) {
        self.reads.hears(node, core, message);
    }

    /// A node says something to another.
    pub(super) fn sent(&mut self, node: usize, message: &Message, core: &Core) -> Verdict {
        if self.rests {
            return Ok(());
        }
        self.reads.says(node, core, message)?;
        let terms = core.terms();
        match message.body {
            Body::RequestVote { last_index, last_term, .. } => {
                self.elections.campaigned(node, message.term, (last_term, last_index));
                Ok(())
            }
            Body::Vote { granted: true } => {
                self.elections.is_up_to_date(node, terms, message.term, message.to)?;
                self.elections.voted(node, message.term, message.to)
            }
            Body::TimeoutNow => match &self.disks {
                Some(disks) => disks.has_all(node, message, terms),
                None => Ok(()),
            },
            Body::Appended { .. } => self.elections.promised(node, message.term),
            _ => Ok(()),
        }
    }

    /// The index of the last committed change of a key.
    pub(super) fn last_change(&self, key: u8) -> Index {
        self.commits.last_change(key)
    }

    /// An operation was answered.
    pub(super) fn answered(
        &mut self,
        operation: &Operation,
        life: u64,
        answer: &Answer,
    ) -> Verdict {
        if self.rests {
            return Ok(());
        }
        self.history.answered(operation, life, answer, &self.commits)
    }

    /// A command that was answered before is answered again.
    pub(super) fn answered_again(&self, command: Command, answer: &Answer) -> Verdict {
        if self.rests {
            return Ok(());
        }
        history::check_write(command, answer, &self.commits)
    }

    /// An operation was refused: it had no effect and never will have one.
    pub(super) fn refused(&mut self, operation: &Operation) -> Verdict {
        if self.rests {
            return Ok(());
        }
        if let OperationKind::Write(command) = operation.kind {
            self.commits.refused(command)?;
        }
        self.history.refused(operation);
        Ok(())
    }

    /// How many entries were committed.
    pub(super) fn committed(&self) -> Index {
        self.commits.last()
    }

    /// How many snapshots from leaders were restored.
    pub(super) fn snapshots_restored(&self) -> u64 {
        self.commits.snapshots_restored()
    }

    /// How many leaders there were.
    pub(super) fn leaders(&self) -> u64 {
        self.elections.leaders()
    }

    /// The same, apart from what has gone wrong in its state.
    pub(super) fn is_corrected_reference(&self, machine: &MachineRunner<Kv>) -> bool {
        self.commits.is_corrected_reference(machine)
    }

    /// Whether a state machine is what the committed commands make.
    pub(super) fn is_reference(&self, machine: &MachineRunner<Kv>) -> bool {
        self.commits.is_reference(machine)
    }
}
