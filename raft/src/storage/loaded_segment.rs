//! A segment read into memory, and the cursor over its frames.

use bytes::Bytes;

use super::body::{self, SegmentHeader};
use super::bounds;
use super::frame::{
    self, ALIGNMENT, Frame, FrameError, FrameFormat, FrameHeader, FrameKind, HEADER_BYTES,
};
use super::segment::{self, FrameChain};
use super::{Disk, DiskFile, StorageError};
use crate::types::Write;

/// A segment in memory. Its header has been checked.
#[derive(Clone)]
pub(super) struct LoadedSegment {
    pub(super) number: u64,
    pub(super) name: String,
    bytes: Bytes,
    pub(super) segment_header: SegmentHeader,
    /// The frame that carries it.
    pub(super) frame_header: FrameHeader,
    checksum: u32,
    /// Where the frames after the segment's header begin.
    pub(super) start: usize,
}

impl LoadedSegment {
    pub(super) fn load<D: Disk>(disk: &mut D, number: u64) -> Result<LoadedSegment, StorageError> {
        let name = segment::name(number);
        let bytes = Bytes::from(read_file(disk, &name)?);
        let frame = frame::parse(&bytes).map_err(|error| frame_error(&name, 0, error))?;
        let body = bytes.slice(HEADER_BYTES..HEADER_BYTES + frame.body_bytes);
        let corrupt = |what: &str| StorageError::corrupt(&name, 0, what);
        let segment_header = SegmentHeader::get(body, frame.header.format)
            .map_err(|error| corrupt(&error.to_string()))?;
        bounds::check_segment_header(&segment_header).map_err(|what| corrupt(&what))?;
        let frame_header = frame.header;
        if frame_header.kind != FrameKind::SegmentHeader
            || frame_header.group != segment_header.identity.group.0
        {
            return Err(corrupt("the file does not begin with a segment's header"));
        }
        if segment_header.segment != number
            || frame_header.tag != segment::tag(&segment_header.identity, number)
        {
            return Err(corrupt("the file's name is that of another segment"));
        }
        let (checksum, start) = (frame.checksum, frame.total_bytes());
        Ok(LoadedSegment { number, name, bytes, segment_header, frame_header, checksum, start })
    }

    /// The number of the segment after this one.
    pub(super) fn next_number(&self) -> Result<u64, StorageError> {
        let what = "the segment's number is the greatest possible";
        self.number.checked_add(1).ok_or_else(|| StorageError::corrupt(&self.name, 0, what))
    }

    /// The file's length.
    pub(super) fn capacity_bytes(&self) -> u64 {
        self.bytes.len() as u64
    }

    /// The body of the frame at `offset`.
    pub(super) fn body_of(&self, offset: usize, frame: &Frame) -> Bytes {
        let start = offset + HEADER_BYTES;
        self.bytes.slice(start..start + frame.body_bytes)
    }

    /// Decodes the write that the frame at `offset` carries.
    pub(super) fn decode_write(
        &self,
        offset: usize,
        format: FrameFormat,
        body: Bytes,
    ) -> Result<Write, StorageError> {
        let corrupt = |what: String| StorageError::corrupt(&self.name, offset as u64, what);
        let write = body::get_write(body, format).map_err(|error| corrupt(error.to_string()))?;
        bounds::check_write(&write).map_err(corrupt)?;
        Ok(write)
    }

    /// A cursor over the frames after the segment's header.
    pub(super) fn cursor(&self) -> FrameCursor<'_> {
        let FrameHeader { group, sequence, synced, .. } = self.frame_header;
        FrameCursor {
            segment: self,
            offset: self.start,
            chain: FrameChain { group, sequence, checksum: self.checksum, synced },
        }
    }
}

/// Reads a whole file.
pub(super) fn read_file<D: Disk>(disk: &mut D, name: &str) -> Result<Vec<u8>, StorageError> {
    let file = disk.open(name).map_err(|error| StorageError::io("open", name, &error))?;
    let length = file.len().map_err(|error| StorageError::io("measure", name, &error))?;
    let mut bytes = vec![0; usize::try_from(length).expect("a file that fits the address space")];
    let read =
        file.read_at(&mut bytes, 0).map_err(|error| StorageError::io("read", name, &error))?;
    bytes.truncate(read);
    Ok(bytes)
}

/// The error for a log of which a frame that must be whole is not.
pub(super) fn frame_error(name: &str, offset: usize, error: FrameError) -> StorageError {
    match error {
        FrameError::Damaged(what) => StorageError::corrupt(name, offset as u64, what),
        FrameError::UnknownVersion(version) => StorageError::Unsupported {
            file: name.to_owned(),
            version,
            newest: frame::NEWEST as u8,
        },
    }
}

/// Goes from frame to frame of a segment, as long as each one continues the chain.
pub(super) struct FrameCursor<'a> {
    segment: &'a LoadedSegment,
    /// Where the next frame should begin.
    pub(super) offset: usize,
    /// Ends with the last frame passed; `synced` is the greatest mark so far.
    pub(super) chain: FrameChain,
}

impl FrameCursor<'_> {
    /// The next frame, and where it begins.
    pub(super) fn next(&mut self) -> Result<(usize, Frame), FrameError> {
        let frame = frame::parse(&self.segment.bytes[self.offset..])?;
        let FrameHeader { kind, group, sequence, previous, tag, synced, .. } = frame.header;
        if group != self.chain.group
            || tag != self.segment.frame_header.tag
            || kind == FrameKind::SegmentHeader
        {
            return Err(FrameError::Damaged("the frame here belongs to another segment or group"));
        }
        if sequence != self.chain.sequence + 1 || previous != self.chain.checksum {
            return Err(FrameError::Damaged("the frame here does not follow the one before it"));
        }
        let offset = self.offset;
        self.offset += frame.total_bytes();
        self.chain = FrameChain {
            group,
            sequence,
            checksum: frame.checksum,
            synced: self.chain.synced.max(synced),
        };
        Ok((offset, frame))
    }
}

/// Where the log ends in its last segment.
pub(super) struct LogEnd {
    /// The last frame that continues the chain.
    pub(super) sequence: u64,
    /// Where that frame ends, in bytes.
    pub(super) offset: usize,
    /// The last frame known to be durable; at most `sequence`.
    pub(super) synced: u64,
    /// What lies at `offset`, if `SYNCED` says that a later frame was durable.
    pub(super) missing: Option<String>,
    /// Whether a later frame was begun and is not whole. In a recycled file only what is left of
    /// that frame itself shows it.
    pub(super) is_torn: bool,
}

/// Finds where the log ends. `marked` is the last frame that `SYNCED` says was durable.
pub(super) fn find_log_end(last: &LoadedSegment, marked: u64) -> Result<LogEnd, StorageError> {
    let mut cursor = last.cursor();
    let error = loop {
        if let Err(error) = cursor.next() {
            break error;
        }
    };
    let (sequence, offset) = (cursor.chain.sequence, cursor.offset);
    let rest = RestScan::search(last, offset, sequence);
    let synced = cursor.chain.synced.max(rest.greatest_mark);
    let is_of_another_version =
        matches!(error, FrameError::UnknownVersion(_)) && last.is_own(offset, sequence);
    if synced > sequence || is_of_another_version {
        return Err(frame_error(&last.name, offset, error));
    }
    let missing = (marked > sequence).then(|| error.to_string());
    let synced = synced.max(marked.min(sequence));
    let is_torn = if last.segment_header.is_recycled {
        rest.has_own_frames || last.is_own(offset, sequence)
    } else {
        last.bytes[offset..].iter().any(|&byte| byte != 0)
    };
    Ok(LogEnd { sequence, offset, synced, missing, is_torn })
}

/// What follows the last frame that continues the chain.
struct RestScan {
    greatest_mark: u64,
    has_own_frames: bool,
}

impl RestScan {
    /// Searches for whole frames of this segment. Their chain cannot be checked across the gap; the
    /// tag excludes frames that were written while the file was another segment.
    fn search(last: &LoadedSegment, offset: usize, sequence: u64) -> RestScan {
        let mut rest = RestScan { greatest_mark: 0, has_own_frames: false };
        for at in (offset..last.bytes.len()).step_by(ALIGNMENT) {
            if last.is_own(at, sequence)
                && let Ok(Frame { header, .. }) = frame::parse(&last.bytes[at..])
            {
                rest.has_own_frames = true;
                rest.greatest_mark = rest.greatest_mark.max(header.synced);
            }
        }
        rest
    }
}

impl LoadedSegment {
    /// Whether the bytes at `offset` claim to be a frame of this segment later than `sequence`.
    fn is_own(&self, offset: usize, sequence: u64) -> bool {
        let FrameHeader { group, tag, .. } = self.frame_header;
        frame::peek(&self.bytes[offset..])
            .is_some_and(|id| (id.group, id.tag) == (group, tag) && id.sequence > sequence)
    }
}
