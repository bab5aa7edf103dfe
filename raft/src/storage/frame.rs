//! Frames: the unit in which the log is written and checked, whole or not at all.
//!
//! ```text
//! byte  0         4      8       12    13       14
//!       checksum  magic  length  kind  version  reserved
//! byte  16     24        32      40        44   48
//!       group  sequence  synced  previous  tag  body, zeros up to a multiple of 8
//! ```
//!
//! `raft/FORMAT.md` gives the reason for each field.

use bytes::{Buf, BufMut};

use super::bounds::NUMBER_MAX;
use crate::types::FeatureLevel;

/// The header's length.
pub(super) const HEADER_BYTES: usize = 48;

/// Frames begin at multiples of this, so recovery searches for frames past damage in such steps.
pub(super) const ALIGNMENT: usize = 8;

/// A format of frames. The older one is written while the cluster is at the base feature level: a
/// node can then go back to a version that reads no other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum FrameFormat {
    /// Holds term, vote, promise and entries.
    V2 = 2,
    /// Adds the commit index and the records of other nodes' disks; segment headers also count how
    /// often the log was opened.
    V3 = 3,
}

/// The newest format that this version reads.
pub(super) const NEWEST: FrameFormat = FrameFormat::V3;

impl FrameFormat {
    fn from_version(version: u8) -> Option<FrameFormat> {
        match version {
            2 => Some(FrameFormat::V2),
            3 => Some(FrameFormat::V3),
            _ => None,
        }
    }

    /// The format in which a cluster at this feature level writes.
    pub(super) fn for_level(level: FeatureLevel) -> FrameFormat {
        if level.is_above_base() { FrameFormat::V3 } else { FrameFormat::V2 }
    }
}

/// The longest frame, header and padding included: 1 GiB. Every limit on batches lies far below.
pub const MAX_FRAME_BYTES: usize = 1 << 30;

const MAGIC: u32 = u32::from_le_bytes(*b"KdkL");

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FrameKind {
    /// A segment's first frame: the log's owner, and its state before the segment.
    SegmentHeader = 1,
    /// One [`Write`](crate::types::Write).
    Write = 2,
    /// A frame for the sake of its `synced`; its body is empty or a commit index.
    Mark = 3,
}

/// A frame's header, without the fields that follow from the body (checksum, length).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FrameHeader {
    pub(super) kind: FrameKind,
    pub(super) format: FrameFormat,
    pub(super) group: u64,
    /// The frame's number, counted from the log's first frame.
    pub(super) sequence: u64,
    /// The last frame that was durable when this one was made.
    pub(super) synced: u64,
    /// The checksum of the frame with the number before this one.
    pub(super) previous: u32,
    /// Identifies the disk and the segment that the frame was made for.
    pub(super) tag: u32,
}

/// A frame whose checksum is right.
#[derive(Clone, Copy, Debug)]
pub(super) struct Frame {
    pub(super) header: FrameHeader,
    pub(super) checksum: u32,
    pub(super) body_bytes: usize,
}

impl Frame {
    /// Its length, padding included: where the next frame begins, counted from this one.
    pub(super) fn total_bytes(&self) -> usize {
        total_bytes(self.body_bytes)
    }
}

/// Why bytes are not the expected frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum FrameError {
    /// The bytes are not what was written.
    #[error("{0}")]
    Damaged(&'static str),
    /// The frame is whole, and of a format that this version does not read.
    #[error("a frame of format {0}")]
    UnknownVersion(u8),
}

/// The length of a frame with a body of `body_bytes`.
pub(super) fn total_bytes(body_bytes: usize) -> usize {
    (HEADER_BYTES + body_bytes).next_multiple_of(ALIGNMENT)
}

/// Reserves the bytes of a header and returns where it begins. The caller appends the body and
/// calls [`finish`].
pub(super) fn begin(out: &mut Vec<u8>) -> usize {
    let start = out.len();
    out.put_bytes(0, HEADER_BYTES);
    start
}

/// Pads the frame that begins at `start`, fills in its header and returns its checksum.
pub(super) fn finish(out: &mut Vec<u8>, start: usize, header: &FrameHeader) -> u32 {
    let body_bytes = out.len() - start - HEADER_BYTES;
    assert!(
        total_bytes(body_bytes) <= MAX_FRAME_BYTES,
        "a frame of {body_bytes} bytes was not refused"
    );
    out.put_bytes(0, total_bytes(body_bytes) - HEADER_BYTES - body_bytes);
    let mut fields = &mut out[start + 4..start + HEADER_BYTES];
    fields.put_u32_le(MAGIC);
    fields.put_u32_le(u32::try_from(body_bytes).expect("below 1 GiB"));
    fields.put_u8(header.kind as u8);
    fields.put_u8(header.format as u8);
    fields.put_u16_le(0);
    fields.put_u64_le(header.group);
    fields.put_u64_le(header.sequence);
    fields.put_u64_le(header.synced);
    fields.put_u32_le(header.previous);
    fields.put_u32_le(header.tag);
    let checksum = crc32c::crc32c(&out[start + 4..]);
    out[start..start + 4].copy_from_slice(&checksum.to_le_bytes());
    checksum
}

/// Parses the frame at the start of `bytes`, which may be longer. Checks the frame by itself; the
/// caller checks whether it belongs where it lies.
pub(super) fn parse(bytes: &[u8]) -> Result<Frame, FrameError> {
    let mut fields = bytes
        .get(..HEADER_BYTES)
        .ok_or(FrameError::Damaged("the file ends within a frame's header"))?;
    let checksum = fields.get_u32_le();
    if fields.get_u32_le() != MAGIC {
        return Err(FrameError::Damaged("no frame begins here"));
    }
    let body_bytes = fields.get_u32_le() as usize;
    if body_bytes > MAX_FRAME_BYTES || total_bytes(body_bytes) > bytes.len() {
        return Err(FrameError::Damaged("the file ends within a frame's body"));
    }
    if crc32c::crc32c(&bytes[4..total_bytes(body_bytes)]) != checksum {
        return Err(FrameError::Damaged("a frame's checksum does not match its bytes"));
    }
    let kind = fields.get_u8();
    let version = fields.get_u8();
    let format = FrameFormat::from_version(version).ok_or(FrameError::UnknownVersion(version))?;
    let kind = match kind {
        1 => FrameKind::SegmentHeader,
        2 => FrameKind::Write,
        3 => FrameKind::Mark,
        _ => return Err(FrameError::Damaged("a frame has an unknown kind")),
    };
    if fields.get_u16_le() != 0 {
        return Err(FrameError::Damaged("a frame's reserved bytes are not zero"));
    }
    let group = fields.get_u64_le();
    let sequence = fields.get_u64_le();
    if sequence == 0 || sequence > NUMBER_MAX {
        return Err(FrameError::Damaged("a frame's number is beyond any that a log reaches"));
    }
    let synced = fields.get_u64_le();
    let previous = fields.get_u32_le();
    let tag = fields.get_u32_le();
    Ok(Frame {
        header: FrameHeader { kind, format, group, sequence, synced, previous, tag },
        checksum,
        body_bytes,
    })
}

/// What identifies a frame. The fields have the same places in every version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FrameId {
    pub(super) group: u64,
    pub(super) sequence: u64,
    pub(super) tag: u32,
}

/// Reads the identity of the frame that may begin `bytes`. Checks only the magic number.
pub(super) fn peek(bytes: &[u8]) -> Option<FrameId> {
    let mut fields = bytes.get(4..HEADER_BYTES)?;
    let magic = fields.get_u32_le();
    fields.advance(8);
    let group = fields.get_u64_le();
    let sequence = fields.get_u64_le();
    fields.advance(12);
    (magic == MAGIC).then(|| FrameId { group, sequence, tag: fields.get_u32_le() })
}

/// The length that the frame at the start of `bytes` claims, unchecked; `None` if no frame begins.
pub(super) fn claimed_bytes(bytes: &[u8]) -> Option<usize> {
    let mut fields = bytes.get(4..HEADER_BYTES)?;
    let magic = fields.get_u32_le();
    let body_bytes = fields.get_u32_le() as usize;
    (magic == MAGIC && body_bytes <= MAX_FRAME_BYTES).then(|| total_bytes(body_bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> FrameHeader {
        let (kind, format) = (FrameKind::Write, FrameFormat::V3);
        FrameHeader {
            kind,
            format,
            group: 7,
            sequence: 9,
            synced: 8,
            previous: 0xDEAD_BEEF,
            tag: 0x0102_0304,
        }
    }

    #[test]
    fn a_frame_is_read_back() {
        for body_bytes in 0..40 {
            let mut out = vec![0xAA; 16];
            let start = begin(&mut out);
            out.extend((0..body_bytes).map(|byte| byte as u8));
            let checksum = finish(&mut out, start, &header());
            assert_eq!(out.len() % ALIGNMENT, 0);
            let frame = parse(&out[start..]).unwrap();
            assert_eq!(
                (frame.header, frame.checksum, frame.body_bytes),
                (header(), checksum, body_bytes)
            );
            assert_eq!(frame.total_bytes(), out.len() - start);
            assert_eq!(claimed_bytes(&out[start..]), Some(out.len() - start));
        }
    }

    #[test]
    fn no_flipped_bit_and_no_cut_passes() {
        let mut out = Vec::new();
        begin(&mut out);
        out.extend_from_slice(b"some body");
        finish(&mut out, 0, &header());
        for bit in 0..out.len() * 8 {
            out[bit / 8] ^= 1 << (bit % 8);
            assert!(parse(&out).is_err(), "bit {bit}");
            out[bit / 8] ^= 1 << (bit % 8);
        }
        for end in 0..out.len() {
            assert!(parse(&out[..end]).is_err());
        }
        parse(&out).unwrap();
    }

    #[test]
    fn an_unknown_version_is_reported() {
        let mut out = Vec::new();
        begin(&mut out);
        finish(&mut out, 0, &header());
        out[13] = NEWEST as u8 + 1;
        let checksum = crc32c::crc32c(&out[4..]);
        out[..4].copy_from_slice(&checksum.to_le_bytes());
        assert_eq!(parse(&out).unwrap_err(), FrameError::UnknownVersion(NEWEST as u8 + 1));
    }

    #[test]
    fn the_bytes_of_a_frame_are_as_documented() {
        let mut out = Vec::new();
        begin(&mut out);
        out.extend_from_slice(b"abc");
        let checksum = finish(&mut out, 0, &header());
        let expected: Vec<u8> = [
            &checksum.to_le_bytes()[..],
            b"KdkL",
            &[3, 0, 0, 0, 2, 3, 0, 0],
            &[7, 0, 0, 0, 0, 0, 0, 0],
            &[9, 0, 0, 0, 0, 0, 0, 0],
            &[8, 0, 0, 0, 0, 0, 0, 0],
            &[0xEF, 0xBE, 0xAD, 0xDE, 4, 3, 2, 1],
            b"abc\0\0\0\0\0",
        ]
        .concat();
        assert_eq!(out, expected);
    }
}
