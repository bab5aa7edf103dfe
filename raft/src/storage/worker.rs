//! The storage worker: carries out batches of jobs on a log. The driver provides the thread.

use std::collections::VecDeque;

use super::snapshot_jobs::SnapshotJobs;
use super::{Completion, Disk, Job, Log, StorageError};
use crate::core::{Done, InstallSnapshot};
use crate::types::LogPosition;

/// Carries out jobs on a log, a batch at a time.
///
/// It has no clock and no thread, so that a storage thread and a simulator run the same code.
#[derive(Debug)]
pub struct Worker<D: Disk> {
    log: Log<D>,
    snapshots: SnapshotJobs<D>,
    failed: Option<StorageError>,
    /// What [`Worker::take_synced`] last returned.
    last_reported: LogPosition,
    wants_mark: bool,
}

impl<D: Disk> Worker<D> {
    /// A worker on this log.
    #[must_use]
    pub fn new(log: Log<D>) -> Worker<D> {
        let last_reported = log.position();
        Worker {
            log,
            snapshots: SnapshotJobs::default(),
            failed: None,
            last_reported,
            wants_mark: false,
        }
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

    /// Returns the log. A snapshot that is being written or received is abandoned.
    #[must_use]
    pub fn into_log(self) -> Log<D> {
        self.log
    }

    /// Carries out all jobs, and leaves `jobs` empty.
    ///
    /// All writes come first, with one sync and their completions, then the other jobs in their
    /// order. Only [`Job::InstallSnapshot`] keeps its place among the writes: all jobs before it
    /// are done before it. Each job has exactly one completion, that of [`Job::TakeSnapshot`]
    /// perhaps in a later call; only [`Job::MarkCommit`] has none.
    ///
    /// Then one block (256 KiB) of a snapshot is written, and 1 MiB of the next segment's file is
    /// prepared, so that no write waits for more than that. Returns whether more of this work
    /// remains: the driver should then call `run` again soon, with or without jobs. A snapshot
    /// whose source has nothing yet does not count
    /// ([`SnapshotSource::from_pieces`](super::SnapshotSource::from_pieces)): the driver calls
    /// `run` when the next piece has arrived.
    ///
    /// A snapshot that cannot be written completes as [`Completion::SnapshotFailed`], and the log
    /// goes on. After any other failure every job, of this batch and of all later ones, completes
    /// as [`Completion::Failed`]: after a failed sync it is unknown which writes are on disk.
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
            match self.snapshots.write_block(&mut self.log) {
                Ok(completion) => completion.into_iter().for_each(&mut *complete),
                Err(error) => {
                    complete(Completion::Failed(error.clone()));
                    self.failed = Some(error);
                }
            }
        }
        let mut is_preparing = false;
        if self.failed.is_none() {
            match self.log.prepare_next_segment() {
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

    /// How far the log is durable, if that has changed since the last call.
    pub fn take_synced(&mut self) -> Option<LogPosition> {
        let position = self.log.position();
        (self.failed.is_none() && std::mem::replace(&mut self.last_reported, position) != position)
            .then_some(position)
    }

    /// Whether to call [`Worker::write_mark`] now, because a [`Job::MarkCommit`] was among the
    /// jobs. No completion waits for the mark.
    pub fn wants_mark(&self) -> bool {
        self.wants_mark
    }

    /// Writes to the log what is committed, and that everything before is durable.
    ///
    /// The driver calls it when no job has arrived for some tenths of a second. Recovery can then
    /// tell damage of the last batch from a torn write. It costs one unsynced write of 48 or 56
    /// bytes, and nothing if the log has such a mark already.
    pub fn write_mark(&mut self, complete: &mut impl FnMut(Completion)) {
        self.wants_mark = false;
        if self.failed.is_some() {
            return;
        }
        if let Err(error) = self.log.write_mark() {
            complete(Completion::Failed(error.clone()));
            self.failed = Some(error);
        }
    }

    /// Appends every write of the batch, syncs once, and completes them.
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

    /// Carries out a job after the writes of its batch, and completes it.
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
                self.snapshots.enqueue(meta, source);
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
