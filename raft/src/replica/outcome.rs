//! The outcomes of requests.

use super::sessions::SESSION_TTL_MS;
use super::{Answer, LoadingProgress};
use crate::types::{Index, NodeId, SessionId};

/// The outcome of a request.
///
/// The cases are kept apart because a client must react differently to each.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// The request was carried out: a command is committed and applied, a query is answered.
    Answer(Answer),
    /// A session was opened, with this id.
    Opened(SessionId),
    /// The request had no effect and never will: it is safe to repeat.
    Refused(Refusal),
    /// The request may have had its effect, may still have it, or may never have it. Only its
    /// author can tell whether it is safe to repeat.
    Unknown(Doubt),
}

impl Outcome {
    /// The outcome as another node receives it for a request that it forwarded.
    ///
    /// A failure of this node's state machine does not concern that node, and an older version
    /// cannot decode it.
    pub(super) fn for_peer(self) -> Outcome {
        match self {
            Outcome::Refused(Refusal::MachineFailed { .. }) => {
                Outcome::Refused(Refusal::NotLeader { leader: None })
            }
            // As text: an older version does not know the bound.
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

/// Why a request had no effect and never will.
#[derive(Clone, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// No leader was known until the request's deadline.
    #[error("no leader is known; had no effect, ask again later")]
    NoLeader,
    /// The node that was asked does not lead.
    #[error("the node asked does not lead{}", leader_hint(*leader))]
    NotLeader {
        /// The leader, as far as that node knows.
        leader: Option<NodeId>,
    },
    /// The deadline passed before the request could have any effect.
    #[error("timed out before it could be started; had no effect, ask again")]
    TimedOut,
    /// A new leader's entry was committed at the command's index in the log.
    #[error("replaced in the log by a new leader's entry; had no effect, ask again")]
    Superseded,
    /// A bound is reached.
    #[error("{}", full_text(*bound, *limit))]
    Full {
        /// The bound.
        bound: Bound,
        /// Its value, in the bound's unit.
        limit: u64,
    },
    /// The command or query is larger than [`Limits::request_bytes`](super::Limits).
    #[error(
        "{size_bytes} bytes are more than the {limit_bytes} of Limits::request_bytes; had no effect"
    )]
    TooLarge {
        /// The size of the command or query.
        size_bytes: u64,
        /// The largest size allowed.
        limit_bytes: u64,
    },
    /// The node's disk has failed; the node answers nothing until it is restarted.
    #[error("this node's disk has failed; had no effect, ask another node")]
    StorageFailed,
    /// The node's state machine failed at an entry: the node answers no reads or writes and does
    /// not lead. The text says what an operator can do.
    #[error(
        "this node's state machine stopped at entry {index}; had no effect, ask another node. The \
         node's log says why; start a version of the program that can apply the entry ('raft \
         inspect' shows it)"
    )]
    MachineFailed {
        /// The entry, or the last entry of the snapshot that could not be restored.
        index: Index,
    },
    /// The node's state machine is not yet up to date.
    ///
    /// The node has started, has received a snapshot, or waits for one because its own is damaged.
    #[error(
        "the state machine of this node is not ready: {progress}; had no effect, ask another node, \
         or again later"
    )]
    Loading {
        /// How far it has come.
        progress: LoadingProgress,
    },
    /// The state machine panicked in this query. It continues with others.
    #[error("the state machine panicked in this query, see the node's log; had no effect")]
    QueryPanicked,
    /// The node was removed from the cluster and no longer answers requests.
    #[error("this node was removed from the cluster; had no effect, ask another node")]
    Removed,
    /// A membership change or a leadership transfer is not possible, or not possible now.
    #[error("{reason}")]
    Declined {
        /// Why, and what to do.
        reason: String,
        /// Whether repeating the request cannot help until something else has changed.
        is_final: bool,
    },
    /// There is no such session: it was closed, has expired, or was never opened.
    ///
    /// This submission had no effect. The outcome of an earlier submission of the same command
    /// can no longer be learnt.
    #[error(
        "there is no such session: closed, expired or never opened; had no effect this time, open \
         another"
    )]
    NoSession,
    /// This command of the session was applied once before, and its answer was not kept.
    ///
    /// The answer is longer than [`ANSWER_BYTES_MAX`](super::ANSWER_BYTES_MAX), or all answers
    /// together exceeded [`ANSWERS_BYTES_MAX`](super::ANSWERS_BYTES_MAX). The command was not
    /// applied again.
    #[error(
        "was applied once before, and its answer was too long to be kept; was not applied again"
    )]
    AnswerNotKept,
    /// The command's number is 0, or one that its author has acknowledged. This submission had no
    /// effect.
    #[error(
        "numbers of this session up to {up_to} are acknowledged; had no effect this time, use a \
         larger number"
    )]
    Acknowledged {
        /// The largest number that the author has acknowledged.
        up_to: u64,
    },
    /// The session's time to live is outside [`SESSION_TTL_MS`].
    #[error(
        "a session lives for {} to {} ms (SESSION_TTL_MS), not {ttl_ms}; had no effect",
        SESSION_TTL_MS.start(),
        SESSION_TTL_MS.end()
    )]
    TtlOutOfRange {
        /// The time to live, in milliseconds.
        ttl_ms: u64,
    },
}

fn leader_hint(leader: Option<NodeId>) -> String {
    match leader {
        Some(leader) => format!(", node {leader} may; had no effect, ask again"),
        None => " and knows no leader; had no effect, ask again later".to_owned(),
    }
}

fn full_text(bound: Bound, limit: u64) -> String {
    match bound {
        Bound::Backlog => format!(
            "the leader's state machine is behind by more than the {limit} bytes of \
             Config::backlog_bytes; had no effect, ask again when it has caught up"
        ),
        _ => format!(
            "the bound {} = {limit} is reached; had no effect, ask again later",
            bound.setting()
        ),
    }
}

/// A bound on what a replica holds for its clients.
///
/// It is a setting, or, where all replicas must agree, a constant of this module.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Bound {
    /// Unanswered requests: `Limits::pending_requests`.
    PendingRequests,
    /// Their bytes: `Limits::pending_bytes`.
    PendingBytes,
    /// Unanswered commands that were forwarded to the leader: `Limits::forwarded_requests`.
    ForwardedRequests,
    /// Open sessions: [`SESSIONS_MAX`](super::SESSIONS_MAX).
    Sessions,
    /// Bytes that the leader has committed and not applied: `Config::backlog_bytes`.
    Backlog,
    /// Commands of a session that it has not acknowledged:
    /// [`ANSWERS_PER_SESSION_MAX`](super::ANSWERS_PER_SESSION_MAX).
    AnswersPerSession,
}

impl Bound {
    /// The name of the setting or constant.
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

/// Why it is unknown whether a request took effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum Doubt {
    /// The deadline passed while a command was in the log or with the leader, or while a snapshot
    /// was written.
    #[error("timed out; it may or may not have been applied, and may yet be")]
    TimedOut,
    /// The link to the leader broke, or the leader restarted, before it answered.
    #[error("the link to the leader broke; it may or may not have been applied")]
    LinkBroken,
    /// The node's disk failed while the command was in its log.
    #[error("this node's disk failed; the other nodes may or may not apply it")]
    StorageFailed,
    /// The node's state machine failed before the command, or at it.
    #[error("this node's state machine stopped before it or at it; the other nodes may apply it")]
    MachineFailed,
    /// A leader's snapshot replaced the log that held the command. The snapshot does not say
    /// whether it includes the command.
    #[error("a leader's snapshot replaced this node's log; it may or may not have been applied")]
    LogReplaced,
}
