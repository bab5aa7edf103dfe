//! A new cluster out of what one node of a lost one has on its disk.
//!
//! When a majority is gone for ever, nobody can know what it had acknowledged. What is left can
//! only found a *new* cluster: with an id of its own, so that no member of the old one can ever
//! talk to it, and one voter, this node.
//!
//! ```text
//! old   snapshot ..40, configuration {1 2 3}   41 42 [configuration {1 2 4}] 44 45     term 7
//! new   snapshot ..40, configuration {1}       41 42 [nothing]               44 45     term 8, founding configuration {1}
//! ```
//!
//! Commands keep their places, so the state machine (and who remembers an index) sees what it would
//! have seen. So do sessions, and a session that the old cluster opened beyond what is left is none
//! of the new one's, whatever that opens at the same place
//! ([`SessionId::opened`](crate::types::SessionId::opened)). The old configurations do not come
//! along: whoever joins the new cluster must not even for a moment believe in members that it has
//! never had.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use super::inspect::Folder;
use super::inspect::overlay::Overlay;
use super::real_disk::{LOCK_NAME, open_snapshot};
use super::special_file::open_to_read;
use super::survivors::{DataLoss, Survivors};
use super::{Log, LogOptions, RealDisk, SnapshotSource, StorageError};
use crate::core::Fetch;
use crate::types::{
    Configuration, Entry, HardState, Identity, Index, Member, Payload, SnapshotMeta, Term, Write,
};

/// Nobody campaigns above this term.
const TERM_MAX: u64 = 1 << 62;

/// Entries are read and written in pieces of so many bytes.
const BATCH_BYTES: usize = 1 << 20;

/// What is salvaged, and into what.
#[derive(Clone, Debug)]
pub struct DisasterRecovery {
    /// The folder of the lost cluster's node. It is only read.
    pub from: PathBuf,
    /// The folder to be made. It must not exist, or be empty.
    pub into: PathBuf,
    /// Who the new node is. Cluster and disk must be new; the group is the old one's, whatever
    /// stands here.
    pub identity: Identity,
    /// Where the others will reach it, `host:port`.
    pub address: String,
    /// Settings of the new log.
    pub log: LogOptions,
}

/// What has come over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecoveredCluster {
    /// Whose it was.
    pub from: Identity,
    /// Who has it now.
    pub identity: Identity,
    /// The configuration that was in force.
    pub configuration: Configuration,
    /// The last entry, which has come over like all before it.
    pub last: (Index, Term),
    /// The new node's term: the one after the last entry's. The old node's own may have been
    /// higher; nobody of the new cluster has met it.
    pub term: Term,
    /// What is known to be lost of what the folder once held.
    pub loss: Option<DataLoss>,
}

/// Why nothing was salvaged. The old folder is as it was; there is no new one.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DisasterRecoveryError {
    /// A node runs on the old folder.
    #[error("a node runs on {}: stop it first, and be sure that the majority of its cluster is lost for ever", .0.display())]
    InUse(PathBuf),
    /// The old folder's log cannot be opened.
    #[error(
        "nothing can be recovered from {}: {error}. Recover from the folder of another member, the one whose log ends last \
         (look at each with 'raft inspect'), or from a backup", .from.display()
    )]
    Old {
        /// The folder.
        from: PathBuf,
        /// What is wrong with it.
        error: StorageError,
    },
    /// The last entry has a term after which no node may campaign.
    #[error(
        "nothing can be recovered from {}: its last entry has term {term}, and no term may be above {TERM_MAX}. Recover from the \
         folder of another member, or from a backup", .from.display()
    )]
    TermsExhausted {
        /// The folder.
        from: PathBuf,
        /// The last entry's term.
        term: Term,
    },
    /// The new folder holds something.
    #[error("{} is not empty: give a folder that does not exist yet", .0.display())]
    NotEmpty(PathBuf),
    /// An earlier attempt did not come to its end.
    #[error("{} is what an attempt that was cut short has left: remove it and recover again", .0.display())]
    LeftOver(PathBuf),
    /// The new folder cannot be made.
    #[error("cannot write {}: {error}. There is no new node; remove what there is of it and recover again", .into.display())]
    New {
        /// The folder.
        into: PathBuf,
        /// Why not.
        error: StorageError,
    },
    /// The system refused to list, make or rename a folder.
    #[error("{}: {error}", .path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// What it said.
        error: io::Error,
    },
}

impl DisasterRecovery {
    /// Makes the new folder. It has its name only once it is whole and durable, so a node cannot be
    /// started on a part of it.
    ///
    /// # Errors
    /// See [`DisasterRecoveryError`].
    pub fn run(&self) -> Result<RecoveredCluster, DisasterRecoveryError> {
        let _lock = self.lock_old()?;
        let part = self.check_new()?;
        let old = |error| DisasterRecoveryError::Old { from: self.from.clone(), error };
        let folder = Folder::open(&self.from).map_err(|error| io_error(&self.from, error))?;
        let Survivors { identity: from, saved, loss, mut log } =
            folder.open_survivors(self.log).map_err(old)?;
        let identity = Identity { group: from.group, ..self.identity };
        let founding = alone(&identity, &self.address, saved.configuration());
        let last = (saved.terms.last_index(), saved.terms.last_term());
        let term = self.next_term(last.1)?;
        let new = |error| DisasterRecoveryError::New { into: part.clone(), error };

        let disk = RealDisk::open(&part).map_err(|error| io_error(&part, error))?;
        let mut copy = Log::create(disk, &identity, &founding, self.log).map_err(new)?;
        let hard_state = Some(HardState { term, ..HardState::default() });
        copy.append(&Write { hard_state, ..Write::default() }).map_err(new)?;
        if let Some(meta) = &saved.snapshot {
            let content = open_snapshot(&self.from, meta.index).map_err(old)?;
            let meta = SnapshotMeta { configuration: founding, ..meta.clone() };
            copy.adopt(&meta, SnapshotSource::new(content)).map_err(new)?;
        }
        while let Some(log) = log.as_mut().filter(|_| copy.last_index() < last.0) {
            let entries = next_entries(log, copy.last_index().next()).map_err(old)?;
            copy.append(&Write { entries: entries.into(), ..Write::default() }).map_err(new)?;
        }
        copy.sync().and_then(|()| copy.mark()).map_err(new)?;
        drop(copy);
        self.give_name(&part)?;
        Ok(RecoveredCluster {
            from,
            identity,
            configuration: saved.configuration().clone(),
            last,
            term,
            loss,
        })
    }

    /// The term after the last entry's.
    fn next_term(&self, last: Term) -> Result<Term, DisasterRecoveryError> {
        let next = last.0.checked_add(1).map(Term).filter(|term| term.0 <= TERM_MAX);
        next.ok_or_else(|| DisasterRecoveryError::TermsExhausted {
            from: self.from.clone(),
            term: last,
        })
    }

    /// Keeps a node from starting on the old folder meanwhile. Nothing is written for that.
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

    /// The name that the new folder has while it is being made.
    fn check_new(&self) -> Result<PathBuf, DisasterRecoveryError> {
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
        if part.exists() { Err(DisasterRecoveryError::LeftOver(part)) } else { Ok(part) }
    }

    fn give_name(&self, part: &Path) -> Result<(), DisasterRecoveryError> {
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
fn alone(identity: &Identity, address: &str, old: &Configuration) -> Configuration {
    let member = Member { disk: identity.disk, address: address.to_owned(), ..Member::default() };
    // Entries of the old cluster may need its level.
    let founding =
        Configuration::of_voters([(identity.node, member)]).at_feature_level(old.feature_level);
    // Machines of the old cluster will join the new one: under new ids, so that nobody mistakes one
    // for the other.
    let highest_id = founding.highest_id.max(old.highest_id);
    Configuration { highest_id, ..founding }
}

/// Entries from `from` on, at least one, without configurations.
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

fn io_error(path: &Path, error: io::Error) -> DisasterRecoveryError {
    DisasterRecoveryError::Io { path: path.to_owned(), error }
}
