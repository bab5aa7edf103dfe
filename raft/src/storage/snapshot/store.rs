//! The snapshots of a data folder.

use bytes::Bytes;

use super::format::{MAX_BLOCK_BYTES, SnapshotHeader};
use super::scanner::{Part, ScanError, Scanner};
use super::{index_of, is_unfinished, name};
use crate::core::ReadChunk;
use crate::storage::{Disk, DiskFile, StorageError};
use crate::types::{Chunk, Identity, Index, SnapshotMeta};

/// A damaged snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DamagedSnapshot {
    /// Its file. It is removed when the next snapshot has been written.
    pub file: String,
    /// Where the damage begins, in bytes from the file's start.
    pub offset: u64,
    /// What is wrong there.
    pub what: String,
}

/// The snapshots that recovery finds.
#[derive(Debug)]
pub(in crate::storage) struct FoundSnapshots {
    /// The newest whole snapshot, and its file's length.
    pub(in crate::storage) newest: Option<(SnapshotHeader, u64)>,
    /// Newer ones that are damaged, the newest first.
    pub(in crate::storage) damaged: Vec<DamagedSnapshot>,
    /// Whether the file of `newest` is damaged after its header.
    pub(in crate::storage) is_newest_damaged: bool,
    /// Files of older ones.
    superseded: Vec<String>,
}

impl FoundSnapshots {
    /// Finds the newest whole snapshot, and removes unfinished ones that a crash has left.
    pub(in crate::storage) fn search<D: Disk>(
        disk: &mut D,
    ) -> Result<FoundSnapshots, StorageError> {
        let names =
            disk.list().map_err(|error| StorageError::io("list", "the data folder", &error))?;
        for name in names.iter().filter(|name| is_unfinished(name)) {
            disk.remove(name).map_err(|error| StorageError::io("remove", name, &error))?;
        }
        let mut indexes: Vec<Index> = names.iter().filter_map(|name| index_of(name)).collect();
        indexes.sort_unstable_by(|one, other| other.cmp(one));
        let mut found = FoundSnapshots {
            newest: None,
            damaged: Vec::new(),
            is_newest_damaged: false,
            superseded: Vec::new(),
        };
        for index in indexes {
            if found.newest.is_some() {
                found.superseded.push(name(index));
                continue;
            }
            match check(disk, index) {
                Ok(whole) => found.newest = Some(whole),
                Err(StorageError::Corrupt { file, offset, what }) => {
                    found.damaged.push(DamagedSnapshot { file, offset, what });
                }
                Err(error) => return Err(error),
            }
        }
        Ok(found)
    }

    /// For a log that begins after `base`: if no whole snapshot reaches `base`, uses a damaged one
    /// of this cluster of which the header is whole.
    ///
    /// The header has all that the core must know. Another node will send what the state machine
    /// needs.
    pub(in crate::storage) fn fall_back_to_damaged<D: Disk>(
        &mut self,
        disk: &mut D,
        identity: &Identity,
        base: Index,
    ) -> Result<(), StorageError> {
        if base == Index(0)
            || self.newest.as_ref().is_some_and(|(header, _)| header.meta.index >= base)
        {
            return Ok(());
        }
        for index in self
            .damaged
            .iter()
            .filter_map(|damaged| index_of(&damaged.file))
            .filter(|&index| index >= base)
        {
            let Some((header, bytes)) = read_header(disk, index)? else { continue };
            if (header.cluster, header.group) == (identity.cluster, identity.group) {
                self.newest = Some((header, bytes));
                self.is_newest_damaged = true;
                break;
            }
        }
        Ok(())
    }
}

/// Reads a snapshot's header, if it is whole, and the file's length.
fn read_header<D: Disk>(
    disk: &mut D,
    index: Index,
) -> Result<Option<(SnapshotHeader, u64)>, StorageError> {
    let name = name(index);
    let file = disk.open(&name).map_err(|error| StorageError::io("open", &name, &error))?;
    let bytes = file.len().map_err(|error| StorageError::io("measure", &name, &error))?;
    let mut scanner = Scanner::default();
    match scanner.next_part(&file, bytes) {
        Ok(Part::Header) => {}
        Err(error @ ScanError::Io(_)) => return Err(error.into_storage_error(&name)),
        Ok(_) | Err(_) => return Ok(None),
    }
    Ok(scanner
        .header()
        .filter(|header| header.meta.index == index)
        .map(|header| (header.clone(), bytes)))
}

/// Checks a whole snapshot. Returns its header, and the file's length.
pub(in crate::storage) fn check<D: Disk>(
    disk: &mut D,
    index: Index,
) -> Result<(SnapshotHeader, u64), StorageError> {
    let name = name(index);
    let file = disk.open(&name).map_err(|error| StorageError::io("open", &name, &error))?;
    let bytes = file.len().map_err(|error| StorageError::io("measure", &name, &error))?;
    let mut scanner = Scanner::default();
    scanner.finish(&file, bytes).map_err(|error| error.into_storage_error(&name))?;
    let header = scanner.header().expect("a whole snapshot has a header").clone();
    if header.meta.index != index {
        let what = format!("the file holds the snapshot of entry {}", header.meta.index);
        return Err(StorageError::corrupt(&name, 0, what));
    }
    Ok((header, bytes))
}

/// A snapshot that can be sent to other nodes.
#[derive(Debug)]
struct StoredSnapshot {
    meta: SnapshotMeta,
    bytes: u64,
    /// Whether it has been read since the newest snapshot was published.
    is_read: bool,
    /// Whether its file is damaged, so that it must not be sent.
    is_damaged: bool,
}

/// The file that is being read for another node.
#[derive(Debug)]
struct OpenSnapshot<F> {
    index: Index,
    file: F,
    /// Checks what is sent, as long as it is read from its start on: a damaged disk here should not
    /// look like a bad connection there.
    scanner: Scanner,
}

/// The snapshots of a log: the newest one, and an older one while that is being sent.
#[derive(Debug)]
pub(in crate::storage) struct SnapshotStore<F> {
    /// In order of index; the last is the newest.
    kept: Vec<StoredSnapshot>,
    /// Files that are no longer needed.
    stale: Vec<String>,
    open: Option<OpenSnapshot<F>>,
}

impl<F> Default for SnapshotStore<F> {
    fn default() -> SnapshotStore<F> {
        SnapshotStore { kept: Vec::new(), stale: Vec::new(), open: None }
    }
}

impl<F: DiskFile> SnapshotStore<F> {
    /// The store of the snapshots that were found. Removes those older than the newest one.
    pub(in crate::storage) fn new<D: Disk<File = F>>(
        disk: &mut D,
        found: FoundSnapshots,
    ) -> Result<SnapshotStore<F>, StorageError> {
        for name in &found.superseded {
            disk.remove(name).map_err(|error| StorageError::io("remove", name, &error))?;
        }
        let is_damaged = found.is_newest_damaged;
        let kept = found.newest.map(|(header, bytes)| StoredSnapshot {
            meta: header.meta,
            bytes,
            is_read: false,
            is_damaged,
        });
        let own = kept.as_ref().map(|kept| name(kept.meta.index));
        let damaged = found.damaged.into_iter().map(|damaged| damaged.file);
        let stale = damaged.filter(|file| Some(file) != own.as_ref()).collect();
        Ok(SnapshotStore { kept: Vec::from_iter(kept), stale, open: None })
    }

    /// The newest snapshot.
    pub(in crate::storage) fn newest(&self) -> Option<&SnapshotMeta> {
        self.kept.last().map(|kept| &kept.meta)
    }

    /// The newest snapshot's index; 0 if there is none.
    pub(in crate::storage) fn newest_index(&self) -> Index {
        self.newest().map_or(Index(0), |meta| meta.index)
    }

    /// Whether the newest one's file is damaged.
    pub(in crate::storage) fn is_newest_damaged(&self) -> bool {
        self.kept.last().is_some_and(|kept| kept.is_damaged)
    }

    /// Makes a whole and synced file the newest snapshot, by renaming it durably.
    ///
    /// Removes older snapshots, except one that has been read since the last snapshot was
    /// published.
    pub(in crate::storage) fn publish<D: Disk<File = F>>(
        &mut self,
        disk: &mut D,
        temporary: &str,
        meta: SnapshotMeta,
        bytes: u64,
    ) -> Result<(), StorageError> {
        assert!(meta.index >= self.newest_index(), "snapshots are published in rising order");
        let name = name(meta.index);
        disk.rename(temporary, &name)
            .map_err(|error| StorageError::io("rename", temporary, &error))?;
        disk.sync_directory()
            .map_err(|error| StorageError::io("sync the folder of", &name, &error))?;
        // A snapshot of the same index had the same file, which is replaced now.
        self.kept.retain(|kept| kept.meta.index < meta.index);
        self.open.take_if(|open| open.index == meta.index);
        for kept in std::mem::take(&mut self.kept) {
            if kept.is_read {
                self.kept.push(StoredSnapshot { is_read: false, ..kept });
            } else {
                self.stale.push(super::name(kept.meta.index));
            }
        }
        self.kept.push(StoredSnapshot { meta, bytes, is_read: false, is_damaged: false });
        if self
            .open
            .as_ref()
            .is_some_and(|open| self.kept.iter().all(|kept| kept.meta.index != open.index))
        {
            self.open = None;
        }
        for stale in std::mem::take(&mut self.stale).into_iter().filter(|stale| *stale != name) {
            disk.remove(&stale).map_err(|error| StorageError::io("remove", &stale, &error))?;
        }
        Ok(())
    }

    /// Reads a chunk; `None` if that snapshot no longer exists.
    pub(in crate::storage) fn read<D: Disk<File = F>>(
        &mut self,
        disk: &mut D,
        &ReadChunk { index, offset, limit_bytes, .. }: &ReadChunk,
    ) -> Result<Option<Chunk>, StorageError> {
        let kept = self.kept.iter_mut().find(|kept| kept.meta.index == index && !kept.is_damaged);
        let Some(kept) = kept else { return Ok(None) };
        kept.is_read = true;
        let total_bytes = kept.bytes;
        let name = name(index);
        if self.open.as_ref().is_none_or(|open| open.index != index || offset == 0) {
            let file = disk.open(&name).map_err(|error| StorageError::io("open", &name, &error))?;
            self.open = Some(OpenSnapshot { index, file, scanner: Scanner::default() });
        }
        let open = self.open.as_mut().expect("just opened");
        let left = total_bytes.saturating_sub(offset);
        let length = usize::try_from(left).unwrap_or(usize::MAX).min(limit_bytes.max(1));
        let mut data = vec![0; length];
        let read = open
            .file
            .read_at(&mut data, offset)
            .map_err(|error| StorageError::io("read", &name, &error))?;
        if read < length {
            return Err(StorageError::corrupt(
                &name,
                offset + read as u64,
                "the file is shorter than it was",
            ));
        }
        let chunk = Chunk { offset, total_bytes, data: Bytes::from(data) };
        open.check(&chunk).map_err(|error| error.into_storage_error(&name))?;
        Ok(Some(chunk))
    }
}

impl<F: DiskFile> OpenSnapshot<F> {
    /// Checks the parts that end in this chunk, unless reading began further on in the file. A
    /// chunk that is read again has been checked before.
    fn check(&mut self, chunk: &Chunk) -> Result<(), ScanError> {
        if self.scanner.is_complete()
            || chunk.offset > self.scanner.position() + MAX_BLOCK_BYTES as u64
        {
            return Ok(());
        }
        if chunk.is_last() {
            return self.scanner.finish(&self.file, chunk.total_bytes);
        }
        while self.scanner.next_part(&self.file, chunk.end())? != Part::Incomplete {}
        Ok(())
    }
}
