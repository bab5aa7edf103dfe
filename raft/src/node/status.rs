//! What a node says of itself.

use bytes::Bytes;

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
    /// Those whom it calls, in the order of their numbers.
    pub peers: Vec<PeerStatus>,
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
