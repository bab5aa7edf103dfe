//! Handles, to ask a node from other threads.

use std::{fmt, net::SocketAddr, sync::mpsc, time::Duration};

use bytes::Bytes;
use kodiak_channel::{SendError, Sender};

use super::{AsyncHandle, Events, Session, SessionError, Status};
use crate::{
    replica::{AdminRequest, Answer, Doubt, Outcome, Refusal, Request},
    types::{Index, MemberChange, NodeId},
};

/// A call from another thread into the node's loop.
pub(super) enum Call {
    Request(Request, Box<dyn FnOnce(Outcome) + Send>),
    Status(Box<dyn FnOnce(Status) + Send>),
    Subscribe(usize, Box<dyn FnOnce(Events) + Send>),
    Resolved(Resolved),
}

/// The result of looking up a peer's address.
#[derive(Debug)]
pub(super) struct Resolved {
    pub(super) node: NodeId,
    /// `host:port`.
    pub(super) address: String,
    /// At least one address, or why there is none.
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

/// Why a call did not reach the node. It had no effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HandleError {
    /// Too many calls wait.
    #[error(
        "{limit} calls wait for the node already (Options::handle_calls); had no effect, ask again \
         later"
    )]
    Full {
        /// The limit.
        limit: usize,
    },
    /// The node has stopped.
    #[error("the node has stopped; had no effect")]
    Stopped,
}

/// Why a call has no answer.
///
/// The text does not repeat the error's cause: print both with
/// [`error_chain`](super::error_chain).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CallError {
    /// The call did not reach the node.
    #[error(transparent)]
    NotSent(#[from] HandleError),
    /// The call had no effect, and will have none.
    #[error("the call was refused")]
    Refused(#[source] Refusal),
    /// The call may or may not have an effect.
    #[error("the call's outcome is unknown")]
    Unknown(#[source] Doubt),
    /// The node stopped before it answered: the call may or may not have had an effect.
    #[error(
        "the call's outcome is unknown: the node stopped before it answered; it may or may not \
         have been applied"
    )]
    StoppedMeanwhile,
    /// The request opened a session, which has no answer. The session ends unused.
    #[error("a session was opened, and has no answer: use Handle::open_session")]
    SessionOpened,
}

/// Asks a node, from any thread. Cheap to clone.
///
/// Each call waits for its outcome, at most for [`Options::request_timeout`](super::Options). For
/// futures see [`Handle::to_async`].
///
/// [`CallError::Unknown`] and [`CallError::StoppedMeanwhile`] leave open whether the call had an
/// effect. After every other error it had none and will have none.
#[derive(Clone, Debug)]
pub struct Handle {
    calls: Sender<Call>,
    limit: usize,
}

impl Handle {
    pub(super) fn new(calls: Sender<Call>, limit: usize) -> Handle {
        Handle { calls, limit }
    }

    /// Submits a request, and calls `reply` with its outcome.
    ///
    /// `reply` runs on the node's thread and must be quick. If the node stops before it answers,
    /// `reply` is dropped without a call.
    ///
    /// # Errors
    /// If the request did not reach the node. `reply` is dropped without a call.
    pub fn submit(
        &self,
        request: Request,
        reply: impl FnOnce(Outcome) + Send + 'static,
    ) -> Result<(), HandleError> {
        self.send(Call::Request(request, Box::new(reply)))
    }

    /// Replicates and applies a command, and returns the state machine's answer.
    ///
    /// # Errors
    /// See [`Handle`].
    pub fn write(&self, command: impl Into<Bytes>) -> Result<Answer, CallError> {
        self.ask(Request::Write(command.into()))
    }

    /// A linearizable read: the answer includes every write that was answered before this call.
    ///
    /// # Errors
    /// See [`Handle`]. A read has no effect and can always be repeated.
    pub fn read(&self, query: impl Into<Bytes>) -> Result<Answer, CallError> {
        self.ask(Request::Read(query.into()))
    }

    /// As [`Handle::read`], but answered by the leader's lease if it has one.
    ///
    /// See [`Options::lease`](super::Options#structfield.lease).
    ///
    /// # Errors
    /// As [`Handle::read`].
    pub fn lease_read(&self, query: impl Into<Bytes>) -> Result<Answer, CallError> {
        self.ask(Request::LeaseRead(query.into()))
    }

    /// A stale read: asks this node's state machine as it is, without asking other nodes.
    ///
    /// The answer is from a state that the cluster has been in, perhaps long ago. Since the node's
    /// start, no read shows an earlier state than a read before it.
    ///
    /// # Errors
    /// As [`Handle::read`].
    pub fn stale_read(&self, query: impl Into<Bytes>) -> Result<Answer, CallError> {
        self.ask(Request::StaleRead(query.into()))
    }

    /// Opens a session, through which commands are applied exactly once.
    ///
    /// The session ends when it was not used for `ttl`, which must be in the range
    /// [`SESSION_TTL_MS`](crate::replica::SESSION_TTL_MS). Each of its calls waits, and retries,
    /// for at most `timeout`.
    ///
    /// # Errors
    /// As [`Session::write`].
    pub fn open_session(&self, ttl: Duration, timeout: Duration) -> Result<Session, SessionError> {
        Session::open(self, ttl, timeout)
    }

    /// Changes the cluster's members, and returns the index of the new configuration.
    ///
    /// All `changes` happen in one step or in one joint change. The call waits until the
    /// configuration is committed and a joint one is left.
    ///
    /// # Errors
    /// See [`Handle`]. [`Refusal::Declined`] has the leader's reason.
    pub fn change_membership(
        &self,
        changes: impl Into<Vec<MemberChange>>,
    ) -> Result<Option<Index>, CallError> {
        self.ask(Request::Admin(AdminRequest::ChangeMembership(changes.into())))
            .map(|answer| answer.index)
    }

    /// Transfers leadership to `to`, or to the best voter, and waits until that node leads.
    ///
    /// # Errors
    /// As [`Handle::change_membership`].
    pub fn transfer_leadership(&self, to: Option<NodeId>) -> Result<(), CallError> {
        self.ask(Request::Admin(AdminRequest::TransferLeadership(to))).map(drop)
    }

    /// Takes a snapshot of this node's state, as for a backup, and returns its index.
    ///
    /// The call waits until the snapshot is on disk. The log that it covers is compacted by the
    /// usual rule.
    ///
    /// # Errors
    /// See [`Handle`]. A snapshot that takes longer than
    /// [`Options::request_timeout`](super::Options) is [`CallError::Unknown`], and is written all
    /// the same: ask again.
    pub fn take_snapshot(&self) -> Result<Index, CallError> {
        self.ask(Request::Snapshot).map(|answer| answer.index.unwrap_or_default())
    }

    /// A handle whose calls return futures. They need no runtime.
    #[must_use]
    pub fn to_async(&self) -> AsyncHandle {
        AsyncHandle::new(self.clone())
    }

    /// Subscribes to changes of leadership and membership, and to failures of this node.
    ///
    /// The first events are the present leadership and membership. The queue holds at most
    /// `capacity` events, and at least two. When it is full the oldest event is dropped and counted
    /// ([`Events::dropped`]), so the last event always shows the present state. The queue closes
    /// when the node stops.
    ///
    /// ```no_run
    /// # use std::error::Error;
    /// # fn subscribe(node: &kodiak_raft::node::Running) -> Result<(), Box<dyn Error>> {
    /// use kodiak_raft::node::NodeEvent;
    ///
    /// for event in node.handle().subscribe(64)? {
    ///     match event {
    ///         NodeEvent::LeaderChanged { leader, .. } => println!("leader: {leader:?}"),
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
        let (sender, receiver) = mpsc::sync_channel(1);
        self.send(Call::Subscribe(capacity, Box::new(move |events| drop(sender.send(events)))))?;
        receiver.recv().map_err(|_| HandleError::Stopped)
    }

    /// The node's state: replica, state machine and peers.
    ///
    /// # Errors
    /// If the node has stopped, or too many calls wait.
    pub fn status(&self) -> Result<Status, HandleError> {
        let (sender, receiver) = mpsc::sync_channel(1);
        self.send(Call::Status(Box::new(move |status| drop(sender.send(status)))))?;
        receiver.recv().map_err(|_| HandleError::Stopped)
    }

    /// Sends a looked-up address to the loop, and waits for room: without it the peer would never
    /// be called again.
    pub(super) fn send_resolved(&self, resolved: Resolved) -> Result<(), HandleError> {
        self.calls.send_blocking(Call::Resolved(resolved)).map_err(|_| HandleError::Stopped)
    }

    fn ask(&self, request: Request) -> Result<Answer, CallError> {
        let (sender, receiver) = mpsc::sync_channel(1);
        self.submit(request, move |outcome| drop(sender.send(outcome)))?;
        receiver.recv().map_or(Err(CallError::StoppedMeanwhile), answer_of)
    }

    pub(super) fn send(&self, call: Call) -> Result<(), HandleError> {
        self.calls.send(call).map_err(|error| match error {
            SendError::Full(_) => HandleError::Full { limit: self.limit },
            _ => HandleError::Stopped,
        })
    }
}

/// An outcome, as the result of a call.
pub(super) fn answer_of(outcome: Outcome) -> Result<Answer, CallError> {
    match outcome {
        Outcome::Answer(answer) => Ok(answer),
        Outcome::Opened(_) => Err(CallError::SessionOpened),
        Outcome::Refused(refusal) => Err(CallError::Refused(refusal)),
        Outcome::Unknown(doubt) => Err(CallError::Unknown(doubt)),
    }
}

#[cfg(test)]
mod tests {
    use super::{super::error_chain, *};

    #[test]
    fn the_chain_of_a_refused_call_names_the_reason_once() {
        for (error, reason) in [
            (CallError::Refused(Refusal::Removed), Refusal::Removed.to_string()),
            (CallError::Unknown(Doubt::LinkBroken), Doubt::LinkBroken.to_string()),
        ] {
            assert!(!error.to_string().contains(&reason), "{error}");
            assert_eq!(error_chain(&error), format!("{error}: {reason}"));
        }
    }
}
