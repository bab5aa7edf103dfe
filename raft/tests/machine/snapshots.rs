//! The user's code reads a snapshot. Whatever it does, the log goes on.

use std::sync::{Arc, atomic::Ordering};

use super::cluster::{Cluster, until};

/// Writes until the nodes take snapshots and the condition holds.
fn write_until(cluster: &Cluster, leader: u64, holds: impl Fn() -> bool) {
    until(|| {
        let _ = cluster.handle(leader).write(&[b'x'; 500][..]);
        assert_eq!(cluster.status(leader).replica.failed, None);
        holds()
    });
}

#[test]
fn a_reader_that_panics_fails_only_its_snapshot() {
    let cluster = Cluster::start(3);
    let (leader, term) = cluster.leader();
    cluster.controls.readers_panic.store(true, Ordering::SeqCst);
    let failure = |id: u64| cluster.status(id).replica.snapshot_failure;
    write_until(&cluster, leader, || cluster.ids().into_iter().all(|id| failure(id).is_some()));
    let reason = failure(leader).unwrap();
    assert!(reason.contains("the state machine panicked while its snapshot was read"), "{reason}");
    assert!(reason.contains("a bug in the reader"), "{reason}");
    cluster.write_until_taken(leader, b"b");
    assert_eq!((cluster.leader(), cluster.failure(leader)), ((leader, term), None));
    cluster.controls.readers_panic.store(false, Ordering::SeqCst);
    write_until(&cluster, leader, || cluster.status(leader).replica.core.snapshot.0 > 0);
}

#[test]
fn acknowledgements_go_on_while_a_reader_blocks() {
    let mut cluster = Cluster::start(3);
    let (leader, term) = cluster.leader();
    let controls = Arc::clone(&cluster.controls);
    let gate = controls.close_gate();
    controls.readers_wait.store(true, Ordering::SeqCst);
    write_until(&cluster, leader, || controls.readers_at_gate.load(Ordering::SeqCst) == 3);
    // The leader's disk and another one take part in each write.
    (0..20).for_each(|_| cluster.write_until_taken(leader, b"b"));
    assert_eq!(cluster.leader(), (leader, term));
    assert_eq!(cluster.status(leader).replica.core.snapshot.0, 0);
    // A node stops although its reader does not return.
    let other = leader % 3 + 1;
    cluster.stop(other);
    cluster.start_again(other);
    drop(gate);
    until(|| cluster.status(leader).replica.core.snapshot.0 > 0);
}
