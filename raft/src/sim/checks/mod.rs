//! The invariants, checked after every step.
//!
//! Each file checks one kind of promise. All remember the whole run, across restarts.

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
mod violation;

use commits::Commits;
use disks::Disks;
use elections::Elections;
pub(super) use history::{History, Operation, OperationKind};
use logs::Logs;
use members::Members;
use reads::Reads;
pub(super) use violation::{CheckResult, Violation, check};

use super::kv::{Command, Kv};
use crate::core::Core;
use crate::replica::{Answer, MachineRunner};
use crate::types::{
    Body, Configuration, Entries, Entry, HardState, Index, Message, Now, Saved, SnapshotMeta, Write,
};

/// All checks.
#[derive(Debug)]
pub(super) struct Checks {
    elections: Elections,
    logs: Logs,
    commits: Commits,
    reads: Reads,
    disks: Option<Disks>,
    pub(super) members: Members,
    pub(super) history: History,
    /// More disks forgot than Raft tolerates, so none of these checks applies.
    is_suspended: bool,
}

impl Checks {
    pub(super) fn new(nodes: usize, checks_disks: bool) -> Checks {
        Checks {
            elections: Elections::new(nodes),
            logs: Logs::new(nodes),
            commits: Commits::new(nodes),
            reads: Reads::new(nodes),
            disks: checks_disks.then(|| Disks::new(nodes)),
            members: Members::new(Vec::new()),
            history: History::default(),
            is_suspended: false,
        }
    }

    /// Sets the configuration with which each node was created.
    pub(super) fn set_initial_configurations(&mut self, with: Vec<Configuration>) {
        self.members = Members::new(with);
    }

    /// A node has started from its disk, which may be damaged.
    pub(super) fn recovered(
        &mut self,
        node: usize,
        saved: &Saved,
        entries: &[Entry],
        is_damaged: bool,
    ) -> CheckResult {
        if self.is_suspended {
            return Ok(());
        }
        let snapshot = saved.snapshot.as_ref().map_or(Index(0), |meta| meta.index);
        if let Some(meta) = &saved.snapshot {
            self.commits.check_committed(node, meta)?;
        }
        let compacted = self.commits.terms_up_to(saved.terms.base());
        self.logs.recovered(node, compacted, entries)?;
        self.members.set_log(node, self.logs.terms(node), snapshot > Index(0));
        if let Some(disks) = &mut self.disks {
            disks.recovered(node, saved.hard_state, snapshot, self.logs.terms(node), is_damaged)?;
        }
        self.elections.started(node, saved.hard_state, snapshot)?;
        self.commits.started(node);
        self.reads.started(node);
        Ok(())
    }

    /// Suspends all checks for the rest of the run.
    pub(super) fn suspend(&mut self) {
        self.is_suspended = true;
    }

    /// A node is about to start from an earlier state of its disk. Its acknowledgements count until
    /// a leader learns of it.
    pub(super) fn on_put_back(&mut self, node: usize, saved: &Saved, entries: &[Entry]) {
        let snapshot = saved.snapshot.as_ref().map_or(Index(0), |meta| meta.index);
        let mut terms = self.commits.terms_up_to(saved.terms.base());
        terms.extend(entries.iter().map(|entry| entry.term));
        if let Some(disks) = &mut self.disks {
            disks.on_put_back(node, saved.hard_state, snapshot, terms);
        }
        self.elections.on_put_back(node, saved.hard_state);
    }

    /// A leader has learnt that the node forgot, so its earlier acknowledgements no longer count.
    pub(super) fn on_amnesia_proved(&mut self, node: usize) {
        if let Some(disks) = &mut self.disks {
            disks.on_amnesia_proved(node);
        }
    }

    /// Checks a node's core. Called after every input, and after the effects of that input.
    pub(super) fn observe(&mut self, node: usize, life: u64, core: &Core) -> CheckResult {
        if self.is_suspended {
            return Ok(());
        }
        let elected = self.elections.observe(node, life, core)?;
        if elected {
            self.commits.check_leader_complete(node, core)?;
            self.members
                .check_elected(node, core.term(), |voter| self.elections.has_voted(voter, core))?;
        }
        self.commits.observe(node, core, &self.logs, self.disks.as_ref(), self.members.latest(node))
    }

    /// A node has handled its timer.
    pub(super) fn timer_fired(&mut self, node: usize, core: &Core, now: Now) -> CheckResult {
        if self.is_suspended {
            return Ok(());
        }
        self.check_log_as_written(node, core)?;
        self.members.timer_fired(node, core, now)?;
        leaders::check_leader(node, core, now)
    }

    /// Checks that the core's log ends like the one issued to its storage. Called when all effects
    /// are carried out.
    pub(super) fn check_log_as_written(&self, node: usize, core: &Core) -> CheckResult {
        if self.is_suspended {
            return Ok(());
        }
        let terms = self.logs.terms(node);
        let written = (Index(terms.len() as u64), terms.last().copied());
        let term = core.terms().term_at(core.last_index()).filter(|_| core.last_index() > Index(0));
        check(
            written == (core.last_index(), term),
            "the core's log ends like the written one",
            || {
                format!(
                    "node {}'s log ends at {} of {term:?}; written was {written:?}",
                    node + 1,
                    core.last_index()
                )
            },
        )
    }

    /// A node issues a write to its storage.
    pub(super) fn write_issued(&mut self, node: usize, write: &Write) -> CheckResult {
        if self.is_suspended {
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

    /// Checks the configurations in a write.
    pub(super) fn members_written(
        &mut self,
        node: usize,
        write: &Write,
        core: &Core,
    ) -> CheckResult {
        if self.is_suspended {
            return Ok(());
        }
        if let Some(disks) = &self.disks {
            let voters = self.members.promoted(node, write);
            voters.into_iter().filter(|&(voter, _)| voter != core.id()).try_for_each(
                |(voter, at)| disks.check_caught_up(voter, at, core.config().promotion_lag),
            )?;
        }
        self.members.written(node, write, core)
    }

    /// A node asks its storage to replace the log by a snapshot.
    pub(super) fn install_issued(
        &mut self,
        node: usize,
        meta: &SnapshotMeta,
        sequence: u64,
    ) -> CheckResult {
        if self.is_suspended {
            return Ok(());
        }
        self.commits.check_committed(node, meta)?;
        if let Some(disks) = &mut self.disks {
            disks.install_issued(node, sequence, self.commits.terms_up_to(meta.index));
        }
        Ok(())
    }

    /// The storage has installed a snapshot, or found it damaged.
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

    /// A snapshot up to this index is durable.
    pub(super) fn snapshot_durable(&mut self, node: usize, index: Index) {
        if let Some(disks) = &mut self.disks {
            disks.snapshot_durable(node, index);
        }
    }

    /// A node's state machine is about to be restored from a snapshot.
    pub(super) fn restored(
        &mut self,
        node: usize,
        meta: &SnapshotMeta,
        replaces_diverged: bool,
    ) -> CheckResult {
        if self.is_suspended {
            return Ok(());
        }
        // Only now does the node know that its log begins with the snapshot.
        self.members.set_log(node, self.logs.terms(node), true);
        self.commits.restored(node, meta, replaces_diverged)
    }

    /// A node's state machine cannot be restored, and waits for another snapshot.
    pub(super) fn state_lost(&mut self, node: usize) {
        self.commits.started(node);
    }

    /// Checks that a state machine has the state of a snapshot.
    pub(super) fn check_state_of(
        &self,
        node: usize,
        meta: &SnapshotMeta,
        machine: &MachineRunner<Kv>,
    ) -> CheckResult {
        if self.is_suspended {
            return Ok(());
        }
        self.commits.check_state_of(node, meta, machine)
    }

    /// All writes up to this one are durable.
    pub(super) fn write_durable(&mut self, node: usize, sequence: u64) {
        if let Some(disks) = &mut self.disks {
            disks.durable(node, sequence);
        }
    }

    /// All writes up to this one are reported to the node as durable.
    pub(super) fn write_reported(&mut self, node: usize, sequence: u64) -> CheckResult {
        if self.is_suspended {
            return Ok(());
        }
        self.disks.as_ref().map_or(Ok(()), |disks| disks.reported(node, sequence))
    }

    /// A node gives entries to its state machine.
    pub(super) fn applied(&mut self, node: usize, entries: &Entries) -> CheckResult {
        if self.is_suspended {
            return Ok(());
        }
        self.commits.applied(node, entries, &self.logs)
    }

    /// A node is about to receive a message.
    pub(super) fn observe_received(&mut self, node: usize, core: &Core, message: &Message) {
        self.reads.observe_received(node, core, message);
    }

    /// A node sends a message to another.
    pub(super) fn sent(&mut self, node: usize, message: &Message, core: &Core) -> CheckResult {
        if self.is_suspended {
            return Ok(());
        }
        self.reads.observe_sent(node, core, message)?;
        let terms = core.terms();
        match message.body {
            Body::RequestVote { last_index, last_term, .. } => {
                self.elections.campaigned(node, message.term, (last_term, last_index));
                Ok(())
            }
            Body::Vote { granted: true } => {
                self.elections.check_up_to_date(node, terms, message.term, message.to)?;
                self.elections.voted(node, message.term, message.to)
            }
            Body::TimeoutNow => match &self.disks {
                Some(disks) => disks.check_has_all(node, message, terms),
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
    ) -> CheckResult {
        if self.is_suspended {
            return Ok(());
        }
        self.history.answered(operation, life, answer, &self.commits)
    }

    /// A command that was answered before is answered again.
    pub(super) fn answered_again(&self, command: Command, answer: &Answer) -> CheckResult {
        if self.is_suspended {
            return Ok(());
        }
        history::check_write(command, answer, &self.commits)
    }

    /// An operation was refused: it must never have an effect.
    pub(super) fn refused(&mut self, operation: &Operation) -> CheckResult {
        if self.is_suspended {
            return Ok(());
        }
        if let OperationKind::Write(command) = operation.kind {
            self.commits.refused(command)?;
        }
        self.history.refused(operation);
        Ok(())
    }

    /// The number of committed entries.
    pub(super) fn committed(&self) -> Index {
        self.commits.last()
    }

    /// The number of restored snapshots from leaders.
    pub(super) fn snapshots_restored(&self) -> u64 {
        self.commits.snapshots_restored()
    }

    /// The number of leaders.
    pub(super) fn leaders(&self) -> u64 {
        self.elections.leaders()
    }

    /// Like `is_reference`, without the corruption of the machine's state.
    pub(super) fn is_corrected_reference(&self, machine: &MachineRunner<Kv>) -> bool {
        self.commits.is_corrected_reference(machine)
    }

    /// Whether a state machine has the state that the committed commands give.
    pub(super) fn is_reference(&self, machine: &MachineRunner<Kv>) -> bool {
        self.commits.is_reference(machine)
    }
}
