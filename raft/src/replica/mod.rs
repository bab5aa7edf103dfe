//! Everything that decides, without I/O: the core, the order of application, forwarding, requests and their deadlines.

mod effect;
mod executor;
mod limits;
mod message;
mod pending;
mod state_machine;

use bytes::Bytes;

pub use effect::{Effect, Event, QueryId};
pub use executor::Inline;
pub use limits::{Limits, ReplicaConfig};
pub use message::{Bound, Doubt, Outcome, PeerMessage, Refusal, Request, RequestId};
pub use state_machine::{Committed, StateMachine};

use crate::core::Done;
use crate::types::{Index, NodeId, Now, Saved, Time};
use pending::{ConfigError, CoreStatus, StorageError};

/// One node's replica of a group.
#[derive(Debug)]
pub struct Replica {}

/// What a replica says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// The core's status.
    pub core: CoreStatus,
    /// The last index that the state machine has applied.
    pub applied: Index,
    /// Requests not answered yet.
    pub pending_requests: usize,
    /// Their bytes.
    pub pending_bytes: usize,
    /// Why the replica answers nothing any more, if its disk has failed.
    pub failed: Option<String>,
}

/// `applied` was told something that does not fit what was handed out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("entries up to {index} hold {commands} commands, but {outputs} outputs were given; nothing was changed")]
pub struct AppliedError {
    /// The index given.
    pub index: Index,
    /// How many outputs it takes.
    pub commands: usize,
    /// How many were given.
    pub outputs: usize,
}

impl Replica {
    /// A replica with what its disk held.
    pub fn new(_config: ReplicaConfig, _saved: Saved, _now: Now) -> Result<Replica, ConfigError> {
        Ok(Replica {})
    }
    /// A message from `from` arrived.
    pub fn handle_message(&mut self, _now: Now, _from: NodeId, _message: PeerMessage) {}
    /// The time that `poll_timeout` named has come.
    pub fn handle_timeout(&mut self, _now: Now) {}
    /// The storage thread has done a job.
    pub fn handle_done(&mut self, _now: Now, _done: Done) {}
    /// The disk has failed.
    pub fn handle_storage_failure(&mut self, _now: Now, _error: &StorageError) {}
    /// There is a link to `peer`.
    pub fn handle_connected(&mut self, _now: Now, _peer: NodeId) {}
    /// The link to `peer` broke.
    pub fn handle_disconnected(&mut self, _now: Now, _peer: NodeId) {}
    /// A client asks.
    pub fn submit(&mut self, _now: Now, _id: RequestId, _request: Request) {}
    /// The state machine has applied everything up to `index`; one output for each command among it, in order.
    pub fn applied(&mut self, _now: Now, _index: Index, _outputs: &mut Vec<Bytes>) -> Result<(), AppliedError> {
        Ok(())
    }
    /// The state machine has answered.
    pub fn queried(&mut self, _now: Now, _id: QueryId, _output: Bytes) {}
    /// The next effect; call until `None` after every input or batch of inputs.
    pub fn poll(&mut self) -> Option<Effect> {
        None
    }
    /// When to call `handle_timeout`.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Time> {
        None
    }
    /// What it says of itself.
    #[must_use]
    pub fn status(&self) -> Status {
        Status { core: CoreStatus, applied: Index(0), pending_requests: 0, pending_bytes: 0, failed: None }
    }
}
