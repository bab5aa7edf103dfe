//! Requests, what becomes of them, and what replicas say to each other.

use std::fmt;

use bytes::Bytes;

use super::Admin;
use crate::types::{Message, NodeId};

/// The driver's number for a request, given back with its outcome. Only the driver looks at it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub u64);

/// What a client asks of the state machine, or an operator of the cluster.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Request {
    /// A command: goes into the log and is applied by every replica.
    Write(Bytes),
    /// A query: linearizable, answered from this node's own state machine, never in the log.
    Read(Bytes),
    /// Something about the cluster itself.
    Admin(Admin),
}

impl Request {
    /// What the command, the query or the change takes, in bytes.
    #[must_use]
    pub fn size_bytes(&self) -> usize {
        match self {
            Request::Write(bytes) | Request::Read(bytes) => bytes.len(),
            Request::Admin(admin) => admin.size_bytes(),
        }
    }
}

/// What became of a request. The three cases are kept apart because a client must act differently on each.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// It was carried out: a command is committed and applied; this is what the state machine said.
    Answer(Bytes),
    /// It had no effect and never will: it may be asked again.
    Refused(Refusal),
    /// It may have been carried out, may yet be, or may never be. Only its author can tell whether asking again is safe.
    Unknown(Doubt),
}

/// Why a request certainly had no effect.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// No leader was known until the request's deadline.
    NoLeader,
    /// The node that was asked does not lead.
    NotLeader {
        /// Who does, as far as that node knows.
        leader: Option<NodeId>,
    },
    /// The deadline passed before the request could have any effect.
    TimedOut,
    /// A new leader's entry was committed in the place that the command had in the log.
    Superseded,
    /// A bound was hit.
    Full {
        /// Which.
        bound: Bound,
        /// Its value, in the bound's unit.
        limit: u64,
    },
    /// The command or query is larger than one may be.
    TooLarge {
        /// Its size.
        size_bytes: u64,
        /// The largest allowed.
        limit_bytes: u64,
    },
    /// The node's disk has failed; it answers nothing until it is started again.
    StorageFailed,
    /// The node was removed from the cluster: it answers nothing any more.
    Removed,
    /// A change of membership or a transfer of leadership that is not possible, or not now.
    Declined {
        /// Why, and what to do.
        reason: String,
        /// Whether asking again will not help before something else has changed.
        is_final: bool,
    },
}

/// A bound on what a replica holds for its clients. Its setting is a field of [`Limits`](super::Limits).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Bound {
    /// Requests not answered yet: `Limits::pending_requests`.
    PendingRequests,
    /// Their bytes: `Limits::pending_bytes`.
    PendingBytes,
    /// Commands handed to the leader and not answered yet: `Limits::forwarded_requests`.
    ForwardedRequests,
}

impl Bound {
    /// The setting that moves this bound.
    #[must_use]
    pub fn setting(self) -> &'static str {
        match self {
            Bound::PendingRequests => "Limits::pending_requests",
            Bound::PendingBytes => "Limits::pending_bytes",
            Bound::ForwardedRequests => "Limits::forwarded_requests",
        }
    }
}

/// Why nobody can say whether a command took effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Doubt {
    /// Its deadline passed while it was in the log, or with the leader.
    TimedOut,
    /// The link to the leader broke, or the leader restarted, before it answered.
    LinkBroken,
    /// The node's disk failed while the command was in its log.
    StorageFailed,
    /// A leader's snapshot took the place of the log that the command was in. Whether the snapshot includes it, the
    /// snapshot does not say.
    Overtaken,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::NoLeader => write!(f, "no leader is known; had no effect, ask again later"),
            Refusal::NotLeader { leader: Some(leader) } => {
                write!(f, "the node asked does not lead, node {leader} may; had no effect, ask again")
            }
            Refusal::NotLeader { leader: None } => {
                write!(f, "the node asked does not lead and knows no leader; had no effect, ask again later")
            }
            Refusal::TimedOut => write!(f, "timed out before it could be started; had no effect, ask again"),
            Refusal::Superseded => write!(f, "lost to a new leader's entry; had no effect, ask again"),
            Refusal::Full { bound, limit } => {
                write!(f, "the bound {} = {limit} is reached; had no effect, ask again later", bound.setting())
            }
            Refusal::TooLarge { size_bytes, limit_bytes } => {
                write!(f, "{size_bytes} bytes are more than the {limit_bytes} of Limits::request_bytes; had no effect")
            }
            Refusal::StorageFailed => write!(f, "this node's disk has failed; had no effect, ask another node"),
            Refusal::Removed => write!(f, "this node was removed from the cluster; had no effect, ask another node"),
            Refusal::Declined { reason, .. } => write!(f, "{reason}"),
        }
    }
}

impl fmt::Display for Doubt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Doubt::TimedOut => write!(f, "timed out; it may or may not have been applied, and may yet be"),
            Doubt::LinkBroken => write!(f, "the link to the leader broke; it may or may not have been applied"),
            Doubt::Overtaken => {
                write!(f, "this node was overtaken by a snapshot of the leader's; it may or may not have been applied")
            }
            Doubt::StorageFailed => write!(f, "this node's disk failed; it may or may not be applied by the others"),
        }
    }
}

/// What one replica says to another.
///
/// A link must neither repeat nor reorder `Forward`s, and what was sent over a link that broke must not arrive over the
/// next one: a repeated `Forward` is a command applied twice. `Raft` messages may be lost, repeated and overtaken.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum PeerMessage {
    /// Between their cores.
    Raft(Message),
    /// "You lead: propose this."
    Forward {
        /// The sender's number for it, unique among its lives.
        request: u64,
        /// The command.
        command: Bytes,
    },
    /// "You lead: see to this."
    ForwardAdmin {
        /// The sender's number for it, unique among its lives.
        request: u64,
        /// What.
        admin: Admin,
    },
    /// Answers `Forward` and `ForwardAdmin`.
    Forwarded {
        /// The sender's number.
        request: u64,
        /// What became of it.
        outcome: Outcome,
    },
}
