//! What is whole of a damaged log, for disaster recovery only: under a new cluster id less may be
//! taken than was promised.
//!
//! ```text
//! snapshots   ..40 whole   ..80 DAMAGED
//! segments    [.. 30] [31 .. 60] [61 .. DAMAGED .. 90] [91 .. 120]
//! taken       snapshot ..40, entries up to the damage       lost: from there up to 120
//! ```
//!
//! The disk given is a copy in memory ([`Overlay`](super::inspect::overlay::Overlay)): what is not
//! whole is removed from it.

use std::collections::BTreeMap;

use super::inspect::{FrameContent, SegmentReport};
use super::loaded::{Loaded, read_file};
use super::recovery::Parts;
use super::replay::Replay;
use super::segment_pool::SegmentPool;
use super::snapshot::{self, Found, Header, SnapshotStore};
use super::synced::{self, SyncedFile};
use super::{Disk, Log, LogOptions, StorageError, next_segment, segment};
use crate::types::{DiskId, HardState, Identity, Index, LogPosition, NodeId, Saved, TermTable};

/// What a folder holds that can be recovered.
#[derive(Debug)]
pub(super) struct Survivors<D: Disk> {
    /// Whose it was. Node 0: no segment is left that says it.
    pub(super) identity: Identity,
    /// What is left.
    pub(super) saved: Saved,
    /// What is not, if that is known to be anything.
    pub(super) loss: Option<DataLoss>,
    /// To read the entries from; `None` if there are none besides the snapshot's.
    pub(super) log: Option<Log<D>>,
}

/// What is known to be lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DataLoss {
    /// The last entry that is left.
    pub kept: Index,
    /// The last entry that is known to have been there; there may have been later ones. Not above
    /// `kept`: no entry is known to be missing.
    pub known: Index,
    /// Files that are not what was written, or are missing, and what is wrong with them.
    pub damaged: Vec<(String, String)>,
}

/// The log of a folder that a node would refuse to start on, as far as it is whole. `None` if
/// nothing is.
///
/// # Errors
/// [`StorageError::Io`], if the disk, which should be a copy in memory, cannot be changed.
pub(super) fn take<D: Disk>(
    mut disk: D,
    options: LogOptions,
) -> Result<Option<Survivors<D>>, StorageError> {
    let mut damaged = Vec::new();
    let found = whole_snapshot(&mut disk, &mut damaged)?;
    let snapshot = found.newest.as_ref().map(|(header, _)| header.clone());
    let segments = whole_segments(&mut disk, &mut damaged)?;
    let mark = synced::read(&mut disk).unwrap_or(None);
    let covered = snapshot.as_ref().map_or(Index(0), |header| header.meta.index);
    let mut taken = None;
    for first in segments.iter().rev().filter(|first| first.can_begin(covered)) {
        taken = take_from(&mut disk, first.number, &segments, &options)?;
        if taken.is_some() {
            break;
        }
    }
    let (mut replay, last) = match (taken, &snapshot, segments.last()) {
        (Some(taken), ..) => taken,
        (None, None, _) => return Ok(None),
        (None, Some(_), Some(last)) => {
            // It says whose log this is; its entries do not follow the snapshot.
            let last = Loaded::load(&mut disk, last.number)?;
            (Replay::begin(&last, options.tail_bytes), last)
        }
        (None, Some(header), None) => return Ok(Some(of_snapshot(header, damaged))),
    };
    let known = known_index(
        &mut disk,
        &last,
        &replay,
        &segments,
        &damaged,
        mark.map(|mark| mark.last_index),
    )?;
    for later in segments.iter().filter(|segment| segment.number > last.number) {
        let name = segment::name(later.number);
        disk.remove(&name).map_err(|error| StorageError::io("remove", &name, &error))?;
        damaged.push((name, "it does not follow what is left of the log".to_owned()));
    }
    let meta = snapshot.map(|header| header.meta);
    let mut segment_pool = SegmentPool::find(&mut disk, &options)?;
    let draft = replay.draw_up(&last, Vec::new(), meta.as_ref(), 0)?;
    let synced_file = SyncedFile::prepare(&mut disk)?;
    let active = draft.make(&mut disk, &mut segment_pool, &mut replay)?;
    let saved = replay.saved(&last.opening.founding, meta);
    let snapshot_store = SnapshotStore::new(&mut disk, found)?;
    let (identity, founding, origin) =
        (last.opening.identity, last.opening.founding, draft.origin());
    let Replay { contents, chain, .. } = replay;
    let kept = saved.terms.last_index();
    let parts = Parts {
        disk,
        identity,
        founding,
        contents,
        segment_pool,
        snapshot_store,
        origin,
        active,
        synced_file,
        chain,
    };
    let loss = Some(DataLoss { kept, known, damaged });
    Ok(Some(Survivors { identity, saved, loss, log: Some(Log::assemble(parts)?) }))
}

/// The newest snapshot that is whole. Others are removed.
fn whole_snapshot<D: Disk>(
    disk: &mut D,
    damaged: &mut Vec<(String, String)>,
) -> Result<Found, StorageError> {
    let names = disk.list().map_err(|error| StorageError::io("list", "the data folder", &error))?;
    for index in names.iter().filter_map(|name| snapshot::index_of(name)) {
        if let Err(error) = snapshot::check(disk, index) {
            remove(disk, snapshot::name(index), &error, damaged)?;
        }
    }
    Found::search(disk)
}

/// What the opening of a segment says.
struct Head {
    number: u64,
    sequence: u64,
    last_index: Index,
}

impl Head {
    fn of(segment: &Loaded) -> Head {
        let (number, sequence) = (segment.number, segment.header.sequence);
        Head { number, sequence, last_index: segment.opening.last_index }
    }

    /// Whether a log can begin with this segment: with its birth record, or where the snapshot
    /// reaches.
    fn can_begin(&self, covered: Index) -> bool {
        let is_birth = self.last_index == Index(0) && self.sequence == 1;
        is_birth || (self.last_index > Index(0) && self.last_index <= covered)
    }
}

/// All segments whose opening is whole, rising. Others are removed.
fn whole_segments<D: Disk>(
    disk: &mut D,
    damaged: &mut Vec<(String, String)>,
) -> Result<Vec<Head>, StorageError> {
    let mut segments = Vec::new();
    let mut last = None;
    for number in segment::list(disk)? {
        match Loaded::load(disk, number) {
            Ok(segment) => {
                segments.push(Head::of(&segment));
                last = Some(segment);
            }
            Err(error) => remove(disk, segment::name(number), &error, damaged)?,
        }
    }
    if let Some(last) = last
        && next_segment::adopt(disk, &last)?
    {
        let number = last.next_number()?;
        match Loaded::load(disk, number) {
            Ok(segment) => segments.push(Head::of(&segment)),
            Err(error) => remove(disk, segment::name(number), &error, damaged)?,
        }
    }
    Ok(segments)
}

fn remove<D: Disk>(
    disk: &mut D,
    name: String,
    why: &StorageError,
    damaged: &mut Vec<(String, String)>,
) -> Result<(), StorageError> {
    disk.remove(&name).map_err(|error| StorageError::io("remove", &name, &error))?;
    let what = match why {
        StorageError::Corrupt { offset, what, .. } => format!("byte {offset}: {what}"),
        other => other.to_string(),
    };
    damaged.push((name, what));
    Ok(())
}

/// Takes in the log from this segment on, as far as it is whole, and the segment in which that
/// ends. `None` if a later frame takes back what it begins with.
fn take_from<D: Disk>(
    disk: &mut D,
    first: u64,
    segments: &[Head],
    options: &LogOptions,
) -> Result<Option<(Replay, Loaded)>, StorageError> {
    let mut segment = Loaded::load(disk, first)?;
    let mut replay = Replay::begin(&segment, options.tail_bytes);
    let mut following = segments.iter().skip_while(|head| head.number <= first).peekable();
    while let Some(head) =
        following.next_if(|head| segment.number.checked_add(1) == Some(head.number))
    {
        let next = Loaded::load(disk, head.number)?;
        let mut settled = replay.clone();
        if settled.settled_segment(&segment, &next).is_err() {
            // Frames that the next segment has superseded do not count.
            replay.whole_frames(&segment, next.header.sequence.saturating_sub(1));
            return Ok((!settled.begins_too_late).then_some((replay, segment)));
        }
        replay = settled;
        segment = next;
    }
    replay.whole_frames(&segment, u64::MAX);
    Ok((!replay.begins_too_late).then_some((replay, segment)))
}

/// The last entry that anything speaks of.
fn known_index<D: Disk>(
    disk: &mut D,
    last: &Loaded,
    replay: &Replay,
    segments: &[Head],
    damaged: &[(String, String)],
    mark: Option<Index>,
) -> Result<Index, StorageError> {
    let mut known = mark.unwrap_or_default();
    for segment in segments.iter().filter(|segment| segment.number >= last.number) {
        known = known.max(segment.last_index);
        let name = segment::name(segment.number);
        let report = SegmentReport::of(&name, read_file(disk, &name)?.into());
        for frame in report.frames.iter().filter(|frame| frame.sequence > replay.chain.sequence) {
            if let FrameContent::Step(write) = &frame.content {
                known = known.max(write.entries.last().map_or(Index(0), |entry| entry.index));
            }
        }
    }
    Ok(damaged.iter().filter_map(|(name, _)| snapshot::index_of(name)).fold(known, Index::max))
}

/// A folder of which nothing but a snapshot is whole.
fn of_snapshot<D: Disk>(header: &Header, damaged: Vec<(String, String)>) -> Survivors<D> {
    let Header { cluster, group, meta } = header;
    let saved = Saved {
        hard_state: HardState::default(),
        initial_configuration: meta.configuration.clone(),
        snapshot: Some(meta.clone()),
        configurations: Vec::new(),
        terms: TermTable::after(meta.index, meta.term),
        tail: Vec::new(),
        commit: Index(0),
        peer_records: BTreeMap::new(),
        life: 0,
        position: LogPosition::default(),
        divergence: None,
    };
    let known =
        damaged.iter().filter_map(|(name, _)| snapshot::index_of(name)).max().unwrap_or_default();
    let identity = Identity { cluster: *cluster, group: *group, node: NodeId(0), disk: DiskId(0) };
    Survivors {
        identity,
        saved,
        loss: Some(DataLoss { kept: meta.index, known, damaged }),
        log: None,
    }
}
