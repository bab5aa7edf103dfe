//! The latency of one read, by its kind and by the node that is asked.
//!
//! Three nodes in this process, on loopback, one read at a time.
//!
//! ```text
//! cargo run --release -p kodiak-raft --example read_latency
//! ```
//!
//! 2026-11-25, two cores of an AMD EPYC (KVM guest), Linux 6.18, medians: a read of the leader
//! confirmed by a majority 78 µs, by its lease 34 µs, stale 34 µs; of a follower 104 µs, 59 µs,
//! 34 µs.

use std::error::Error;
use std::io::{self, Cursor, Read};
use std::net::{SocketAddr, TcpListener};
use std::time::{Duration, Instant};

use bytes::Bytes;
use kodiak_raft::core::Lease;
use kodiak_raft::node::{CallError, Handle, Options, Running, start};
use kodiak_raft::replica::{Answer, Committed, MachineError, Query, StateMachine};
use kodiak_raft::types::NodeId;

/// Keeps the last command.
struct Last(Bytes);

impl StateMachine for Last {
    fn apply(&mut self, entry: &Committed<'_>) -> Result<Bytes, MachineError> {
        self.0 = Bytes::copy_from_slice(entry.command);
        Ok(Bytes::new())
    }

    fn query(&self, _query: &Query<'_>) -> Bytes {
        self.0.clone()
    }

    fn snapshot(&self) -> Box<dyn Read + Send> {
        Box::new(Cursor::new(self.0.clone()))
    }

    fn restore(&mut self, snapshot: &mut dyn Read) -> io::Result<()> {
        let mut bytes = Vec::new();
        snapshot.read_to_end(&mut bytes)?;
        self.0 = bytes.into();
        Ok(())
    }
}

/// One read, of some kind.
type Ask<'a> = dyn Fn() -> Result<Answer, CallError> + 'a;

const NODES: u64 = 3;
const READS: usize = 20_000;

fn cluster(folder: &std::path::Path) -> Result<Vec<Running>, Box<dyn Error>> {
    let held: Vec<TcpListener> =
        (0..NODES).map(|_| TcpListener::bind("127.0.0.1:0")).collect::<io::Result<_>>()?;
    let addresses: Vec<SocketAddr> =
        held.iter().map(TcpListener::local_addr).collect::<io::Result<_>>()?;
    drop(held);
    let id = |place: usize| NodeId(place as u64 + 1);
    let node = |place: usize| {
        let mut options = Options::new(id(place), folder.join(place.to_string()), addresses[place]);
        let others = (0..addresses.len()).filter(|&other| other != place);
        options.peers = others.map(|other| (id(other), addresses[other].to_string())).collect();
        options.lease = Some(Lease::with_drift_ppm(1_000));
        Ok(start(&options, Last(Bytes::new()))?)
    };
    (0..addresses.len()).map(node).collect()
}

/// The median and the 99th percentile.
fn measure(
    read: impl Fn() -> Result<Answer, CallError>,
) -> Result<(Duration, Duration), CallError> {
    let mut times = Vec::with_capacity(READS);
    for _ in 0..READS {
        let begin = Instant::now();
        read()?;
        times.push(begin.elapsed());
    }
    times.sort_unstable();
    Ok((times[READS / 2], times[READS * 99 / 100]))
}

fn main() -> Result<(), Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    let nodes = cluster(folder.path())?;
    nodes[0].handle().write("x")?;
    let leader = nodes[0].handle().status()?.replica.core.leader.ok_or("no leader")?.0 as usize - 1;
    let follower = (leader + 1) % nodes.len();
    println!("| asked | kind | median | 99 % |\n|---|---|---|---|");
    for (name, place) in [("leader", leader), ("follower", follower)] {
        let handle: &Handle = nodes[place].handle();
        let kinds: [(&str, &Ask<'_>); 3] = [
            ("confirmed by a majority", &|| handle.read("")),
            ("confirmed by a lease", &|| handle.lease_read("")),
            ("stale", &|| handle.stale_read("")),
        ];
        for (kind, read) in kinds {
            let (median, late) = measure(read)?;
            println!("| {name} | {kind} | {:.1} µs | {:.1} µs |", micros(median), micros(late));
        }
    }
    Ok(())
}

fn micros(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e6
}
