//! The replica's reaction to completed jobs and to failures of its state machine.

use super::loading::LoadingPhase;
use super::{MachineCallback, MachineDone, MachineFailure, MachineJob, UnappliedLogFull};
use crate::core::Done;
use crate::replica::requests::RequestStage;
use crate::replica::{Doubt, Effect, Outcome, Refusal, Replica, ReplicaEvent};
use crate::storage::Job;
use crate::types::{Index, Now};

/// The replica's view of its state machine.
#[derive(Debug, Default)]
pub(in crate::replica) struct MachineState {
    /// Why it has stopped.
    pub(in crate::replica) failure: Option<MachineFailure>,
    /// The index of the snapshot that it is being restored from.
    pub(in crate::replica) restoring: Option<Index>,
    /// The index of the snapshot that it is taking.
    pub(in crate::replica) snapshotting: Option<Index>,
    pub(in crate::replica) loading: LoadingPhase,
    /// It was asked to stop because its state differs from a majority's, and has not reported yet
    /// that it has stopped.
    pub(in crate::replica) is_stopping: bool,
    /// A snapshot has replaced a state that differed from a majority's; the next digest is
    /// reported.
    pub(in crate::replica) is_replaced: bool,
    /// A replacement was requested for a snapshot that held a wrong state, and nothing has been
    /// restored since.
    pub(in crate::replica) has_requested_replacement: bool,
    /// The log that it cannot apply exceeds its quota.
    pub(in crate::replica) unapplied_full: Option<UnappliedLogFull>,
}

impl MachineState {
    /// Whether it ignores jobs.
    pub(in crate::replica) fn has_stopped(&self) -> bool {
        self.failure.is_some() && self.restoring.is_none()
    }
}

impl Replica {
    /// The state machine has completed a job. Jobs complete in the order in which they were given.
    ///
    /// # Panics
    /// If the result does not fit the job: answers would go to the wrong authors.
    pub fn handle_machine_done(&mut self, now: Now, done: MachineDone) {
        match done {
            MachineDone::Applied { last, mut outcomes } => {
                let result = self.handle_applied(now, last, &mut outcomes);
                assert!(result.is_ok(), "one outcome was made for each proposal: {result:?}");
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
                self.core.allow_leading(now);
                self.core.end_divergence(now);
                self.handle_restored(now, &meta);
            }
            MachineDone::SnapshotDamaged(meta) => self.handle_damaged_snapshot(now, meta.index),
            // Once: if the leader's snapshot fails too, restoring is at fault.
            MachineDone::SnapshotMismatch(meta) => {
                if !std::mem::replace(&mut self.machine.has_requested_replacement, true) {
                    self.handle_damaged_snapshot(now, meta.index);
                }
            }
            MachineDone::Failed(failure) => self.handle_machine_failure(now, failure),
        }
        self.update_loading();
    }

    /// The file of the snapshot of this index is unreadable. Requests another one, unless a newer
    /// one has been installed already.
    fn handle_damaged_snapshot(&mut self, now: Now, index: Index) {
        self.now = self.now.then(now);
        let is_newest = self.machine.restoring.is_none_or(|restoring| restoring <= index);
        if is_newest && self.failed.is_none() {
            self.core.request_snapshot(now);
            self.effects.push_back(Effect::Event(ReplicaEvent::SnapshotDamaged { index }));
        }
    }

    /// The state machine cannot continue. The log can: this node votes and acknowledges, but no
    /// longer leads or answers.
    fn handle_machine_failure(&mut self, now: Now, failure: MachineFailure) {
        self.now = self.now.then(now);
        let index = failure.index;
        if failure.callback == MachineCallback::Restore {
            self.machine.restoring.take_if(|restoring| *restoring <= index);
        }
        // Jobs after a later restore will be done, all others will not.
        self.writes.discard_applying(self.machine.restoring);
        if let Some(index) = self.machine.snapshotting.take() {
            self.core.handle_done(now, Done::SnapshotFailed { index });
        }
        if std::mem::take(&mut self.machine.is_stopping) {
            // The divergence was reported before, and all requests were ended.
            if self.machine.restoring.is_none() {
                self.core.request_state(now);
            }
            return;
        }
        self.stop_answering(failure.clone());
        self.effects.push_back(Effect::Event(ReplicaEvent::MachineFailed(failure)));
    }

    /// Stops leading, and ends all requests that need the state machine.
    pub(in crate::replica) fn stop_answering(&mut self, failure: MachineFailure) {
        let index = failure.index;
        self.machine.failure = Some(failure);
        self.core.forbid_leading(self.now);
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
            // These do not need this state machine.
            RequestStage::Forwarded { .. } | RequestStage::Administering => None,
        });
        for (key, outcome) in ended.collect::<Vec<_>>() {
            self.finish(key, outcome);
        }
        self.reads.clear();
    }

    /// Gives the state machine a job.
    pub(in crate::replica) fn ask_machine(&mut self, job: MachineJob) {
        self.effects.push_back(Effect::Machine(job));
    }
}
