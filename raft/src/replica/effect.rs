//! What a replica asks of its driver.

use std::time::Duration;

use bytes::Bytes;

use super::{Outcome, PeerMessage, RequestId};
use crate::core;
use crate::storage::Job;
use crate::types::{Entries, NodeId, SnapshotMeta};

/// What a replica asks of its driver. Effects of one kind must be carried out in the order they come; kinds may overtake
/// each other. Those that are the state machine's (`Apply`, `Query`, `TakeSnapshot`, `Restore`) are of one kind.
#[derive(Debug, PartialEq, Eq, Hash)]
pub enum Effect {
    /// Send this to another node, if there is a link to it; otherwise drop it.
    Send {
        /// To whom.
        to: NodeId,
        /// What.
        message: PeerMessage,
    },
    /// Hand this to the storage thread; what it completes comes back by `handle_done` or `handle_storage_failure`.
    Storage(Job),
    /// Apply these, in this order, then say `applied`.
    Apply(Entries),
    /// Ask the state machine this, then say `queried`. What the query must see has been applied.
    Query {
        /// To be given back.
        id: QueryId,
        /// The query.
        query: Bytes,
    },
    /// Take a cheap copy of the state machine's state, which is that after everything applied so far, and have it written:
    /// [`Inline::run`](super::Inline::run) turns this into a [`Job::TakeSnapshot`].
    TakeSnapshot(SnapshotMeta),
    /// Put the state machine into the state of the newest snapshot on disk, which stands for this, then say `restored`:
    /// [`Inline::restore`](super::Inline::restore) does both, given the content to read.
    Restore(SnapshotMeta),
    /// Tell the request's author.
    Reply {
        /// The number given to `submit`.
        id: RequestId,
        /// What became of it.
        outcome: Outcome,
    },
    /// Something an operator may want to know.
    Event(Event),
}

/// The replica's number for a query that it handed out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct QueryId(pub u64);

/// Something an operator may want to know.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Event {
    /// The core's.
    Core(core::Event),
    /// A snapshot could not be written; another one is taken later. The log goes on, and grows until then.
    SnapshotFailed {
        /// What the disk, or the state machine, said.
        reason: String,
        /// How long no other one is tried.
        pause: Duration,
    },
    /// The disk has failed: this replica takes part in nothing any more.
    StorageFailed {
        /// What the disk said.
        reason: String,
    },
}
