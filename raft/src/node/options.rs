//! Settings of a node.

use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf, time::Duration};

use bytes::Bytes;

use super::{MachinePlacement, NodeError};
use crate::setters::setters;
use crate::{
    core,
    replica::{Limits, ReplicaConfig},
    storage::LogOptions,
    types::{ClusterId, NodeId},
    wire::{FRAME_BYTES_MAX, HELLO_METADATA_BYTES_MAX},
};

/// The largest [`Options::handle_calls`]: their memory is allocated at the start.
const HANDLE_CALLS_MAX: usize = 1 << 20;
/// The largest segment of a log: opening a log reads one into memory.
const SEGMENT_BYTES_MAX: u64 = 1 << 30;
/// Bytes of a frame besides its entries or its piece of a snapshot.
const FRAME_OVERHEAD_BYTES: usize = 1 << 20;

/// Settings of a [`Node`](super::Node).
///
/// Opening a node checks them before it creates anything in the data folder: a setting that is out
/// of its range, or does not fit the others, is an error.
///
/// ```
/// use std::time::Duration;
///
/// use kodiak_raft::{node::Options, types::NodeId};
///
/// let options = Options::new(NodeId(1), "data", "127.0.0.1:7001".parse()?)
///     .peers([(NodeId(2), "b.example:7001"), (NodeId(3), "c.example:7001")])
///     .request_timeout(Duration::from_secs(2));
/// # assert_eq!(options.peers.len(), 2);
/// # Ok::<(), std::net::AddrParseError>(())
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Options {
    /// This node's id. Never 0, and never used again for another disk.
    pub id: NodeId,
    /// The data folder. It is created if it does not exist; only one process may use it at a time.
    pub data: PathBuf,
    /// The address on which this node listens for its peers. With port 0 the kernel chooses one,
    /// for clusters of one node. For a larger cluster see
    /// [`start_listening`](super::start_listening).
    pub listen: SocketAddr,
    /// The other initial members of a new cluster, and their addresses, `host:port`. Used only when
    /// the data folder is created; later the log holds the members. The cluster is bootstrapped
    /// once all initial members have met. So members whose disks were wiped cannot bootstrap it
    /// again, empty, while a member that remembers it is away.
    pub peers: BTreeMap<NodeId, String>,
    /// The existing cluster that this node will join. The data folder is created without members,
    /// and the node waits until the cluster's leader calls it. Used only when the data folder is
    /// created; `peers` must then be empty.
    pub join: Option<ClusterId>,
    /// The address at which other nodes reach this one, `host:port`, if it is not `listen`. It must
    /// be the one that the other nodes have among their `peers`.
    pub advertise: Option<String>,
    /// The cluster's name. Nodes reject each other if their clusters' names or initial members
    /// differ.
    pub cluster: String,
    /// Bytes for the handshake that peers show in their [`PeerStatus`](super::PeerStatus), for
    /// example the address for clients. At most
    /// [`HELLO_METADATA_BYTES_MAX`](crate::wire::HELLO_METADATA_BYTES_MAX) bytes.
    pub metadata: Bytes,
    /// The range of the election timeout. Default 150 to 300 ms. All times of a node are at most
    /// [`core::TIMEOUT_MAX`], a day.
    pub election_timeout: core::ElectionTimeout,
    /// The time between two heartbeats of a leader. Default 30 ms.
    pub heartbeat_interval: Duration,
    /// The lease by which this node, while it leads, answers
    /// [`Request::LeaseRead`](crate::replica::Request::LeaseRead) without asking a majority, with
    /// the bound on the drift of the members' clocks. Election timeouts may differ from node to
    /// node. The node's clock counts the time that the machine is suspended where the kernel can
    /// tell ([`kodiak_sys::boot_clock`]). Default `None`: lease reads ask a majority, as other
    /// reads do.
    pub lease: Option<core::Lease>,
    /// How long a request may wait for its outcome. Default 5 s.
    pub request_timeout: Duration,
    /// Limits on what the replica holds for its clients.
    pub limits: Limits,
    /// The most bytes of a snapshot in one message. Default 1 MiB.
    pub snapshot_chunk_bytes: usize,
    /// Further settings of the core. To set a field here that `Options` has itself is an error. The
    /// node sets the core's id and seed.
    pub core: core::Config,
    /// Where the state machine's functions are called. Default: on a thread of its own.
    pub machine: MachinePlacement,
    /// Settings of the log.
    pub log: LogOptions,
    /// The most bytes that may wait to be sent to one peer. Beyond them the link is closed, and a
    /// new one is made. Default 64 MiB.
    pub link_buffer_bytes: usize,
    /// The most links that other nodes may have to this one, those without a handshake included. If
    /// no place is left, the oldest link without a handshake is closed. Default 64.
    pub incoming_links: usize,
    /// The most calls through a [`Handle`](super::Handle) that may wait for the loop. Default 4096.
    pub handle_calls: usize,
}

// A setter for each field that needs no conversion.
setters!(Options {
    election_timeout: core::ElectionTimeout,
    heartbeat_interval: Duration,
    request_timeout: Duration,
    limits: Limits,
    snapshot_chunk_bytes: usize,
    core: core::Config,
    machine: MachinePlacement,
    log: LogOptions,
    link_buffer_bytes: usize,
    incoming_links: usize,
    handle_calls: usize,
});

impl Options {
    /// The defaults, for a node with this id, data folder and address.
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

    /// Sets the other initial members of a new cluster; see
    /// [`Options::peers`](#structfield.peers).
    #[must_use]
    pub fn peers<A: Into<String>>(
        mut self,
        peers: impl IntoIterator<Item = (NodeId, A)>,
    ) -> Options {
        self.peers = peers.into_iter().map(|(id, address)| (id, address.into())).collect();
        self
    }

    /// Sets the existing cluster to join; see [`Options::join`](#structfield.join).
    #[must_use]
    pub fn join(mut self, cluster: ClusterId) -> Options {
        self.join = Some(cluster);
        self
    }

    /// Sets the address for other nodes; see [`Options::advertise`](#structfield.advertise).
    #[must_use]
    pub fn advertise(mut self, address: impl Into<String>) -> Options {
        self.advertise = Some(address.into());
        self
    }

    /// Sets the cluster's name; see [`Options::cluster`](#structfield.cluster).
    #[must_use]
    pub fn cluster(mut self, name: impl Into<String>) -> Options {
        self.cluster = name.into();
        self
    }

    /// Sets the handshake's metadata; see [`Options::metadata`](#structfield.metadata).
    #[must_use]
    pub fn metadata(mut self, metadata: impl Into<Bytes>) -> Options {
        self.metadata = metadata.into();
        self
    }

    /// Allows lease reads; see [`Options::lease`](#structfield.lease).
    #[must_use]
    pub fn lease(mut self, lease: core::Lease) -> Options {
        self.lease = Some(lease);
        self
    }

    /// The initial voters of a new cluster: this node and its peers, in order.
    pub(super) fn initial_voters(&self) -> impl Iterator<Item = NodeId> {
        let mut ids: Vec<NodeId> = self.peers.keys().copied().chain([self.id]).collect();
        ids.sort_unstable();
        ids.dedup();
        ids.into_iter()
    }

    /// The cluster's id: 128-bit FNV-1a (Fowler, Noll, Vo) over its name and its initial voters.
    ///
    /// Nodes with other settings of either have another id, and reject each other.
    pub(super) fn cluster_id(&self) -> ClusterId {
        const OFFSET_BASIS: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
        const PRIME: u128 = 0x0000_0000_0100_0000_0000_0000_0000_013b;
        let ids = self.initial_voters().flat_map(|id| id.0.to_le_bytes());
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

    /// Checks ids, peers, metadata, and the ranges of all numbers and times.
    pub(super) fn validate(&self) -> Result<(), NodeError> {
        if self.id.0 == 0 || self.peers.keys().any(|id| id.0 == 0) {
            return Err(NodeError::IdZero);
        }
        if self.peers.contains_key(&self.id) {
            return Err(NodeError::PeerIsSelf { id: self.id });
        }
        if self.join.is_some() && !self.peers.is_empty() {
            return Err(NodeError::BootstrapsAndJoins { id: self.id });
        }
        let (len_bytes, limit_bytes) = (self.metadata.len(), HELLO_METADATA_BYTES_MAX);
        if len_bytes > limit_bytes {
            return Err(NodeError::MetadataTooLong { len_bytes, limit_bytes });
        }
        self.check_ranges()
    }

    fn check_ranges(&self) -> Result<(), NodeError> {
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
            let bound =
                format!("left at its default: set Options::{}", name.trim_start_matches("core."));
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

    fn cluster_id(id: u64, peers: &[u64], cluster: &str) -> ClusterId {
        Options::new(NodeId(id), "/nowhere", "127.0.0.1:0".parse().unwrap())
            .peers(peers.iter().map(|&peer| (NodeId(peer), format!("127.0.0.1:{peer}"))))
            .cluster(cluster)
            .cluster_id()
    }

    #[test]
    fn the_clusters_id_depends_on_its_name_and_initial_members() {
        let id = cluster_id(1, &[2, 3], "a");
        assert_eq!(id, cluster_id(2, &[1, 3], "a"));
        assert_ne!(id, cluster_id(1, &[2, 3], "b"));
        assert_ne!(id, cluster_id(1, &[2, 3, 4], "a"));
        assert_ne!(id, cluster_id(1, &[2], "a"));
    }
}
