//! Compaction: snapshots, and the removal of the segments whose entries they include.
//!
//! A snapshot has its name, durably, before the log removes an entry that it includes.
//!
//! ```text
//! snapshot         [..........................7]
//! segments    [1 2 3] [4 5 6] [7 8 9] [10 11 ...
//!
//! compact(8) removes the first two segments; 7 stays because it shares one with 8
//! ```

use std::io;

use super::log::Log;
use super::segment;
use super::snapshot::{self, SnapshotReader, SnapshotReceiver, SnapshotWriter, WriteProgress};
use super::{Disk, SnapshotSource, StorageError};
use crate::core::ReadChunk;
use crate::types::{Chunk, Index, SnapshotMeta};

impl<D: Disk> Log<D> {
    /// The newest snapshot; `None` if there is none.
    #[must_use]
    pub fn snapshot(&self) -> Option<&SnapshotMeta> {
        self.snapshot_store.newest()
    }

    /// Whether the newest snapshot's file was damaged when the log was opened.
    pub(super) fn lacks_snapshot(&self) -> bool {
        self.snapshot_store.is_newest_damaged()
    }

    /// Opens the newest snapshot to read the state machine's bytes; `None` if there is no snapshot.
    ///
    /// # Errors
    /// [`StorageError::Io`]; [`StorageError::Corrupt`] if its header is damaged.
    pub fn snapshot_reader(&mut self) -> Result<Option<SnapshotReader<D::File>>, StorageError> {
        let Some(index) = self.snapshot().map(|meta| meta.index) else { return Ok(None) };
        snapshot::open_in(&mut self.disk, index).map(Some)
    }

    /// Removes segments that hold only entries below `first` which the newest snapshot includes.
    /// Returns the first entry that the log still holds, which may be lower.
    ///
    /// # Errors
    /// [`StorageError::Io`] and [`StorageError::Poisoned`]: the log is poisoned.
    pub fn compact(&mut self, first: Index) -> Result<Index, StorageError> {
        self.check_not_poisoned()?;
        let limit = first.previous().min(self.snapshot_store.newest_index());
        let result = self.drop_segments(limit);
        self.poison_on_error(result)?;
        Ok(self.first_index())
    }

    /// Removes first, durably, the segment next to those that stay. If a crash leaves some of the
    /// others, the gap in the numbers shows that they no longer belong to the log.
    fn drop_segments(&mut self, limit: Index) -> Result<(), StorageError> {
        let dropped = self.contents.drop_segments_up_to(limit);
        let Some((nearest, others)) = dropped.split_last() else { return Ok(()) };
        self.reader.close_segment();
        self.segment_pool.recycle_or_remove(&mut self.disk, nearest)?;
        self.sync_directory()?;
        if others.is_empty() {
            return Ok(());
        }
        for segment in others {
            self.segment_pool.recycle_or_remove(&mut self.disk, segment)?;
        }
        self.sync_directory()
    }

    /// Begins to write a snapshot; `None` if one that includes as much exists.
    pub(super) fn begin_snapshot(
        &mut self,
        meta: SnapshotMeta,
        source: SnapshotSource,
    ) -> Result<Option<SnapshotWriter<D::File>>, StorageError> {
        self.check_not_poisoned()?;
        if meta.index <= self.snapshot_store.newest_index() {
            return Ok(None);
        }
        if !self.contents.matches_snapshot(&meta) {
            let what = format!(
                "a snapshot up to entry {} of term {}, which the log does not hold",
                meta.index, meta.term
            );
            return Err(StorageError::Rejected { what });
        }
        SnapshotWriter::begin(&mut self.disk, &self.identity, meta, source).map(Some)
    }

    /// Publishes a snapshot that has been written, unless one that includes as much exists by now.
    pub(super) fn publish_snapshot(
        &mut self,
        taken: &SnapshotWriter<D::File>,
        bytes: u64,
    ) -> Result<(), StorageError> {
        if taken.meta().index <= self.snapshot_store.newest_index() {
            return self.discard(taken.name());
        }
        self.snapshot_store.publish(&mut self.disk, taken.name(), taken.meta().clone(), bytes)
    }

    /// Publishes a received snapshot, and lets the log continue after it. Returns whether it is now
    /// the newest one: it is removed if it is not whole, not the announced one, or older.
    ///
    /// It may have the index of the newest snapshot, if that one is damaged or may hold a wrong
    /// state.
    pub(super) fn install_snapshot(
        &mut self,
        received: &mut SnapshotReceiver<D::File>,
    ) -> Result<bool, StorageError> {
        self.check_not_poisoned()?;
        let meta = received.meta().clone();
        let bytes = received.finish(&self.identity)?;
        let Some(bytes) = bytes.filter(|_| meta.index >= self.snapshot_store.newest_index()) else {
            self.discard(received.name())?;
            return Ok(self.snapshot_store.newest() == Some(&meta));
        };
        self.snapshot_store.publish(&mut self.disk, received.name(), meta.clone(), bytes)?;
        if !self.contents.matches_snapshot(&meta) {
            let result = self.restart_after_snapshot(&meta);
            self.poison_on_error(result)?;
        }
        self.clear_divergence()?;
        Ok(true)
    }

    /// Writes another log's snapshot, and lets this log, which must be empty, continue after it.
    pub(super) fn import_snapshot(
        &mut self,
        meta: &SnapshotMeta,
        source: SnapshotSource,
    ) -> Result<(), StorageError> {
        assert!(self.last_index() == Index(0), "only an empty log imports a snapshot");
        let mut writer =
            SnapshotWriter::begin(&mut self.disk, &self.identity, meta.clone(), source)?;
        let bytes = loop {
            if let WriteProgress::Complete { bytes } = writer.write_block()? {
                break bytes;
            }
        };
        self.snapshot_store.publish(&mut self.disk, writer.name(), meta.clone(), bytes)?;
        self.restart_after_snapshot(meta)
    }

    /// Begins to receive a snapshot.
    pub(super) fn begin_receiving(
        &mut self,
        meta: &SnapshotMeta,
        chunk: &Chunk,
    ) -> Result<SnapshotReceiver<D::File>, StorageError> {
        SnapshotReceiver::begin(&mut self.disk, meta, chunk.total_bytes)
    }

    /// Removes the temporary file of a snapshot.
    pub(super) fn discard(&mut self, name: &str) -> Result<(), StorageError> {
        self.disk.remove(name).map_err(|error| StorageError::io("remove", name, &error))
    }

    /// Removes the file of a snapshot that could not be written, if it exists.
    pub(super) fn discard_unfinished(&mut self, index: Index) -> Result<(), StorageError> {
        let name = snapshot::writing_name(index);
        match self.disk.remove(&name) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(StorageError::io("remove", &name, &error))
            }
            _ => Ok(()),
        }
    }

    /// Reads a chunk; `None` if that snapshot no longer exists.
    pub(super) fn read_chunk(&mut self, read: &ReadChunk) -> Result<Option<Chunk>, StorageError> {
        self.check_not_poisoned()?;
        self.snapshot_store.read(&mut self.disk, read)
    }

    /// The names of the segments' files, in order.
    #[must_use]
    pub fn segment_files(&self) -> Vec<String> {
        self.contents.segments.iter().map(|info| segment::name(info.number)).collect()
    }
}
