//! What a node says of itself.

use bytes::Bytes;

use super::{MachineCall, MachinePlacement};
use crate::{
    replica,
    types::{Identity, NodeId},
};

/// What a node says of itself.
#[derive(Clone, Debug)]
pub struct Status {
    /// Who it is.
    pub identity: Identity,
    /// Role, term, leader, indexes, requests.
    pub replica: replica::Status,
    /// The state machine: where it runs, what it does, how long its calls take.
    pub machine: MachineStatus,
    /// Those whom it calls, in the order of their numbers.
    pub peers: Vec<PeerStatus>,
}

/// What a node knows of its state machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MachineStatus {
    /// Where its functions are called.
    pub placement: MachinePlacement,
    /// The call that is under way.
    pub call: Option<MachineCall>,
    /// The call that took longest in this life of the node.
    pub longest_call: Option<MachineCall>,
    /// How much of the newest snapshot's file the last restore has read, and the file's length.
    pub restored_bytes: (u64, u64),
}

/// What a node knows of a peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerStatus {
    /// The peer.
    pub id: NodeId,
    /// Where it is called, `host:port`.
    pub address: String,
    /// Whether the link to it is up.
    pub connected: bool,
    /// The metadata of its last handshake; empty before the first.
    pub metadata: Bytes,
}
