//! The worker's unfinished snapshots: one being written, one being received.

use std::collections::VecDeque;
use std::fmt;

use super::snapshot::{ReceiveProgress, SnapshotReceiver, SnapshotWriter, WriteProgress};
use super::{Completion, Disk, Log, SnapshotSource, StorageError};
use crate::core::{Done, WriteChunk};
use crate::types::{Index, SnapshotMeta};

/// The snapshot being written, those that wait for it, and the snapshot being received.
pub(super) struct SnapshotJobs<D: Disk> {
    writer: Option<SnapshotWriter<D::File>>,
    /// To be written after `writer`.
    queued: VecDeque<(SnapshotMeta, SnapshotSource)>,
    receiver: Option<SnapshotReceiver<D::File>>,
    /// Whether the source of `writer` had nothing yet when it was last read.
    is_source_empty: bool,
}

impl<D: Disk> fmt::Debug for SnapshotJobs<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SnapshotJobs")
            .field("writer", &self.writer.as_ref().map(SnapshotWriter::meta))
            .field("queued", &self.queued)
            .field("receiver", &self.receiver.as_ref().map(SnapshotReceiver::meta))
            .finish()
    }
}

impl<D: Disk> Default for SnapshotJobs<D> {
    fn default() -> SnapshotJobs<D> {
        SnapshotJobs {
            writer: None,
            queued: VecDeque::new(),
            receiver: None,
            is_source_empty: false,
        }
    }
}

/// Removes a snapshot that cannot be written. If only its own file has failed, the log goes on.
fn fail_snapshot<D: Disk>(
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
    /// Whether [`write_block`](Self::write_block) has more to do, as far as is known.
    pub(super) fn has_more(&self) -> bool {
        (self.writer.is_some() && !self.is_source_empty)
            || (self.writer.is_none() && !self.queued.is_empty())
    }

    /// Queues a snapshot to be written.
    pub(super) fn enqueue(&mut self, meta: SnapshotMeta, source: SnapshotSource) {
        self.queued.push_back((meta, source));
    }

    /// Writes one block. Returns the completion of a snapshot that is whole or has failed. An error
    /// is a failure of the log.
    pub(super) fn write_block(
        &mut self,
        log: &mut Log<D>,
    ) -> Result<Option<Completion>, StorageError> {
        let mut writer = match self.writer.take() {
            Some(writer) => writer,
            None => {
                let Some((meta, source)) = self.queued.pop_front() else { return Ok(None) };
                let index = meta.index;
                match log.begin_snapshot(meta, source) {
                    Ok(Some(writer)) => writer,
                    Ok(None) => return Ok(Some(Completion::Done(Done::SnapshotTaken { index }))),
                    Err(error) => return fail_snapshot(log, index, error).map(Some),
                }
            }
        };
        let index = writer.meta().index;
        self.is_source_empty = false;
        match writer.write_block() {
            Ok(progress @ (WriteProgress::Block | WriteProgress::Waiting)) => {
                self.is_source_empty = progress == WriteProgress::Waiting;
                self.writer = Some(writer);
                Ok(None)
            }
            Ok(WriteProgress::Complete { bytes }) => {
                log.publish_snapshot(&writer, bytes)?;
                Ok(Some(Completion::Done(Done::SnapshotTaken { index })))
            }
            Err(error) => {
                drop(writer);
                fail_snapshot(log, index, error).map(Some)
            }
        }
    }

    /// Completes all jobs, because the log has failed.
    pub(super) fn fail(&mut self, error: &StorageError, complete: &mut impl FnMut(Completion)) {
        for _ in 0..self.queued.len() + usize::from(self.writer.is_some()) {
            complete(Completion::Failed(error.clone()));
        }
        self.writer = None;
        self.queued.clear();
    }

    /// Writes a received chunk. Returns how many bytes have been received without a gap.
    pub(super) fn receive(
        &mut self,
        log: &mut Log<D>,
        WriteChunk { meta, chunk, .. }: &WriteChunk,
    ) -> Result<u64, StorageError> {
        let goes_on =
            self.receiver.as_ref().is_some_and(|receiver| receiver.is_of(meta, chunk.total_bytes));
        if !goes_on {
            if chunk.offset > 0 {
                return Ok(0);
            }
            self.discard_receiver(log)?;
            self.receiver = Some(log.begin_receiving(meta, chunk)?);
        }
        let receiver = self.receiver.as_mut().expect("just created");
        match receiver.write(chunk)? {
            ReceiveProgress::UpTo(received_bytes) => Ok(received_bytes),
            ReceiveProgress::Damaged => {
                self.discard_receiver(log)?;
                Ok(0)
            }
        }
    }

    /// Installs the received snapshot, if it is this one and whole. Returns whether the log has it.
    pub(super) fn install(
        &mut self,
        log: &mut Log<D>,
        meta: &SnapshotMeta,
    ) -> Result<bool, StorageError> {
        match self.receiver.take() {
            Some(mut receiver) if receiver.meta() == meta => log.install_snapshot(&mut receiver),
            other => {
                self.receiver = other;
                Ok(log.snapshot() == Some(meta) && !log.is_diverged() && !log.lacks_snapshot())
            }
        }
    }

    fn discard_receiver(&mut self, log: &mut Log<D>) -> Result<(), StorageError> {
        match self.receiver.take() {
            Some(receiver) => log.discard(receiver.name()),
            None => Ok(()),
        }
    }
}
