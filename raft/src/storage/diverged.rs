//! The mark of a state that is not that of a majority, in a file of its own: after a restart, too,
//! the state machine must not be restored from a snapshot that may hold it.
//!
//! ```text
//! DIVERGED   checksum u32 | magic u32 | version u8 | zero [7] | agreed u64 | index u64 | value u64 | majority u64 | version u32
//! ```
//!
//! The file has its name once it is whole and synced. It goes when another node's snapshot has been
//! installed, or when the log is opened with no snapshot of an entry after `agreed`: then the state
//! is made anew from what is right.

use std::io;

use bytes::{Buf, BufMut};

use super::{Disk, DiskFile, Log, StorageError};
use crate::types::{Digest, Divergence, Index, Saved};

const NAME: &str = "DIVERGED";
const TEMPORARY: &str = "DIVERGED.new";
const MAGIC: u32 = u32::from_le_bytes(*b"KdkD");
const VERSION: u8 = 1;
const BYTES: usize = 52;

fn put(divergence: &Divergence) -> [u8; BYTES] {
    let mut bytes = [0; BYTES];
    let Divergence { digest: Digest { index, version, value }, majority, agreed } = *divergence;
    let mut fields = &mut bytes[4..];
    fields.put_u32_le(MAGIC);
    fields.put_u8(VERSION);
    fields.put_bytes(0, 7);
    fields.put_u64_le(agreed.0);
    fields.put_u64_le(index.0);
    fields.put_u64_le(value);
    fields.put_u64_le(majority);
    fields.put_u32_le(version);
    let checksum = crc32c::crc32c(&bytes[4..]);
    bytes[..4].copy_from_slice(&checksum.to_le_bytes());
    bytes
}

/// `None` if it is damaged.
fn get(bytes: &[u8; BYTES]) -> Option<Divergence> {
    let mut fields = &bytes[..];
    let is_whole = fields.get_u32_le() == crc32c::crc32c(&bytes[4..]);
    let is_known = fields.get_u32_le() == MAGIC && fields.get_u8() == VERSION;
    fields.advance(7);
    let agreed = Index(fields.get_u64_le());
    let (index, value, majority) =
        (Index(fields.get_u64_le()), fields.get_u64_le(), fields.get_u64_le());
    let digest = Digest { index, version: fields.get_u32_le(), value };
    (is_whole && is_known).then_some(Divergence { digest, majority, agreed })
}

/// Removes a file that may not be there. Says whether it was.
fn remove<D: Disk>(disk: &mut D, name: &str) -> Result<bool, StorageError> {
    match disk.remove(name) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(StorageError::io("remove", name, &error)),
    }
}

/// The mark that a disk holds. One that is damaged says as much as one of a node that never agreed.
fn read<D: Disk>(disk: &mut D) -> Result<Divergence, StorageError> {
    let digest = Digest { index: Index(0), version: 0, value: 0 };
    Ok(read_whole(disk)?.unwrap_or(Divergence { digest, majority: 0, agreed: Index(0) }))
}

/// `None` if it is damaged.
fn read_whole<D: Disk>(disk: &mut D) -> Result<Option<Divergence>, StorageError> {
    let file = disk.open(NAME).map_err(|error| StorageError::io("open", NAME, &error))?;
    let mut bytes = [0; BYTES];
    file.read_at(&mut bytes, 0).map_err(|error| StorageError::io("read", NAME, &error))?;
    Ok(get(&bytes))
}

/// What a folder's file `DIVERGED` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DivergedMark {
    /// Snapshots of entries after `agreed` may hold a state that differs from that of a majority.
    Whole(Divergence),
    /// It cannot be read: any snapshot may hold such a state.
    Damaged,
}

impl DivergedMark {
    /// Up to which entry the state was last known to be that of a majority.
    #[must_use]
    pub fn agreed(&self) -> Index {
        match self {
            DivergedMark::Whole(divergence) => divergence.agreed,
            DivergedMark::Damaged => Index(0),
        }
    }
}

/// The mark among the files with these names; `None` if there is none.
pub(super) fn find<D: Disk>(
    disk: &mut D,
    names: &[String],
) -> Result<Option<DivergedMark>, StorageError> {
    if !names.iter().any(|name| name == NAME) {
        return Ok(None);
    }
    Ok(Some(read_whole(disk)?.map_or(DivergedMark::Damaged, DivergedMark::Whole)))
}

/// Whether a file with this name is a mark that was being made.
pub(super) fn is_unfinished(name: &str) -> bool {
    name == TEMPORARY
}

impl<D: Disk> Log<D> {
    /// Whether the newest snapshot may hold a state that is not that of a majority.
    #[must_use]
    pub fn is_diverged(&self) -> bool {
        self.divergence.is_some()
    }

    /// To be called once the log has been opened: takes the mark into account that the disk holds.
    pub(super) fn find_divergence(&mut self, saved: &mut Saved) -> Result<(), StorageError> {
        let names = self
            .disk
            .list()
            .map_err(|error| StorageError::io("list", "the data folder", &error))?;
        if names.iter().any(|name| name == TEMPORARY) {
            remove(&mut self.disk, TEMPORARY)?;
        }
        if names.iter().any(|name| name == NAME) {
            self.divergence = Some(read(&mut self.disk)?);
        }
        let newest = self.snapshot_store.newest_index();
        if self.divergence.is_some_and(|divergence| newest <= divergence.agreed) {
            self.end_divergence()?;
        }
        saved.divergence = self.divergence;
        Ok(())
    }

    /// Notes durably that snapshots taken after `agreed` may hold a wrong state.
    pub(super) fn mark_diverged(&mut self, divergence: Divergence) -> Result<(), StorageError> {
        self.check_poison()?;
        let result = self.write_divergence(&divergence);
        self.poison_on_error(result)?;
        self.divergence = Some(divergence);
        Ok(())
    }

    fn write_divergence(&mut self, divergence: &Divergence) -> Result<(), StorageError> {
        remove(&mut self.disk, TEMPORARY)?;
        let mut file = self
            .disk
            .create(TEMPORARY, 0)
            .map_err(|error| StorageError::io("create", TEMPORARY, &error))?;
        file.write_at(&put(divergence), 0)
            .map_err(|error| StorageError::io("write", TEMPORARY, &error))?;
        file.sync().map_err(|error| StorageError::io("sync", TEMPORARY, &error))?;
        self.disk
            .rename(TEMPORARY, NAME)
            .map_err(|error| StorageError::io("rename", TEMPORARY, &error))?;
        self.sync_directory()
    }

    /// The newest snapshot is another node's: its name is durable, so the mark may go.
    pub(super) fn end_divergence(&mut self) -> Result<(), StorageError> {
        if self.divergence.take().is_none() {
            return Ok(());
        }
        let result = remove(&mut self.disk, NAME).and_then(|_| self.sync_directory());
        self.poison_on_error(result)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_read_back_and_no_damaged_one_is() {
        let digest = Digest { index: Index(300), version: 2, value: 3 };
        let divergence = Divergence { digest, majority: 4, agreed: Index(200) };
        let bytes = put(&divergence);
        assert_eq!(get(&bytes), Some(divergence));
        for bit in 0..BYTES * 8 {
            let mut damaged = bytes;
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(get(&damaged), None, "bit {bit}");
        }
    }
}
