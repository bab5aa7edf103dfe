//! Digests of the state: a majority stops the one that differs, and nothing else does.

use std::time::Duration;

use bytes::Bytes;

use super::network::{Network, voters};
use crate::core::Event;
use crate::types::{
    Body, Chunk, Configuration, Digest, Divergence, Echo, FeatureLevel, Index, Message, NodeId,
    SnapshotMeta, Stamp, Term,
};

const HEARTBEATS: Duration = Duration::from_millis(120);

fn initial_configuration(count: u64) -> Configuration {
    voters(count).at_feature_level(FeatureLevel::CURRENT)
}

/// A cluster with a leader, and an entry that all have applied.
fn led(count: u64) -> (Network, u64, Index) {
    let mut network = Network::bootstrapped_with(&initial_configuration(count));
    let leader = network.elect();
    network.propose(leader, "x");
    network.pass(HEARTBEATS);
    let index = network.core(leader).applied();
    (network, leader, index)
}

/// A node's state machine has taken its digest; the others hear of it.
fn takes(network: &mut Network, node: u64, index: Index, version: u32, value: u64) {
    let digest = Digest { index, version, value };
    network.with_core(node, |core, now| core.note_digest(now, digest));
    network.stabilize();
}

fn divergence(network: &Network, node: u64) -> Option<Divergence> {
    network.core(node).divergence()
}

fn conflicts(network: &Network, node: u64) -> usize {
    let events = &network.nodes[&NodeId(node)].events;
    events.iter().filter(|event| matches!(event, Event::StatesDiffer(_))).count()
}

/// Values of nodes beginning with the leader; whom of them in that order a majority stops.
fn stopped(values: &[(u32, u64)]) -> (Vec<usize>, usize) {
    let (mut network, leader, index) = led(values.len() as u64);
    let count = values.len() as u64;
    let node = |place: usize| (leader - 1 + place as u64) % count + 1;
    for (place, &(version, value)) in values.iter().enumerate() {
        takes(&mut network, node(place), index, version, value);
    }
    network.pass(HEARTBEATS);
    let has_stopped = |place: &usize| divergence(&network, node(*place)).is_some();
    let stopped = (0..values.len()).filter(has_stopped).collect();
    (stopped, (0..values.len()).map(|place| conflicts(&network, node(place))).sum())
}

#[test]
fn equal_digests_agree() {
    let (mut network, leader, index) = led(3);
    for node in 1..=3 {
        takes(&mut network, node, index, 1, 7);
    }
    network.pass(HEARTBEATS);
    let agreed = Some(Digest { index, version: 1, value: 7 });
    for node in 1..=3 {
        let status = network.core(node).status().digests;
        assert_eq!((status.agreed, status.conflict, status.divergence), (agreed, None, None));
    }
    assert!(network.core(leader).status().digests.outvoted.is_empty());
}

#[test]
fn a_follower_that_a_majority_outvotes_stops() {
    let (mut network, leader, index) = led(3);
    let odd = leader % 3 + 1;
    for node in 1..=3 {
        takes(&mut network, node, index, 1, if node == odd { 9 } else { 7 });
    }
    let digest = Digest { index, version: 1, value: 9 };
    let expected = Divergence { digest, majority: 7, agreed: Index(0) };
    assert_eq!(divergence(&network, odd), Some(expected));
    assert!(network.node(odd).events.contains(&Event::StateDiverged(expected)));
    let event = Event::PeerDiverged { node: NodeId(odd), digest, majority: 7 };
    assert!(network.node(leader).events.contains(&event));
    assert_eq!(network.core(leader).status().digests.outvoted, [(NodeId(odd), digest)].into());
    // Said once, though it is repeated.
    network.pass(HEARTBEATS);
    assert_eq!(network.node(leader).events.iter().filter(|said| **said == event).count(), 1);
}

#[test]
fn a_leader_that_a_majority_outvotes_stops() {
    assert_eq!(stopped(&[(1, 9), (1, 7), (1, 7)]), (vec![0], 0));
}

#[test]
pub(super) fn without_a_majority_a_difference_stops_nobody() {
    // All of them say so.
    assert_eq!(stopped(&[(1, 7), (1, 8), (1, 9)]), (vec![], 3));
    assert_eq!(stopped(&[(1, 7), (1, 8)]), (vec![], 2));
    assert_eq!(stopped(&[(1, 7), (1, 7), (1, 9), (1, 9)]), (vec![], 4));
}

#[test]
fn two_against_one_with_one_away_stop_nobody() {
    let (mut network, leader, index) = led(4);
    let away = (leader + 2) % 4 + 1;
    network.isolate(away);
    for (place, value) in [7, 7, 9].into_iter().enumerate() {
        takes(&mut network, (leader - 1 + place as u64) % 4 + 1, index, 1, value);
    }
    let sum = |network: &Network| (1..=4).map(|node| conflicts(network, node)).sum::<usize>();
    assert_eq!(sum(&network), 0, "the fourth may be about to decide");
    network.pass(HEARTBEATS);
    assert_eq!((sum(&network), conflicts(&network, away)), (3, 0));
    assert!((1..=4).all(|node| divergence(&network, node).is_none()));
    // It comes back, and decides.
    network.cut.clear();
    takes(&mut network, away, index, 1, 7);
    network.pass(2 * HEARTBEATS);
    assert!(divergence(&network, (leader + 1) % 4 + 1).is_some());
    assert_eq!(network.core(leader).status().digests.conflict, None);
}

#[test]
pub(super) fn digests_of_other_versions_stop_nobody() {
    assert_eq!(stopped(&[(1, 7), (1, 7), (2, 9)]), (vec![], 0));
    assert_eq!(stopped(&[(2, 9), (1, 7), (1, 7)]), (vec![], 0));
    // Within a version they count.
    assert_eq!(stopped(&[(1, 7), (2, 9), (1, 7), (1, 7), (1, 8)]), (vec![4], 0));
}

#[test]
fn below_feature_level_2_no_digest_is_sent() {
    let mut network = Network::new(3);
    network.elect();
    let index = network.core(1).commit();
    for node in 1..=3 {
        takes(&mut network, node, index, 1, node);
    }
    network.pass(HEARTBEATS);
    assert!(
        (1..=3).all(|node| divergence(&network, node).is_none() && conflicts(&network, node) == 0)
    );
}

#[test]
fn a_lost_digest_is_sent_again() {
    let (mut network, leader, index) = led(3);
    let (odd, other) = (leader % 3 + 1, (leader + 1) % 3 + 1);
    takes(&mut network, leader, index, 1, 7);
    takes(&mut network, other, index, 1, 7);
    let digest = Digest { index, version: 1, value: 9 };
    network.with_core(odd, |core, now| core.note_digest(now, digest));
    network.wire.clear();
    assert_eq!(divergence(&network, odd), None);
    network.pass(HEARTBEATS);
    assert!(divergence(&network, odd).is_some());
}

#[test]
fn a_change_of_leaders_loses_no_digest() {
    let (mut network, leader, index) = led(3);
    let (odd, other) = (leader % 3 + 1, (leader + 1) % 3 + 1);
    takes(&mut network, odd, index, 1, 9);
    takes(&mut network, other, index, 1, 7);
    // The leader goes before it has taken its own, and comes back as a follower that takes it.
    network.crash(leader);
    let next = network.elect();
    network.restart(leader);
    network.pass(HEARTBEATS);
    takes(&mut network, leader, index, 1, 7);
    network.pass(HEARTBEATS);
    assert!(divergence(&network, odd).is_some(), "node {next} has heard of all three");
    assert!(divergence(&network, other).is_none());
}

#[test]
fn only_the_leader_of_the_term_distributes_digests() {
    let (mut network, leader, index) = led(3);
    let (odd, other) = (leader % 3 + 1, (leader + 1) % 3 + 1);
    takes(&mut network, odd, index, 1, 9);
    let digest = |value| Digest { index, version: 1, value };
    let told = [(1, 7), (2, 7), (3, 7)].map(|(node, value)| (NodeId(node), digest(value)));
    let body = Body::StateDigests(Box::new(told.into()));
    let term = network.core(leader).term();
    let (from, to) = (NodeId(other), NodeId(odd));
    network.deliver(Message { from, to, term, body: body.clone() });
    assert_eq!(divergence(&network, odd), None, "from another follower");
    let stranger =
        Message { from: NodeId(9), to: NodeId(leader), term, body: Body::StateDigest(digest(7)) };
    network.deliver(stranger);
    assert_eq!(network.core(leader).status().ignored_messages, 1, "no member's");
    network.deliver(Message { from: NodeId(leader), to, term, body });
    assert!(divergence(&network, odd).is_some());
}

#[test]
fn a_learner_is_judged_and_does_not_judge() {
    let mut initial_configuration = initial_configuration(3);
    initial_configuration.voters.remove(&NodeId(3));
    initial_configuration.learners.insert(NodeId(3));
    let mut network = Network::bootstrapped_with(&initial_configuration);
    let leader = network.elect();
    network.propose(leader, "x");
    network.pass(HEARTBEATS);
    let index = network.core(leader).applied();
    for (node, value) in [(1, 7), (2, 7), (3, 9)] {
        takes(&mut network, node, index, 1, value);
    }
    let diverged: Vec<u64> = (1..=3).filter(|&node| divergence(&network, node).is_some()).collect();
    assert_eq!(diverged, [3]);
}

/// A majority has outvoted a follower, and its state machine has stopped.
fn with_a_wrong_follower() -> (Network, u64, u64) {
    let (mut network, leader, index) = led(3);
    let odd = leader % 3 + 1;
    for node in 1..=3 {
        takes(&mut network, node, index, 1, if node == odd { 9 } else { 7 });
    }
    network.with_core(odd, |core, now| {
        core.forbid_leading(now);
        core.request_state(now);
    });
    (network, leader, odd)
}

fn has_got_its_state(network: &Network, node: u64) -> bool {
    !network.core(node).awaits_state()
}

#[test]
fn a_wrong_state_is_replaced_by_the_leaders() {
    let (mut network, leader, odd) = with_a_wrong_follower();
    let applied = network.core(odd).applied();
    network.pass(HEARTBEATS);
    // The leader has no snapshot that is new enough, and is asked to take one.
    assert_eq!(network.core(leader).wanted_snapshot(), Some(applied));
    assert!(network.take_snapshot(leader));
    network.pass(HEARTBEATS);
    assert_eq!(network.core(leader).wanted_snapshot(), None);
    assert_eq!((network.node(odd).installed, has_got_its_state(&network, odd)), (1, true));
    assert_eq!(network.core(odd).snapshot(), network.core(leader).snapshot());
    // Its log went on, and goes on.
    network.propose(leader, "y");
    network.pass(HEARTBEATS);
    assert_eq!(network.core(odd).applied(), network.core(leader).commit());
    assert_eq!(network.node(odd).installed, 1, "once is enough");
    network.with_core(odd, |core, now| core.end_divergence(now));
    assert_eq!(divergence(&network, odd), None);
}

#[test]
fn what_follows_the_snapshot_is_applied_again() {
    let (mut network, leader, odd) = with_a_wrong_follower();
    assert!(network.take_snapshot(leader));
    let included = network.core(leader).snapshot().unwrap().index;
    // These commit, and their acknowledgement by the odd one counts, while the snapshot is on its
    // way.
    network.node(odd).holds = |action| matches!(action, crate::core::Action::Apply(_));
    network.isolate((leader + 1) % 3 + 1);
    for _ in 0..5 {
        network.propose(leader, "y");
        network.stabilize();
    }
    assert_eq!(network.core(leader).commit(), network.core(leader).last_index());
    network.pass(HEARTBEATS);
    assert!(has_got_its_state(&network, odd));
    assert_eq!(network.core(odd).snapshot().unwrap().index, included);
    network.node(odd).holds = |_| false;
    let held = std::mem::take(&mut network.node(odd).held);
    let crate::core::Action::Apply(entries) = held.back().unwrap() else { panic!("{held:?}") };
    let last = held
        .iter()
        .rev()
        .take_while(|action| matches!(action, crate::core::Action::Apply(_)))
        .count();
    assert!(last > 0 && entries.last().unwrap().index > included);
}

#[test]
fn a_lost_piece_is_asked_for_again() {
    let (mut network, leader, odd) = with_a_wrong_follower();
    assert!(network.take_snapshot(leader));
    let (from, to) = (NodeId(leader), NodeId(odd));
    network.cut.insert((from, to));
    network.pass(Duration::from_millis(40));
    network.cut.clear();
    network.pass(4 * HEARTBEATS);
    assert!(has_got_its_state(&network, odd));
}

#[test]
fn a_state_that_is_too_old_is_not_taken() {
    let (mut network, leader, odd) = with_a_wrong_follower();
    let meta = |index| SnapshotMeta {
        index,
        term: Term(1),
        stamp: Stamp(0),
        configuration: initial_configuration(3),
        digest: None,
    };
    let older = meta(network.core(odd).applied().previous());
    let chunk = Chunk { offset: 0, total_bytes: 1, data: Bytes::from_static(b"x") };
    let body = Body::InstallSnapshot { meta: older.into(), chunk, echo: Echo::of_round(99) };
    let term = network.core(leader).term();
    network.deliver(Message { from: NodeId(leader), to: NodeId(odd), term, body });
    network.stabilize();
    assert_eq!(network.node(odd).installed, 0);
    assert!(!has_got_its_state(&network, odd));
}

#[test]
fn a_right_state_is_not_replaced() {
    let (mut network, leader, _) = with_a_wrong_follower();
    let other = (leader + 1) % 3 + 1;
    assert!(network.take_snapshot(leader));
    // A late question of an earlier life.
    let index = network.core(other).applied();
    let report = super::network::report(1);
    let body = Body::SnapshotProgress { index, received_bytes: 0, report };
    let term = network.core(leader).term();
    network.deliver(Message { from: NodeId(other), to: NodeId(leader), term, body });
    network.pass(10 * HEARTBEATS);
    assert_eq!(network.node(other).installed, 0);
}
