//! Sessions in a cluster: retries at other nodes, after fail-overs, and over snapshots.

use super::*;
use crate::types::{SessionCommand, SessionId, Term};

fn session_write(session: SessionId, sequence: u64, text: &'static str) -> Request {
    let command = Bytes::from_static(text.as_bytes());
    Request::SessionWrite(SessionCommand { session, sequence, acknowledged: 0, command })
}

fn open(cluster: &mut Cluster, place: usize) -> SessionId {
    cluster.submit(place, 1_000, Request::OpenSession { ttl_ms: 60_000 });
    cluster.run();
    match cluster.take_replies(place)[..] {
        [(1_000, Outcome::Opened(session))] => session,
        ref other => panic!("{other:?}"),
    }
}

#[test]
pub(crate) fn a_retry_after_a_fail_over_gets_the_first_answer() {
    let mut cluster = Cluster::led_by(0, 3, Limits::default());
    let session = open(&mut cluster, 1);
    // The leader commits it with the third node's help, and its answer is lost with the link.
    cluster.cut.insert((0, 1));
    cluster.submit(1, 1, session_write(session, 1, "pay"));
    cluster.run();
    cluster.pass(Duration::from_millis(60), &[0]);
    assert_eq!(cluster.nodes[0].machine.machine().commands, [b"pay"]);
    cluster.isolate(0);
    let now = cluster.now;
    cluster.nodes[1].replica.handle_disconnected(now, id(0));
    cluster.run();
    assert_eq!(cluster.take_replies(1), [(1, Outcome::Unknown(Doubt::LinkBroken))]);

    // Other commands are applied between, so a second application would give another answer.
    cluster.pass(Duration::from_secs(2), &[1, 2]);
    cluster.submit(2, 2, write("other"));
    cluster.submit(1, 3, session_write(session, 1, "pay"));
    cluster.submit(2, 4, session_write(session, 1, "pay"));
    cluster.run();
    cluster.pass(Duration::from_millis(100), &[1, 2]);
    assert_eq!(cluster.take_replies(1), [(3, answer("pay"))]);
    assert_eq!(cluster.take_replies(2), [(2, answer("other")), (4, answer("pay"))]);
    cluster.cut.clear();
    cluster.pass(Duration::from_secs(1), &[0, 1, 2]);
    for node in &cluster.nodes {
        assert_eq!(
            node.machine.machine().commands.iter().filter(|command| *command == b"pay").count(),
            1
        );
        assert_eq!(node.machine.sessions(), cluster.nodes[0].machine.sessions());
    }
}

#[test]
fn a_session_is_opened_used_and_closed_through_any_node() {
    let mut cluster = Cluster::led_by(0, 3, Limits::default());
    let session = open(&mut cluster, 2);
    cluster.submit(1, 1, session_write(session, 1, "a"));
    cluster.submit(1, 2, Request::CloseSession { session });
    cluster.submit(1, 3, session_write(session, 2, "b"));
    cluster.submit(1, 4, Request::CloseSession { session });
    cluster.submit(1, 5, Request::OpenSession { ttl_ms: 1 });
    cluster.run();
    let none = Outcome::Refused(Refusal::NoSession);
    let ttl = Outcome::Refused(Refusal::TtlOutOfRange { ttl_ms: 1 });
    assert_eq!(
        cluster.take_replies(1),
        [(1, answer("a")), (2, answer("")), (3, none.clone()), (4, none), (5, ttl)]
    );
    assert_eq!(cluster.nodes[0].machine.machine().commands, [b"a"]);
}

/// A restored node knows only what is in its snapshot.
#[test]
pub(crate) fn sessions_survive_a_snapshot() {
    let mut cluster = Cluster::led_by(0, 1, Limits::default());
    let session = open(&mut cluster, 0);
    cluster.submit(0, 1, session_write(session, 1, "a"));
    cluster.run();
    let machine = &cluster.nodes[0].machine;
    let mut content = Vec::new();
    let mut source = snapshot::encode_content(machine.machine().snapshot(), machine.sessions());
    source.read_to_end(&mut content).unwrap();
    let mut restored = MachineRunner::new(Journal::default());
    let (index, term, stamp) = (Index(2), Term(1), Stamp(1));
    let meta =
        SnapshotMeta { index, term, stamp, configuration: Configuration::default(), digest: None };
    let mut host = Host { now: cluster.now, content: Some(content) };
    restored.run(MachineJob::Restore(meta), &mut host, &mut |_| {});
    assert!(!restored.has_failed());
    assert_eq!(restored.sessions(), machine.sessions());
    assert_eq!(restored.sessions().len(), 1);
    assert_eq!(restored.machine().commands, [b"a"]);
}

/// One node applies the entries a day later by its own clock, but at the same log time.
#[test]
pub(crate) fn a_session_ends_at_the_same_entry_on_every_node() {
    let mut cluster = Cluster::led_by(0, 3, Limits::default());
    cluster.cut.insert((0, 1));
    cluster.submit(0, 1, Request::OpenSession { ttl_ms: 100 });
    cluster.run();
    assert!(
        cluster.nodes[0].machine.sessions().len() == 1
            && cluster.nodes[1].machine.sessions().is_empty()
    );
    cluster.now.wall = Stamp(86_400_000);
    cluster.cut.clear();
    cluster.pass(Duration::from_millis(200), &[0]);
    assert!(cluster.nodes.iter().all(|node| node.machine.sessions().len() == 1));
    cluster.submit(0, 2, write("x"));
    cluster.run();
    cluster.pass(Duration::from_millis(60), &[0]);
    assert!(
        cluster.nodes.iter().all(|node| node.machine.sessions().is_empty()),
        "the entry is 200 ms younger"
    );
}

/// A cluster recovered from one member's folder reuses indexes that the lost cluster may have used.
///
/// A session of the lost cluster must not be taken for one of the new cluster.
#[test]
fn sessions_opened_at_one_index_of_two_logs_differ() {
    let mut lost = Cluster::with_core(1, Limits::default(), |core| core.seed = 1).elect(0);
    let mut recovered = Cluster::with_core(1, Limits::default(), |core| core.seed = 2).elect(0);
    let (old, new) = (open(&mut lost, 0), open(&mut recovered, 0));
    assert_eq!(lost.nodes[0].replica.core().commit(), recovered.nodes[0].replica.core().commit());
    recovered.submit(0, 1, session_write(new, 1, "a stranger's"));
    recovered.submit(0, 2, session_write(old, 1, "mine"));
    recovered.run();
    let expected = [(1, answer("a stranger's")), (2, Outcome::Refused(Refusal::NoSession))];
    assert_eq!(recovered.take_replies(0), expected);
    let next = open(&mut recovered, 0);
    assert!(next != new && next != old, "nor is any other the same");
}
