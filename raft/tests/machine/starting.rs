//! A node whose state machine is not ready yet votes, acknowledges, and reports that it is loading.

use std::sync::atomic::Ordering;

use kodiak_raft::{
    node::{CallError, NodeEvent},
    replica::{LoadingProgress, MachineCallback, Refusal},
    types::NodeId,
};

use super::cluster::{Cluster, until};

/// Writes until node 3 has a snapshot.
fn write_until_snapshot(cluster: &Cluster, leader: u64) {
    until(|| {
        let _ = cluster.handle(leader).write(&[b'x'; 500][..]);
        cluster.status(3).replica.core.snapshot.0 > 0
    });
}

#[test]
fn a_node_that_restores_acknowledges_and_is_loading() {
    let mut cluster = Cluster::start(3);
    // As leader, node 3 would answer nothing while it restores.
    while cluster.leader().0 == 3 {
        cluster.handle(1).transfer_leadership(Some(NodeId(1))).ok();
    }
    let (leader, _) = cluster.leader();
    write_until_snapshot(&cluster, leader);
    cluster.stop(3);
    cluster.controls.restores_wait.store(true, Ordering::SeqCst);
    let controls = std::sync::Arc::clone(&cluster.controls);
    let gate = controls.close_gate();
    cluster.start_again(3);
    cluster.write_until_taken(1, b"b");
    // Without the third node, node 3 has to acknowledge.
    let (leader, _) = cluster.leader();
    let other = [1, 2, 3].into_iter().find(|&id| id != leader && id != 3).unwrap();
    if leader != 3 {
        cluster.stop(other);
        cluster.write_until_taken(leader, b"c");
    }
    let refused = loop {
        match cluster.handle(3).read("") {
            Err(CallError::Refused(refusal @ Refusal::Loading { .. })) => break refusal,
            Err(CallError::Refused(_)) => {}
            other => panic!("{other:?}"),
        }
    };
    assert!(
        matches!(refused, Refusal::Loading { progress: LoadingProgress::Restoring { .. } }),
        "{refused}"
    );
    assert!(refused.to_string().contains("restoring the snapshot of entry"), "{refused}");
    let status = cluster.status(3);
    assert!(matches!(status.replica.loading_progress, Some(LoadingProgress::Restoring { .. })));
    assert_eq!(status.machine.call.unwrap().callback, MachineCallback::Restore);
    drop(gate);
    until(|| cluster.handle(3).read("").is_ok_and(|answer| answer.bytes.starts_with(b"a")));
    assert_eq!(cluster.status(3).replica.loading_progress, None);
}

#[test]
fn a_leader_that_restores_hands_over() {
    let mut cluster = Cluster::start(3);
    while cluster.leader().0 == 3 {
        cluster.handle(1).transfer_leadership(Some(NodeId(1))).ok();
    }
    let (leader, _) = cluster.leader();
    write_until_snapshot(&cluster, leader);
    cluster.stop(3);
    cluster.controls.restores_wait.store(true, Ordering::SeqCst);
    let controls = std::sync::Arc::clone(&cluster.controls);
    let gate = controls.close_gate();
    cluster.start_again(3);
    let events = cluster.handle(3).subscribe(100).unwrap();
    until(|| {
        let (leader, _) = cluster.leader();
        cluster.handle(leader).transfer_leadership(Some(NodeId(3))).ok();
        cluster.leader().0 == 3
    });
    let loading = events.into_iter().find(|event| matches!(event, NodeEvent::LeaderLoading { .. }));
    assert!(
        matches!(loading, Some(NodeEvent::LeaderLoading { to: Some(NodeId(1 | 2)) })),
        "{loading:?}"
    );
    // However long the restore takes, writes go on.
    cluster.write_until_taken(1, b"b");
    assert_ne!(cluster.leader().0, 3);
    drop(gate);
    until(|| cluster.handle(3).read("").is_ok_and(|answer| answer.bytes.ends_with(b"b")));
}

#[test]
fn a_node_that_replays_is_loading() {
    let mut cluster = Cluster::start(1);
    (0..3).for_each(|_| cluster.write_until_taken(1, b"b"));
    cluster.write_until_taken(1, b"wait");
    cluster.stop(1);
    let controls = std::sync::Arc::clone(&cluster.controls);
    let gate = controls.close_gate();
    cluster.start_again(1);
    let refused = loop {
        match cluster.handle(1).read("") {
            Err(CallError::Refused(refusal @ Refusal::Loading { .. })) => break refusal,
            Err(CallError::Refused(_)) => {}
            other => panic!("{other:?}"),
        }
    };
    let progress = cluster.handle(1).write("b");
    assert!(matches!(progress, Err(CallError::Refused(Refusal::Loading { .. }))), "{progress:?}");
    assert!(
        matches!(refused, Refusal::Loading { progress: LoadingProgress::Replaying { .. } }),
        "{refused}"
    );
    drop(gate);
    cluster.write_until_taken(1, b"c");
    assert_eq!(cluster.handle(1).read("").unwrap().bytes, "abbbwaitc");
}

#[test]
fn a_node_that_cannot_restore_votes_and_acknowledges() {
    let mut cluster = Cluster::start(3);
    let (leader, _) = cluster.leader();
    write_until_snapshot(&cluster, leader);
    cluster.stop(3);
    cluster.controls.restores_fail.store(true, Ordering::SeqCst);
    cluster.start_again(3);
    until(|| cluster.failure(3).is_some());
    let failure = cluster.failure(3).unwrap();
    assert_eq!(failure.callback, MachineCallback::Restore);
    assert!(failure.to_string().contains("an unknown number"), "{failure}");
    let refusal = Refusal::MachineFailed { index: failure.index };
    assert_eq!(cluster.handle(3).stale_read(""), Err(CallError::Refused(refusal)));
    // Its snapshot is still there, for a program that can read it.
    cluster.stop(3);
    cluster.controls.restores_fail.store(false, Ordering::SeqCst);
    cluster.start_again(3);
    until(|| cluster.handle(3).read("").is_ok());
}
