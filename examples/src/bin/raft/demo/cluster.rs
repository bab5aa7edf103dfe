//! The demo's cluster: three processes of this program.

use std::{
    collections::BTreeMap,
    error::Error,
    hash::{BuildHasher, RandomState},
    io::{BufRead, BufReader},
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use redis_protocol::resp2::types::BytesFrame;

use super::load::Tally;
use crate::client::BlockingClient;

const NODES: u64 = 3;
/// Attempts to start the cluster, each with other ports: another process may take a port between
/// its choice and its use.
const START_ATTEMPTS: usize = 5;

/// A process that is killed when this value is dropped.
#[derive(Debug)]
struct Process {
    child: Child,
    client: SocketAddr,
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Three nodes, some of which may not run.
#[derive(Debug)]
pub(super) struct Cluster {
    folder: PathBuf,
    raft_ports: BTreeMap<u64, SocketAddr>,
    processes: BTreeMap<u64, Process>,
}

impl Cluster {
    /// Starts the nodes and waits until each serves.
    pub(super) fn start(folder: &Path, timeout: Duration) -> Result<Cluster, Box<dyn Error>> {
        let mut last = None;
        for attempt in 0..START_ATTEMPTS {
            let folder = folder.join(format!("attempt-{attempt}"));
            let mut cluster =
                Cluster { folder, raft_ports: free_ports()?, processes: BTreeMap::new() };
            match (1..=NODES).try_for_each(|id| cluster.restart(id, timeout)) {
                Ok(()) => return Ok(cluster),
                Err(error) => last = Some(error),
            }
        }
        Err(last.unwrap_or_else(|| "no attempt was made".into()))
    }

    /// Starts a node that is not running.
    pub(super) fn restart(&mut self, id: u64, timeout: Duration) -> Result<(), Box<dyn Error>> {
        let data = self.folder.join(format!("node-{id}"));
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("serve").args(["--id", &id.to_string()]).arg("--data").arg(&data);
        command.args(["--raft", &self.raft_ports[&id].to_string(), "--client", "127.0.0.1:0"]);
        for (peer, address) in self.raft_ports.iter().filter(|(peer, _)| **peer != id) {
            command.args(["--peer", &format!("{peer}={address}")]);
        }
        std::fs::create_dir_all(&self.folder)?;
        let log_path = self.folder.join(format!("node-{id}.log"));
        let log = std::fs::File::options().create(true).append(true).open(&log_path)?;
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log).spawn()?;

        // A node prints its addresses once it serves.
        let mut line = String::new();
        if let Some(stdout) = child.stdout.take() {
            BufReader::new(stdout).read_line(&mut line)?;
        }
        let address = line
            .split_whitespace()
            .find_map(|word| word.trim_end_matches(',').parse::<SocketAddr>().ok());
        let Some(client) = address else {
            let _ = child.kill();
            let _ = child.wait();
            let log = std::fs::read_to_string(&log_path).unwrap_or_default();
            return Err(format!("node {id} did not start: {}", log.trim()).into());
        };
        self.processes.insert(id, Process { child, client });
        BlockingClient::connect(client, timeout)?;
        Ok(())
    }

    /// Kills a node with SIGKILL, and waits until it has ended.
    pub(super) fn kill(&mut self, id: u64) {
        self.processes.remove(&id);
    }

    /// The --client addresses of the running nodes.
    pub(super) fn client_addresses(&self) -> Vec<SocketAddr> {
        self.processes.values().map(|process| process.client).collect()
    }

    fn clients(
        &self,
        timeout: Duration,
    ) -> impl Iterator<Item = std::io::Result<BlockingClient>> + '_ {
        self.processes.values().map(move |process| BlockingClient::connect(process.client, timeout))
    }

    /// Writes a key through any node, until it is acknowledged.
    pub(super) fn write_once(&self, key: &str, timeout: Duration) -> Result<(), Box<dyn Error>> {
        let deadline = Instant::now() + timeout;
        loop {
            if self.try_write(key) {
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(format!("no write was acknowledged within {timeout:?}").into());
            }
        }
    }

    /// Tries to write a key through one node after the other. Returns whether it was acknowledged.
    /// A node without a leader keeps the request until it knows one.
    pub(super) fn try_write(&self, key: &str) -> bool {
        let timeout = Duration::from_secs(5);
        self.clients(timeout).any(|client| {
            let reply = client.and_then(|mut client| client.ask(&["SET", key, "1"]));
            matches!(reply, Ok(BytesFrame::SimpleString(ok)) if ok == "OK")
        })
    }

    /// The leader, once all running nodes agree on it.
    pub(super) fn leader(&self, timeout: Duration) -> Result<u64, Box<dyn Error>> {
        let deadline = Instant::now() + timeout;
        loop {
            let mut named = Vec::new();
            for client in self.clients(timeout) {
                let info = client?.info("raft")?;
                named.push(info.field("leader_id").and_then(|id| id.parse::<u64>().ok()));
            }
            named.dedup();
            if let [Some(leader)] = named[..] {
                return Ok(leader);
            }
            if Instant::now() > deadline {
                return Err(
                    format!("the nodes did not agree on a leader within {timeout:?}").into()
                );
            }
        }
    }

    /// Reads every acknowledged key from every running node.
    pub(super) fn check(&self, tally: &Tally, timeout: Duration) -> Result<(), Box<dyn Error>> {
        const BATCH: usize = 500;
        for (id, process) in &self.processes {
            let mut client = BlockingClient::connect(process.client, timeout)?;
            for batch in tally.acknowledged.chunks(BATCH) {
                batch.iter().for_each(|key| client.push_request(&["GET", key]));
                client.flush()?;
                for key in batch {
                    match client.read_reply()? {
                        BytesFrame::BulkString(value) if value == Tally::value_of(key) => {}
                        other => {
                            return Err(format!(
                                "LOST: {key} was acknowledged, and node {id} returns {other:?}"
                            )
                            .into());
                        }
                    }
                }
            }
        }
        Ok(())
    }
}

/// Holds a port that a killed node is likely to find free when it is restarted: a random one below
/// 32768, of which no system gives any to outgoing connections by itself.
fn hold_a_port() -> std::io::Result<TcpListener> {
    let ports = (0..100).map(|_| 10_000 + (RandomState::new().hash_one(()) % 22_000) as u16);
    // If none of them is free, the system chooses one.
    let mut held = ports.chain([0]).map(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)));
    held.find(Result::is_ok).unwrap_or_else(|| Err(std::io::ErrorKind::AddrInUse.into()))
}

fn free_ports() -> std::io::Result<BTreeMap<u64, SocketAddr>> {
    // All are held until all are chosen, so that they differ.
    let listeners: Vec<TcpListener> =
        (0..NODES).map(|_| hold_a_port()).collect::<std::io::Result<_>>()?;
    (1..=NODES).zip(&listeners).map(|(id, listener)| Ok((id, listener.local_addr()?))).collect()
}
