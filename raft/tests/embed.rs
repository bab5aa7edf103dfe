//! Embedding a node in a program: futures, events, ports that the kernel chooses, checked settings,
//! and a stop that never panics.

use std::{
    collections::BTreeMap,
    future::Future,
    io::{self, Read},
    net::TcpListener,
    path::Path,
    pin::pin,
    sync::Arc,
    task::{Context, Poll, Wake, Waker},
    thread,
    time::Duration,
};

use bytes::Bytes;
use kodiak_raft::{
    core::{Config, ElectionTimeout, Lease, Role},
    node::{
        CallError, Events, HandleError, NodeError, NodeEvent, Options, Running, SessionError,
        StopError, start, start_listening,
    },
    replica::{Committed, MachineError, Query, Refusal, Request, StateMachine},
    types::{Index, NodeId},
};
use proptest::prelude::*;
use tempfile::TempDir;

/// Counts commands. A query returns the count and the applied index.
#[derive(Default)]
struct Counter(u64);

impl StateMachine for Counter {
    fn apply(&mut self, _: &Committed<'_>) -> Result<Bytes, MachineError> {
        self.0 += 1;
        Ok(Bytes::from(self.0.to_string()))
    }

    fn query(&self, query: &Query<'_>) -> Bytes {
        Bytes::from(format!("{} at {}", self.0, query.applied))
    }

    fn snapshot(&self) -> Box<dyn Read + Send> {
        Box::new(io::Cursor::new(self.0.to_le_bytes()))
    }

    fn restore(&mut self, snapshot: &mut dyn Read) -> io::Result<()> {
        let mut bytes = [0; 8];
        snapshot.read_exact(&mut bytes)?;
        self.0 = u64::from_le_bytes(bytes);
        Ok(())
    }
}

struct Unpark(thread::Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// The smallest possible executor.
fn block_on<F: Future>(future: F) -> F::Output {
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => return output,
            Poll::Pending => thread::park(),
        }
    }
}

fn single_node(folder: &Path) -> Options {
    Options::new(NodeId(1), folder.join("node"), "127.0.0.1:0".parse().unwrap())
}

/// Three nodes on ports that the kernel has chosen.
fn three_nodes(folder: &TempDir) -> BTreeMap<NodeId, Running> {
    let bind = |id| (NodeId(id), TcpListener::bind("127.0.0.1:0").unwrap());
    let listeners: BTreeMap<_, _> = (1..=3).map(bind).collect();
    let addresses: BTreeMap<_, _> =
        listeners.iter().map(|(&id, listener)| (id, listener.local_addr().unwrap())).collect();
    let start_one = |(id, listener): (NodeId, TcpListener)| {
        let others = addresses.iter().filter(|&(&other, _)| other != id);
        let options = Options::new(id, folder.path().join(id.to_string()), addresses[&id])
            .peers(others.map(|(&other, address)| (other, address.to_string())));
        (id, start_listening(&options, listener, Counter::default()).unwrap())
    };
    listeners.into_iter().map(start_one).collect()
}

fn leader_of(events: &mut Events) -> NodeId {
    events
        .find_map(|event| match event {
            NodeEvent::LeaderChanged { leader, .. } => leader,
            _ => None,
        })
        .expect("the node runs")
}

#[test]
fn futures_write_through_any_node_and_return_the_index() {
    let folder = tempfile::tempdir().unwrap();
    let nodes = three_nodes(&folder);
    let mut last = Index(0);
    for node in nodes.values() {
        leader_of(&mut node.subscribe(8).unwrap());
        let node = node.handle().to_async();
        block_on(async {
            // During an election a write may be refused; then it has no effect.
            let written = loop {
                match node.write("one more").await {
                    Err(CallError::Refused(_)) => {}
                    other => break other.unwrap(),
                }
            };
            let read = node.read("").await.unwrap();
            let (index, text) =
                (read.index.unwrap(), String::from_utf8(read.bytes.to_vec()).unwrap());
            assert!(text.ends_with(&format!(" at {index}")), "{text}");
            assert!(index > last, "{index} follows {last}");
            assert!(written.index.is_none_or(|written| written <= index && written > last));
            last = index;
            assert!(node.status().await.unwrap().replica.applied >= index);
        });
    }
}

#[test]
fn a_dropped_future_writes_and_a_stopped_node_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let node = start(&single_node(folder.path()), Counter::default()).unwrap();
    let asked = node.handle().to_async();
    block_on(asked.write("a")).unwrap();
    drop(asked.write("b"));
    // A read sees answered writes, and need not see those in progress.
    while !block_on(asked.read("")).unwrap().bytes.starts_with(b"2 ") {}
    let open = asked.request(Request::OpenSession { ttl_ms: 1_000 });
    assert_eq!(block_on(open), Err(CallError::SessionOpened));
    let mut events = node.subscribe(1).unwrap();
    // The node does not answer requests that arrive in its loop's last turn.
    let racing: Vec<_> = (0..64).map(|_| asked.write("c")).collect();
    node.stop().unwrap();
    for reply in racing {
        match block_on(reply) {
            Ok(_) | Err(CallError::StoppedMeanwhile) => {}
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(block_on(asked.write("d")), Err(CallError::NotSent(HandleError::Stopped)));
    assert_eq!(block_on(asked.status()).unwrap_err(), CallError::NotSent(HandleError::Stopped));
    while block_on(events.recv_async()).is_some() {}
    assert!(events.is_closed());
    assert_eq!(events.recv_timeout(Duration::MAX), None);
}

#[test]
fn events_show_leadership_and_membership() {
    let folder = tempfile::tempdir().unwrap();
    let mut nodes = three_nodes(&folder);
    let leader = leader_of(&mut nodes[&NodeId(1)].subscribe(8).unwrap());
    let follower = NodeId(leader.0 % 3 + 1);
    let mut events = nodes[&follower].subscribe(64).unwrap();
    leader_of(&mut events);
    let removed = NodeId(follower.0 % 3 + 1);
    // The leader of that moment transfers leadership.
    let asked = nodes[&follower].handle().to_async();
    while block_on(asked.transfer_leadership(Some(follower))).is_err() {}
    let is_ours = |event| matches!(event, NodeEvent::LeaderChanged { role: Role::Leader, .. });
    assert!(events.any(is_ours));
    let removal = kodiak_raft::types::MemberChange::Remove(removed);
    let index = nodes[&follower].handle().change_membership([removal]).unwrap().unwrap();
    let configuration = events.find_map(|event| match event {
        NodeEvent::MembershipChanged { index: brought, configuration } if brought == index => {
            Some(configuration)
        }
        _ => None,
    });
    assert!(!configuration.unwrap().members.contains_key(&removed));
    let gone = nodes.remove(&removed).unwrap();
    let mut events = gone.subscribe(64).unwrap();
    if !gone.handle().status().unwrap().replica.is_removed {
        assert!(events.any(|event| event == NodeEvent::Removed));
    }
}

#[test]
fn stop_reports_a_panic_of_the_node_instead_of_panicking() {
    let folder = tempfile::tempdir().unwrap();
    let node = start(&single_node(folder.path()), Counter::default()).unwrap();
    let handle = node.handle().clone();
    handle.submit(Request::Write("a".into()), |_| panic!("a bug of the user")).unwrap();
    // Requests meanwhile end, too.
    while handle.write("b").is_ok() {}
    match node.stop() {
        Err(StopError::Panicked { message }) => assert_eq!(message, "a bug of the user"),
        other => panic!("{other:?}"),
    }
    let other = tempfile::tempdir().unwrap();
    let node = start(&single_node(other.path()), Counter::default()).unwrap();
    let handle = node.handle().clone();
    handle.submit(Request::Write("a".into()), |_| panic!("again")).unwrap();
    while handle.write("b").is_ok() {}
    drop(node);
}

#[test]
fn a_listener_that_is_bound_elsewhere_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let refused = start_listening(&single_node(folder.path()), listener, Counter::default());
    let error = refused.unwrap_err();
    assert!(matches!(error, NodeError::OtherListener { .. }), "{error}");
    assert!(error.to_string().contains("Options::listen"), "{error}");
    assert!(!folder.path().join("node").exists(), "nothing was made");
}

#[test]
fn times_of_a_session_that_are_too_long_are_errors() {
    let folder = tempfile::tempdir().unwrap();
    let node = start(&single_node(folder.path()), Counter::default()).unwrap();
    let (day, second) = (Duration::from_secs(86_400), Duration::from_secs(1));
    let endless = node.handle().open_session(second, Duration::MAX).unwrap_err();
    assert_eq!(endless, SessionError::TimeoutTooLong { value: Duration::MAX });
    assert!(endless.to_string().contains("86400s"), "{endless}");
    let immortal = node.handle().open_session(Duration::MAX, day).unwrap_err();
    let ttl_ms = u64::MAX;
    assert_eq!(immortal, SessionError::Refused(Refusal::TtlOutOfRange { ttl_ms }));
    node.handle().open_session(second, day).unwrap();
}

/// Sizes: zero, small, usual, and the largest.
fn size() -> impl Strategy<Value = usize> {
    prop_oneof![
        1 => Just(0usize),
        1 => Just(1),
        1 => Just(1_000),
        6 => Just(1 << 20),
        1 => Just(usize::MAX / 2),
        1 => Just(usize::MAX)
    ]
}

fn time() -> impl Strategy<Value = Duration> {
    prop_oneof![
        1 => Just(Duration::ZERO),
        1 => Just(Duration::from_nanos(1)),
        4 => (1u64..500).prop_map(Duration::from_millis),
        1 => Just(Duration::from_secs(86_400)),
        1 => Just(Duration::from_secs(86_401)),
        1 => Just(Duration::MAX / 4),
        1 => Just(Duration::MAX)
    ]
}

/// Whether the error's text names a setting.
fn names_a_setting(error: &NodeError) -> bool {
    let text = error.to_string();
    ["Options::", "Config::", "ReplicaConfig::", "Limits::", "Lease::"]
        .iter()
        .any(|name| text.contains(name))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// With any settings a node starts and works, or the error names the wrong setting.
    #[test]
    fn no_settings_make_a_node_panic(
        (shorter, longer, heartbeat, timeout) in (time(), time(), time(), time()),
        sizes in prop::collection::vec(size(), 12),
        which in prop::collection::vec(0usize..40, 0..3),
        promotion_lag in prop_oneof![Just(0u64), Just(u64::MAX)],
        drift_ppm in prop_oneof![Just(0u32), Just(999_999), Just(u32::MAX)],
    ) {
        let folder = tempfile::tempdir().unwrap();
        let mut options = single_node(folder.path());
        options.core.promotion_lag = promotion_lag;
        options.lease = Some(Lease::with_drift_ppm(1_000));
        for (which, size) in which.into_iter().zip(sizes) {
            let core: &mut Config = &mut options.core;
            match which {
                0 => options.election_timeout = ElectionTimeout::new(shorter, longer),
                1 => options.heartbeat_interval = heartbeat,
                2 => options.request_timeout = timeout,
                3 => options.lease = Some(Lease::with_drift_ppm(drift_ppm)),
                4 => core.election_timeout = ElectionTimeout::new(shorter, longer),
                5 => core.heartbeat_interval = heartbeat,
                6 => core.message_bytes = size,
                7 => core.in_flight_messages = size,
                8 => core.in_flight_bytes = size,
                9 => core.uncommitted_bytes = size,
                10 => core.command_bytes = size,
                11 => core.tail_bytes = size,
                12 => core.applying_bytes = size,
                13 => core.snapshot_chunk_bytes = size,
                14 => core.snapshot_chunks = size,
                15 => core.retained_snapshots = size,
                16 => core.pending_reads = size,
                17 => options.snapshot_chunk_bytes = size,
                18 => options.link_buffer_bytes = size,
                19 => options.incoming_links = size,
                20 => options.handle_calls = size,
                21 => options.log.segment_bytes = size as u64,
                22 => options.log.tail_bytes = size,
                23 => options.limits.pending_requests = size,
                24 => options.limits.pending_bytes = size,
                25 => options.limits.forwarded_requests = size,
                26 => options.limits.request_bytes = size,
                27 => options.limits.batch_bytes = size,
                28 => options.limits.snapshot_every_bytes = size as u64,
                29 => {
                    options.election_timeout = ElectionTimeout::new(shorter, longer);
                    options.heartbeat_interval = heartbeat;
                }
                30 => options.advertise = Some("a".repeat(size.min(1 << 16))),
                _ => {}
            }
        }
        // A test does not wait for a long election timeout.
        let is_soon = options.election_timeout.max < Duration::from_secs(1);
        match start(&options, Counter::default()) {
            Ok(node) => {
                if is_soon && options.request_timeout >= Duration::from_secs(1) {
                    let written = node.handle().write("a");
                    let is_expected = matches!(written, Ok(_) | Err(CallError::Refused(_)));
                    prop_assert!(is_expected, "{:?}", written);
                }
                node.handle().status().unwrap();
                node.stop().unwrap();
            }
            Err(NodeError::AddressTooLong { .. }) => {}
            Err(error) => {
                prop_assert!(names_a_setting(&error), "{}", error);
                prop_assert!(!folder.path().join("node").exists(), "nothing was made");
            }
        }
    }
}

#[test]
fn a_snapshot_is_taken_on_request() {
    let folder = tempfile::tempdir().unwrap();
    let node = start(&single_node(folder.path()), Counter::default()).unwrap();
    let handle = node.handle();
    let written = handle.write("x").unwrap().index.unwrap();
    let first = handle.take_snapshot().unwrap();
    assert!(first >= written);
    assert_eq!(handle.status().unwrap().replica.core.snapshot, first);
    let written = handle.write("y").unwrap().index;
    let second = block_on(handle.to_async().take_snapshot()).unwrap().index;
    assert!(second >= written && second > Some(first));
    node.stop().unwrap();
    // The next start begins with it.
    let node = start(&single_node(folder.path()), Counter::default()).unwrap();
    let read = loop {
        match node.handle().read("") {
            Err(CallError::Refused(_)) => {}
            other => break other.unwrap(),
        }
    };
    assert!(read.bytes.starts_with(b"2 at"), "{read:?}");
}
