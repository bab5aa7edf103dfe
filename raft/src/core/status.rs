//! The status of a core.

use crate::types::{Configuration, Index, NodeId, Stamp, Term, Time};

use super::{DigestStatus, Role};

/// A core's state in brief, for operators and for tests.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Status {
    /// This node.
    pub id: NodeId,
    /// Its role.
    pub role: Role,
    /// Its term.
    pub term: Term,
    /// The leader of that term, as far as it knows.
    pub leader: Option<NodeId>,
    /// Known to be committed up to here.
    pub commit: Index,
    /// Applied up to here.
    pub applied: Index,
    /// The bytes of what is committed here and not applied yet. A leader that is over
    /// `backlog_limit_bytes` takes no proposals.
    pub backlog_bytes: usize,
    /// [`Config::backlog_bytes`](field@super::Config::backlog_bytes).
    pub backlog_limit_bytes: usize,
    /// Durable on this node's own disk up to here.
    pub durable: Index,
    /// The log's last index.
    pub last_index: Index,
    /// The log's first index: those before are compacted. One after the last if the log is empty.
    pub first_index: Index,
    /// What the newest snapshot on this node's disk includes; 0 without one.
    pub snapshot: Index,
    /// The snapshot that this node is being sent.
    pub receiving: Option<SnapshotProgress>,
    /// What a leader knows of the others; empty elsewhere.
    pub peers: Vec<PeerStatus>,
    /// Until when it may answer reads without asking its followers, as of its last input;
    /// `None` without a lease.
    pub lease_until: Option<Time>,
    /// The configuration in force.
    pub configuration: Configuration,
    /// The entry that brought it; what a snapshot includes if that brought it; 0 for the initial
    /// one.
    pub configuration_index: Index,
    /// The node to which this leader hands over.
    pub transfer_target: Option<NodeId>,
    /// Whether this node knows that its removal is committed.
    pub is_removed: bool,
    /// Whether this node's disk forgot what it had acknowledged: it neither votes nor campaigns
    /// before it has passed a fence.
    pub has_forgotten: bool,
    /// The digests of the replicated state: whether all members have made the same of the log.
    pub digests: DigestStatus,
    /// This node asks for a leader's snapshot, which shall take the place of its state machine's
    /// state, or of its own newest snapshot, whose file is damaged.
    pub awaits_snapshot: bool,
    /// From this entry on a leader contradicted what is committed here: acknowledged data was lost
    /// elsewhere, and this node takes part in nothing more.
    pub committed_conflict: Option<Index>,
    /// Messages that made no sense and were dropped: for another node, from a stranger, with
    /// impossible numbers.
    pub ignored_messages: u64,
    /// Messages that were ignored because their term is too far ahead of this node's to come from
    /// elections ([`Term::JUMP_MAX`], [`Term::MAX`]): the sender's disk or the message is damaged.
    pub ignored_terms: u64,
    /// Messages of a second leader in one term that were ignored: some node voted twice, because
    /// its disk forgot or was copied. They count in `ignored_messages`, too.
    pub second_leaders: u64,
    /// The saved term is beyond [`Term::MAX`]: the disk was damaged or edited. This node neither
    /// votes nor campaigns; restore it from another, or recover the cluster under a new id.
    pub is_out_of_terms: bool,
    /// Log time, as of the last input; `None` while the last entry must still be read back.
    pub log_time: Option<LogTimeStatus>,
}

/// Log time, which the next entry would be stamped with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct LogTimeStatus {
    /// Log time. A follower counts from when it appended the last entry.
    pub now: Stamp,
    /// The greatest wall clock that a majority of the voters has reached, which log time is steered
    /// to. `None` while the leader does not know it, and at followers.
    pub target: Option<Stamp>,
    /// This node's own wall clock.
    pub wall: Stamp,
}

/// What a leader knows of another node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct PeerStatus {
    /// The node.
    pub id: NodeId,
    /// Its log equals the leader's up to here, durably.
    pub matched: Index,
    /// Its state machine has applied this much, as it last reported; `None` before, and from older
    /// versions.
    pub applied: Option<Index>,
    /// The next entry to send.
    pub next: Index,
    /// How the leader sends to it.
    pub mode: PeerMode,
    /// Messages with entries that it has not acknowledged.
    pub in_flight_messages: usize,
    /// Bytes of entries that it has not acknowledged.
    pub in_flight_bytes: usize,
    /// When the leader last heard from it; at first, when the leader was elected.
    pub heard: Time,
    /// Whether its disk forgot what it had acknowledged: nothing that it says counts.
    pub has_forgotten: bool,
    /// It stopped because this leader contradicts what is committed there, from this entry on.
    pub conflict: Option<Index>,
    /// What its wall clock shows, by its last answer; `None` if it has not said in this term.
    pub wall: Option<Stamp>,
}

/// How a leader sends to a follower.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PeerMode {
    /// It looks for the place where the logs agree, or for the follower.
    Probe,
    /// It streams entries.
    Replicate,
    /// It sends a snapshot: what comes next in the follower's log is compacted here.
    Snapshot(SnapshotProgress),
}

/// How far the sending of a snapshot has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct SnapshotProgress {
    /// What the snapshot includes.
    pub index: Index,
    /// What the receiver has of its file, in bytes.
    pub received_bytes: u64,
    /// The file's length in bytes; 0 while it is not known.
    pub total_bytes: u64,
}
