//! Digests find state machines that make another state from the same log.

use std::sync::{Arc, atomic::Ordering};

use kodiak_raft::{
    core::DigestStatus,
    node::{CallError, Events, NodeEvent},
    replica::Refusal,
};

use super::cluster::{Cluster, DIGEST_INTERVAL, until};

fn digests(cluster: &Cluster, id: u64) -> DigestStatus {
    cluster.status(id).replica.core.digests
}

/// Writes until one write is answered. A leader that stops leaves the outcome of a write unknown.
fn write_once_at_least(cluster: &Cluster, id: u64, command: &'static [u8]) {
    loop {
        match cluster.handle(id).write(command) {
            Ok(_) => return,
            Err(CallError::Refused(_) | CallError::Unknown(_)) => {}
            Err(error) => panic!("{error:?}"),
        }
    }
}

/// Writes as many entries as there are between two digests, or more.
fn write_an_interval(cluster: &Cluster, id: u64) {
    (0..DIGEST_INTERVAL).for_each(|_| write_once_at_least(cluster, id, b"b"));
}

/// Waits until all nodes agree on a digest of an entry from here on.
fn wait_for_agreement(cluster: &Cluster) {
    let from = cluster.status(1).replica.core.commit;
    let (leader, _) = cluster.leader();
    write_an_interval(cluster, leader);
    let agrees = |id: u64| digests(cluster, id).agreed.is_some_and(|agreed| agreed.index > from);
    until(|| cluster.ids().into_iter().all(agrees));
}

/// The node that differs is found within an interval, and gets another state; the others go on.
fn assert_found(cluster: &Cluster, events: &mut Events, odd: u64, differs_from: u64) {
    let others: Vec<u64> = cluster.ids().into_iter().filter(|&id| id != odd).collect();
    write_an_interval(cluster, others[0]);
    let found = loop {
        if let NodeEvent::StateDiverged { index } = events.recv().expect("the node runs") {
            break index;
        }
    };
    assert!(
        found.0 <= differs_from + DIGEST_INTERVAL,
        "found at {found}, wrong since {differs_from}"
    );
    for &id in &others {
        write_once_at_least(cluster, id, b"c");
        assert!(cluster.failure(id).is_none() && digests(cluster, id).conflict.is_none());
    }
    assert_repaired(cluster, odd);
}

/// The node gets the state of the others, and answers as they do.
fn assert_repaired(cluster: &Cluster, odd: u64) {
    cluster.controls.odd.store(u64::MAX, Ordering::SeqCst);
    let other = odd % 3 + 1;
    write_once_at_least(cluster, other, b"d");
    let expected = cluster.handle(other).read("").unwrap().bytes;
    until(|| cluster.handle(odd).read("").is_ok_and(|answer| answer.bytes == expected));
    assert_eq!((cluster.failure(odd), digests(cluster, odd).divergence), (None, None));
    wait_for_agreement(cluster);
    until(|| digests(cluster, cluster.leader().0).outvoted.is_empty());
}

#[test]
fn a_leader_that_differs_from_two_is_stopped() {
    let cluster = Cluster::start(3);
    wait_for_agreement(&cluster);
    let (odd, _) = cluster.leader();
    let mut events = cluster.handle(odd).subscribe(1_000).unwrap();
    cluster.controls.odd.store(odd, Ordering::SeqCst);
    let _ = cluster.handle(odd).write("odd");
    let index = cluster.status(odd).replica.core.last_index.0;
    assert_found(&cluster, &mut events, odd, index);
}

#[test]
fn a_flipped_bit_is_found_within_an_interval() {
    let cluster = Cluster::start(3);
    wait_for_agreement(&cluster);
    let mut events = cluster.handle(2).subscribe(1_000).unwrap();
    cluster.controls.flips.store(true, Ordering::SeqCst);
    cluster.write_until_taken(1, b"b");
    until(|| !cluster.controls.flips.load(Ordering::SeqCst));
    let index = cluster.status(2).replica.core.last_index.0;
    assert_found(&cluster, &mut events, 2, index);
}

#[test]
fn every_node_reports_three_different_states() {
    let cluster = Cluster::start(3);
    wait_for_agreement(&cluster);
    cluster.write_until_taken(1, b"odd");
    write_an_interval(&cluster, 1);
    until(|| (1..=3).all(|id| digests(&cluster, id).conflict.is_some()));
    for id in 1..=3 {
        assert_eq!((cluster.failure(id), digests(&cluster, id).divergence), (None, None));
    }
    cluster.write_until_taken(2, b"c");
}

#[test]
fn digests_of_different_versions_are_not_compared() {
    let cluster = Cluster::start(3);
    wait_for_agreement(&cluster);
    cluster.controls.is_mixed.store(true, Ordering::SeqCst);
    cluster.controls.odd.store(3, Ordering::SeqCst);
    cluster.write_until_taken(1, b"odd");
    let from = cluster.status(1).replica.core.commit;
    write_an_interval(&cluster, 1);
    // The two of one version agree.
    until(|| {
        (1..=2).all(|id| digests(&cluster, id).agreed.is_some_and(|agreed| agreed.index > from))
    });
    until(|| {
        digests(&cluster, 3).latest.is_some_and(|latest| latest.index > from && latest.version == 2)
    });
    for id in 1..=3 {
        assert_eq!((cluster.failure(id), digests(&cluster, id).conflict), (None, None));
    }
}

/// No node has a snapshot to send: the node that differs refuses reads and writes, and keeps
/// voting.
#[test]
fn a_node_that_differs_answers_nothing_and_votes() {
    let mut cluster = Cluster::start(3);
    wait_for_agreement(&cluster);
    let (leader, _) = cluster.leader();
    let odd = leader % 3 + 1;
    let other = odd % 3 + 1;
    let controls = Arc::clone(&cluster.controls);
    controls.odd.store(odd, Ordering::SeqCst);
    // They fail: a machine that waited for the test could not be stopped below.
    controls.readers_panic.store(true, Ordering::SeqCst);
    cluster.write_until_taken(leader, b"odd");
    (0..DIGEST_INTERVAL).for_each(|_| drop(cluster.handle(leader).write("b")));
    until(|| cluster.failure(odd).is_some());
    let failure = cluster.failure(odd).unwrap();
    assert!(failure.to_string().contains("differs from that of a majority"), "{failure}");
    let refused = CallError::Refused(Refusal::MachineFailed { index: failure.index });
    assert_eq!(cluster.handle(odd).read(""), Err(refused.clone()));
    assert_eq!(cluster.handle(odd).stale_read(""), Err(refused));
    // Its acknowledgements count, and its log follows.
    cluster.stop(other);
    let commit = cluster.status(leader).replica.core.commit;
    let _ = cluster.handle(leader).write("c");
    until(|| cluster.status(leader).replica.core.commit > commit);
    controls.readers_panic.store(false, Ordering::SeqCst);
    cluster.start_again(other);
    controls.odd.store(u64::MAX, Ordering::SeqCst);
    until(|| cluster.handle(odd).read("").is_ok());
}
