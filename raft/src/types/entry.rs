//! What the log holds, and what is written to it.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;

use super::{
    Configuration, DiskId, Divergence, Entries, Index, LogPosition, NodeId, PeerRecord, SessionId,
    SnapshotMeta, Stamp, Term, TermTable,
};

/// What limits in bytes count for an entry besides its payload.
const ENTRY_BYTES: usize = 32;

/// What these limits count for a command's session, number and acknowledgement.
const SESSION_BYTES: usize = 24;

/// An entry of the log.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Entry {
    /// Its position.
    pub index: Index,
    /// The term of the leader that made it.
    pub term: Term,
    /// Log time when the leader made it.
    pub stamp: Stamp,
    /// What it says.
    pub payload: Payload,
}

/// What an entry says.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Payload {
    /// Nothing: the entry with which a leader opens its term (§6.4).
    Noop,
    /// A command for the state machine.
    Command(Bytes),
    /// A new configuration of the cluster, in force as soon as it is in the log (§4.1). Boxed
    /// because it is rare, and an entry would otherwise be more than twice as large.
    Configuration(Box<Configuration>),
    /// Opens a session (§6.3). [`SessionId::opened`] names it; it ends when it was not used for
    /// `ttl_ms`.
    OpenSession {
        /// In milliseconds of the log's own time.
        ttl_ms: u64,
        /// Drawn at random by the proposer.
        salt: u64,
    },
    /// A command for the state machine that is applied once, however often it comes. Boxed, so that
    /// entries without a session need not have room for it.
    SessionCommand(Box<SessionCommand>),
    /// Ends a session.
    CloseSession {
        /// Which.
        session: SessionId,
    },
}

/// A command within a session: applied once, however often it is in the log (§6.3).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SessionCommand {
    /// The session.
    pub session: SessionId,
    /// The command's number in its session; not 0, and another one for every other command. A
    /// repeated number is the same command again, and gets the first one's answer.
    pub sequence: u64,
    /// The author no longer needs answers to commands with numbers up to this one, and never will
    pub acknowledged: u64,
    /// The command.
    pub command: Bytes,
}

/// What a client may have put into the log. The other kinds of [`Payload`] are Raft's own.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Proposal {
    /// See [`Payload::Command`].
    Command(Bytes),
    /// See [`Payload::OpenSession`].
    OpenSession {
        /// In milliseconds of the log's own time.
        ttl_ms: u64,
        /// A random number, which makes the session's name unique.
        salt: u64,
    },
    /// See [`Payload::SessionCommand`].
    SessionCommand(Box<SessionCommand>),
    /// See [`Payload::CloseSession`].
    CloseSession {
        /// Which.
        session: SessionId,
    },
}

impl Proposal {
    /// What the entry of a command counts for at most in limits in bytes, besides the command.
    pub const OVERHEAD_BYTES: usize = ENTRY_BYTES + SESSION_BYTES;

    /// The state machine's part of it, in bytes.
    #[must_use]
    pub fn command_bytes(&self) -> usize {
        match self {
            Proposal::Command(command) => command.len(),
            Proposal::SessionCommand(in_session) => in_session.command.len(),
            Proposal::OpenSession { .. } | Proposal::CloseSession { .. } => 0,
        }
    }

    /// The size that limits in bytes count for the entry that it becomes.
    #[must_use]
    pub fn entry_bytes(&self) -> usize {
        ENTRY_BYTES
            + match self {
                Proposal::Command(command) => command.len(),
                Proposal::SessionCommand(in_session) => SESSION_BYTES + in_session.command.len(),
                Proposal::OpenSession { .. } => 16,
                Proposal::CloseSession { .. } => 8,
            }
    }
}

impl From<Bytes> for Proposal {
    fn from(command: Bytes) -> Proposal {
        Proposal::Command(command)
    }
}

impl From<Proposal> for Payload {
    fn from(proposal: Proposal) -> Payload {
        match proposal {
            Proposal::Command(command) => Payload::Command(command),
            Proposal::OpenSession { ttl_ms, salt } => Payload::OpenSession { ttl_ms, salt },
            Proposal::SessionCommand(in_session) => Payload::SessionCommand(in_session),
            Proposal::CloseSession { session } => Payload::CloseSession { session },
        }
    }
}

impl Payload {
    /// Whether a client proposed it and waits for its outcome. The others are Raft's own.
    #[must_use]
    pub fn is_proposal(&self) -> bool {
        !matches!(self, Payload::Noop | Payload::Configuration(_))
    }

    /// The size that limits in bytes count for this payload.
    #[must_use]
    pub fn size_bytes(&self) -> usize {
        match self {
            Payload::Noop => 0,
            Payload::Command(command) => command.len(),
            Payload::Configuration(configuration) => configuration.size_bytes(),
            Payload::OpenSession { .. } => 16,
            Payload::CloseSession { .. } => 8,
            Payload::SessionCommand(in_session) => SESSION_BYTES + in_session.command.len(),
        }
    }
}

impl Entry {
    /// The size that limits in bytes count for this entry: its payload and 32 bytes for the rest.
    #[must_use]
    pub fn size_bytes(&self) -> usize {
        ENTRY_BYTES + self.payload.size_bytes()
    }
}

/// What must be on disk before a node may act on it (figure 3.1, "persistent state"), besides the
/// log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct HardState {
    /// The latest term this node has seen.
    pub term: Term,
    /// The candidate that it voted for in that term.
    pub vote: Option<NodeId>,
    /// For how long, at most, this node has promised its leaders to vote for no other candidate
    /// ([`Body::Appended`]): it keeps that after a restart, too, whatever its settings are then.
    ///
    /// [`Body::Appended`]: super::Body::Appended
    pub promise: Duration,
    /// The mark of a disk that forgot what it had acknowledged: this node neither votes nor
    /// campaigns before a committed configuration with a greater index has made it a learner.
    pub forgot: Option<Index>,
}

/// One step's change to the disk. All of it becomes durable in one frame, or none.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub struct Write {
    /// Counts the writes of this core since it started: 1, 2, 3 … Completions come in this order.
    pub sequence: u64,
    /// The new term, vote and promise, if they changed.
    pub hard_state: Option<HardState>,
    /// Entries from here on are removed before `entries` are appended.
    pub truncate_from: Option<Index>,
    /// Appended: consecutive, and the first follows the last one that remains.
    pub entries: Entries,
    /// What is known to be committed, at most the last index as of this write. It makes no write by
    /// itself.
    pub commit: Index,
    /// What was learnt of other nodes' disks since the last write. It makes no write by itself.
    pub peer_records: Vec<(DiskId, PeerRecord)>,
}

/// What a node finds on its disk when it starts.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub struct Saved {
    /// Term, vote and promise.
    pub hard_state: HardState,
    /// The configuration with which the cluster was bootstrapped, in force until an entry or a
    /// snapshot brings another.
    pub initial_configuration: Configuration,
    /// The newest snapshot, if there is one: the state machine is restored from it before anything
    /// is applied, and its configuration is in force from its index on until the log says
    /// otherwise.
    pub snapshot: Option<SnapshotMeta>,
    /// Configurations in the log after the snapshot, by index.
    pub configurations: Vec<(Index, Configuration)>,
    /// The term of every index that the log holds. Its base is 0, or at most the snapshot's index:
    /// entries between the two were kept for followers that are behind. Its last index is at least
    /// the snapshot's.
    pub terms: TermTable,
    /// The last entries, consecutive up to the last index: as many as fit the core's tail, possibly
    /// none.
    pub tail: Vec<Entry>,
    /// What was known to be committed, at least; 0 if the log is of a format that does not say.
    pub commit: Index,
    /// What is remembered of other nodes' disks.
    pub peer_records: BTreeMap<DiskId, PeerRecord>,
    /// How often the log has been opened, this time included; 0 if it is of a format that does not
    /// say.
    pub life: u64,
    /// How far the log was durable once it was opened.
    pub position: LogPosition,
    /// The newest snapshot may hold a state that is not that of a majority: it stands for the log,
    /// and the state machine must not be restored from it.
    pub divergence: Option<Divergence>,
}

impl Saved {
    /// The configuration in force: the last one in the log, or the snapshot's, or the initial one.
    #[must_use]
    pub fn configuration(&self) -> &Configuration {
        let of_snapshot = self
            .snapshot
            .as_ref()
            .map_or(&self.initial_configuration, |snapshot| &snapshot.configuration);
        self.configurations.last().map_or(of_snapshot, |(_, latest)| latest)
    }
}
