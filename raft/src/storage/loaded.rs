//! A segment read into memory, and the walk over its frames.

use bytes::Bytes;

use super::body::{self, Opening};
use super::bounds;
use super::frame::{self, ALIGNMENT, Format, Frame, HEADER_BYTES, Header, Kind, Misfit};
use super::segment::{self, Chain};
use super::{Disk, DiskFile, StorageError};
use crate::types::Write;

/// A segment in memory, its opening checked.
#[derive(Clone)]
pub(super) struct Loaded {
    pub(super) number: u64,
    pub(super) name: String,
    bytes: Bytes,
    pub(super) opening: Opening,
    pub(super) header: Header,
    checksum: u32,
    /// Where the frames after the opening begin.
    pub(super) start: usize,
}

impl Loaded {
    pub(super) fn load<D: Disk>(disk: &mut D, number: u64) -> Result<Loaded, StorageError> {
        let name = segment::name(number);
        let bytes = Bytes::from(read_file(disk, &name)?);
        let frame = frame::parse(&bytes).map_err(|misfit| refusal(&name, 0, misfit))?;
        let body = bytes.slice(HEADER_BYTES..HEADER_BYTES + frame.body_bytes);
        let corrupt = |what: &str| StorageError::corrupt(&name, 0, what);
        let opening =
            Opening::get(body, frame.header.format).map_err(|error| corrupt(&error.to_string()))?;
        bounds::check_opening(&opening).map_err(|what| corrupt(&what))?;
        let header = frame.header;
        if header.kind != Kind::Opening || header.group != opening.identity.group.0 {
            return Err(corrupt("the file does not begin with a segment's opening"));
        }
        if opening.segment != number || header.tag != segment::tag(&opening.identity, number) {
            return Err(corrupt("the file holds another segment than its name says"));
        }
        let (checksum, start) = (frame.checksum, frame.total_bytes());
        Ok(Loaded { number, name, bytes, opening, header, checksum, start })
    }

    /// The number of the segment after this one.
    pub(super) fn next_number(&self) -> Result<u64, StorageError> {
        let what = "the segment's number is the greatest that there is";
        self.number.checked_add(1).ok_or_else(|| StorageError::corrupt(&self.name, 0, what))
    }

    /// The file's length.
    pub(super) fn capacity_bytes(&self) -> u64 {
        self.bytes.len() as u64
    }

    /// The body of a frame that lies here.
    pub(super) fn body_of(&self, offset: usize, frame: &Frame) -> Bytes {
        let start = offset + HEADER_BYTES;
        self.bytes.slice(start..start + frame.body_bytes)
    }

    /// Reads the body of a step that lies here.
    pub(super) fn step(
        &self,
        offset: usize,
        format: Format,
        body: Bytes,
    ) -> Result<Write, StorageError> {
        let corrupt = |what: String| StorageError::corrupt(&self.name, offset as u64, what);
        let write = body::get_step(body, format).map_err(|error| corrupt(error.to_string()))?;
        bounds::check_step(&write).map_err(corrupt)?;
        Ok(write)
    }

    /// The walk over the frames after the opening.
    pub(super) fn walk(&self) -> Walk<'_> {
        let Header { group, sequence, synced, .. } = self.header;
        Walk {
            segment: self,
            offset: self.start,
            chain: Chain { group, sequence, checksum: self.checksum, synced },
        }
    }
}

/// All of a file.
pub(super) fn read_file<D: Disk>(disk: &mut D, name: &str) -> Result<Vec<u8>, StorageError> {
    let file = disk.open(name).map_err(|error| StorageError::io("open", name, &error))?;
    let length = file.len().map_err(|error| StorageError::io("measure", name, &error))?;
    let mut bytes = vec![0; usize::try_from(length).expect("a file that fits the address space")];
    let read =
        file.read_at(&mut bytes, 0).map_err(|error| StorageError::io("read", name, &error))?;
    bytes.truncate(read);
    Ok(bytes)
}

/// The error for a frame that had to fit.
pub(super) fn refusal(name: &str, offset: usize, misfit: Misfit) -> StorageError {
    match misfit {
        Misfit::Damage(what) => StorageError::corrupt(name, offset as u64, what),
        Misfit::Version(version) => {
            StorageError::Unsupported { file: name.to_owned(), version, known: frame::NEWEST as u8 }
        }
    }
}

/// A misfit in words, for an error about something else.
fn words(misfit: Misfit) -> String {
    match misfit {
        Misfit::Damage(what) => what.to_owned(),
        Misfit::Version(version) => format!("a frame of format {version}"),
    }
}

/// Goes from frame to frame of a segment, as long as each follows the one before it.
pub(super) struct Walk<'a> {
    segment: &'a Loaded,
    /// Where the next frame should begin.
    pub(super) offset: usize,
    /// The last frame; its `synced` is the greatest mark met.
    pub(super) chain: Chain,
}

impl Walk<'_> {
    /// The next frame and where it begins.
    pub(super) fn next(&mut self) -> Result<(usize, Frame), Misfit> {
        let frame = frame::parse(&self.segment.bytes[self.offset..])?;
        let Header { kind, group, sequence, previous, tag, synced, .. } = frame.header;
        if group != self.chain.group || tag != self.segment.header.tag || kind == Kind::Opening {
            return Err(Misfit::Damage("the frame here belongs to another segment or group"));
        }
        if sequence != self.chain.sequence + 1 || previous != self.chain.checksum {
            return Err(Misfit::Damage("the frame here does not follow the one before it"));
        }
        let offset = self.offset;
        self.offset += frame.total_bytes();
        self.chain = Chain {
            group,
            sequence,
            checksum: frame.checksum,
            synced: self.chain.synced.max(synced),
        };
        Ok((offset, frame))
    }
}

/// Where the last segment's frames end.
pub(super) struct End {
    /// The last frame that fits.
    pub(super) sequence: u64,
    /// Where it ends.
    pub(super) offset: usize,
    /// The greatest synced mark, at most `sequence`.
    pub(super) settled: u64,
    /// What lies there, if `SYNCED` says that a frame after it was on the disk.
    pub(super) lost: Option<String>,
    /// Whether a frame was begun after it. In a recycled file it can be told only by what is left
    /// of that frame itself.
    pub(super) is_torn: bool,
}

/// Finds where the log ends. `vouched`: every frame up to this one was on the disk, says `SYNCED`.
pub(super) fn find_end(last: &Loaded, vouched: u64) -> Result<End, StorageError> {
    let mut walk = last.walk();
    let misfit = loop {
        if let Err(misfit) = walk.next() {
            break misfit;
        }
    };
    let (sequence, offset) = (walk.chain.sequence, walk.offset);
    let past = Past::search(last, offset, sequence);
    let settled = walk.chain.synced.max(past.greatest_mark);
    let is_of_another_version =
        matches!(misfit, Misfit::Version(_)) && last.is_own(offset, sequence);
    if settled > sequence || is_of_another_version {
        return Err(refusal(&last.name, offset, misfit));
    }
    let lost = (vouched > sequence).then(|| words(misfit));
    let settled = settled.max(vouched.min(sequence));
    let is_torn = if last.opening.is_recycled {
        past.has_own_frames || last.is_own(offset, sequence)
    } else {
        last.bytes[offset..].iter().any(|&byte| byte != 0)
    };
    Ok(End { sequence, offset, settled, lost, is_torn })
}

/// What follows the first misfit.
struct Past {
    greatest_mark: u64,
    has_own_frames: bool,
}

impl Past {
    /// Searches for whole frames of this segment. Their chain cannot be checked across the gap; the
    /// tag keeps out whatever was not written here in this life of the file.
    fn search(last: &Loaded, offset: usize, sequence: u64) -> Past {
        let mut past = Past { greatest_mark: 0, has_own_frames: false };
        for at in (offset..last.bytes.len()).step_by(ALIGNMENT) {
            if last.is_own(at, sequence)
                && let Ok(Frame { header, .. }) = frame::parse(&last.bytes[at..])
            {
                past.has_own_frames = true;
                past.greatest_mark = past.greatest_mark.max(header.synced);
            }
        }
        past
    }
}

impl Loaded {
    /// Whether what lies at `offset` says that it is a frame of this segment after the one numbered
    /// `sequence`.
    fn is_own(&self, offset: usize, sequence: u64) -> bool {
        frame::peek(&self.bytes[offset..]).is_some_and(|(group, number, tag)| {
            (group, tag) == (self.header.group, self.header.tag) && number > sequence
        })
    }
}
