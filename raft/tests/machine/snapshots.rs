//! A snapshot is read by the user's code: whatever that does, the log goes on.

use std::sync::{Arc, atomic::Ordering};

use super::cluster::{Cluster, until};

/// Writes until all nodes have been asked for a snapshot, as far as `is_so` tells.
fn fill(cluster: &Cluster, leader: u64, is_so: impl Fn() -> bool) {
    until(|| {
        let _ = cluster.handle(leader).write(&[b'x'; 500][..]);
        assert_eq!(cluster.status(leader).replica.failed, None);
        is_so()
    });
}

#[test]
fn a_reader_that_panics_fails_a_snapshot_and_no_more() {
    let cluster = Cluster::start(3);
    let (leader, term) = cluster.leader();
    cluster.controls.readers_panic.store(true, Ordering::SeqCst);
    let failure = |id: u64| cluster.status(id).replica.snapshot_failure;
    fill(&cluster, leader, || cluster.ids().into_iter().all(|id| failure(id).is_some()));
    let reason = failure(leader).unwrap();
    assert!(reason.contains("the state machine panicked while its snapshot was read"), "{reason}");
    assert!(reason.contains("a bug in the reader"), "{reason}");
    cluster.insist(leader, b"b");
    assert_eq!((cluster.leader(), cluster.failure(leader)), ((leader, term), None));
    cluster.controls.readers_panic.store(false, Ordering::SeqCst);
    fill(&cluster, leader, || cluster.status(leader).replica.core.snapshot.0 > 0);
}

#[test]
fn acknowledgements_go_on_while_a_reader_blocks() {
    let mut cluster = Cluster::start(3);
    let (leader, term) = cluster.leader();
    let controls = Arc::clone(&cluster.controls);
    let gate = controls.close_gate();
    controls.readers_wait.store(true, Ordering::SeqCst);
    fill(&cluster, leader, || controls.readers_at_gate.load(Ordering::SeqCst) == 3);
    // Both its own disk and another one take part in each.
    (0..20).for_each(|_| cluster.insist(leader, b"b"));
    assert_eq!(cluster.leader(), (leader, term));
    assert_eq!(cluster.status(leader).replica.core.snapshot.0, 0);
    // A node stops although its reader does not come back.
    let other = leader % 3 + 1;
    cluster.stop(other);
    cluster.start_again(other);
    drop(gate);
    until(|| cluster.status(leader).replica.core.snapshot.0 > 0);
}
