//! Where segments' files come from and go to: the file of a segment that is gone is kept and
//! becomes a later segment's, so that a log in steady use neither makes files nor asks the file
//! system for blocks.
//!
//! What the file held stays in it. That is harmless: a frame fits only in the segment whose tag it
//! carries, after the frame whose checksum it names.

use super::contents::SegmentInfo;
use super::segment::{self, number_of};
use super::{Disk, DiskFile, LogOptions, StorageError};

/// How many files are kept at most.
const SPARES: usize = 2;

const SUFFIX: &str = ".spare";

#[derive(Debug)]
struct Spare {
    name: String,
    bytes: u64,
}

/// Files that await another life.
#[derive(Debug)]
pub(super) struct SegmentPool {
    files: Vec<Spare>,
    /// How long they must be.
    segment_bytes: u64,
}

/// The file that a new segment will have.
#[derive(Debug)]
pub(super) struct Room<F> {
    pub(super) source: Source<F>,
    pub(super) capacity_bytes: u64,
}

/// Where it comes from.
#[derive(Debug)]
pub(super) enum Source<F> {
    /// It is still to be made.
    Nowhere,
    /// A spare.
    Spare(String),
    /// It was made ready for this segment, and has its name for that.
    Prepared { file: F, is_recycled: bool },
}

impl SegmentPool {
    /// Finds the files kept. Those of another length than segments have now, and those that are too
    /// many, go.
    pub(super) fn find<D: Disk>(
        disk: &mut D,
        options: &LogOptions,
    ) -> Result<SegmentPool, StorageError> {
        let mut segment_pool =
            SegmentPool { files: Vec::new(), segment_bytes: options.segment_bytes() };
        let names =
            disk.list().map_err(|error| StorageError::io("list", "the data folder", &error))?;
        for name in names.into_iter().filter(|name| number_of(name, SUFFIX).is_some()) {
            let file = disk.open(&name).map_err(|error| StorageError::io("open", &name, &error))?;
            let bytes = file.len().map_err(|error| StorageError::io("measure", &name, &error))?;
            if bytes == segment_pool.segment_bytes && segment_pool.files.len() < SPARES {
                segment_pool.files.push(Spare { name, bytes });
            } else {
                disk.remove(&name).map_err(|error| StorageError::io("remove", &name, &error))?;
            }
        }
        Ok(segment_pool)
    }

    /// Gives up a segment that is no longer needed. Its file must not be written before the folder
    /// has been synced: until then a crash may give it its old name back.
    pub(super) fn retire<D: Disk>(
        &mut self,
        disk: &mut D,
        segment: &SegmentInfo,
    ) -> Result<(), StorageError> {
        let name = segment::name(segment.number);
        // A file that was hardly used lacks the blocks that make it worth keeping.
        let is_worth_it = segment.capacity_bytes == self.segment_bytes
            && segment.used_bytes >= segment.capacity_bytes / 4 * 3
            && self.files.len() < SPARES;
        if !is_worth_it {
            return disk.remove(&name).map_err(|error| StorageError::io("remove", &name, &error));
        }
        let spare = format!("{:016x}{SUFFIX}", segment.number);
        disk.rename(&name, &spare).map_err(|error| StorageError::io("rename", &name, &error))?;
        self.files.push(Spare { name: spare, bytes: segment.capacity_bytes });
        Ok(())
    }

    /// Chooses the file for a segment that must hold this much.
    pub(super) fn room<F>(&mut self, needed_bytes: usize) -> Room<F> {
        let needed_bytes = needed_bytes as u64;
        match self.files.pop_if(|spare| spare.bytes >= needed_bytes) {
            Some(Spare { name, bytes }) => {
                Room { source: Source::Spare(name), capacity_bytes: bytes }
            }
            None => {
                let capacity_bytes = self.segment_bytes.max(needed_bytes.next_multiple_of(4096));
                Room { source: Source::Nowhere, capacity_bytes }
            }
        }
    }
}

impl<F: DiskFile> Room<F> {
    /// Whether the file had another life.
    pub(super) fn is_recycled(&self) -> bool {
        matches!(self.source, Source::Spare(_) | Source::Prepared { is_recycled: true, .. })
    }

    /// Makes a segment that begins with `content`. It has its name only once the content is on
    /// disk: who finds the name finds the content. The name itself is durable on return, or, if the
    /// file was made ready for this segment, the one that it had for that.
    pub(super) fn make<D: Disk<File = F>>(
        self,
        disk: &mut D,
        number: u64,
        content: &[u8],
    ) -> Result<F, StorageError> {
        assert!(content.len() as u64 <= self.capacity_bytes, "the file was chosen for its content");
        let name = segment::name(number);
        let (is_ahead, is_new) = (
            matches!(self.source, Source::Prepared { .. }),
            matches!(self.source, Source::Nowhere),
        );
        let (before, mut file) = match self.source {
            Source::Prepared { file, .. } => (segment::prepared_name(number), file),
            Source::Spare(spare) => {
                let temporary = segment::temporary_name(number);
                let file = take_over(disk, &spare, &temporary)?;
                (temporary, file)
            }
            Source::Nowhere => {
                let temporary = segment::temporary_name(number);
                let file = disk
                    .create(&temporary, self.capacity_bytes)
                    .map_err(|error| StorageError::io("create", &temporary, &error))?;
                (temporary, file)
            }
        };
        if is_new {
            // The segment before may have got its name without a sync: then it must not be missing
            // where this one is found.
            disk.sync_directory()
                .map_err(|error| StorageError::io("sync the folder of", &before, &error))?;
        }
        file.write_at(content, 0).map_err(|error| StorageError::io("write", &before, &error))?;
        file.sync().map_err(|error| StorageError::io("sync", &before, &error))?;
        disk.rename(&before, &name).map_err(|error| StorageError::io("rename", &before, &error))?;
        if !is_ahead {
            disk.sync_directory()
                .map_err(|error| StorageError::io("sync the folder of", &name, &error))?;
        }
        Ok(file)
    }
}

/// Gives a spare another name, durably, before a byte of it is written. If it kept its own, an
/// attempt that fails would leave frames with the coming segment's tag in a spare, and the next
/// attempt at the same segment could take them for its own.
pub(super) fn take_over<D: Disk>(
    disk: &mut D,
    spare: &str,
    name: &str,
) -> Result<D::File, StorageError> {
    disk.rename(spare, name).map_err(|error| StorageError::io("rename", spare, &error))?;
    disk.sync_directory().map_err(|error| StorageError::io("sync the folder of", name, &error))?;
    disk.open(name).map_err(|error| StorageError::io("open", name, &error))
}
