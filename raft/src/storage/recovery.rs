//! Opens a log: finds what was promised, refuses what is damaged, cuts what was torn, and makes
//! durable what it hands over.
//!
//! ```text
//! last segment   [opening] [frame] [frame] [frame] [frame] [~~~~~] ...zeros, or another life's frames
//!                                        ^ greatest synced mark  ^ first frame that does not fit
//!                settled: known to be    | whole, perhaps not on |  torn: never acknowledged, because
//!                on disk                 | disk: written anew    |  a later frame's mark would say so
//! ```
//!
//! A frame that does not fit at or before the greatest mark is corruption. The mark may lie past
//! the damage, so the whole file is searched for it. Earlier segments were synced before the next
//! one was made: there, every misfit is corruption.
//!
//! Past the mark, bytes that can be read need not be on disk: a sync may have failed, and the
//! kernel shows what it has not written. They are therefore written to a new segment, which has its
//! name only once it is synced; a crash on the way leaves everything as it was. Always beginning a
//! new segment also means that no byte is written twice in one life of a file.
//!
//! The last segment may still have the name that its file was made ready under; then it gets its
//! own first.
//!
//! What was settled is read from the frames' own marks and from the second mark
//! ([`super::synced`]), which is still there when the end of the log is not.
//!
//! Which segments are the log's: those up to the last without a gap in their numbers, from the one
//! on that the last one's opening names as the origin. What is before is on its way out, because a
//! snapshot includes it.
//!
//! If one of them is damaged, the log may still begin after it, with a segment whose opening the
//! snapshot reaches: the opening repeats term, vote, promise and configuration. From there on
//! everything must be whole, entries that the snapshot includes as well, because a frame among them
//! may hold a vote.

use super::contents::Contents;
use super::loaded::{End, Loaded, find_end};
use super::next_segment;
use super::replay::{Draft, Replay, Step};
use super::segment::{self, Active, Chain};
use super::segment_pool::SegmentPool;
use super::snapshot::{self, DamagedSnapshot, Found, SnapshotStore};
use super::synced::{self, SyncedFile, SyncedMark};
use super::{Disk, LogOptions, StorageError};
use crate::core::mutants::{Mutant, planted};
use crate::types::{Configuration, Identity, Index, Saved, SnapshotMeta};

/// What was found on a disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recovered {
    /// Whom the log belongs to.
    pub identity: Identity,
    /// What the core continues from.
    pub saved: Saved,
    /// How many writes were whole but not known to be on disk, and were therefore written anew.
    pub rewritten: u64,
    /// Where bytes lay that are no whole frame, all of them past what was known to be on disk:
    /// writes that a crash cut short, never acknowledged. They are gone.
    pub torn: Option<TornTail>,
    /// Snapshots that are not what was written: newer than the one in `saved`, while the log
    /// reaches back far enough to do without, or that one itself (`lacks_snapshot`).
    pub damaged_snapshots: Vec<DamagedSnapshot>,
    /// Whether the snapshot in `saved` is one of the damaged ones, of which the header is whole.
    /// The log and all that was promised are there; the state machine needs a snapshot of another
    /// node's.
    pub lacks_snapshot: bool,
    /// A segment that is not what was written, and was not needed: the log begins after it, where a
    /// snapshot ends.
    pub damaged_segment: Option<DamagedSegment>,
}

/// A segment that cannot be used, and was not needed. Its file, and those of the segments before
/// it, are gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DamagedSegment {
    /// Its file.
    pub file: String,
    /// Where the damage begins, in bytes.
    pub offset: u64,
    /// What does not fit.
    pub what: String,
}

/// Where a log was torn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TornTail {
    /// The segment's file.
    pub file: String,
    /// Where the first frame that is not whole begins, in bytes.
    pub offset: u64,
}

/// What recovery has put together.
pub(super) struct Parts<D: Disk> {
    pub(super) disk: D,
    pub(super) identity: Identity,
    pub(super) founding: Configuration,
    pub(super) contents: Contents,
    pub(super) segment_pool: SegmentPool,
    pub(super) snapshot_store: SnapshotStore<D::File>,
    pub(super) origin: u64,
    pub(super) active: Active<D::File>,
    pub(super) synced_file: SyncedFile<D::File>,
    pub(super) chain: Chain,
}

/// What a log is put together from ([`Log::open`](super::Log::open)).
pub(super) fn recover<D: Disk>(
    mut disk: D,
    options: LogOptions,
) -> Result<(Parts<D>, Recovered), StorageError> {
    let Some(file) = what_is_there(&mut disk)? else { return Err(StorageError::NoLog) };
    make_names_durable(&mut disk)?;
    let mark = synced::read(&mut disk)?;
    let mut numbers = segment::list(&mut disk)?;
    let Some(&last_number) = numbers.last() else { return Err(log_is_missing(&file, mark)) };
    segment::remove_unfinished(&mut disk)?;
    let mut found = Found::search(&mut disk)?;
    let mut last = Loaded::load(&mut disk, last_number)?;
    if next_segment::adopt(&mut disk, &last)? {
        last = Loaded::load(&mut disk, last_number + 1)?;
        numbers.push(last.number);
    }
    check_owner(mark.as_ref(), &last)?;
    let end = find_end(&last, mark.map_or(0, |mark| mark.sequence))?;
    if !found.damaged.is_empty()
        && let Some(base) = base_of(&mut disk, &numbers, &last)?
    {
        found.use_damaged(&mut disk, &last.opening.identity, base)?;
    }
    let Replayed { first, mut replay, unsettled, damaged } =
        replay(&mut disk, &options, &numbers, &last, &end, &found)?;
    check_end(mark.as_ref(), &last, &end, &replay)?;
    let snapshot = newest_of(&found, &last)?;
    check_damaged(&found, &replay)?;
    // Everything is as it should be: from here on the folder is changed.
    next_segment::remove_unused(&mut disk)?;
    let mut segment_pool = SegmentPool::find(&mut disk, &options)?;
    let synced_file = SyncedFile::prepare(&mut disk)?;
    let draft = replay.draw_up(&last, unsettled, snapshot.as_ref(), end.sequence)?;
    let active = draft.make(&mut disk, &mut segment_pool, &mut replay)?;
    remove_superseded(&mut disk, &mut segment_pool, &numbers, first, &draft)?;
    let recovered = Recovered {
        identity: last.opening.identity,
        saved: replay.saved(&last.opening.founding, snapshot),
        rewritten: draft.rewritten(),
        torn: end.is_torn.then(|| TornTail { file: last.name.clone(), offset: end.offset as u64 }),
        damaged_snapshots: found.damaged.clone(),
        lacks_snapshot: found.is_newest_damaged,
        damaged_segment: damaged,
    };
    let snapshot_store = SnapshotStore::new(&mut disk, found)?;
    let (identity, founding, origin) =
        (last.opening.identity, last.opening.founding, draft.origin());
    let Replay { contents, chain, .. } = replay;
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
    Ok((parts, recovered))
}

/// Removes the segments before the log's first one, and those that the new one takes the place of.
fn remove_superseded<D: Disk>(
    disk: &mut D,
    segment_pool: &mut SegmentPool,
    numbers: &[u64],
    first: u64,
    draft: &Draft,
) -> Result<(), StorageError> {
    let leftovers: Vec<u64> =
        numbers.iter().copied().take_while(|&number| number < first).collect();
    for &number in &leftovers {
        let name = segment::name(number);
        disk.remove(&name).map_err(|error| StorageError::io("remove", &name, &error))?;
    }
    for segment in &draft.void {
        segment_pool.retire(disk, segment)?;
    }
    if !(leftovers.is_empty() && draft.void.is_empty()) {
        disk.sync_directory()
            .map_err(|error| StorageError::io("sync", "the data folder", &error))?;
    }
    Ok(())
}

/// The error for a folder that has held a log and has no segment.
fn log_is_missing(file: &str, mark: Option<SyncedMark>) -> StorageError {
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
    kept: Index,
) -> StorageError {
    StorageError::EndLost { file, offset, what, kept, known: mark.last_index }
}

/// Refuses a mark that speaks of another log.
fn check_owner(mark: Option<&SyncedMark>, last: &Loaded) -> Result<(), StorageError> {
    let identity = &last.opening.identity;
    match mark {
        Some(mark) if (mark.disk, mark.group) != (identity.disk, identity.group.0) => {
            let what = format!(
                "it speaks of disk {}, group {}, and {} is of another log",
                mark.disk, mark.group, last.name
            );
            Err(StorageError::corrupt(synced::NAME, 0, what))
        }
        _ => Ok(()),
    }
}

/// Refuses a log that ends before what was on the disk.
fn check_end(
    mark: Option<&SyncedMark>,
    last: &Loaded,
    end: &End,
    replay: &Replay,
) -> Result<(), StorageError> {
    let bytes = last.capacity_bytes();
    let is_cut = !bytes.is_multiple_of(segment::LENGTH_UNIT);
    let what = "the file ends here, and no segment is made with such a length: it was cut off";
    let cut = if is_cut { Err(StorageError::corrupt(&last.name, bytes, what)) } else { Ok(()) };
    let Some(mark) = mark else { return cut };
    let (file, offset, what) = if mark.segment > last.number {
        (segment::name(last.next_number()?), 0, "the file is missing".to_owned())
    } else if let Some(what) = &end.lost {
        (last.name.clone(), end.offset as u64, what.clone())
    } else if mark.segment == last.number && mark.capacity_bytes > bytes {
        let what = format!("the file ends here and was made with {} bytes", mark.capacity_bytes);
        (last.name.clone(), bytes, what)
    } else {
        return cut;
    };
    Err(end_lost(mark, file, offset, what, replay.contents.terms.last_index()))
}

/// Who was killed may have left names that are not durable, and what opening does builds on the
/// names it finds: the next segment must not outlive the name of the one before it, nor what is
/// removed the name of the snapshot that stands for it.
fn make_names_durable<D: Disk>(disk: &mut D) -> Result<(), StorageError> {
    disk.sync_directory().map_err(|error| StorageError::io("sync", "the data folder", &error))
}

/// A file that says that the disk holds a log, or held one.
pub(super) fn what_is_there<D: Disk>(disk: &mut D) -> Result<Option<String>, StorageError> {
    if let Some(&number) = segment::list(disk)?.first() {
        return Ok(Some(segment::name(number)));
    }
    let names = disk.list().map_err(|error| StorageError::io("list", "the data folder", &error))?;
    if let Some(snapshot) = names.into_iter().find(|name| snapshot::index_of(name).is_some()) {
        return Ok(Some(snapshot));
    }
    Ok(synced::read(disk)?.map(|_| synced::NAME.to_owned()))
}

/// The first segment that belongs to the log.
fn first_of(numbers: &[u64], last: &Loaded) -> u64 {
    let mut first = last.number;
    for &number in numbers.iter().rev().skip(1) {
        if number + 1 != first {
            break;
        }
        first = number;
    }
    first.max(last.opening.origin)
}

/// The log up to its end.
struct Replayed {
    /// The segment with which it begins.
    first: u64,
    replay: Replay,
    /// Bodies of the steps that are not settled.
    unsettled: Vec<Step>,
    /// What it begins after, if not with the first segment that there is.
    damaged: Option<DamagedSegment>,
}

/// Takes in the log: from its first segment or, if something on the way is damaged, from the newest
/// one on that it can begin with.
fn replay<D: Disk>(
    disk: &mut D,
    options: &LogOptions,
    numbers: &[u64],
    last: &Loaded,
    end: &End,
    found: &Found,
) -> Result<Replayed, StorageError> {
    let first = first_of(numbers, last);
    let replay_from = |disk: &mut D, start| replay_from(disk, options, start, last, end, found);
    let refused = match replay_from(disk, first) {
        Ok((replay, unsettled)) => return Ok(Replayed { first, replay, unsettled, damaged: None }),
        Err(refused) => refused.error,
    };
    let StorageError::Corrupt { file, offset, what } = refused.clone() else { return Err(refused) };
    for start in (first + 1..=last.number).rev() {
        if !is_covered(disk, start, last, found)? {
            continue;
        }
        match replay_from(disk, start) {
            Ok((replay, unsettled)) => {
                let damaged = Some(DamagedSegment { file, offset, what });
                return Ok(Replayed { first: start, replay, unsettled, damaged });
            }
            Err(Refused { begins_too_late: true, .. }) => {}
            Err(refused) => return Err(refused.error),
        }
    }
    Err(refused)
}

/// Whether this segment's opening is whole and follows an entry that the snapshot includes.
fn is_covered<D: Disk>(
    disk: &mut D,
    number: u64,
    last: &Loaded,
    found: &Found,
) -> Result<bool, StorageError> {
    let opening = match number == last.number {
        true => last.opening.last_index,
        false => match Loaded::load(disk, number) {
            Ok(segment) => segment.opening.last_index,
            Err(StorageError::Corrupt { .. }) => return Ok(false),
            Err(error) => return Err(error),
        },
    };
    let snapshot = found.newest.as_ref().map_or(Index(0), |(header, _)| header.meta.index);
    let is_whole = !found.is_newest_damaged;
    Ok((opening > Index(0) && opening <= snapshot && is_whole) || planted(Mutant::BeginAfterDamage))
}

/// Why a log is not taken in from some segment on.
struct Refused {
    error: StorageError,
    /// It could be, from an earlier one on.
    begins_too_late: bool,
}

impl From<StorageError> for Refused {
    fn from(error: StorageError) -> Refused {
        Refused { error, begins_too_late: false }
    }
}

/// Takes in the log from segment `start` on, as far as it is settled.
fn replay_from<D: Disk>(
    disk: &mut D,
    options: &LogOptions,
    start: u64,
    last: &Loaded,
    end: &End,
    found: &Found,
) -> Result<(Replay, Vec<Step>), Refused> {
    let mut load =
        |number| if number == last.number { Ok(last.clone()) } else { Loaded::load(disk, number) };
    let mut segment = load(start)?;
    check_beginning(&segment, found)?;
    let mut replay = Replay::begin(&segment, options.tail_bytes);
    for number in start + 1..=last.number {
        let next = load(number)?;
        let taken = replay.settled_segment(&segment, &next);
        taken.map_err(|error| Refused { error, begins_too_late: replay.begins_too_late })?;
        segment = next;
    }
    let unsettled = replay.last_segment(last, end);
    let unsettled =
        unsettled.map_err(|error| Refused { error, begins_too_late: replay.begins_too_late })?;
    Ok((replay, unsettled))
}

/// A log begins with its birth, or where a snapshot ends, or before that.
fn check_beginning(first: &Loaded, found: &Found) -> Result<(), StorageError> {
    let base = first.opening.last_index;
    if base == Index(0) {
        let is_birth = (first.header.sequence, first.header.previous) == (1, 0);
        return if is_birth { Ok(()) } else { Err(missing(first)) };
    }
    if found.newest.as_ref().is_some_and(|(header, _)| header.meta.index >= base) {
        return Ok(());
    }
    if let Some(damaged) = found.damaged.first() {
        let what = format!(
            "{}; and the entries up to {base}, which it stands for, are gone",
            damaged.what
        );
        return Err(StorageError::corrupt(&damaged.file, damaged.offset, what));
    }
    if first.opening.origin == first.number {
        let name = snapshot::name(base);
        return Err(StorageError::corrupt(
            &name,
            0,
            format!("the file is missing, and the log begins after entry {base}"),
        ));
    }
    Err(missing(first))
}

fn missing(first: &Loaded) -> StorageError {
    let name = segment::name(first.number.saturating_sub(1));
    StorageError::corrupt(&name, 0, "the file is missing, and no snapshot stands for its entries")
}

/// What the log's first segment begins after, if that can be read.
fn base_of<D: Disk>(
    disk: &mut D,
    numbers: &[u64],
    last: &Loaded,
) -> Result<Option<Index>, StorageError> {
    let first = first_of(numbers, last);
    if first == last.number {
        return Ok(Some(last.opening.last_index));
    }
    match Loaded::load(disk, first) {
        Ok(segment) => Ok(Some(segment.opening.last_index)),
        Err(StorageError::Corrupt { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// A damaged snapshot is enough only for a log that reaches it: else nothing vouches for what comes
/// between.
fn check_damaged(found: &Found, replay: &Replay) -> Result<(), StorageError> {
    let Some((header, _)) = found.newest.as_ref().filter(|_| found.is_newest_damaged) else {
        return Ok(());
    };
    if replay.contents.holds(&header.meta) {
        return Ok(());
    }
    let name = snapshot::name(header.meta.index);
    let damaged =
        found.damaged.iter().find(|damaged| damaged.file == name).or(found.damaged.first());
    let (offset, what) = damaged.map_or((0, ""), |damaged| (damaged.offset, &damaged.what));
    let what = format!(
        "{what}; and the log does not reach entry {}, with which it ends",
        header.meta.index
    );
    Err(StorageError::corrupt(&name, offset, what))
}

/// The newest snapshot, if it is this log's.
fn newest_of(found: &Found, last: &Loaded) -> Result<Option<SnapshotMeta>, StorageError> {
    let Some((header, _)) = &found.newest else { return Ok(None) };
    let identity = &last.opening.identity;
    if (header.cluster, header.group) != (identity.cluster, identity.group) {
        let what = format!("the snapshot is of cluster {}, group {}", header.cluster, header.group);
        return Err(StorageError::corrupt(&snapshot::name(header.meta.index), 0, what));
    }
    Ok(Some(header.meta.clone()))
}
