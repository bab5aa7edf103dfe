//! State machines that make something else of the same log are found by their digests.

use std::sync::atomic::Ordering;

use kodiak_raft::{core::DigestStatus, node::CallError, replica::Refusal};

use super::cluster::{Cluster, DIGEST_INTERVAL, until};

fn digests(cluster: &Cluster, id: u64) -> DigestStatus {
    cluster.status(id).replica.core.digests
}

/// Writes as many entries as there are between two digests.
fn write_an_interval(cluster: &Cluster, id: u64) {
    (0..DIGEST_INTERVAL).for_each(|_| cluster.insist(id, b"b"));
}

/// Everybody has the digest that a majority has, of an entry from here on.
fn agree(cluster: &Cluster) {
    let from = cluster.status(1).replica.core.commit;
    let (leader, _) = cluster.leader();
    write_an_interval(cluster, leader);
    let agrees = |id: u64| digests(cluster, id).agreed.is_some_and(|agreed| agreed.index > from);
    until(|| cluster.ids().into_iter().all(agrees));
}

/// The node that differs is found within an interval, and answers nothing more; the others do.
fn is_found(cluster: &Cluster, odd: u64, differs_from: u64) {
    let others: Vec<u64> = cluster.ids().into_iter().filter(|&id| id != odd).collect();
    write_an_interval(cluster, others[0]);
    until(|| digests(cluster, odd).divergence.is_some());
    let divergence = digests(cluster, odd).divergence.unwrap();
    assert!(divergence.digest.index.0 <= differs_from + DIGEST_INTERVAL, "{divergence:?}");
    let failure = cluster.failure(odd).unwrap();
    assert!(failure.to_string().contains("differs from that of a majority"), "{failure}");
    let refused = CallError::Refused(Refusal::MachineFailed { index: failure.index });
    assert_eq!(cluster.handle(odd).read(""), Err(refused));
    until(|| cluster.leader().0 != odd);
    until(|| digests(cluster, cluster.leader().0).outvoted.keys().any(|node| node.0 == odd));
    for &id in &others {
        cluster.insist(id, b"c");
        assert!(cluster.failure(id).is_none() && digests(cluster, id).conflict.is_none());
    }
}

#[test]
fn a_leader_that_differs_from_two_is_stopped() {
    let cluster = Cluster::start(3);
    agree(&cluster);
    let (odd, _) = cluster.leader();
    cluster.controls.odd.store(odd, Ordering::SeqCst);
    let _ = cluster.handle(odd).write("odd");
    let index = cluster.status(odd).replica.core.last_index.0;
    is_found(&cluster, odd, index);
}

#[test]
fn a_bit_that_turns_over_is_found_within_an_interval() {
    let cluster = Cluster::start(3);
    agree(&cluster);
    cluster.controls.flips.store(true, Ordering::SeqCst);
    cluster.insist(1, b"b");
    until(|| !cluster.controls.flips.load(Ordering::SeqCst));
    let index = cluster.status(2).replica.core.last_index.0;
    is_found(&cluster, 2, index);
}

#[test]
fn three_states_of_three_nodes_are_said_everywhere() {
    let cluster = Cluster::start(3);
    agree(&cluster);
    cluster.insist(1, b"odd");
    write_an_interval(&cluster, 1);
    until(|| (1..=3).all(|id| digests(&cluster, id).conflict.is_some()));
    for id in 1..=3 {
        assert_eq!((cluster.failure(id), digests(&cluster, id).divergence), (None, None));
    }
    cluster.insist(2, b"c");
}

#[test]
fn nodes_of_other_versions_are_not_compared() {
    let cluster = Cluster::start(3);
    agree(&cluster);
    cluster.controls.is_mixed.store(true, Ordering::SeqCst);
    cluster.controls.odd.store(3, Ordering::SeqCst);
    cluster.insist(1, b"odd");
    let from = cluster.status(1).replica.core.commit;
    write_an_interval(&cluster, 1);
    // The two of one version agree.
    until(|| (1..=2).all(|id| digests(&cluster, id).agreed.is_some_and(|agreed| agreed.index > from)));
    until(|| digests(&cluster, 3).latest.is_some_and(|latest| latest.index > from && latest.version == 2));
    for id in 1..=3 {
        assert_eq!((cluster.failure(id), digests(&cluster, id).conflict), (None, None));
    }
}
