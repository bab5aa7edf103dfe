//! What a node is told when it starts.

use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf, time::Duration};

use bytes::Bytes;

use super::{MachinePlacement, NodeError};
use crate::{
    core,
    replica::{Limits, ReplicaConfig},
    storage::LogOptions,
    types::{ClusterId, NodeId},
    wire::FRAME_BYTES_MAX,
};

/// The most calls that may wait for a node: room for them is made at its start.
const HANDLE_CALLS_MAX: usize = 1 << 20;
/// The longest segment of a log: opening a log reads one into memory.
const SEGMENT_BYTES_MAX: u64 = 1 << 30;
/// What a frame between nodes holds besides entries, or besides a piece of a snapshot.
const FRAME_OVERHEAD_BYTES: usize = 1 << 20;

/// Settings of a [`Node`](super::Node). Make one with [`Options::new`] and change what you need.
/// Settings that are out of range, or do not fit together, are an error when the node is opened,
/// before anything is made in the data folder.
#[derive(Clone, Debug)]
pub struct Options {
    /// This node's number. Never 0, and never used again for another disk.
    pub id: NodeId,
    /// The folder for the log. Made if it does not exist; no two processes may use it at once.
    pub data: PathBuf,
    /// Where this node listens for its peers. Port 0 lets the kernel choose one, for clusters of
    /// one; a cluster of several on ports that the kernel chooses is started with
    /// [`start_listening`](super::start_listening).
    pub listen: SocketAddr,
    /// The other founding members and where they listen, `host:port`. They count when the data
    /// folder is made; later the log knows better, and they are not looked at. A cluster is founded
    /// once all founders have met, so that some of them whose disks were wiped do not found it
    /// again, empty, while those are away who remember it.
    pub peers: BTreeMap<NodeId, String>,
    /// The cluster that this node will be added to, if it founds none: its data folder is made
    /// without members, and the node waits until the cluster's leader calls it. Counts when the
    /// data folder is made, like `peers`, which must be empty.
    pub join: Option<ClusterId>,
    /// Where the others reach this node, `host:port`, if not where it listens. The same as the
    /// others have among their `peers`.
    pub advertise: Option<String>,
    /// The cluster's name. Nodes of clusters with other names, or with other founding members, are
    /// turned away.
    pub cluster: String,
    /// Told to every peer in the handshake and shown in their [`PeerStatus`](super::PeerStatus):
    /// say, where clients reach this node. At most
    /// [`HELLO_METADATA_BYTES_MAX`](crate::wire::HELLO_METADATA_BYTES_MAX) bytes.
    pub metadata: Bytes,
    /// Shortest and longest time without a leader before a node asks for an election. Default 150
    /// to 300 ms. At most [`core::TIMEOUT_MAX`], a day, as all times of a node.
    pub election_timeout: core::ElectionTimeout,
    /// How often a leader shows that it is there. Default 30 ms.
    pub heartbeat_interval: Duration,
    /// Whether a leader may answer [`Request::LeaseRead`](crate::replica::Request::LeaseRead)
    /// without asking a majority, and how bad the members' clocks may be: while a node leads, its
    /// own setting counts. Election timeouts may differ from node to node. The node's clock counts
    /// the time that the machine is suspended where the kernel can tell
    /// ([`kodiak_sys::boot_clock`]). Default `None`: lease reads ask a majority, like all others.
    pub lease: Option<core::Lease>,
    /// How long a request may wait for its outcome. Default 5 s.
    pub request_timeout: Duration,
    /// What the replica holds for its clients at most.
    pub limits: Limits,
    /// The most bytes of a snapshot in one message to a node that needs one. Default 1 MiB.
    pub snapshot_chunk_bytes: usize,
    /// The core's further limits: what messages hold, what is on its way to a follower, what waits.
    /// What has a field of its own here is set here; to set it there is an error. The node gives
    /// the core its id and its seed.
    pub core: core::Config,
    /// Where the state machine's functions are called. Default: on a thread of its own.
    pub machine: MachinePlacement,
    /// Settings of the log.
    pub log: LogOptions,
    /// What may wait to be sent to one peer, in bytes; beyond it the link is given up and made
    /// anew. Default 64 MiB.
    pub link_buffer_bytes: usize,
    /// Links that other nodes may hold to this one at a time, those that have not said who they are
    /// included: if there is no place left, the oldest of these gives way to a new one. Default 64.
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
            election_timeout: core::ElectionTimeout::new(
                Duration::from_millis(150),
                Duration::from_millis(300),
            ),
            heartbeat_interval: Duration::from_millis(30),
            lease: None,
            request_timeout: Duration::from_secs(5),
            limits: Limits::default(),
            snapshot_chunk_bytes: 1 << 20,
            core: core::Config::new(id),
            machine: MachinePlacement::default(),
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

    /// The cluster's number: 128-bit FNV-1a (Fowler, Noll, Vo) over its name and its founding
    /// voters, so that nodes that were started with different ideas of the cluster never form one.
    pub(super) fn cluster_id(&self) -> ClusterId {
        const OFFSET_BASIS: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
        const PRIME: u128 = 0x0000_0000_0100_0000_0000_0000_0000_013b;
        let ids = self.founding_ids().flat_map(|id| id.0.to_le_bytes());
        let bytes = self.cluster.bytes().chain([0]).chain(ids);
        ClusterId(
            bytes.fold(OFFSET_BASIS, |hash, byte| (hash ^ u128::from(byte)).wrapping_mul(PRIME)),
        )
    }

    pub(super) fn replica_config(&self, seed: u64) -> ReplicaConfig {
        let mut core = self.core.clone();
        core.id = self.id;
        core.seed = seed;
        core.election_timeout = self.election_timeout;
        core.heartbeat_interval = self.heartbeat_interval;
        core.lease = self.lease;
        core.snapshot_chunk_bytes = self.snapshot_chunk_bytes;
        let mut config = ReplicaConfig::new(core);
        config.request_timeout = self.request_timeout;
        config.limits = self.limits;
        config
    }

    /// Whether all numbers and times are in their ranges.
    pub(super) fn check_settings(&self) -> Result<(), NodeError> {
        let default = core::Config::new(self.core.id);
        let elsewhere = [
            ("core.election_timeout", self.core.election_timeout == default.election_timeout),
            ("core.heartbeat_interval", self.core.heartbeat_interval == default.heartbeat_interval),
            ("core.lease", self.core.lease == default.lease),
            (
                "core.snapshot_chunk_bytes",
                self.core.snapshot_chunk_bytes == default.snapshot_chunk_bytes,
            ),
        ];
        if let Some(&(name, _)) = elsewhere.iter().find(|(_, is_default)| !is_default) {
            let bound = format!("left as it is: set Options::{}", name.trim_start_matches("core."));
            return Err(NodeError::Setting { name, value: "set".to_owned(), bound });
        }
        self.replica_config(0).validate()?;
        let frame_most = (FRAME_BYTES_MAX - FRAME_OVERHEAD_BYTES) as u64;
        let ranges = [
            ("core.message_bytes", self.core.message_bytes as u64, frame_most),
            ("core.command_bytes", self.core.command_bytes as u64, frame_most),
            ("snapshot_chunk_bytes", self.snapshot_chunk_bytes as u64, frame_most),
            ("log.segment_bytes", self.log.segment_bytes, SEGMENT_BYTES_MAX),
            ("link_buffer_bytes", self.link_buffer_bytes as u64, u64::MAX),
            ("incoming_links", self.incoming_links as u64, u64::MAX),
            ("handle_calls", self.handle_calls as u64, HANDLE_CALLS_MAX as u64),
        ];
        match ranges.into_iter().find(|&(_, value, most)| value == 0 || value > most) {
            Some((name, value, most)) => {
                let bound = format!("between 1 and {most}");
                Err(NodeError::Setting { name, value: value.to_string(), bound })
            }
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(id: u64, peers: &[u64], cluster: &str) -> Options {
        let mut options = Options::new(NodeId(id), "/nowhere", "127.0.0.1:0".parse().unwrap());
        options.peers =
            peers.iter().map(|&peer| (NodeId(peer), format!("127.0.0.1:{peer}"))).collect();
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
