//! Runs a state machine: the calls into the user's code, and what contains them.

use std::io::{self, Read};
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::failure::{CallFailure, panic_message};
use super::{MachineCallback, MachineDone, MachineFailure, MachineJob};
use crate::core::mutants::{Mutant, planted};
use crate::replica::{Answer, Committed, Query, Sessions, StateMachine, snapshot};
use crate::types::{Digest, Entries, Index, Payload, SnapshotMeta, Stamp};

/// How often a restore is tried from the node's own file before the machine counts as failed.
pub const RESTORE_ATTEMPTS: u32 = 3;

/// What a [`MachineRunner`] needs of whoever drives it.
pub trait MachineHost {
    /// Opens the content of the newest snapshot on disk, which stands for `meta`.
    ///
    /// # Errors
    /// Why it cannot be opened.
    fn open_snapshot(&mut self, meta: &SnapshotMeta) -> std::io::Result<Box<dyn Read + '_>>;

    /// The machine is about to be called, for the entry or the snapshot of this index. The call
    /// before this one has ended.
    fn before_call(&mut self, _callback: MachineCallback, _index: Index) {}

    /// Whether what is applied so far shall be told now, before the entries behind it are applied.
    fn should_report(&mut self) -> bool {
        false
    }

    /// A restore has failed and is tried again.
    fn restore_failed(&mut self, _failure: &MachineFailure) {}

    /// What this node's wall clock says. Nothing may depend on it; a planted fault does.
    fn wall_clock(&self) -> Stamp {
        Stamp(0)
    }
}

/// A state machine and the sessions of its clients. It has no thread and no queue of its own, so
/// that the node, on its loop or on a thread, and the simulator run the same code.
#[derive(Debug)]
pub struct MachineRunner<S> {
    machine: S,
    sessions: Sessions,
    /// Everything up to here is applied.
    applied: Index,
    has_failed: bool,
    /// The digest that was taken last.
    digest: Option<Digest>,
}

impl<S: StateMachine> MachineRunner<S> {
    /// Takes the machine in its initial state.
    pub fn new(machine: S) -> MachineRunner<S> {
        let (sessions, applied) = (Sessions::new(), Index(0));
        MachineRunner { machine, sessions, applied, has_failed: false, digest: None }
    }

    /// The machine.
    pub fn machine(&self) -> &S {
        &self.machine
    }

    /// The machine, to change its settings; its state changes by the log alone.
    pub fn machine_mut(&mut self) -> &mut S {
        &mut self.machine
    }

    /// The open sessions.
    pub fn sessions(&self) -> &Sessions {
        &self.sessions
    }

    /// Everything up to here is applied, or restored.
    pub fn applied(&self) -> Index {
        self.applied
    }

    /// Whether the machine has refused to go on, or panicked.
    pub fn has_failed(&self) -> bool {
        self.has_failed
    }

    /// How many calls of the machine a job takes, if all of them are quick by the machine's own
    /// word.
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

    /// Does a job and says what became of it. After a failure only a restore is carried out:
    /// what is asked of a machine whose state is not known has no answer.
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
                let asked = Query { applied, bytes: &query };
                let answer = catch_panic(|| Ok(Answer::new(self.machine.query(&asked), applied)));
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
        let (mut told, mut outcomes) = (self.applied, Vec::new());
        let mut failure = None;
        for entry in entries {
            host.before_call(MachineCallback::Apply, entry.index);
            let is_local = planted(Mutant::ExpiryByLocalClock);
            let stamp = if is_local { host.wall_clock() } else { entry.stamp };
            match catch_panic(|| Ok(self.sessions.apply_at(stamp, entry, &mut self.machine)?)) {
                Ok(outcome) => outcomes.extend(outcome),
                Err(failed) => {
                    failure = Some(failed.at(MachineCallback::Apply, entry.index));
                    break;
                }
            }
            self.applied = entry.index;
            if host.should_report() {
                told = self.applied;
                complete(MachineDone::Applied {
                    last: told,
                    outcomes: std::mem::take(&mut outcomes),
                });
            }
        }
        if self.applied > told {
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
        // Formats of the base feature level do not say it.
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
            Err(failed) => Err(failed.at(MachineCallback::Snapshot, meta.index)),
        }
    }

    fn take_digest(
        &mut self,
        index: Index,
        host: &mut impl MachineHost,
    ) -> Result<Option<Digest>, MachineFailure> {
        host.before_call(MachineCallback::Digest, index);
        let digest = catch_panic(|| Ok(self.machine.digest()));
        let digest = digest.map_err(|failed| failed.at(MachineCallback::Digest, index))?;
        Ok(digest.map(|digest| digest.with_sessions(index, self.sessions.digest())))
    }

    /// The state that was restored is the one that the snapshot was taken of, as far as digests of
    /// one version tell.
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
                    "the restored state has digest {value:016x}, and the snapshot says {:016x} (version {version})",
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
                    let failure = failed.at(MachineCallback::Restore, meta.index);
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

/// Notes whether the file is why a restore fails, and not the state machine.
struct WatchedReader<'a, R> {
    content: R,
    has_failed: &'a mut bool,
}

impl<R: Read> Read for WatchedReader<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.content.read(buffer).inspect_err(|_| *self.has_failed = true)
    }
}

/// Calls the state machine, and makes an error of its panic.
///
/// To assert unwind safety is sound here. What a panic of `apply` or `restore` leaves half done is
/// the machine and the sessions; they are not looked at again before a restore has replaced both.
/// `query` and `snapshot` change nothing that is not the machine's own business: they have `&self`.
fn catch_panic<T>(call: impl FnOnce() -> Result<T, CallFailure>) -> Result<T, CallFailure> {
    catch_unwind(AssertUnwindSafe(call)).unwrap_or_else(|panic| {
        Err(CallFailure { reason: panic_message(&*panic), has_panicked: true })
    })
}
