//! The whole part of a damaged log, for disaster recovery only.
//!
//! A new cluster, with an id of its own, may begin with less than the old one has promised.
//!
//! ```text
//! snapshots   ..40 whole   ..80 DAMAGED
//! segments    [.. 30] [31 .. 60] [61 .. DAMAGED .. 90] [91 .. 120]
//! recovered   snapshot ..40, entries up to the damage       lost: from there up to 120
//! ```
//!
//! The disk is a copy in memory ([`Overlay`](super::inspect::overlay::Overlay)), from which damaged
//! files are removed.

use std::collections::BTreeMap;

use super::inspect::{FrameContent, SegmentReport};
use super::loaded_segment::{LoadedSegment, read_file};
use super::recovery::LogParts;
use super::replay::Replay;
use super::segment_pool::SegmentPool;
use super::snapshot::{self, FoundSnapshots, SnapshotHeader, SnapshotStore};
use super::synced::{self, SyncedFile};
use super::{Disk, Log, LogOptions, StorageError, next_segment, segment};
use crate::error_chain::error_chain;
use crate::types::{DiskId, HardState, Identity, Index, LogPosition, NodeId, Saved, TermTable};

/// The recoverable part of a folder.
#[derive(Debug)]
pub(super) struct RecoverableLog<D: Disk> {
    /// The owner of the log. Node 0 if no segment is left that names it.
    pub(super) identity: Identity,
    /// The recoverable state.
    pub(super) saved: Saved,
    /// What is lost, if the log is damaged.
    pub(super) loss: Option<DataLoss>,
    /// The log with the entries; `None` if only a snapshot is left.
    pub(super) log: Option<Log<D>>,
}

/// What is known to be lost.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DataLoss {
    /// The last entry that is left.
    pub last_kept: Index,
    /// The last entry that is known to have been in the log. There may have been later ones. If it
    /// is not above `last_kept`, no entry is known to be missing.
    pub last_known: Index,
    /// Files that are damaged or missing.
    pub damaged: Vec<DamagedFile>,
}

/// A file that is damaged or missing.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DamagedFile {
    /// The file's name.
    pub file: String,
    /// What is wrong with it.
    pub what: String,
}

/// Opens the whole part of a log on which a node would refuse to start. `None` if nothing is whole.
///
/// # Errors
/// [`StorageError::Io`] if the disk, a copy in memory, cannot be read or changed.
pub(super) fn open<D: Disk>(
    mut disk: D,
    options: LogOptions,
) -> Result<Option<RecoverableLog<D>>, StorageError> {
    let mut damaged = Vec::new();
    let found = whole_snapshot(&mut disk, &mut damaged)?;
    let snapshot = found.newest.as_ref().map(|(header, _)| header.clone());
    let segments = whole_segments(&mut disk, &mut damaged)?;
    let mark = synced::read(&mut disk).unwrap_or(None);
    let covered = snapshot.as_ref().map_or(Index(0), |header| header.meta.index);
    let mut replayed = None;
    for first in segments.iter().rev().filter(|first| first.can_begin(covered)) {
        replayed = replay_whole(&mut disk, first.number, &segments, &options)?;
        if replayed.is_some() {
            break;
        }
    }
    let (mut replay, last) = match (replayed, &snapshot, segments.last()) {
        (Some(replayed), ..) => replayed,
        (None, None, _) => return Ok(None),
        (None, Some(_), Some(last)) => {
            // Its header names the owner. Its entries do not follow the snapshot.
            let last = LoadedSegment::load(&mut disk, last.number)?;
            (Replay::begin(&last, options.tail_bytes), last)
        }
        (None, Some(header), None) => return Ok(Some(snapshot_alone(header, damaged))),
    };
    let last_known = last_known_index(
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
        let what = "it does not follow what is left of the log".to_owned();
        damaged.push(DamagedFile { file: name, what });
    }
    let meta = snapshot.map(|header| header.meta);
    let mut segment_pool = SegmentPool::find(&mut disk, &options)?;
    let new_segment = replay.plan_new_segment(&last, Vec::new(), meta.as_ref(), 0)?;
    let synced_file = SyncedFile::prepare(&mut disk)?;
    let active = new_segment.create(&mut disk, &mut segment_pool, &mut replay)?;
    let saved = replay.saved(&last.segment_header.initial_configuration, meta);
    let snapshot_store = SnapshotStore::new(&mut disk, found)?;
    let (identity, initial_configuration, origin) = (
        last.segment_header.identity,
        last.segment_header.initial_configuration,
        new_segment.origin(),
    );
    let Replay { contents, chain, .. } = replay;
    let last_kept = saved.terms.last_index();
    let parts = LogParts {
        disk,
        identity,
        initial_configuration,
        contents,
        segment_pool,
        snapshot_store,
        origin,
        active,
        synced_file,
        chain,
    };
    let loss = Some(DataLoss { last_kept, last_known, damaged });
    Ok(Some(RecoverableLog { identity, saved, loss, log: Some(Log::assemble(parts)?) }))
}

/// Finds the newest whole snapshot. Damaged ones are removed.
fn whole_snapshot<D: Disk>(
    disk: &mut D,
    damaged: &mut Vec<DamagedFile>,
) -> Result<FoundSnapshots, StorageError> {
    let names = disk.list().map_err(|error| StorageError::io("list", "the data folder", &error))?;
    for index in names.iter().filter_map(|name| snapshot::index_of(name)) {
        if let Err(error) = snapshot::check(disk, index) {
            remove(disk, snapshot::name(index), &error, damaged)?;
        }
    }
    FoundSnapshots::search(disk)
}

/// What is needed of a segment's header.
struct HeaderSummary {
    number: u64,
    sequence: u64,
    last_index: Index,
}

impl HeaderSummary {
    fn of(segment: &LoadedSegment) -> HeaderSummary {
        let (number, sequence) = (segment.number, segment.frame_header.sequence);
        HeaderSummary { number, sequence, last_index: segment.segment_header.last_index }
    }

    /// Whether a log can begin with this segment: it is the first one, or the snapshot includes all
    /// entries before it.
    fn can_begin(&self, covered: Index) -> bool {
        let is_first = self.last_index == Index(0) && self.sequence == 1;
        is_first || (self.last_index > Index(0) && self.last_index <= covered)
    }
}

/// Finds the segments whose header is whole, in order. Others are removed.
fn whole_segments<D: Disk>(
    disk: &mut D,
    damaged: &mut Vec<DamagedFile>,
) -> Result<Vec<HeaderSummary>, StorageError> {
    let mut segments = Vec::new();
    let mut last = None;
    for number in segment::list(disk)? {
        match LoadedSegment::load(disk, number) {
            Ok(segment) => {
                segments.push(HeaderSummary::of(&segment));
                last = Some(segment);
            }
            Err(error) => remove(disk, segment::name(number), &error, damaged)?,
        }
    }
    if let Some(last) = last
        && next_segment::finish_rename(disk, &last)?
    {
        let number = last.next_number()?;
        match LoadedSegment::load(disk, number) {
            Ok(segment) => segments.push(HeaderSummary::of(&segment)),
            Err(error) => remove(disk, segment::name(number), &error, damaged)?,
        }
    }
    Ok(segments)
}

fn remove<D: Disk>(
    disk: &mut D,
    name: String,
    why: &StorageError,
    damaged: &mut Vec<DamagedFile>,
) -> Result<(), StorageError> {
    disk.remove(&name).map_err(|error| StorageError::io("remove", &name, &error))?;
    let what = match why {
        StorageError::Corrupt { offset, what, .. } => format!("byte {offset}: {what}"),
        other => error_chain(other),
    };
    damaged.push(DamagedFile { file: name, what });
    Ok(())
}

/// Replays the log from segment `first` on, as far as it is whole. Returns also the segment in
/// which it ends; `None` if a later frame truncates entries before `first`.
fn replay_whole<D: Disk>(
    disk: &mut D,
    first: u64,
    segments: &[HeaderSummary],
    options: &LogOptions,
) -> Result<Option<(Replay, LoadedSegment)>, StorageError> {
    let mut segment = LoadedSegment::load(disk, first)?;
    let mut replay = Replay::begin(&segment, options.tail_bytes);
    let mut following = segments.iter().skip_while(|head| head.number <= first).peekable();
    while let Some(head) =
        following.next_if(|head| segment.number.checked_add(1) == Some(head.number))
    {
        let next = LoadedSegment::load(disk, head.number)?;
        let mut continued = replay.clone();
        if continued.replay_segment(&segment, &next).is_err() {
            // Frames that the next segment holds again do not count.
            replay.replay_whole_frames(&segment, next.frame_header.sequence.saturating_sub(1));
            return Ok((!continued.start_was_truncated).then_some((replay, segment)));
        }
        replay = continued;
        segment = next;
    }
    replay.replay_whole_frames(&segment, u64::MAX);
    Ok((!replay.start_was_truncated).then_some((replay, segment)))
}

/// The last entry that any file names.
fn last_known_index<D: Disk>(
    disk: &mut D,
    last: &LoadedSegment,
    replay: &Replay,
    segments: &[HeaderSummary],
    damaged: &[DamagedFile],
    mark: Option<Index>,
) -> Result<Index, StorageError> {
    let mut known = mark.unwrap_or_default();
    for segment in segments.iter().filter(|segment| segment.number >= last.number) {
        known = known.max(segment.last_index);
        let name = segment::name(segment.number);
        let report = SegmentReport::of(&name, read_file(disk, &name)?.into());
        for frame in report.frames.iter().filter(|frame| frame.sequence > replay.chain.sequence) {
            if let FrameContent::Write(write) = &frame.content {
                known = known.max(write.entries.last().map_or(Index(0), |entry| entry.index));
            }
        }
    }
    Ok(damaged
        .iter()
        .filter_map(|damaged| snapshot::index_of(&damaged.file))
        .fold(known, Index::max))
}

/// The state of a folder of which only a snapshot is whole.
fn snapshot_alone<D: Disk>(
    header: &SnapshotHeader,
    damaged: Vec<DamagedFile>,
) -> RecoverableLog<D> {
    let SnapshotHeader { cluster, group, meta } = header;
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
    let last_known = damaged
        .iter()
        .filter_map(|damaged| snapshot::index_of(&damaged.file))
        .max()
        .unwrap_or_default();
    let identity = Identity { cluster: *cluster, group: *group, node: NodeId(0), disk: DiskId(0) };
    RecoverableLog {
        identity,
        saved,
        loss: Some(DataLoss { last_kept: meta.index, last_known, damaged }),
        log: None,
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;
    use crate::storage::test_disk::TestDisk;

    #[test]
    fn a_file_that_cannot_be_read_is_reported_with_the_cause() {
        let (mut disk, mut damaged) = (TestDisk::default(), Vec::new());
        disk.create("a", 0).unwrap();
        let error = StorageError::io("read", "a", &io::Error::other("no medium"));
        remove(&mut disk, "a".to_owned(), &error, &mut damaged).unwrap();
        assert!(damaged[0].what.contains("no medium"), "{}", damaged[0].what);
    }
}
