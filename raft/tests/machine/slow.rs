//! A call that takes longer than several election timeouts delays no heartbeat.

use std::sync::atomic::Ordering;

use kodiak_raft::{
    node::CallError,
    replica::{Doubt, MachineCallback},
};

use super::cluster::{Cluster, until};

/// Waits for the request timeout of a write behind the long call.
fn write_times_out(cluster: &Cluster, id: u64, command: &'static [u8]) {
    assert_eq!(cluster.handle(id).write(command), Err(CallError::Unknown(Doubt::TimedOut)));
}

#[test]
fn a_long_command_deposes_no_leader() {
    let cluster = Cluster::start(3);
    let (leader, term) = cluster.leader();
    let gate = cluster.controls.close_gate();
    // All machines wait at the same entry.
    write_times_out(&cluster, leader, b"wait");
    let call = cluster.status(leader).machine.call.unwrap();
    assert_eq!(call.callback, MachineCallback::Apply);
    let commit = cluster.status(leader).replica.core.commit;
    write_times_out(&cluster, leader % 3 + 1, b"b");
    // Followers acknowledge entries that they have not applied.
    assert!(cluster.status(leader).replica.core.commit > commit);
    assert_eq!(cluster.leader(), (leader, term));
    drop(gate);
    cluster.write_until_taken(leader, b"c");
    assert_eq!(cluster.handle(leader).read("").unwrap().bytes, "awaitbc");
    assert_eq!(cluster.leader(), (leader, term));
    let longest = cluster.status(leader).machine.longest_call.unwrap();
    assert_eq!((longest.callback, longest.index), (MachineCallback::Apply, call.index));
}

#[test]
fn a_long_snapshot_deposes_no_leader() {
    let cluster = Cluster::start(3);
    let (leader, term) = cluster.leader();
    cluster.controls.snapshots_wait.store(true, Ordering::SeqCst);
    let gate = cluster.controls.close_gate();
    let is_waiting = |id: u64| {
        let call = cluster.status(id).machine.call;
        call.is_some_and(|call| call.callback == MachineCallback::Snapshot)
    };
    until(|| {
        let _ = cluster.handle(leader).write(&[b'x'; 500][..]);
        cluster.ids().into_iter().all(is_waiting)
    });
    write_times_out(&cluster, leader, b"b");
    assert_eq!(cluster.leader(), (leader, term));
    drop(gate);
    cluster.write_until_taken(leader, b"c");
    until(|| cluster.status(leader).replica.core.snapshot.0 > 0);
    assert_eq!(cluster.leader(), (leader, term));
}
