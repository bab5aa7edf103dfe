//! What the storage thread does with a batch of jobs. The thread itself, and what it waits on, are
//! the driver's.

use std::collections::VecDeque;

use super::snapshot_jobs::SnapshotJobs;
use super::{Completion, Disk, Job, Log, StorageError};
use crate::core::{Done, InstallSnapshot};
use crate::types::LogPosition;

/// Carries out jobs on a log, a batch at a time. It has no clock, no thread and no queue of its own
/// but that of snapshots to write, so that a storage thread and a simulator run the same code.
#[derive(Debug)]
pub struct Worker<D: Disk> {
    log: Log<D>,
    snapshots: SnapshotJobs<D>,
    failed: Option<StorageError>,
    /// What [`Worker::take_synced`] last said.
    told: LogPosition,
    wants_mark: bool,
}

impl<D: Disk> Worker<D> {
    /// A worker on this log.
    #[must_use]
    pub fn new(log: Log<D>) -> Worker<D> {
        let told = log.position();
        Worker { log, snapshots: SnapshotJobs::default(), failed: None, told, wants_mark: false }
    }

    /// The log.
    #[must_use]
    pub fn log(&self) -> &Log<D> {
        &self.log
    }

    /// The log, to read from.
    #[must_use]
    pub fn log_mut(&mut self) -> &mut Log<D> {
        &mut self.log
    }

    /// Gives the log back. A snapshot that is being written or received is given up.
    #[must_use]
    pub fn into_log(self) -> Log<D> {
        self.log
    }

    /// Does everything in `jobs`: all writes, one sync for all of them, their completions, then all
    /// others in their order. Only [`Job::InstallSnapshot`] keeps its place among the writes: what
    /// is before it is done before it. Each job but [`Job::MarkCommit`] has exactly one completion,
    /// that of [`Job::TakeSnapshot`] perhaps in a later call, and `jobs` is empty afterwards.
    ///
    /// Then a snapshot that is being written gets one slice (256 KiB) further, or the next
    /// segment's file becomes a little more ready (1 MiB), so that no write waits for more than
    /// that. Returns whether there is more to be done of this kind: `run` should then be called
    /// again soon, with the jobs that have come meanwhile or with none. A snapshot whose source has
    /// nothing yet ([`SnapshotSource::from_pieces`](super::SnapshotSource::from_pieces)) is no such
    /// thing: when there is a piece, call `run`.
    ///
    /// A snapshot that cannot be written completes as [`Completion::SnapshotFailed`], and the log
    /// goes on. After any other failure every job, of this batch and of all later ones, completes
    /// as [`Completion::Failed`]: of writes whose sync failed, nobody can know which are on disk.
    pub fn run(&mut self, jobs: &mut VecDeque<Job>, complete: &mut impl FnMut(Completion)) -> bool {
        let is_install = |job: &Job| matches!(job, Job::InstallSnapshot(_));
        while !jobs.is_empty() {
            let before = jobs.iter().position(is_install).unwrap_or(jobs.len());
            self.write_all(jobs.range(..before), complete);
            let install = usize::from(before < jobs.len());
            for job in jobs.drain(..before + install) {
                self.run_one(job, complete);
            }
        }
        if self.failed.is_none() {
            match self.snapshots.step(&mut self.log) {
                Ok(completion) => completion.into_iter().for_each(&mut *complete),
                Err(error) => {
                    complete(Completion::Failed(error.clone()));
                    self.failed = Some(error);
                }
            }
        }
        let mut is_preparing = false;
        if self.failed.is_none() {
            match self.log.prepare() {
                Ok(has_more) => is_preparing = has_more,
                Err(error) => {
                    complete(Completion::Failed(error.clone()));
                    self.failed = Some(error);
                }
            }
        }
        if let Some(error) = &self.failed {
            self.snapshots.fail(error, complete);
            return false;
        }
        self.snapshots.has_more() || is_preparing
    }

    /// How far the log is durable, if that was not asked since the last write.
    pub fn take_synced(&mut self) -> Option<LogPosition> {
        let position = self.log.position();
        (self.failed.is_none() && std::mem::replace(&mut self.told, position) != position)
            .then_some(position)
    }

    /// Whether [`Worker::idle`] shall be called now, and not only after a while: a
    /// [`Job::MarkCommit`] was among the jobs. Their completions do not wait for the mark.
    pub fn wants_mark(&self) -> bool {
        self.wants_mark
    }

    /// To be called when no job has come for a while (some tenths of a second; the caller has the
    /// clock): notes in the log what is committed, and that everything before is durable, which
    /// lets recovery tell rot in the last batch from a torn write. Costs one unsynced write of 48
    /// bytes, and nothing if the note is there already.
    pub fn idle(&mut self, complete: &mut impl FnMut(Completion)) {
        self.wants_mark = false;
        if self.failed.is_some() {
            return;
        }
        if let Err(error) = self.log.mark() {
            complete(Completion::Failed(error.clone()));
            self.failed = Some(error);
        }
    }

    /// Appends every write of the batch, syncs once, and says so.
    fn write_all<'a>(
        &mut self,
        jobs: impl Iterator<Item = &'a Job> + Clone,
        complete: &mut impl FnMut(Completion),
    ) {
        if self.failed.is_some() {
            return;
        }
        let writes =
            jobs.filter_map(|job| if let Job::Write(write) = job { Some(write) } else { None });
        self.failed = writes
            .clone()
            .try_for_each(|write| self.log.append(write))
            .and_then(|()| self.log.sync())
            .err();
        if self.failed.is_none() {
            writes.for_each(|write| {
                complete(Completion::Done(Done::Written { sequence: write.sequence }))
            });
        }
    }

    /// Does a job, once the writes of its batch are done, and completes it.
    fn run_one(&mut self, job: Job, complete: &mut impl FnMut(Completion)) {
        if let Some(error) = &self.failed {
            complete(Completion::Failed(error.clone()));
            return;
        }
        let result = match job {
            Job::Write(_) => return,
            Job::MarkCommit { commit } => {
                match self.log.commit_to(commit) {
                    Ok(()) => self.wants_mark = true,
                    Err(error) => {
                        complete(Completion::Failed(error.clone()));
                        self.failed = Some(error);
                    }
                }
                return;
            }
            Job::Fetch(fetch) => {
                self.log.read(&fetch).map(|entries| Done::Fetched { id: fetch.id, entries })
            }
            Job::MarkDiverged(divergence) => {
                self.log.mark_diverged(divergence).map(|()| Done::DivergenceMarked)
            }
            Job::Compact { first } => {
                self.log.compact(first).map(|first| Done::Compacted { first })
            }
            Job::ReadChunk(read) => {
                self.log.read_chunk(&read).map(|chunk| Done::ChunkRead { id: read.id, chunk })
            }
            Job::WriteChunk(write) => self
                .snapshots
                .receive(&mut self.log, &write)
                .map(|received_bytes| Done::ChunkWritten { id: write.id, received_bytes }),
            Job::InstallSnapshot(InstallSnapshot { meta, .. }) => self
                .snapshots
                .install(&mut self.log, &meta)
                .map(|is_valid| Done::SnapshotInstalled { index: meta.index, is_valid }),
            Job::TakeSnapshot { meta, source } => {
                self.snapshots.take(meta, source);
                return;
            }
        };
        complete(self.completion(result));
    }

    fn completion(&mut self, result: Result<Done, StorageError>) -> Completion {
        match result {
            Ok(done) => Completion::Done(done),
            Err(error) => {
                self.failed = Some(error.clone());
                Completion::Failed(error)
            }
        }
    }
}
