//! Looks at a data folder without changing it: what its log and its snapshots hold, what is
//! damaged, and what opening it would lead to. Damaged files are read as far as they go, and again
//! from where they make sense.
//!
//! The folder is not locked, so a node may be running on it: what is read then is a picture in
//! motion, in which the last frames may look torn and a file may be gone by the time it is looked
//! at.

pub(super) mod overlay;
mod segment;

use std::fs::{self, TryLockError};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

pub use segment::{Damage, FrameContent, FrameReport, OpeningReport, Rest, SegmentReport};

use super::diverged::{self, DivergedMark};
use super::real_disk::{LOCK_NAME, RealFile};
use super::snapshot::{self, Scanner, Step};
use super::special_file::open_to_read;
use super::survivors::{self, DataLoss, Survivors};
use super::synced::{self, SyncedMark};
use super::{DiskFile, Log, LogOptions, Recovered, StorageError};
use crate::types::{ClusterId, GroupId, Identity, Saved, SnapshotMeta};
use overlay::Overlay;

/// A folder to look at.
///
/// ```
/// use kodiak_raft::storage::inspect::Folder;
/// use kodiak_raft::storage::{Log, LogOptions, RealDisk};
/// use kodiak_raft::types::*;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let path = tempfile::tempdir()?;
/// let identity = Identity { cluster: ClusterId(1), group: GroupId(1), node: NodeId(1), disk: DiskId(77) };
/// let founding = Configuration::of_voters([(NodeId(1), Member::default())]);
/// let log = Log::create(RealDisk::open(path.path())?, &identity, &founding, LogOptions::default())?;
/// let folder = Folder::open(path.path())?;
/// assert!(folder.is_locked());
/// let report = folder.segment(&folder.segments()[0])?;
/// assert_eq!(report.opening.unwrap().identity, identity);
/// assert!(folder.recover().is_ok());
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

/// What a snapshot's file holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotReport {
    /// The file's name.
    pub file: String,
    /// Its length.
    pub bytes: u64,
    /// Whose snapshot it is and what it stands for, if its header can be read.
    pub header: Option<(ClusterId, GroupId, SnapshotMeta)>,
    /// How many bytes of the state machine's own are whole.
    pub content_bytes: u64,
    /// Where and why it is not what was written, if so.
    pub damage: Option<Damage>,
}

impl Folder {
    /// Lists the folder. Whether it is in use is found by trying its lock, in a way that does not
    /// keep a node that starts at the same moment from it for longer than the trial takes.
    ///
    /// # Errors
    /// Whatever the system says, with the folder's name.
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

    /// Whether a node runs on the folder.
    #[must_use]
    pub fn is_locked(&self) -> bool {
        self.is_locked
    }

    /// Names of the segments, the first one first.
    #[must_use]
    pub fn segments(&self) -> Vec<String> {
        self.with_suffix(".log")
    }

    /// Names of the snapshots, the oldest first.
    #[must_use]
    pub fn snapshots(&self) -> Vec<String> {
        self.names.iter().filter(|name| snapshot::index_of(name).is_some()).cloned().collect()
    }

    /// Names of files that hold nothing but room for segments to come. (One that was made ready for
    /// the next segment may have become it, if a crash has undone its last renaming:
    /// [`Folder::recover`] knows.)
    #[must_use]
    pub fn spares(&self) -> Vec<String> {
        [self.with_suffix(super::segment::AHEAD), self.with_suffix(".spare")].concat()
    }

    /// Names of segments, snapshots and marks that were being made.
    #[must_use]
    pub fn unfinished(&self) -> Vec<String> {
        let is_new_segment = |name: &String| super::segment::number_of(name, ".new").is_some();
        let is_new = |name: &&String| {
            is_new_segment(name) || snapshot::is_unfinished(name) || diverged::is_unfinished(name)
        };
        self.names.iter().filter(is_new).cloned().collect()
    }

    fn with_suffix(&self, suffix: &str) -> Vec<String> {
        self.names
            .iter()
            .filter(|name| super::segment::number_of(name, suffix).is_some())
            .cloned()
            .collect()
    }

    /// What `SYNCED` says is on the disk; `None` if it says nothing.
    ///
    /// # Errors
    /// Whatever the system says, with the file's name.
    pub fn synced(&self) -> Result<Option<SyncedMark>, StorageError> {
        synced::read(&mut Overlay::new(&self.path, &self.names))
    }

    /// What `DIVERGED` says: whether a snapshot of this folder may hold a state that differs from
    /// that of a majority of the voters. `None` if there is no such file.
    ///
    /// # Errors
    /// Whatever the system says, with the file's name.
    pub fn diverged(&self) -> Result<Option<DivergedMark>, StorageError> {
        diverged::find(&mut Overlay::new(&self.path, &self.names), &self.names)
    }

    /// Reads a segment, which takes its file's length of memory.
    ///
    /// # Errors
    /// Whatever the system says, with the file's name. Damage is no error: the report tells of it.
    pub fn segment(&self, file: &str) -> io::Result<SegmentReport> {
        let mut bytes = Vec::new();
        open_to_read(&self.path.join(file))
            .and_then(|mut opened| opened.read_to_end(&mut bytes))
            .map_err(|error| with_name(file, &error))?;
        Ok(SegmentReport::of(file, bytes.into()))
    }

    /// Reads a snapshot from end to end, a piece at a time.
    ///
    /// # Errors
    /// Whatever the system says, with the file's name. Damage is no error: the report tells of it.
    pub fn snapshot(&self, file: &str) -> io::Result<SnapshotReport> {
        let opened =
            open_to_read(&self.path.join(file)).map_err(|error| with_name(file, &error))?;
        let opened = RealFile::read_only(opened);
        let bytes = opened.len().map_err(|error| with_name(file, &error))?;
        let (mut scanner, mut content_bytes) = (Scanner::default(), 0);
        let damage = loop {
            match scanner.step(&opened, bytes) {
                Ok(Step::Header) => {}
                Ok(Step::Block) => content_bytes += scanner.data().len() as u64,
                Ok(Step::End) if scanner.position() == bytes => break None,
                Ok(Step::End) => {
                    break Some((scanner.position(), "bytes follow the trailer".to_owned()));
                }
                Ok(Step::More) => {
                    break Some((
                        scanner.position(),
                        "the file ends before its trailer".to_owned(),
                    ));
                }
                Err(trouble) => match trouble.of(file) {
                    StorageError::Corrupt { offset, what, .. } => break Some((offset, what)),
                    StorageError::Unsupported { version, .. } => {
                        break Some((0, format!("format {version} is not known")));
                    }
                    error => return Err(io::Error::other(error)),
                },
            }
        };
        let header =
            scanner.header().map(|header| (header.cluster, header.group, header.meta.clone()));
        let is_misplaced = header
            .as_ref()
            .is_some_and(|(_, _, meta)| snapshot::index_of(file) != Some(meta.index));
        let damage = damage.or_else(|| {
            is_misplaced.then(|| (0, "the file has another snapshot's name".to_owned()))
        });
        let damage = damage.map(|(offset, what)| Damage { offset, what });
        Ok(SnapshotReport { file: file.to_owned(), bytes, header, content_bytes, damage })
    }

    /// What opening the log would lead to. It is done for real, by the code that a node starts
    /// with, on a copy in memory of whatever it changes.
    ///
    /// # Errors
    /// Those of [`Log::open`].
    pub fn recover(&self) -> Result<Recovered, StorageError> {
        self.open_log(LogOptions::default()).map(|(_, recovered)| recovered)
    }

    /// What disaster recovery would take: everything that a node would start with or, if it would
    /// refuse to start, all that is whole. Nothing is changed but a copy in memory.
    ///
    /// # Errors
    /// Those of [`Log::open`], if nothing is whole.
    pub fn surviving(&self) -> Result<(Identity, Saved, Option<DataLoss>), StorageError> {
        let Survivors { identity, saved, loss, .. } = self.open_survivors(LogOptions::default())?;
        Ok((identity, saved, loss))
    }

    pub(super) fn open_survivors(
        &self,
        options: LogOptions,
    ) -> Result<Survivors<Overlay>, StorageError> {
        let refused = match self.open_log(options) {
            Ok((_, Recovered { lacks_snapshot: true, damaged_snapshots, .. })) => {
                // A node has others to ask.
                let damaged = damaged_snapshots.into_iter().next();
                damaged.map_or(StorageError::NoLog, |damaged| {
                    StorageError::corrupt(&damaged.file, damaged.offset, damaged.what)
                })
            }
            Ok((log, Recovered { identity, saved, .. })) => {
                return Ok(Survivors { identity, saved, loss: None, log: Some(log) });
            }
            Err(StorageError::NoLog) => return Err(StorageError::NoLog),
            Err(refused) => refused,
        };
        survivors::take(Overlay::new(&self.path, &self.names), options)?.ok_or(refused)
    }

    /// Opens the log; whatever that changes stays in memory.
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
