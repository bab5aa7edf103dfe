//! What the storage thread does with a batch of jobs. The thread itself, and what it waits on, are the driver's.

use std::collections::VecDeque;

use super::{Completion, Disk, Job, Log, StorageError};
use crate::core::Done;

/// Carries out jobs on a log, a batch at a time. It has no clock, no thread and no queue of its own, so that a storage
/// thread and a simulator run the same code.
#[derive(Debug)]
pub struct Worker<D: Disk> {
    log: Log<D>,
    failed: Option<StorageError>,
}

impl<D: Disk> Worker<D> {
    /// A worker on this log.
    #[must_use]
    pub fn new(log: Log<D>) -> Worker<D> {
        Worker { log, failed: None }
    }

    /// The log.
    #[must_use]
    pub fn log(&self) -> &Log<D> {
        &self.log
    }

    /// Gives the log back.
    #[must_use]
    pub fn into_log(self) -> Log<D> {
        self.log
    }

    /// Does everything in `jobs`, in this order: all writes, one sync for all of them, their completions, then the
    /// fetches and theirs. Each job has exactly one completion, and `jobs` is empty afterwards.
    ///
    /// After a failure every job, of this batch and of all later ones, completes as [`Completion::Failed`]: of writes
    /// whose sync failed, nobody can know which are on disk.
    ///
    /// Snapshots are written a slice at a time. Returns whether one is being written: `run` should then be called again
    /// soon, with the jobs that have come meanwhile or with none.
    pub fn run(&mut self, jobs: &mut VecDeque<Job>, complete: &mut impl FnMut(Completion)) -> bool {
        self.write_all(jobs);
        if self.failed.is_none() {
            for job in jobs.iter() {
                if let Job::Write(write) = job {
                    complete(Completion::Done(Done::Written { sequence: write.sequence }));
                }
            }
            jobs.retain(|job| !matches!(job, Job::Write(_)));
        }
        for job in jobs.drain(..) {
            complete(self.fetch(&job));
        }
        false
    }

    /// To be called when no job has come for a while (some tenths of a second; the caller has the clock): notes in the log
    /// that everything before is durable, which lets recovery tell rot in the last batch from a torn write. Costs one
    /// unsynced write of 48 bytes, and nothing if the note is there already.
    pub fn idle(&mut self, complete: &mut impl FnMut(Completion)) {
        if self.failed.is_some() {
            return;
        }
        if let Err(error) = self.log.mark() {
            complete(Completion::Failed(error.clone()));
            self.failed = Some(error);
        }
    }

    /// Appends every write of the batch and syncs once.
    fn write_all(&mut self, jobs: &VecDeque<Job>) {
        if self.failed.is_some() {
            return;
        }
        let mut result = Ok(());
        for job in jobs {
            if let Job::Write(write) = job {
                result = self.log.append(write);
                if result.is_err() {
                    break;
                }
            }
        }
        self.failed = result.and_then(|()| self.log.sync()).err();
    }

    fn fetch(&mut self, job: &Job) -> Completion {
        if let Some(error) = &self.failed {
            return Completion::Failed(error.clone());
        }
        let Job::Fetch(fetch) = job else {
            let error = std::io::Error::from(std::io::ErrorKind::Unsupported);
            let error = StorageError::io("keep snapshots in", "the data folder", &error);
            self.failed = Some(error.clone());
            return Completion::Failed(error);
        };
        match self.log.read(fetch) {
            Ok(entries) => Completion::Done(Done::Fetched { id: fetch.id, entries }),
            Err(error) => {
                self.failed = Some(error.clone());
                Completion::Failed(error)
            }
        }
    }
}
