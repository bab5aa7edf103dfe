//! Reads entries from the segments.

use bytes::Bytes;

use super::body;
use super::contents::Contents;
use super::frame::{self, Frame, FrameKind, HEADER_BYTES};
use super::segment::{self, ActiveSegment};
use super::sparse_index::FrameRun;
use super::{Disk, DiskFile, StorageError};
use crate::core::Fetch;
use crate::types::{Entries, Entry, Index};

/// How much is read at a time, in bytes.
const CHUNK_BYTES: usize = 64 << 10;

/// Reads entries. Keeps one older segment open, because a follower that catches up reads them in
/// order.
#[derive(Debug)]
pub(super) struct EntryReader<F> {
    cached_segment: Option<(u64, F)>,
}

impl<F> Default for EntryReader<F> {
    fn default() -> EntryReader<F> {
        EntryReader { cached_segment: None }
    }
}

/// Collects the entries of one [`Fetch`].
struct EntryCollector {
    next: Index,
    last: Index,
    left_bytes: usize,
    entries: Vec<Entry>,
}

impl EntryCollector {
    fn is_complete(&self) -> bool {
        self.next > self.last
    }

    /// Adds the wanted entries of a frame, up to `end` (exclusive). The error is the entry that is
    /// missing before them.
    fn add(&mut self, entries: &Entries, end: Option<Index>) -> Result<(), Index> {
        for entry in entries {
            if self.is_complete() || end.is_some_and(|end| entry.index >= end) {
                break;
            }
            if entry.index < self.next {
                continue;
            }
            if entry.index > self.next {
                return Err(self.next);
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
        Ok(())
    }
}

impl<F: DiskFile> EntryReader<F> {
    /// Closes the open segment, because its file may be removed or recycled.
    pub(super) fn close_segment(&mut self) {
        self.cached_segment = None;
    }

    /// Does what [`Log::read`](super::Log::read) promises. Everything appended must be in the
    /// files.
    pub(super) fn read<D: Disk<File = F>>(
        &mut self,
        disk: &mut D,
        active: &ActiveSegment<F>,
        contents: &Contents,
        fetch: &Fetch,
    ) -> Result<Vec<Entry>, StorageError> {
        let last = fetch.to.min(contents.terms.last_index());
        let mut collector = EntryCollector {
            next: fetch.from,
            last,
            left_bytes: fetch.limit_bytes,
            entries: Vec::new(),
        };
        while !collector.is_complete() {
            let Some((run, end)) = contents.sparse_index.find(collector.next) else { break };
            let file = if run.segment == active.number {
                &active.file
            } else {
                self.cached_segment(disk, run.segment)?
            };
            read_run(file, run, end, &mut collector)?;
        }
        Ok(collector.entries)
    }

    fn cached_segment<D: Disk<File = F>>(
        &mut self,
        disk: &mut D,
        number: u64,
    ) -> Result<&F, StorageError> {
        if self.cached_segment.as_ref().is_none_or(|(open, _)| *open != number) {
            let name = segment::name(number);
            let file = disk.open(&name).map_err(|error| StorageError::io("open", &name, &error))?;
            self.cached_segment = Some((number, file));
        }
        let (_, file) = self.cached_segment.as_ref().expect("just opened");
        Ok(file)
    }
}

/// Reads the frames of one run until no more of it is wanted.
fn read_run<F: DiskFile>(
    file: &F,
    run: FrameRun,
    end: Option<Index>,
    collector: &mut EntryCollector,
) -> Result<(), StorageError> {
    let mut chunk = Bytes::new();
    let mut offset = run.offset;
    while !collector.is_complete() && end.is_none_or(|end| collector.next < end) {
        let frame = frame_at(file, run.segment, offset, &mut chunk)?;
        if frame.header.kind == FrameKind::Write {
            let body = chunk.slice(HEADER_BYTES..HEADER_BYTES + frame.body_bytes);
            let corrupt = |what| StorageError::corrupt(&segment::name(run.segment), offset, what);
            let write = body::get_write(body, frame.header.format)
                .map_err(|error| corrupt(error.to_string()))?;
            collector
                .add(&write.entries, end)
                .map_err(|missing| corrupt(format!("entry {missing} should be here")))?;
        }
        let total = frame.total_bytes();
        chunk = chunk.slice(total..);
        offset += total as u64;
    }
    Ok(())
}

/// Reads the frame at `offset`. On entry `chunk` holds what was read ahead from there; on return it
/// begins with the frame.
fn frame_at<F: DiskFile>(
    file: &F,
    segment: u64,
    offset: u64,
    chunk: &mut Bytes,
) -> Result<Frame, StorageError> {
    let is_whole =
        |chunk: &Bytes| frame::claimed_bytes(chunk).is_some_and(|bytes| bytes <= chunk.len());
    if !is_whole(chunk) {
        *chunk = read_chunk(file, segment, offset, CHUNK_BYTES)?;
    }
    if !is_whole(chunk) {
        let bytes = frame::claimed_bytes(chunk).unwrap_or(0);
        let rest = file
            .len()
            .map_err(|error| StorageError::io("measure", &segment::name(segment), &error))?
            - offset;
        // A damaged length can claim anything; no frame is longer than the rest of its file.
        if bytes as u64 <= rest {
            *chunk = read_chunk(file, segment, offset, bytes)?;
        }
    }
    frame::parse(chunk)
        .map_err(|error| StorageError::corrupt(&segment::name(segment), offset, error.to_string()))
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
