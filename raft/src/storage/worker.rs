//! What the storage thread does with a batch of jobs. The thread itself, and what it waits on, are the driver's.

use std::collections::VecDeque;

use super::{Disk, Log, StorageError};
use crate::core::{Done, Fetch};
use crate::types::Write;

/// Something to do with the log.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Job {
    /// Make this durable.
    Write(Write),
    /// Read these entries.
    Fetch(Fetch),
}

/// What became of a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Completion {
    /// It is done: [`Done::Written`] or [`Done::Fetched`]. The entries fetched are none if the log no longer holds any
    /// of those asked for (they were truncated after the core asked).
    Done(Done),
    /// It is not done, and nothing will be any more: the node must stop, and may start again from what is on disk.
    Failed(StorageError),
}

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
    pub fn run(&mut self, jobs: &mut VecDeque<Job>, complete: &mut impl FnMut(Completion)) {
        self.write_all(jobs);
        if self.failed.is_none() {
            for job in jobs.iter() {
                if let Job::Write(write) = job {
                    complete(Completion::Done(Done::Written { sequence: write.sequence }));
                }
            }
            jobs.retain(|job| matches!(job, Job::Fetch(_)));
        }
        for job in jobs.drain(..) {
            complete(self.fetch(&job));
        }
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
        let Job::Fetch(fetch) = job else { unreachable!("writes have been completed") };
        match self.log.read(fetch) {
            Ok(entries) => Completion::Done(Done::Fetched { id: fetch.id, entries }),
            Err(error) => {
                self.failed = Some(error.clone());
                Completion::Failed(error)
            }
        }
    }
}
