//! Segment files: their names, how one is made, and the chain that runs through their frames.

use super::body::Opening;
use super::frame::{self, Format, Header, Kind};
use super::{Disk, StorageError};
use crate::types::Identity;

/// Every segment is made with a length that is a multiple of this.
pub(super) const LENGTH_UNIT: u64 = 1024;

/// The name of a segment's file.
pub(super) fn name(number: u64) -> String {
    format!("{number:016x}.log")
}

/// The name of a segment's file while it is being made.
pub(super) fn temporary_name(number: u64) -> String {
    format!("{number:016x}.new")
}

/// What the name of a file ends with that awaits its segment.
pub(super) const AHEAD: &str = ".next";

/// The name of the file that is made ready for a segment to come.
pub(super) fn prepared_name(number: u64) -> String {
    format!("{number:016x}{AHEAD}")
}

pub(super) fn number_of(name: &str, suffix: &str) -> Option<u64> {
    let digits = name.strip_suffix(suffix)?;
    let number = u64::from_str_radix(digits, 16).ok()?;
    (format!("{number:016x}") == digits).then_some(number)
}

/// Numbers of the segments, rising.
pub(super) fn list<D: Disk>(disk: &mut D) -> Result<Vec<u64>, StorageError> {
    let names = disk.list().map_err(|error| StorageError::io("list", "the data folder", &error))?;
    let mut numbers: Vec<u64> = names.iter().filter_map(|name| number_of(name, ".log")).collect();
    numbers.sort_unstable();
    Ok(numbers)
}

/// Removes segments whose making a crash has cut short. They hold nothing that is not elsewhere.
/// (What was made ready for a segment to come is another matter: [`super::next_segment::adopt`].)
pub(super) fn remove_unfinished<D: Disk>(disk: &mut D) -> Result<(), StorageError> {
    let names = disk.list().map_err(|error| StorageError::io("list", "the data folder", &error))?;
    for name in names.iter().filter(|name| number_of(name, ".new").is_some()) {
        disk.remove(name).map_err(|error| StorageError::io("remove", name, &error))?;
    }
    Ok(())
}

/// The segment that is appended to.
#[derive(Debug)]
pub(super) struct Active<F> {
    pub(super) number: u64,
    pub(super) file: F,
    pub(super) tag: u32,
    pub(super) capacity_bytes: u64,
    /// Handed to the file so far; what follows is in the log's buffer.
    pub(super) written_bytes: u64,
}

/// Distinguishes segments of all disks: frames carry it, so that a frame left over in a recycled
/// file, or a copy of one inside an entry, is not taken for this segment's own.
pub(super) fn tag(identity: &Identity, number: u64) -> u32 {
    let disk = crc32c::crc32c(&identity.disk.0.to_le_bytes());
    crc32c::crc32c_append(disk, &number.to_le_bytes())
}

/// The end of the chain of frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Chain {
    pub(super) group: u64,
    /// The last frame's number.
    pub(super) sequence: u64,
    /// The last frame's checksum.
    pub(super) checksum: u32,
    /// Every frame up to this one is known to be on disk.
    pub(super) synced: u64,
}

impl Chain {
    /// Finishes the frame that begins at `start` as the chain's next.
    pub(super) fn seal(
        &mut self,
        out: &mut Vec<u8>,
        start: usize,
        kind: Kind,
        format: Format,
        tag: u32,
    ) {
        let header = Header {
            kind,
            format,
            group: self.group,
            sequence: self.sequence + 1,
            synced: self.synced,
            previous: self.checksum,
            tag,
        };
        self.checksum = frame::finish(out, start, &header);
        self.sequence = header.sequence;
    }

    /// Appends a segment's opening. It, and the `following` frames that will be made together with
    /// it, count as synced: the segment has its name only once they are.
    pub(super) fn open_segment(
        &mut self,
        out: &mut Vec<u8>,
        opening: &Opening,
        following: u64,
    ) -> u32 {
        let tag = tag(&opening.identity, opening.segment);
        self.synced = self.sequence + 1 + following;
        let start = frame::begin(out);
        opening.put(out);
        self.seal(out, start, Kind::Opening, opening.format, tag);
        tag
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_again() {
        assert_eq!(name(0x2A), "000000000000002a.log");
        for number in [0, 1, 255, u64::MAX] {
            assert_eq!(number_of(&name(number), ".log"), Some(number));
        }
        for other in [
            "LOCK",
            "1.log",
            "000000000000002A.log",
            "+00000000000002a.log",
            "000000000000002a.new",
            ".log",
        ] {
            assert_eq!(number_of(other, ".log"), None, "{other}");
        }
    }
}
