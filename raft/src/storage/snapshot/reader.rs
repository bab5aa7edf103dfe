//! Reads the state machine's bytes from a snapshot.

use std::io::{self, Read};

use super::name;
use super::scanner::{Part, ScanError, Scanner};
use crate::storage::{Disk, DiskFile, StorageError};
use crate::types::{Index, SnapshotMeta};

/// Reads the state machine's bytes from a snapshot.
///
/// It returns only bytes that it has checked, and reaches the end only of a whole file. Otherwise
/// reading fails with `InvalidData`, and the error names file and offset.
///
/// [`Log::snapshot_reader`](crate::storage::Log::snapshot_reader) and
/// [`open_snapshot`](crate::storage::open_snapshot) make one.
#[derive(Debug)]
pub struct SnapshotReader<F> {
    file: F,
    name: String,
    meta: SnapshotMeta,
    total_bytes: u64,
    scanner: Scanner,
    /// How much of the last block has not been returned, in bytes.
    left: usize,
}

impl<F: DiskFile> SnapshotReader<F> {
    fn new(file: F, name: String) -> Result<SnapshotReader<F>, StorageError> {
        let total_bytes = file.len().map_err(|error| StorageError::io("measure", &name, &error))?;
        let mut scanner = Scanner::default();
        let part = scanner
            .next_part(&file, total_bytes)
            .map_err(|error| error.into_storage_error(&name))?;
        let Some(header) = scanner.header().filter(|_| part == Part::Header) else {
            return Err(StorageError::corrupt(&name, 0, "the file ends within its header"));
        };
        let meta = header.meta.clone();
        Ok(SnapshotReader { file, name, meta, total_bytes, scanner, left: 0 })
    }

    /// The file's length.
    #[must_use]
    pub fn total_bytes(&self) -> u64 {
        self.total_bytes
    }

    /// What the snapshot includes.
    #[must_use]
    pub fn meta(&self) -> &SnapshotMeta {
        &self.meta
    }
}

impl<F: DiskFile> Read for SnapshotReader<F> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        // At the end and at damage every further call returns the same.
        while self.left == 0 {
            let invalid = |error: StorageError| io::Error::new(io::ErrorKind::InvalidData, error);
            match self.scanner.next_part(&self.file, self.total_bytes) {
                Ok(Part::Block) => self.left = self.scanner.data().len(),
                Ok(Part::Trailer) => return Ok(0),
                Ok(Part::Header | Part::Incomplete) => {
                    let at = self.scanner.position();
                    return Err(invalid(StorageError::corrupt(
                        &self.name,
                        at,
                        "the file ends before its trailer",
                    )));
                }
                Err(ScanError::Io(error)) => return Err(error),
                Err(error) => return Err(invalid(error.into_storage_error(&self.name))),
            }
        }
        let data = self.scanner.data();
        let left = &data[data.len() - self.left..];
        let read = left.len().min(buffer.len());
        buffer[..read].copy_from_slice(&left[..read]);
        self.left -= read;
        Ok(read)
    }
}

/// Opens the snapshot of this index.
pub(in crate::storage) fn open_in<D: Disk>(
    disk: &mut D,
    index: Index,
) -> Result<SnapshotReader<D::File>, StorageError> {
    let name = name(index);
    let file = disk.open(&name).map_err(|error| StorageError::io("open", &name, &error))?;
    open_file(file, index)
}

/// Reads the snapshot of this index from its open file.
pub(in crate::storage) fn open_file<F: DiskFile>(
    file: F,
    index: Index,
) -> Result<SnapshotReader<F>, StorageError> {
    let name = name(index);
    let reader = SnapshotReader::new(file, name.clone())?;
    if reader.meta.index == index {
        Ok(reader)
    } else {
        Err(StorageError::corrupt(
            &name,
            0,
            format!("the file holds the snapshot of entry {}", reader.meta.index),
        ))
    }
}
