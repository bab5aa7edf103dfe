//! The content of a segment's file, frame by frame, damaged or not.

use bytes::Bytes;

use crate::storage::body::{self, SegmentHeader};
use crate::storage::frame::{self, ALIGNMENT, Frame, FrameKind, HEADER_BYTES};
use crate::types::{Configuration, HardState, Identity, Index, Term, Write};

/// A damaged part of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Damage {
    /// Where it begins, in bytes from the file's start.
    pub offset: u64,
    /// What is wrong there.
    pub what: String,
}

/// The content of a segment's file.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SegmentReport {
    /// The file's name.
    pub file: String,
    /// Its length.
    pub bytes: u64,
    /// The segment's header, if it can be read.
    pub header: Option<SegmentHeaderReport>,
    /// All whole frames of this segment, in order. The header's is the first.
    pub frames: Vec<FrameReport>,
    /// The damage before the last whole frame.
    pub damage: Vec<Damage>,
    /// Where the last whole frame ends.
    pub end: u64,
    /// What follows it.
    pub rest: Rest,
}

/// A segment's header: the log's owner, and its state before the segment.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SegmentHeaderReport {
    /// The node, group, cluster and disk that the log belongs to.
    pub identity: Identity,
    /// The log's first segment.
    pub origin: u64,
    /// Whether the file was another segment before.
    pub is_recycled: bool,
    /// Term and vote.
    pub hard_state: HardState,
    /// The last entry before the segment.
    pub last_index: Index,
    /// Its term.
    pub last_term: Term,
    /// The configuration with which the cluster was bootstrapped.
    pub initial_configuration: Configuration,
    /// The configuration in force.
    pub configuration: Configuration,
    /// The entry or the snapshot that the configuration came with; 0 for the initial one.
    pub configuration_index: Index,
}

/// A whole frame.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FrameReport {
    /// Where it begins, in bytes from the file's start.
    pub offset: u64,
    /// Its length, padding included.
    pub bytes: u64,
    /// Its number, counted from the log's first frame.
    pub sequence: u64,
    /// The last frame that was durable when this one was made.
    pub synced: u64,
    /// What it carries.
    pub content: FrameContent,
}

/// What a frame carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FrameContent {
    /// The segment's header.
    SegmentHeader,
    /// A write. Its sequence is not on disk and reads 0.
    Write(Write),
    /// A mark: the frame is there for its `synced`.
    Mark,
    /// Something that cannot be decoded although the checksum is right.
    Unreadable(String),
}

/// What follows a segment's last frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rest {
    /// Only zeros, or nothing.
    Zeros,
    /// Old frames of a recycled file.
    Leftovers,
    /// A frame that is not whole: a write that a crash cut short, or damage.
    Torn(String),
}

impl SegmentReport {
    pub(in crate::storage) fn of(file: &str, bytes: Bytes) -> SegmentReport {
        let mut report = SegmentReport {
            file: file.to_owned(),
            bytes: bytes.len() as u64,
            header: None,
            frames: Vec::new(),
            damage: Vec::new(),
            end: 0,
            rest: Rest::Zeros,
        };
        let mut scan = SegmentScan { bytes, at: 0, own: None, last: None };
        let why = loop {
            match scan.frame() {
                Ok(frame) => {
                    report.check_link(&scan, &frame);
                    report.add_frame(&scan, &frame);
                    scan.pass(&frame);
                }
                Err(why) => match scan.find_next() {
                    Some(next) => {
                        report.damage.push(Damage { offset: scan.at as u64, what: why });
                        (scan.at, scan.last) = (next, None);
                    }
                    None => break why,
                },
            }
        };
        report.end = scan.at as u64;
        report.rest = report.rest_of(&scan, why);
        report
    }

    /// Reports a whole frame that does not continue the chain.
    fn check_link(&mut self, scan: &SegmentScan, frame: &Frame) {
        let follows = |&(sequence, checksum): &(u64, u32)| {
            (frame.header.sequence, frame.header.previous) == (sequence + 1, checksum)
        };
        if !scan.last.as_ref().is_none_or(follows) {
            let what = "a frame that does not follow the one before it".to_owned();
            self.damage.push(Damage { offset: scan.at as u64, what });
        }
    }

    fn add_frame(&mut self, scan: &SegmentScan, frame: &Frame) {
        let start = scan.at + HEADER_BYTES;
        let body = scan.bytes.slice(start..start + frame.body_bytes);
        let content = match frame.header.kind {
            FrameKind::Mark => FrameContent::Mark,
            FrameKind::Write => match body::get_write(body, frame.header.format) {
                Ok(write) => FrameContent::Write(write),
                Err(error) => FrameContent::Unreadable(error.to_string()),
            },
            FrameKind::SegmentHeader => match SegmentHeader::get(body, frame.header.format) {
                Ok(segment_header) => {
                    self.header = Some(segment_header.into());
                    FrameContent::SegmentHeader
                }
                Err(error) => FrameContent::Unreadable(error.to_string()),
            },
        };
        let is_first = scan.at == 0;
        if is_first != (frame.header.kind == FrameKind::SegmentHeader) {
            let what = "a segment begins with its header, and no other frame is one".to_owned();
            self.damage.push(Damage { offset: scan.at as u64, what });
        }
        if let FrameContent::Unreadable(what) = &content {
            self.damage.push(Damage { offset: scan.at as u64, what: what.clone() });
        }
        self.frames.push(FrameReport {
            offset: scan.at as u64,
            bytes: frame.total_bytes() as u64,
            sequence: frame.header.sequence,
            synced: frame.header.synced,
            content,
        });
    }

    fn rest_of(&self, scan: &SegmentScan, why: String) -> Rest {
        let rest = &scan.bytes[scan.at..];
        let is_own = frame::peek(rest).is_some_and(|id| Some((id.group, id.tag)) == scan.own);
        let is_recycled = self.header.as_ref().is_some_and(|header| header.is_recycled);
        if rest.iter().all(|&byte| byte == 0) && !self.frames.is_empty() {
            Rest::Zeros
        } else if is_recycled && !is_own {
            Rest::Leftovers
        } else {
            Rest::Torn(why)
        }
    }
}

/// A scan of a segment that continues past damage.
struct SegmentScan {
    bytes: Bytes,
    at: usize,
    /// Group and tag of the segment's own frames.
    own: Option<(u64, u32)>,
    /// Number and checksum of the frame before, unless damage lies between.
    last: Option<(u64, u32)>,
}

impl SegmentScan {
    /// The frame at `at`, or why no frame of this segment begins there.
    fn frame(&self) -> Result<Frame, String> {
        let frame = frame::parse(&self.bytes[self.at..]).map_err(|error| error.to_string())?;
        match self.own {
            Some(own) if own != (frame.header.group, frame.header.tag) => {
                Err("the frame here belongs to another segment or group".to_owned())
            }
            _ => Ok(frame),
        }
    }

    fn pass(&mut self, frame: &Frame) {
        self.own = Some((frame.header.group, frame.header.tag));
        self.last = Some((frame.header.sequence, frame.checksum));
        self.at += frame.total_bytes();
    }

    /// Where the next whole frame of this segment begins.
    fn find_next(&self) -> Option<usize> {
        (self.at..self.bytes.len()).step_by(ALIGNMENT).skip(1).find(|&at| {
            frame::peek(&self.bytes[at..])
                .is_some_and(|id| self.own.is_none_or(|own| own == (id.group, id.tag)))
                && frame::parse(&self.bytes[at..]).is_ok()
        })
    }
}

impl From<SegmentHeader> for SegmentHeaderReport {
    fn from(segment_header: SegmentHeader) -> SegmentHeaderReport {
        let SegmentHeader {
            identity,
            origin,
            is_recycled,
            hard_state,
            last_index,
            last_term,
            initial_configuration,
            configuration,
            ..
        } = segment_header;
        SegmentHeaderReport {
            identity,
            origin,
            is_recycled,
            hard_state,
            last_index,
            last_term,
            initial_configuration,
            configuration: configuration.1,
            configuration_index: configuration.0,
        }
    }
}
