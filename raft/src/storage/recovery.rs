//! Opens a log: finds what was promised, refuses what is damaged, cuts what was torn, and makes durable what it hands over.
//!
//! ```text
//! last segment   [opening] [frame] [frame] [frame] [frame] [~~~~~] ...zeros
//!                                        ^ greatest synced mark  ^ first frame that does not fit
//!                settled: known to be    | whole, perhaps not on |  torn: never acknowledged, because
//!                on disk                 | disk: written anew    |  a later frame's mark would say so
//! ```
//!
//! A frame that does not fit at or before the greatest mark is corruption. The mark may lie past the damage, so the whole
//! file is searched for it. Earlier segments were synced before the next one was made: there, every misfit is corruption.
//!
//! Past the mark, bytes that can be read need not be on disk: a sync may have failed, and the kernel shows what it has not
//! written. They are therefore written to a new segment, which has its name only once it is synced; a crash on the way
//! leaves everything as it was. Always beginning a new segment also means that no byte of a segment is ever written twice.

use std::collections::VecDeque;

use bytes::Bytes;

use super::body::{self, Opening};
use super::contents::Contents;
use super::frame::{self, ALIGNMENT, Frame, HEADER_BYTES, Header, Kind, Misfit};
use super::log::{self, Log, Parts, Recovered, TornTail};
use super::segment::{self, Active, Chain};
use super::{Disk, DiskFile, LogOptions, StorageError};
use crate::types::{Configuration, Entry, Index, Payload, Saved, Write};

/// [`Log::open`].
pub(super) fn recover<D: Disk>(mut disk: D, options: LogOptions) -> Result<(Log<D>, Recovered), StorageError> {
    let numbers = segment::list(&mut disk)?;
    let Some(&first) = numbers.first() else { return Err(StorageError::NoLog) };
    segment::remove_unfinished(&mut disk)?;
    let mut loaded = Loaded::load(&mut disk, first)?;
    let mut replay = Replay::begin(&loaded, options.tail_bytes)?;
    for (expected, &number) in (first + 1..).zip(&numbers[1..]) {
        if number != expected {
            return Err(StorageError::corrupt(&segment::name(expected), 0, "the file is missing"));
        }
        let next = Loaded::load(&mut disk, number)?;
        replay.settled_segment(&loaded, &next)?;
        loaded = next;
    }
    let end = find_end(&loaded)?;
    let unsettled = replay.last_segment(&loaded, &end)?;
    let active = replay.rewrite(&mut disk, &options, &loaded, &unsettled)?;
    let torn = end.is_torn.then(|| TornTail { file: loaded.name.clone(), offset: end.offset as u64 });
    let saved = replay.saved(&loaded.opening.founding);
    let Opening { identity, founding, .. } = loaded.opening;
    let Replay { contents, chain, .. } = replay;
    let log = Log::assemble(Parts { disk, options, identity, founding, contents, active, chain });
    Ok((log, Recovered { identity, saved, rewritten: unsettled.len() as u64, torn }))
}

/// A segment in memory, its opening checked.
struct Loaded {
    number: u64,
    name: String,
    bytes: Bytes,
    opening: Opening,
    header: Header,
    checksum: u32,
    /// Where the frames after the opening begin.
    start: usize,
}

impl Loaded {
    fn load<D: Disk>(disk: &mut D, number: u64) -> Result<Loaded, StorageError> {
        let name = segment::name(number);
        let file = disk.open(&name).map_err(|error| StorageError::io("open", &name, &error))?;
        let length = file.len().map_err(|error| StorageError::io("measure", &name, &error))?;
        let mut bytes = vec![0; usize::try_from(length).expect("a file that fits the address space")];
        let read = file.read_at(&mut bytes, 0).map_err(|error| StorageError::io("read", &name, &error))?;
        bytes.truncate(read);
        let bytes = Bytes::from(bytes);
        let frame = frame::parse(&bytes).map_err(|misfit| refusal(&name, 0, misfit))?;
        let body = bytes.slice(HEADER_BYTES..HEADER_BYTES + frame.body_bytes);
        let corrupt = |what: &str| StorageError::corrupt(&name, 0, what);
        let opening = Opening::get(body).map_err(|error| corrupt(&error.to_string()))?;
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

    /// The walk over the frames after the opening.
    fn walk(&self) -> Walk<'_> {
        let Header { group, sequence, synced, .. } = self.header;
        Walk { segment: self, offset: self.start, chain: Chain { group, sequence, checksum: self.checksum, synced } }
    }
}

/// The error for a frame that had to fit.
fn refusal(name: &str, offset: usize, misfit: Misfit) -> StorageError {
    match misfit {
        Misfit::Damage(what) => StorageError::corrupt(name, offset as u64, what),
        Misfit::Version(version) => StorageError::Unsupported { file: name.to_owned(), version, known: frame::VERSION },
    }
}

/// Goes from frame to frame of a segment, as long as each follows the one before it.
struct Walk<'a> {
    segment: &'a Loaded,
    /// Where the next frame should begin.
    offset: usize,
    /// The last frame; its `synced` is the greatest mark met.
    chain: Chain,
}

impl Walk<'_> {
    /// The next frame and where it begins.
    fn next(&mut self) -> Result<(usize, Frame), Misfit> {
        let frame = frame::parse(&self.segment.bytes[self.offset..])?;
        let Header { kind, group, sequence, previous, tag, synced } = frame.header;
        if group != self.chain.group || tag != self.segment.header.tag || kind == Kind::Opening {
            return Err(Misfit::Damage("the frame here belongs to another segment or group"));
        }
        if sequence != self.chain.sequence + 1 || previous != self.chain.checksum {
            return Err(Misfit::Damage("the frame here does not follow the one before it"));
        }
        let offset = self.offset;
        self.offset += frame.total_bytes();
        self.chain = Chain { group, sequence, checksum: frame.checksum, synced: self.chain.synced.max(synced) };
        Ok((offset, frame))
    }
}

/// Where the last segment's frames end.
struct End {
    /// The last frame that fits.
    sequence: u64,
    /// Where it ends.
    offset: usize,
    /// The greatest synced mark, at most `sequence`.
    settled: u64,
    /// Whether anything but zeros follows.
    is_torn: bool,
}

fn find_end(last: &Loaded) -> Result<End, StorageError> {
    let mut walk = last.walk();
    let misfit = loop {
        if let Err(misfit) = walk.next() {
            break misfit;
        }
    };
    let (sequence, offset) = (walk.chain.sequence, walk.offset);
    let settled = walk.chain.synced.max(greatest_mark_past(last, offset, sequence));
    if settled > sequence || matches!(misfit, Misfit::Version(_)) {
        return Err(refusal(&last.name, offset, misfit));
    }
    let is_torn = last.bytes[offset..].iter().any(|&byte| byte != 0);
    Ok(End { sequence, offset, settled, is_torn })
}

/// Searches what follows the first misfit for whole frames of this segment, and returns their greatest mark. Their chain
/// cannot be checked across the gap; the tag keeps out whatever was not written here.
fn greatest_mark_past(last: &Loaded, offset: usize, sequence: u64) -> u64 {
    let mut greatest = 0;
    for at in (offset..last.bytes.len()).step_by(ALIGNMENT) {
        if let Ok(Frame { header, .. }) = frame::parse(&last.bytes[at..])
            && (header.group, header.tag) == (last.header.group, last.header.tag)
            && header.sequence > sequence
        {
            greatest = greatest.max(header.synced);
        }
    }
    greatest
}

/// The log's state as its frames are taken in, one after the other.
struct Replay {
    contents: Contents,
    configurations: Vec<(Index, Configuration)>,
    tail: VecDeque<Entry>,
    tail_bytes: usize,
    tail_limit_bytes: usize,
    /// The last frame taken in.
    chain: Chain,
}

impl Replay {
    fn begin(first: &Loaded, tail_limit_bytes: usize) -> Result<Replay, StorageError> {
        if (first.opening.last_index, first.header.sequence, first.header.previous) != (Index(0), 1, 0) {
            let missing = segment::name(first.number.saturating_sub(1));
            return Err(StorageError::corrupt(&missing, 0, "the file is missing"));
        }
        Ok(Replay {
            contents: Contents { hard_state: first.opening.hard_state, ..Contents::default() },
            configurations: Vec::new(),
            tail: VecDeque::new(),
            tail_bytes: 0,
            tail_limit_bytes,
            chain: first.walk().chain,
        })
    }

    /// Takes in a segment up to where `next` begins. Everything in it was synced before `next` was made.
    fn settled_segment(&mut self, segment: &Loaded, next: &Loaded) -> Result<(), StorageError> {
        let last_sequence = next.header.sequence - 1;
        let mut walk = segment.walk();
        while walk.chain.sequence < last_sequence {
            let at = walk.offset;
            let (offset, frame) = walk.next().map_err(|misfit| refusal(&segment.name, at, misfit))?;
            self.take_frame(segment, offset, &frame)?;
        }
        let contents = &self.contents;
        let reached = log::opening(next.number, &segment.opening.identity, &segment.opening.founding, contents);
        let follows = (walk.chain.sequence, walk.chain.checksum) == (last_sequence, next.header.previous);
        if !follows || reached != next.opening {
            return Err(StorageError::corrupt(&next.name, 0, "the segment does not follow the one before it"));
        }
        self.chain = next.walk().chain;
        Ok(())
    }

    /// Takes in the settled part of the last segment; returns the bodies of the steps that follow it.
    fn last_segment(&mut self, last: &Loaded, end: &End) -> Result<Vec<Bytes>, StorageError> {
        let mut unsettled = Vec::new();
        let mut walk = last.walk();
        while walk.chain.sequence < end.sequence {
            let (offset, frame) = walk.next().map_err(|misfit| refusal(&last.name, end.offset, misfit))?;
            if frame.header.sequence <= end.settled {
                self.take_frame(last, offset, &frame)?;
                self.chain = walk.chain;
            } else if frame.header.kind == Kind::Step {
                unsettled.push(body_of(last, offset, &frame));
            }
        }
        Ok(unsettled)
    }

    fn take_frame(&mut self, segment: &Loaded, offset: usize, frame: &Frame) -> Result<(), StorageError> {
        if frame.header.kind != Kind::Step {
            return Ok(());
        }
        let write = decode_step(segment, offset, body_of(segment, offset, frame))?;
        self.take(&write, segment.number, offset as u64)
            .map_err(|what| StorageError::corrupt(&segment.name, offset as u64, what))
    }

    fn take(&mut self, write: &Write, segment: u64, offset: u64) -> Result<(), String> {
        self.contents.check(write)?;
        self.contents.apply(write, segment, offset);
        if let Some(from) = write.truncate_from {
            self.configurations.retain(|&(index, _)| index < from);
            while let Some(entry) = self.tail.pop_back_if(|entry| entry.index >= from) {
                self.tail_bytes -= entry.size_bytes();
            }
        }
        for entry in &write.entries {
            if let Payload::Configuration(configuration) = &entry.payload {
                self.configurations.push((entry.index, (**configuration).clone()));
            }
            self.tail_bytes += entry.size_bytes();
            self.tail.push_back(entry.clone());
        }
        while self.tail_bytes > self.tail_limit_bytes {
            let Some(entry) = self.tail.pop_front() else { break };
            self.tail_bytes -= entry.size_bytes();
        }
        Ok(())
    }

    /// Makes a new segment of the steps that are not settled, and takes them in.
    fn rewrite<D: Disk>(
        &mut self,
        disk: &mut D,
        options: &LogOptions,
        last: &Loaded,
        unsettled: &[Bytes],
    ) -> Result<Active<D::File>, StorageError> {
        let number = last.number + 1;
        let opening = log::opening(number, &last.opening.identity, &last.opening.founding, &self.contents);
        let mut content = Vec::new();
        let tag = self.chain.open_segment(&mut content, &opening, unsettled.len() as u64);
        for body in unsettled {
            let offset = content.len();
            let start = frame::begin(&mut content);
            content.extend_from_slice(body);
            self.chain.seal(&mut content, start, Kind::Step, tag);
            let write = decode_step(last, offset, body.clone())?;
            self.take(&write, number, offset as u64)
                .map_err(|what| StorageError::corrupt(&last.name, last.start as u64, what))?;
        }
        let capacity_bytes = log::capacity(options, content.len());
        self.contents.locator.reserve(capacity_bytes);
        let file = segment::make(disk, number, capacity_bytes, &content)?;
        Ok(Active { number, file, tag, capacity_bytes, written_bytes: content.len() as u64 })
    }

    fn saved(&self, founding: &Configuration) -> Saved {
        Saved {
            hard_state: self.contents.hard_state,
            founding: founding.clone(),
            snapshot: None,
            configurations: self.configurations.clone(),
            terms: self.contents.terms.clone(),
            tail: self.tail.iter().map(detached).collect(),
        }
    }
}

/// The entry with memory of its own, so that it does not keep the segment's.
fn detached(entry: &Entry) -> Entry {
    let payload = match &entry.payload {
        Payload::Command(command) => Payload::Command(Bytes::copy_from_slice(command)),
        other => other.clone(),
    };
    Entry { payload, ..entry.clone() }
}

fn body_of(segment: &Loaded, offset: usize, frame: &Frame) -> Bytes {
    let start = offset + HEADER_BYTES;
    segment.bytes.slice(start..start + frame.body_bytes)
}

fn decode_step(segment: &Loaded, offset: usize, body: Bytes) -> Result<Write, StorageError> {
    body::get_step(body).map_err(|error| StorageError::corrupt(&segment.name, offset as u64, error.to_string()))
}
