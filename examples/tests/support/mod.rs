//! Clusters of real `raft serve` processes, and a client for them.
#![allow(dead_code, reason = "every test binary uses a part of it")]

use std::{
    collections::BTreeMap,
    hash::{BuildHasher, RandomState},
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use bytes::BytesMut;
use redis_protocol::resp2::{decode::decode_bytes_mut, types::BytesFrame};
use tempfile::TempDir;

/// Far longer than anything should take: only a failing test waits for it.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(20);

/// Holds a port that a killed node finds free when it is restarted: a random one below 32768, of
/// which no system gives any to outgoing connections by itself.
pub(crate) fn hold_a_port() -> TcpListener {
    loop {
        let port = 10_000 + RandomState::new().hash_one(()) % 22_000;
        if let Ok(listener) = TcpListener::bind(("127.0.0.1", port as u16)) {
            return listener;
        }
    }
}

/// The program under test.
pub(crate) fn raft() -> Command {
    Command::new(env!("CARGO_BIN_EXE_raft"))
}

/// A process that is killed when this value is dropped.
pub(crate) struct Process {
    pub(crate) child: Child,
    pub(crate) client: SocketAddr,
}

impl Process {
    /// Starts a node, under `wrapper` if that is not empty, and waits until it serves. The error is
    /// its log.
    pub(crate) fn start(
        wrapper: &[&str],
        arguments: &[String],
        log: &Path,
    ) -> Result<Process, String> {
        let program = env!("CARGO_BIN_EXE_raft");
        let mut command = match wrapper.split_first() {
            Some((first, rest)) => {
                let mut command = Command::new(first);
                command.args(rest).arg(program);
                command
            }
            None => Command::new(program),
        };
        let stderr = std::fs::File::options().create(true).append(true).open(log).unwrap();
        command
            .arg("serve")
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(stderr);
        let mut child = command.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        match line.split_whitespace().find_map(|word| word.trim_end_matches(',').parse().ok()) {
            Some(client) => Ok(Process { child, client }),
            None => {
                let status = child.wait().unwrap();
                Err(format!("{status}: {}", std::fs::read_to_string(log).unwrap()))
            }
        }
    }

    /// Sends a signal by name.
    pub(crate) fn signal(&self, name: &str) {
        let sent = Command::new("kill")
            .args([&format!("-{name}"), &self.child.id().to_string()])
            .status()
            .unwrap();
        assert!(sent.success());
    }

    /// Waits for its end.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        self.child.wait().unwrap()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The nodes of a cluster, some of which may not run.
pub(crate) struct Cluster {
    pub(crate) folder: TempDir,
    raft: BTreeMap<u64, SocketAddr>,
    /// The arguments of nodes that joined, instead of the addresses of the initial members.
    joined: BTreeMap<u64, Vec<String>>,
    /// Further arguments of every node.
    further: Vec<String>,
    pub(crate) nodes: BTreeMap<u64, Process>,
}

impl Cluster {
    /// Starts `count` nodes, with a data folder each.
    pub(crate) fn start(count: u64) -> Cluster {
        Cluster::start_with(count, &[])
    }

    /// The same, with further arguments for every node.
    pub(crate) fn start_with(count: u64, further: &[&str]) -> Cluster {
        let further: Vec<String> = further.iter().map(|&argument| argument.to_owned()).collect();
        // Another process may take a port between its choice and its use: then all are chosen
        // again.
        for _ in 0..5 {
            let held: Vec<TcpListener> = (0..count).map(|_| hold_a_port()).collect();
            let raft =
                (1..=count).zip(&held).map(|(id, port)| (id, port.local_addr().unwrap())).collect();
            drop(held);
            let (folder, further) = (tempfile::tempdir().unwrap(), further.clone());
            let mut cluster =
                Cluster { folder, raft, joined: BTreeMap::new(), further, nodes: BTreeMap::new() };
            if (1..=count).all(|id| cluster.restart(id).is_ok()) {
                return cluster;
            }
        }
        panic!("no cluster could be started in five attempts");
    }

    pub(crate) fn data(&self, id: u64) -> PathBuf {
        self.folder.path().join(format!("node-{id}"))
    }

    /// The arguments of `raft serve` for a node.
    pub(crate) fn arguments(&self, id: u64) -> Vec<String> {
        let mut arguments = vec!["--id".to_owned(), id.to_string(), "--data".to_owned()];
        arguments.push(self.data(id).display().to_string());
        arguments.extend(["--raft".to_owned(), self.raft[&id].to_string()]);
        arguments.extend(["--client".to_owned(), "127.0.0.1:0".to_owned()]);
        if let Some(joined) = self.joined.get(&id) {
            arguments.extend_from_slice(joined);
        } else {
            let initial = self
                .raft
                .iter()
                .filter(|(peer, _)| **peer != id && !self.joined.contains_key(peer));
            initial.for_each(|(peer, address)| {
                arguments.extend(["--peer".to_owned(), format!("{peer}={address}")])
            });
        }
        arguments.extend_from_slice(&self.further);
        arguments
    }

    /// Starts a new node that joins through another one. The error is its log.
    pub(crate) fn join(&mut self, id: u64, through: u64, further: &[&str]) -> Result<(), String> {
        let join = ["--join".to_owned(), self.nodes[&through].client.to_string()];
        self.start_as(
            id,
            join.into_iter().chain(further.iter().map(|&argument| argument.to_owned())).collect(),
        )
    }

    /// Starts a new node with these arguments instead of the addresses of the initial members.
    pub(crate) fn start_as(&mut self, id: u64, arguments: Vec<String>) -> Result<(), String> {
        self.joined.insert(id, arguments);
        // Another process may take the port between its choice and its use.
        for _ in 0..5 {
            self.raft.insert(id, hold_a_port().local_addr().unwrap());
            match self.restart(id) {
                Err(text) if text.contains("cannot listen") => {}
                done => return done,
            }
        }
        panic!("no free port in five attempts");
    }

    /// The text of a node's log.
    pub(crate) fn log_of(&self, id: u64) -> String {
        std::fs::read_to_string(self.folder.path().join(format!("node-{id}.log")))
            .unwrap_or_default()
    }

    /// The address of a node for its peers.
    pub(crate) fn raft_address(&self, id: u64) -> String {
        self.raft[&id].to_string()
    }

    /// Waits until a field of a node's `INFO raft` has this value.
    pub(crate) fn wait_for(&self, id: u64, field: &str, value: &str) {
        let mut client = self.client(id);
        let deadline = Instant::now() + TIMEOUT;
        while client.info(field).as_deref() != Some(value) {
            let mut info = || client.ask(&["INFO", "raft"]);
            assert!(
                Instant::now() < deadline,
                "node {id}: {field} is not {value}: {}\n{}",
                info(),
                self.log_of(id)
            );
        }
    }

    /// Starts a node that is not running.
    pub(crate) fn restart(&mut self, id: u64) -> Result<(), String> {
        let log = self.folder.path().join(format!("node-{id}.log"));
        let process = Process::start(&[], &self.arguments(id), &log)?;
        self.nodes.insert(id, process);
        Ok(())
    }

    /// Kills a node with SIGKILL.
    pub(crate) fn kill(&mut self, id: u64) {
        drop(self.nodes.remove(&id).expect("it runs"));
    }

    pub(crate) fn client(&self, id: u64) -> Client {
        Client::connect(self.nodes[&id].client)
    }

    /// Waits until a node has an entry on its disk.
    pub(crate) fn wait_for_an_entry(&self, id: u64) {
        let (mut client, deadline) = (self.client(id), Instant::now() + TIMEOUT);
        while client.info("durable_index").is_none_or(|index| index == "0") {
            assert!(Instant::now() < deadline, "node {id} has no entry on its disk");
        }
    }

    /// The leader, once all running nodes agree on it.
    pub(crate) fn leader(&self) -> u64 {
        let deadline = Instant::now() + TIMEOUT;
        let mut clients: Vec<Client> = self.nodes.keys().map(|&id| self.client(id)).collect();
        loop {
            let mut named: Vec<Option<u64>> = clients
                .iter_mut()
                .map(|client| client.info("leader_id").and_then(|id| id.parse().ok()))
                .collect();
            named.dedup();
            match named[..] {
                [Some(leader)] if self.nodes.contains_key(&leader) => return leader,
                _ => assert!(Instant::now() < deadline, "no leader: {named:?}"),
            }
        }
    }

    pub(crate) fn follower(&self) -> u64 {
        let leader = self.leader();
        *self.nodes.keys().find(|&&id| id != leader).expect("there is one")
    }
}

/// A blocking client.
pub(crate) struct Client {
    pub(crate) stream: TcpStream,
    input: BytesMut,
}

impl Client {
    pub(crate) fn connect(address: SocketAddr) -> Client {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(TIMEOUT)).unwrap();
        stream.set_nodelay(true).unwrap();
        Client { stream, input: BytesMut::new() }
    }

    /// Sends a request.
    pub(crate) fn send(&mut self, request: &[&str]) -> std::io::Result<()> {
        self.stream.write_all(&encode(request))
    }

    /// Waits for the next reply; an error if the connection ended.
    pub(crate) fn try_reply(&mut self) -> std::io::Result<BytesFrame> {
        let mut chunk = [0; 16 << 10];
        loop {
            if let Some((frame, ..)) = decode_bytes_mut(&mut self.input).expect("RESP") {
                return Ok(frame);
            }
            match self.stream.read(&mut chunk) {
                Ok(0) => return Err(std::io::ErrorKind::UnexpectedEof.into()),
                Ok(len) => self.input.extend_from_slice(&chunk[..len]),
                // A process that is stopped and continued is interrupted.
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Sends a request, and returns the reply about as `redis-cli` prints it.
    pub(crate) fn ask(&mut self, request: &[&str]) -> String {
        self.send(request).unwrap();
        show(&self.try_reply().unwrap())
    }

    /// Repeats a request until the reply is not a refusal.
    pub(crate) fn retry(&mut self, request: &[&str]) -> String {
        let deadline = Instant::now() + TIMEOUT;
        loop {
            let reply = self.ask(request);
            if !reply.starts_with("TRYAGAIN") {
                return reply;
            }
            assert!(Instant::now() < deadline, "{request:?}: {reply}");
        }
    }

    /// A field of `INFO raft`.
    pub(crate) fn info(&mut self, field: &str) -> Option<String> {
        let text = self.ask(&["INFO", "raft"]);
        let prefix = format!("{field}:");
        text.lines()
            .find_map(|line| line.strip_prefix(&prefix))
            .map(|value| value.trim_end().to_owned())
    }
}

/// A request's bytes.
pub(crate) fn encode(request: &[&str]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", request.len()).into_bytes();
    for argument in request {
        bytes.extend_from_slice(format!("${}\r\n{argument}\r\n", argument.len()).as_bytes());
    }
    bytes
}

/// A reply as text.
pub(crate) fn show(frame: &BytesFrame) -> String {
    match frame {
        BytesFrame::SimpleString(text) | BytesFrame::BulkString(text) => {
            String::from_utf8_lossy(text).into_owned()
        }
        BytesFrame::Error(text) => text.to_string(),
        BytesFrame::Integer(number) => format!("(integer) {number}"),
        BytesFrame::Null => "(nil)".to_owned(),
        BytesFrame::Array(frames) => frames.iter().map(show).collect::<Vec<_>>().join(", "),
    }
}
