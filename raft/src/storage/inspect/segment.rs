//! What a segment's file holds, frame by frame, damaged or not.

use bytes::Bytes;

use crate::storage::body::{self, Opening};
use crate::storage::frame::{self, ALIGNMENT, Frame, HEADER_BYTES, Kind, Misfit};
use crate::types::{Configuration, HardState, Identity, Index, Term, Write};

/// Bytes that are not what was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// Where it begins, in bytes from the file's start.
    pub offset: u64,
    /// What does not fit.
    pub what: String,
}

/// What a segment's file holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentReport {
    /// The file's name.
    pub file: String,
    /// Its length.
    pub bytes: u64,
    /// What its first frame says, if that can be read.
    pub opening: Option<OpeningReport>,
    /// All whole frames of this segment, in order; the opening is the first.
    pub frames: Vec<FrameReport>,
    /// What lies before the last whole frame and is none.
    pub damage: Vec<Damage>,
    /// Where the last whole frame ends.
    pub end: u64,
    /// What follows it.
    pub rest: Rest,
}

/// What a segment's first frame says of the log up to here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpeningReport {
    /// Whose log it is.
    pub identity: Identity,
    /// The segment with which the log begins.
    pub origin: u64,
    /// Whether the file had another life.
    pub is_recycled: bool,
    /// Term and vote.
    pub hard_state: HardState,
    /// The last entry before the segment.
    pub last_index: Index,
    /// Its term.
    pub last_term: Term,
    /// The configuration with which the cluster was born.
    pub founding: Configuration,
    /// The configuration in force, and the entry that brought it.
    pub configuration: (Index, Configuration),
}

/// A whole frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FrameReport {
    /// Where it begins, in bytes from the file's start.
    pub offset: u64,
    /// Its length, padding included.
    pub bytes: u64,
    /// Its number in the life of the log.
    pub sequence: u64,
    /// Up to which frame everything was on disk when it was made.
    pub synced: u64,
    /// What it carries.
    pub content: FrameContent,
}

/// What a frame carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FrameContent {
    /// The segment's opening.
    Opening,
    /// A write; its sequence is not on disk and reads 0.
    Step(Write),
    /// Nothing but its `synced`.
    Mark,
    /// Something that cannot be read although its checksum is right.
    Unreadable(String),
}

/// What follows a segment's last frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rest {
    /// Nothing but zeros, or nothing at all.
    Zeros,
    /// What the file's life before has left.
    Leftovers,
    /// A frame that is not whole: a write that a crash has cut short, or damage.
    Torn(String),
}

impl SegmentReport {
    pub(in crate::storage) fn of(file: &str, bytes: Bytes) -> SegmentReport {
        let mut report = SegmentReport {
            file: file.to_owned(),
            bytes: bytes.len() as u64,
            opening: None,
            frames: Vec::new(),
            damage: Vec::new(),
            end: 0,
            rest: Rest::Zeros,
        };
        let mut walk = Walk { bytes, at: 0, own: None, last: None };
        let why = loop {
            match walk.frame() {
                Ok(frame) => {
                    report.note_link(&walk, &frame);
                    report.note(&walk, &frame);
                    walk.pass(&frame);
                }
                Err(why) => match walk.find_next() {
                    Some(next) => {
                        report.damage.push(Damage { offset: walk.at as u64, what: why });
                        (walk.at, walk.last) = (next, None);
                    }
                    None => break why,
                },
            }
        };
        report.end = walk.at as u64;
        report.rest = report.rest_of(&walk, why);
        report
    }

    /// Notes a frame that is whole and does not follow the one before it.
    fn note_link(&mut self, walk: &Walk, frame: &Frame) {
        let follows = |&(sequence, checksum): &(u64, u32)| {
            (frame.header.sequence, frame.header.previous) == (sequence + 1, checksum)
        };
        if !walk.last.as_ref().is_none_or(follows) {
            let what = "a frame that does not follow the one before it".to_owned();
            self.damage.push(Damage { offset: walk.at as u64, what });
        }
    }

    fn note(&mut self, walk: &Walk, frame: &Frame) {
        let start = walk.at + HEADER_BYTES;
        let body = walk.bytes.slice(start..start + frame.body_bytes);
        let content = match frame.header.kind {
            Kind::Mark => FrameContent::Mark,
            Kind::Step => match body::get_step(body, frame.header.format) {
                Ok(write) => FrameContent::Step(write),
                Err(error) => FrameContent::Unreadable(error.to_string()),
            },
            Kind::Opening => match Opening::get(body, frame.header.format) {
                Ok(opening) => {
                    self.opening = Some(opening.into());
                    FrameContent::Opening
                }
                Err(error) => FrameContent::Unreadable(error.to_string()),
            },
        };
        let is_first = walk.at == 0;
        if is_first != (frame.header.kind == Kind::Opening) {
            let what =
                "an opening belongs at the start of a segment, and nothing else does".to_owned();
            self.damage.push(Damage { offset: walk.at as u64, what });
        }
        if let FrameContent::Unreadable(what) = &content {
            self.damage.push(Damage { offset: walk.at as u64, what: what.clone() });
        }
        self.frames.push(FrameReport {
            offset: walk.at as u64,
            bytes: frame.total_bytes() as u64,
            sequence: frame.header.sequence,
            synced: frame.header.synced,
            content,
        });
    }

    fn rest_of(&self, walk: &Walk, why: String) -> Rest {
        let rest = &walk.bytes[walk.at..];
        let is_own =
            frame::peek(rest).is_some_and(|(group, _, tag)| Some((group, tag)) == walk.own);
        let is_recycled = self.opening.as_ref().is_some_and(|opening| opening.is_recycled);
        if rest.iter().all(|&byte| byte == 0) && !self.frames.is_empty() {
            Rest::Zeros
        } else if is_recycled && !is_own {
            Rest::Leftovers
        } else {
            Rest::Torn(why)
        }
    }
}

/// Where in a segment one is.
struct Walk {
    bytes: Bytes,
    at: usize,
    /// Group and tag of the segment's own frames.
    own: Option<(u64, u32)>,
    /// Number and checksum of the last frame, unless something is missing after it.
    last: Option<(u64, u32)>,
}

impl Walk {
    /// The frame here, or why there is none of this segment.
    fn frame(&self) -> Result<Frame, String> {
        let frame = frame::parse(&self.bytes[self.at..]).map_err(|misfit| match misfit {
            Misfit::Damage(what) => what.to_owned(),
            Misfit::Version(version) => format!("a frame of format {version}"),
        })?;
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
                .is_some_and(|(group, _, tag)| self.own.is_none_or(|own| own == (group, tag)))
                && frame::parse(&self.bytes[at..]).is_ok()
        })
    }
}

impl From<Opening> for OpeningReport {
    fn from(opening: Opening) -> OpeningReport {
        let Opening {
            identity,
            origin,
            is_recycled,
            hard_state,
            last_index,
            last_term,
            founding,
            configuration,
            ..
        } = opening;
        OpeningReport {
            identity,
            origin,
            is_recycled,
            hard_state,
            last_index,
            last_term,
            founding,
            configuration,
        }
    }
}
