//! The file `SYNCED`: how far the log is durable, stored outside of the log.
//!
//! Where the end of the log is cut off, the marks in its frames are lost with it; this file
//! remains.
//!
//! ```text
//! SYNCED   [slot, zeros up to byte 4096] [slot, zeros up to byte 8192]      written in turn
//! ```
//!
//! A slot is written after the sync that it reports, so it never claims more than is durable. It is
//! not synced itself. A killed process leaves it exact; after a power failure it is as old as the
//! kernel's last write of it.

use std::io;

use bytes::{Buf, BufMut};

use super::contents::Contents;
use super::segment::{ActiveSegment, FrameChain};
use super::{Disk, DiskFile, StorageError};
use crate::types::{DiskId, Identity, Index};

/// The file's name.
pub(super) const NAME: &str = "SYNCED";

/// The distance between slots, in bytes: no torn write reaches both.
const SLOT_STRIDE: u64 = 4096;
const FILE_BYTES: u64 = 2 * SLOT_STRIDE;
const SLOT_BYTES: usize = 80;

const MAGIC: u32 = u32::from_le_bytes(*b"KdkY");
const VERSION: u8 = 1;

/// How far a log is known to be durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SyncedMark {
    /// The disk of the log.
    pub disk: DiskId,
    /// The log's group.
    pub group: u64,
    /// The active segment.
    pub segment: u64,
    /// The length of its file.
    pub capacity_bytes: u64,
    /// The last durable frame.
    pub sequence: u64,
    /// Where that frame ends in the segment, in bytes.
    pub end: u64,
    /// The log's last entry as of that frame.
    pub last_index: Index,
}

impl SyncedMark {
    /// The mark of a log of which everything written is durable.
    pub(super) fn current<F>(
        identity: &Identity,
        chain: &FrameChain,
        active: &ActiveSegment<F>,
        contents: &Contents,
    ) -> SyncedMark {
        SyncedMark {
            disk: identity.disk,
            group: chain.group,
            segment: active.number,
            capacity_bytes: active.capacity_bytes,
            sequence: chain.synced,
            end: active.written_bytes,
            last_index: contents.terms.last_index(),
        }
    }

    fn encode(&self) -> [u8; SLOT_BYTES] {
        let mut slot = [0; SLOT_BYTES];
        let mut fields = &mut slot[4..];
        fields.put_u32_le(MAGIC);
        fields.put_u8(VERSION);
        fields.put_bytes(0, 7);
        fields.put_u128_le(self.disk.0);
        fields.put_u64_le(self.group);
        fields.put_u64_le(self.segment);
        fields.put_u64_le(self.capacity_bytes);
        fields.put_u64_le(self.sequence);
        fields.put_u64_le(self.end);
        fields.put_u64_le(self.last_index.0);
        let checksum = crc32c::crc32c(&slot[4..]);
        slot[..4].copy_from_slice(&checksum.to_le_bytes());
        slot
    }

    /// `None` if the slot was never written or is damaged.
    fn decode(slot: &[u8]) -> Option<SyncedMark> {
        let mut fields = slot.get(..SLOT_BYTES)?;
        let is_whole = fields.get_u32_le() == crc32c::crc32c(&slot[4..SLOT_BYTES]);
        let is_known = fields.get_u32_le() == MAGIC && fields.get_u8() == VERSION;
        fields.advance(7);
        let mark = SyncedMark {
            disk: DiskId(fields.get_u128_le()),
            group: fields.get_u64_le(),
            segment: fields.get_u64_le(),
            capacity_bytes: fields.get_u64_le(),
            sequence: fields.get_u64_le(),
            end: fields.get_u64_le(),
            last_index: Index(fields.get_u64_le()),
        };
        (is_whole && is_known).then_some(mark)
    }
}

/// The marks in the file's two slots.
fn read_slots<F: DiskFile>(file: &F) -> Result<[Option<SyncedMark>; 2], StorageError> {
    let mut slots = [None; 2];
    for (slot, at) in slots.iter_mut().zip([0, SLOT_STRIDE]) {
        let mut bytes = [0; SLOT_BYTES];
        file.read_at(&mut bytes, at).map_err(|error| StorageError::io("read", NAME, &error))?;
        *slot = SyncedMark::decode(&bytes);
    }
    Ok(slots)
}

/// The newer mark, and the number of the slot to write next.
fn newest(slots: [Option<SyncedMark>; 2]) -> (Option<SyncedMark>, u64) {
    let sequence = |slot: &Option<SyncedMark>| slot.map_or(0, |mark| mark.sequence);
    if sequence(&slots[0]) > sequence(&slots[1]) { (slots[0], 1) } else { (slots[1], 0) }
}

/// Reads the mark of a disk. `None` proves nothing: a folder of an earlier version has no such
/// file, and a power failure may remove or empty it.
pub(super) fn read<D: Disk>(disk: &mut D) -> Result<Option<SyncedMark>, StorageError> {
    let file = match disk.open(NAME) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(StorageError::io("open", NAME, &error)),
    };
    Ok(newest(read_slots(&file)?).0)
}

/// The file, open to be written.
#[derive(Debug)]
pub(super) struct SyncedFile<F> {
    file: F,
    /// The slot to write next.
    slot: u64,
}

impl<F: DiskFile> SyncedFile<F> {
    /// Opens the file, or creates it. Its name is durable after the folder's next sync.
    pub(super) fn prepare<D: Disk<File = F>>(disk: &mut D) -> Result<SyncedFile<F>, StorageError> {
        match disk.open(NAME) {
            Ok(file) => {
                let (mark, slot) = newest(read_slots(&file)?);
                let bytes =
                    file.len().map_err(|error| StorageError::io("measure", NAME, &error))?;
                if mark.is_some() || bytes >= FILE_BYTES {
                    return Ok(SyncedFile { file, slot });
                }
                // A power failure has kept the name but not the content.
                disk.remove(NAME).map_err(|error| StorageError::io("remove", NAME, &error))?;
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(StorageError::io("open", NAME, &error)),
        }
        let mut file = disk
            .create(NAME, FILE_BYTES)
            .map_err(|error| StorageError::io("create", NAME, &error))?;
        // A full disk is noticed now, and not after a sync of the log.
        file.fill(0, FILE_BYTES).map_err(|error| StorageError::io("write", NAME, &error))?;
        Ok(SyncedFile { file, slot: 0 })
    }

    /// Writes a mark. The log must be durable that far already.
    pub(super) fn write(&mut self, mark: &SyncedMark) -> Result<(), StorageError> {
        self.file
            .write_at(&mark.encode(), self.slot * SLOT_STRIDE)
            .map_err(|error| StorageError::io("write", NAME, &error))?;
        self.slot ^= 1;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_undamaged_slot_is_read_back() {
        let mark = SyncedMark {
            disk: DiskId(1 << 100),
            group: 2,
            segment: 3,
            capacity_bytes: 4,
            sequence: 5,
            end: 6,
            last_index: Index(7),
        };
        let slot = mark.encode();
        assert_eq!(SyncedMark::decode(&slot), Some(mark));
        for bit in 0..SLOT_BYTES * 8 {
            let mut damaged = slot;
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(SyncedMark::decode(&damaged), None, "bit {bit}");
        }
        assert_eq!(SyncedMark::decode(&[0; SLOT_BYTES]), None);
    }
}
