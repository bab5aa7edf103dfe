//! Disaster recovery: a new cluster from the data folder of one node of a lost cluster.
//!
//! If a majority is permanently lost, it is unknown what it had acknowledged. What is left can only
//! bootstrap a *new* cluster, with this node as its only voter and with an id of its own, so that
//! no member of the old cluster can talk to it.
//!
//! ```text
//! old   snapshot ..40, configuration {1 2 3}   41 42 [configuration {1 2 4}] 44 45     term 7
//! new   snapshot ..40, configuration {1}       41 42 [no-op]                 44 45     term 8
//! ```
//!
//! Commands keep their indexes, so the state machine, and a client that remembers an index, see
//! what they would have seen. Sessions do too. A session that the old cluster opened in a lost
//! entry never equals one that the new cluster opens at the same index
//! ([`SessionId::opened`](crate::types::SessionId::opened)). Old configurations are not copied: a
//! node that joins the new cluster must never believe in members that the new cluster did not have.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use super::inspect::Folder;
use super::inspect::overlay::Overlay;
use super::real_disk::{LOCK_NAME, open_snapshot};
use super::recoverable_log::{DataLoss, RecoverableLog};
use super::special_file::open_to_read;
use super::{Log, LogOptions, RealDisk, SnapshotSource, StorageError};
use crate::core::Fetch;
use crate::types::{
    Configuration, Entry, HardState, Identity, Index, Member, Payload, SnapshotMeta, Term, Write,
};

/// No node campaigns in a higher term.
const TERM_MAX: u64 = 1 << 62;

/// The size of the pieces in which entries are copied, in bytes.
const BATCH_BYTES: usize = 1 << 20;

/// From which folder a new cluster is made, and into which.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct DisasterRecovery {
    /// The folder of a node of the lost cluster. It is only read.
    pub from: PathBuf,
    /// The folder to create. It must not exist, or be empty.
    pub into: PathBuf,
    /// The new node's identity. Cluster and disk must be new; the group is ignored, because the new
    /// log keeps that of the old one.
    pub identity: Identity,
    /// Where other nodes will reach the new node, `host:port`.
    pub address: String,
    /// Settings of the new log.
    pub log: LogOptions,
}

/// What disaster recovery has copied.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RecoveredCluster {
    /// The identity of the old node.
    pub old_identity: Identity,
    /// The identity of the new node.
    pub identity: Identity,
    /// The configuration of the old cluster, as of the last entry.
    pub configuration: Configuration,
    /// The index of the last entry copied.
    pub last_index: Index,
    /// The term of the last entry copied.
    pub last_term: Term,
    /// The new node's term, one above `last_term`. The old node's may have been higher, but no
    /// member of the new cluster knows it.
    pub term: Term,
    /// What is known to be lost, if the old log is damaged.
    pub loss: Option<DataLoss>,
}

/// Why no cluster was recovered. The old folder is unchanged, and there is no new one.
///
/// The text does not repeat the error's cause: print both with
/// [`error_chain`](crate::error_chain()).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DisasterRecoveryError {
    /// A node runs on the old folder.
    #[error(
        "a node runs on {}: stop it first, and be sure that the majority of its cluster is \
         permanently lost",
        .0.display()
    )]
    InUse(PathBuf),
    /// The old folder's log cannot be opened.
    #[error(
        "nothing can be recovered from {} (recover from the folder of another member, the one \
         whose log ends last according to 'raft inspect', or from a backup)",
        folder.display()
    )]
    OldLog {
        /// The folder.
        folder: PathBuf,
        /// What is wrong with it.
        source: StorageError,
    },
    /// The last entry has a term after which no node may campaign.
    #[error(
        "nothing can be recovered from {}: its last entry has term {term}, and no term may be \
         above {TERM_MAX}. Recover from the folder of another member, or from a backup",
        folder.display()
    )]
    TermsExhausted {
        /// The folder.
        folder: PathBuf,
        /// The last entry's term.
        term: Term,
    },
    /// The new folder holds something.
    #[error("{} is not empty: give a folder that does not exist yet", .0.display())]
    NotEmpty(PathBuf),
    /// An earlier recovery was interrupted.
    #[error(
        "{} was left by a recovery that was interrupted: remove it and recover again",
        .0.display()
    )]
    Unfinished(PathBuf),
    /// The new folder cannot be written.
    #[error(
        "cannot write the new log in {} (remove that folder and recover again)",
        folder.display()
    )]
    NewLog {
        /// The unfinished folder.
        folder: PathBuf,
        /// Why not.
        source: StorageError,
    },
    /// The system refused to list, create or rename a file or a folder.
    #[error("cannot use {}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
}

impl DisasterRecovery {
    /// A new cluster from the folder `from` in the folder `into`, as `identity` at `address`.
    #[must_use]
    pub fn new(
        from: impl Into<PathBuf>,
        into: impl Into<PathBuf>,
        identity: Identity,
        address: impl Into<String>,
    ) -> DisasterRecovery {
        DisasterRecovery {
            from: from.into(),
            into: into.into(),
            identity,
            address: address.into(),
            log: LogOptions::default(),
        }
    }

    /// Sets the settings of the new log.
    #[must_use]
    pub fn log(mut self, options: LogOptions) -> DisasterRecovery {
        self.log = options;
        self
    }

    /// Creates the new folder.
    ///
    /// It gets its name only once it is whole and durable, so no node can start on a part of it.
    ///
    /// # Errors
    /// See [`DisasterRecoveryError`].
    pub fn run(&self) -> Result<RecoveredCluster, DisasterRecoveryError> {
        let _lock = self.lock_old()?;
        let part = self.temporary_folder()?;
        let old = |source| DisasterRecoveryError::OldLog { folder: self.from.clone(), source };
        let folder = Folder::open(&self.from).map_err(|error| io_error(&self.from, error))?;
        let RecoverableLog { identity: old_identity, saved, loss, mut log } =
            folder.open_recoverable(self.log).map_err(old)?;
        let identity = Identity { group: old_identity.group, ..self.identity };
        let initial_configuration = single_member(&identity, &self.address, saved.configuration());
        let (last_index, last_term) = (saved.terms.last_index(), saved.terms.last_term());
        let term = self.next_term(last_term)?;
        let new = |source| DisasterRecoveryError::NewLog { folder: part.clone(), source };

        let disk = RealDisk::open(&part).map_err(|error| io_error(&part, error))?;
        let mut copy =
            Log::create(disk, &identity, &initial_configuration, self.log).map_err(new)?;
        let hard_state = Some(HardState { term, ..HardState::default() });
        copy.append(&Write { hard_state, ..Write::default() }).map_err(new)?;
        if let Some(meta) = &saved.snapshot {
            let content = open_snapshot(&self.from, meta.index).map_err(old)?;
            let meta = SnapshotMeta { configuration: initial_configuration, ..meta.clone() };
            copy.import_snapshot(&meta, SnapshotSource::new(content)).map_err(new)?;
        }
        while let Some(log) = log.as_mut().filter(|_| copy.last_index() < last_index) {
            let entries = next_entries(log, copy.last_index().next()).map_err(old)?;
            copy.append(&Write { entries: entries.into(), ..Write::default() }).map_err(new)?;
        }
        copy.sync().and_then(|()| copy.write_mark()).map_err(new)?;
        drop(copy);
        self.rename_into_place(&part)?;
        Ok(RecoveredCluster {
            old_identity,
            identity,
            configuration: saved.configuration().clone(),
            last_index,
            last_term,
            term,
            loss,
        })
    }

    /// The term after `last`.
    fn next_term(&self, last: Term) -> Result<Term, DisasterRecoveryError> {
        let next = last.0.checked_add(1).map(Term).filter(|term| term.0 <= TERM_MAX);
        next.ok_or_else(|| DisasterRecoveryError::TermsExhausted {
            folder: self.from.clone(),
            term: last,
        })
    }

    /// Locks the old folder, so that no node starts on it meanwhile. Writes nothing.
    fn lock_old(&self) -> Result<Option<File>, DisasterRecoveryError> {
        let path = self.from.join(LOCK_NAME);
        let lock = match open_to_read(&path) {
            Ok(lock) => lock,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(io_error(&path, error)),
        };
        match lock.try_lock_shared() {
            Ok(()) => Ok(Some(lock)),
            Err(TryLockError::WouldBlock) => Err(DisasterRecoveryError::InUse(self.from.clone())),
            Err(TryLockError::Error(error)) => Err(io_error(&path, error)),
        }
    }

    /// The name of the new folder until it is whole.
    fn temporary_folder(&self) -> Result<PathBuf, DisasterRecoveryError> {
        match fs::read_dir(&self.into) {
            Ok(mut entries) => {
                if entries.next().is_some() {
                    return Err(DisasterRecoveryError::NotEmpty(self.into.clone()));
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(io_error(&self.into, error)),
        }
        let mut name = self.into.file_name().unwrap_or_default().to_owned();
        name.push(".recovering");
        let part = self.into.with_file_name(name);
        if part.exists() { Err(DisasterRecoveryError::Unfinished(part)) } else { Ok(part) }
    }

    fn rename_into_place(&self, part: &Path) -> Result<(), DisasterRecoveryError> {
        // An empty folder may be renamed over.
        fs::rename(part, &self.into).map_err(|error| io_error(&self.into, error))?;
        let parent = self
            .into
            .parent()
            .filter(|parent| !parent.as_os_str().is_empty())
            .unwrap_or(Path::new("."));
        File::open(parent)
            .and_then(|parent| parent.sync_all())
            .map_err(|error| io_error(parent, error))
    }
}

/// The configuration with this node as the only member.
fn single_member(identity: &Identity, address: &str, old: &Configuration) -> Configuration {
    let member = Member { disk: identity.disk, address: address.to_owned(), ..Member::default() };
    // Entries of the old cluster may need its feature level.
    let initial_configuration =
        Configuration::of_voters([(identity.node, member)]).at_feature_level(old.feature_level);
    // Machines of the old cluster will join the new one. They get new ids, so that a new node is
    // not mistaken for an old one.
    let highest_id = initial_configuration.highest_id.max(old.highest_id);
    Configuration { highest_id, ..initial_configuration }
}

/// Reads entries from `from` on, at least one. No-ops take the place of configurations.
fn next_entries(log: &mut Log<Overlay>, from: Index) -> Result<Vec<Entry>, StorageError> {
    let mut entries =
        log.read(&Fetch { id: 0, from, to: Index(u64::MAX), limit_bytes: BATCH_BYTES })?;
    assert!(!entries.is_empty(), "entry {from} is before the log's last one");
    for entry in &mut entries {
        if matches!(entry.payload, Payload::Configuration(_)) {
            entry.payload = Payload::Noop;
        }
    }
    Ok(entries)
}

fn io_error(path: &Path, source: io::Error) -> DisasterRecoveryError {
    DisasterRecoveryError::Io { path: path.to_owned(), source }
}
