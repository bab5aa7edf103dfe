//! A state machine that refuses an entry, or panics at it: the node keeps voting, and reports it.

use std::sync::atomic::Ordering;

use kodiak_raft::{
    core::Role,
    node::{CallError, NodeEvent},
    replica::{MachineCallback, Refusal},
};

use super::cluster::{Cluster, until};

#[test]
fn a_leader_that_refuses_an_entry_hands_over_and_votes() {
    let mut cluster = Cluster::start(3);
    let (failing, _) = cluster.leader();
    cluster.controls.failing.store(failing, Ordering::SeqCst);
    // The write's outcome is unknown here: the other nodes apply it.
    assert!(matches!(cluster.handle(failing).write("poison"), Err(CallError::Unknown(_))));
    until(|| cluster.leader().0 != failing);
    let failure = cluster.failure(failing).unwrap();
    assert_eq!((failure.callback, failure.has_panicked), (MachineCallback::Apply, false));
    assert!(failure.to_string().contains("poison is not for me"), "{failure}");
    for asked in [cluster.handle(failing).read(""), cluster.handle(failing).write("b")] {
        assert_eq!(asked, Err(CallError::Refused(Refusal::MachineFailed { index: failure.index })));
    }
    let (leader, _) = cluster.leader();
    cluster.write_until_taken(leader, b"b");
    // One of the others stops: now the failing node's acknowledgements count.
    let other = (1..=3).find(|&id| id != failing && id != leader).unwrap();
    cluster.stop(other);
    cluster.write_until_taken(leader, b"c");
    assert_eq!(cluster.handle(leader).read("").unwrap().bytes, "apoisonbc");
    // So does its vote.
    cluster.start_again(other);
    until(|| {
        cluster.status(other).replica.core.durable == cluster.status(leader).replica.core.last_index
    });
    cluster.stop(leader);
    cluster.write_until_taken(other, b"d");
    assert_eq!(cluster.leader().0, other);
    assert_eq!(cluster.status(failing).replica.core.role, Role::Follower);
}

#[test]
fn a_panic_is_contained_and_a_newer_program_continues() {
    let mut cluster = Cluster::start(3);
    let (failing, _) = cluster.leader();
    cluster.controls.failing.store(failing, Ordering::SeqCst);
    assert!(matches!(cluster.handle(failing).write("panic"), Err(CallError::Unknown(_))));
    until(|| cluster.leader().0 != failing);
    let failure = cluster.failure(failing).unwrap();
    assert!(failure.has_panicked && failure.to_string().contains("a bug"), "{failure}");
    cluster.stop(failing);
    cluster.controls.is_upgraded.store(true, Ordering::SeqCst);
    cluster.start_again(failing);
    cluster.write_until_taken(cluster.leader().0, b"b");
    until(|| cluster.handle(failing).read("").is_ok_and(|answer| answer.bytes == "apanicb"));
}

#[test]
fn every_node_names_the_entry_that_it_cannot_apply() {
    let mut cluster = Cluster::start(3);
    let _ = cluster.handle(1).write("poison");
    until(|| cluster.ids().into_iter().all(|id| cluster.failure(id).is_some()));
    let index = cluster.failure(1).unwrap().index;
    for id in 1..=3 {
        assert_eq!(cluster.failure(id).unwrap().index, index);
        let refusal = Refusal::MachineFailed { index };
        // Every kind of request is refused with it.
        let handle = cluster.handle(id);
        for asked in [handle.read(""), handle.write("b"), handle.stale_read("")] {
            assert_eq!(asked, Err(CallError::Refused(refusal.clone())));
        }
        assert!(refusal.to_string().contains(&format!("stopped at entry {index}")));
    }
    // A program that knows the command is started everywhere.
    cluster.controls.is_upgraded.store(true, Ordering::SeqCst);
    for id in 1..=3 {
        cluster.stop(id);
        cluster.start_again(id);
    }
    cluster.write_until_taken(1, b"b");
    until(|| cluster.handle(2).read("").is_ok_and(|answer| answer.bytes == "apoisonb"));
}

#[test]
fn a_failed_node_stops_when_its_unapplied_log_is_full() {
    let cluster = Cluster::start(3);
    let (failing, _) = cluster.leader();
    let mut events = cluster.handle(failing).subscribe(1_000).unwrap();
    cluster.controls.failing.store(failing, Ordering::SeqCst);
    let _ = cluster.handle(failing).write("poison");
    until(|| cluster.leader().0 != failing);
    let (leader, _) = cluster.leader();
    let full = loop {
        cluster.write_until_taken(leader, &[b'x'; 500]);
        if let Some(NodeEvent::UnappliedLogFull(full)) = events.try_recv() {
            break full;
        }
    };
    assert!(
        full.bytes > full.limit_bytes && full.to_string().contains("Limits::unapplied_log_bytes"),
        "{full}"
    );
    // The others go on.
    cluster.write_until_taken(leader, b"b");
    assert!(cluster.status(failing).replica.failed.is_some());
}

#[test]
fn a_query_that_panics_fails_alone() {
    let cluster = Cluster::start(1);
    assert_eq!(cluster.handle(1).read("panic"), Err(CallError::Refused(Refusal::QueryPanicked)));
    assert_eq!(cluster.handle(1).read("").unwrap().bytes, "a");
    assert_eq!(cluster.failure(1), None);
}
