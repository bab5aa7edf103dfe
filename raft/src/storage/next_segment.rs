//! The file of the segment to come, made ready before it is needed: a segment that is full then
//! costs the write that finds it full one sync more, not the making of a file, its blocks and its
//! name.
//!
//! ```text
//! the active segment is half full    0000000000000008.next is made (or a spare gets that name), and the folder synced
//! after each of the next batches     a megabyte of it is filled with zeros and synced, until it is full of them
//! the active segment is full         the opening is written to it and synced; it is renamed to 0000000000000008.log
//! ```
//!
//! That last name is not made durable: whoever opens the log finds the file under either name, and
//! knows by its content whether it has become a segment ([`adopt`]). Frames follow an opening only
//! once that is on the disk, so a file without frames after its opening has promised nothing.

use super::frame::{self, ALIGNMENT, Frame, Kind};
use super::loaded::Loaded;
use super::segment;
use super::segment_pool::{Room, SegmentPool, Source, take_over};
use super::{Disk, DiskFile, StorageError};

/// How much is filled at a time: writes that come meanwhile wait for so much.
const SLICE_BYTES: u64 = 1 << 20;

/// The file of the segment to come.
#[derive(Debug)]
pub(super) enum NextSegment<F> {
    /// There is none.
    Missing,
    /// It has its name, durably.
    Named(Named<F>),
    /// This segment's could not be made: the disk may be full. It is tried again when it is needed,
    /// and the failure told then.
    GivenUp { number: u64 },
}

#[derive(Debug)]
pub(super) struct Named<F> {
    number: u64,
    file: F,
    capacity_bytes: u64,
    is_recycled: bool,
    /// So far it has its blocks.
    filled_bytes: u64,
}

impl<F: DiskFile> NextSegment<F> {
    /// Makes the file of segment `number` a little more ready. `true` if it is not ready yet.
    ///
    /// # Errors
    /// Only if names may be in disorder. A file that cannot be made or filled is given up.
    pub(super) fn step<D: Disk<File = F>>(
        &mut self,
        disk: &mut D,
        segment_pool: &mut SegmentPool,
        number: u64,
    ) -> Result<bool, StorageError> {
        match self {
            NextSegment::Named(named) if named.number == number => {
                if named.filled_bytes >= named.capacity_bytes {
                    return Ok(false);
                }
                let to = named.capacity_bytes.min(named.filled_bytes + SLICE_BYTES);
                if named.file.fill(named.filled_bytes, to).and_then(|()| named.file.sync()).is_err()
                {
                    *self = NextSegment::GivenUp { number };
                    remove(disk, number)?;
                    return Ok(false);
                }
                named.filled_bytes = to;
                Ok(to < named.capacity_bytes)
            }
            NextSegment::GivenUp { number: given_up } if *given_up == number => Ok(false),
            _ => self.name(disk, segment_pool, number),
        }
    }

    fn name<D: Disk<File = F>>(
        &mut self,
        disk: &mut D,
        segment_pool: &mut SegmentPool,
        number: u64,
    ) -> Result<bool, StorageError> {
        let name = segment::prepared_name(number);
        let room: Room<F> = segment_pool.room(0);
        let (capacity_bytes, is_recycled) = (room.capacity_bytes, room.is_recycled());
        let file = match room.source {
            Source::Spare(spare) => take_over(disk, &spare, &name)?,
            _ => match disk.create(&name, capacity_bytes) {
                Ok(file) => file,
                Err(_) => {
                    *self = NextSegment::GivenUp { number };
                    remove_if_there(disk, &name)?;
                    return Ok(false);
                }
            },
        };
        if !is_recycled {
            sync_directory(disk, &name)?;
        }
        // A file that had another life has its blocks.
        let filled_bytes = if is_recycled { capacity_bytes } else { 0 };
        *self =
            NextSegment::Named(Named { number, file, capacity_bytes, is_recycled, filled_bytes });
        Ok(!is_recycled)
    }

    /// The file, if it is there and long enough, ready or not. One that is too short is removed.
    pub(super) fn take<D: Disk<File = F>>(
        &mut self,
        disk: &mut D,
        number: u64,
        needed_bytes: usize,
    ) -> Result<Option<Room<F>>, StorageError> {
        match std::mem::replace(self, NextSegment::Missing) {
            NextSegment::Named(named) if named.number == number => {
                if named.capacity_bytes >= needed_bytes as u64 {
                    let source =
                        Source::Prepared { file: named.file, is_recycled: named.is_recycled };
                    return Ok(Some(Room { source, capacity_bytes: named.capacity_bytes }));
                }
                remove(disk, number)?;
                Ok(None)
            }
            _ => Ok(None),
        }
    }
}

fn remove<D: Disk>(disk: &mut D, number: u64) -> Result<(), StorageError> {
    let name = segment::prepared_name(number);
    disk.remove(&name).map_err(|error| StorageError::io("remove", &name, &error))
}

fn remove_if_there<D: Disk>(disk: &mut D, name: &str) -> Result<(), StorageError> {
    let names = disk.list().map_err(|error| StorageError::io("list", "the data folder", &error))?;
    if names.iter().any(|there| there == name) {
        disk.remove(name).map_err(|error| StorageError::io("remove", name, &error))?;
    }
    Ok(())
}

fn sync_directory<D: Disk>(disk: &mut D, name: &str) -> Result<(), StorageError> {
    disk.sync_directory().map_err(|error| StorageError::io("sync the folder of", name, &error))
}

/// Opening a log: gives the file that was made ready for the segment after `last` its final name,
/// durably, if it has become that segment, and says so.
pub(super) fn adopt<D: Disk>(disk: &mut D, last: &Loaded) -> Result<bool, StorageError> {
    let number = last.next_number()?;
    let name = segment::prepared_name(number);
    let names = disk.list().map_err(|error| StorageError::io("list", "the data folder", &error))?;
    if !names.contains(&name) || !is_begun(disk, &name, last)? {
        return Ok(false);
    }
    disk.rename(&name, &segment::name(number))
        .map_err(|error| StorageError::io("rename", &name, &error))?;
    sync_directory(disk, &name)?;
    Ok(true)
}

/// Removes the files that were made ready for segments to come and have not become one.
pub(super) fn remove_unused<D: Disk>(disk: &mut D) -> Result<(), StorageError> {
    let names = disk.list().map_err(|error| StorageError::io("list", "the data folder", &error))?;
    for name in names.iter().filter(|name| segment::number_of(name, segment::AHEAD).is_some()) {
        disk.remove(name).map_err(|error| StorageError::io("remove", name, &error))?;
    }
    Ok(())
}

/// Whether the file holds frames of the segment after `last` besides its opening. Whether they fit,
/// whoever reads it as a segment finds out.
fn is_begun<D: Disk>(disk: &mut D, name: &str, last: &Loaded) -> Result<bool, StorageError> {
    let bytes = super::loaded::read_file(disk, name)?;
    let tag = segment::tag(&last.opening.identity, last.next_number()?);
    let is_own = |at: usize| {
        frame::peek(&bytes[at..]).is_some_and(|(group, sequence, own)| {
            (group, own) == (last.header.group, tag) && sequence > last.header.sequence
        })
    };
    let is_frame = |at: usize| {
        is_own(at)
            && matches!(frame::parse(&bytes[at..]), Ok(Frame { header, .. }) if header.kind != Kind::Opening)
    };
    Ok((0..bytes.len()).step_by(ALIGNMENT).any(is_frame))
}
