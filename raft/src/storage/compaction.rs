//! The log and its snapshots: what is kept of which, and in what order it goes.
//!
//! A snapshot has its name, durably, before the log lets go of anything that it includes.
//!
//! ```text
//! snapshot         [..........................7]
//! segments    [1 2 3] [4 5 6] [7 8 9] [10 11 ...        compacted to 8: the first two can go; 7 and 8 share a segment
//! ```

use std::io;

use super::log::Log;
use super::segment;
use super::snapshot::{self, Receiving, SnapshotReader, Taken, Taking};
use super::{Disk, SnapshotSource, StorageError};
use crate::core::ReadChunk;
use crate::types::{Chunk, Index, SnapshotMeta};

impl<D: Disk> Log<D> {
    /// The newest snapshot; `None` if there is none.
    #[must_use]
    pub fn snapshot(&self) -> Option<&SnapshotMeta> {
        self.snapshot_store.newest()
    }

    /// Whether the newest snapshot's file was found to be damaged when the log was opened.
    pub(super) fn lacks_snapshot(&self) -> bool {
        self.snapshot_store.is_newest_damaged()
    }

    /// Reads the state machine's own bytes of the newest snapshot, for a state machine that starts
    /// or has fallen behind; `None` if there is no snapshot.
    ///
    /// # Errors
    /// [`StorageError::Io`]; [`StorageError::Corrupt`] if its beginning is no longer what was
    /// written.
    pub fn snapshot_reader(&mut self) -> Result<Option<SnapshotReader<D::File>>, StorageError> {
        let Some(index) = self.snapshot().map(|meta| meta.index) else { return Ok(None) };
        snapshot::open_in(&mut self.disk, index).map(Some)
    }

    /// Lets go of segments that hold nothing but entries below `first`, as far as the newest
    /// snapshot includes them. Returns the first entry that the log still holds, which may be
    /// lower.
    ///
    /// # Errors
    /// [`StorageError::Io`] and [`StorageError::Poisoned`]: the log is poisoned.
    pub fn compact(&mut self, first: Index) -> Result<Index, StorageError> {
        self.check_poison()?;
        let limit = first.previous().min(self.snapshot_store.newest_index());
        let result = self.drop_segments(limit);
        self.poison_on_error(result)?;
        Ok(self.first_index())
    }

    /// The segment next to those that stay goes first, durably: while the others are on their way,
    /// the gap that it has left tells that they are not part of the log any more.
    fn drop_segments(&mut self, limit: Index) -> Result<(), StorageError> {
        let gone = self.contents.forget_up_to(limit);
        let Some((nearest, others)) = gone.split_last() else { return Ok(()) };
        self.reader.forget();
        self.segment_pool.retire(&mut self.disk, nearest)?;
        self.sync_directory()?;
        if others.is_empty() {
            return Ok(());
        }
        for segment in others {
            self.segment_pool.retire(&mut self.disk, segment)?;
        }
        self.sync_directory()
    }

    /// Begins to write a snapshot; `None` if there is one that includes as much.
    pub(super) fn begin_snapshot(
        &mut self,
        meta: SnapshotMeta,
        source: SnapshotSource,
    ) -> Result<Option<Taking<D::File>>, StorageError> {
        self.check_poison()?;
        if meta.index <= self.snapshot_store.newest_index() {
            return Ok(None);
        }
        if !self.contents.holds(&meta) {
            let what = format!(
                "a snapshot up to entry {} of term {}, which the log does not hold",
                meta.index, meta.term
            );
            return Err(StorageError::Rejected { what });
        }
        Taking::begin(&mut self.disk, &self.identity, meta, source).map(Some)
    }

    /// Gives a snapshot that has been written its name, unless there is one by now that includes as
    /// much.
    pub(super) fn place_snapshot(
        &mut self,
        taken: &Taking<D::File>,
        bytes: u64,
    ) -> Result<(), StorageError> {
        if taken.meta().index <= self.snapshot_store.newest_index() {
            return self.discard(taken.name());
        }
        self.snapshot_store.place(&mut self.disk, taken.name(), taken.meta().clone(), bytes)
    }

    /// Makes a snapshot that has been received the newest one, and lets the log follow it. `false`
    /// if it is not whole, not what was announced, or older than the newest one; then it is gone.
    /// The newest one itself may have been received again: its file cannot be read, or holds a
    /// state that may be wrong.
    pub(super) fn install(
        &mut self,
        received: &mut Receiving<D::File>,
    ) -> Result<bool, StorageError> {
        self.check_poison()?;
        let meta = received.meta().clone();
        let bytes = received.finish(&self.identity)?;
        let Some(bytes) = bytes.filter(|_| meta.index >= self.snapshot_store.newest_index()) else {
            self.discard(received.name())?;
            return Ok(self.snapshot_store.newest() == Some(&meta));
        };
        self.snapshot_store.place(&mut self.disk, received.name(), meta.clone(), bytes)?;
        if !self.contents.holds(&meta) {
            let result = self.begin_after(&meta);
            self.poison_on_error(result)?;
        }
        self.end_divergence()?;
        Ok(true)
    }

    /// Writes a snapshot from elsewhere and lets the log begin after it. For a log without entries.
    pub(super) fn adopt(
        &mut self,
        meta: &SnapshotMeta,
        source: SnapshotSource,
    ) -> Result<(), StorageError> {
        assert!(
            self.last_index() == Index(0),
            "a log that holds something has a snapshot of its own, or none"
        );
        let mut taking = Taking::begin(&mut self.disk, &self.identity, meta.clone(), source)?;
        let bytes = loop {
            if let Taken::Whole { bytes } = taking.step()? {
                break bytes;
            }
        };
        self.snapshot_store.place(&mut self.disk, taking.name(), meta.clone(), bytes)?;
        self.begin_after(meta)
    }

    /// Begins to receive a snapshot.
    pub(super) fn begin_receiving(
        &mut self,
        meta: &SnapshotMeta,
        chunk: &Chunk,
    ) -> Result<Receiving<D::File>, StorageError> {
        Receiving::begin(&mut self.disk, meta, chunk.total_bytes)
    }

    /// Removes a file that will not become a snapshot.
    pub(super) fn discard(&mut self, name: &str) -> Result<(), StorageError> {
        self.disk.remove(name).map_err(|error| StorageError::io("remove", name, &error))
    }

    /// Removes what there is of a snapshot that could not be written.
    pub(super) fn discard_unfinished(&mut self, index: Index) -> Result<(), StorageError> {
        let name = snapshot::taking_name(index);
        match self.disk.remove(&name) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(StorageError::io("remove", &name, &error))
            }
            _ => Ok(()),
        }
    }

    /// Reads a piece of the snapshot of this index; `None` if it is gone.
    pub(super) fn read_chunk(&mut self, read: &ReadChunk) -> Result<Option<Chunk>, StorageError> {
        self.check_poison()?;
        self.snapshot_store.read(&mut self.disk, read)
    }

    /// The files of the log's segments, the first one first.
    #[must_use]
    pub fn segment_files(&self) -> Vec<String> {
        self.contents.segments.iter().map(|info| segment::name(info.number)).collect()
    }
}
