//! Recycles segments' files: the file of a segment that is dropped becomes a later segment's.
//!
//! A log in steady use then neither creates files nor asks the file system for blocks. The old
//! frames stay in the file. They are harmless: a frame belongs only to the segment whose tag it
//! carries, after the frame whose checksum it names.

use super::contents::SegmentInfo;
use super::segment::{self, number_of};
use super::{Disk, DiskFile, LogOptions, StorageError};

/// How many spare files are kept at most.
const SPARE_FILES_MAX: usize = 2;

const SUFFIX: &str = ".spare";

#[derive(Debug)]
struct SpareFile {
    name: String,
    bytes: u64,
}

/// Files of dropped segments, kept for reuse.
#[derive(Debug)]
pub(super) struct SegmentPool {
    files: Vec<SpareFile>,
    /// The length of each, in bytes.
    segment_bytes: u64,
}

/// The file chosen for a new segment.
#[derive(Debug)]
pub(super) struct SegmentFile<F> {
    pub(super) source: FileSource<F>,
    pub(super) capacity_bytes: u64,
}

/// Where a new segment's file comes from.
#[derive(Debug)]
pub(super) enum FileSource<F> {
    /// It must be created.
    New,
    /// The spare file of this name.
    Recycled(String),
    /// It was prepared for this segment, under the name `.next`.
    Prepared { file: F, is_recycled: bool },
}

impl SegmentPool {
    /// Finds the spare files. Those of another length than the options say, and those above the
    /// limit, are removed.
    pub(super) fn find<D: Disk>(
        disk: &mut D,
        options: &LogOptions,
    ) -> Result<SegmentPool, StorageError> {
        let mut segment_pool =
            SegmentPool { files: Vec::new(), segment_bytes: options.file_bytes() };
        let names =
            disk.list().map_err(|error| StorageError::io("list", "the data folder", &error))?;
        for name in names.into_iter().filter(|name| number_of(name, SUFFIX).is_some()) {
            let file = disk.open(&name).map_err(|error| StorageError::io("open", &name, &error))?;
            let bytes = file.len().map_err(|error| StorageError::io("measure", &name, &error))?;
            if bytes == segment_pool.segment_bytes && segment_pool.files.len() < SPARE_FILES_MAX {
                segment_pool.files.push(SpareFile { name, bytes });
            } else {
                disk.remove(&name).map_err(|error| StorageError::io("remove", &name, &error))?;
            }
        }
        Ok(segment_pool)
    }

    /// Keeps the file of a dropped segment for reuse, or removes it.
    ///
    /// The caller must sync the folder before the file is written: until then a crash may give it
    /// its old name back.
    pub(super) fn recycle_or_remove<D: Disk>(
        &mut self,
        disk: &mut D,
        segment: &SegmentInfo,
    ) -> Result<(), StorageError> {
        let name = segment::name(segment.number);
        // A file that was little used lacks the blocks for which it would be kept.
        let is_recyclable = segment.capacity_bytes == self.segment_bytes
            && segment.used_bytes >= segment.capacity_bytes / 4 * 3
            && self.files.len() < SPARE_FILES_MAX;
        if !is_recyclable {
            return disk.remove(&name).map_err(|error| StorageError::io("remove", &name, &error));
        }
        let spare = format!("{:016x}{SUFFIX}", segment.number);
        disk.rename(&name, &spare).map_err(|error| StorageError::io("rename", &name, &error))?;
        self.files.push(SpareFile { name: spare, bytes: segment.capacity_bytes });
        Ok(())
    }

    /// Chooses the file for a segment that must hold `needed_bytes`.
    pub(super) fn allocate<F>(&mut self, needed_bytes: usize) -> SegmentFile<F> {
        let needed_bytes = needed_bytes as u64;
        match self.files.pop_if(|spare| spare.bytes >= needed_bytes) {
            Some(SpareFile { name, bytes }) => {
                SegmentFile { source: FileSource::Recycled(name), capacity_bytes: bytes }
            }
            None => {
                let capacity_bytes = self.segment_bytes.max(needed_bytes.next_multiple_of(4096));
                SegmentFile { source: FileSource::New, capacity_bytes }
            }
        }
    }
}

impl<F: DiskFile> SegmentFile<F> {
    /// Whether the file was another segment before.
    pub(super) fn is_recycled(&self) -> bool {
        matches!(
            self.source,
            FileSource::Recycled(_) | FileSource::Prepared { is_recycled: true, .. }
        )
    }

    /// Creates a segment that begins with `content`.
    ///
    /// The file gets the segment's name only once the content is durable. On return that name is
    /// durable or, if the file was prepared, its name `.next`.
    pub(super) fn create<D: Disk<File = F>>(
        self,
        disk: &mut D,
        number: u64,
        content: &[u8],
    ) -> Result<F, StorageError> {
        assert!(content.len() as u64 <= self.capacity_bytes, "the file was chosen for its content");
        let name = segment::name(number);
        let (is_prepared, is_new) = (
            matches!(self.source, FileSource::Prepared { .. }),
            matches!(self.source, FileSource::New),
        );
        let (before, mut file) = match self.source {
            FileSource::Prepared { file, .. } => (segment::next_name(number), file),
            FileSource::Recycled(spare) => {
                let temporary = segment::temporary_name(number);
                let file = claim_spare(disk, &spare, &temporary)?;
                (temporary, file)
            }
            FileSource::New => {
                let temporary = segment::temporary_name(number);
                let file = disk
                    .create(&temporary, self.capacity_bytes)
                    .map_err(|error| StorageError::io("create", &temporary, &error))?;
                (temporary, file)
            }
        };
        if is_new {
            // The name of the segment before may not be durable. A crash must not leave this one
            // without that one.
            disk.sync_directory()
                .map_err(|error| StorageError::io("sync the folder of", &before, &error))?;
        }
        file.write_at(content, 0).map_err(|error| StorageError::io("write", &before, &error))?;
        file.sync().map_err(|error| StorageError::io("sync", &before, &error))?;
        disk.rename(&before, &name).map_err(|error| StorageError::io("rename", &before, &error))?;
        if !is_prepared {
            disk.sync_directory()
                .map_err(|error| StorageError::io("sync the folder of", &name, &error))?;
        }
        Ok(file)
    }
}

/// Renames a spare file, durably, before a byte of it is written.
///
/// Under its old name, a failed attempt would leave frames with the new segment's tag in a spare
/// file, and the next attempt at the same segment could take them for its own.
pub(super) fn claim_spare<D: Disk>(
    disk: &mut D,
    spare: &str,
    name: &str,
) -> Result<D::File, StorageError> {
    disk.rename(spare, name).map_err(|error| StorageError::io("rename", spare, &error))?;
    disk.sync_directory().map_err(|error| StorageError::io("sync the folder of", name, &error))?;
    disk.open(name).map_err(|error| StorageError::io("open", name, &error))
}
