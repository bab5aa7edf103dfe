//! Nodes on real loops, sockets and disks, in one process.

use std::{
    collections::BTreeMap,
    hash::{BuildHasher, RandomState},
    io::{self, Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    path::Path,
    sync::{Arc, Mutex, mpsc},
    thread,
    time::Duration,
};

use bytes::Bytes;
use kodiak_raft::{
    core::{ElectionTimeout, Lease, Role},
    node::{
        CallError, Handle, MachinePlacement, Node, NodeError, Options, Running, SessionError,
        Status, Token, error_chain, start,
    },
    replica::{
        Answer, Committed, Limits, MachineError, Outcome, Query, Refusal, Request, RequestId,
        StateMachine,
    },
    types::{DiskId, FeatureLevel, Index, Member, MemberChange, NodeId, SessionCommand, Term},
};
use kodiak_reactor::{EventLoop, Handler, ReadHint};
use tempfile::TempDir;

/// Appends commands; a query returns them all.
#[derive(Default)]
struct Journal(Vec<u8>);

impl StateMachine for Journal {
    fn apply(&mut self, entry: &Committed<'_>) -> Result<Bytes, MachineError> {
        self.0.extend_from_slice(entry.command);
        Ok(Bytes::copy_from_slice(&(self.0.len() as u64).to_le_bytes()))
    }

    fn query(&self, _query: &Query<'_>) -> Bytes {
        Bytes::copy_from_slice(&self.0)
    }

    fn snapshot(&self) -> Box<dyn Read + Send> {
        Box::new(io::Cursor::new(self.0.clone()))
    }

    fn restore(&mut self, snapshot: &mut dyn Read) -> io::Result<()> {
        self.0.clear();
        snapshot.read_to_end(&mut self.0).map(drop)
    }
}

/// Binds a random port that a restarted node finds free again.
///
/// No system gives ports below 32768 to outgoing connections by itself.
fn bind_a_port() -> TcpListener {
    loop {
        let port = 10_000 + RandomState::new().hash_one(()) % 22_000;
        if let Ok(listener) = TcpListener::bind(("127.0.0.1", port as u16)) {
            return listener;
        }
    }
}

/// Addresses that are free now. Another process may take one, so the caller retries.
fn addresses(count: u64) -> BTreeMap<NodeId, SocketAddr> {
    let held: Vec<TcpListener> = (0..count).map(|_| bind_a_port()).collect();
    (1..=count)
        .zip(&held)
        .map(|(id, listener)| (NodeId(id), listener.local_addr().unwrap()))
        .collect()
}

fn options(id: u64, addresses: &BTreeMap<NodeId, SocketAddr>, folder: &Path) -> Options {
    let id = NodeId(id);
    let others = addresses.iter().filter(|(other, _)| **other != id);
    Options::new(id, folder.join(format!("node-{id}")), addresses[&id])
        .peers(others.map(|(&other, address)| (other, address.to_string())))
}

struct Cluster {
    nodes: BTreeMap<u64, Running>,
    addresses: BTreeMap<NodeId, SocketAddr>,
    folder: TempDir,
}

impl Cluster {
    fn start(count: u64) -> Cluster {
        Cluster::start_as(count, |options| options)
    }

    fn start_as(count: u64, set: fn(Options) -> Options) -> Cluster {
        for _ in 0..5 {
            let (addresses, folder) = (addresses(count), tempfile::tempdir().unwrap());
            let start_one = |id| {
                Ok((id, start(&set(options(id, &addresses, folder.path())), Journal::default())?))
            };
            match (1..=count).map(start_one).collect() {
                Ok(nodes) => return Cluster { nodes, addresses, folder },
                Err(NodeError::Listen { .. }) => {}
                Err(error) => panic!("{}", error_chain(&error)),
            }
        }
        panic!("no free ports in five attempts");
    }

    fn options(&self, id: u64) -> Options {
        options(id, &self.addresses, self.folder.path())
    }

    fn handle(&self, id: u64) -> &Handle {
        self.nodes[&id].handle()
    }

    fn stop(&mut self, id: u64) {
        self.nodes.remove(&id).unwrap().stop().unwrap();
    }
}

/// Writes until it is not refused.
fn write_until_taken(handle: &Handle, command: &'static [u8]) -> Bytes {
    loop {
        match handle.write(Bytes::from_static(command)) {
            Ok(answer) => return answer.bytes,
            Err(CallError::Refused(_)) => {}
            Err(error) => panic!("{error:?}"),
        }
    }
}

fn is_refused(result: Result<Answer, CallError>) -> bool {
    matches!(result, Err(CallError::Refused(_)))
}

#[test]
fn a_session_applies_a_command_once_though_its_leader_stops() {
    let mut cluster = Cluster::start(3);
    write_until_taken(cluster.handle(1), b"");
    let leader = cluster.handle(1).status().unwrap().replica.core.leader.unwrap().0;
    let (follower, other) = (leader % 3 + 1, (leader + 1) % 3 + 1);
    let (ttl, timeout) = (Duration::from_secs(60), Duration::from_secs(20));
    let mut session = cluster.handle(follower).open_session(ttl, timeout).unwrap();
    assert_eq!(session.write("a").unwrap().bytes, 1u64.to_le_bytes()[..]);

    // A writer keeps writing through a follower while the leader stops.
    let (count, stop_at) = (200u64, 60);
    let (half_way, reached) = mpsc::channel();
    let writer = thread::spawn(move || {
        for number in 2..=count {
            assert_eq!(
                session.write("a").unwrap().bytes,
                number.to_le_bytes()[..],
                "applied once, answered as applied"
            );
            if number == stop_at {
                half_way.send(()).unwrap();
            }
        }
        session
    });
    reached.recv().unwrap();
    cluster.stop(leader);
    let mut session = writer.join().unwrap();
    let journal = cluster.handle(other).read("").unwrap().bytes;
    assert_eq!(journal, vec![b'a'; count as usize]);

    // The session goes on through another node, which knows its answers.
    session.set_handle(cluster.handle(other));
    assert_eq!(session.write("a").unwrap().bytes, (count + 1).to_le_bytes()[..]);
    assert_eq!(session.retry(), Err(SessionError::NothingInDoubt));
    let id = session.id();
    session.close().unwrap();
    let late = SessionCommand {
        session: id,
        sequence: 1,
        acknowledged: 0,
        command: Bytes::from_static(b"b"),
    };
    let (sender, outcomes) = mpsc::channel();
    cluster
        .handle(other)
        .submit(Request::SessionWrite(late), move |outcome| sender.send(outcome).unwrap())
        .unwrap();
    assert_eq!(outcomes.recv().unwrap(), Outcome::Refused(Refusal::NoSession));
}

#[test]
fn lease_reads_see_writes_and_stale_reads_need_no_majority() {
    let lease = |options: Options| options.lease(Lease::with_drift_ppm(1_000));
    let mut cluster = Cluster::start_as(3, lease);
    write_until_taken(cluster.handle(1), b"a");
    let leader = cluster.handle(1).status().unwrap().replica.core.leader.unwrap().0;
    for id in 1..=3 {
        assert_eq!(cluster.handle(id).lease_read("").unwrap().bytes, "a", "node {id}");
        assert_eq!(cluster.handle(id).read("").unwrap().bytes, "a", "node {id}");
    }
    // Alone, the leader cannot know whether it still leads. A stale read needs no leader.
    let others = [leader % 3 + 1, (leader + 1) % 3 + 1];
    others.into_iter().for_each(|id| cluster.stop(id));
    assert!(is_refused(
        cluster.handle(leader).lease_read("x").and_then(|_| cluster.handle(leader).read("x"))
    ));
    assert_eq!(cluster.handle(leader).stale_read("").unwrap().bytes, "a");
}

/// A TCP proxy between two nodes: it forwards bytes and closes. It serves one link at a time, and
/// breaks that link on request.
struct Proxy {
    address: SocketAddr,
    breaks: mpsc::Sender<()>,
    /// Reports each caller that got the other side's half of the handshake.
    handshakes: mpsc::Receiver<()>,
}

impl Proxy {
    fn to(target: SocketAddr) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (breaks, broken) = mpsc::channel();
        let (handshake, handshakes) = mpsc::channel();
        // Ends with the test's process.
        thread::spawn(move || {
            let link: Arc<Mutex<Option<[TcpStream; 2]>>> = Arc::default();
            let breaking = Arc::clone(&link);
            thread::spawn(move || {
                broken.iter().for_each(|()| hang_up(breaking.lock().unwrap().as_ref()))
            });
            for caller in listener.incoming() {
                let caller = caller.unwrap();
                let Ok(called) = TcpStream::connect(target) else { continue };
                *link.lock().unwrap() =
                    Some([caller.try_clone().unwrap(), called.try_clone().unwrap()]);
                forward(caller, called, &handshake);
                // A node whose link broke calls again, and must find this place free.
                *link.lock().unwrap() = None;
            }
        });
        Proxy { address, breaks, handshakes }
    }

    /// Breaks the link, and returns once the caller has made a new one.
    fn break_link(&self) {
        // Links that were closed before this one was up.
        while self.handshakes.try_recv().is_ok() {}
        self.breaks.send(()).unwrap();
        self.handshakes.recv().unwrap();
    }
}

fn hang_up(link: Option<&[TcpStream; 2]>) {
    link.into_iter().flatten().for_each(|side| drop(side.shutdown(Shutdown::Both)));
}

/// Forwards bytes both ways until either side is closed, then closes both.
fn forward(caller: TcpStream, called: TcpStream, handshake: &mpsc::Sender<()>) {
    let sides = [caller.try_clone().unwrap(), called.try_clone().unwrap()];
    let (mut from, mut to) = (caller.try_clone().unwrap(), called.try_clone().unwrap());
    let forth = thread::spawn(move || {
        let _ = io::copy(&mut from, &mut to);
        hang_up(Some(&[from, to]));
    });
    let mut chunk = [0; 1024];
    let mut has_answered = false;
    while let Ok(len @ 1..) = (&called).read(&mut chunk) {
        if (&caller).write_all(&chunk[..len]).is_err() {
            break;
        }
        // The test may have ended.
        let _ = (!std::mem::replace(&mut has_answered, true)).then(|| handshake.send(()));
    }
    hang_up(Some(&sides));
    forth.join().unwrap();
}

#[test]
fn connections_without_a_handshake_make_room_for_new_ones() {
    let cluster = Cluster::start_as(2, |options| options.incoming_links(3));
    write_until_taken(cluster.handle(1), b"a");
    // Node 2's link has one of the three places.
    let call = || TcpStream::connect(cluster.addresses[&NodeId(1)]).unwrap();
    let mut silent: Vec<TcpStream> = (0..5).map(|_| call()).collect();
    for connection in &mut silent[..3] {
        assert_eq!(connection.read(&mut [0]).unwrap(), 0, "its place was needed");
    }
    for connection in &mut silent[3..] {
        connection.set_nonblocking(true).unwrap();
        assert_eq!(connection.read(&mut [0]).unwrap_err().kind(), io::ErrorKind::WouldBlock);
    }
    write_until_taken(cluster.handle(1), b"b");
    assert!(cluster.handle(1).status().unwrap().peers.iter().all(|peer| peer.connected));
}

/// Any two nodes have two links, one made by each. Here one of them breaks and comes back, and the
/// other stays up.
#[test]
fn writes_go_on_when_one_of_two_links_breaks() {
    let (addresses, folder) = (addresses(2), tempfile::tempdir().unwrap());
    let (to_first, to_second) =
        (Proxy::to(addresses[&NodeId(1)]), Proxy::to(addresses[&NodeId(2)]));
    let mut options =
        [options(1, &addresses, folder.path()), options(2, &addresses, folder.path())];
    options[0].peers.insert(NodeId(2), to_second.address.to_string());
    options[1].peers.insert(NodeId(1), to_first.address.to_string());
    options[0].advertise = Some(to_first.address.to_string());
    options[1].advertise = Some(to_second.address.to_string());
    let nodes = options.map(|options| {
        let options = options.request_timeout(Duration::from_secs(1));
        start(&options, Journal::default()).unwrap()
    });
    nodes.iter().for_each(|node| drop(write_until_taken(node.handle(), b"a")));
    for proxy in [&to_first, &to_second] {
        // Both sides have noticed: one has called again, and the other has answered.
        proxy.break_link();
        for node in &nodes {
            assert!(node.handle().read("").is_ok());
            let attempts: Vec<_> = (0..3).map_while(|_| node.handle().write("b").err()).collect();
            assert!(attempts.len() < 3, "writes through a node do not come back: {attempts:?}");
        }
    }
}

#[test]
fn writes_through_any_node_are_read_through_any_node() {
    let cluster = Cluster::start(3);
    for (command, id) in [(&b"a"[..], 1), (b"b", 2), (b"c", 3)] {
        write_until_taken(cluster.handle(id), command);
    }
    for id in 1..=3 {
        assert_eq!(cluster.handle(id).read("").unwrap().bytes, "abc", "node {id}");
    }
}

#[test]
fn a_stopped_node_catches_up() {
    let mut cluster = Cluster::start(3);
    write_until_taken(cluster.handle(1), b"a");
    cluster.stop(3);
    write_until_taken(cluster.handle(1), b"b");
    cluster.nodes.insert(3, start(&cluster.options(3), Journal::default()).unwrap());
    assert_eq!(cluster.handle(3).read("").unwrap().bytes, "ab");
}

/// Snapshots early, in small pieces.
fn compacting(options: Options) -> Options {
    let limits = Limits::default().snapshot_every_bytes(2048);
    let log = options.log.segment_bytes(4096);
    options.limits(limits).log(log).snapshot_chunk_bytes(512)
}

#[test]
fn a_node_that_missed_a_compaction_is_sent_a_snapshot() {
    let mut cluster = Cluster::start_as(3, compacting);
    write_until_taken(cluster.handle(1), b"first ");
    cluster.stop(3);
    // Node 3 has entries up to here at most. Once it counts as gone, later ones are compacted.
    let last = cluster.handle(1).status().unwrap().replica.core.last_index;
    let mut expected = b"first ".to_vec();
    let is_kept =
        |id: u64| cluster.handle(id).status().unwrap().replica.core.first_index <= last.next();
    while is_kept(1) || is_kept(2) {
        write_until_taken(cluster.handle(1), &[b'x'; 100]);
        expected.extend_from_slice(&[b'x'; 100]);
        assert!(expected.len() < 1 << 20, "{:?}", cluster.handle(1).status());
    }
    cluster.nodes.insert(3, start(&compacting(cluster.options(3)), Journal::default()).unwrap());
    assert_eq!(cluster.handle(3).read("").unwrap().bytes, expected);
    let status = cluster.handle(3).status().unwrap().replica.core;
    assert!(status.first_index > last && status.snapshot > last, "{status:?}");
    // All start again, from their snapshots.
    (1..=3).for_each(|id| cluster.stop(id));
    for id in 1..=3 {
        cluster
            .nodes
            .insert(id, start(&compacting(cluster.options(id)), Journal::default()).unwrap());
    }
    for id in 1..=3 {
        // Compaction removes whole files, so a log may reach back further than memory did.
        assert!(cluster.handle(id).status().unwrap().replica.core.snapshot > last);
        assert_eq!(cluster.handle(id).read("").unwrap().bytes, expected, "node {id}");
    }
    write_until_taken(cluster.handle(2), b" last");
    assert!(cluster.handle(3).read("").unwrap().bytes.ends_with(b"x last"));
}

#[test]
fn without_a_majority_nothing_is_acknowledged() {
    let (addresses, folder) = (addresses(3), tempfile::tempdir().unwrap());
    let options = options(1, &addresses, folder.path()).request_timeout(Duration::from_millis(100));
    let alone = start(&options, Journal::default()).unwrap();
    assert!(is_refused(alone.handle().write("x")));
    assert!(is_refused(alone.handle().read("")));
    let status = alone.handle().status().unwrap();
    assert_ne!(status.replica.core.role, Role::Leader);
    assert!(status.peers.iter().all(|peer| !peer.connected));
}

#[test]
fn a_node_that_lost_its_disk_is_rejected() {
    let mut cluster = Cluster::start(3);
    write_until_taken(cluster.handle(1), b"a");
    // Both others have met node 3 and remember its disk.
    for id in [1, 2] {
        while !cluster.handle(id).status().unwrap().peers.iter().all(|peer| peer.connected) {}
    }
    cluster.stop(3);
    let wiped = cluster.options(3).request_timeout(Duration::from_millis(300));
    std::fs::remove_dir_all(&wiped.data).unwrap();
    let returned = start(&wiped, Journal::default()).unwrap();
    // It finds no leader, because the others reject it: its promises were on the lost disk.
    assert!(is_refused(returned.handle().write("x")));
    write_until_taken(cluster.handle(1), b"b");
    assert_eq!(cluster.handle(2).read("").unwrap().bytes, "ab");
}

/// Writes through each of these nodes, which all refuse: no cluster was bootstrapped.
fn assert_no_cluster(nodes: &BTreeMap<u64, Running>, ids: &[u64]) {
    let (sender, outcomes) = mpsc::channel();
    for id in [ids, ids].concat() {
        let sender = sender.clone();
        let write = Request::Write(Bytes::from_static(b"x"));
        nodes[&id]
            .handle()
            .submit(write, move |outcome| sender.send((id, outcome)).unwrap())
            .unwrap();
    }
    drop(sender);
    for (id, outcome) in outcomes {
        assert!(matches!(outcome, Outcome::Refused(_)), "through node {id}: {outcome:?}");
    }
    for id in ids {
        let core = nodes[id].handle().status().unwrap().replica.core;
        assert_eq!((core.term, core.last_index), (Term(0), Index(0)), "node {id}");
    }
}

/// Nodes that time requests out soon, but not before an election would have ended.
fn with_short_timeouts(options: Options) -> Options {
    let election_timeout =
        ElectionTimeout::new(Duration::from_millis(300), Duration::from_millis(600));
    options.request_timeout(Duration::from_millis(1_500)).election_timeout(election_timeout)
}

/// Writes exactly once, with retries: on a busy machine the outcome of a write may come after its
/// short timeout.
fn write_once(handle: &Handle, command: &'static str) {
    let (ttl, timeout) = (Duration::from_secs(600), Duration::from_secs(120));
    let mut session = handle.open_session(ttl, timeout).unwrap();
    session.write(command).unwrap();
}

/// Reads until there is an answer.
fn read_until_answered(handle: &Handle) -> Bytes {
    loop {
        match handle.read("") {
            Ok(answer) => return answer.bytes,
            Err(CallError::Refused(_)) => {}
            Err(error) => panic!("{error:?}"),
        }
    }
}

/// Otherwise two of three could bootstrap it again after their disks were wiped.
#[test]
fn a_cluster_bootstraps_once_all_initial_members_have_met() {
    let (addresses, folder) = (addresses(3), tempfile::tempdir().unwrap());
    let start = |id| {
        (
            id,
            start(&with_short_timeouts(options(id, &addresses, folder.path())), Journal::default())
                .unwrap(),
        )
    };
    let mut nodes: BTreeMap<u64, Running> = [1, 2].map(start).into();
    while !nodes[&1].handle().status().unwrap().peers.iter().any(|peer| peer.connected) {}
    assert_no_cluster(&nodes, &[1, 2]);
    nodes.extend([start(3)]);
    write_once(nodes[&1].handle(), "a");
    // From now on a majority is enough.
    (1..=3).for_each(|id| nodes.remove(&id).unwrap().stop().unwrap());
    nodes.extend([1, 2].map(start));
    write_once(nodes[&2].handle(), "b");
    assert_eq!(read_until_answered(nodes[&1].handle()), "ab");
}

#[test]
fn a_wiped_majority_does_not_bootstrap_the_cluster_again() {
    let mut cluster = Cluster::start(3);
    write_until_taken(cluster.handle(1), b"a");
    // The leader has recorded the members' disks in the configuration, and node 1 has it.
    let knows_disks = |status: Status| {
        let core = status.replica.core;
        core.configuration.members.values().all(|member| member.disk != DiskId(0))
            && core.configuration_index <= core.commit
    };
    while !knows_disks(cluster.handle(1).status().unwrap()) {}
    (1..=3).for_each(|id| cluster.stop(id));
    for id in [2, 3] {
        std::fs::remove_dir_all(&cluster.options(id).data).unwrap();
        cluster.nodes.insert(
            id,
            start(&with_short_timeouts(cluster.options(id)), Journal::default()).unwrap(),
        );
    }
    assert_no_cluster(&cluster.nodes, &[2, 3]);
    // The node that remembers the cluster rejects them.
    cluster
        .nodes
        .insert(1, start(&with_short_timeouts(cluster.options(1)), Journal::default()).unwrap());
    assert_no_cluster(&cluster.nodes, &[2, 3]);
    assert!(is_refused(cluster.handle(1).write("x")));
    let status = cluster.handle(1).status().unwrap();
    assert!(
        status.replica.core.last_index > Index(0)
            && status.peers.iter().all(|peer| !peer.connected)
    );
}

#[test]
fn a_node_joins_is_promoted_leads_and_removes_the_first_node() {
    let (addresses, folder) = (addresses(2), tempfile::tempdir().unwrap());
    let mut first = options(1, &addresses, folder.path());
    first.peers.clear();
    let first = start(&first, Journal::default()).unwrap();
    write_until_taken(first.handle(), b"a");
    let mut joining = options(2, &addresses, folder.path());
    let mut everywhere = joining.clone();
    everywhere.listen = "0.0.0.0:0".parse().unwrap();
    let error = start(&everywhere, Journal::default()).unwrap_err();
    assert!(matches!(error, NodeError::Unreachable { .. }), "{error}");
    let cluster = first.handle().status().unwrap().identity.cluster;
    joining.join = Some(cluster);
    let error = start(&joining, Journal::default()).unwrap_err();
    assert!(matches!(error, NodeError::BootstrapsAndJoins { .. }), "{error}");
    joining.peers.clear();
    let joining = start(&joining, Journal::default()).unwrap();
    // No leader has called it yet; it waits.
    let status = joining.handle().status().unwrap();
    assert!(
        status.identity.cluster == cluster && status.replica.core.configuration.members.is_empty()
    );
    let member = Member {
        disk: status.identity.disk,
        address: addresses[&NodeId(2)].to_string(),
        priority: 0,
        feature_level: FeatureLevel::CURRENT,
    };
    first
        .handle()
        .change_membership([MemberChange::AddLearner { node: NodeId(2), member }])
        .unwrap();
    // Through the new node itself, once it knows the leader. The change waits until the node has
    // caught up.
    joining.handle().change_membership([MemberChange::Promote(NodeId(2))]).unwrap();
    assert_eq!(joining.handle().read("").unwrap().bytes, "a");
    first.handle().transfer_leadership(Some(NodeId(2))).unwrap();
    joining.handle().change_membership([MemberChange::Remove(NodeId(1))]).unwrap();
    write_until_taken(joining.handle(), b"b");
    // The first node learns of its removal, and reports it.
    while !first.handle().status().unwrap().replica.is_removed {}
    assert_eq!(first.handle().write("c"), Err(CallError::Refused(Refusal::Removed)));
    while !first.handle().status().unwrap().peers.is_empty() {}
}

#[test]
fn a_peers_address_may_be_a_name() {
    let cluster = Cluster::start_as(3, |mut options| {
        for address in options.peers.values_mut() {
            *address = address.replace("127.0.0.1", "localhost");
        }
        options
    });
    write_until_taken(cluster.handle(1), b"a");
    assert_eq!(cluster.handle(2).read("").unwrap().bytes, "a");
}

#[test]
fn nodes_with_another_clusters_name_are_rejected() {
    let (addresses, folder) = (addresses(2), tempfile::tempdir().unwrap());
    let first = options(1, &addresses, folder.path()).request_timeout(Duration::from_millis(300));
    let second = options(2, &addresses, folder.path()).cluster("another");
    let (first, _second) =
        (start(&first, Journal::default()).unwrap(), start(&second, Journal::default()).unwrap());
    assert!(is_refused(first.handle().write("x")));
}

#[test]
fn a_second_node_on_one_folder_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let options = Options::new(NodeId(1), folder.path(), "127.0.0.1:0".parse().unwrap());
    let first = start(&options, Journal::default()).unwrap();
    let error = start(&options, Journal::default()).unwrap_err();
    assert!(matches!(error, NodeError::Folder(_)), "{error}");
    assert!(error.to_string().contains("in use by another process"), "{error}");
    first.stop().unwrap();
    start(&options, Journal::default()).unwrap().stop().unwrap();
}

#[test]
fn acknowledged_writes_survive_a_stop() {
    let folder = tempfile::tempdir().unwrap();
    let options = Options::new(NodeId(1), folder.path(), "127.0.0.1:0".parse().unwrap());
    let node = start(&options, Journal::default()).unwrap();
    write_until_taken(node.handle(), b"kept");
    let handle = node.handle().clone();
    node.stop().unwrap();
    assert!(matches!(handle.write("late"), Err(CallError::NotSent(_))));
    let node = start(&options, Journal::default()).unwrap();
    assert_eq!(node.handle().read("").unwrap().bytes, "kept");
    node.stop().unwrap();
}

/// A user's own loop with a node in it: tokens of the user's type, and counts of each turn's
/// events.
struct Host {
    node: Node<Journal>,
    counts: TurnCounts,
    turns: mpsc::Sender<TurnCounts>,
}

/// Counts of the events of one turn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct TurnCounts {
    readable: u32,
    writable: u32,
    timeouts: u32,
}

#[derive(Clone, Copy, Debug)]
enum UserToken {
    Raft(Token),
}

impl From<Token> for UserToken {
    fn from(token: Token) -> UserToken {
        UserToken::Raft(token)
    }
}

impl Handler<UserToken, ()> for Host {
    fn readable(
        &mut self,
        event_loop: &mut EventLoop<UserToken, ()>,
        UserToken::Raft(token): UserToken,
        hint: ReadHint,
    ) {
        self.counts.readable += 1;
        self.node.readable(event_loop, token, hint);
    }

    fn writable(
        &mut self,
        event_loop: &mut EventLoop<UserToken, ()>,
        UserToken::Raft(token): UserToken,
    ) {
        self.counts.writable += 1;
        self.node.writable(event_loop, token);
    }

    fn timeout(
        &mut self,
        event_loop: &mut EventLoop<UserToken, ()>,
        UserToken::Raft(token): UserToken,
    ) {
        self.counts.timeouts += 1;
        self.node.timeout(event_loop, token);
    }

    fn turn_end(&mut self, event_loop: &mut EventLoop<UserToken, ()>) {
        self.node.turn_end(event_loop);
        // The test may have ended.
        let _ = self.turns.send(std::mem::take(&mut self.counts));
    }
}

#[test]
fn an_idle_follower_wakes_for_messages_only() {
    let (addresses, folder) = (addresses(3), tempfile::tempdir().unwrap());
    let _others = [1, 2]
        .map(|id| start(&options(id, &addresses, folder.path()), Journal::default()).unwrap());
    // The third has a long election timeout, so that it follows.
    let slow = options(3, &addresses, folder.path())
        .election_timeout(ElectionTimeout::new(Duration::from_secs(3), Duration::from_secs(6)));

    let (report, turns) = mpsc::channel();
    let (ready, started) = mpsc::channel();
    let thread = thread::spawn(move || {
        let mut event_loop = EventLoop::new().unwrap();
        let node = Node::open(&slow, Journal::default(), &mut event_loop).unwrap();
        ready.send((node.handle(), event_loop.remote())).unwrap();
        event_loop.run(&mut Host { node, counts: TurnCounts::default(), turns: report }).unwrap();
    });
    let (handle, remote) = started.recv().unwrap();
    write_until_taken(&handle, b"a");
    while handle.status().unwrap().peers.iter().any(|peer| !peer.connected) {}
    assert_eq!(handle.status().unwrap().replica.core.role, Role::Follower);

    // First the last events of the requests above; then only heartbeats.
    let _ = turns.try_iter().count();
    let seen: Vec<TurnCounts> = turns.iter().take(50).collect();
    for turn in &seen[10..] {
        assert_eq!(
            *turn,
            TurnCounts { readable: 1, writable: 0, timeouts: 0 },
            "one message, nothing else: {seen:?}"
        );
    }
    remote.shutdown().unwrap();
    thread.join().unwrap();
}

#[test]
fn every_request_of_the_loops_user_gets_one_reply() {
    let folder = tempfile::tempdir().unwrap();
    let mut event_loop = EventLoop::<UserToken, ()>::new().unwrap();
    let options = Options::new(NodeId(1), folder.path(), "127.0.0.1:0".parse().unwrap())
        .machine(MachinePlacement::Inline);
    let node = Node::open(&options, Journal::default(), &mut event_loop).unwrap();
    let (turns, _seen) = mpsc::channel();
    let mut host = Host { node, counts: TurnCounts::default(), turns };
    for id in 0..10 {
        host.node.submit(RequestId(id), Request::Write(Bytes::from_static(b"x")));
    }
    host.node.turn_end(&mut event_loop);
    let mut answered = Vec::new();
    while answered.len() < 10 {
        event_loop.run_once(&mut host, None).unwrap();
        while let Some((id, _)) = host.node.poll_reply() {
            answered.push(id.0);
        }
    }
    assert_eq!(answered, (0..10).collect::<Vec<_>>());
    assert_eq!(host.node.state_machine().unwrap().0, b"xxxxxxxxxx");
}
