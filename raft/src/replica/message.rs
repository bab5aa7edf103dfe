//! Requests of clients, and messages between replicas.

use bytes::Bytes;

use super::{AdminRequest, Outcome};
use crate::types::{Message, Proposal, SessionCommand, SessionId};

/// The driver's number for a request; returned with its outcome and not interpreted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub u64);

/// A request of a client to the state machine, or of an operator to the cluster.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Request {
    /// A command: appended to the log and applied by every replica.
    Write(Bytes),
    /// A linearizable query, answered by this node's own state machine.
    ///
    /// It takes no place in the log; a majority confirms the leader for it.
    Read(Bytes),
    /// A snapshot of this node's state machine.
    ///
    /// It includes every entry that the machine has received so far. The answer has no bytes and
    /// the snapshot's index. It comes when the snapshot is on disk: at once if there is one. If
    /// that takes longer than the request's deadline, the outcome is unknown and the snapshot is
    /// still written.
    Snapshot,
    /// A request about the cluster itself.
    Admin(AdminRequest),
    /// A query that the leader may confirm by its lease, without asking a majority.
    ///
    /// It is linearizable if the members' clocks keep the bounds of
    /// [`Config::lease`](crate::core::Config::lease). Without a lease it is a `Read`.
    LeaseRead(Bytes),
    /// A query of this node's state as it is, which may be old.
    ///
    /// It contacts no other node and does not wait. Until the node restarts, its answers never go
    /// back to an earlier index.
    StaleRead(Bytes),
    /// Opens a session; its id is returned as [`Outcome::Opened`].
    ///
    /// A session expires when it is not used for its time to live. If the outcome is unknown, an
    /// unused session may stay open until then.
    OpenSession {
        /// The time to live, in milliseconds of log time, within
        /// [`SESSION_TTL_MS`](super::SESSION_TTL_MS).
        ttl_ms: u64,
    },
    /// A command that is applied once, however often and to whichever nodes it is submitted.
    ///
    /// Each submission gets the first one's answer, so a command whose outcome is unknown may be
    /// submitted again.
    SessionWrite(SessionCommand),
    /// Closes a session and drops its answers.
    CloseSession {
        /// The session.
        session: SessionId,
    },
}

impl Request {
    /// The bytes of the command, the query or the change.
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

/// A message from one replica to another.
///
/// A link must neither repeat nor reorder `Forward`s, and a message sent over a broken link must
/// not arrive over the next one: a repeated `Forward` would apply its command twice. `Raft`
/// messages may be lost, repeated and reordered.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum PeerMessage {
    /// A message between the cores.
    Raft(Message),
    /// A follower asks the leader to propose this.
    Forward {
        /// The sender's number for it, unique across its restarts.
        request: u64,
        /// The proposal.
        proposal: Proposal,
    },
    /// A follower asks the leader to carry out this admin request.
    ForwardAdmin {
        /// The sender's number for it, unique across its restarts.
        request: u64,
        /// The request.
        admin: AdminRequest,
    },
    /// The outcome of a `Forward` or `ForwardAdmin`.
    Forwarded {
        /// The number that the forwarding node gave.
        request: u64,
        /// The outcome.
        outcome: Outcome,
    },
}
