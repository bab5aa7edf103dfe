//! Slow writes: who gives up over them, and when.

use std::time::Duration;

use super::network::Network;
use crate::core::{Config, Event};
use crate::types::{DiskId, Member, MemberChange, NodeId};

const SECOND: Duration = Duration::from_secs(1);

fn gave_up(network: &mut Network, id: u64) -> bool {
    network.node(id).events.iter().any(|event| matches!(event, Event::StalledWrite { .. }))
}

#[test]
pub(super) fn a_slow_write_is_tolerated_for_the_stall_timeout() {
    let mut network = Network::new(3);
    let leader = network.elect();
    network.stabilize();
    network.node(leader).is_disk_slow = true;
    network.propose(leader, "x");
    network.pass(4900 * Duration::from_millis(1));
    assert!(network.core(leader).is_leader(), "ten times half a second are not over");
    network.pass(200 * Duration::from_millis(1));
    assert!(!network.core(leader).is_leader() && gave_up(&mut network, leader));
}

/// It stepped down and was elected again, time after time, and failed what was in flight.
#[test]
pub(super) fn the_only_voter_leads_on_over_a_slow_write() {
    let mut network = Network::new(1);
    network.pass(Duration::ZERO);
    network.join(2);
    let member = Member { disk: DiskId(2), ..Member::default() };
    let changes = [MemberChange::AddLearner { node: NodeId(2), member }];
    network.with_core(1, |core, now| core.change_membership(now, &changes)).unwrap();
    network.pass(SECOND);
    let (term, proposed) = (network.core(1).term(), network.propose(1, "x"));
    network.stabilize();
    network.node(1).is_disk_slow = true;
    network.propose(1, "y");
    network.pass(60 * SECOND);
    assert!(
        network.core(1).is_leader() && network.core(1).term() == term,
        "a learner does not matter"
    );
    // A second voter ends the exemption as soon as the change is appended.
    assert!(network.core(1).commit() >= proposed.last);
    let changes = [MemberChange::Promote(NodeId(2))];
    network.with_core(1, |core, now| core.change_membership(now, &changes)).unwrap();
    network.pass(Duration::from_millis(1));
    assert!(gave_up(&mut network, 1));
}

#[test]
pub(super) fn a_leader_without_a_vote_is_not_exempt_from_stalls() {
    let mut network = Network::new(2);
    let leader = network.elect();
    network.stabilize();
    let other = 3 - leader;
    network.node(other).is_disk_slow = true; // so that the change is not committed
    let changes = [MemberChange::Demote(NodeId(leader))];
    network.with_core(leader, |core, now| core.change_membership(now, &changes)).unwrap();
    network.node(leader).is_disk_slow = true;
    network.pass(6 * SECOND);
    assert_eq!(network.core(leader).configuration().voters, [NodeId(other)].into());
    assert!(gave_up(&mut network, leader));
}

#[test]
fn a_stall_timeout_below_an_election_is_refused() {
    let config =
        Config { stall_timeout: Some(Duration::from_millis(499)), ..Config::new(NodeId(1)) };
    assert!(config.validate().unwrap_err().to_string().contains("Config::stall_timeout"));
}
