//! When a leader hands over by itself: to a voter with a higher priority, or because it is unfit.

use std::time::Duration;

use super::membership::change;
use super::network::{Network, voters};
use crate::core::{Event, Role};
use crate::types::{DiskId, Index, MemberChange, NodeId, Payload};

const SECOND: Duration = Duration::from_secs(1);
const MILLI: Duration = Duration::from_millis(1);
/// How long a leader stays in office before it hands over to a higher priority.
const KEPT: Duration = Duration::from_millis(500);

/// Node 1 leads three voters; node 2, or 3, has a higher priority.
fn led_by_one(preferred: u64) -> Network {
    let mut configuration = voters(3);
    configuration.members.get_mut(&NodeId(preferred)).unwrap().priority = 9;
    let mut network = Network::bootstrapped_with(&configuration);
    network.campaign(1);
    network.stabilize();
    assert_eq!(network.leader(), Some(1));
    network
}

fn prefer(network: &mut Network, node: u64) {
    let disk = Some(DiskId(node.into()));
    let (node, priority) = (NodeId(node), Some(9));
    let (address, feature_level) = (None, None);
    let update = MemberChange::Update { node, disk, address, priority, feature_level };
    change(network, 1, &[update]).unwrap();
}

fn has_tried(network: &Network, id: u64) -> bool {
    let failed = |event: &Event| matches!(event, Event::TransferFailed { .. });
    let core = network.core(id);
    let is_calm = core.is_leader() && core.transfer_target().is_none();
    !is_calm || network.nodes[&NodeId(id)].events.iter().any(failed)
}

/// Lets `duration` pass in steps, after each of which the leader has begun no transfer.
fn pass_in_office(network: &mut Network, duration: Duration) {
    let end = network.now.after(duration);
    while network.now < end {
        network.pass(10 * MILLI);
        assert!(!has_tried(network, 1), "at {:?}", network.now);
    }
}

#[test]
fn a_leader_keeps_its_office_for_an_election_timeout() {
    let mut network = led_by_one(2);
    pass_in_office(&mut network, KEPT - 20 * MILLI);
    network.pass(SECOND);
    assert_eq!(network.leader(), Some(2));
}

#[test]
fn a_priority_takes_no_office_from_a_transfer_under_way() {
    let mut network = led_by_one(2);
    network.pass(KEPT - 100 * MILLI);
    network.isolate(3);
    network.with_core(1, |core, now| core.transfer_leadership(now, Some(NodeId(3)))).unwrap();
    for _ in 0..40 {
        assert_eq!(network.core(1).transfer_target(), Some(NodeId(3)));
        network.pass(10 * MILLI);
    }
}

#[test]
fn a_leader_without_a_commit_of_its_term_does_not_hand_over() {
    let mut network = led_by_one(2);
    network.crash(1);
    network.restart(1);
    // Term and vote become durable, the no-op does not.
    for id in [2, 3] {
        network.node(id).is_disk_slow = true;
    }
    network.campaign(1);
    network.stabilize();
    while !network.core(1).is_leader() {
        for id in [2, 3] {
            while network.finish_write(id) {}
        }
        network.stabilize();
    }
    let first = network.core(1).last_index();
    pass_in_office(&mut network, 2 * SECOND);
    assert!(network.core(1).commit() < first);
    for id in [2, 3] {
        network.node(id).is_disk_slow = false;
    }
    network.pass(SECOND);
    assert_eq!(network.leader(), Some(2));
}

#[test]
fn a_priority_that_is_not_committed_has_no_effect() {
    let mut network = led_by_one(1);
    network.pass(SECOND);
    for id in [2, 3] {
        network.node(id).is_disk_slow = true;
    }
    let demote = MemberChange::Update {
        node: NodeId(1),
        disk: Some(DiskId(1)),
        address: None,
        priority: Some(0),
        feature_level: None,
    };
    change(&mut network, 1, &[demote]).unwrap();
    network.stabilize();
    for id in [2, 3] {
        network.finish_write(id);
    }
    network.stabilize();
    prefer(&mut network, 2);
    pass_in_office(&mut network, 2 * SECOND);
    let pending = network.core(1).configuration_index();
    assert!(pending > network.core(1).commit());
    network.node(3).is_disk_slow = false;
    network.node(2).is_disk_slow = false;
    network.pass(SECOND);
    assert_eq!(network.leader(), Some(2));
}

#[test]
fn a_silent_voter_gets_no_leadership() {
    let mut network = led_by_one(3);
    network.pass(KEPT / 4);
    network.isolate(3);
    let matched = network.core(1).status().peers[1].matched;
    assert_eq!(matched, network.core(1).commit(), "it lacks nothing");
    pass_in_office(&mut network, 3 * SECOND);
}

#[test]
fn a_voter_that_lags_gets_no_leadership() {
    let mut network = led_by_one(2);
    network.node(2).is_disk_slow = true;
    network.propose(1, "x");
    network.stabilize();
    assert_eq!(network.core(1).commit(), network.core(1).last_index());
    pass_in_office(&mut network, 3 * SECOND);
    network.node(2).is_disk_slow = false;
    network.pass(SECOND);
    assert_eq!(network.leader(), Some(2));
}

/// The disk of a node loses all but the first entries.
fn forget(network: &mut Network, id: u64) {
    network.crash(id);
    let disk = &mut network.node(id).disk;
    disk.entries.truncate(2);
    disk.commit = disk.commit.min(Index(2));
    network.restart(id);
}

#[test]
fn a_voter_that_forgot_gets_no_leadership() {
    let mut configuration = voters(5);
    configuration.members.get_mut(&NodeId(5)).unwrap().priority = 9;
    let mut network = Network::bootstrapped_with(&configuration);
    network.campaign(1);
    network.stabilize();
    for command in ["a", "b", "c", "d"] {
        network.propose(1, command);
        network.stabilize();
    }
    // A second one that forgets stays a voter while the first is on its way back.
    forget(&mut network, 4);
    network.node(4).is_disk_slow = true;
    network.pass(100 * MILLI);
    forget(&mut network, 5);
    pass_in_office(&mut network, 3 * SECOND);
    let peer = network.core(1).status().peers[3];
    assert_eq!((peer.has_forgotten, peer.matched), (true, network.core(1).last_index()));
    assert!(network.core(1).configuration().voters.contains(&NodeId(5)));
}

/// The next heartbeat of the leader, and all that follows.
fn heartbeat(network: &mut Network) {
    network.campaign(1);
    network.stabilize();
}

#[test]
fn an_unfit_leader_waits_for_one_transfer_at_a_time() {
    let mut network = led_by_one(1);
    network.node(2).is_disk_slow = true;
    network.propose(1, "x");
    network.stabilize();
    network.with_core(1, |core, now| core.forbid_leading(now));
    for _ in 0..5 {
        assert_eq!(network.core(1).transfer_target(), Some(NodeId(2)));
        heartbeat(&mut network);
    }
}

#[test]
fn an_unfit_leader_passes_over_a_silent_voter() {
    let mut network = Network::new(3);
    network.isolate(2);
    network.campaign(1);
    network.stabilize();
    network.with_core(1, |core, now| core.forbid_leading(now));
    assert_eq!(network.core(1).transfer_target(), Some(NodeId(3)), "node 2 has never answered");
    let mut network = led_by_one(1);
    network.isolate(2);
    network.pass(SECOND);
    network.with_core(1, |core, now| core.forbid_leading(now));
    assert_eq!(network.core(1).transfer_target(), Some(NodeId(3)), "node 2 answers no more");
}

#[test]
fn a_candidate_that_may_not_lead_gives_up() {
    let mut network = Network::new(3);
    network.isolate(1);
    network.campaign(1);
    assert_eq!(network.core(1).role(), Role::PreCandidate);
    network.with_core(1, |core, now| core.forbid_leading(now));
    assert_eq!(network.core(1).role(), Role::Follower);
    assert!(!network.core(1).campaigns_to_hand_over());
}

#[test]
fn a_target_reads_its_last_entry_before_it_campaigns() {
    let mut network = led_by_one(1);
    network.propose(1, "x");
    network.stabilize();
    network.crash(3);
    network.tune = |config| config.tail_bytes = 1;
    network.node(3).holds = |action| matches!(action, crate::core::Action::Fetch(_));
    network.restart(3);
    network.pass(SECOND / 2); // It waits for what it had promised.
    let term = network.core(3).term();
    network.with_core(1, |core, now| core.transfer_leadership(now, Some(NodeId(3)))).unwrap();
    network.stabilize();
    assert_eq!((network.core(3).term(), network.core(3).role()), (term, Role::Follower));
    network.node(3).holds = |_| false;
    while !network.node(3).held.is_empty() {
        network.release(3);
    }
    network.pass(60 * MILLI);
    assert_eq!(network.leader(), Some(3));
    let last = network.node(3).disk.entries.last().map(|entry| entry.payload.clone());
    assert_eq!(last, Some(Payload::Noop));
}
