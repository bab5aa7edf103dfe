//! Takes in a snapshot that another node sends, piece by piece, and checks it on the way.

use super::format::Header;
use super::scanner::{Scanner, Step, Trouble};
use super::{SYNC_BYTES, receiving_name};
use crate::storage::{Disk, DiskFile, StorageError};
use crate::types::{Chunk, Identity, SnapshotMeta};

/// A snapshot that is being received.
#[derive(Debug)]
pub(in crate::storage) struct Receiving<F> {
    meta: SnapshotMeta,
    file: F,
    name: String,
    total_bytes: u64,
    received_bytes: u64,
    unsynced_bytes: u64,
    scanner: Scanner,
}

/// What a piece has led to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::storage) enum Received {
    /// So much has been received without a gap; perhaps the piece was not the one that comes next.
    UpTo(u64),
    /// This is not the snapshot announced: what has been received is of no use.
    Damaged,
}

impl<F: DiskFile> Receiving<F> {
    /// Makes the file for a snapshot of which `first` is the first piece to come.
    pub(in crate::storage) fn begin<D: Disk<File = F>>(
        disk: &mut D,
        meta: &SnapshotMeta,
        total_bytes: u64,
    ) -> Result<Receiving<F>, StorageError> {
        let name = receiving_name(meta.index);
        let file =
            disk.create(&name, 0).map_err(|error| StorageError::io("create", &name, &error))?;
        let (meta, scanner) = (meta.clone(), Scanner::default());
        Ok(Receiving {
            meta,
            file,
            name,
            total_bytes,
            received_bytes: 0,
            unsynced_bytes: 0,
            scanner,
        })
    }

    /// Whether it is this snapshot, in a file of this length, that is being received.
    pub(in crate::storage) fn is_of(&self, meta: &SnapshotMeta, total_bytes: u64) -> bool {
        self.meta == *meta && self.total_bytes == total_bytes
    }

    pub(in crate::storage) fn meta(&self) -> &SnapshotMeta {
        &self.meta
    }

    /// The file's name, for now.
    pub(in crate::storage) fn name(&self) -> &str {
        &self.name
    }

    /// Takes in a piece, if it is the one that comes next.
    pub(in crate::storage) fn take(&mut self, chunk: &Chunk) -> Result<Received, StorageError> {
        if chunk.offset != self.received_bytes {
            return Ok(Received::UpTo(self.received_bytes));
        }
        if chunk.end() > self.total_bytes {
            return Ok(Received::Damaged);
        }
        self.file
            .write_at(&chunk.data, chunk.offset)
            .map_err(|error| StorageError::io("write", &self.name, &error))?;
        self.received_bytes = chunk.end();
        self.unsynced_bytes += chunk.data.len() as u64;
        if self.unsynced_bytes >= SYNC_BYTES {
            self.sync()?;
        }
        self.scan()
    }

    /// Makes the file durable and returns its length, if it is whole and what was announced.
    pub(in crate::storage) fn finish(
        &mut self,
        identity: &Identity,
    ) -> Result<Option<u64>, StorageError> {
        let is_whole = self.received_bytes == self.total_bytes && self.scanner.is_complete();
        let expected = Header::new(identity, self.meta.clone());
        if !is_whole || self.scanner.header() != Some(&expected) {
            return Ok(None);
        }
        self.sync()?;
        Ok(Some(self.total_bytes))
    }

    /// Checks what has become whole.
    fn scan(&mut self) -> Result<Received, StorageError> {
        loop {
            match self.scanner.step(&self.file, self.received_bytes) {
                Ok(Step::Header | Step::Block) => {}
                Ok(Step::End | Step::More) => return Ok(Received::UpTo(self.received_bytes)),
                Err(trouble @ Trouble::Io(_)) => return Err(trouble.of(&self.name)),
                Err(Trouble::Damage { .. } | Trouble::Version(_)) => return Ok(Received::Damaged),
            }
        }
    }

    fn sync(&mut self) -> Result<(), StorageError> {
        self.file.sync().map_err(|error| StorageError::io("sync", &self.name, &error))?;
        self.unsynced_bytes = 0;
        Ok(())
    }
}
