//! Writes a snapshot of the state machine, a block at a time.

use super::format::{self, BLOCK_BYTES, BLOCK_PREFIX_BYTES, SnapshotHeader};
use super::{SYNC_BYTES, writing_name};
use crate::storage::snapshot_source::Filled;
use crate::storage::{Disk, DiskFile, SnapshotSource, StorageError};
use crate::types::{Identity, SnapshotMeta};

/// A snapshot that is being written.
#[derive(Debug)]
pub(in crate::storage) struct SnapshotWriter<F> {
    meta: SnapshotMeta,
    source: SnapshotSource,
    file: F,
    name: String,
    position: u64,
    unsynced_bytes: u64,
    checksum: u32,
    content_bytes: u64,
    block: Vec<u8>,
}

/// What writing the next block has led to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::storage) enum WriteProgress {
    /// A block is written.
    Block,
    /// The source has nothing yet.
    Waiting,
    /// The file is whole, and synced.
    Complete {
        /// Its length.
        bytes: u64,
    },
}

impl<F: DiskFile> SnapshotWriter<F> {
    /// Creates the file and writes its header.
    pub(in crate::storage) fn begin<D: Disk<File = F>>(
        disk: &mut D,
        identity: &Identity,
        meta: SnapshotMeta,
        source: SnapshotSource,
    ) -> Result<SnapshotWriter<F>, StorageError> {
        let name = writing_name(meta.index);
        let mut header = Vec::new();
        let checksum = SnapshotHeader::new(identity, meta.clone()).put(&mut header);
        let file =
            disk.create(&name, 0).map_err(|error| StorageError::io("create", &name, &error))?;
        let block = Vec::with_capacity(BLOCK_PREFIX_BYTES + BLOCK_BYTES);
        let mut writer = SnapshotWriter {
            meta,
            source,
            file,
            name,
            position: 0,
            unsynced_bytes: 0,
            checksum,
            content_bytes: 0,
            block,
        };
        writer.write(&header)?;
        Ok(writer)
    }

    pub(in crate::storage) fn meta(&self) -> &SnapshotMeta {
        &self.meta
    }

    /// The file's temporary name.
    pub(in crate::storage) fn name(&self) -> &str {
        &self.name
    }

    /// Writes the next block, if the source has data, or the trailer if it has ended.
    pub(in crate::storage) fn write_block(&mut self) -> Result<WriteProgress, StorageError> {
        let mut block = std::mem::take(&mut self.block);
        block.resize(BLOCK_PREFIX_BYTES + BLOCK_BYTES, 0);
        let filled = self.source.fill(&mut block[BLOCK_PREFIX_BYTES..]);
        let filled = filled.map_err(|error| {
            StorageError::io("read the state machine's snapshot for", &self.name, &error)
        })?;
        match filled {
            Filled::Waiting => {
                self.block = block;
                return Ok(WriteProgress::Waiting);
            }
            Filled::Bytes(read) => {
                block.truncate(BLOCK_PREFIX_BYTES + read);
                self.checksum = format::finish_block(&mut block, self.checksum);
                self.content_bytes += read as u64;
                self.write(&block)?;
                self.block = block;
                if self.unsynced_bytes >= SYNC_BYTES {
                    self.sync()?;
                }
                return Ok(WriteProgress::Block);
            }
            Filled::End => {}
        }
        self.write(&format::trailer(self.content_bytes, self.checksum))?;
        self.sync()?;
        Ok(WriteProgress::Complete { bytes: self.position })
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), StorageError> {
        self.file
            .write_at(bytes, self.position)
            .map_err(|error| StorageError::io("write", &self.name, &error))?;
        self.position += bytes.len() as u64;
        self.unsynced_bytes += bytes.len() as u64;
        Ok(())
    }

    fn sync(&mut self) -> Result<(), StorageError> {
        self.file.sync().map_err(|error| StorageError::io("sync", &self.name, &error))?;
        self.unsynced_bytes = 0;
        Ok(())
    }
}
