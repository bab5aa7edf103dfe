//! A state machine that refuses an entry, or panics at it: the log goes on, and says so.

use std::sync::atomic::Ordering;

use kodiak_raft::{
    core::Role,
    node::{CallError, NodeEvent},
    replica::{MachineCallback, Refusal},
};

use super::cluster::{Cluster, until};

#[test]
fn a_leader_that_refuses_an_entry_hands_over_and_goes_on_voting() {
    let mut cluster = Cluster::start(3);
    let (sick, _) = cluster.leader();
    cluster.controls.sick.store(sick, Ordering::SeqCst);
    // Its author may be told nothing certain: the others apply it.
    assert!(matches!(cluster.handle(sick).write("poison"), Err(CallError::Unknown(_))));
    until(|| cluster.leader().0 != sick);
    let failure = cluster.failure(sick).unwrap();
    assert_eq!((failure.callback, failure.has_panicked), (MachineCallback::Apply, false));
    assert!(failure.to_string().contains("poison is not for me"), "{failure}");
    for asked in [cluster.handle(sick).read(""), cluster.handle(sick).write("b")] {
        assert_eq!(asked, Err(CallError::Refused(Refusal::MachineFailed { index: failure.index })));
    }
    let (leader, _) = cluster.leader();
    cluster.insist(leader, b"b");
    // One of the others goes: now the sick node's acknowledgements count.
    let other = (1..=3).find(|&id| id != sick && id != leader).unwrap();
    cluster.stop(other);
    cluster.insist(leader, b"c");
    assert_eq!(cluster.handle(leader).read("").unwrap().bytes, "apoisonbc");
    // So does its vote.
    cluster.start_again(other);
    until(|| {
        cluster.status(other).replica.core.durable == cluster.status(leader).replica.core.last_index
    });
    cluster.stop(leader);
    cluster.insist(other, b"d");
    assert_eq!(cluster.leader().0, other);
    assert_eq!(cluster.status(sick).replica.core.role, Role::Follower);
}

#[test]
fn a_panic_is_contained_and_another_program_goes_on() {
    let mut cluster = Cluster::start(3);
    let (sick, _) = cluster.leader();
    cluster.controls.sick.store(sick, Ordering::SeqCst);
    assert!(matches!(cluster.handle(sick).write("panic"), Err(CallError::Unknown(_))));
    until(|| cluster.leader().0 != sick);
    let failure = cluster.failure(sick).unwrap();
    assert!(failure.has_panicked && failure.to_string().contains("a bug"), "{failure}");
    cluster.stop(sick);
    cluster.controls.is_upgraded.store(true, Ordering::SeqCst);
    cluster.start_again(sick);
    cluster.insist(cluster.leader().0, b"b");
    until(|| cluster.handle(sick).read("").is_ok_and(|answer| answer.bytes == "apanicb"));
}

#[test]
fn every_node_says_that_a_command_is_poison_to_it() {
    let mut cluster = Cluster::start(3);
    let _ = cluster.handle(1).write("poison");
    until(|| cluster.ids().into_iter().all(|id| cluster.failure(id).is_some()));
    let index = cluster.failure(1).unwrap().index;
    for id in 1..=3 {
        assert_eq!(cluster.failure(id).unwrap().index, index);
        let refusal = Refusal::MachineFailed { index };
        // Every client of every node reads it, whatever it asks.
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
    cluster.insist(1, b"b");
    until(|| cluster.handle(2).read("").is_ok_and(|answer| answer.bytes == "apoisonb"));
}

#[test]
fn a_failed_node_stops_by_name_when_its_quota_is_full() {
    let cluster = Cluster::start(3);
    let (sick, _) = cluster.leader();
    let mut events = cluster.handle(sick).subscribe(1_000).unwrap();
    cluster.controls.sick.store(sick, Ordering::SeqCst);
    let _ = cluster.handle(sick).write("poison");
    until(|| cluster.leader().0 != sick);
    let (leader, _) = cluster.leader();
    let full = loop {
        cluster.insist(leader, &[b'x'; 500]);
        if let Some(NodeEvent::UnappliedLogFull(full)) = events.try_recv() {
            break full;
        }
    };
    assert!(
        full.bytes > full.limit_bytes && full.to_string().contains("Limits::unapplied_log_bytes"),
        "{full}"
    );
    // The others go on.
    cluster.insist(leader, b"b");
    assert!(cluster.status(sick).replica.failed.is_some());
}

#[test]
fn a_query_that_panics_harms_nobody_else() {
    let cluster = Cluster::start(1);
    assert_eq!(cluster.handle(1).read("panic"), Err(CallError::Refused(Refusal::QueryPanicked)));
    assert_eq!(cluster.handle(1).read("").unwrap().bytes, "a");
    assert_eq!(cluster.failure(1), None);
}
