//! How a core handles messages that are late, repeated, or from a node that cannot know.

use std::time::Duration;

use bytes::Bytes;

use super::network::{Network, report, voters};
use crate::core::{Config, Event};
use crate::types::{Body, Digest, FeatureLevel, Index, MemberChange, Message, NodeId, Term};

const SECOND: Duration = Duration::from_secs(1);
const HEARTBEATS: Duration = Duration::from_millis(120);

/// Three nodes, and what all have committed. The leader comes first.
fn led() -> (Network, [u64; 3]) {
    let mut network =
        Network::bootstrapped_with(&voters(3).at_feature_level(FeatureLevel::CURRENT));
    let leader = network.elect();
    for _ in 0..8 {
        network.propose(leader, "x");
        network.stabilize();
    }
    network.pass(HEARTBEATS);
    (network, [leader, leader % 3 + 1, (leader + 1) % 3 + 1])
}

fn count(network: &mut Network, node: u64, is_it: impl Fn(&Event) -> bool) -> usize {
    network.node(node).events.iter().filter(|event| is_it(event)).count()
}

fn forgot(event: &Event) -> bool {
    matches!(event, Event::PeerForgot { .. })
}

fn deliver(network: &mut Network, from: u64, to: u64, body: Body) {
    let term = network.core(to).term();
    network.deliver(Message { from: NodeId(from), to: NodeId(to), term, body });
}

fn takes(network: &mut Network, node: u64, index: Index, value: u64) {
    let digest = Digest { index, version: 1, value };
    network.with_core(node, |core, now| core.note_digest(now, digest));
    network.stabilize();
}

#[test]
fn a_rejection_of_a_round_to_come_proves_nothing() {
    let (mut network, [leader, follower, _]) = led();
    let core = network.core(leader);
    let (previous_index, round) = (core.last_index(), core.latest_round().unwrap());
    let (hint_index, hint_term) = (Index(2), core.terms().term_at(Index(2)).unwrap());
    let report = report(round + 9);
    let body = Body::Rejected { previous_index, hint_index, hint_term, report };
    deliver(&mut network, follower, leader, body);
    assert_eq!(count(&mut network, leader, forgot), 0);
}

#[test]
fn a_leader_between_configurations_gives_up_over_a_stall() {
    let (mut network, [leader, one, other]) = led();
    network.node(leader).is_disk_slow = true;
    let changes = [one, other].map(|node| MemberChange::Demote(NodeId(node)));
    network.with_core(leader, |core, now| core.change_membership(now, &changes)).unwrap();
    assert!(network.core(leader).configuration().is_joint());
    network.pass(10 * SECOND);
    let gave_up = |event: &Event| matches!(event, Event::StalledWrite { .. });
    assert_eq!(count(&mut network, leader, gave_up), 1, "the others can elect another leader");
}

#[test]
fn a_command_may_have_as_many_bytes_as_the_limit() {
    let mut network = Network::with(1, |config: &mut Config| config.command_bytes = 100);
    let leader = network.elect();
    let command = Bytes::from_static(&[0; 100]);
    network.with_core(leader, |core, now| core.propose(now, [command])).unwrap();
}

#[test]
fn a_leaders_word_of_forgetting_is_heard_once() {
    let (mut network, [leader, follower, _]) = led();
    for _ in 0..2 {
        deliver(&mut network, leader, follower, Body::Forgot { last_index: Index(5) });
    }
    let heard = |event: &Event| matches!(event, Event::Forgot { .. });
    assert_eq!(count(&mut network, follower, heard), 1);
}

#[test]
fn the_first_report_of_a_conflict_is_passed_on() {
    let (mut network, [leader, follower, _]) = led();
    for _ in 0..2 {
        let body = Body::CommittedConflict { index: Index(4), log_term: Term(1) };
        deliver(&mut network, follower, leader, body);
        let reported = |event: &Event| matches!(event, Event::PeerConflict { .. });
        assert_eq!(count(&mut network, leader, reported), 1);
    }
}

#[test]
fn a_disk_that_forgot_is_informed_at_once() {
    let (mut network, [leader, follower, _]) = led();
    network.with_core(leader, |core, now| core.handle_peer_forgot(now, NodeId(follower)));
    let is_forgot = |message: &Message| {
        let is_mark = matches!(message.body, Body::Forgot { .. });
        is_mark && message.to == NodeId(follower)
    };
    assert!(network.wire.iter().any(is_forgot));
}

#[test]
fn leadership_does_not_go_to_a_disk_that_forgot() {
    let (mut network, [leader, follower, _]) = led();
    network.cut.insert((NodeId(leader), NodeId(follower)));
    let to = Some(NodeId(follower));
    network.with_core(leader, |core, now| core.transfer_leadership(now, to)).unwrap();
    assert_eq!(network.core(leader).transfer_target(), to);
    network.with_core(leader, |core, now| core.handle_peer_forgot(now, NodeId(follower)));
    assert_eq!(network.core(leader).transfer_target(), None);
}

#[test]
fn a_follower_notes_no_forgetful_disk_of_a_stranger() {
    let (mut network, [_, follower, _]) = led();
    network.with_core(follower, |core, now| core.handle_peer_forgot(now, NodeId(9)));
    assert_eq!(count(&mut network, follower, forgot), 0);
}

#[test]
fn a_node_says_that_it_has_passed_its_fence() {
    let (mut network, [leader, follower, _]) = led();
    let last = network.core(leader).last_index();
    network.with_core(leader, |core, now| core.handle_peer_forgot(now, NodeId(follower)));
    network.pass(2 * SECOND);
    assert!(!network.core(follower).has_forgotten());
    let passed = |event: &Event| matches!(event, Event::PassedFence { index } if *index > last);
    assert_eq!(count(&mut network, follower, passed), 1);
}

#[test]
fn digests_of_no_entry_are_ignored() {
    let (mut network, [leader, follower, other]) = led();
    takes(&mut network, follower, Index(0), 7);
    assert_eq!(network.core(follower).status().digests.latest, None);
    let ignored = network.core(follower).status().ignored_messages;
    let digest = |value| Digest { index: Index(0), version: 1, value };
    let told = [(leader, 7), (follower, 8), (other, 9)];
    let told = told.map(|(node, value)| (NodeId(node), digest(value)));
    deliver(&mut network, leader, follower, Body::StateDigests(Box::new(told.into())));
    assert_eq!(network.core(follower).status().ignored_messages, ignored + 1);
}

#[test]
fn two_digests_are_kept_for_slower_nodes() {
    let (mut network, [leader, odd, other]) = led();
    let index = network.core(leader).applied();
    for (node, index, value) in [(odd, index.previous(), 9), (odd, index, 9)] {
        takes(&mut network, node, index, value);
    }
    for node in [leader, other] {
        takes(&mut network, node, index.previous(), 7);
    }
    network.pass(HEARTBEATS);
    assert!(network.core(odd).divergence().is_some());
}

#[test]
fn a_member_is_right_again_from_a_later_entry_on() {
    let (mut network, [leader, odd, other]) = led();
    let index = network.core(leader).applied();
    let outvoted = |network: &Network| network.core(leader).status().digests.outvoted.len();
    for (node, value) in [(leader, 7), (other, 7), (odd, 9)] {
        takes(&mut network, node, index.previous(), value);
    }
    assert_eq!(outvoted(&network), 1);
    for node in [leader, other, odd] {
        takes(&mut network, node, index, 8);
    }
    assert_eq!(outvoted(&network), 0);
}

#[test]
fn an_earlier_right_digest_excuses_no_later_wrong_one() {
    let (mut network, [leader, odd, other]) = led();
    let index = network.core(leader).applied();
    for (node, value) in [(leader, 7), (other, 7), (odd, 9)] {
        takes(&mut network, node, index, value);
    }
    for node in [leader, other, odd] {
        takes(&mut network, node, index.previous(), 8);
    }
    assert_eq!(network.core(leader).status().digests.outvoted.len(), 1);
}

#[test]
fn a_new_leader_counts_the_digest_it_took_before() {
    let (mut network, [leader, odd, other]) = led();
    let index = network.core(leader).applied();
    takes(&mut network, odd, index, 9);
    takes(&mut network, other, index, 7);
    network.crash(leader);
    network.restart(leader);
    network.with_core(leader, |core, now| core.forbid_leading(now));
    network.isolate(odd);
    network.pass(2 * SECOND);
    assert!(network.core(other).is_leader());
    network.heal();
    takes(&mut network, leader, index, 7);
    network.pass(2 * HEARTBEATS);
    assert!(network.core(odd).divergence().is_some());
}

#[test]
fn a_node_without_a_snapshot_awaits_none() {
    let (mut network, [_, follower, _]) = led();
    network.with_core(follower, |core, now| core.request_snapshot(now));
    assert!(!network.core(follower).awaits_readable_snapshot());
}
