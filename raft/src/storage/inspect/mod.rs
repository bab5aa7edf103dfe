//! Inspects a data folder without changing it.
//!
//! The reports show what the log and the snapshots hold, what is damaged, and what opening the log
//! would do. A damaged segment is read on both sides of the damage.
//!
//! The folder is not locked, so a node may be running on it. Its last frames may then look torn,
//! and a file may be removed before it is read.

pub(super) mod overlay;
mod segment;

use std::fs::{self, TryLockError};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

pub use segment::{Damage, FrameContent, FrameReport, Rest, SegmentHeaderReport, SegmentReport};

use super::diverged::{self, DivergedMark};
use super::real_disk::{LOCK_NAME, RealFile};
use super::recoverable_log::{self, DataLoss, RecoverableLog};
use super::snapshot::{self, Part, Scanner};
use super::special_file::open_to_read;
use super::synced::{self, SyncedMark};
use super::{DiskFile, Log, LogOptions, Recovered, StorageError};
use crate::types::{ClusterId, GroupId, Identity, Saved, SnapshotMeta};
use overlay::Overlay;

/// A data folder to inspect.
///
/// ```
/// use kodiak_raft::storage::inspect::Folder;
/// use kodiak_raft::storage::{Log, LogOptions, RealDisk};
/// use kodiak_raft::types::*;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let path = tempfile::tempdir()?;
/// let disk = RealDisk::open(path.path())?;
/// let identity =
///     Identity { cluster: ClusterId(1), group: GroupId(1), node: NodeId(1), disk: DiskId(77) };
/// let configuration = Configuration::of_voters([(NodeId(1), Member::default())]);
/// let log = Log::create(disk, &identity, &configuration, LogOptions::default())?;
/// let folder = Folder::open(path.path())?;
/// assert!(folder.is_locked());
/// let report = folder.segment(&folder.segments()[0])?;
/// assert_eq!(report.header.unwrap().identity, identity);
/// assert!(folder.dry_run_open().is_ok());
/// # drop(log);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    is_locked: bool,
    /// Sorted.
    names: Vec<String>,
}

/// The recoverable part of a data folder.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Recoverable {
    /// The owner of the log. Node 0 if no segment is left that names it.
    pub identity: Identity,
    /// The recoverable state.
    pub saved: Saved,
    /// What is lost, if the log is damaged.
    pub loss: Option<DataLoss>,
}

/// A snapshot's header.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SnapshotHeaderReport {
    /// The cluster of the snapshot.
    pub cluster: ClusterId,
    /// The group of the snapshot.
    pub group: GroupId,
    /// What the snapshot includes.
    pub meta: SnapshotMeta,
}

/// The content of a snapshot's file.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SnapshotReport {
    /// The file's name.
    pub file: String,
    /// Its length.
    pub bytes: u64,
    /// The snapshot's header, if it can be read.
    pub header: Option<SnapshotHeaderReport>,
    /// How many of the state machine's bytes are whole.
    pub content_bytes: u64,
    /// The first damage, if there is any.
    pub damage: Option<Damage>,
}

impl Folder {
    /// Lists the folder, and tries its lock to find whether a node uses it.
    ///
    /// The trial is short, but a node that starts in that moment may find the folder in use.
    ///
    /// # Errors
    /// Those of the system, with the folder's name.
    pub fn open(path: &Path) -> io::Result<Folder> {
        let named = |error: io::Error| {
            io::Error::new(error.kind(), format!("data folder {}: {error}", path.display()))
        };
        let mut names = Vec::new();
        for entry in fs::read_dir(path).map_err(named)? {
            if let Ok(name) = entry.map_err(named)?.file_name().into_string() {
                names.push(name);
            }
        }
        names.sort();
        let is_locked = match open_to_read(&path.join(LOCK_NAME)) {
            Ok(lock) => matches!(lock.try_lock_shared(), Err(TryLockError::WouldBlock)),
            Err(_) => false,
        };
        Ok(Folder { path: path.to_owned(), is_locked, names })
    }

    /// Whether a node uses the folder.
    #[must_use]
    pub fn is_locked(&self) -> bool {
        self.is_locked
    }

    /// The names of the segments' files, in order.
    #[must_use]
    pub fn segments(&self) -> Vec<String> {
        self.names_ending_in(".log")
    }

    /// The names of the snapshots' files, the oldest first.
    #[must_use]
    pub fn snapshots(&self) -> Vec<String> {
        self.names.iter().filter(|name| snapshot::index_of(name).is_some()).cloned().collect()
    }

    /// The names of files that are kept for later segments.
    ///
    /// A `.next` file may have become a segment if a crash undid its last rename;
    /// [`Folder::dry_run_open`] finds out.
    #[must_use]
    pub fn spare_segment_files(&self) -> Vec<String> {
        [self.names_ending_in(super::segment::NEXT_SUFFIX), self.names_ending_in(".spare")].concat()
    }

    /// The names of unfinished files: segments, snapshots and marks.
    #[must_use]
    pub fn unfinished(&self) -> Vec<String> {
        let is_new_segment = |name: &String| super::segment::number_of(name, ".new").is_some();
        let is_new = |name: &&String| {
            is_new_segment(name) || snapshot::is_unfinished(name) || diverged::is_unfinished(name)
        };
        self.names.iter().filter(is_new).cloned().collect()
    }

    fn names_ending_in(&self, suffix: &str) -> Vec<String> {
        self.names
            .iter()
            .filter(|name| super::segment::number_of(name, suffix).is_some())
            .cloned()
            .collect()
    }

    /// How far `SYNCED` says the log is durable; `None` if it says nothing.
    ///
    /// # Errors
    /// Those of the system, with the file's name.
    pub fn synced(&self) -> Result<Option<SyncedMark>, StorageError> {
        synced::read(&mut Overlay::new(&self.path, &self.names))
    }

    /// The content of `DIVERGED`; `None` if there is no such file.
    ///
    /// It says that a snapshot may hold a state that differs from that of a majority of the voters.
    ///
    /// # Errors
    /// Those of the system, with the file's name.
    pub fn diverged(&self) -> Result<Option<DivergedMark>, StorageError> {
        diverged::find(&mut Overlay::new(&self.path, &self.names), &self.names)
    }

    /// Reads a segment into memory, and reports its content.
    ///
    /// # Errors
    /// Those of the system, with the file's name. Damage is no error: it is in the report.
    pub fn segment(&self, file: &str) -> io::Result<SegmentReport> {
        let mut bytes = Vec::new();
        open_to_read(&self.path.join(file))
            .and_then(|mut opened| opened.read_to_end(&mut bytes))
            .map_err(|error| with_name(file, &error))?;
        Ok(SegmentReport::of(file, bytes.into()))
    }

    /// Reads a whole snapshot, block by block, and reports its content.
    ///
    /// # Errors
    /// Those of the system, with the file's name. Damage is no error: it is in the report.
    pub fn snapshot(&self, file: &str) -> io::Result<SnapshotReport> {
        let opened =
            open_to_read(&self.path.join(file)).map_err(|error| with_name(file, &error))?;
        let opened = RealFile::read_only(opened);
        let bytes = opened.len().map_err(|error| with_name(file, &error))?;
        let (mut scanner, mut content_bytes) = (Scanner::default(), 0);
        let damage = loop {
            match scanner.next_part(&opened, bytes) {
                Ok(Part::Header) => {}
                Ok(Part::Block) => content_bytes += scanner.data().len() as u64,
                Ok(Part::Trailer) if scanner.position() == bytes => break None,
                Ok(Part::Trailer) => {
                    break Some((scanner.position(), "bytes follow the trailer".to_owned()));
                }
                Ok(Part::Incomplete) => {
                    break Some((
                        scanner.position(),
                        "the file ends before its trailer".to_owned(),
                    ));
                }
                Err(error) => match error.into_storage_error(file) {
                    StorageError::Corrupt { offset, what, .. } => break Some((offset, what)),
                    StorageError::Unsupported { version, .. } => {
                        break Some((0, format!("format {version} is unknown")));
                    }
                    error => return Err(io::Error::other(error)),
                },
            }
        };
        let header = scanner.header().map(|header| SnapshotHeaderReport {
            cluster: header.cluster,
            group: header.group,
            meta: header.meta.clone(),
        });
        let is_misplaced = header
            .as_ref()
            .is_some_and(|header| snapshot::index_of(file) != Some(header.meta.index));
        let damage = damage.or_else(|| {
            is_misplaced.then(|| (0, "the file's name is that of another snapshot".to_owned()))
        });
        let damage = damage.map(|(offset, what)| Damage { offset, what });
        Ok(SnapshotReport { file: file.to_owned(), bytes, header, content_bytes, damage })
    }

    /// Opens the log as a node would, on a copy in memory, and returns what recovery has found.
    ///
    /// # Errors
    /// Those of [`Log::open`].
    pub fn dry_run_open(&self) -> Result<Recovered, StorageError> {
        self.open_log(LogOptions::default()).map(|(_, recovered)| recovered)
    }

    /// What disaster recovery would copy, found on a copy in memory.
    ///
    /// That is everything with which a node would start or, if it would refuse to start, everything
    /// that is whole.
    ///
    /// # Errors
    /// Those of [`Log::open`], if nothing is whole.
    pub fn recoverable(&self) -> Result<Recoverable, StorageError> {
        let RecoverableLog { identity, saved, loss, .. } =
            self.open_recoverable(LogOptions::default())?;
        Ok(Recoverable { identity, saved, loss })
    }

    pub(super) fn open_recoverable(
        &self,
        options: LogOptions,
    ) -> Result<RecoverableLog<Overlay>, StorageError> {
        let refused = match self.open_log(options) {
            Ok((_, Recovered { lacks_snapshot: true, damaged_snapshots, .. })) => {
                // A node would ask the others for the snapshot. Here nothing replaces it.
                let damaged = damaged_snapshots.into_iter().next();
                damaged.map_or(StorageError::NoLog, |damaged| {
                    StorageError::corrupt(&damaged.file, damaged.offset, damaged.what)
                })
            }
            Ok((log, Recovered { identity, saved, .. })) => {
                return Ok(RecoverableLog { identity, saved, loss: None, log: Some(log) });
            }
            Err(StorageError::NoLog) => return Err(StorageError::NoLog),
            Err(refused) => refused,
        };
        recoverable_log::open(Overlay::new(&self.path, &self.names), options)?.ok_or(refused)
    }

    /// Opens the log on a copy in memory.
    pub(super) fn open_log(
        &self,
        options: LogOptions,
    ) -> Result<(Log<Overlay>, Recovered), StorageError> {
        Log::open(Overlay::new(&self.path, &self.names), options)
    }
}

fn with_name(file: &str, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{file}: {error}"))
}
