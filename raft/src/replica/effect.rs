//! What a replica asks of its driver.

use std::time::Duration;

use super::{MachineFailure, MachineJob, Outcome, PeerMessage, RequestId, UnappliedLogFull};
use crate::core;
use crate::storage::Job;
use crate::types::{Index, NodeId};

/// What a replica asks of its driver. Effects of one kind must be carried out in the order they
/// come; kinds may overtake each other. Those that are the state machine's (`Apply`, `Query`,
/// `TakeSnapshot`, `Restore`) are of one kind.
#[derive(Debug, PartialEq, Eq, Hash)]
pub enum Effect {
    /// Send this to another node, if there is a link to it; otherwise drop it.
    Send {
        /// To whom.
        to: NodeId,
        /// What.
        message: PeerMessage,
    },
    /// Hand this to the storage thread; what it completes comes back by `handle_done` or
    /// `handle_storage_failure`.
    Storage(Job),
    /// Hand this to the state machine, in its order; what becomes of it comes back by
    /// [`Replica::handle_machine_done`](super::Replica::handle_machine_done). The replica does not wait for
    /// it: [`MachineRunner`](super::MachineRunner) can do it on any thread.
    Machine(MachineJob),
    /// Tell the request's author.
    Reply {
        /// The number given to `submit`.
        id: RequestId,
        /// What became of it.
        outcome: Outcome,
    },
    /// Something an operator may want to know.
    Event(ReplicaEvent),
}

/// The replica's number for a query that it handed out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct QueryId(pub u64);

/// Something an operator may want to know.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ReplicaEvent {
    /// The core's.
    Core(core::Event),
    /// A snapshot could not be written; another one is taken later. The log goes on, and grows
    /// until then.
    SnapshotFailed {
        /// What the disk, or the state machine, said.
        reason: String,
        /// How long no other one is tried.
        pause: Duration,
    },
    /// The state machine refuses to go on: this replica votes and acknowledges, and does not lead
    /// or answer.
    MachineFailed(MachineFailure),
    /// The file of the newest snapshot cannot be read, so the state machine cannot be restored from
    /// it: the leader is asked for another one.
    SnapshotDamaged {
        /// What the snapshot includes.
        index: Index,
    },
    /// The log that the failed state machine cannot apply exceeds its quota: this replica takes
    /// part in nothing any more.
    UnappliedLogFull(UnappliedLogFull),
    /// The disk has failed: this replica takes part in nothing any more.
    StorageFailed {
        /// What the disk said.
        reason: String,
    },
}
