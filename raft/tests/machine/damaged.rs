//! A node whose newest snapshot is damaged, while the log before it is gone.

use kodiak_raft::{
    node::{CallError, NodeError},
    replica::{CatchUp, MachineCallback, Refusal},
};

use super::cluster::{Cluster, until};

/// `count` nodes of which each has compacted its log, and has all that the others have.
fn compacted(count: u64) -> Cluster {
    let cluster = Cluster::start(count);
    let (leader, _) = cluster.leader();
    until(|| {
        let _ = cluster.handle(leader).write(&[b'x'; 500][..]);
        cluster.ids().iter().all(|&id| cluster.is_compacted(id))
    });
    // Of what follows it, less is not applied after a start than the quota allows.
    cluster.ids().iter().for_each(|&id| until(|| cluster.handle(id).take_snapshot().is_ok()));
    let last_index = |&id: &u64| cluster.status(id).replica.core.last_index;
    until(|| {
        cluster.ids().iter().map(last_index).collect::<std::collections::BTreeSet<_>>().len() == 1
    });
    cluster
}

/// In the content of the snapshot, before its trailer.
fn in_body(length: usize) -> usize {
    length - 30
}

#[test]
fn a_node_with_a_damaged_snapshot_votes_and_gets_another() {
    let mut cluster = compacted(3);
    (1..=3).for_each(|id| cluster.stop(id));
    cluster.rot_snapshot(3, in_body);
    cluster.start_again(3);
    until(|| cluster.failure(3).is_some());
    let status = cluster.status(3).replica;
    let (failure, first) = (status.machine_failure.unwrap(), status.core.first_index);
    assert_eq!(failure.callback, MachineCallback::Restore);
    assert!(status.core.awaits_snapshot);
    // It will be back without the operator's doing.
    let progress = CatchUp::AwaitingSnapshot { index: failure.index };
    assert_eq!(status.catching_up, Some(progress));
    let refusal = Refusal::Loading { progress };
    assert!(refusal.to_string().contains("waiting for another one from the leader"), "{refusal}");
    assert_eq!(cluster.handle(3).stale_read(""), Err(CallError::Refused(refusal)));
    // Without its vote and its acknowledgements node 1 could do nothing.
    cluster.start_again(1);
    cluster.insist(1, b"b");
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

/// Why a node does not start.
fn refused(cluster: &mut Cluster, id: u64) -> String {
    match cluster.try_start(id) {
        Err(NodeError::Storage { error, .. }) => error.to_string(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_snapshot_without_a_header_is_refused_with_what_to_do() {
    let mut cluster = compacted(3);
    cluster.stop(3);
    cluster.rot_snapshot(3, |_| 20);
    let error = refused(&mut cluster, 3);
    for words in [".snap is damaged", "are gone", "'raft recover'", "a new id"] {
        assert!(error.contains(words), "{words} is not in {error}");
    }
}

#[test]
fn a_sole_voter_has_nobody_to_ask_and_is_refused() {
    let mut cluster = compacted(1);
    cluster.stop(1);
    cluster.rot_snapshot(1, in_body);
    let error = refused(&mut cluster, 1);
    for words in [".snap is damaged", "no other voter can send it", "'raft recover'"] {
        assert!(error.contains(words), "{words} is not in {error}");
    }
}
