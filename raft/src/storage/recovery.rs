//! Recovery: what every opening of a log does.
//!
//! It finds what the node has promised, refuses damage, cuts off a torn tail, and makes everything
//! durable that it returns.
//!
//! ```text
//! last segment  [header] [frame] [frame] [frame] [frame] [~~~~] zeros, or a recycled file's frames
//!                                      ^ greatest mark   ^ first frame that breaks the chain
//!               synced: known to be    | whole, perhaps  | torn: never acknowledged, because
//!               durable                | not durable:    | a later frame's mark would say so
//!                                      | written again   |
//! ```
//!
//! A broken chain at or before the greatest mark is corruption. The mark may lie past the damage,
//! so the whole file is searched for it. Earlier segments were synced before the next one was
//! created, so there every broken chain is corruption.
//!
//! Past the mark, bytes that can be read need not be on disk: a sync may have failed, and the
//! kernel shows what it has not written. Recovery therefore copies these writes to a new segment,
//! which gets its name only once it is synced. A crash before that changes nothing. Every opening
//! begins a new segment, so no byte of a segment is ever written twice.
//!
//! The last segment may still have the name `.next`; recovery renames it first.
//!
//! How far the log was synced is read from its frames' marks and from `SYNCED` ([`super::synced`]),
//! which remains when the end of the log is lost.
//!
//! The log's segments are those up to the last one without a gap in their numbers, from the origin
//! on that the last one's header names. Earlier ones were being removed, because a snapshot
//! includes their entries.
//!
//! If a segment is damaged, the log may begin after it, with a segment before which the snapshot
//! includes everything: the segment's header repeats term, vote, promise and configuration. From
//! there on everything must be whole, even entries that the snapshot includes, because a frame
//! among them may hold a vote.

use super::contents::Contents;
use super::loaded_segment::{LoadedSegment, LogEnd, find_log_end};
use super::next_segment;
use super::replay::{NewSegment, Replay, UnsyncedWrite};
use super::segment::{self, ActiveSegment, FrameChain};
use super::segment_pool::SegmentPool;
use super::snapshot::{self, DamagedSnapshot, FoundSnapshots, SnapshotStore};
use super::synced::{self, SyncedFile, SyncedMark};
use super::{Disk, LogOptions, StorageError};
use crate::core::mutants::{Mutant, planted};
use crate::types::{Configuration, Identity, Index, Saved, SnapshotMeta};

/// What recovery found on a disk.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Recovered {
    /// The node, group, cluster and disk that the log belongs to.
    pub identity: Identity,
    /// The state from which the core continues.
    pub saved: Saved,
    /// How many writes were whole but not known to be durable, and were therefore written again.
    pub rewritten: u64,
    /// Where a crash cut writes short, if it did. They were never acknowledged, and are removed.
    pub torn: Option<TornTail>,
    /// Damaged snapshots: those newer than the one in `saved`, which the log can do without, and
    /// that one itself if `lacks_snapshot`.
    pub damaged_snapshots: Vec<DamagedSnapshot>,
    /// Whether only the header of the snapshot in `saved` is whole. The log and every promise are
    /// there, but the state machine needs another node's snapshot.
    pub lacks_snapshot: bool,
    /// A damaged segment that was not needed: the log begins after it, because a snapshot includes
    /// its entries.
    pub damaged_segment: Option<DamagedSegment>,
}

/// A damaged segment that was not needed. It and the segments before it are removed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DamagedSegment {
    /// The segment's file.
    pub file: String,
    /// Where the damage begins, in bytes from the file's start.
    pub offset: u64,
    /// What is wrong there.
    pub what: String,
}

/// Where a crash cut the log's last writes short.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TornTail {
    /// The segment's file.
    pub file: String,
    /// Where the first frame that is not whole begins, in bytes from the file's start.
    pub offset: u64,
}

/// The parts of an open log.
pub(super) struct LogParts<D: Disk> {
    pub(super) disk: D,
    pub(super) identity: Identity,
    pub(super) initial_configuration: Configuration,
    pub(super) contents: Contents,
    pub(super) segment_pool: SegmentPool,
    pub(super) snapshot_store: SnapshotStore<D::File>,
    pub(super) origin: u64,
    pub(super) active: ActiveSegment<D::File>,
    pub(super) synced_file: SyncedFile<D::File>,
    pub(super) chain: FrameChain,
}

/// Finds the parts of the log ([`Log::open`](super::Log::open)).
pub(super) fn recover<D: Disk>(
    mut disk: D,
    options: LogOptions,
) -> Result<(LogParts<D>, Recovered), StorageError> {
    let Some(file) = find_log_file(&mut disk)? else { return Err(StorageError::NoLog) };
    make_names_durable(&mut disk)?;
    let mark = synced::read(&mut disk)?;
    let mut numbers = segment::list(&mut disk)?;
    let Some(&last_number) = numbers.last() else { return Err(missing_log(&file, mark)) };
    segment::remove_unfinished(&mut disk)?;
    let mut found = FoundSnapshots::search(&mut disk)?;
    let mut last = LoadedSegment::load(&mut disk, last_number)?;
    if next_segment::finish_rename(&mut disk, &last)? {
        last = LoadedSegment::load(&mut disk, last_number + 1)?;
        numbers.push(last.number);
    }
    check_mark_owner(mark.as_ref(), &last)?;
    let end = find_log_end(&last, mark.map_or(0, |mark| mark.sequence))?;
    if !found.damaged.is_empty()
        && let Some(base) = first_base(&mut disk, &numbers, &last)?
    {
        found.fall_back_to_damaged(&mut disk, &last.segment_header.identity, base)?;
    }
    let Replayed { first, mut replay, unsynced, damaged } =
        replay(&mut disk, &options, &numbers, &last, &end, &found)?;
    check_not_cut(mark.as_ref(), &last, &end, &replay)?;
    let snapshot = newest_snapshot(&found, &last)?;
    check_damaged_snapshot(&found, &replay)?;
    // All checks have passed. From here on the folder is changed.
    next_segment::remove_unused(&mut disk)?;
    let mut segment_pool = SegmentPool::find(&mut disk, &options)?;
    let synced_file = SyncedFile::prepare(&mut disk)?;
    let new_segment = replay.plan_new_segment(&last, unsynced, snapshot.as_ref(), end.sequence)?;
    let active = new_segment.create(&mut disk, &mut segment_pool, &mut replay)?;
    remove_superseded(&mut disk, &mut segment_pool, &numbers, first, &new_segment)?;
    let recovered = Recovered {
        identity: last.segment_header.identity,
        saved: replay.saved(&last.segment_header.initial_configuration, snapshot),
        rewritten: new_segment.rewritten(),
        torn: end.is_torn.then(|| TornTail { file: last.name.clone(), offset: end.offset as u64 }),
        damaged_snapshots: found.damaged.clone(),
        lacks_snapshot: found.is_newest_damaged,
        damaged_segment: damaged,
    };
    let snapshot_store = SnapshotStore::new(&mut disk, found)?;
    let (identity, initial_configuration, origin) = (
        last.segment_header.identity,
        last.segment_header.initial_configuration,
        new_segment.origin(),
    );
    let Replay { contents, chain, .. } = replay;
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
    Ok((parts, recovered))
}

/// Removes the segments before the log's first one, and those that the new one replaces.
fn remove_superseded<D: Disk>(
    disk: &mut D,
    segment_pool: &mut SegmentPool,
    numbers: &[u64],
    first: u64,
    new_segment: &NewSegment,
) -> Result<(), StorageError> {
    let leftovers: Vec<u64> =
        numbers.iter().copied().take_while(|&number| number < first).collect();
    for &number in &leftovers {
        let name = segment::name(number);
        disk.remove(&name).map_err(|error| StorageError::io("remove", &name, &error))?;
    }
    for segment in &new_segment.superseded {
        segment_pool.recycle_or_remove(disk, segment)?;
    }
    if !(leftovers.is_empty() && new_segment.superseded.is_empty()) {
        disk.sync_directory()
            .map_err(|error| StorageError::io("sync", "the data folder", &error))?;
    }
    Ok(())
}

/// The error for a folder that held a log and has no segment.
fn missing_log(file: &str, mark: Option<SyncedMark>) -> StorageError {
    match mark {
        Some(mark) => end_lost(
            &mark,
            segment::name(mark.segment),
            0,
            "the file is missing".to_owned(),
            Index(0),
        ),
        None => StorageError::corrupt(file, 0, "the log that this snapshot belongs to is missing"),
    }
}

fn end_lost(
    mark: &SyncedMark,
    file: String,
    offset: u64,
    what: String,
    last_kept: Index,
) -> StorageError {
    StorageError::EndLost { file, offset, what, last_kept, last_known: mark.last_index }
}

/// Refuses a mark of another log.
fn check_mark_owner(mark: Option<&SyncedMark>, last: &LoadedSegment) -> Result<(), StorageError> {
    let identity = &last.segment_header.identity;
    match mark {
        Some(mark) if (mark.disk, mark.group) != (identity.disk, identity.group.0) => {
            let what = format!(
                "it is the mark of disk {}, group {}, and {} belongs to another log",
                mark.disk, mark.group, last.name
            );
            Err(StorageError::corrupt(synced::NAME, 0, what))
        }
        _ => Ok(()),
    }
}

/// Refuses a log that ends before what was durable.
fn check_not_cut(
    mark: Option<&SyncedMark>,
    last: &LoadedSegment,
    end: &LogEnd,
    replay: &Replay,
) -> Result<(), StorageError> {
    let bytes = last.capacity_bytes();
    let is_cut = !bytes.is_multiple_of(segment::LENGTH_UNIT);
    let what = "the file ends here, and no segment has such a length: it was cut off";
    let cut = if is_cut { Err(StorageError::corrupt(&last.name, bytes, what)) } else { Ok(()) };
    let Some(mark) = mark else { return cut };
    let (file, offset, what) = if mark.segment > last.number {
        (segment::name(last.next_number()?), 0, "the file is missing".to_owned())
    } else if let Some(what) = &end.missing {
        (last.name.clone(), end.offset as u64, what.clone())
    } else if mark.segment == last.number && mark.capacity_bytes > bytes {
        let what =
            format!("the file ends here, and was created with {} bytes", mark.capacity_bytes);
        (last.name.clone(), bytes, what)
    } else {
        return cut;
    };
    Err(end_lost(mark, file, offset, what, replay.contents.terms.last_index()))
}

/// Makes the folder's names durable before recovery relies on them: a killed process may not have.
///
/// A crash must not leave a new segment without the name of the one before it, nor remove entries
/// without the name of the snapshot that includes them.
fn make_names_durable<D: Disk>(disk: &mut D) -> Result<(), StorageError> {
    disk.sync_directory().map_err(|error| StorageError::io("sync", "the data folder", &error))
}

/// A file that shows that the disk holds a log, or held one.
pub(super) fn find_log_file<D: Disk>(disk: &mut D) -> Result<Option<String>, StorageError> {
    if let Some(&number) = segment::list(disk)?.first() {
        return Ok(Some(segment::name(number)));
    }
    let names = disk.list().map_err(|error| StorageError::io("list", "the data folder", &error))?;
    if let Some(snapshot) = names.into_iter().find(|name| snapshot::index_of(name).is_some()) {
        return Ok(Some(snapshot));
    }
    Ok(synced::read(disk)?.map(|_| synced::NAME.to_owned()))
}

/// The number of the log's first segment.
fn first_segment(numbers: &[u64], last: &LoadedSegment) -> u64 {
    let mut first = last.number;
    for &number in numbers.iter().rev().skip(1) {
        if number + 1 != first {
            break;
        }
        first = number;
    }
    first.max(last.segment_header.origin)
}

/// The log, replayed to its end.
struct Replayed {
    /// The first segment.
    first: u64,
    replay: Replay,
    /// Writes that may not be durable.
    unsynced: Vec<UnsyncedWrite>,
    /// The damaged segment after which the log begins, if there is one.
    damaged: Option<DamagedSegment>,
}

/// Replays the log from its first segment or, if a segment is damaged, from the newest one with
/// which the log can begin.
fn replay<D: Disk>(
    disk: &mut D,
    options: &LogOptions,
    numbers: &[u64],
    last: &LoadedSegment,
    end: &LogEnd,
    found: &FoundSnapshots,
) -> Result<Replayed, StorageError> {
    let first = first_segment(numbers, last);
    let replay_from = |disk: &mut D, start| replay_from(disk, options, start, last, end, found);
    let refused = match replay_from(disk, first) {
        Ok((replay, unsynced)) => return Ok(Replayed { first, replay, unsynced, damaged: None }),
        Err(refused) => refused.error,
    };
    let StorageError::Corrupt { file, offset, what } = refused.clone() else { return Err(refused) };
    for start in (first + 1..=last.number).rev() {
        if !is_covered_by_snapshot(disk, start, last, found)? {
            continue;
        }
        match replay_from(disk, start) {
            Ok((replay, unsynced)) => {
                let damaged = Some(DamagedSegment { file, offset, what });
                return Ok(Replayed { first: start, replay, unsynced, damaged });
            }
            Err(ReplayError { start_was_truncated: true, .. }) => {}
            Err(refused) => return Err(refused.error),
        }
    }
    Err(refused)
}

/// Whether the segment's header is whole, and the snapshot includes all entries before it.
fn is_covered_by_snapshot<D: Disk>(
    disk: &mut D,
    number: u64,
    last: &LoadedSegment,
    found: &FoundSnapshots,
) -> Result<bool, StorageError> {
    let base = match number == last.number {
        true => last.segment_header.last_index,
        false => match LoadedSegment::load(disk, number) {
            Ok(segment) => segment.segment_header.last_index,
            Err(StorageError::Corrupt { .. }) => return Ok(false),
            Err(error) => return Err(error),
        },
    };
    let snapshot = found.newest.as_ref().map_or(Index(0), |(header, _)| header.meta.index);
    let is_whole = !found.is_newest_damaged;
    Ok((base > Index(0) && base <= snapshot && is_whole) || planted(Mutant::BeginAfterDamage))
}

/// Why the log cannot be replayed from some segment on.
struct ReplayError {
    error: StorageError,
    /// A later frame truncates entries before that segment: an earlier one may do.
    start_was_truncated: bool,
}

impl From<StorageError> for ReplayError {
    fn from(error: StorageError) -> ReplayError {
        ReplayError { error, start_was_truncated: false }
    }
}

/// Replays the log from segment `start` on, as far as it is synced.
fn replay_from<D: Disk>(
    disk: &mut D,
    options: &LogOptions,
    start: u64,
    last: &LoadedSegment,
    end: &LogEnd,
    found: &FoundSnapshots,
) -> Result<(Replay, Vec<UnsyncedWrite>), ReplayError> {
    let mut load = |number| {
        if number == last.number { Ok(last.clone()) } else { LoadedSegment::load(disk, number) }
    };
    let mut segment = load(start)?;
    check_start(&segment, found)?;
    let mut replay = Replay::begin(&segment, options.tail_bytes);
    for number in start + 1..=last.number {
        let next = load(number)?;
        let taken = replay.replay_segment(&segment, &next);
        taken.map_err(|error| ReplayError {
            error,
            start_was_truncated: replay.start_was_truncated,
        })?;
        segment = next;
    }
    let unsynced = replay.replay_last_segment(last, end);
    let unsynced = unsynced
        .map_err(|error| ReplayError { error, start_was_truncated: replay.start_was_truncated })?;
    Ok((replay, unsynced))
}

/// Checks that the log begins with its first frame, or that a snapshot includes all earlier
/// entries.
fn check_start(first: &LoadedSegment, found: &FoundSnapshots) -> Result<(), StorageError> {
    let base = first.segment_header.last_index;
    if base == Index(0) {
        let is_first_frame = (first.frame_header.sequence, first.frame_header.previous) == (1, 0);
        return if is_first_frame { Ok(()) } else { Err(missing_segment(first)) };
    }
    if found.newest.as_ref().is_some_and(|(header, _)| header.meta.index >= base) {
        return Ok(());
    }
    if let Some(damaged) = found.damaged.first() {
        let what = format!(
            "{}; the entries up to {base}, which it includes, are not in the log",
            damaged.what
        );
        return Err(StorageError::corrupt(&damaged.file, damaged.offset, what));
    }
    if first.segment_header.origin == first.number {
        let name = snapshot::name(base);
        return Err(StorageError::corrupt(
            &name,
            0,
            format!("the file is missing, and the log begins after entry {base}"),
        ));
    }
    Err(missing_segment(first))
}

fn missing_segment(first: &LoadedSegment) -> StorageError {
    let name = segment::name(first.number.saturating_sub(1));
    StorageError::corrupt(&name, 0, "the file is missing, and no snapshot includes its entries")
}

/// The last entry before the log's first segment, if its header can be read.
fn first_base<D: Disk>(
    disk: &mut D,
    numbers: &[u64],
    last: &LoadedSegment,
) -> Result<Option<Index>, StorageError> {
    let first = first_segment(numbers, last);
    if first == last.number {
        return Ok(Some(last.segment_header.last_index));
    }
    match LoadedSegment::load(disk, first) {
        Ok(segment) => Ok(Some(segment.segment_header.last_index)),
        Err(StorageError::Corrupt { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Refuses a damaged snapshot that the log does not reach: the entries between are unknown.
fn check_damaged_snapshot(found: &FoundSnapshots, replay: &Replay) -> Result<(), StorageError> {
    let Some((header, _)) = found.newest.as_ref().filter(|_| found.is_newest_damaged) else {
        return Ok(());
    };
    if replay.contents.matches_snapshot(&header.meta) {
        return Ok(());
    }
    let name = snapshot::name(header.meta.index);
    let damaged =
        found.damaged.iter().find(|damaged| damaged.file == name).or(found.damaged.first());
    let (offset, what) = damaged.map_or((0, ""), |damaged| (damaged.offset, &damaged.what));
    let what = format!("{what}; the log does not reach entry {}, its last one", header.meta.index);
    Err(StorageError::corrupt(&name, offset, what))
}

/// The newest snapshot, which must be of this log.
fn newest_snapshot(
    found: &FoundSnapshots,
    last: &LoadedSegment,
) -> Result<Option<SnapshotMeta>, StorageError> {
    let Some((header, _)) = &found.newest else { return Ok(None) };
    let identity = &last.segment_header.identity;
    if (header.cluster, header.group) != (identity.cluster, identity.group) {
        let what = format!("the snapshot is of cluster {}, group {}", header.cluster, header.group);
        return Err(StorageError::corrupt(&snapshot::name(header.meta.index), 0, what));
    }
    Ok(Some(header.meta.clone()))
}
