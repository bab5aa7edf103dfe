//! The replica's side: what the state machine has done, and what follows when it has failed.

use super::loading::LoadingPhase;
use super::{MachineCallback, MachineDone, MachineFailure, MachineJob, UnappliedLogFull};
use crate::core::Done;
use crate::replica::requests::RequestStage;
use crate::replica::{Doubt, Effect, Outcome, Refusal, Replica, ReplicaEvent};
use crate::storage::Job;
use crate::types::{Index, Now};

/// What the replica knows of its state machine.
#[derive(Debug, Default)]
pub(in crate::replica) struct MachineState {
    /// Why it does nothing more.
    pub(in crate::replica) failure: Option<MachineFailure>,
    /// It is to take the state of the snapshot of this index.
    pub(in crate::replica) restoring: Option<Index>,
    /// It is to give a copy of its state as of this index.
    pub(in crate::replica) snapshotting: Option<Index>,
    pub(in crate::replica) loading: LoadingPhase,
    /// It stops because its state is not that of a majority, and has not said yet that it has
    /// stopped.
    pub(in crate::replica) is_stopping: bool,
    /// Its state has taken the place of one that was not that of a majority; the next digest is
    /// told.
    pub(in crate::replica) is_replaced: bool,
    /// Another snapshot was asked for because its own held a wrong state, and none was restored
    /// since.
    pub(in crate::replica) has_requested_replacement: bool,
    /// The log that it cannot apply exceeds its quota.
    pub(in crate::replica) unapplied_full: Option<UnappliedLogFull>,
}

impl MachineState {
    /// Whether it does nothing that it is asked now.
    pub(in crate::replica) fn has_stopped(&self) -> bool {
        self.failure.is_some() && self.restoring.is_none()
    }
}

impl Replica {
    /// The state machine has done something, in the order in which it was asked.
    ///
    /// # Panics
    /// If it says what does not fit what it was asked: answers would go to the wrong authors.
    pub fn handle_machine_done(&mut self, now: Now, done: MachineDone) {
        match done {
            MachineDone::Applied { last, mut outcomes } => {
                let told = self.handle_applied(now, last, &mut outcomes);
                assert!(told.is_ok(), "one outcome was made for each proposal: {told:?}");
            }
            MachineDone::Queried { id, answer } => self.handle_queried(now, id, answer),
            MachineDone::DigestTaken(digest) => self.handle_digest(now, digest),
            MachineDone::SnapshotReady { meta, content } => {
                self.now = self.now.then(now);
                self.machine.snapshotting = None;
                self.core.note_snapshot_digest(meta.index, meta.digest);
                if self.failed.is_none() {
                    let source = self.snapshots.bound(content);
                    self.effects.push_back(Effect::Storage(Job::TakeSnapshot { meta, source }));
                }
            }
            MachineDone::Restored(meta) => {
                self.machine.is_replaced |= self.core.divergence().is_some();
                self.machine.failure = None;
                self.machine.has_requested_replacement = false;
                self.machine.restoring.take_if(|restoring| *restoring <= meta.index);
                self.core.set_may_lead(now, true);
                self.core.end_divergence(now);
                self.handle_restored(now, &meta);
            }
            MachineDone::SnapshotDamaged(meta) => self.handle_damaged_snapshot(now, meta.index),
            // Once: if the leader's fails as well, the machine makes something else of it.
            MachineDone::SnapshotMismatch(meta) => {
                if !std::mem::replace(&mut self.machine.has_requested_replacement, true) {
                    self.handle_damaged_snapshot(now, meta.index);
                }
            }
            MachineDone::Failed(failure) => self.handle_machine_failure(now, failure),
        }
        self.update_loading();
    }

    /// The file of the snapshot of this index cannot be read. Another one is asked for, unless it
    /// has been installed already.
    fn handle_damaged_snapshot(&mut self, now: Now, index: Index) {
        self.now = self.now.then(now);
        let is_newest = self.machine.restoring.is_none_or(|restoring| restoring <= index);
        if is_newest && self.failed.is_none() {
            self.core.await_snapshot(now);
            self.effects.push_back(Effect::Event(ReplicaEvent::SnapshotDamaged { index }));
        }
    }

    /// The state machine refuses to go on. The log does go on: this node votes and acknowledges,
    /// but leads no more and answers nothing more.
    fn handle_machine_failure(&mut self, now: Now, failure: MachineFailure) {
        self.now = self.now.then(now);
        let index = failure.index;
        if failure.callback == MachineCallback::Restore {
            self.machine.restoring.take_if(|restoring| *restoring <= index);
        }
        // What comes after a later restore is done, all else is not.
        self.writes.discard_applying(self.machine.restoring);
        if let Some(index) = self.machine.snapshotting.take() {
            self.core.handle_done(now, Done::SnapshotFailed { index });
        }
        if std::mem::take(&mut self.machine.is_stopping) {
            // It has been said, and nobody waits any more.
            if self.machine.restoring.is_none() {
                self.core.await_state(now);
            }
            return;
        }
        self.stop_answering(failure.clone());
        self.effects.push_back(Effect::Event(ReplicaEvent::MachineFailed(failure)));
    }

    /// This node leads no more, and answers nothing that needs its state machine.
    pub(in crate::replica) fn stop_answering(&mut self, failure: MachineFailure) {
        let index = failure.index;
        self.machine.failure = Some(failure);
        self.core.set_may_lead(self.now, false);
        let refusal = match self.reload_progress() {
            Some(progress) => Refusal::Loading { progress },
            None => Refusal::MachineFailed { index },
        };
        let ended = self.requests.iter().filter_map(|(key, pending)| match pending.stage {
            RequestStage::Waiting
            | RequestStage::Reading
            | RequestStage::Querying
            | RequestStage::Snapshotting => Some((key, Outcome::Refused(refusal.clone()))),
            RequestStage::Proposed { .. } => Some((key, Outcome::Unknown(Doubt::MachineFailed))),
            // Others answer these.
            RequestStage::Forwarded { .. } | RequestStage::Administering => None,
        });
        for (key, outcome) in ended.collect::<Vec<_>>() {
            self.finish(key, outcome);
        }
        self.reads.clear();
    }

    /// Hands the state machine something to do.
    pub(in crate::replica) fn ask_machine(&mut self, job: MachineJob) {
        self.effects.push_back(Effect::Machine(job));
    }
}
