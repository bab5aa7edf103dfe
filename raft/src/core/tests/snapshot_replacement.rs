//! Snapshots that have become unreadable are sent again, beside the log.

use std::time::Duration;

use super::network::Network;
use crate::core::{Action, Role};
use crate::types::{Index, NodeId};

const SECOND: Duration = Duration::from_secs(1);

fn is_for_machine(action: &Action) -> bool {
    matches!(action, Action::Apply(_) | Action::Restore(_))
}

/// Node 1 leads; node 3 has started, and cannot read its snapshot, which its log begins after.
fn with_a_damaged_snapshot() -> Network {
    let mut network = Network::with(3, |config| config.retained_snapshots = 1);
    network.campaign(1);
    network.stabilize();
    for _ in 0..3 {
        for _ in 0..4 {
            network.propose(1, "x");
        }
        network.pass(SECOND / 5);
        (1..=3).for_each(|id| assert!(network.take_snapshot(id)));
    }
    assert!(network.core(3).status().first_index > Index(1));
    network.crash(3);
    network.restart(3);
    network.node(3).holds = is_for_machine;
    network.with_core(3, |core, now| {
        core.restore_at_start();
        core.request_snapshot(now);
        core.forbid_leading(now);
    });
    network
}

/// The state machine of node 3 can do nothing before it is restored: as the replica, passes over
/// what it was handed before that.
fn restore(network: &mut Network) {
    let held = &mut network.node(3).held;
    let last = held.iter().rposition(|action| matches!(action, Action::Restore(_))).unwrap();
    held.drain(..last);
    network.node(3).holds = |_| false;
    while !network.node(3).held.is_empty() {
        network.release(3);
    }
}

#[test]
pub(super) fn a_node_whose_snapshot_is_damaged_is_sent_another() {
    let mut network = with_a_damaged_snapshot();
    let (before, first) = (network.core(3).last_index(), network.core(3).status().first_index);
    // Without node 2 its acknowledgements count, while the snapshot is on its way, too.
    network.crash(2);
    for _ in 0..5 {
        let proposed = network.propose(1, "y");
        network.pass(SECOND / 5);
        assert_eq!(network.core(1).commit(), proposed.last);
    }
    assert_eq!(network.node(3).installed, 1);
    assert!(!network.core(3).awaits_state());
    let status = network.core(3).status();
    assert_eq!((status.role, status.first_index), (Role::Follower, first), "the log is as it was");
    assert!(status.last_index > before);
    restore(&mut network);
    network.pass(SECOND);
    assert_eq!(network.core(3).applied(), network.core(1).commit());
    // That was all.
    network.pass(SECOND);
    assert_eq!((network.node(3).installed, network.leader()), (1, Some(1)));
}

#[test]
fn a_node_that_lacks_its_snapshot_votes() {
    let mut network = with_a_damaged_snapshot();
    network.crash(1);
    network.pass(SECOND * 3);
    assert_eq!(network.leader(), Some(2));
    network.pass(SECOND);
    assert_eq!(network.node(3).installed, 1, "any leader is asked");
}

#[test]
fn a_leader_without_a_snapshot_as_new_sends_none() {
    let mut network = with_a_damaged_snapshot();
    let index = network.core(1).snapshot().unwrap().index.next();
    let body = crate::types::Body::SnapshotProgress {
        index,
        received_bytes: 0,
        report: super::network::report(1),
    };
    network.isolate(3);
    let term = network.core(1).term();
    network.deliver(crate::types::Message { from: NodeId(2), to: NodeId(1), term, body });
    network.pass(SECOND / 5);
    assert_eq!(network.node(2).installed, 0);
}
