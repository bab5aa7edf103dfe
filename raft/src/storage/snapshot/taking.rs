//! Writes a snapshot of the state machine, a slice at a time.

use super::format::{self, BLOCK_BYTES, BLOCK_PREFIX_BYTES, Header};
use super::{SYNC_BYTES, taking_name};
use crate::storage::source::Filled;
use crate::storage::{Disk, DiskFile, SnapshotSource, StorageError};
use crate::types::{Identity, SnapshotMeta};

/// A snapshot that is being written.
#[derive(Debug)]
pub(in crate::storage) struct Taking<F> {
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

/// How far a step has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::storage) enum Taken {
    /// A slice is written.
    Slice,
    /// The source has nothing yet.
    Waiting,
    /// The file is whole, and synced.
    Whole {
        /// Its length.
        bytes: u64,
    },
}

impl<F: DiskFile> Taking<F> {
    /// Makes the file and writes its header.
    pub(in crate::storage) fn begin<D: Disk<File = F>>(
        disk: &mut D,
        identity: &Identity,
        meta: SnapshotMeta,
        source: SnapshotSource,
    ) -> Result<Taking<F>, StorageError> {
        let name = taking_name(meta.index);
        let mut header = Vec::new();
        let checksum = Header::new(identity, meta.clone()).put(&mut header);
        let file =
            disk.create(&name, 0).map_err(|error| StorageError::io("create", &name, &error))?;
        let block = Vec::with_capacity(BLOCK_PREFIX_BYTES + BLOCK_BYTES);
        let mut taking = Taking {
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
        taking.write(&header)?;
        Ok(taking)
    }

    pub(in crate::storage) fn meta(&self) -> &SnapshotMeta {
        &self.meta
    }

    /// The file's name, for now.
    pub(in crate::storage) fn name(&self) -> &str {
        &self.name
    }

    /// Writes the next slice, if the source has one.
    pub(in crate::storage) fn step(&mut self) -> Result<Taken, StorageError> {
        let mut block = std::mem::take(&mut self.block);
        block.resize(BLOCK_PREFIX_BYTES + BLOCK_BYTES, 0);
        let filled = self.source.fill(&mut block[BLOCK_PREFIX_BYTES..]);
        let filled = filled.map_err(|error| {
            StorageError::io("read the state machine's snapshot for", &self.name, &error)
        })?;
        match filled {
            Filled::Waiting => {
                self.block = block;
                return Ok(Taken::Waiting);
            }
            Filled::Bytes(read) => {
                block.truncate(BLOCK_PREFIX_BYTES + read);
                self.checksum = format::seal_block(&mut block, self.checksum);
                self.content_bytes += read as u64;
                self.write(&block)?;
                self.block = block;
                if self.unsynced_bytes >= SYNC_BYTES {
                    self.sync()?;
                }
                return Ok(Taken::Slice);
            }
            Filled::End => {}
        }
        self.write(&format::trailer(self.content_bytes, self.checksum))?;
        self.sync()?;
        Ok(Taken::Whole { bytes: self.position })
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
