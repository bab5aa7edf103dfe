//! Receives a snapshot that another node sends in chunks, and checks it meanwhile.

use super::format::SnapshotHeader;
use super::scanner::{Part, ScanError, Scanner};
use super::{SYNC_BYTES, receiving_name};
use crate::storage::{Disk, DiskFile, StorageError};
use crate::types::{Chunk, Identity, SnapshotMeta};

/// A snapshot that is being received.
#[derive(Debug)]
pub(in crate::storage) struct SnapshotReceiver<F> {
    meta: SnapshotMeta,
    file: F,
    name: String,
    total_bytes: u64,
    received_bytes: u64,
    unsynced_bytes: u64,
    scanner: Scanner,
}

/// What writing a chunk has led to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::storage) enum ReceiveProgress {
    /// How many bytes have been received without a gap. A chunk that does not come next adds none.
    UpTo(u64),
    /// This is not the announced snapshot: what has been received is useless.
    Damaged,
}

impl<F: DiskFile> SnapshotReceiver<F> {
    /// Creates the file of a snapshot that is `total_bytes` long.
    pub(in crate::storage) fn begin<D: Disk<File = F>>(
        disk: &mut D,
        meta: &SnapshotMeta,
        total_bytes: u64,
    ) -> Result<SnapshotReceiver<F>, StorageError> {
        let name = receiving_name(meta.index);
        let file =
            disk.create(&name, 0).map_err(|error| StorageError::io("create", &name, &error))?;
        let (meta, scanner) = (meta.clone(), Scanner::default());
        Ok(SnapshotReceiver {
            meta,
            file,
            name,
            total_bytes,
            received_bytes: 0,
            unsynced_bytes: 0,
            scanner,
        })
    }

    /// Whether this snapshot, in a file of this length, is being received.
    pub(in crate::storage) fn is_of(&self, meta: &SnapshotMeta, total_bytes: u64) -> bool {
        self.meta == *meta && self.total_bytes == total_bytes
    }

    pub(in crate::storage) fn meta(&self) -> &SnapshotMeta {
        &self.meta
    }

    /// The file's temporary name.
    pub(in crate::storage) fn name(&self) -> &str {
        &self.name
    }

    /// Writes a chunk, if it is the one that comes next.
    pub(in crate::storage) fn write(
        &mut self,
        chunk: &Chunk,
    ) -> Result<ReceiveProgress, StorageError> {
        if chunk.offset != self.received_bytes {
            return Ok(ReceiveProgress::UpTo(self.received_bytes));
        }
        if chunk.end() > self.total_bytes {
            return Ok(ReceiveProgress::Damaged);
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

    /// Makes the file durable and returns its length, if it is whole and the announced snapshot.
    pub(in crate::storage) fn finish(
        &mut self,
        identity: &Identity,
    ) -> Result<Option<u64>, StorageError> {
        let is_whole = self.received_bytes == self.total_bytes && self.scanner.is_complete();
        let expected = SnapshotHeader::new(identity, self.meta.clone());
        if !is_whole || self.scanner.header() != Some(&expected) {
            return Ok(None);
        }
        self.sync()?;
        Ok(Some(self.total_bytes))
    }

    /// Checks the parts that are whole now.
    fn scan(&mut self) -> Result<ReceiveProgress, StorageError> {
        loop {
            match self.scanner.next_part(&self.file, self.received_bytes) {
                Ok(Part::Header | Part::Block) => {}
                Ok(Part::Trailer | Part::Incomplete) => {
                    return Ok(ReceiveProgress::UpTo(self.received_bytes));
                }
                Err(error @ ScanError::Io(_)) => return Err(error.into_storage_error(&self.name)),
                Err(ScanError::Damaged { .. } | ScanError::UnknownVersion(_)) => {
                    return Ok(ReceiveProgress::Damaged);
                }
            }
        }
    }

    fn sync(&mut self) -> Result<(), StorageError> {
        self.file.sync().map_err(|error| StorageError::io("sync", &self.name, &error))?;
        self.unsynced_bytes = 0;
        Ok(())
    }
}
