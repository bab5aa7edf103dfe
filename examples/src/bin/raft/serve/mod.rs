//! `raft serve`: one node and its clients, on one event loop.

mod client;
mod info;
mod join;
mod server;
mod transaction;

use std::{error::Error, io::IsTerminal, net::SocketAddr, path::PathBuf, str::FromStr, time::Duration};

use kodiak_raft::{core::Lease, node::Options, replica::Limits, types::NodeId};

/// Flags of `raft serve`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// This node's number, from 1; never used again for another data folder.
    #[arg(long)]
    id: u64,
    /// The folder for the log; made if it does not exist.
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// Where to listen for the other nodes.
    #[arg(long, value_name = "HOST:PORT")]
    raft: SocketAddr,
    /// Where to listen for Redis clients; port 0 lets the system choose.
    #[arg(long, value_name = "HOST:PORT")]
    client: SocketAddr,
    /// Another founding member and its --raft address; once for each. Looked at when the data folder is made; afterwards
    /// the log knows the members.
    #[arg(long = "peer", value_name = "ID=HOST:PORT")]
    peers: Vec<Peer>,
    /// Joins a running cluster: the clients' address of one of its nodes; more than one if that may be down. Looked at until
    /// this node is a member.
    #[arg(long, value_name = "HOST:PORT", conflicts_with = "peers")]
    join: Vec<String>,
    /// With --join: stays a learner, which receives the log and does not vote, until somebody promotes it.
    #[arg(long, requires = "join")]
    learner: bool,
    /// Where the other nodes reach this one, if not where --raft listens: what they give as --peer.
    #[arg(long, value_name = "HOST:PORT")]
    advertise_raft: Option<String>,
    /// The cluster's name; nodes of other clusters are turned away.
    #[arg(long, default_value = "kodiak")]
    cluster: String,
    /// Where `raft status` finds this node's clients' port, if not where --client listens.
    #[arg(long, value_name = "HOST:PORT")]
    advertise: Option<String>,
    /// Shortest time without a leader, in milliseconds, before this node asks for an election; the longest is twice that.
    #[arg(long, value_name = "MS", default_value_t = 150, value_parser = milliseconds())]
    election_timeout: u64,
    /// How often a leader shows that it is there, in milliseconds; at most half of --election-timeout.
    #[arg(long, value_name = "MS", default_value_t = 30, value_parser = milliseconds())]
    heartbeat: u64,
    /// Lets the leader answer reads without asking the others, for as long as it knows that nobody else can lead: as good as
    /// every member's clock runs true to this many millionths (1000 is plenty). The same at all nodes, and so must be
    /// --election-timeout then: a node with a shorter one may elect another leader while the lease still holds.
    #[arg(long, value_name = "PPM", value_parser = clap::value_parser!(u32).range(0..=500_000))]
    lease_drift: Option<u32>,
    /// How long a request may take, in milliseconds, before it is answered with an error.
    #[arg(long, value_name = "MS", default_value_t = 5000, value_parser = milliseconds())]
    request_timeout: u64,
    /// How many bytes of log are applied between two snapshots of the data, at least.
    #[arg(long, value_name = "BYTES", default_value_t = 64 << 20, value_parser = clap::value_parser!(u64).range(1..))]
    snapshot_every: u64,
    /// The most bytes of a snapshot in one message to a node that needs one; at most 16 MiB.
    #[arg(long, value_name = "BYTES", default_value_t = 1 << 20, value_parser = clap::value_parser!(u64).range(512..=16 << 20))]
    snapshot_chunk: u64,
    /// How long a file of the log is, in bytes. What snapshots include goes file by file.
    #[arg(long, value_name = "BYTES", default_value_t = 16 << 20, value_parser = clap::value_parser!(u64).range(4096..=1 << 30))]
    segment: u64,
    /// Clients that may be connected at a time.
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    max_clients: usize,
    /// The largest request, in bytes; at most 4 MiB.
    #[arg(long, value_name = "BYTES", default_value_t = 1 << 20, value_parser = clap::value_parser!(u64).range(64..=4 << 20))]
    max_request_bytes: u64,
}

/// A time of at least a millisecond and at most an hour.
fn milliseconds() -> clap::builder::RangedU64ValueParser {
    clap::value_parser!(u64).range(1..=3_600_000)
}

/// `2=127.0.0.1:7002`.
#[derive(Clone, Debug)]
struct Peer {
    id: u64,
    address: String,
}

impl FromStr for Peer {
    type Err = String;

    fn from_str(text: &str) -> Result<Peer, String> {
        let hint = "give it as ID=HOST:PORT, like 2=127.0.0.1:7002";
        let (id, address) = text.split_once('=').ok_or_else(|| format!("no '=': {hint}"))?;
        let id = id.parse().map_err(|_| format!("{id:?} is no node's number: {hint}"))?;
        if !address.contains(':') {
            return Err(format!("{address:?} has no port: {hint}"));
        }
        Ok(Peer { id, address: address.to_owned() })
    }
}

/// What the clients' side of a server needs to know.
#[derive(Clone, Copy, Debug)]
struct Settings {
    max_clients: usize,
    max_request_bytes: usize,
    /// Requests that the node is asked at a time, for clients of this server; those beyond wait in the sockets, so that a client
    /// that pipelines more than the cluster can hold is slowed down instead of refused.
    waiting_requests: usize,
    /// The same in bytes.
    waiting_bytes: usize,
    /// Whether reads may rest on the leader's lease.
    lease_reads: bool,
}

/// Among how many nodes the leader's room is shared, as one assumes that joins: it does not know the others when it starts.
const MEMBERS_ASSUMED: usize = 5;

impl Settings {
    /// All members together may ask the leader for as much as it holds.
    fn new(arguments: &Arguments, limits: &Limits) -> Settings {
        let members = if arguments.join.is_empty() { arguments.peers.len() + 1 } else { MEMBERS_ASSUMED };
        let max_request_bytes = arguments.max_request_bytes as usize;
        Settings {
            max_clients: arguments.max_clients,
            max_request_bytes,
            waiting_requests: limits.pending_requests / members,
            // The last request may exceed it.
            waiting_bytes: (limits.pending_bytes / members).saturating_sub(limits.request_bytes).max(1),
            lease_reads: arguments.lease_drift.is_some(),
        }
    }
}

/// Runs one node until SIGINT or SIGTERM.
pub(crate) fn run(arguments: Arguments) -> Result<(), Box<dyn Error>> {
    let colours = std::io::stderr().is_terminal();
    tracing_subscriber::fmt().with_writer(std::io::stderr).with_target(false).with_ansi(colours).init();
    let listener = server::listen(arguments.client)?;
    let client_address = listener.local_addr()?;
    let advertised = arguments.advertise.clone().unwrap_or_else(|| client_address.to_string());
    let mut options = options(&arguments, advertised)?;
    let is_joining = !arguments.join.is_empty();
    if is_joining && join::is_born(&arguments.data)? {
        join::check_cluster(&arguments.data, &arguments.join)?;
    } else if is_joining {
        options.join = Some(join::cluster(&arguments.join, options.id)?);
    }
    let settings = Settings::new(&arguments, &options.limits);
    let join = is_joining.then_some(server::Join { addresses: arguments.join, as_learner: arguments.learner });
    server::serve(&options, settings, listener, join)
}

fn options(arguments: &Arguments, advertised: String) -> Result<Options, String> {
    let mut options = Options::new(NodeId(arguments.id), &arguments.data, arguments.raft);
    for peer in &arguments.peers {
        if options.peers.insert(NodeId(peer.id), peer.address.clone()).is_some() {
            return Err(format!("--peer {} is given twice", peer.id));
        }
    }
    options.cluster.clone_from(&arguments.cluster);
    options.advertise.clone_from(&arguments.advertise_raft);
    options.metadata = advertised.into();
    let shortest = Duration::from_millis(arguments.election_timeout);
    options.election_timeout = (shortest, shortest * 2);
    options.lease = arguments.lease_drift.map(|drift_ppm| Lease { drift_ppm });
    options.heartbeat_interval = Duration::from_millis(arguments.heartbeat);
    options.request_timeout = Duration::from_millis(arguments.request_timeout);
    // A follower's clients may pipeline as deep as a leader's.
    options.limits.forwarded_requests = options.limits.pending_requests;
    options.limits.snapshot_every_bytes = arguments.snapshot_every;
    options.snapshot_chunk_bytes = arguments.snapshot_chunk as usize;
    options.log.segment_bytes = arguments.segment;
    // A request in the log takes a little more room than on the wire.
    options.limits.request_bytes = arguments.max_request_bytes as usize + 1024;
    Ok(options)
}
