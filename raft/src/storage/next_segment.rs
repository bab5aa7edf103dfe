//! The next segment's file, prepared before it is needed.
//!
//! A write that finds the active segment full then waits for one more sync, not for a new file, its
//! blocks and its name.
//!
//! | when | what happens |
//! |---|---|
//! | the active segment is half full | `0000000000000008.next` is created, or a spare file renamed to it; the folder is synced |
//! | after each of the next batches | a megabyte of the file is filled with zeros and synced, up to its end |
//! | the active segment is full | the segment header is written to the file and synced; it is renamed to `0000000000000008.log` |
//!
//! The last rename is not synced. Recovery finds the file under either name, and its content shows
//! whether it has become a segment ([`finish_rename`]). Frames follow a segment header only once
//! that is durable, so a file without frames after its header holds no promise.

use super::frame::{self, ALIGNMENT, FrameKind};
use super::loaded_segment::LoadedSegment;
use super::segment;
use super::segment_pool::{FileSource, SegmentFile, SegmentPool, claim_spare};
use super::{Disk, DiskFile, StorageError};

/// How much is filled at a time, in bytes. Writes that arrive meanwhile wait for that.
const SLICE_BYTES: u64 = 1 << 20;

/// The next segment's file.
#[derive(Debug)]
pub(super) enum NextSegment<F> {
    /// There is no file yet.
    Missing,
    /// The file exists under a durable name.
    Created(NextFile<F>),
    /// Creating or filling the file failed: the disk may be full. The write that needs it tries
    /// again, and reports the failure.
    Failed { number: u64 },
}

#[derive(Debug)]
pub(super) struct NextFile<F> {
    number: u64,
    file: F,
    capacity_bytes: u64,
    is_recycled: bool,
    /// How far the file has its blocks.
    filled_bytes: u64,
}

impl<F: DiskFile> NextSegment<F> {
    /// Creates the file of segment `number`, or fills one more slice. Returns whether more remains.
    ///
    /// # Errors
    /// If a rename, removal or sync of names failed. A file that cannot be created or filled is
    /// removed, without an error.
    pub(super) fn prepare_slice<D: Disk<File = F>>(
        &mut self,
        disk: &mut D,
        segment_pool: &mut SegmentPool,
        number: u64,
    ) -> Result<bool, StorageError> {
        match self {
            NextSegment::Created(next) if next.number == number => {
                if next.filled_bytes >= next.capacity_bytes {
                    return Ok(false);
                }
                let to = next.capacity_bytes.min(next.filled_bytes + SLICE_BYTES);
                if next.file.fill(next.filled_bytes, to).and_then(|()| next.file.sync()).is_err() {
                    *self = NextSegment::Failed { number };
                    remove(disk, number)?;
                    return Ok(false);
                }
                next.filled_bytes = to;
                Ok(to < next.capacity_bytes)
            }
            NextSegment::Failed { number: failed } if *failed == number => Ok(false),
            _ => self.create(disk, segment_pool, number),
        }
    }

    fn create<D: Disk<File = F>>(
        &mut self,
        disk: &mut D,
        segment_pool: &mut SegmentPool,
        number: u64,
    ) -> Result<bool, StorageError> {
        let name = segment::next_name(number);
        let new_file: SegmentFile<F> = segment_pool.allocate(0);
        let (capacity_bytes, is_recycled) = (new_file.capacity_bytes, new_file.is_recycled());
        let file = match new_file.source {
            FileSource::Recycled(spare) => claim_spare(disk, &spare, &name)?,
            _ => match disk.create(&name, capacity_bytes) {
                Ok(file) => file,
                Err(_) => {
                    *self = NextSegment::Failed { number };
                    remove_if_present(disk, &name)?;
                    return Ok(false);
                }
            },
        };
        if !is_recycled {
            sync_directory(disk, &name)?;
        }
        // A recycled file has its blocks.
        let filled_bytes = if is_recycled { capacity_bytes } else { 0 };
        *self = NextSegment::Created(NextFile {
            number,
            file,
            capacity_bytes,
            is_recycled,
            filled_bytes,
        });
        Ok(!is_recycled)
    }

    /// Takes the file, if it exists and is long enough, filled or not. A shorter one is removed.
    pub(super) fn take<D: Disk<File = F>>(
        &mut self,
        disk: &mut D,
        number: u64,
        needed_bytes: usize,
    ) -> Result<Option<SegmentFile<F>>, StorageError> {
        match std::mem::replace(self, NextSegment::Missing) {
            NextSegment::Created(next) if next.number == number => {
                if next.capacity_bytes >= needed_bytes as u64 {
                    let source =
                        FileSource::Prepared { file: next.file, is_recycled: next.is_recycled };
                    return Ok(Some(SegmentFile { source, capacity_bytes: next.capacity_bytes }));
                }
                remove(disk, number)?;
                Ok(None)
            }
            _ => Ok(None),
        }
    }
}

fn remove<D: Disk>(disk: &mut D, number: u64) -> Result<(), StorageError> {
    let name = segment::next_name(number);
    disk.remove(&name).map_err(|error| StorageError::io("remove", &name, &error))
}

fn remove_if_present<D: Disk>(disk: &mut D, name: &str) -> Result<(), StorageError> {
    let names = disk.list().map_err(|error| StorageError::io("list", "the data folder", &error))?;
    if names.iter().any(|there| there == name) {
        disk.remove(name).map_err(|error| StorageError::io("remove", name, &error))?;
    }
    Ok(())
}

fn sync_directory<D: Disk>(disk: &mut D, name: &str) -> Result<(), StorageError> {
    disk.sync_directory().map_err(|error| StorageError::io("sync the folder of", name, &error))
}

/// During recovery: if the prepared file has become the segment after `last`, gives it its final
/// name, durably. Returns whether it has.
pub(super) fn finish_rename<D: Disk>(
    disk: &mut D,
    last: &LoadedSegment,
) -> Result<bool, StorageError> {
    let number = last.next_number()?;
    let name = segment::next_name(number);
    let names = disk.list().map_err(|error| StorageError::io("list", "the data folder", &error))?;
    if !names.contains(&name) || !holds_frames(disk, &name, last)? {
        return Ok(false);
    }
    disk.rename(&name, &segment::name(number))
        .map_err(|error| StorageError::io("rename", &name, &error))?;
    sync_directory(disk, &name)?;
    Ok(true)
}

/// Removes the prepared files that have not become segments.
pub(super) fn remove_unused<D: Disk>(disk: &mut D) -> Result<(), StorageError> {
    let names = disk.list().map_err(|error| StorageError::io("list", "the data folder", &error))?;
    for name in names.iter().filter(|name| segment::number_of(name, segment::NEXT_SUFFIX).is_some())
    {
        disk.remove(name).map_err(|error| StorageError::io("remove", name, &error))?;
    }
    Ok(())
}

/// Whether the file holds frames of the segment after `last` besides its header. Whether they
/// continue the chain is checked when the segment is loaded.
fn holds_frames<D: Disk>(
    disk: &mut D,
    name: &str,
    last: &LoadedSegment,
) -> Result<bool, StorageError> {
    let bytes = super::loaded_segment::read_file(disk, name)?;
    let tag = segment::tag(&last.segment_header.identity, last.next_number()?);
    let is_own = |at: usize| {
        frame::peek(&bytes[at..]).is_some_and(|id| {
            (id.group, id.tag) == (last.frame_header.group, tag)
                && id.sequence > last.frame_header.sequence
        })
    };
    let is_frame = |at: usize| {
        is_own(at)
            && frame::parse(&bytes[at..])
                .is_ok_and(|frame| frame.header.kind != FrameKind::SegmentHeader)
    };
    Ok((0..bytes.len()).step_by(ALIGNMENT).any(is_frame))
}
