//! `raft serve`: one node and its clients, on one event loop.

mod client;
mod clock_info;
mod exit;
mod expiry_reads;
mod explain;
mod info;
mod join;
mod scan_budget;
mod server;
mod transaction;

pub(crate) use exit::{CommittedConflict, StorageFailed, UnappliedLog};

use std::{
    error::Error, io::IsTerminal, net::SocketAddr, path::PathBuf, str::FromStr, time::Duration,
};

use kodiak_raft::{
    core::{ElectionTimeout, Lease},
    node::{Options, error_chain},
    replica::Limits,
    types::NodeId,
};

use crate::{
    address::{Address, ListenAddress},
    flags::{milliseconds, node_id, number},
};

const AFTER_HELP: &str = "\
Exit codes:
  0  SIGINT or SIGTERM
  1  the node could not start; standard error says why and what to do
  2  the flags are not valid
  3  the disk refused a write or a sync of the log while the node ran (full, read-only, broken).
     Start the node again, or let a supervisor do it: it loses nothing that it acknowledged, and
     serves again once the disk has space
  4  a leader contradicts what is committed here: the cluster has lost acknowledged writes, and
     this node may hold the only copy. Do not wipe it, and do not start it again before you have
     inspected it with 'raft inspect'
  5  the state machine has failed at an entry, and the log that it cannot apply exceeds
     --max-unapplied-log. Start a version of the program that can apply the entry, or raise the
     bound; the log is whole

Examples:
  Two of the three initial members of a cluster (the third likewise):
    raft serve --id 1 --data one --raft a.example:7001 --client a.example:6001 \\
      --peer 2=b.example:7001 --peer 3=c.example:7001
    raft serve --id 2 --data two --raft b.example:7001 --client b.example:6001 \\
      --peer 1=a.example:7001 --peer 3=c.example:7001
  Later, a fourth:
    raft serve --id 4 --data four --raft d.example:7001 --client d.example:6001 \\
      --join a.example:6001";

/// Flags of `raft serve`.
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct Arguments {
    /// This node's number, from 1. It is never used again for another data folder.
    #[arg(long, value_parser = node_id, allow_negative_numbers = true)]
    id: u64,
    /// The folder of the log; created if it does not exist.
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// Where to listen for the other nodes. If it is a name, they connect by that name, and resolve
    /// it at each connection.
    #[arg(long, value_name = "HOST:PORT")]
    raft: ListenAddress,
    /// Where to listen for Redis clients; port 0 lets the system choose.
    #[arg(long, value_name = "HOST:PORT")]
    client: ListenAddress,
    /// Bootstraps a new cluster: another initial member and its --raft address, once for each. On
    /// the first start every initial member must be reachable. Ignored if the data folder has a
    /// log, which knows the members. Without --peer and --join a new node is a cluster of one.
    #[arg(long = "peer", value_name = "ID=HOST:PORT", help_heading = "Which cluster")]
    peers: Vec<Peer>,
    /// Joins a running cluster: the --client address of one of its nodes, and of others in case
    /// that one is down. Ignored once this node is a member.
    #[arg(
        long,
        value_name = "HOST:PORT",
        conflicts_with = "peers",
        help_heading = "Which cluster"
    )]
    join: Vec<Address>,
    /// With --join: stays a learner, which receives the log and does not vote, until an operator
    /// promotes it.
    #[arg(long, requires = "join", help_heading = "Which cluster")]
    learner: bool,
    /// Where the other nodes reach this one, if not where --raft listens. They give it as --peer.
    #[arg(long, value_name = "HOST:PORT", help_heading = "Addresses for others")]
    advertise_raft: Option<Address>,
    /// Where `raft status` finds this node's port for clients, if not where --client listens.
    #[arg(long, value_name = "HOST:PORT", help_heading = "Addresses for others")]
    advertise: Option<Address>,
    /// The name of the new cluster, the same at all initial members; nodes of other clusters are
    /// refused. Ignored if the data folder has a log. Not with --join, which takes the name from
    /// the cluster [default: kodiak].
    #[arg(long, value_name = "NAME", help_heading = "Which cluster")]
    cluster: Option<String>,
    /// Shortest time without a leader, in milliseconds, before this node starts an election; the
    /// longest is twice that.
    #[arg(
        long,
        value_name = "MS",
        default_value_t = 150,
        value_parser = milliseconds(),
        allow_negative_numbers = true,
        help_heading = "Times"
    )]
    election_timeout: u64,
    /// Interval of a leader's heartbeats, in milliseconds: at most half of the --election-timeout
    /// of every node.
    #[arg(
        long,
        value_name = "MS",
        default_value_t = 30,
        value_parser = milliseconds(),
        allow_negative_numbers = true,
        help_heading = "Times"
    )]
    heartbeat: u64,
    /// Lets the leader answer reads without asking the other nodes while its lease holds. Reads
    /// stay linearizable only while every member's clock drifts by at most this many millionths
    /// (1000 is ample). Give it to every node, because any may become the leader.
    #[arg(
        long,
        value_name = "PPM",
        value_parser = number::<u32>("millionths", 0..=500_000),
        allow_negative_numbers = true,
        help_heading = "Times"
    )]
    lease_drift: Option<u32>,
    /// How long a request may take, in milliseconds, before it is answered with an error.
    #[arg(
        long,
        value_name = "MS",
        default_value_t = 5000,
        value_parser = milliseconds(),
        allow_negative_numbers = true,
        help_heading = "Times"
    )]
    request_timeout: u64,
    /// Bytes of log that are applied between two snapshots of the data, at least.
    #[arg(
        long,
        value_name = "BYTES",
        default_value_t = 64 << 20,
        value_parser = number::<u64>("bytes", 1..=u64::MAX),
        allow_negative_numbers = true,
        help_heading = "Log and snapshots"
    )]
    snapshot_every: u64,
    /// Bytes of a snapshot in one message to a node that needs it; at most 16 MiB.
    #[arg(
        long,
        value_name = "BYTES",
        default_value_t = 1 << 20,
        value_parser = number::<u64>("bytes", 512..=16 << 20),
        allow_negative_numbers = true,
        help_heading = "Log and snapshots"
    )]
    snapshot_chunk: u64,
    /// Bytes of a segment, which is a file of the log. The log is compacted by whole segments.
    #[arg(
        long,
        value_name = "BYTES",
        default_value_t = 16 << 20,
        value_parser = number::<u64>("bytes", 4096..=1 << 30),
        allow_negative_numbers = true,
        help_heading = "Log and snapshots"
    )]
    segment: u64,
    /// Bytes of log that a failed state machine may leave unapplied, before the process ends with
    /// exit code 5. Such a node still receives the log and cannot compact it. Give less than the
    /// disk has room for [default: no bound].
    #[arg(
        long,
        value_name = "BYTES",
        value_parser = number::<u64>("bytes", 1..=u64::MAX),
        allow_negative_numbers = true,
        help_heading = "Log and snapshots"
    )]
    max_unapplied_log: Option<u64>,
    /// Most bytes of a snapshot. A longer one fails, and the log grows until one succeeds. Give
    /// more than the data may grow to, and less than the disk has room for beside the log [default:
    /// no bound].
    #[arg(
        long,
        value_name = "BYTES",
        value_parser = number::<u64>("bytes", 1..=u64::MAX),
        allow_negative_numbers = true,
        help_heading = "Log and snapshots"
    )]
    max_snapshot: Option<u64>,
    /// Most clients that are connected at a time.
    #[arg(
        long,
        value_name = "N",
        default_value_t = 10_000,
        value_parser = number::<u64>("clients", 1..=1_000_000),
        allow_negative_numbers = true,
        help_heading = "Limits"
    )]
    max_clients: u64,
    /// The largest request, in bytes; at most 4 MiB.
    #[arg(
        long,
        value_name = "BYTES",
        default_value_t = 1 << 20,
        value_parser = number::<u64>("bytes", 64..=4 << 20),
        allow_negative_numbers = true,
        help_heading = "Limits"
    )]
    max_request_bytes: u64,
}

/// Another initial member: `2=127.0.0.1:7002`.
#[derive(Clone, Debug)]
struct Peer {
    id: u64,
    address: Address,
}

impl FromStr for Peer {
    type Err = String;

    fn from_str(text: &str) -> Result<Peer, String> {
        const HINT: &str = "give it as ID=HOST:PORT, like 2=127.0.0.1:7002";
        let (id, address) = text.split_once('=').ok_or_else(|| format!("no '=': {HINT}"))?;
        let id = node_id(id).map_err(|why| format!("{why}, not {id:?}: {HINT}"))?;
        Ok(Peer { id, address: address.parse()? })
    }
}

/// Settings of the server's part for clients.
#[derive(Clone, Copy, Debug)]
struct Settings {
    max_clients: usize,
    max_request_bytes: usize,
    /// Most requests in the node at a time, of all clients. Others wait in the sockets: a client
    /// that pipelines more than the cluster can hold is slowed down instead of refused.
    pending_requests: usize,
    /// Bytes of these requests.
    pending_bytes: usize,
    /// Whether reads may use the leader's lease.
    lease_reads: bool,
}

/// Number of members that a joining node assumes to share the leader's limits. It does not know
/// them when it starts.
const MEMBERS_ASSUMED: usize = 5;

impl Settings {
    /// The requests of all members together fit into the leader's limits.
    fn new(arguments: &Arguments, limits: &Limits) -> Settings {
        let members =
            if arguments.join.is_empty() { arguments.peers.len() + 1 } else { MEMBERS_ASSUMED };
        let max_request_bytes = arguments.max_request_bytes as usize;
        Settings {
            max_clients: arguments.max_clients as usize,
            max_request_bytes,
            pending_requests: limits.pending_requests / members,
            // The last request may exceed the bound.
            pending_bytes: (limits.pending_bytes / members)
                .saturating_sub(limits.request_bytes)
                .max(1),
            lease_reads: arguments.lease_drift.is_some(),
        }
    }
}

/// Runs one node until SIGINT or SIGTERM.
pub(crate) fn run(arguments: Arguments) -> Result<(), Box<dyn Error>> {
    let colours = std::io::stderr().is_terminal();
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_target(false)
        .with_ansi(colours)
        .init();
    explain::check_flags(&arguments)?;
    let raft =
        arguments.raft.resolve().map_err(|error| format!("--raft: {}", error_chain(&error)))?;
    let client =
        arguments.client.resolve().map_err(|error| format!("--client: {}", error_chain(&error)))?;
    let listener = server::listen(client, &arguments.client)?;
    let client_port = listener.local_addr()?.port();
    let mut options = options(&arguments, raft);
    options.metadata = client_address(&arguments, raft, client, client_port).into();
    let has_node = join::has_node(&arguments.data)
        .map_err(|error| explain::folder_error(&arguments.data, &error))?;
    let is_joining = !arguments.join.is_empty();
    if is_joining && has_node {
        join::check_cluster(&arguments.data, &arguments.join)?;
    } else if is_joining {
        options.join = Some(join::cluster_to_join(&arguments.join, options.id)?);
    }
    let start = server::ServeOptions {
        settings: Settings::new(&arguments, &options.limits),
        bootstraps: !has_node && !is_joining,
        join: is_joining.then(|| server::JoinOptions {
            addresses: arguments.join.clone(),
            as_learner: arguments.learner,
        }),
    };
    server::serve(&options, start, listener, |error| explain::node_error(&arguments, error))
}

fn options(arguments: &Arguments, raft: SocketAddr) -> Options {
    let mut options = Options::new(NodeId(arguments.id), &arguments.data, raft);
    options.peers =
        arguments.peers.iter().map(|peer| (NodeId(peer.id), peer.address.to_string())).collect();
    if let Some(cluster) = &arguments.cluster {
        options.cluster.clone_from(cluster);
    }
    options.advertise = raft_address(arguments, raft).map(|address| address.to_string());
    let shortest = Duration::from_millis(arguments.election_timeout);
    options.election_timeout = ElectionTimeout::new(shortest, shortest * 2);
    options.lease = arguments.lease_drift.map(Lease::with_drift_ppm);
    options.heartbeat_interval = Duration::from_millis(arguments.heartbeat);
    options.request_timeout = Duration::from_millis(arguments.request_timeout);
    // A follower's clients may pipeline as deep as a leader's.
    options.limits.forwarded_requests = options.limits.pending_requests;
    options.limits.snapshot_every_bytes = arguments.snapshot_every;
    options.limits.unapplied_log_bytes = arguments.max_unapplied_log;
    options.limits.snapshot_bytes = arguments.max_snapshot;
    options.snapshot_chunk_bytes = arguments.snapshot_chunk as usize;
    options.log.segment_bytes = arguments.segment;
    // A request in the log takes a little more room than on the wire.
    options.limits.request_bytes = arguments.max_request_bytes as usize + 1024;
    options
}

/// Where the other nodes reach this one, if not at the address that it listens at. A name that
/// stands for every address of the machine is of no use to them.
fn raft_address(arguments: &Arguments, raft: SocketAddr) -> Option<Address> {
    let name =
        || arguments.raft.name(arguments.raft.port()).filter(|_| !raft.ip().is_unspecified());
    arguments.advertise_raft.clone().or_else(name)
}

/// Where `raft status` finds this node's port for clients. A server that listens at every address
/// of its machine is reached where the other nodes reach it.
fn client_address(
    arguments: &Arguments,
    raft: SocketAddr,
    client: SocketAddr,
    port: u16,
) -> String {
    if let Some(advertised) = &arguments.advertise {
        return advertised.to_string();
    }
    if !client.ip().is_unspecified() {
        let address = SocketAddr::new(client.ip(), port);
        return arguments
            .client
            .name(port)
            .map_or_else(|| address.to_string(), |name| name.to_string());
    }
    match raft_address(arguments, raft) {
        Some(name) => name.with_port(port).to_string(),
        None => SocketAddr::new(raft.ip(), port).to_string(),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        arguments: Arguments,
    }

    fn parse(more: &[&str]) -> Arguments {
        let line = ["serve", "--id", "1", "--data", "/nowhere"];
        Line::try_parse_from(line.iter().chain(more)).unwrap().arguments
    }

    /// The advertised addresses: for other nodes, and for clients.
    fn advertised(more: &[&str]) -> (Option<String>, String) {
        let arguments = parse(more);
        let (raft, client) =
            (arguments.raft.resolve().unwrap(), arguments.client.resolve().unwrap());
        (options(&arguments, raft).advertise, client_address(&arguments, raft, client, 6001))
    }

    #[test]
    fn a_name_is_advertised_and_never_an_unspecified_address() {
        let any = "127.0.0.1:0";
        let some = |name: &str| Some(name.to_owned());
        for (flags, raft, client) in [
            (&["--raft", "127.0.0.1:7001", "--client", any][..], None, "127.0.0.1:6001"),
            (
                &["--raft", "localhost:7001", "--client", "localhost:0"],
                some("localhost:7001"),
                "localhost:6001",
            ),
            (&["--raft", "localhost:0", "--client", any], None, "127.0.0.1:6001"),
            (&["--raft", "127.0.0.1:7001", "--client", "0.0.0.0:0"], None, "127.0.0.1:6001"),
            (
                &["--raft", "localhost:7001", "--client", "0.0.0.0:0"],
                some("localhost:7001"),
                "localhost:6001",
            ),
            (
                &[
                    "--raft",
                    "0.0.0.0:7001",
                    "--client",
                    "0.0.0.0:0",
                    "--advertise-raft",
                    "node-1:9",
                ],
                some("node-1:9"),
                "node-1:6001",
            ),
            (
                &["--raft", "127.0.0.1:1", "--client", "0.0.0.0:0", "--advertise", "here:7"],
                None,
                "here:7",
            ),
        ] {
            assert_eq!(advertised(flags), (raft, client.to_owned()), "{flags:?}");
        }
    }

    #[test]
    fn mistakes_are_named_by_their_flags() {
        let line = ["--raft", "127.0.0.1:7001", "--client", "127.0.0.1:6001"];
        for (more, words) in [
            (
                &["--heartbeat", "100"][..],
                &["--heartbeat 100", "half of --election-timeout", "150"][..],
            ),
            (&["--peer", "1=127.0.0.1:7002"], &["its own peers", "--id", "--peer"]),
            (&["--peer", "2=a:1", "--peer", "2=b:1"], &["--peer 2 is given twice"]),
            (&["--peer", "2=a:1", "--peer", "3=a:1"], &["--peer", "2 and 3", "a:1"]),
            (&["--peer", "2=127.0.0.1:7001"], &["--peer 2", "127.0.0.1:7001", "node 1"]),
            (&["--peer", "2=0.0.0.0:1"], &["--peer 2=0.0.0.0:1", "every machine"]),
            (&["--advertise", "[::]:1"], &["--advertise [::]:1", "every machine"]),
            (&["--cluster", ""], &["--cluster"]),
            (
                &["--cluster", "x", "--join", "a:1"],
                &["--cluster", "--join", "the cluster that it joins"],
            ),
        ] {
            let arguments = parse(&[&line[..], more].concat());
            let text = explain::check_flags(&arguments).unwrap_err();
            assert!(words.iter().all(|&word| text.contains(word)), "{more:?}: {text}");
        }
        let same = parse(&["--raft", "127.0.0.1:7001", "--client", "127.0.0.1:7001"]);
        let text = explain::check_flags(&same).unwrap_err();
        assert!(text.contains("--raft") && text.contains("--client"), "{text}");
        assert_eq!(
            explain::check_flags(&parse(&["--raft", "127.0.0.1:0", "--client", "127.0.0.1:0"])),
            Ok(())
        );
    }
}
