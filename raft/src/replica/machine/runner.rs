//! Runs a state machine: calls the user's code and contains its panics.

use std::io::{self, Read};
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::failure::CallFailure;
use super::{MachineCallback, MachineDone, MachineFailure, MachineJob};
use crate::core::mutants::{Mutant, planted};
use crate::panic_message::panic_message;
use crate::replica::{Answer, Committed, Query, Sessions, StateMachine, snapshot};
use crate::types::{Digest, Entries, Index, Payload, SnapshotMeta, Stamp};

/// The number of attempts to restore a snapshot before the machine counts as failed.
pub const RESTORE_ATTEMPTS: u32 = 3;

/// The functions that a [`MachineRunner`] needs from its driver.
pub trait MachineHost {
    /// Opens the content of the newest snapshot on disk, which is the one of `meta`.
    ///
    /// # Errors
    /// Why it cannot be opened.
    fn open_snapshot(&mut self, meta: &SnapshotMeta) -> std::io::Result<Box<dyn Read + '_>>;

    /// Called before each call of the machine, for the entry or the snapshot of this index.
    fn before_call(&mut self, _callback: MachineCallback, _index: Index) {}

    /// Whether to report the entries applied so far before the next one is applied.
    fn should_report(&mut self) -> bool {
        false
    }

    /// Called when a restore has failed and another attempt follows.
    fn restore_failed(&mut self, _failure: &MachineFailure) {}

    /// This node's wall clock. Only a planted fault depends on it.
    fn wall_clock(&self) -> Stamp {
        Stamp(0)
    }
}

/// A state machine and the sessions of its clients.
///
/// It has no thread and no queue of its own, so the node, on its loop or on a thread, and the
/// simulator run the same code.
#[derive(Debug)]
pub struct MachineRunner<S> {
    machine: S,
    sessions: Sessions,
    /// The last index applied.
    applied: Index,
    has_failed: bool,
    /// The last digest taken.
    digest: Option<Digest>,
}

impl<S: StateMachine> MachineRunner<S> {
    /// A runner for a machine in its initial state.
    pub fn new(machine: S) -> MachineRunner<S> {
        let (sessions, applied) = (Sessions::new(), Index(0));
        MachineRunner { machine, sessions, applied, has_failed: false, digest: None }
    }

    /// The state machine.
    pub fn machine(&self) -> &S {
        &self.machine
    }

    /// The state machine, to change its settings. Its state must change by the log alone.
    pub fn machine_mut(&mut self) -> &mut S {
        &mut self.machine
    }

    /// The open sessions.
    pub fn sessions(&self) -> &Sessions {
        &self.sessions
    }

    /// The last index that was applied or restored.
    pub fn applied(&self) -> Index {
        self.applied
    }

    /// Whether the machine has returned an error or panicked.
    pub fn has_failed(&self) -> bool {
        self.has_failed
    }

    /// The number of calls that a job takes, if the machine declares all of them to be quick.
    pub fn quick_calls(&self, job: &MachineJob) -> Option<usize> {
        let is_quick = || match job {
            MachineJob::Apply(entries) => entries.iter().all(|entry| {
                let command = match &entry.payload {
                    Payload::Command(command) => command,
                    Payload::SessionCommand(in_session) => &in_session.command,
                    _ => return true,
                };
                let (index, term, stamp) = (entry.index, entry.term, entry.stamp);
                self.machine.applies_quickly(&Committed { index, term, stamp, command })
            }),
            MachineJob::Query { query, .. } => {
                self.machine.answers_quickly(&Query { applied: self.applied, bytes: query })
            }
            _ => false,
        };
        let is_quick = catch_panic(|| Ok(is_quick())).unwrap_or(false);
        let calls = if let MachineJob::Apply(entries) = job { entries.len() } else { 1 };
        is_quick.then_some(calls)
    }

    /// Does a job and passes its results to `complete`.
    ///
    /// After a failure the state of the machine is not known, so only a restore is carried out.
    pub fn run(
        &mut self,
        job: MachineJob,
        host: &mut impl MachineHost,
        complete: &mut impl FnMut(MachineDone),
    ) {
        if self.has_failed && !matches!(job, MachineJob::Restore(_)) {
            return;
        }
        let result = match job {
            MachineJob::Apply(entries) => self.apply(&entries, host, complete),
            MachineJob::Query { id, query } => {
                host.before_call(MachineCallback::Query, self.applied);
                let applied = self.applied;
                let query = Query { applied, bytes: &query };
                let answer = catch_panic(|| Ok(Answer::new(self.machine.query(&query), applied)));
                complete(MachineDone::Queried { id, answer: answer.ok() });
                Ok(())
            }
            MachineJob::TakeDigest(index) => self.take_digest(index, host).map(|digest| {
                self.digest = digest;
                complete(MachineDone::DigestTaken(digest));
            }),
            MachineJob::Stop(failure) => Err(failure),
            MachineJob::TakeSnapshot(meta) => self.take_snapshot(meta, host, complete),
            MachineJob::Restore(meta) => self.restore(meta, host, complete),
        };
        if let Err(failure) = result {
            self.has_failed = true;
            complete(MachineDone::Failed(failure));
        }
    }

    fn apply(
        &mut self,
        entries: &Entries,
        host: &mut impl MachineHost,
        complete: &mut impl FnMut(MachineDone),
    ) -> Result<(), MachineFailure> {
        let (mut reported, mut outcomes) = (self.applied, Vec::new());
        let mut failure = None;
        for entry in entries {
            host.before_call(MachineCallback::Apply, entry.index);
            let is_local = planted(Mutant::ExpiryByLocalClock);
            let stamp = if is_local { host.wall_clock() } else { entry.stamp };
            match catch_panic(|| Ok(self.sessions.apply_at(stamp, entry, &mut self.machine)?)) {
                Ok(outcome) => outcomes.extend(outcome),
                Err(failed) => {
                    failure = Some(failed.into_failure(MachineCallback::Apply, entry.index));
                    break;
                }
            }
            self.applied = entry.index;
            if host.should_report() {
                reported = self.applied;
                complete(MachineDone::Applied {
                    last: reported,
                    outcomes: std::mem::take(&mut outcomes),
                });
            }
        }
        if self.applied > reported {
            complete(MachineDone::Applied { last: self.applied, outcomes });
        }
        failure.map_or(Ok(()), Err)
    }

    fn take_snapshot(
        &mut self,
        mut meta: SnapshotMeta,
        host: &mut impl MachineHost,
        complete: &mut impl FnMut(MachineDone),
    ) -> Result<(), MachineFailure> {
        // Formats of the base feature level have no field for it.
        if meta.configuration.feature_level.is_above_base() {
            meta.digest = self.digest.filter(|digest| digest.index == meta.index);
        }
        host.before_call(MachineCallback::Snapshot, meta.index);
        match catch_panic(|| Ok(self.machine.snapshot())) {
            Ok(state) => {
                let content = snapshot::encode_content(state, &self.sessions);
                complete(MachineDone::SnapshotReady { meta, content });
                Ok(())
            }
            Err(failed) => Err(failed.into_failure(MachineCallback::Snapshot, meta.index)),
        }
    }

    fn take_digest(
        &mut self,
        index: Index,
        host: &mut impl MachineHost,
    ) -> Result<Option<Digest>, MachineFailure> {
        host.before_call(MachineCallback::Digest, index);
        let digest = catch_panic(|| Ok(self.machine.digest()));
        let digest =
            digest.map_err(|failed| failed.into_failure(MachineCallback::Digest, index))?;
        Ok(digest.map(|digest| digest.with_sessions(index, self.sessions.digest())))
    }

    /// Compares the restored state's digest with the snapshot's, if both have the same version.
    fn check_restored(&self, meta: &SnapshotMeta, sessions: &Sessions) -> Result<(), CallFailure> {
        let Some(expected) = meta.digest.filter(|_| !planted(Mutant::RestoredDigestUnchecked))
        else {
            return Ok(());
        };
        let restored = self.machine.digest();
        let restored = restored.map(|digest| digest.with_sessions(meta.index, sessions.digest()));
        match restored.filter(|restored| restored.version == expected.version) {
            Some(Digest { value, version, .. }) if value != expected.value => {
                Err(CallFailure::from(format!(
                    "the restored state has digest {value:016x}, and the snapshot has {:016x} \
                     (version {version})",
                    expected.value
                )))
            }
            _ => Ok(()),
        }
    }

    fn restore(
        &mut self,
        meta: SnapshotMeta,
        host: &mut impl MachineHost,
        complete: &mut impl FnMut(MachineDone),
    ) -> Result<(), MachineFailure> {
        let mut attempt = 1;
        loop {
            host.before_call(MachineCallback::Restore, meta.index);
            let (mut is_damaged, mut is_wrong) = (false, false);
            let restored = catch_panic(|| {
                let content = host.open_snapshot(&meta).inspect_err(|_| is_damaged = true)?;
                let mut content = WatchedReader { content, has_failed: &mut is_damaged };
                let sessions = snapshot::restore(&mut self.machine, &mut content)?;
                drop(content);
                self.check_restored(&meta, &sessions).inspect_err(|_| is_wrong = true)?;
                Ok(sessions)
            });
            match restored {
                Ok(sessions) => {
                    (self.sessions, self.applied, self.has_failed) = (sessions, meta.index, false);
                    complete(MachineDone::Restored(meta));
                    return Ok(());
                }
                Err(failed) => {
                    let failure = failed.into_failure(MachineCallback::Restore, meta.index);
                    if attempt == RESTORE_ATTEMPTS {
                        if is_damaged {
                            complete(MachineDone::SnapshotDamaged(meta));
                        } else if is_wrong {
                            complete(MachineDone::SnapshotMismatch(meta));
                        }
                        return Err(failure);
                    }
                    host.restore_failed(&failure);
                    attempt += 1;
                }
            }
        }
    }
}

/// Records whether a restore fails by the file, and not by the state machine.
struct WatchedReader<'a, R> {
    content: R,
    has_failed: &'a mut bool,
}

impl<R: Read> Read for WatchedReader<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.content.read(buffer).inspect_err(|_| *self.has_failed = true)
    }
}

/// Calls the state machine and turns a panic into an error.
///
/// `AssertUnwindSafe` is justified: a panic of `apply` or `restore` can leave only the machine and
/// the sessions inconsistent, and neither is used again before a restore has replaced both. `query`
/// and `snapshot` take `&self`.
fn catch_panic<T>(call: impl FnOnce() -> Result<T, CallFailure>) -> Result<T, CallFailure> {
    catch_unwind(AssertUnwindSafe(call)).unwrap_or_else(|panic| {
        Err(CallFailure { reason: panic_message(&*panic).to_owned(), has_panicked: true })
    })
}
