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
        Status, Token, start,
    },
    replica::{
        Answer, Committed, Limits, MachineError, Outcome, Query, Refusal, Request, RequestId,
        StateMachine,
    },
    storage::LogOptions,
    types::{DiskId, FeatureLevel, Index, Member, MemberChange, NodeId, SessionCommand, Term},
};
use kodiak_reactor::{EventLoop, Handler, ReadHint};
use tempfile::TempDir;

/// Appends commands; a query says them all.
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

/// Holds a port that a killed node finds free when it is restarted: no system gives ports below
/// 32768 to outgoing connections of its own accord, and which of those is left to chance.
fn hold_a_port() -> TcpListener {
    loop {
        let port = 10_000 + RandomState::new().hash_one(()) % 22_000;
        if let Ok(listener) = TcpListener::bind(("127.0.0.1", port as u16)) {
            return listener;
        }
    }
}

/// Addresses that are free now. Somebody else may take one, so whoever uses them tries again.
fn addresses(count: u64) -> BTreeMap<NodeId, SocketAddr> {
    let held: Vec<TcpListener> = (0..count).map(|_| hold_a_port()).collect();
    (1..=count)
        .zip(&held)
        .map(|(id, listener)| (NodeId(id), listener.local_addr().unwrap()))
        .collect()
}

fn options(id: u64, addresses: &BTreeMap<NodeId, SocketAddr>, folder: &Path) -> Options {
    let id = NodeId(id);
    let mut options = Options::new(id, folder.join(format!("node-{id}")), addresses[&id]);
    let others = addresses.iter().filter(|(other, _)| **other != id);
    options.peers = others.map(|(&other, address)| (other, address.to_string())).collect();
    options
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
                Err(error) => panic!("{error}"),
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

/// Writes until it is not refused any more.
fn insist(handle: &Handle, command: &'static [u8]) -> Bytes {
    loop {
        match handle.write(Bytes::from_static(command)) {
            Ok(answer) => return answer.bytes,
            Err(CallError::Refused(_)) => {}
            Err(error) => panic!("{error}"),
        }
    }
}

fn is_refused(result: Result<Answer, CallError>) -> bool {
    matches!(result, Err(CallError::Refused(_)))
}

#[test]
fn a_sessions_command_is_applied_once_though_its_leader_dies() {
    let mut cluster = Cluster::start(3);
    insist(cluster.handle(1), b"");
    let leader = cluster.handle(1).status().unwrap().replica.core.leader.unwrap().0;
    let (follower, other) = (leader % 3 + 1, (leader + 1) % 3 + 1);
    let (ttl, patience) = (Duration::from_secs(60), Duration::from_secs(20));
    let mut session = cluster.handle(follower).open_session(ttl, patience).unwrap();
    assert_eq!(session.write("a").unwrap().bytes, 1u64.to_le_bytes()[..]);

    // A writer that never stops to write, through a node that follows, while the leader goes away.
    let (count, stop_at) = (200u64, 60);
    let (tell, told) = mpsc::channel();
    let writer = thread::spawn(move || {
        for number in 2..=count {
            assert_eq!(
                session.write("a").unwrap().bytes,
                number.to_le_bytes()[..],
                "applied once, answered as applied"
            );
            if number == stop_at {
                tell.send(()).unwrap();
            }
        }
        session
    });
    told.recv().unwrap();
    cluster.stop(leader);
    let mut session = writer.join().unwrap();
    let journal = cluster.handle(other).read("").unwrap().bytes;
    assert_eq!(journal, vec![b'a'; count as usize]);

    // Another node goes on with it, and knows what it was answered.
    session.go_through(cluster.handle(other));
    assert_eq!(session.write("a").unwrap().bytes, (count + 1).to_le_bytes()[..]);
    assert_eq!(session.ask_again(), Err(SessionError::NothingInDoubt));
    let id = session.id();
    session.close().unwrap();
    let late = SessionCommand {
        session: id,
        sequence: 1,
        acknowledged: 0,
        command: Bytes::from_static(b"b"),
    };
    let (tell, told) = mpsc::channel();
    cluster
        .handle(other)
        .submit(Request::SessionWrite(late), move |outcome| tell.send(outcome).unwrap())
        .unwrap();
    assert_eq!(told.recv().unwrap(), Outcome::Refused(Refusal::NoSession));
}

#[test]
fn lease_reads_see_what_was_written_and_stale_ones_need_nobody() {
    let lease = |mut options: Options| {
        options.lease = Some(Lease { drift_ppm: 1_000 });
        options
    };
    let mut cluster = Cluster::start_as(3, lease);
    insist(cluster.handle(1), b"a");
    let leader = cluster.handle(1).status().unwrap().replica.core.leader.unwrap().0;
    for id in 1..=3 {
        assert_eq!(cluster.handle(id).lease_read("").unwrap().bytes, "a", "node {id}");
        assert_eq!(cluster.handle(id).read("").unwrap().bytes, "a", "node {id}");
    }
    // Alone, the leader cannot know whether it leads still; what it has, it has.
    let others = [leader % 3 + 1, (leader + 1) % 3 + 1];
    others.into_iter().for_each(|id| cluster.stop(id));
    assert!(is_refused(
        cluster.handle(leader).lease_read("x").and_then(|_| cluster.handle(leader).read("x"))
    ));
    assert_eq!(cluster.handle(leader).stale_read("").unwrap().bytes, "a");
}

/// Stands between two nodes, as a network does: what one side says or closes, the other side hears.
/// It serves one link at a time, and breaks that link when it is told to.
struct Detour {
    address: SocketAddr,
    breaks: mpsc::Sender<()>,
    /// Says when a caller was greeted by the other side.
    greeted: mpsc::Receiver<()>,
}

impl Detour {
    fn to(target: SocketAddr) -> Detour {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (breaks, broken) = mpsc::channel();
        let (greet, greeted) = mpsc::channel();
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
                pass_on(caller, called, &greet);
                // A node that has given a link up calls again: it must find this place free.
                *link.lock().unwrap() = None;
            }
        });
        Detour { address, breaks, greeted }
    }

    /// Breaks the link; returns once the caller has called again and was greeted.
    fn break_link(&self) {
        // Links that were given up before this one stood.
        while self.greeted.try_recv().is_ok() {}
        self.breaks.send(()).unwrap();
        self.greeted.recv().unwrap();
    }
}

fn hang_up(link: Option<&[TcpStream; 2]>) {
    link.into_iter().flatten().for_each(|side| drop(side.shutdown(Shutdown::Both)));
}

/// Until either side is closed; then both are.
fn pass_on(caller: TcpStream, called: TcpStream, greet: &mpsc::Sender<()>) {
    let sides = [caller.try_clone().unwrap(), called.try_clone().unwrap()];
    let (mut from, mut to) = (caller.try_clone().unwrap(), called.try_clone().unwrap());
    let forth = thread::spawn(move || {
        let _ = io::copy(&mut from, &mut to);
        hang_up(Some(&[from, to]));
    });
    let mut chunk = [0; 1024];
    let mut is_greeted = false;
    while let Ok(len @ 1..) = (&called).read(&mut chunk) {
        if (&caller).write_all(&chunk[..len]).is_err() {
            break;
        }
        // Nobody listens once the test has ended.
        let _ = (!std::mem::replace(&mut is_greeted, true)).then(|| greet.send(()));
    }
    hang_up(Some(&sides));
    forth.join().unwrap();
}

#[test]
fn silent_strangers_give_way_and_members_do_not() {
    let cluster = Cluster::start_as(2, |options| Options { incoming_links: 3, ..options });
    insist(cluster.handle(1), b"a");
    // Node 2's link has one of the three places.
    let call = || TcpStream::connect(cluster.addresses[&NodeId(1)]).unwrap();
    let mut strangers: Vec<TcpStream> = (0..5).map(|_| call()).collect();
    for stranger in &mut strangers[..3] {
        assert_eq!(stranger.read(&mut [0]).unwrap(), 0, "its place was needed");
    }
    for stranger in &mut strangers[3..] {
        stranger.set_nonblocking(true).unwrap();
        assert_eq!(stranger.read(&mut [0]).unwrap_err().kind(), io::ErrorKind::WouldBlock);
    }
    insist(cluster.handle(1), b"b");
    assert!(cluster.handle(1).status().unwrap().peers.iter().all(|peer| peer.connected));
}

/// Each two nodes have two links, one made by each. Here one of them breaks and comes back, and
/// the other one stands.
#[test]
fn writes_go_on_when_one_of_two_links_breaks() {
    let (addresses, folder) = (addresses(2), tempfile::tempdir().unwrap());
    let (to_first, to_second) =
        (Detour::to(addresses[&NodeId(1)]), Detour::to(addresses[&NodeId(2)]));
    let mut options =
        [options(1, &addresses, folder.path()), options(2, &addresses, folder.path())];
    options[0].peers.insert(NodeId(2), to_second.address.to_string());
    options[1].peers.insert(NodeId(1), to_first.address.to_string());
    options[0].advertise = Some(to_first.address.to_string());
    options[1].advertise = Some(to_second.address.to_string());
    let patient = |options| Options { request_timeout: Duration::from_secs(1), ..options };
    let nodes = options.map(patient).map(|options| start(&options, Journal::default()).unwrap());
    nodes.iter().for_each(|node| drop(insist(node.handle(), b"a")));
    for detour in [&to_first, &to_second] {
        // Both sides have noticed: one has called again, and the other has greeted it.
        detour.break_link();
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
        insist(cluster.handle(id), command);
    }
    for id in 1..=3 {
        assert_eq!(cluster.handle(id).read("").unwrap().bytes, "abc", "node {id}");
    }
}

#[test]
fn a_stopped_node_catches_up() {
    let mut cluster = Cluster::start(3);
    insist(cluster.handle(1), b"a");
    cluster.stop(3);
    insist(cluster.handle(1), b"b");
    cluster.nodes.insert(3, start(&cluster.options(3), Journal::default()).unwrap());
    assert_eq!(cluster.handle(3).read("").unwrap().bytes, "ab");
}

/// Snapshots early, in small pieces.
fn compacting(options: Options) -> Options {
    let limits = Limits { snapshot_every_bytes: 2048, ..options.limits };
    let log = LogOptions { segment_bytes: 4096, ..options.log };
    Options { limits, log, snapshot_chunk_bytes: 512, ..options }
}

#[test]
fn a_node_that_was_away_while_the_log_was_compacted_is_sent_a_snapshot() {
    let mut cluster = Cluster::start_as(3, compacting);
    insist(cluster.handle(1), b"first ");
    cluster.stop(3);
    // What node 3 had at most, and no more than that is kept for it once it counts as gone.
    let last = cluster.handle(1).status().unwrap().replica.core.last_index;
    let mut expected = b"first ".to_vec();
    let is_kept =
        |id: u64| cluster.handle(id).status().unwrap().replica.core.first_index <= last.next();
    while is_kept(1) || is_kept(2) {
        insist(cluster.handle(1), &[b'x'; 100]);
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
        // Files go as a whole, so a log may reach back further than memory did.
        assert!(cluster.handle(id).status().unwrap().replica.core.snapshot > last);
        assert_eq!(cluster.handle(id).read("").unwrap().bytes, expected, "node {id}");
    }
    insist(cluster.handle(2), b" last");
    assert!(cluster.handle(3).read("").unwrap().bytes.ends_with(b"x last"));
}

#[test]
fn without_a_majority_nothing_is_acknowledged() {
    let (addresses, folder) = (addresses(3), tempfile::tempdir().unwrap());
    let mut options = options(1, &addresses, folder.path());
    options.request_timeout = Duration::from_millis(100);
    let alone = start(&options, Journal::default()).unwrap();
    assert!(is_refused(alone.handle().write("x")));
    assert!(is_refused(alone.handle().read("")));
    let status = alone.handle().status().unwrap();
    assert_ne!(status.replica.core.role, Role::Leader);
    assert!(status.peers.iter().all(|peer| !peer.connected));
}

#[test]
fn a_node_that_lost_its_disk_is_turned_away() {
    let mut cluster = Cluster::start(3);
    insist(cluster.handle(1), b"a");
    // Both others have met node 3 and remember its disk.
    for id in [1, 2] {
        while !cluster.handle(id).status().unwrap().peers.iter().all(|peer| peer.connected) {}
    }
    cluster.stop(3);
    let mut wiped = cluster.options(3);
    std::fs::remove_dir_all(&wiped.data).unwrap();
    wiped.request_timeout = Duration::from_millis(300);
    let returned = start(&wiped, Journal::default()).unwrap();
    // It finds no leader, because nobody talks to it: its promises went with its disk.
    assert!(is_refused(returned.handle().write("x")));
    insist(cluster.handle(1), b"b");
    assert_eq!(cluster.handle(2).read("").unwrap().bytes, "ab");
}

/// Writes a few times through each of these; nobody takes anything, for none of them belongs to a
/// cluster.
fn nobody_founds(nodes: &BTreeMap<u64, Running>, ids: &[u64]) {
    let (tell, told) = mpsc::channel();
    for id in [ids, ids].concat() {
        let tell = tell.clone();
        let write = Request::Write(Bytes::from_static(b"x"));
        nodes[&id]
            .handle()
            .submit(write, move |outcome| tell.send((id, outcome)).unwrap())
            .unwrap();
    }
    drop(tell);
    for (id, outcome) in told {
        assert!(matches!(outcome, Outcome::Refused(_)), "through node {id}: {outcome:?}");
    }
    for id in ids {
        let core = nodes[id].handle().status().unwrap().replica.core;
        assert_eq!((core.term, core.last_index), (Term(0), Index(0)), "node {id}");
    }
}

/// Nodes that refuse soon what nobody takes, though not before elections would have been over.
fn hasty(options: Options) -> Options {
    let election_timeout =
        ElectionTimeout::new(Duration::from_millis(300), Duration::from_millis(600));
    Options { request_timeout: Duration::from_millis(1_500), election_timeout, ..options }
}

/// Writes once, however often it must ask: on a busy machine a node that is hasty may not know in
/// time what has become of a write.
fn write_once(handle: &Handle, command: &'static str) {
    let (ttl, patience) = (Duration::from_secs(600), Duration::from_secs(120));
    let mut session = handle.open_session(ttl, patience).unwrap();
    session.write(command).unwrap();
}

/// Reads until there is an answer.
fn insist_on_reading(handle: &Handle) -> Bytes {
    loop {
        match handle.read("") {
            Ok(answer) => return answer.bytes,
            Err(CallError::Refused(_)) => {}
            Err(error) => panic!("{error}"),
        }
    }
}

/// Else two of three could found it anew after their disks were wiped.
#[test]
fn a_cluster_is_founded_once_all_founders_have_met() {
    let (addresses, folder) = (addresses(3), tempfile::tempdir().unwrap());
    let start = |id| {
        (id, start(&hasty(options(id, &addresses, folder.path())), Journal::default()).unwrap())
    };
    let mut nodes: BTreeMap<u64, Running> = [1, 2].map(start).into();
    while !nodes[&1].handle().status().unwrap().peers.iter().any(|peer| peer.connected) {}
    nobody_founds(&nodes, &[1, 2]);
    nodes.extend([start(3)]);
    write_once(nodes[&1].handle(), "a");
    // From now on a majority is enough.
    (1..=3).for_each(|id| nodes.remove(&id).unwrap().stop().unwrap());
    nodes.extend([1, 2].map(start));
    write_once(nodes[&2].handle(), "b");
    assert_eq!(insist_on_reading(nodes[&1].handle()), "ab");
}

#[test]
fn a_wiped_majority_does_not_found_the_cluster_anew() {
    let mut cluster = Cluster::start(3);
    insist(cluster.handle(1), b"a");
    // The leader has written down whose disk is whose, and node 1 has it.
    let knows_disks = |status: Status| {
        let core = status.replica.core;
        core.configuration.members.values().all(|member| member.disk != DiskId(0))
            && core.configuration_index <= core.commit
    };
    while !knows_disks(cluster.handle(1).status().unwrap()) {}
    (1..=3).for_each(|id| cluster.stop(id));
    for id in [2, 3] {
        std::fs::remove_dir_all(&cluster.options(id).data).unwrap();
        cluster.nodes.insert(id, start(&hasty(cluster.options(id)), Journal::default()).unwrap());
    }
    nobody_founds(&cluster.nodes, &[2, 3]);
    // The one that remembers keeps away from them, and tells them why.
    cluster.nodes.insert(1, start(&hasty(cluster.options(1)), Journal::default()).unwrap());
    nobody_founds(&cluster.nodes, &[2, 3]);
    assert!(is_refused(cluster.handle(1).write("x")));
    let status = cluster.handle(1).status().unwrap();
    assert!(
        status.replica.core.last_index > Index(0)
            && status.peers.iter().all(|peer| !peer.connected)
    );
}

#[test]
fn a_node_joins_is_promoted_takes_over_and_removes_the_founder() {
    let (addresses, folder) = (addresses(2), tempfile::tempdir().unwrap());
    let mut founder = options(1, &addresses, folder.path());
    founder.peers.clear();
    let founder = start(&founder, Journal::default()).unwrap();
    insist(founder.handle(), b"a");
    let mut joining = options(2, &addresses, folder.path());
    let everywhere = Options { listen: "0.0.0.0:0".parse().unwrap(), ..joining.clone() };
    let error = start(&everywhere, Journal::default()).unwrap_err();
    assert!(matches!(error, NodeError::Unreachable { .. }), "{error}");
    let cluster = founder.handle().status().unwrap().identity.cluster;
    joining.join = Some(cluster);
    let error = start(&joining, Journal::default()).unwrap_err();
    assert!(matches!(error, NodeError::FoundsAndJoins { .. }), "{error}");
    joining.peers.clear();
    let joining = start(&joining, Journal::default()).unwrap();
    // Nobody has called it yet; it waits.
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
    founder
        .handle()
        .change_membership([MemberChange::AddLearner { node: NodeId(2), member }])
        .unwrap();
    // Through the new node itself, once it knows the leader; it is waited for until it has caught
    // up.
    joining.handle().change_membership([MemberChange::Promote(NodeId(2))]).unwrap();
    assert_eq!(joining.handle().read("").unwrap().bytes, "a");
    founder.handle().transfer_leadership(Some(NodeId(2))).unwrap();
    joining.handle().change_membership([MemberChange::Remove(NodeId(1))]).unwrap();
    insist(joining.handle(), b"b");
    // The founder hears of it, and says so.
    while !founder.handle().status().unwrap().replica.is_removed {}
    assert_eq!(founder.handle().write("c"), Err(CallError::Refused(Refusal::Removed)));
    while !founder.handle().status().unwrap().peers.is_empty() {}
}

#[test]
fn names_are_looked_up_beside_the_loop() {
    let cluster = Cluster::start_as(3, |mut options| {
        for address in options.peers.values_mut() {
            *address = address.replace("127.0.0.1", "localhost");
        }
        options
    });
    insist(cluster.handle(1), b"a");
    assert_eq!(cluster.handle(2).read("").unwrap().bytes, "a");
}

#[test]
fn nodes_with_other_ideas_of_the_cluster_do_not_join() {
    let (addresses, folder) = (addresses(2), tempfile::tempdir().unwrap());
    let (mut first, mut second) =
        (options(1, &addresses, folder.path()), options(2, &addresses, folder.path()));
    first.request_timeout = Duration::from_millis(300);
    second.cluster = "another".to_owned();
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
fn what_was_acknowledged_survives_a_stop() {
    let folder = tempfile::tempdir().unwrap();
    let options = Options::new(NodeId(1), folder.path(), "127.0.0.1:0".parse().unwrap());
    let node = start(&options, Journal::default()).unwrap();
    insist(node.handle(), b"kept");
    let handle = node.handle().clone();
    node.stop().unwrap();
    assert!(matches!(handle.write("late"), Err(CallError::NotSent(_))));
    let node = start(&options, Journal::default()).unwrap();
    assert_eq!(node.handle().read("").unwrap().bytes, "kept");
    node.stop().unwrap();
}

/// A user's own loop with a node in it: tokens of the user's type, and a count of what each turn
/// brings.
struct Host {
    node: Node<Journal>,
    turn: Turn,
    turns: mpsc::Sender<Turn>,
}

/// What a turn of the loop brought.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Turn {
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
        self.turn.readable += 1;
        self.node.readable(event_loop, token, hint);
    }

    fn writable(
        &mut self,
        event_loop: &mut EventLoop<UserToken, ()>,
        UserToken::Raft(token): UserToken,
    ) {
        self.turn.writable += 1;
        self.node.writable(event_loop, token);
    }

    fn timeout(
        &mut self,
        event_loop: &mut EventLoop<UserToken, ()>,
        UserToken::Raft(token): UserToken,
    ) {
        self.turn.timeouts += 1;
        self.node.timeout(event_loop, token);
    }

    fn turn_end(&mut self, event_loop: &mut EventLoop<UserToken, ()>) {
        self.node.turn_end(event_loop);
        // Nobody may be listening any more.
        let _ = self.turns.send(std::mem::take(&mut self.turn));
    }
}

#[test]
fn an_idle_follower_wakes_for_messages_and_for_nothing_else() {
    let (addresses, folder) = (addresses(3), tempfile::tempdir().unwrap());
    let _others = [1, 2]
        .map(|id| start(&options(id, &addresses, folder.path()), Journal::default()).unwrap());
    // The third is slow to ask for an election, so that it follows.
    let mut slow = options(3, &addresses, folder.path());
    slow.election_timeout = ElectionTimeout::new(Duration::from_secs(3), Duration::from_secs(6));

    let (report, turns) = mpsc::channel();
    let (ready, started) = mpsc::channel();
    let thread = thread::spawn(move || {
        let mut event_loop = EventLoop::new().unwrap();
        let node = Node::open(&slow, Journal::default(), &mut event_loop).unwrap();
        ready.send((node.handle(), event_loop.remote())).unwrap();
        event_loop.run(&mut Host { node, turn: Turn::default(), turns: report }).unwrap();
    });
    let (handle, remote) = started.recv().unwrap();
    insist(&handle, b"a");
    while handle.status().unwrap().peers.iter().any(|peer| !peer.connected) {}
    assert_eq!(handle.status().unwrap().replica.core.role, Role::Follower);

    // What was under way when the asking ended comes to rest; then only heartbeats come.
    let _ = turns.try_iter().count();
    let seen: Vec<Turn> = turns.iter().take(50).collect();
    for turn in &seen[10..] {
        assert_eq!(
            *turn,
            Turn { readable: 1, writable: 0, timeouts: 0 },
            "one message, nothing else: {seen:?}"
        );
    }
    remote.shutdown().unwrap();
    thread.join().unwrap();
}

#[test]
fn every_request_of_the_loops_user_gets_one_reply_in_order() {
    let folder = tempfile::tempdir().unwrap();
    let mut event_loop = EventLoop::<UserToken, ()>::new().unwrap();
    let mut options = Options::new(NodeId(1), folder.path(), "127.0.0.1:0".parse().unwrap());
    options.machine = MachinePlacement::Inline;
    let node = Node::open(&options, Journal::default(), &mut event_loop).unwrap();
    let (turns, _seen) = mpsc::channel();
    let mut host = Host { node, turn: Turn::default(), turns };
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
