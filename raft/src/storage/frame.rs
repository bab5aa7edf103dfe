//! Frames: the unit in which the log is written, checked and lost.
//!
//! ```text
//! byte  0        4     8       12   13      14        16     24        32      40        44   48
//!       checksum magic length  kind version reserved  group  sequence  synced  previous  tag  body, zeros up to a multiple of 8
//! ```
//!
//! `raft/FORMAT.md` says what each field is for.

use bytes::{Buf, BufMut};

use super::bounds::NUMBER_MAX;
use crate::types::FeatureLevel;

/// The header's length.
pub(super) const HEADER_BYTES: usize = 48;

/// Frames begin at multiples of this: what recovery steps by when it looks for frames past damage.
pub(super) const ALIGNMENT: usize = 8;

/// A format of frames. The older one is written while the cluster is at the base feature level, so
/// that a node can go back to a version that reads nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Format {
    /// Term and vote are followed by a promise's length.
    V2 = 2,
    /// Steps also say what is committed and known of other disks; openings that, too, and how often
    /// the log was opened.
    V3 = 3,
}

/// The newest format that is read.
pub(super) const NEWEST: Format = Format::V3;

impl Format {
    fn of(version: u8) -> Option<Format> {
        match version {
            2 => Some(Format::V2),
            3 => Some(Format::V3),
            _ => None,
        }
    }

    /// The format in which a cluster at this feature level writes.
    pub(super) fn at(level: FeatureLevel) -> Format {
        if level.is_above_base() { Format::V3 } else { Format::V2 }
    }
}

/// The longest frame, header and padding included: 1 GiB. Every limit on batches above this room
/// lies far below.
pub const MAX_FRAME_BYTES: usize = 1 << 30;

const MAGIC: u32 = u32::from_le_bytes(*b"KdkL");

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A segment's first frame: whose log this is, and its state up to here.
    Opening = 1,
    /// One [`Write`](crate::types::Write).
    Step = 2,
    /// Nothing but the header, for the sake of its `synced`.
    Mark = 3,
}

/// A frame's header, without what follows from the body (checksum, length).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) kind: Kind,
    pub(super) format: Format,
    pub(super) group: u64,
    /// This frame's number in the life of the log.
    pub(super) sequence: u64,
    /// Every frame up to this number was on disk when this frame was made.
    pub(super) synced: u64,
    /// The checksum of the frame with the number before this one.
    pub(super) previous: u32,
    /// Says which segment of which disk the frame was made for.
    pub(super) tag: u32,
}

/// A frame that is whole.
#[derive(Clone, Copy, Debug)]
pub(super) struct Frame {
    pub(super) header: Header,
    pub(super) checksum: u32,
    pub(super) body_bytes: usize,
}

impl Frame {
    /// Where the next frame begins, counted from this one.
    pub(super) fn total_bytes(&self) -> usize {
        total_bytes(self.body_bytes)
    }
}

/// Why bytes are no frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Misfit {
    /// Something does not fit.
    Damage(&'static str),
    /// The frame is whole, and of another version.
    Version(u8),
}

/// The length of a frame with a body of `body_bytes`.
pub(super) fn total_bytes(body_bytes: usize) -> usize {
    (HEADER_BYTES + body_bytes).next_multiple_of(ALIGNMENT)
}

/// Leaves room for a header; returns where it begins. The body is appended next, then [`finish`]
/// called.
pub(super) fn begin(out: &mut Vec<u8>) -> usize {
    let start = out.len();
    out.put_bytes(0, HEADER_BYTES);
    start
}

/// Pads the frame that [`begin`] began at `start`, fills in its header and returns its checksum.
pub(super) fn finish(out: &mut Vec<u8>, start: usize, header: &Header) -> u32 {
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

/// The frame at the start of `bytes`, which may go on past it. Checks what the frame says about
/// itself; whether it belongs where it lies is for the caller to see.
pub(super) fn parse(bytes: &[u8]) -> Result<Frame, Misfit> {
    let mut fields =
        bytes.get(..HEADER_BYTES).ok_or(Misfit::Damage("the file ends within a frame's header"))?;
    let checksum = fields.get_u32_le();
    if fields.get_u32_le() != MAGIC {
        return Err(Misfit::Damage("no frame begins here"));
    }
    let body_bytes = fields.get_u32_le() as usize;
    if body_bytes > MAX_FRAME_BYTES || total_bytes(body_bytes) > bytes.len() {
        return Err(Misfit::Damage("the file ends within a frame's body"));
    }
    if crc32c::crc32c(&bytes[4..total_bytes(body_bytes)]) != checksum {
        return Err(Misfit::Damage("a frame's checksum does not match its bytes"));
    }
    let kind = fields.get_u8();
    let version = fields.get_u8();
    let format = Format::of(version).ok_or(Misfit::Version(version))?;
    let kind = match kind {
        1 => Kind::Opening,
        2 => Kind::Step,
        3 => Kind::Mark,
        _ => return Err(Misfit::Damage("a frame is of unknown kind")),
    };
    if fields.get_u16_le() != 0 {
        return Err(Misfit::Damage("a frame's reserved bytes are not zero"));
    }
    let group = fields.get_u64_le();
    let sequence = fields.get_u64_le();
    if sequence == 0 || sequence > NUMBER_MAX {
        return Err(Misfit::Damage("a frame's number is beyond any that a log reaches"));
    }
    let synced = fields.get_u64_le();
    let previous = fields.get_u32_le();
    let tag = fields.get_u32_le();
    Ok(Frame {
        header: Header { kind, format, group, sequence, synced, previous, tag },
        checksum,
        body_bytes,
    })
}

/// Group, sequence and tag of what may be a frame at the start of `bytes`; nothing is checked but
/// the magic number. They are in the same place in every version.
pub(super) fn peek(bytes: &[u8]) -> Option<(u64, u64, u32)> {
    let mut fields = bytes.get(4..HEADER_BYTES)?;
    let magic = fields.get_u32_le();
    fields.advance(8);
    let group = fields.get_u64_le();
    let sequence = fields.get_u64_le();
    fields.advance(12);
    (magic == MAGIC).then(|| (group, sequence, fields.get_u32_le()))
}

/// How long the frame at the start of `bytes` says it is, if that can be read; nothing is checked.
pub(super) fn announced_bytes(bytes: &[u8]) -> Option<usize> {
    let mut fields = bytes.get(4..HEADER_BYTES)?;
    let magic = fields.get_u32_le();
    let body_bytes = fields.get_u32_le() as usize;
    (magic == MAGIC && body_bytes <= MAX_FRAME_BYTES).then(|| total_bytes(body_bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> Header {
        let (kind, format) = (Kind::Step, Format::V3);
        Header {
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
    fn a_frame_is_what_it_was() {
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
            assert_eq!(announced_bytes(&out[start..]), Some(out.len() - start));
        }
    }

    #[test]
    fn every_bit_counts() {
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
    fn another_version_is_named() {
        let mut out = Vec::new();
        begin(&mut out);
        finish(&mut out, 0, &header());
        out[13] = NEWEST as u8 + 1;
        let checksum = crc32c::crc32c(&out[4..]);
        out[..4].copy_from_slice(&checksum.to_le_bytes());
        assert_eq!(parse(&out).unwrap_err(), Misfit::Version(NEWEST as u8 + 1));
    }

    #[test]
    fn the_bytes_of_a_frame() {
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
