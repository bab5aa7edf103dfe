//! What a node is told when it starts.

use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf, time::Duration};

use bytes::Bytes;

use crate::{
    core,
    replica::Limits,
    storage::LogOptions,
    types::{ClusterId, NodeId},
};

/// Settings of a [`Node`](super::Node). Make one with [`Options::new`] and change what you need.
#[derive(Clone, Debug)]
pub struct Options {
    /// This node's number. Never 0, and never used again for another disk.
    pub id: NodeId,
    /// The folder for the log. Made if it does not exist; no two processes may use it at once.
    pub data: PathBuf,
    /// Where this node listens for its peers. Port 0 lets the kernel choose one, for clusters of one.
    pub listen: SocketAddr,
    /// The other founding members and where they listen, `host:port`. They count when the data folder is made; later the
    /// log knows better, and they are not looked at. A cluster is founded once all founders have met, so that some of them
    /// whose disks were wiped do not found it again, empty, while those are away who remember it.
    pub peers: BTreeMap<NodeId, String>,
    /// The cluster that this node will be added to, if it founds none: its data folder is made without members, and the node
    /// waits until the cluster's leader calls it. Counts when the data folder is made, like `peers`, which must be empty.
    pub join: Option<ClusterId>,
    /// Where the others reach this node, `host:port`, if not where it listens. The same as the others have among their
    /// `peers`.
    pub advertise: Option<String>,
    /// The cluster's name. Nodes of clusters with other names, or with other founding members, are turned away.
    pub cluster: String,
    /// Told to every peer in the handshake and shown in their [`PeerStatus`](super::PeerStatus): say, where clients
    /// reach this node. At most [`HELLO_METADATA_BYTES_MAX`](crate::wire::HELLO_METADATA_BYTES_MAX) bytes.
    pub metadata: Bytes,
    /// Shortest and longest time without a leader before a node asks for an election. Default 150 to 300 ms.
    pub election_timeout: (Duration, Duration),
    /// How often a leader shows that it is there. Default 30 ms.
    pub heartbeat_interval: Duration,
    /// Whether a leader may answer [`Request::LeaseRead`](crate::replica::Request::LeaseRead) without asking a majority, and
    /// how bad the members' clocks may be: while a node leads, its own setting counts. Election timeouts may differ from node
    /// to node. The node's clock counts the time that the machine is suspended where the kernel can tell
    /// ([`kodiak_sys::boot_clock`]). Default `None`: lease reads ask a majority, like all others.
    pub lease: Option<core::Lease>,
    /// How long a request may wait for its outcome. Default 5 s.
    pub request_timeout: Duration,
    /// What the replica holds for its clients at most.
    pub limits: Limits,
    /// The most bytes of a snapshot in one message to a node that needs one. Default 1 MiB.
    pub snapshot_chunk_bytes: usize,
    /// Settings of the log.
    pub log: LogOptions,
    /// What may wait to be sent to one peer, in bytes; beyond it the link is given up and made anew. Default 64 MiB.
    pub link_buffer_bytes: usize,
    /// Links that other nodes may hold to this one at a time, those that have not said who they are included: if
    /// there is no place left, the oldest of these gives way to a new one. Default 64.
    pub incoming_links: usize,
    /// Calls through a [`Handle`](super::Handle) that may wait for the loop. Default 4096.
    pub handle_calls: usize,
}

impl Options {
    /// Defaults around what has none.
    #[must_use]
    pub fn new(id: NodeId, data: impl Into<PathBuf>, listen: SocketAddr) -> Options {
        Options {
            id,
            data: data.into(),
            listen,
            peers: BTreeMap::new(),
            join: None,
            advertise: None,
            cluster: "kodiak".to_owned(),
            metadata: Bytes::new(),
            election_timeout: (Duration::from_millis(150), Duration::from_millis(300)),
            heartbeat_interval: Duration::from_millis(30),
            lease: None,
            request_timeout: Duration::from_secs(5),
            limits: Limits::default(),
            snapshot_chunk_bytes: 1 << 20,
            log: LogOptions::default(),
            link_buffer_bytes: 64 << 20,
            incoming_links: 64,
            handle_calls: 4096,
        }
    }

    /// The founding voters: this node and its peers.
    pub(super) fn founding_ids(&self) -> impl Iterator<Item = NodeId> {
        let mut ids: Vec<NodeId> = self.peers.keys().copied().chain([self.id]).collect();
        ids.sort_unstable();
        ids.dedup();
        ids.into_iter()
    }

    /// The cluster's number: 128-bit FNV-1a (Fowler, Noll, Vo) over its name and its founding voters, so that nodes that
    /// were started with different ideas of the cluster never form one.
    pub(super) fn cluster_id(&self) -> ClusterId {
        const OFFSET_BASIS: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
        const PRIME: u128 = 0x0000_0000_0100_0000_0000_0000_0000_013b;
        let ids = self.founding_ids().flat_map(|id| id.0.to_le_bytes());
        let bytes = self.cluster.bytes().chain([0]).chain(ids);
        ClusterId(bytes.fold(OFFSET_BASIS, |hash, byte| (hash ^ u128::from(byte)).wrapping_mul(PRIME)))
    }

    pub(super) fn core_config(&self, seed: u64) -> core::Config {
        let mut config = core::Config::new(self.id);
        config.seed = seed;
        config.election_timeout = self.election_timeout;
        config.heartbeat_interval = self.heartbeat_interval;
        config.lease = self.lease;
        config.snapshot_chunk_bytes = self.snapshot_chunk_bytes;
        config
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(id: u64, peers: &[u64], cluster: &str) -> Options {
        let mut options = Options::new(NodeId(id), "/nowhere", "127.0.0.1:0".parse().unwrap());
        options.peers = peers.iter().map(|&peer| (NodeId(peer), format!("127.0.0.1:{peer}"))).collect();
        options.cluster = cluster.to_owned();
        options
    }

    #[test]
    fn founders_agree_on_the_cluster_and_others_do_not() {
        let one = options(1, &[2, 3], "a").cluster_id();
        assert_eq!(one, options(2, &[1, 3], "a").cluster_id());
        assert_ne!(one, options(1, &[2, 3], "b").cluster_id());
        assert_ne!(one, options(1, &[2, 3, 4], "a").cluster_id());
        assert_ne!(one, options(1, &[2], "a").cluster_id());
    }
}
