//! Replays the log's frames, and plans the segment that opening it begins.

use std::collections::VecDeque;

use bytes::Bytes;

use super::body::{self, SegmentHeader};
use super::contents::{Contents, SegmentInfo};
use super::frame::{self, Frame, FrameFormat, FrameKind};
use super::loaded_segment::{LoadedSegment, LogEnd, frame_error};
use super::segment::{ActiveSegment, FrameChain};
use super::segment_pool::SegmentPool;
use super::{Disk, StorageError};
use crate::types::{
    Configuration, Entry, HardState, Index, LogPosition, Payload, Saved, SessionCommand,
    SnapshotMeta, Write,
};

/// The log's state while its frames are replayed, one after the other.
#[derive(Clone)]
pub(super) struct Replay {
    pub(super) contents: Contents,
    tail: VecDeque<Entry>,
    tail_bytes: usize,
    tail_limit_bytes: usize,
    /// Ends with the last frame replayed.
    pub(super) chain: FrameChain,
    /// Whether a later frame truncates the entry before the first segment. The log cannot begin
    /// with that segment then.
    pub(super) start_was_truncated: bool,
}

impl Replay {
    /// Begins with the log's first segment.
    pub(super) fn begin(first: &LoadedSegment, tail_limit_bytes: usize) -> Replay {
        let mut contents = Contents::from_header(&first.segment_header);
        contents.add_segment(first.number, first.capacity_bytes());
        let chain = first.cursor().chain;
        Replay {
            contents,
            tail: VecDeque::new(),
            tail_bytes: 0,
            tail_limit_bytes,
            chain,
            start_was_truncated: false,
        }
    }

    /// Replays a segment up to where `next` continues. All of it was synced before `next` was
    /// created.
    pub(super) fn replay_segment(
        &mut self,
        segment: &LoadedSegment,
        next: &LoadedSegment,
    ) -> Result<(), StorageError> {
        let last_sequence = next.frame_header.sequence - 1;
        let mut cursor = segment.cursor();
        while cursor.chain.sequence < last_sequence {
            let at = cursor.offset;
            let (offset, frame) =
                cursor.next().map_err(|error| frame_error(&segment.name, at, error))?;
            self.apply_frame(segment, offset, &frame)?;
        }
        self.set_used_bytes(cursor.offset);
        let SegmentHeader { origin, identity, initial_configuration, .. } = &segment.segment_header;
        let reached =
            self.contents.segment_header(next.number, *origin, identity, initial_configuration);
        // Every opening of the log raises the count by one.
        let life = if reached.life.checked_add(1) == Some(next.segment_header.life) {
            next.segment_header.life
        } else {
            reached.life
        };
        // The commit index may have risen without a frame, and never falls.
        let commit = reached.commit.max(next.segment_header.commit);
        let reached =
            SegmentHeader { is_recycled: next.segment_header.is_recycled, life, commit, ..reached };
        let reached = with_format_3_fields(reached, &next.segment_header);
        let reached = reached.reduced_to(next.frame_header.format);
        let follows = (cursor.chain.sequence, cursor.chain.checksum)
            == (last_sequence, next.frame_header.previous);
        if !follows || reached != next.segment_header {
            return Err(StorageError::corrupt(
                &next.name,
                0,
                "the segment does not follow the one before it",
            ));
        }
        self.chain = next.cursor().chain;
        self.contents.life = self.contents.life.max(life);
        self.contents.commit = commit;
        // Only what frames of format 2 leave out is new in these.
        let forgot = &mut self.contents.hard_state.forgot;
        *forgot = forgot.or(next.segment_header.hard_state.forgot);
        self.contents.peer_records.extend(next.segment_header.peer_records.clone());
        self.contents.add_segment(next.number, next.capacity_bytes());
        Ok(())
    }

    fn set_used_bytes(&mut self, bytes: usize) {
        self.contents.segments.last_mut().expect("a segment is being replayed").used_bytes =
            bytes as u64;
    }

    /// Replays the synced frames of the last segment. Returns the writes that follow them.
    pub(super) fn replay_last_segment(
        &mut self,
        last: &LoadedSegment,
        end: &LogEnd,
    ) -> Result<Vec<UnsyncedWrite>, StorageError> {
        let mut unsynced = Vec::new();
        let mut cursor = last.cursor();
        while cursor.chain.sequence < end.sequence {
            let (offset, frame) =
                cursor.next().map_err(|error| frame_error(&last.name, end.offset, error))?;
            if frame.header.sequence <= end.synced {
                self.apply_frame(last, offset, &frame)?;
                self.chain = cursor.chain;
            } else if frame.header.kind == FrameKind::Mark {
                // What is committed stays committed, whether or not the mark is durable.
                let commit = body::get_mark(last.body_of(offset, &frame)).unwrap_or_default();
                let _ = self.contents.commit_to(commit);
            } else if frame.header.kind == FrameKind::Write {
                unsynced.push(UnsyncedWrite {
                    format: frame.header.format,
                    body: last.body_of(offset, &frame),
                });
            }
        }
        self.set_used_bytes(cursor.offset);
        Ok(unsynced)
    }

    /// For disaster recovery: replays the frames of a segment up to `last_sequence`, as far as they
    /// are whole and continue the chain.
    pub(super) fn replay_whole_frames(&mut self, segment: &LoadedSegment, last_sequence: u64) {
        let mut cursor = segment.cursor();
        while cursor.chain.sequence < last_sequence {
            let Ok((offset, frame)) = cursor.next() else { break };
            if self.apply_frame(segment, offset, &frame).is_err() {
                break;
            }
            self.chain = cursor.chain;
        }
    }

    fn apply_frame(
        &mut self,
        segment: &LoadedSegment,
        offset: usize,
        frame: &Frame,
    ) -> Result<(), StorageError> {
        let corrupt = |what: String| StorageError::corrupt(&segment.name, offset as u64, what);
        if frame.header.kind == FrameKind::Mark {
            let commit = body::get_mark(segment.body_of(offset, frame))
                .map_err(|error| corrupt(error.to_string()))?;
            return self
                .contents
                .commit_to(commit)
                .map_err(|what| corrupt(format!("a mark's {what}")));
        }
        if frame.header.kind != FrameKind::Write {
            return Ok(());
        }
        let write =
            segment.decode_write(offset, frame.header.format, segment.body_of(offset, frame))?;
        self.apply_write(&write, segment.number, offset as u64).map_err(corrupt)
    }

    fn apply_write(&mut self, write: &Write, segment: u64, offset: u64) -> Result<(), String> {
        self.start_was_truncated |=
            write.truncate_from.is_some_and(|from| from <= self.contents.terms.base());
        self.contents.check(write)?;
        self.contents.apply(write, segment, offset);
        if let Some(from) = write.truncate_from {
            while let Some(entry) = self.tail.pop_back_if(|entry| entry.index >= from) {
                self.tail_bytes -= entry.size_bytes();
            }
        }
        for entry in &write.entries {
            self.tail_bytes += entry.size_bytes();
            self.tail.push_back(entry.clone());
        }
        while self.tail_bytes > self.tail_limit_bytes {
            let Some(entry) = self.tail.pop_front() else { break };
            self.tail_bytes -= entry.size_bytes();
        }
        Ok(())
    }

    /// Plans the segment after `last`, and replays the unsynced writes as that segment will hold
    /// them.
    pub(super) fn plan_new_segment(
        &mut self,
        last: &LoadedSegment,
        unsynced: Vec<UnsyncedWrite>,
        snapshot: Option<&SnapshotMeta>,
        last_sequence: u64,
    ) -> Result<NewSegment, StorageError> {
        let number = last.next_number()?;
        let SegmentHeader { origin, identity, initial_configuration, .. } = &last.segment_header;
        let mut segment_header =
            self.contents.segment_header(number, *origin, identity, initial_configuration);
        if segment_header.format >= FrameFormat::V3 {
            let full = || {
                StorageError::corrupt(&last.name, 0, "the log says that it was opened 2^64 times")
            };
            segment_header.life = segment_header.life.checked_add(1).ok_or_else(full)?;
            self.contents.life = segment_header.life;
        }
        self.contents.add_segment(number, 0);
        let mut offset = segment_header.frame_bytes();
        for UnsyncedWrite { format, body } in &unsynced {
            let write = last.decode_write(last.start, *format, body.clone())?;
            self.apply_write(&write, number, offset as u64)
                .map_err(|what| StorageError::corrupt(&last.name, last.start as u64, what))?;
            offset += frame::total_bytes(body.len());
        }
        let Some(meta) = snapshot.filter(|meta| !self.contents.matches_snapshot(meta)) else {
            let (writes, superseded) = (unsynced, Vec::new());
            return Ok(NewSegment {
                segment_header,
                writes,
                needed_bytes: offset,
                superseded,
                last_sequence,
            });
        };
        // The log ends before the snapshot, or has another entry in the place of its last one: the
        // node crashed while it installed the snapshot. Term and vote stay, entries are removed.
        let mut superseded = self.contents.restart_after_snapshot(meta);
        superseded.pop();
        self.tail.clear();
        self.tail_bytes = 0;
        let segment_header =
            self.contents.segment_header(number, number, identity, initial_configuration);
        self.contents.add_segment(number, 0);
        Ok(NewSegment {
            needed_bytes: segment_header.frame_bytes(),
            segment_header,
            writes: Vec::new(),
            superseded,
            last_sequence,
        })
    }

    pub(super) fn saved(
        &self,
        initial_configuration: &Configuration,
        snapshot: Option<SnapshotMeta>,
    ) -> Saved {
        let since = snapshot.as_ref().map_or(Index(0), |meta| meta.index);
        Saved {
            hard_state: self.contents.hard_state,
            initial_configuration: initial_configuration.clone(),
            configurations: self.contents.configurations_after(since),
            snapshot,
            terms: self.contents.terms.clone(),
            tail: self.tail.iter().map(with_own_memory).collect(),
            commit: self.contents.commit,
            peer_records: self.contents.peer_records.clone(),
            life: self.contents.life,
            divergence: None,                 // Set once the snapshots are known.
            position: LogPosition::default(), // Set once the new segment is created.
        }
    }
}

/// A write that may not be durable. It is written again, byte for byte.
pub(super) struct UnsyncedWrite {
    format: FrameFormat,
    body: Bytes,
}

/// The plan of the segment that opening a log begins.
pub(super) struct NewSegment {
    segment_header: SegmentHeader,
    /// The writes that follow its header.
    writes: Vec<UnsyncedWrite>,
    needed_bytes: usize,
    /// Segments that are not needed once this one exists.
    pub(super) superseded: Vec<SegmentInfo>,
    /// The number of the last frame found, which may have been reported to other nodes.
    last_sequence: u64,
}

impl NewSegment {
    /// The log's first segment once this one exists.
    pub(super) fn origin(&self) -> u64 {
        self.segment_header.origin
    }

    pub(super) fn rewritten(&self) -> u64 {
        self.writes.len() as u64
    }

    /// Creates the segment, durably.
    pub(super) fn create<D: Disk>(
        &self,
        disk: &mut D,
        segment_pool: &mut SegmentPool,
        replay: &mut Replay,
    ) -> Result<ActiveSegment<D::File>, StorageError> {
        let number = self.segment_header.segment;
        // Marks take the place of frames that are not written again. A last number lower than
        // before would look as if the disk had forgotten something.
        let missing =
            self.last_sequence.saturating_sub(replay.chain.sequence + 1 + self.rewritten());
        let needed_bytes = self.needed_bytes + missing as usize * frame::total_bytes(0);
        let new_file = segment_pool.allocate(needed_bytes);
        let segment_header =
            SegmentHeader { is_recycled: new_file.is_recycled(), ..self.segment_header.clone() };
        let mut content = Vec::new();
        let tag = replay.chain.append_segment_header(
            &mut content,
            &segment_header,
            self.rewritten() + missing,
        );
        for UnsyncedWrite { format, body } in &self.writes {
            let start = frame::begin(&mut content);
            content.extend_from_slice(body);
            replay.chain.finish_frame(&mut content, start, FrameKind::Write, *format, tag);
        }
        for _ in 0..missing {
            let start = frame::begin(&mut content);
            replay.chain.finish_frame(
                &mut content,
                start,
                FrameKind::Mark,
                segment_header.format,
                tag,
            );
        }
        assert!(content.len() == needed_bytes, "the segment is as long as was computed");
        let capacity_bytes = new_file.capacity_bytes;
        replay.contents.segments.last_mut().expect("this segment was added").capacity_bytes =
            capacity_bytes;
        replay.contents.sparse_index.reserve(capacity_bytes);
        let file = new_file.create(disk, number, &content)?;
        Ok(ActiveSegment { number, file, tag, capacity_bytes, written_bytes: content.len() as u64 })
    }
}

/// A copy of the entry that does not share the segment's memory.
fn with_own_memory(entry: &Entry) -> Entry {
    let payload = match &entry.payload {
        Payload::Command(command) => Payload::Command(Bytes::copy_from_slice(command)),
        Payload::SessionCommand(in_session) => Payload::SessionCommand(Box::new(SessionCommand {
            command: Bytes::copy_from_slice(&in_session.command),
            ..**in_session
        })),
        other => other.clone(),
    };
    Entry { payload, ..entry.clone() }
}

/// Adds to `reached` what frames of format 2 leave out: the records of peers, and the mark of a
/// disk that forgot.
///
/// A log keeps these in memory, so the header of the first segment after an upgrade holds them
/// although no frame before it does. Frames of format 3 hold them, and the header must agree.
fn with_format_3_fields(reached: SegmentHeader, next: &SegmentHeader) -> SegmentHeader {
    let agrees = |(disk, record)| next.peer_records.get(disk) == Some(record);
    let peer_records = if reached.peer_records.iter().all(agrees) {
        next.peer_records.clone()
    } else {
        reached.peer_records
    };
    let forgot = reached.hard_state.forgot.or(next.hard_state.forgot);
    let hard_state = HardState { forgot, ..reached.hard_state };
    SegmentHeader { peer_records, hard_state, ..reached }
}
