//! A cluster whose state machines wait at a gate, or fail, as a test asks.

use std::{
    collections::BTreeMap,
    hash::{BuildHasher, RandomState},
    io::{self, Read},
    net::{SocketAddr, TcpListener},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use kodiak_raft::{
    node::{CallError, Handle, NodeError, Options, Running, Status, error_chain, start},
    replica::{
        Committed, Limits, MachineDigest, MachineError, MachineFailure, Query, StateMachine,
    },
    types::{NodeId, Term},
};
use tempfile::TempDir;

/// In entries.
pub(crate) const DIGEST_INTERVAL: u64 = 4;

/// A test's switches for the state machines of its nodes.
#[derive(Debug, Default)]
pub(crate) struct Controls {
    /// While a test holds it, every machine that comes to it waits.
    gate: Mutex<()>,
    pub(crate) snapshots_wait: AtomicBool,
    pub(crate) restores_wait: AtomicBool,
    pub(crate) restores_fail: AtomicBool,
    pub(crate) readers_wait: AtomicBool,
    pub(crate) readers_panic: AtomicBool,
    /// Readers of snapshots that have come to the gate.
    pub(crate) readers_at_gate: AtomicU64,
    /// The node that fails at "poison" and "panic"; all do if it is 0.
    pub(crate) failing: AtomicU64,
    /// Whether all nodes run a version that does not fail.
    pub(crate) is_upgraded: AtomicBool,
    /// The node that applies "odd" differently; if 0, every node applies it differently.
    pub(crate) odd: AtomicU64,
    /// Whether node 3's digests have another version.
    pub(crate) is_mixed: AtomicBool,
    /// Whether node 2 flips a bit of its state.
    pub(crate) flips: AtomicBool,
}

impl Controls {
    pub(crate) fn close_gate(&self) -> MutexGuard<'_, ()> {
        self.gate.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn pass_gate(&self) {
        drop(self.close_gate());
    }
}

/// Appends commands; a query returns them all.
struct Journal {
    id: u64,
    text: Vec<u8>,
    controls: Arc<Controls>,
}

impl Journal {
    fn is_failing(&self) -> bool {
        let failing = self.controls.failing.load(Ordering::SeqCst);
        !self.controls.is_upgraded.load(Ordering::SeqCst) && (failing == 0 || failing == self.id)
    }
}

impl StateMachine for Journal {
    fn apply(&mut self, entry: &Committed<'_>) -> Result<Bytes, MachineError> {
        match entry.command {
            b"wait" => self.controls.pass_gate(),
            b"poison" if self.is_failing() => {
                return Err(MachineError::new("poison is not for me"));
            }
            // As `panic!`, without output on stderr.
            b"panic" if self.is_failing() => std::panic::resume_unwind(Box::new("a bug")),
            b"odd" => {
                // As an iteration order that differs from process to process.
                let odd = self.controls.odd.load(Ordering::SeqCst);
                if odd == 0 || odd == self.id {
                    self.text.extend_from_slice(&self.id.to_le_bytes());
                }
            }
            _ => {}
        }
        if self.id == 2 && self.controls.flips.swap(false, Ordering::SeqCst) {
            self.text[0] ^= 1;
        }
        self.text.extend_from_slice(entry.command);
        Ok(Bytes::copy_from_slice(&(self.text.len() as u64).to_le_bytes()))
    }

    fn query(&self, query: &Query<'_>) -> Bytes {
        if query.bytes == b"panic" {
            std::panic::resume_unwind(Box::new("a bug"));
        }
        Bytes::copy_from_slice(&self.text)
    }

    fn snapshot(&self) -> Box<dyn Read + Send> {
        if self.controls.snapshots_wait.load(Ordering::SeqCst) {
            self.controls.pass_gate();
        }
        let controls = Arc::clone(&self.controls);
        Box::new(SnapshotReader { text: io::Cursor::new(self.text.clone()), controls })
    }

    fn restore(&mut self, snapshot: &mut dyn Read) -> io::Result<()> {
        if self.controls.restores_wait.load(Ordering::SeqCst) {
            self.controls.pass_gate();
        }
        if self.controls.restores_fail.load(Ordering::SeqCst) {
            return Err(io::Error::other("an unknown number"));
        }
        self.text.clear();
        snapshot.read_to_end(&mut self.text).map(drop)
    }

    fn digest(&self) -> Option<MachineDigest> {
        let is_other = self.id == 3 && self.controls.is_mixed.load(Ordering::SeqCst);
        let value = self.text.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3_u64)
        });
        Some(MachineDigest { version: if is_other { 2 } else { 1 }, value })
    }
}

/// The reader of a snapshot.
struct SnapshotReader {
    text: io::Cursor<Vec<u8>>,
    controls: Arc<Controls>,
}

impl Read for SnapshotReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.controls.readers_panic.load(Ordering::SeqCst) {
            std::panic::resume_unwind(Box::new("a bug in the reader"));
        }
        if self.controls.readers_wait.load(Ordering::SeqCst) {
            self.controls.readers_at_gate.fetch_add(1, Ordering::SeqCst);
            self.controls.pass_gate();
        }
        self.text.read(buffer)
    }
}

/// Binds a random port that no system gives to outgoing connections by itself.
fn bind_a_port() -> TcpListener {
    loop {
        let port = 10_000 + RandomState::new().hash_one(()) % 22_000;
        if let Ok(listener) = TcpListener::bind(("127.0.0.1", port as u16)) {
            return listener;
        }
    }
}

pub(crate) struct Cluster {
    nodes: BTreeMap<u64, Running>,
    addresses: BTreeMap<NodeId, SocketAddr>,
    folder: TempDir,
    pub(crate) controls: Arc<Controls>,
}

impl Cluster {
    /// Nodes 1 to `count`, and a leader.
    pub(crate) fn start(count: u64) -> Cluster {
        for _ in 0..5 {
            let held: Vec<TcpListener> = (0..count).map(|_| bind_a_port()).collect();
            let address = |listener: &TcpListener| listener.local_addr().unwrap();
            let addresses = (1..).map(NodeId).zip(held.iter().map(address)).collect();
            drop(held);
            let (nodes, folder) = (BTreeMap::new(), tempfile::tempdir().unwrap());
            let mut cluster = Cluster { nodes, addresses, folder, controls: Arc::default() };
            match (1..=count).try_for_each(|id| cluster.try_start(id)) {
                Ok(()) => {
                    cluster.write_until_taken(1, b"a");
                    return cluster;
                }
                Err(NodeError::Listen { .. }) => {}
                Err(error) => panic!("{}", error_chain(&error)),
            }
        }
        panic!("no free ports in five attempts");
    }

    pub(crate) fn try_start(&mut self, id: u64) -> Result<(), NodeError> {
        let node = NodeId(id);
        let folder = self.folder.path().join(format!("node-{id}"));
        let others = self.addresses.iter().filter(|(other, _)| **other != node);
        let mut options = Options::new(node, folder, self.addresses[&node])
            .peers(others.map(|(&other, address)| (other, address.to_string())))
            // Several election timeouts.
            .request_timeout(Duration::from_secs(4));
        options.limits = Limits::default()
            .snapshot_every_bytes(4_096)
            .digest_interval(DIGEST_INTERVAL)
            .unapplied_log_bytes(Some(20_000));
        options.log = options.log.segment_bytes(16_384);
        let journal = Journal { id, text: Vec::new(), controls: Arc::clone(&self.controls) };
        self.nodes.insert(id, start(&options, journal)?);
        Ok(())
    }

    pub(crate) fn start_again(&mut self, id: u64) {
        self.try_start(id).unwrap();
    }

    /// Whether the first segment of a node's log is gone.
    pub(crate) fn is_compacted(&self, id: u64) -> bool {
        !self.folder.path().join(format!("node-{id}/0000000000000001.log")).exists()
    }

    /// Flips a bit of the newest snapshot of a node, at the place that `place` gives for a length.
    pub(crate) fn damage_snapshot(&self, id: u64, place: impl FnOnce(usize) -> usize) {
        let folder = std::fs::read_dir(self.folder.path().join(format!("node-{id}"))).unwrap();
        let files = folder.map(|file| file.unwrap().path());
        let newest =
            files.filter(|file| file.extension().is_some_and(|kind| kind == "snap")).max().unwrap();
        let mut bytes = std::fs::read(&newest).unwrap();
        let place = place(bytes.len());
        bytes[place] ^= 1;
        std::fs::write(&newest, bytes).unwrap();
    }

    pub(crate) fn stop(&mut self, id: u64) {
        self.nodes.remove(&id).unwrap().stop().unwrap();
    }

    pub(crate) fn ids(&self) -> Vec<u64> {
        self.nodes.keys().copied().collect()
    }

    pub(crate) fn handle(&self, id: u64) -> &Handle {
        self.nodes[&id].handle()
    }

    pub(crate) fn status(&self, id: u64) -> Status {
        self.handle(id).status().unwrap()
    }

    pub(crate) fn failure(&self, id: u64) -> Option<MachineFailure> {
        self.status(id).replica.machine_failure
    }

    /// The leader and its term, once all nodes agree.
    pub(crate) fn leader(&self) -> (u64, Term) {
        loop {
            let seen = |&id: &u64| {
                (self.status(id).replica.core.leader, self.status(id).replica.core.term)
            };
            let seen: Vec<_> = self.ids().iter().map(seen).collect();
            if let (Some(leader), term) = seen[0]
                && seen.iter().all(|other| *other == seen[0])
            {
                return (leader.0, term);
            }
        }
    }

    /// Writes until it is not refused.
    pub(crate) fn write_until_taken(&self, id: u64, command: &'static [u8]) {
        loop {
            match self.handle(id).write(command) {
                Ok(_) => return,
                Err(CallError::Refused(_)) => {}
                Err(error) => panic!("{error:?}"),
            }
        }
    }
}

/// Waits until the condition holds.
pub(crate) fn until(mut holds: impl FnMut() -> bool) {
    while !holds() {
        std::thread::yield_now();
    }
}
