//! Opens a log: finds what was promised, refuses what is damaged, cuts what was torn, and makes durable what it hands over.
//!
//! ```text
//! last segment   [opening] [frame] [frame] [frame] [frame] [~~~~~] ...zeros, or another life's frames
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
//! leaves everything as it was. Always beginning a new segment also means that no byte is written twice in one life of a file.
//!
//! The last segment may still have the name that its file was made ready under; then it gets its own first.
//!
//! Which segments are the log's: those up to the last without a gap in their numbers, from the one on that the last
//! one's opening names as the origin. What is before is on its way out, because a snapshot includes it.

use super::ahead;
use super::contents::Contents;
use super::loaded::{Loaded, find_end};
use super::replay::Replay;
use super::segment::{self, Active, Chain};
use super::snapshot::{self, DamagedSnapshot, Found, Shelf};
use super::spares::Spares;
use super::{Disk, LogOptions, StorageError};
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
    /// Where bytes lay that are no whole frame, all of them past what was known to be on disk: writes that a crash cut
    /// short, never acknowledged. They are gone.
    pub torn: Option<TornTail>,
    /// Snapshots newer than the one in `saved` that are not what was written. The log reaches back far enough to do without.
    pub damaged_snapshots: Vec<DamagedSnapshot>,
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
    pub(super) spares: Spares,
    pub(super) shelf: Shelf<D::File>,
    pub(super) origin: u64,
    pub(super) active: Active<D::File>,
    pub(super) chain: Chain,
}

/// What a log is put together from ([`Log::open`](super::Log::open)).
pub(super) fn recover<D: Disk>(mut disk: D, options: LogOptions) -> Result<(Parts<D>, Recovered), StorageError> {
    let Some(file) = what_is_there(&mut disk)? else { return Err(StorageError::NoLog) };
    make_names_durable(&mut disk)?;
    let mut numbers = segment::list(&mut disk)?;
    let Some(&last_number) = numbers.last() else {
        return Err(StorageError::corrupt(&file, 0, "the log that this snapshot belongs to is missing"));
    };
    segment::remove_unfinished(&mut disk)?;
    let found = Found::search(&mut disk)?;
    let mut spares = Spares::find(&mut disk, &options)?;
    let mut last = Loaded::load(&mut disk, last_number)?;
    if ahead::adopt(&mut disk, &last)? {
        last = Loaded::load(&mut disk, last_number + 1)?;
        numbers.push(last.number);
    }
    let first_number = first_of(&numbers, &last);
    let (mut replay, last) = replay_settled(&mut disk, &options, first_number, last, &found)?;
    let end = find_end(&last)?;
    let unsettled = replay.last_segment(&last, &end)?;
    let snapshot = newest_of(&found, &last)?;
    let draft = replay.draw_up(&last, unsettled, snapshot.as_ref())?;
    let active = draft.make(&mut disk, &mut spares, &mut replay)?;
    let leftovers: Vec<u64> = numbers.into_iter().take_while(|&number| number < first_number).collect();
    for &number in &leftovers {
        let name = segment::name(number);
        disk.remove(&name).map_err(|error| StorageError::io("remove", &name, &error))?;
    }
    for segment in &draft.void {
        spares.retire(&mut disk, segment)?;
    }
    if !(leftovers.is_empty() && draft.void.is_empty()) {
        disk.sync_directory().map_err(|error| StorageError::io("sync", "the data folder", &error))?;
    }
    let recovered = Recovered {
        identity: last.opening.identity,
        saved: replay.saved(&last.opening.founding, snapshot),
        rewritten: draft.rewritten(),
        torn: end.is_torn.then(|| TornTail { file: last.name.clone(), offset: end.offset as u64 }),
        damaged_snapshots: found.damaged.clone(),
    };
    let shelf = Shelf::new(&mut disk, found)?;
    let (identity, founding, origin) = (last.opening.identity, last.opening.founding, draft.origin());
    let Replay { contents, chain, .. } = replay;
    Ok((Parts { disk, identity, founding, contents, spares, shelf, origin, active, chain }, recovered))
}

/// Who was killed may have left names that are not durable, and what opening does builds on the names it finds: the next segment
/// must not outlive the name of the one before it, nor what is removed the name of the snapshot that stands for it.
fn make_names_durable<D: Disk>(disk: &mut D) -> Result<(), StorageError> {
    disk.sync_directory().map_err(|error| StorageError::io("sync", "the data folder", &error))
}

/// A file that says that the disk holds a log, or held one.
pub(super) fn what_is_there<D: Disk>(disk: &mut D) -> Result<Option<String>, StorageError> {
    if let Some(&number) = segment::list(disk)?.first() {
        return Ok(Some(segment::name(number)));
    }
    let names = disk.list().map_err(|error| StorageError::io("list", "the data folder", &error))?;
    Ok(names.into_iter().find(|name| snapshot::index_of(name).is_some()))
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

/// Takes in everything before the last segment, which it gives back.
fn replay_settled<D: Disk>(
    disk: &mut D,
    options: &LogOptions,
    first_number: u64,
    last: Loaded,
    found: &Found,
) -> Result<(Replay, Loaded), StorageError> {
    let last_number = last.number;
    let mut last = Some(last);
    let mut load =
        |number| if number == last_number { Ok(last.take().expect("once")) } else { Loaded::load(disk, number) };
    let mut segment = load(first_number)?;
    check_beginning(&segment, found)?;
    let mut replay = Replay::begin(&segment, options.tail_bytes);
    for number in first_number + 1..=last_number {
        let next = load(number)?;
        replay.settled_segment(&segment, &next)?;
        segment = next;
    }
    Ok((replay, segment))
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
        let what = format!("{}; and the entries up to {base}, which it stands for, are gone", damaged.what);
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
