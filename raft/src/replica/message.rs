//! Requests, what becomes of them, and what replicas say to each other.

use std::fmt;

use bytes::Bytes;

use super::sessions::SESSION_TTL_MS;
use super::{AdminRequest, Answer, LoadingProgress};
use crate::types::{Index, Message, NodeId, Proposal, SessionCommand, SessionId};

/// The driver's number for a request, given back with its outcome. Only the driver looks at it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub u64);

/// What a client asks of the state machine, or an operator of the cluster.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Request {
    /// A command: goes into the log and is applied by every replica.
    Write(Bytes),
    /// A query: linearizable, answered from this node's own state machine, never in the log. A
    /// majority confirms each.
    Read(Bytes),
    /// A snapshot of this node's state machine, of everything that it was handed so far. Answered,
    /// with no bytes and the index that the snapshot stands for, when it is on disk; at once if
    /// there is one. If it takes longer than the request may, the outcome is unknown, and it is
    /// written all the same.
    Snapshot,
    /// Something about the cluster itself.
    Admin(AdminRequest),
    /// As `Read`, but where the leader has a lease ([`Config::lease`](crate::core::Config::lease))
    /// nobody need be asked: as linearizable as the members' clocks are good. Where it has none, it
    /// is a `Read`.
    LeaseRead(Bytes),
    /// A query of this node's own state as it is, perhaps old: what the log made it up to some
    /// index, never one before what an earlier query to the same life of this node saw. Asks nobody
    /// and waits for nobody.
    StaleRead(Bytes),
    /// Opens a session, which ends when it was not used for so long (between [`SESSION_TTL_MS`]'s
    /// ends). Its name comes back as [`Outcome::Opened`]. One whose outcome is unknown may stay
    /// open, unused, until it ends.
    OpenSession {
        /// In milliseconds of the log's own time: the stamps of its entries.
        ttl_ms: u64,
    },
    /// A command that is applied once, however often it is submitted, to whatever node: every one
    /// gets the answer of the first. So where its outcome is unknown, it may be asked again.
    SessionWrite(SessionCommand),
    /// Ends a session and forgets its answers.
    CloseSession {
        /// Which.
        session: SessionId,
    },
}

impl Request {
    /// What the command, the query or the change takes, in bytes.
    #[must_use]
    pub fn size_bytes(&self) -> usize {
        match self {
            Request::Admin(admin) => admin.size_bytes(),
            Request::Write(bytes)
            | Request::Read(bytes)
            | Request::LeaseRead(bytes)
            | Request::StaleRead(bytes) => bytes.len(),
            Request::SessionWrite(in_session) => in_session.command.len(),
            Request::OpenSession { .. } | Request::CloseSession { .. } | Request::Snapshot => 0,
        }
    }
}

/// What became of a request. The three cases are kept apart because a client must act differently
/// on each.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// It was carried out: a command is committed and applied. What the state machine said, and at
    /// which index.
    Answer(Answer),
    /// A session was opened: its name.
    Opened(SessionId),
    /// It had no effect and never will: it may be asked again.
    Refused(Refusal),
    /// It may have been carried out, may yet be, or may never be. Only its author can tell whether
    /// asking again is safe.
    Unknown(Doubt),
}

impl Outcome {
    /// What another node is told of a request that it forwarded: what has befallen this node's
    /// state machine is this node's own matter, and an older one would not know the words.
    pub(super) fn for_peer(self) -> Outcome {
        match self {
            Outcome::Refused(Refusal::MachineFailed { .. }) => {
                Outcome::Refused(Refusal::NotLeader { leader: None })
            }
            // In words: an older one does not know the bound.
            Outcome::Refused(refusal @ Refusal::Full { bound: Bound::Backlog, .. }) => {
                Outcome::Refused(Refusal::Declined { reason: refusal.to_string(), is_final: false })
            }
            Outcome::Refused(Refusal::Loading { .. } | Refusal::QueryPanicked) => {
                Outcome::Refused(Refusal::TimedOut)
            }
            Outcome::Unknown(Doubt::MachineFailed) => Outcome::Unknown(Doubt::TimedOut),
            other => other,
        }
    }
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
    /// The node's state machine refused to go on at an entry: the node answers no reads or writes,
    /// and leads no more. What an operator can do stands in the words.
    MachineFailed {
        /// The entry, or what the snapshot stands for that it could not be restored from.
        index: Index,
    },
    /// The node's state machine is not where the log is yet: the node has started, or has been sent
    /// a snapshot, or waits for one in the place of its own, which is damaged.
    Loading {
        /// How far it has come.
        progress: LoadingProgress,
    },
    /// The state machine panicked in this query; it goes on with others.
    QueryPanicked,
    /// The node was removed from the cluster: it answers nothing any more.
    Removed,
    /// A change of membership or a transfer of leadership that is not possible, or not now.
    Declined {
        /// Why, and what to do.
        reason: String,
        /// Whether asking again will not help before something else has changed.
        is_final: bool,
    },
    /// There is no such session: it was closed, has expired, or never was. This time the command
    /// had no effect; if it had been submitted before, and nobody knows what became of it then,
    /// nobody will.
    NoSession,
    /// A command of the session with this number has been applied, once, and its answer was not
    /// kept: it is longer than [`ANSWER_BYTES_MAX`](super::ANSWER_BYTES_MAX), or all answers
    /// together were more than [`ANSWERS_BYTES_MAX`](super::ANSWERS_BYTES_MAX). It was not applied
    /// again.
    AnswerNotKept,
    /// The command's number is one that its author has acknowledged, or 0. This time it had no
    /// effect.
    Acknowledged {
        /// What the author has acknowledged: numbers up to this one.
        up_to: u64,
    },
    /// A session was to live for a time that is not between [`SESSION_TTL_MS`]'s ends.
    TtlOutOfRange {
        /// The time, in milliseconds.
        ttl_ms: u64,
    },
}

/// A bound on what a replica holds for its clients: a field of [`Limits`](super::Limits), or, where
/// all replicas must have the same, a constant of this module.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Bound {
    /// Requests not answered yet: `Limits::pending_requests`.
    PendingRequests,
    /// Their bytes: `Limits::pending_bytes`.
    PendingBytes,
    /// Commands handed to the leader and not answered yet: `Limits::forwarded_requests`.
    ForwardedRequests,
    /// Sessions: [`SESSIONS_MAX`](super::SESSIONS_MAX).
    Sessions,
    /// What the leader has committed and not applied: `Config::backlog_bytes`.
    Backlog,
    /// Commands of a session that it has not acknowledged:
    /// [`ANSWERS_PER_SESSION_MAX`](super::ANSWERS_PER_SESSION_MAX).
    AnswersPerSession,
}

impl Bound {
    /// The setting that moves this bound, or the constant that it is.
    #[must_use]
    pub fn setting(self) -> &'static str {
        match self {
            Bound::PendingRequests => "Limits::pending_requests",
            Bound::PendingBytes => "Limits::pending_bytes",
            Bound::ForwardedRequests => "Limits::forwarded_requests",
            Bound::Sessions => "SESSIONS_MAX",
            Bound::Backlog => "Config::backlog_bytes",
            Bound::AnswersPerSession => "ANSWERS_PER_SESSION_MAX",
        }
    }
}

/// Why nobody can say whether a command took effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Doubt {
    /// Its deadline passed while it was in the log, with the leader, or, if it is a snapshot, while
    /// that was written.
    TimedOut,
    /// The link to the leader broke, or the leader restarted, before it answered.
    LinkBroken,
    /// The node's disk failed while the command was in its log.
    StorageFailed,
    /// The node's state machine refused to go on before it came to the command, or at it.
    MachineFailed,
    /// A leader's snapshot took the place of the log that the command was in. Whether the snapshot
    /// includes it, the snapshot does not say.
    LogReplaced,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::NoLeader => write!(f, "no leader is known; had no effect, ask again later"),
            Refusal::NotLeader { leader: Some(leader) } => {
                write!(
                    f,
                    "the node asked does not lead, node {leader} may; had no effect, ask again"
                )
            }
            Refusal::NotLeader { leader: None } => {
                write!(
                    f,
                    "the node asked does not lead and knows no leader; had no effect, ask again later"
                )
            }
            Refusal::TimedOut => {
                write!(f, "timed out before it could be started; had no effect, ask again")
            }
            Refusal::Superseded => {
                write!(f, "lost to a new leader's entry; had no effect, ask again")
            }
            Refusal::Full { bound: Bound::Backlog, limit } => write!(
                f,
                "the leader's state machine is behind by more than the {limit} bytes of Config::backlog_bytes; had no \
                 effect, ask again when it has caught up"
            ),
            Refusal::Full { bound, limit } => {
                write!(
                    f,
                    "the bound {} = {limit} is reached; had no effect, ask again later",
                    bound.setting()
                )
            }
            Refusal::TooLarge { size_bytes, limit_bytes } => {
                write!(
                    f,
                    "{size_bytes} bytes are more than the {limit_bytes} of Limits::request_bytes; had no effect"
                )
            }
            Refusal::StorageFailed => {
                write!(f, "this node's disk has failed; had no effect, ask another node")
            }
            Refusal::MachineFailed { index } => write!(
                f,
                "this node's state machine stopped at entry {index}; had no effect, ask another node. \
                 The node's log says why; start a version of the program that can go on there \
                 ('raft inspect' shows the entry)"
            ),
            Refusal::Loading { progress } => {
                write!(
                    f,
                    "the state machine of this node is not ready: {progress}; had no effect, ask another node, \
                     or again later"
                )
            }
            Refusal::QueryPanicked => {
                write!(
                    f,
                    "the state machine panicked in this query, the node's log has the words; had no effect"
                )
            }
            Refusal::Removed => {
                write!(f, "this node was removed from the cluster; had no effect, ask another node")
            }
            Refusal::Declined { reason, .. } => write!(f, "{reason}"),
            Refusal::NoSession => {
                write!(
                    f,
                    "there is no such session: closed, expired or never opened; had no effect this time, open another"
                )
            }
            Refusal::AnswerNotKept => {
                write!(
                    f,
                    "was applied before, once, and its answer was too long to be kept; was not applied again"
                )
            }
            Refusal::Acknowledged { up_to } => write!(
                f,
                "numbers of this session up to {up_to} are done with; had no effect this time, use a number above it"
            ),
            Refusal::TtlOutOfRange { ttl_ms } => {
                let (least, most) = (SESSION_TTL_MS.start(), SESSION_TTL_MS.end());
                write!(
                    f,
                    "a session lives for {least} to {most} ms (SESSION_TTL_MS), not {ttl_ms}; had no effect"
                )
            }
        }
    }
}

impl fmt::Display for Doubt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Doubt::TimedOut => {
                write!(f, "timed out; it may or may not have been applied, and may yet be")
            }
            Doubt::LinkBroken => {
                write!(f, "the link to the leader broke; it may or may not have been applied")
            }
            Doubt::LogReplaced => {
                write!(
                    f,
                    "this node was overtaken by a snapshot of the leader's; it may or may not have been applied"
                )
            }
            Doubt::MachineFailed => {
                write!(
                    f,
                    "this node's state machine stopped at it or before it; it may or may not be applied by the others"
                )
            }
            Doubt::StorageFailed => {
                write!(f, "this node's disk failed; it may or may not be applied by the others")
            }
        }
    }
}

/// What one replica says to another.
///
/// A link must neither repeat nor reorder `Forward`s, and what was sent over a link that broke must
/// not arrive over the next one: a repeated `Forward` is a command applied twice. `Raft` messages
/// may be lost, repeated and overtaken.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum PeerMessage {
    /// Between their cores.
    Raft(Message),
    /// "You lead: propose this."
    Forward {
        /// The sender's number for it, unique among its lives.
        request: u64,
        /// What.
        proposal: Proposal,
    },
    /// "You lead: see to this."
    ForwardAdmin {
        /// The sender's number for it, unique among its lives.
        request: u64,
        /// What.
        admin: AdminRequest,
    },
    /// Answers `Forward` and `ForwardAdmin`.
    Forwarded {
        /// The sender's number.
        request: u64,
        /// What became of it.
        outcome: Outcome,
    },
}
