//! A node's state, for monitoring.

use bytes::Bytes;

use super::{MachineCall, MachinePlacement};
use crate::{
    replica,
    types::{Identity, NodeId},
};

/// A node's state: replica, state machine and peers.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Status {
    /// The node's cluster, group, id and disk.
    pub identity: Identity,
    /// Role, term, leader, indexes, requests.
    pub replica: replica::ReplicaStatus,
    /// The state machine: where it runs, what it does, how long its calls take.
    pub machine: MachineStatus,
    /// The peers that the node calls, in the order of their ids.
    pub peers: Vec<PeerStatus>,
}

/// What a node knows of its state machine.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct MachineStatus {
    /// Where its functions are called.
    pub placement: MachinePlacement,
    /// The call in progress.
    pub call: Option<MachineCall>,
    /// The longest call since the node's start.
    pub longest_call: Option<MachineCall>,
    /// How far the last restore has come.
    pub restored: RestoreProgress,
}

/// How far a restore of the state machine has come; all zero before the first one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RestoreProgress {
    /// Bytes of the snapshot's file that were read.
    pub read_bytes: u64,
    /// The file's length.
    pub total_bytes: u64,
}

/// What a node knows of a peer.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PeerStatus {
    /// The peer.
    pub id: NodeId,
    /// The address at which the node calls the peer, `host:port`.
    pub address: String,
    /// Whether the link to the peer is up.
    pub connected: bool,
    /// The metadata of the peer's last handshake; empty before the first.
    pub metadata: Bytes,
}
