//! The file `DIVERGED`: this node's state differs from that of a majority of the voters.
//!
//! Even after a restart the state machine must not be restored from a snapshot of that state.
//!
//! ```text
//! DIVERGED   checksum u32 | magic u32 | version u8 | zero [7] | agreed u64
//!            | index u64 | value u64 | majority u64 | version u32
//! ```
//!
//! The file gets its name once it is whole and synced. It is removed when another node's snapshot
//! has been installed, and when the log is opened without a snapshot of an entry after `agreed`:
//! the state is then built again from entries on which all agree.

use std::io;

use bytes::{Buf, BufMut};

use super::{Disk, DiskFile, Log, StorageError};
use crate::types::{Digest, Divergence, Index, Saved};

const NAME: &str = "DIVERGED";
const TEMPORARY: &str = "DIVERGED.new";
const MAGIC: u32 = u32::from_le_bytes(*b"KdkD");
const VERSION: u8 = 1;
const BYTES: usize = 52;

fn encode(divergence: &Divergence) -> [u8; BYTES] {
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

/// Decodes the file; `None` if it is damaged.
fn decode(bytes: &[u8; BYTES]) -> Option<Divergence> {
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

/// Removes a file that may not exist. Returns whether it did.
fn remove<D: Disk>(disk: &mut D, name: &str) -> Result<bool, StorageError> {
    match disk.remove(name) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(StorageError::io("remove", name, &error)),
    }
}

/// Reads the mark of a disk. A damaged one counts as one with `agreed` 0.
fn read<D: Disk>(disk: &mut D) -> Result<Divergence, StorageError> {
    let digest = Digest { index: Index(0), version: 0, value: 0 };
    Ok(read_whole(disk)?.unwrap_or(Divergence { digest, majority: 0, agreed: Index(0) }))
}

/// Reads the mark; `None` if it is damaged.
fn read_whole<D: Disk>(disk: &mut D) -> Result<Option<Divergence>, StorageError> {
    let file = disk.open(NAME).map_err(|error| StorageError::io("open", NAME, &error))?;
    let mut bytes = [0; BYTES];
    file.read_at(&mut bytes, 0).map_err(|error| StorageError::io("read", NAME, &error))?;
    Ok(decode(&bytes))
}

/// The content of a folder's file `DIVERGED`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DivergedMark {
    /// Snapshots of entries after `agreed` may hold a state that differs from that of a majority.
    Whole(Divergence),
    /// The file is damaged: any snapshot may hold such a state.
    Damaged,
}

impl DivergedMark {
    /// The last entry up to which the state is known to be that of a majority.
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

/// Whether this is the name of an unfinished mark.
pub(super) fn is_unfinished(name: &str) -> bool {
    name == TEMPORARY
}

impl<D: Disk> Log<D> {
    /// Whether the newest snapshot may hold a state that differs from that of a majority.
    #[must_use]
    pub fn is_diverged(&self) -> bool {
        self.divergence.is_some()
    }

    /// Reads the mark, once the log has been opened, and removes one that no longer applies.
    pub(super) fn load_divergence(&mut self, saved: &mut Saved) -> Result<(), StorageError> {
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
            self.clear_divergence()?;
        }
        saved.divergence = self.divergence;
        Ok(())
    }

    /// Writes the mark, durably.
    pub(super) fn mark_diverged(&mut self, divergence: Divergence) -> Result<(), StorageError> {
        self.check_not_poisoned()?;
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
        file.write_at(&encode(divergence), 0)
            .map_err(|error| StorageError::io("write", TEMPORARY, &error))?;
        file.sync().map_err(|error| StorageError::io("sync", TEMPORARY, &error))?;
        self.disk
            .rename(TEMPORARY, NAME)
            .map_err(|error| StorageError::io("rename", TEMPORARY, &error))?;
        self.sync_directory()
    }

    /// Removes the mark: the newest snapshot is another node's, and its name is durable.
    pub(super) fn clear_divergence(&mut self) -> Result<(), StorageError> {
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
    fn only_an_undamaged_mark_is_read_back() {
        let digest = Digest { index: Index(300), version: 2, value: 3 };
        let divergence = Divergence { digest, majority: 4, agreed: Index(200) };
        let bytes = encode(&divergence);
        assert_eq!(decode(&bytes), Some(divergence));
        for bit in 0..BYTES * 8 {
            let mut damaged = bytes;
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(decode(&damaged), None, "bit {bit}");
        }
    }
}
