//! Reads entries back from the segments.

use bytes::Bytes;

use super::body;
use super::contents::Contents;
use super::frame::{self, Frame, HEADER_BYTES, Kind, Misfit};
use super::locator::Run;
use super::segment::{self, Active};
use super::{Disk, DiskFile, StorageError};
use crate::core::Fetch;
use crate::types::{Entries, Entry, Index};

/// How much is read at a time.
const CHUNK_BYTES: usize = 64 << 10;

/// Reads entries. Keeps one older segment open: who catches up reads one after the other.
#[derive(Debug)]
pub(super) struct Reader<F> {
    older: Option<(u64, F)>,
}

impl<F> Default for Reader<F> {
    fn default() -> Reader<F> {
        Reader { older: None }
    }
}

/// What is collected, and when it is enough.
struct Wanted {
    next: Index,
    last: Index,
    left_bytes: usize,
    entries: Vec<Entry>,
}

impl Wanted {
    fn is_done(&self) -> bool {
        self.next > self.last
    }

    /// Takes the entries of a frame that are wanted, up to `end` (exclusive). `false` if one before
    /// them is missing.
    fn take(&mut self, entries: &Entries, end: Option<Index>) -> bool {
        for entry in entries {
            if self.is_done() || end.is_some_and(|end| entry.index >= end) {
                break;
            }
            if entry.index < self.next {
                continue;
            }
            if entry.index > self.next {
                return false;
            }
            let bytes = entry.size_bytes();
            if bytes > self.left_bytes && !self.entries.is_empty() {
                self.last = Index(0);
                break;
            }
            self.left_bytes = self.left_bytes.saturating_sub(bytes);
            self.next = self.next.next();
            self.entries.push(entry.clone());
        }
        true
    }
}

impl<F: DiskFile> Reader<F> {
    /// Lets go of the open segment: it may be gone, and its file another one's.
    pub(super) fn forget(&mut self) {
        self.older = None;
    }

    /// What [`Log::read`](super::Log::read) promises. Everything appended must be in the files.
    pub(super) fn read<D: Disk<File = F>>(
        &mut self,
        disk: &mut D,
        active: &Active<F>,
        contents: &Contents,
        fetch: &Fetch,
    ) -> Result<Vec<Entry>, StorageError> {
        let last = fetch.to.min(contents.terms.last_index());
        let mut wanted =
            Wanted { next: fetch.from, last, left_bytes: fetch.limit_bytes, entries: Vec::new() };
        while !wanted.is_done() {
            let Some((run, end)) = contents.locator.find(wanted.next) else { break };
            let file = if run.segment == active.number {
                &active.file
            } else {
                self.older(disk, run.segment)?
            };
            read_run(file, run, end, &mut wanted)?;
        }
        Ok(wanted.entries)
    }

    fn older<D: Disk<File = F>>(&mut self, disk: &mut D, number: u64) -> Result<&F, StorageError> {
        if self.older.as_ref().is_none_or(|(open, _)| *open != number) {
            let name = segment::name(number);
            let file = disk.open(&name).map_err(|error| StorageError::io("open", &name, &error))?;
            self.older = Some((number, file));
        }
        let (_, file) = self.older.as_ref().expect("just opened");
        Ok(file)
    }
}

/// Reads the frames of one run until nothing of it is wanted any more.
fn read_run<F: DiskFile>(
    file: &F,
    run: Run,
    end: Option<Index>,
    wanted: &mut Wanted,
) -> Result<(), StorageError> {
    let mut chunk = Bytes::new();
    let mut offset = run.offset;
    while !wanted.is_done() && end.is_none_or(|end| wanted.next < end) {
        let frame = frame_at(file, run.segment, offset, &mut chunk)?;
        if frame.header.kind == Kind::Step {
            let body = chunk.slice(HEADER_BYTES..HEADER_BYTES + frame.body_bytes);
            let corrupt = |what| StorageError::corrupt(&segment::name(run.segment), offset, what);
            let write = body::get_step(body, frame.header.format)
                .map_err(|error| corrupt(error.to_string()))?;
            if !wanted.take(&write.entries, end) {
                return Err(corrupt(format!("entry {} should be here", wanted.next)));
            }
        }
        let total = frame.total_bytes();
        chunk = chunk.slice(total..);
        offset += total as u64;
    }
    Ok(())
}

/// The frame at `offset`; leaves `chunk` beginning with it. On entry `chunk` holds what was read
/// ahead from there.
fn frame_at<F: DiskFile>(
    file: &F,
    segment: u64,
    offset: u64,
    chunk: &mut Bytes,
) -> Result<Frame, StorageError> {
    let is_whole =
        |chunk: &Bytes| frame::announced_bytes(chunk).is_some_and(|bytes| bytes <= chunk.len());
    if !is_whole(chunk) {
        *chunk = read_chunk(file, segment, offset, CHUNK_BYTES)?;
    }
    if !is_whole(chunk) {
        let bytes = frame::announced_bytes(chunk).unwrap_or(0);
        let rest = file
            .len()
            .map_err(|error| StorageError::io("measure", &segment::name(segment), &error))?
            - offset;
        // What a damaged length claims is not reserved: no frame is longer than the rest of its
        // file.
        if bytes as u64 <= rest {
            *chunk = read_chunk(file, segment, offset, bytes)?;
        }
    }
    frame::parse(chunk).map_err(|misfit| {
        let what = match misfit {
            Misfit::Damage(what) => what.to_owned(),
            Misfit::Version(version) => format!("a frame of format {version}"),
        };
        StorageError::corrupt(&segment::name(segment), offset, what)
    })
}

fn read_chunk<F: DiskFile>(
    file: &F,
    segment: u64,
    offset: u64,
    bytes: usize,
) -> Result<Bytes, StorageError> {
    let mut buffer = vec![0; bytes];
    let read = file
        .read_at(&mut buffer, offset)
        .map_err(|error| StorageError::io("read", &segment::name(segment), &error))?;
    buffer.truncate(read);
    Ok(Bytes::from(buffer))
}
