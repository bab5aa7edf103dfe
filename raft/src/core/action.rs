//! What the core asks of its driver, and how the driver answers.

use std::time::Duration;

use crate::types::{
    Chunk, Digest, Divergence, Entries, Entry, Index, Message, NodeId, SnapshotMeta, Term, Write,
    ask_leader,
};

use thiserror::Error;

use super::DigestConflict;

/// Where proposed commands went: consecutive entries, all of one term. They are committed once an
/// entry of that term is applied at these indexes; an entry of another term there means that they
/// never will be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Proposed {
    /// The term of the entries.
    pub term: Term,
    /// The first command's index.
    pub first: Index,
    /// The last command's index.
    pub last: Index,
}

/// Why commands were not proposed. None of them had, or will have, any effect.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ProposeError {
    /// Only a leader proposes.
    #[error("this node does not lead; {}", ask_leader(*leader))]
    NotLeader {
        /// The leader, as far as this node knows.
        leader: Option<NodeId>,
    },
    /// Too many bytes wait for a majority already.
    #[error(
        "more than Config::uncommitted_bytes ({limit_bytes}) would wait to be committed; try \
        again when some has been"
    )]
    UncommittedFull {
        /// The cap.
        limit_bytes: usize,
    },
    /// Too much is committed and not applied yet: the leader's state machine is slower than the
    /// log.
    #[error(
        "{backlog_bytes} bytes are committed and not applied yet, more than Config::backlog_bytes \
        ({limit_bytes}); try \
         again when the state machine has caught up"
    )]
    BacklogFull {
        /// What is committed and not applied.
        backlog_bytes: usize,
        /// The bound.
        limit_bytes: usize,
    },
    /// A command is larger than commands may be.
    #[error("a command of {bytes} bytes exceeds Config::command_bytes ({limit_bytes})")]
    TooLarge {
        /// The command's size.
        bytes: usize,
        /// The limit.
        limit_bytes: usize,
    },
    /// Leadership is on its way to another node.
    #[error(
        "leadership is on its way to node {to}; try again when it leads, or when the transfer has \
        failed"
    )]
    Transferring {
        /// The next leader.
        to: NodeId,
    },
    /// There is no command in the proposal.
    #[error("there is no command to propose")]
    Empty,
}

/// Why a read cannot even wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ReadError {
    /// No leader is known that could name the read index.
    #[error("no leader is known; try again after the election")]
    NoLeader,
    /// Too many reads wait already.
    #[error(
        "Config::pending_reads ({limit}) reads wait already; try again when some have been answered"
    )]
    TooMany {
        /// The limit.
        limit: usize,
    },
}

/// What the core asks of its driver. The core withholds what is not yet safe, so actions may be
/// carried out as they come: a driver that is slow, or does them in another order than asked, can
/// lose time but no data. Only `Write`s (with `InstallSnapshot`) must keep their order among
/// themselves, and so must `Apply`s (with `Restore`).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// Send this to another node. It may be lost, repeated or overtaken.
    Send(Message),
    /// Write this and sync it, then say [`Done::Written`].
    Write(Write),
    /// Read entries that the core no longer holds in memory, then say [`Done::Fetched`].
    Fetch(Fetch),
    /// These entries are committed: apply them in this order, then say [`Done::Applied`].
    Apply(Entries),
    /// Put the state machine into the state of the newest snapshot on disk, which stands for this,
    /// in its order among the `Apply`s; then say [`Done::Applied`] with its index.
    Restore(Box<SnapshotMeta>),
    /// Entries below `first` are needed no more. [`Done::Compacted`] may follow.
    Compact {
        /// The first entry that must stay.
        first: Index,
    },
    /// Read a piece of the newest snapshot's file, then say [`Done::ChunkRead`].
    ReadChunk(ReadChunk),
    /// Write a piece of the leader's snapshot, then say [`Done::ChunkWritten`].
    WriteChunk(WriteChunk),
    /// Note on disk that entries up to `commit` are committed. No frame has said so for a heartbeat
    /// interval. The note need not be synced, and nothing waits for it: after a restart it only
    /// spares time, and refuses more truncations. It keeps its order among the `Write`s.
    MarkCommit {
        /// The commit index.
        commit: Index,
    },
    /// Make the received snapshot this node's own and let the log continue after it, then say
    /// [`Done::SnapshotInstalled`]. It keeps its order among the `Write`s.
    InstallSnapshot(InstallSnapshot),
    /// A read may be answered from any state that includes `index`.
    ReadReady {
        /// The number given to `read_index`.
        id: ReadId,
        /// The read index.
        index: Index,
    },
    /// A read cannot be answered; it had no effect and may be asked again.
    ReadFailed {
        /// The number given to `read_index`.
        id: ReadId,
    },
    /// Something that an operator may want to know.
    Event(Event),
}

/// The driver's answer to an action.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Done {
    /// The write of this sequence number, and every one before it, is durable.
    Written {
        /// The write's number.
        sequence: u64,
    },
    /// The entries asked for by [`Action::Fetch`].
    Fetched {
        /// The fetch's number.
        id: u64,
        /// Entries from `from`, consecutive. None if the log no longer holds the first: compacted,
        /// or truncated.
        entries: Vec<Entry>,
    },
    /// The state machine has applied everything up to here.
    Applied {
        /// The last index applied.
        index: Index,
    },
    /// The state machine's snapshot is on disk under its name, and found again after any crash.
    SnapshotTaken {
        /// What it includes.
        index: Index,
    },
    /// The disk says that this node's state differs from that of a majority.
    DivergenceMarked,
    /// The state machine's snapshot could not be written, and what was written of it is gone.
    SnapshotFailed {
        /// What it was to include.
        index: Index,
    },
    /// The log has let go of entries.
    Compacted {
        /// Entries from here on can still be fetched; perhaps a few before.
        first: Index,
    },
    /// A piece of a snapshot that was asked for.
    ChunkRead {
        /// The request's number.
        id: u64,
        /// The piece; `None` if that snapshot is gone because there is a newer one.
        chunk: Option<Chunk>,
    },
    /// A piece of another node's snapshot has been taken in, or was not the one that comes next.
    ChunkWritten {
        /// The request's number.
        id: u64,
        /// What has been received without a gap: the next piece begins here.
        received_bytes: u64,
    },
    /// The snapshot received is this node's newest one, and the log follows it; or it was found
    /// damaged.
    SnapshotInstalled {
        /// What it includes.
        index: Index,
        /// `false`: what was received is not whole, or not the snapshot that was announced. It has
        /// been discarded, and nothing else has changed.
        is_valid: bool,
    },
}

/// A request for entries on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Fetch {
    /// The request's number, unique in the core's life.
    pub id: u64,
    /// The first index wanted.
    pub from: Index,
    /// The last index wanted.
    pub to: Index,
    /// Stop after this many bytes, though never before the first entry.
    pub limit_bytes: usize,
}

/// A request for a piece of a snapshot's file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ReadChunk {
    /// The request's number, unique in the core's life.
    pub id: u64,
    /// The snapshot's index.
    pub index: Index,
    /// Where in the file the piece begins, in bytes.
    pub offset: u64,
    /// How long the piece may be, in bytes.
    pub limit_bytes: usize,
}

/// A piece of another node's snapshot, to be written.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct WriteChunk {
    /// The request's number, unique in the core's life.
    pub id: u64,
    /// What the snapshot includes. Boxed because an [`Action`] would otherwise be almost twice as
    /// large.
    pub meta: Box<SnapshotMeta>,
    /// The piece.
    pub chunk: Chunk,
}

/// The order to install the snapshot that has been received.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct InstallSnapshot {
    /// What the snapshot includes.
    pub meta: Box<SnapshotMeta>,
    /// Its number among the [`Write`]s: it is counted as one of them.
    pub sequence: u64,
}

/// The driver's number for a read. Only the core's driver looks at it; rounds are the core's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReadId(pub u64);

/// Something that an operator may want to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Event {
    /// The node's role, term or leader changed.
    LeadershipChanged {
        /// Its role now.
        role: Role,
        /// Its term now.
        term: Term,
        /// The leader that it follows, or itself if it leads.
        leader: Option<NodeId>,
    },
    /// The leader gave up because no majority answered within an election timeout.
    LostQuorum {
        /// The term it led.
        term: Term,
    },
    /// A snapshot of the leader's has taken the place of this node's log and state.
    SnapshotInstalled {
        /// What it includes.
        index: Index,
    },
    /// A configuration has come into force: one that was appended or installed, or an earlier one
    /// because what brought the later was removed.
    MembershipChanged {
        /// The entry that brought it; what a snapshot includes if that brought it; 0 for the
        /// initial one.
        index: Index,
        /// Whether it is a joint one.
        is_joint: bool,
    },
    /// This node's removal is committed. It never campaigns again, and its id is never used again.
    Removed {
        /// The entry that brought the configuration without it.
        index: Index,
    },
    /// The leader gave up because it has no vote in the committed configuration.
    NoLongerVoter {
        /// The term it led.
        term: Term,
    },
    /// The target did not take over within an election timeout; this node goes on leading.
    TransferFailed {
        /// The target.
        to: NodeId,
    },
    /// A leader has proof that this node's disk forgot what it had acknowledged: it neither votes
    /// nor campaigns before it has passed a fence.
    Forgot {
        /// The fence comes after this entry.
        mark: Index,
    },
    /// This node holds the configuration that fences off what it forgot; it is a learner like any
    /// other.
    PassedFence {
        /// The entry that brought that configuration.
        index: Index,
    },
    /// Another node's disk forgot what it had acknowledged. What it said, and says, counts for
    /// nothing.
    PeerForgot {
        /// The other node.
        node: NodeId,
        /// What it had acknowledged to this node, if this node leads.
        matched: Option<Index>,
        /// Whether it is a voter, which a fence must bring back.
        is_voter: bool,
    },
    /// A leader contradicts what is committed here: acknowledged data was lost elsewhere. This node
    /// keeps its log and takes part in nothing more.
    CommittedConflict {
        /// The first entry that differs.
        index: Index,
        /// The leader.
        leader: NodeId,
    },
    /// A follower stopped because this leader contradicts what is committed there.
    PeerConflict {
        /// The follower.
        node: NodeId,
        /// The first entry that differs.
        index: Index,
        /// Its term there.
        log_term: Term,
    },
    /// A majority of the voters reports another digest than this node: its state machine has not
    /// done what theirs did.
    StateDiverged(Divergence),
    /// The digest of another member is not that of a majority of the voters. Said by a leader.
    PeerDiverged {
        /// The member.
        node: NodeId,
        /// Its digest.
        digest: Digest,
        /// The value that a majority reported.
        majority: u64,
    },
    /// The digests of members differ, and there is no majority for any of them.
    StatesDiffer(DigestConflict),
    /// A message was ignored because its term is too far ahead of this node's to come from
    /// elections: the sender's disk, or the message, is damaged. Said at most every ten seconds;
    /// [`Status::ignored_terms`](super::Status::ignored_terms) counts all.
    TermIgnored {
        /// Who sent it.
        from: NodeId,
        /// Its term.
        term: Term,
    },
    /// The saved term is beyond [`Term::MAX`]: the disk was damaged or edited. This node neither
    /// votes nor campaigns.
    OutOfTerms {
        /// The term.
        term: Term,
    },
    /// A second leader was heard in one term, and ignored: some node voted twice, because its disk
    /// forgot or was copied. Said once a term;
    /// [`Status::second_leaders`](super::Status::second_leaders) counts all.
    SecondLeader {
        /// The term.
        term: Term,
        /// The leader known to this node.
        leader: NodeId,
        /// The other one.
        other: NodeId,
    },
    /// The leader's state machine has lagged behind by more than
    /// [`Config::backlog_bytes`](field@super::Config::backlog_bytes) for longer than
    /// [`Config::backlog_timeout`](field@super::Config::backlog_timeout). Said again at growing
    /// intervals.
    Backlogged {
        /// What is committed and not applied.
        backlog_bytes: usize,
        /// The voter that leadership goes to; none is under the bound if `None`, and this leader
        /// stays.
        to: Option<NodeId>,
    },
    /// The leader's state machine has been restoring a snapshot, or applying again what the log
    /// held at the start, for longer than
    /// [`Config::backlog_timeout`](field@super::Config::backlog_timeout): it answers nothing
    /// meanwhile. Said again at growing intervals.
    LeaderLoading {
        /// The voter that leadership goes to; none is known to answer if `None`, and this leader
        /// stays.
        to: Option<NodeId>,
    },
    /// The leader gave up because a write of its own was outstanding for longer than
    /// [`Config::stall_timeout`](field@super::Config::stall_timeout).
    StalledWrite {
        /// The term it led.
        term: Term,
    },
    /// Log time went forward faster than it runs, because it was not known how long ago the last
    /// entry had been made: what has expired meanwhile ends now. Said by the leader, if it is a
    /// second or more.
    LogTimeStepped {
        /// How far.
        by: Duration,
    },
}

/// A node's role (figure 3.3; pre-candidate after §9.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// Follows a leader, or waits for one.
    Follower,
    /// Asks whether it would be elected.
    PreCandidate,
    /// Asks for votes.
    Candidate,
    /// Leads.
    Leader,
}
