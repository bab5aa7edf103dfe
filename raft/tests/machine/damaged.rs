//! A node whose newest snapshot is damaged, while the log before it is gone.

use kodiak_raft::{
    node::{CallError, NodeError, error_chain},
    replica::{LoadingProgress, MachineCallback, Refusal},
};

use super::cluster::{Cluster, until};

/// `count` nodes with compacted and equal logs.
fn compacted(count: u64) -> Cluster {
    let cluster = Cluster::start(count);
    let (leader, _) = cluster.leader();
    until(|| {
        let _ = cluster.handle(leader).write(&[b'x'; 500][..]);
        cluster.ids().iter().all(|&id| cluster.is_compacted(id))
    });
    // After a start, the log after the snapshot must be smaller than `unapplied_log_bytes`.
    cluster.ids().iter().for_each(|&id| until(|| cluster.handle(id).take_snapshot().is_ok()));
    let last_index = |&id: &u64| cluster.status(id).replica.core.last_index;
    until(|| {
        cluster.ids().iter().map(last_index).collect::<std::collections::BTreeSet<_>>().len() == 1
    });
    cluster
}

/// A place in the content of the snapshot, before its trailer.
fn in_body(length: usize) -> usize {
    length - 30
}

#[test]
fn a_node_with_a_damaged_snapshot_votes_and_gets_another() {
    let mut cluster = compacted(3);
    (1..=3).for_each(|id| cluster.stop(id));
    cluster.damage_snapshot(3, in_body);
    cluster.start_again(3);
    until(|| cluster.failure(3).is_some());
    let status = cluster.status(3).replica;
    let (failure, first) = (status.machine_failure.unwrap(), status.core.first_index);
    assert_eq!(failure.callback, MachineCallback::Restore);
    assert!(status.core.awaits_snapshot);
    // It recovers without the operator.
    let progress = LoadingProgress::AwaitingSnapshot { index: failure.index };
    assert_eq!(status.loading_progress, Some(progress));
    let refusal = Refusal::Loading { progress };
    assert!(refusal.to_string().contains("waiting for another one from the leader"), "{refusal}");
    assert_eq!(cluster.handle(3).stale_read(""), Err(CallError::Refused(refusal)));
    // Node 1 needs its vote and its acknowledgements.
    cluster.start_again(1);
    cluster.write_until_taken(1, b"b");
    until(|| cluster.handle(3).read("").is_ok_and(|answer| answer.bytes.ends_with(b"b")));
    assert_eq!(
        cluster.handle(3).read("").unwrap().bytes,
        cluster.handle(1).read("").unwrap().bytes
    );
    let status = cluster.status(3).replica;
    assert_eq!((status.machine_failure, status.core.awaits_snapshot), (None, false));
    assert!(status.core.first_index >= first);
    // Its file is whole again.
    cluster.stop(3);
    cluster.start_again(3);
    until(|| cluster.handle(3).read("").is_ok());
    assert!(!cluster.status(3).replica.core.awaits_snapshot);
}

/// The error of a node that does not start.
fn start_error(cluster: &mut Cluster, id: u64) -> String {
    match cluster.try_start(id) {
        Err(error @ NodeError::Storage { .. }) => error_chain(&error),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_snapshot_with_a_damaged_header_refuses_the_start() {
    let mut cluster = compacted(3);
    cluster.stop(3);
    cluster.damage_snapshot(3, |_| 20);
    let error = start_error(&mut cluster, 3);
    for words in [".snap is damaged", "are not in the log", "'raft recover'", "a new id"] {
        assert!(error.contains(words), "{words} is not in {error}");
    }
}

#[test]
fn a_sole_voter_with_a_damaged_snapshot_does_not_start() {
    let mut cluster = compacted(1);
    cluster.stop(1);
    cluster.damage_snapshot(1, in_body);
    let error = start_error(&mut cluster, 1);
    for words in [".snap is damaged", "no other voter can send it", "'raft recover'"] {
        assert!(error.contains(words), "{words} is not in {error}");
    }
}
