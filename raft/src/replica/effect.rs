//! What a replica asks of its driver.

use super::{MachineJob, Outcome, PeerMessage, ReplicaEvent, RequestId};
use crate::storage::Job;
use crate::types::NodeId;

/// An operation that a replica asks of its driver.
///
/// Effects of one variant must be carried out in their order; those of different variants may be
/// reordered.
#[derive(Debug, PartialEq, Eq, Hash)]
pub enum Effect {
    /// Send this message, or drop it if there is no link to the node.
    Send {
        /// The receiver.
        to: NodeId,
        /// The message.
        message: PeerMessage,
    },
    /// Give this job to the storage thread.
    ///
    /// Report its result with [`handle_done`](super::Replica::handle_done) or
    /// [`handle_storage_failure`](super::Replica::handle_storage_failure).
    Storage(Job),
    /// Give this job to the state machine.
    ///
    /// Report its result with [`handle_machine_done`](super::Replica::handle_machine_done). The
    /// replica does not wait for it: a [`MachineRunner`](super::MachineRunner) may run it on any
    /// thread.
    Machine(MachineJob),
    /// Return an outcome to the author of a request.
    Reply {
        /// The number given to [`submit`](super::Replica::submit).
        id: RequestId,
        /// The request's outcome.
        outcome: Outcome,
    },
    /// Report an event to the operator.
    Event(ReplicaEvent),
}

/// The replica's number for a query that it gave to the state machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct QueryId(pub u64);
