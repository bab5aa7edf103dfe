//! Asking a node from other threads.

use std::{fmt, net::SocketAddr, sync::mpsc, time::Duration};

use bytes::Bytes;
use kodiak_channel::{SendError, Sender};

use super::{AsyncHandle, Events, Session, SessionError, Status};
use crate::{
    replica::{Admin, Answer, Outcome, Request},
    types::{Index, MemberChange, NodeId},
};

/// Something that another thread asks of the node's loop.
pub(super) enum Call {
    Request(Request, Box<dyn FnOnce(Outcome) + Send>),
    Status(Box<dyn FnOnce(Status) + Send>),
    Subscribe(usize, Box<dyn FnOnce(Events) + Send>),
    Resolved(Resolved),
}

/// What looking up a peer's address came to.
#[derive(Debug)]
pub(super) struct Resolved {
    pub(super) node: NodeId,
    /// `host:port`.
    pub(super) address: String,
    /// At least one.
    pub(super) result: Result<Vec<SocketAddr>, String>,
}

impl fmt::Debug for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Call::Request(request, _) => {
                f.debug_tuple("Request").field(request).finish_non_exhaustive()
            }
            Call::Subscribe(capacity, _) => {
                f.debug_tuple("Subscribe").field(capacity).finish_non_exhaustive()
            }
            Call::Status(_) => f.debug_tuple("Status").finish_non_exhaustive(),
            Call::Resolved(resolved) => f.debug_tuple("Resolved").field(resolved).finish(),
        }
    }
}

/// Why a call did not reach the node. It certainly had no effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HandleError {
    /// Too many calls wait.
    #[error(
        "{limit} calls wait for the node already (Options::handle_calls); had no effect, ask again later"
    )]
    Full {
        /// The bound.
        limit: usize,
    },
    /// The node has stopped.
    #[error("the node has stopped; had no effect")]
    Stopped,
}

/// Why a call has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CallError {
    /// The call did not reach the node.
    #[error(transparent)]
    NotSent(#[from] HandleError),
    /// It certainly had no effect.
    #[error("refused: {0}")]
    Refused(crate::replica::Refusal),
    /// It may or may not have had an effect.
    #[error("unknown: {0}")]
    Unknown(crate::replica::Doubt),
    /// The node stopped before it answered: it may or may not have had an effect.
    #[error("unknown: the node stopped before it answered; it may or may not have been applied")]
    StoppedMeanwhile,
    /// A session was asked for, whose name is no answer. It may be open, unused, until it ends.
    #[error("a session was opened, and has no answer: use Handle::open_session")]
    SessionOpened,
}

/// Asks a node, from any thread. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Handle {
    calls: Sender<Call>,
    limit: usize,
}

impl Handle {
    pub(super) fn new(calls: Sender<Call>, limit: usize) -> Handle {
        Handle { calls, limit }
    }

    /// Asks, and has `tell` called with the outcome, on the node's thread: it must be quick. If the
    /// node stops before it answers, `tell` is dropped uncalled.
    ///
    /// # Errors
    /// If the call did not reach the node; `tell` is dropped uncalled.
    pub fn submit(
        &self,
        request: Request,
        tell: impl FnOnce(Outcome) + Send + 'static,
    ) -> Result<(), HandleError> {
        self.send(Call::Request(request, Box::new(tell)))
    }

    /// Replicates and applies a command, and waits for what the state machine said.
    ///
    /// # Errors
    /// [`CallError::Unknown`] and [`CallError::StoppedMeanwhile`] leave open whether the command
    /// was applied; all others mean that it was not and will not be. The wait is bounded by
    /// [`Options::request_timeout`](super::Options).
    pub fn write(&self, command: impl Into<Bytes>) -> Result<Answer, CallError> {
        self.ask(Request::Write(command.into()))
    }

    /// Asks the state machine, linearizably: the answer includes every write that was answered
    /// before this call.
    ///
    /// # Errors
    /// As [`Handle::write`]; a read has no effect and may always be asked again.
    pub fn read(&self, query: impl Into<Bytes>) -> Result<Answer, CallError> {
        self.ask(Request::Read(query.into()))
    }

    /// As [`Handle::read`], but answered by the leader's lease if it has one
    /// ([`Options::lease`](super::Options::lease)).
    ///
    /// # Errors
    /// As [`Handle::read`].
    pub fn lease_read(&self, query: impl Into<Bytes>) -> Result<Answer, CallError> {
        self.ask(Request::LeaseRead(query.into()))
    }

    /// Asks this node's state machine as it is: a state that the cluster has been in, perhaps long
    /// ago, never an earlier one than this node has shown before in this life.
    ///
    /// # Errors
    /// As [`Handle::read`].
    pub fn stale_read(&self, query: impl Into<Bytes>) -> Result<Answer, CallError> {
        self.ask(Request::StaleRead(query.into()))
    }

    /// Opens a session, through which commands are applied exactly once. It ends when it was not
    /// used for `ttl` ([`SESSION_TTL_MS`](crate::replica::SESSION_TTL_MS)); each of its calls
    /// waits, and asks again, for `patience` at most.
    ///
    /// # Errors
    /// As [`Session::write`].
    pub fn open_session(&self, ttl: Duration, patience: Duration) -> Result<Session, SessionError> {
        Session::open(self, ttl, patience)
    }

    /// Changes who belongs to the cluster, all of `changes` in one step or one joint change, and
    /// waits until that is committed and, if it was joint, left. Gives the index of the
    /// configuration.
    ///
    /// # Errors
    /// As [`Handle::write`]. [`Refusal::Declined`](crate::replica::Refusal::Declined) says why the
    /// leader would not.
    pub fn change_membership(
        &self,
        changes: impl Into<Vec<MemberChange>>,
    ) -> Result<Option<Index>, CallError> {
        self.ask(Request::Admin(Admin::Change(changes.into()))).map(|answer| answer.index)
    }

    /// Hands leadership to `to`, or to whoever suits best, and waits until that node leads.
    ///
    /// # Errors
    /// As [`Handle::change_membership`].
    pub fn transfer_leadership(&self, to: Option<NodeId>) -> Result<(), CallError> {
        self.ask(Request::Admin(Admin::Transfer(to))).map(drop)
    }

    /// Takes a snapshot of this node's state, as for a backup, and waits until it is on disk. Gives
    /// the index that it stands for. The log that it covers is let go of by the usual rule.
    ///
    /// # Errors
    /// As [`Handle::write`]. A snapshot that takes longer than
    /// [`Options::request_timeout`](super::Options) is [`CallError::Unknown`], and is written all
    /// the same: ask again.
    pub fn take_snapshot(&self) -> Result<Index, CallError> {
        self.ask(Request::Snapshot).map(|answer| answer.index.unwrap_or_default())
    }

    /// The same node, asked with futures instead of calls that wait. They need no runtime.
    #[must_use]
    pub fn to_async(&self) -> AsyncHandle {
        AsyncHandle::new(self.clone())
    }

    /// Changes of leadership and membership from now on, and the end of this node's part. The first
    /// events say what holds now. At most `capacity` of them wait, and never less than two: then
    /// the oldest goes and is counted ([`Events::dropped`]), so that the last one read is always
    /// what holds now. The queue closes when the node stops.
    ///
    /// ```no_run
    /// # fn subscribe(node: &kodiak_raft::node::Running) -> Result<(), Box<dyn std::error::Error>> {
    /// use kodiak_raft::node::NodeEvent;
    ///
    /// for event in node.handle().subscribe(64)? {
    ///     match event {
    ///         NodeEvent::LeaderChanged { leader, term, .. } => println!("{leader:?} leads {term}"),
    ///         NodeEvent::Removed => break,
    ///         _ => {}
    ///     }
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// If the node has stopped, or too many calls wait.
    pub fn subscribe(&self, capacity: usize) -> Result<Events, HandleError> {
        let (tell, told) = mpsc::sync_channel(1);
        self.send(Call::Subscribe(capacity, Box::new(move |events| drop(tell.send(events)))))?;
        told.recv().map_err(|_| HandleError::Stopped)
    }

    /// What the node says of itself.
    ///
    /// # Errors
    /// If the node has stopped, or too many calls wait.
    pub fn status(&self) -> Result<Status, HandleError> {
        let (tell, told) = mpsc::sync_channel(1);
        self.send(Call::Status(Box::new(move |status| drop(tell.send(status)))))?;
        told.recv().map_err(|_| HandleError::Stopped)
    }

    /// Brings back what was looked up. It must arrive, or the peer would never be called again: so
    /// it waits for room.
    pub(super) fn resolved(&self, found: Resolved) -> Result<(), HandleError> {
        self.calls.send_blocking(Call::Resolved(found)).map_err(|_| HandleError::Stopped)
    }

    fn ask(&self, request: Request) -> Result<Answer, CallError> {
        let (tell, told) = mpsc::sync_channel(1);
        self.submit(request, move |outcome| drop(tell.send(outcome)))?;
        told.recv().map_or(Err(CallError::StoppedMeanwhile), answer_of)
    }

    pub(super) fn send(&self, call: Call) -> Result<(), HandleError> {
        self.calls.send(call).map_err(|error| match error {
            SendError::Full(_) => HandleError::Full { limit: self.limit },
            SendError::Closed(_) => HandleError::Stopped,
        })
    }
}

/// What a caller is given for an outcome.
pub(super) fn answer_of(outcome: Outcome) -> Result<Answer, CallError> {
    match outcome {
        Outcome::Answer(answer) => Ok(answer),
        Outcome::Opened(_) => Err(CallError::SessionOpened),
        Outcome::Refused(refusal) => Err(CallError::Refused(refusal)),
        Outcome::Unknown(doubt) => Err(CallError::Unknown(doubt)),
    }
}
