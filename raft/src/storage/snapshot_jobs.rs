//! Snapshots under way: what the worker keeps between its calls.

use std::collections::VecDeque;
use std::fmt;

use super::snapshot::{Received, Receiving, Taken, Taking};
use super::{Completion, Disk, Log, SnapshotSource, StorageError};
use crate::core::{Done, WriteChunk};
use crate::types::{Index, SnapshotMeta};

/// At most one snapshot that is being written, and one that is being received.
pub(super) struct SnapshotJobs<D: Disk> {
    taking: Option<Taking<D::File>>,
    /// To be written after it.
    waiting: VecDeque<(SnapshotMeta, SnapshotSource)>,
    receiving: Option<Receiving<D::File>>,
    /// The source of the one that is being written has nothing yet.
    is_waiting: bool,
}

impl<D: Disk> fmt::Debug for SnapshotJobs<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SnapshotJobs")
            .field("taking", &self.taking.as_ref().map(Taking::meta))
            .field("waiting", &self.waiting)
            .field("receiving", &self.receiving.as_ref().map(Receiving::meta))
            .finish()
    }
}

impl<D: Disk> Default for SnapshotJobs<D> {
    fn default() -> SnapshotJobs<D> {
        SnapshotJobs { taking: None, waiting: VecDeque::new(), receiving: None, is_waiting: false }
    }
}

/// A snapshot cannot be written: what there is of it goes. Only a file of its own has failed, so
/// the log goes on.
fn give_up<D: Disk>(
    log: &mut Log<D>,
    index: Index,
    error: StorageError,
) -> Result<Completion, StorageError> {
    if !matches!(error, StorageError::Io { .. }) {
        return Err(error);
    }
    log.discard_unfinished(index)?;
    Ok(Completion::SnapshotFailed { index, error })
}

impl<D: Disk> SnapshotJobs<D> {
    /// Whether [`step`](Self::step) has more to do, as far as is known.
    pub(super) fn has_more(&self) -> bool {
        (self.taking.is_some() && !self.is_waiting)
            || (self.taking.is_none() && !self.waiting.is_empty())
    }

    /// A snapshot is to be written.
    pub(super) fn take(&mut self, meta: SnapshotMeta, source: SnapshotSource) {
        self.waiting.push_back((meta, source));
    }

    /// Writes one slice. Says so when a snapshot is done, or cannot be written. An error is the
    /// log's.
    pub(super) fn step(&mut self, log: &mut Log<D>) -> Result<Option<Completion>, StorageError> {
        let mut taking = match self.taking.take() {
            Some(taking) => taking,
            None => {
                let Some((meta, source)) = self.waiting.pop_front() else { return Ok(None) };
                let index = meta.index;
                match log.begin_snapshot(meta, source) {
                    Ok(Some(taking)) => taking,
                    Ok(None) => return Ok(Some(Completion::Done(Done::SnapshotTaken { index }))),
                    Err(error) => return give_up(log, index, error).map(Some),
                }
            }
        };
        let index = taking.meta().index;
        self.is_waiting = false;
        match taking.step() {
            Ok(step @ (Taken::Slice | Taken::Waiting)) => {
                self.is_waiting = step == Taken::Waiting;
                self.taking = Some(taking);
                Ok(None)
            }
            Ok(Taken::Whole { bytes }) => {
                log.place_snapshot(&taking, bytes)?;
                Ok(Some(Completion::Done(Done::SnapshotTaken { index })))
            }
            Err(error) => {
                drop(taking);
                give_up(log, index, error).map(Some)
            }
        }
    }

    /// The log has failed: what was to be written will not be.
    pub(super) fn fail(&mut self, error: &StorageError, complete: &mut impl FnMut(Completion)) {
        for _ in 0..self.waiting.len() + usize::from(self.taking.is_some()) {
            complete(Completion::Failed(error.clone()));
        }
        self.taking = None;
        self.waiting.clear();
    }

    /// Takes in a piece of a snapshot. Returns how much there is without a gap.
    pub(super) fn receive(
        &mut self,
        log: &mut Log<D>,
        WriteChunk { meta, chunk, .. }: &WriteChunk,
    ) -> Result<u64, StorageError> {
        let goes_on = self
            .receiving
            .as_ref()
            .is_some_and(|receiving| receiving.is_of(meta, chunk.total_bytes));
        if !goes_on {
            if chunk.offset > 0 {
                return Ok(0);
            }
            self.give_up_receiving(log)?;
            self.receiving = Some(log.begin_receiving(meta, chunk)?);
        }
        let receiving = self.receiving.as_mut().expect("there is one now");
        match receiving.take(chunk)? {
            Received::UpTo(received_bytes) => Ok(received_bytes),
            Received::Damaged => {
                self.give_up_receiving(log)?;
                Ok(0)
            }
        }
    }

    /// Makes the snapshot received the log's own, if it is this one and whole.
    pub(super) fn install(
        &mut self,
        log: &mut Log<D>,
        meta: &SnapshotMeta,
    ) -> Result<bool, StorageError> {
        match self.receiving.take() {
            Some(mut receiving) if receiving.meta() == meta => log.install(&mut receiving),
            other => {
                self.receiving = other;
                Ok(log.snapshot() == Some(meta) && !log.is_diverged() && !log.lacks_snapshot())
            }
        }
    }

    fn give_up_receiving(&mut self, log: &mut Log<D>) -> Result<(), StorageError> {
        match self.receiving.take() {
            Some(receiving) => log.discard(receiving.name()),
            None => Ok(()),
        }
    }
}
