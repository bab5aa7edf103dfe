//! The snapshots that a disk holds.

use bytes::Bytes;

use super::format::{Header, MAX_BLOCK_BYTES};
use super::scanner::{Scanner, Step, Trouble};
use super::{index_of, is_unfinished, name};
use crate::core::ReadChunk;
use crate::storage::{Disk, DiskFile, StorageError};
use crate::types::{Chunk, Identity, Index, SnapshotMeta};

/// A snapshot that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DamagedSnapshot {
    /// Its file. It goes when the next snapshot is taken.
    pub file: String,
    /// Where the damage begins, in bytes.
    pub offset: u64,
    /// What does not fit.
    pub what: String,
}

/// What a disk holds at start.
#[derive(Debug)]
pub(in crate::storage) struct Found {
    /// The newest whole snapshot, and its file's length.
    pub(in crate::storage) newest: Option<(Header, u64)>,
    /// Newer ones that are not whole, the newest first.
    pub(in crate::storage) damaged: Vec<DamagedSnapshot>,
    /// Whether the file of `newest` is damaged after its header.
    pub(in crate::storage) is_newest_damaged: bool,
    /// Older ones.
    superseded: Vec<String>,
}

impl Found {
    /// Looks for the newest whole snapshot and removes what a crash has cut short.
    pub(in crate::storage) fn search<D: Disk>(disk: &mut D) -> Result<Found, StorageError> {
        let names =
            disk.list().map_err(|error| StorageError::io("list", "the data folder", &error))?;
        for name in names.iter().filter(|name| is_unfinished(name)) {
            disk.remove(name).map_err(|error| StorageError::io("remove", name, &error))?;
        }
        let mut indexes: Vec<Index> = names.iter().filter_map(|name| index_of(name)).collect();
        indexes.sort_unstable_by(|one, other| other.cmp(one));
        let mut found = Found {
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

    /// For a log that begins after `base`: if no whole snapshot reaches it, a damaged one of this
    /// cluster does whose header is whole. The header says all that the core must know; what the
    /// state machine needs is to be had from another node.
    pub(in crate::storage) fn use_damaged<D: Disk>(
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

/// What a snapshot's header says, if that is whole, and the file's length.
fn read_header<D: Disk>(disk: &mut D, index: Index) -> Result<Option<(Header, u64)>, StorageError> {
    let name = name(index);
    let file = disk.open(&name).map_err(|error| StorageError::io("open", &name, &error))?;
    let bytes = file.len().map_err(|error| StorageError::io("measure", &name, &error))?;
    let mut scanner = Scanner::default();
    match scanner.step(&file, bytes) {
        Ok(Step::Header) => {}
        Err(trouble @ Trouble::Io(_)) => return Err(trouble.of(&name)),
        Ok(_) | Err(_) => return Ok(None),
    }
    Ok(scanner
        .header()
        .filter(|header| header.meta.index == index)
        .map(|header| (header.clone(), bytes)))
}

/// Reads a snapshot from end to end. Returns what it says of itself, and its length.
pub(in crate::storage) fn check<D: Disk>(
    disk: &mut D,
    index: Index,
) -> Result<(Header, u64), StorageError> {
    let name = name(index);
    let file = disk.open(&name).map_err(|error| StorageError::io("open", &name, &error))?;
    let bytes = file.len().map_err(|error| StorageError::io("measure", &name, &error))?;
    let mut scanner = Scanner::default();
    scanner.finish(&file, bytes).map_err(|trouble| trouble.of(&name))?;
    let header = scanner.header().expect("a whole snapshot has a header").clone();
    if header.meta.index != index {
        let what = format!("the file holds the snapshot of entry {}", header.meta.index);
        return Err(StorageError::corrupt(&name, 0, what));
    }
    Ok((header, bytes))
}

/// A snapshot that other nodes may be given.
#[derive(Debug)]
struct Kept {
    meta: SnapshotMeta,
    bytes: u64,
    /// Somebody has read it since the newest one was named.
    is_read: bool,
    /// Its file is damaged: nobody is given it.
    is_damaged: bool,
}

/// The file that is being read for another node.
#[derive(Debug)]
struct Open<F> {
    index: Index,
    file: F,
    /// Checks what is sent, as long as it is read from the start on: rot here should not look like
    /// a bad wire there.
    scanner: Scanner,
}

/// The snapshots of a log: the newest one, and one before it while that is being sent.
#[derive(Debug)]
pub(in crate::storage) struct SnapshotStore<F> {
    /// Rising; the last is the newest.
    kept: Vec<Kept>,
    /// Files that are of no use any more.
    stale: Vec<String>,
    open: Option<Open<F>>,
}

impl<F> Default for SnapshotStore<F> {
    fn default() -> SnapshotStore<F> {
        SnapshotStore { kept: Vec::new(), stale: Vec::new(), open: None }
    }
}

impl<F: DiskFile> SnapshotStore<F> {
    /// Takes over what was found, and removes what the newest one supersedes.
    pub(in crate::storage) fn new<D: Disk<File = F>>(
        disk: &mut D,
        found: Found,
    ) -> Result<SnapshotStore<F>, StorageError> {
        for name in &found.superseded {
            disk.remove(name).map_err(|error| StorageError::io("remove", name, &error))?;
        }
        let is_damaged = found.is_newest_damaged;
        let kept = found.newest.map(|(header, bytes)| Kept {
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

    /// What the newest snapshot includes; 0 if there is none.
    pub(in crate::storage) fn newest_index(&self) -> Index {
        self.newest().map_or(Index(0), |meta| meta.index)
    }

    /// Whether the newest one's file is damaged.
    pub(in crate::storage) fn is_newest_damaged(&self) -> bool {
        self.kept.last().is_some_and(|kept| kept.is_damaged)
    }

    /// Gives a whole and synced file its name, durably, and removes the snapshots before it, though
    /// not one that somebody has been reading since the last time.
    pub(in crate::storage) fn place<D: Disk<File = F>>(
        &mut self,
        disk: &mut D,
        temporary: &str,
        meta: SnapshotMeta,
        bytes: u64,
    ) -> Result<(), StorageError> {
        assert!(meta.index >= self.newest_index(), "snapshots are named in rising order");
        let name = name(meta.index);
        disk.rename(temporary, &name)
            .map_err(|error| StorageError::io("rename", temporary, &error))?;
        disk.sync_directory()
            .map_err(|error| StorageError::io("sync the folder of", &name, &error))?;
        // One that takes the place of another of the same entry has taken its file, too.
        self.kept.retain(|kept| kept.meta.index < meta.index);
        self.open.take_if(|open| open.index == meta.index);
        for kept in std::mem::take(&mut self.kept) {
            if kept.is_read {
                self.kept.push(Kept { is_read: false, ..kept });
            } else {
                self.stale.push(super::name(kept.meta.index));
            }
        }
        self.kept.push(Kept { meta, bytes, is_read: false, is_damaged: false });
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

    /// Reads a piece of the snapshot of this index; `None` if it is gone.
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
            self.open = Some(Open { index, file, scanner: Scanner::default() });
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
        open.check(&chunk).map_err(|trouble| trouble.of(&name))?;
        Ok(Some(chunk))
    }
}

impl<F: DiskFile> Open<F> {
    /// Checks what has become whole with this piece, unless whoever reads has begun further on in
    /// the file. Of a piece that is read again, because it was lost on the way, nothing is left to
    /// be checked.
    fn check(&mut self, chunk: &Chunk) -> Result<(), Trouble> {
        if self.scanner.is_complete()
            || chunk.offset > self.scanner.position() + MAX_BLOCK_BYTES as u64
        {
            return Ok(());
        }
        if chunk.is_last() {
            return self.scanner.finish(&self.file, chunk.total_bytes);
        }
        while self.scanner.step(&self.file, chunk.end())? != Step::More {}
        Ok(())
    }
}
