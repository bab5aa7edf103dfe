//! Segments: the names of their files, the tag and the chain of their frames.

use super::body::SegmentHeader;
use super::frame::{self, FrameFormat, FrameHeader, FrameKind};
use super::{Disk, StorageError};
use crate::types::Identity;

/// The length of every segment's file is a multiple of this.
pub(super) const LENGTH_UNIT: u64 = 1024;

/// The name of a segment's file.
pub(super) fn name(number: u64) -> String {
    format!("{number:016x}.log")
}

/// The name of a segment's file while it is being created.
pub(super) fn temporary_name(number: u64) -> String {
    format!("{number:016x}.new")
}

/// The ending of the name of a prepared file.
pub(super) const NEXT_SUFFIX: &str = ".next";

/// The name of the file that is prepared for a segment.
pub(super) fn next_name(number: u64) -> String {
    format!("{number:016x}{NEXT_SUFFIX}")
}

/// The number in a name that ends with `suffix`, if it has the form that [`name`] writes.
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

/// Removes unfinished segments that a crash has left. They hold nothing that is not elsewhere.
///
/// Prepared files are another matter: see [`super::next_segment::finish_rename`].
pub(super) fn remove_unfinished<D: Disk>(disk: &mut D) -> Result<(), StorageError> {
    let names = disk.list().map_err(|error| StorageError::io("list", "the data folder", &error))?;
    for name in names.iter().filter(|name| number_of(name, ".new").is_some()) {
        disk.remove(name).map_err(|error| StorageError::io("remove", name, &error))?;
    }
    Ok(())
}

/// The segment that frames are appended to.
#[derive(Debug)]
pub(super) struct ActiveSegment<F> {
    pub(super) number: u64,
    pub(super) file: F,
    pub(super) tag: u32,
    pub(super) capacity_bytes: u64,
    /// How much is written to the file. The rest is in the log's buffer.
    pub(super) written_bytes: u64,
}

/// Distinguishes the segments of all disks. Every frame carries it.
///
/// So an old frame in a recycled file, or a copy of a frame inside an entry, is not taken for one
/// of this segment.
pub(super) fn tag(identity: &Identity, number: u64) -> u32 {
    let disk = crc32c::crc32c(&identity.disk.0.to_le_bytes());
    crc32c::crc32c_append(disk, &number.to_le_bytes())
}

/// The end of the chain of frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FrameChain {
    pub(super) group: u64,
    /// The last frame's number.
    pub(super) sequence: u64,
    /// The last frame's checksum.
    pub(super) checksum: u32,
    /// The last frame known to be durable.
    pub(super) synced: u64,
}

impl FrameChain {
    /// Finishes the frame that begins at `start` as the next of the chain.
    pub(super) fn finish_frame(
        &mut self,
        out: &mut Vec<u8>,
        start: usize,
        kind: FrameKind,
        format: FrameFormat,
        tag: u32,
    ) {
        let header = FrameHeader {
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

    /// Appends a segment's header and returns the segment's tag.
    ///
    /// The header and the `following` frames that are written with it count as synced: the segment
    /// gets its name only once they are.
    pub(super) fn append_segment_header(
        &mut self,
        out: &mut Vec<u8>,
        segment_header: &SegmentHeader,
        following: u64,
    ) -> u32 {
        let tag = tag(&segment_header.identity, segment_header.segment);
        self.synced = self.sequence + 1 + following;
        let start = frame::begin(out);
        segment_header.put(out);
        self.finish_frame(out, start, FrameKind::SegmentHeader, segment_header.format, tag);
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
