//! The log's state as its frames are taken in, and the segment that opening it begins.

use std::collections::VecDeque;

use bytes::Bytes;

use super::body::{self, Opening};
use super::contents::{Contents, SegmentInfo};
use super::frame::{self, Format, Frame, Kind};
use super::loaded::{End, Loaded, refusal};
use super::segment::{Active, Chain};
use super::segment_pool::SegmentPool;
use super::{Disk, StorageError};
use crate::types::{
    Configuration, Entry, HardState, Index, LogPosition, Payload, Saved, SessionCommand,
    SnapshotMeta, Write,
};

/// The log's state as its frames are taken in, one after the other.
#[derive(Clone)]
pub(super) struct Replay {
    pub(super) contents: Contents,
    tail: VecDeque<Entry>,
    tail_bytes: usize,
    tail_limit_bytes: usize,
    /// The last frame taken in.
    pub(super) chain: Chain,
    /// A later frame removes the entry that the first segment's opening follows: the log cannot
    /// begin there.
    pub(super) begins_too_late: bool,
}

impl Replay {
    /// Begins with a log's first segment.
    pub(super) fn begin(first: &Loaded, tail_limit_bytes: usize) -> Replay {
        let mut contents = Contents::at(&first.opening);
        contents.begin_segment(first.number, first.capacity_bytes());
        let chain = first.walk().chain;
        Replay {
            contents,
            tail: VecDeque::new(),
            tail_bytes: 0,
            tail_limit_bytes,
            chain,
            begins_too_late: false,
        }
    }

    /// Takes in a segment up to where `next` begins. Everything in it was synced before `next` was
    /// made.
    pub(super) fn settled_segment(
        &mut self,
        segment: &Loaded,
        next: &Loaded,
    ) -> Result<(), StorageError> {
        let last_sequence = next.header.sequence - 1;
        let mut walk = segment.walk();
        while walk.chain.sequence < last_sequence {
            let at = walk.offset;
            let (offset, frame) =
                walk.next().map_err(|misfit| refusal(&segment.name, at, misfit))?;
            self.take_frame(segment, offset, &frame)?;
        }
        self.used(walk.offset);
        let Opening { origin, identity, founding, .. } = &segment.opening;
        let reached = self.contents.opening(next.number, *origin, identity, founding);
        // Every opening of the log raises the count of its lives.
        let life = if reached.life.checked_add(1) == Some(next.opening.life) {
            next.opening.life
        } else {
            reached.life
        };
        // The commit index may have risen without a frame, and never falls.
        let commit = reached.commit.max(next.opening.commit);
        let reached = Opening { is_recycled: next.opening.is_recycled, life, commit, ..reached };
        let reached = with_later_fields(reached, &next.opening);
        let reached = reached.reduced_to(next.header.format);
        let follows =
            (walk.chain.sequence, walk.chain.checksum) == (last_sequence, next.header.previous);
        if !follows || reached != next.opening {
            return Err(StorageError::corrupt(
                &next.name,
                0,
                "the segment does not follow the one before it",
            ));
        }
        self.chain = next.walk().chain;
        self.contents.life = self.contents.life.max(life);
        self.contents.commit = commit;
        // Nothing but what frames of format 2 left out is new in these.
        let forgot = &mut self.contents.hard_state.forgot;
        *forgot = forgot.or(next.opening.hard_state.forgot);
        self.contents.peer_records.extend(next.opening.peer_records.clone());
        self.contents.begin_segment(next.number, next.capacity_bytes());
        Ok(())
    }

    fn used(&mut self, bytes: usize) {
        self.contents.segments.last_mut().expect("one is being read").used_bytes = bytes as u64;
    }

    /// Takes in the settled part of the last segment; returns the bodies of the steps that follow
    /// it.
    pub(super) fn last_segment(
        &mut self,
        last: &Loaded,
        end: &End,
    ) -> Result<Vec<Step>, StorageError> {
        let mut unsettled = Vec::new();
        let mut walk = last.walk();
        while walk.chain.sequence < end.sequence {
            let (offset, frame) =
                walk.next().map_err(|misfit| refusal(&last.name, end.offset, misfit))?;
            if frame.header.sequence <= end.settled {
                self.take_frame(last, offset, &frame)?;
                self.chain = walk.chain;
            } else if frame.header.kind == Kind::Mark {
                // What is committed is so, whether the mark is on the disk or not.
                let commit = body::get_mark(last.body_of(offset, &frame)).unwrap_or_default();
                let _ = self.contents.commit_to(commit);
            } else if frame.header.kind == Kind::Step {
                unsettled
                    .push(Step { format: frame.header.format, body: last.body_of(offset, &frame) });
            }
        }
        self.used(walk.offset);
        Ok(unsettled)
    }

    /// Takes in the frames of a segment as far as they are whole and fit, up to this one; for
    /// disaster recovery.
    pub(super) fn whole_frames(&mut self, segment: &Loaded, last_sequence: u64) {
        let mut walk = segment.walk();
        while walk.chain.sequence < last_sequence {
            let Ok((offset, frame)) = walk.next() else { break };
            if self.take_frame(segment, offset, &frame).is_err() {
                break;
            }
            self.chain = walk.chain;
        }
    }

    fn take_frame(
        &mut self,
        segment: &Loaded,
        offset: usize,
        frame: &Frame,
    ) -> Result<(), StorageError> {
        let corrupt = |what: String| StorageError::corrupt(&segment.name, offset as u64, what);
        if frame.header.kind == Kind::Mark {
            let commit = body::get_mark(segment.body_of(offset, frame))
                .map_err(|error| corrupt(error.to_string()))?;
            let beyond =
                || corrupt(format!("a mark's commit index, {commit}, is beyond the last entry"));
            return if self.contents.commit_to(commit) { Ok(()) } else { Err(beyond()) };
        }
        if frame.header.kind != Kind::Step {
            return Ok(());
        }
        let write = segment.step(offset, frame.header.format, segment.body_of(offset, frame))?;
        self.take(&write, segment.number, offset as u64).map_err(corrupt)
    }

    fn take(&mut self, write: &Write, segment: u64, offset: u64) -> Result<(), String> {
        self.begins_too_late |=
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

    /// Takes in the steps that are not settled, as a new segment after `last` will hold them, and
    /// draws it up.
    pub(super) fn draw_up(
        &mut self,
        last: &Loaded,
        unsettled: Vec<Step>,
        snapshot: Option<&SnapshotMeta>,
        last_sequence: u64,
    ) -> Result<Draft, StorageError> {
        let number = last.next_number()?;
        let Opening { origin, identity, founding, .. } = &last.opening;
        let mut opening = self.contents.opening(number, *origin, identity, founding);
        if opening.format >= Format::V3 {
            let full = || {
                StorageError::corrupt(&last.name, 0, "the log says that it was opened 2^64 times")
            };
            opening.life = opening.life.checked_add(1).ok_or_else(full)?;
            self.contents.life = opening.life;
        }
        self.contents.begin_segment(number, 0);
        let mut offset = opening.frame_bytes();
        for Step { format, body } in &unsettled {
            let write = last.step(last.start, *format, body.clone())?;
            self.take(&write, number, offset as u64)
                .map_err(|what| StorageError::corrupt(&last.name, last.start as u64, what))?;
            offset += frame::total_bytes(body.len());
        }
        let Some(meta) = snapshot.filter(|meta| !self.contents.holds(meta)) else {
            let (steps, void) = (unsettled, Vec::new());
            return Ok(Draft { opening, steps, needed_bytes: offset, void, last_sequence });
        };
        // The log ends before the snapshot, or has something else in the place of its last entry:
        // the node died while it installed the snapshot. Term and vote stay, entries go.
        let mut void = self.contents.begin_after(meta);
        void.pop();
        self.tail.clear();
        self.tail_bytes = 0;
        let opening = self.contents.opening(number, number, identity, founding);
        self.contents.begin_segment(number, 0);
        Ok(Draft {
            needed_bytes: opening.frame_bytes(),
            opening,
            steps: Vec::new(),
            void,
            last_sequence,
        })
    }

    pub(super) fn saved(&self, founding: &Configuration, snapshot: Option<SnapshotMeta>) -> Saved {
        let since = snapshot.as_ref().map_or(Index(0), |meta| meta.index);
        Saved {
            hard_state: self.contents.hard_state,
            initial_configuration: founding.clone(),
            configurations: self.contents.configurations_after(since),
            snapshot,
            terms: self.contents.terms.clone(),
            tail: self.tail.iter().map(detached).collect(),
            commit: self.contents.commit,
            peer_records: self.contents.peer_records.clone(),
            life: self.contents.life,
            divergence: None,                 // Known once the shelf is.
            position: LogPosition::default(), // Known once the segment that opening begins is made.
        }
    }
}

/// A step that is written once more, as it was.
pub(super) struct Step {
    format: Format,
    body: Bytes,
}

/// The segment that opening a log begins.
pub(super) struct Draft {
    opening: Opening,
    /// Bodies of the steps to follow it.
    steps: Vec<Step>,
    needed_bytes: usize,
    /// Segments that are of no use once this one is there.
    pub(super) void: Vec<SegmentInfo>,
    /// The number of the last frame that was found. Other nodes may know of it.
    last_sequence: u64,
}

impl Draft {
    /// With which segment the log begins then.
    pub(super) fn origin(&self) -> u64 {
        self.opening.origin
    }

    pub(super) fn rewritten(&self) -> u64 {
        self.steps.len() as u64
    }

    /// Makes the segment, durably.
    pub(super) fn make<D: Disk>(
        &self,
        disk: &mut D,
        segment_pool: &mut SegmentPool,
        replay: &mut Replay,
    ) -> Result<Active<D::File>, StorageError> {
        let number = self.opening.segment;
        // Frames that are not written again, marks for one, leave no gap: a lower number than
        // before would mean that the disk has forgotten something.
        let missing =
            self.last_sequence.saturating_sub(replay.chain.sequence + 1 + self.rewritten());
        let needed_bytes = self.needed_bytes + missing as usize * frame::total_bytes(0);
        let room = segment_pool.room(needed_bytes);
        let opening = Opening { is_recycled: room.is_recycled(), ..self.opening.clone() };
        let mut content = Vec::new();
        let tag = replay.chain.open_segment(&mut content, &opening, self.rewritten() + missing);
        for Step { format, body } in &self.steps {
            let start = frame::begin(&mut content);
            content.extend_from_slice(body);
            replay.chain.seal(&mut content, start, Kind::Step, *format, tag);
        }
        for _ in 0..missing {
            let start = frame::begin(&mut content);
            replay.chain.seal(&mut content, start, Kind::Mark, opening.format, tag);
        }
        assert!(content.len() == needed_bytes, "the segment is as long as was computed");
        let capacity_bytes = room.capacity_bytes;
        replay.contents.segments.last_mut().expect("this one").capacity_bytes = capacity_bytes;
        replay.contents.locator.reserve(capacity_bytes);
        let file = room.make(disk, number, &content)?;
        Ok(Active { number, file, tag, capacity_bytes, written_bytes: content.len() as u64 })
    }
}

/// The entry with memory of its own, so that it does not keep the segment's.
fn detached(entry: &Entry) -> Entry {
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

/// What the frames of a segment amount to, with what frames of format 2 leave out: the records of
/// peers, and the mark of a disk that forgot. A log keeps these in memory, so the opening of the
/// first segment after an upgrade holds them and no frame does. Frames of format 3 hold
/// them, so the opening must agree with those.
fn with_later_fields(reached: Opening, next: &Opening) -> Opening {
    let agrees = |(disk, record)| next.peer_records.get(disk) == Some(record);
    let peer_records = if reached.peer_records.iter().all(agrees) {
        next.peer_records.clone()
    } else {
        reached.peer_records
    };
    let forgot = reached.hard_state.forgot.or(next.hard_state.forgot);
    let hard_state = HardState { forgot, ..reached.hard_state };
    Opening { peer_records, hard_state, ..reached }
}
