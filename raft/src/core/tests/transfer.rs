//! Leadership that changes hands on purpose.

use std::time::Duration;

use super::membership::{add, change};
use super::network::Network;
use crate::core::{Event, ProposeError, Role, TransferError};
use crate::types::{Body, ChangeError, DiskId, MemberChange, Message, NodeId};

const SECOND: Duration = Duration::from_secs(1);

fn transfer(network: &mut Network, id: u64, to: Option<u64>) -> Result<(), TransferError> {
    network.with_core(id, |core, now| core.transfer_leadership(now, to.map(NodeId)))
}

fn led_by_one(count: u64) -> Network {
    let mut network = Network::new(count);
    network.campaign(1);
    network.stabilize();
    assert_eq!(network.leader(), Some(1));
    network
}

fn is_timeout_now(message: &Message) -> bool {
    message.body == Body::TimeoutNow
}

#[test]
pub(super) fn leadership_moves_at_once_to_a_target_that_lacks_nothing() {
    let mut network = led_by_one(5);
    let (term, since) = (network.core(1).term(), network.now);
    transfer(&mut network, 1, Some(4)).unwrap();
    network.stabilize();
    assert_eq!((network.leader(), network.now), (Some(4), since), "no time has passed");
    assert_eq!(network.core(4).term(), term.next());
    assert_eq!(
        (network.core(1).role(), network.core(1).leader()),
        (Role::Follower, Some(NodeId(4)))
    );
    let proposed = network.propose(4, "x");
    network.stabilize();
    assert_eq!(network.core(1).commit(), proposed.last);
}

#[test]
pub(super) fn the_target_is_asked_once_everything_is_on_its_disk() {
    let mut network = led_by_one(3);
    network.node(3).is_disk_slow = true;
    network.propose(1, "x");
    network.stabilize();
    transfer(&mut network, 1, Some(3)).unwrap();
    assert!(!network.wire.iter().any(is_timeout_now));
    network.stabilize();
    assert_eq!(network.core(1).transfer_target(), Some(NodeId(3)));
    network.finish_write(3);
    let answer = network.wire.pop_front().unwrap();
    network.deliver(answer);
    assert!(network.wire.iter().any(is_timeout_now));
    network.node(3).is_disk_slow = false;
    network.stabilize();
    assert_eq!(network.leader(), Some(3));
}

#[test]
pub(super) fn nothing_is_proposed_while_leadership_moves() {
    let mut network = led_by_one(3);
    network.isolate(3);
    transfer(&mut network, 1, Some(3)).unwrap();
    let refused =
        network.with_core(1, |core, now| core.propose(now, [bytes::Bytes::from_static(b"x")]));
    assert_eq!(refused, Err(ProposeError::Transferring { to: NodeId(3) }));
    assert_eq!(
        change(&mut network, 1, &[add(4)]),
        Err(ChangeError::Transferring { to: NodeId(3) })
    );
    // Another target takes its place.
    transfer(&mut network, 1, Some(2)).unwrap();
    assert_eq!(network.core(1).transfer_target(), Some(NodeId(2)));
    network.stabilize();
    assert_eq!(network.leader(), Some(2));
    network.propose(2, "x");
}

#[test]
pub(super) fn a_transfer_without_a_new_leader_ends() {
    let mut network = led_by_one(3);
    network.isolate(3);
    transfer(&mut network, 1, Some(3)).unwrap();
    let timeout = network.core(1).config().election_timeout.max;
    network.pass(timeout);
    assert!(network.node(1).events.contains(&Event::TransferFailed { to: NodeId(3) }));
    assert_eq!((network.leader(), network.core(1).transfer_target()), (Some(1), None));
    let proposed = network.propose(1, "x");
    network.stabilize();
    assert_eq!(network.core(1).commit(), proposed.last);
}

#[test]
fn a_lost_word_to_the_target_is_said_again() {
    let mut network = led_by_one(3);
    transfer(&mut network, 1, Some(3)).unwrap();
    network.wire.retain(|message| !is_timeout_now(message));
    network.pass(Duration::from_millis(60));
    assert_eq!(network.leader(), Some(3));
}

/// Passes from one heartbeat of the leader to the next; `TimeoutNow` to the target is
fn pass_and_lose_timeout_now(network: &mut Network, leader: u64, duration: Duration) -> usize {
    let (end, mut told) = (network.now.after(duration), 0);
    while network.now < end {
        network.campaign(leader);
        let before = network.wire.len();
        network.wire.retain(|message| message.body != Body::TimeoutNow);
        told += before - network.wire.len();
        network.stabilize();
    }
    told
}

#[test]
fn a_target_that_does_not_take_over_is_asked_ever_less() {
    let mut network = led_by_one(3);
    let attempts = |network: &Network| {
        let events = network.nodes[&NodeId(1)].events.iter();
        events
            .filter(|event| matches!(event, Event::TransferFailed { to } if *to == NodeId(2)))
            .count()
    };
    prefer(&mut network, 2, 5);
    let told = pass_and_lose_timeout_now(&mut network, 1, 127 * SECOND);
    assert!(told > 0, "`TimeoutNow` left, and was lost");
    // At 0, 1, 3, 7, 15, 31 and 63 seconds or a little later: 127 times, were the wait always the
    // same.
    assert_eq!(attempts(&network), 7);
    // A term later that is not forgotten.
    let term = network.core(1).term().next();
    network.deliver(Message {
        from: NodeId(3),
        to: NodeId(1),
        term,
        body: Body::Vote { granted: false },
    });
    network.isolate(2);
    network.now = network.now.after(SECOND);
    while network.leader() != Some(1) {
        network.campaign(1);
        network.stabilize();
    }
    network.heal();
    pass_and_lose_timeout_now(&mut network, 1, 60 * SECOND);
    assert!(attempts(&network) <= 8, "{}", attempts(&network));
}

#[test]
fn impossible_targets_are_refused_by_name() {
    let mut network = led_by_one(3);
    network.join(4);
    change(&mut network, 1, &[add(4)]).unwrap();
    network.stabilize();
    assert_eq!(
        transfer(&mut network, 2, Some(3)),
        Err(TransferError::NotLeader { leader: Some(NodeId(1)) })
    );
    assert_eq!(transfer(&mut network, 1, Some(1)), Err(TransferError::Itself { node: NodeId(1) }));
    assert_eq!(
        transfer(&mut network, 1, Some(4)),
        Err(TransferError::NotVoter { node: NodeId(4) })
    );
    assert_eq!(
        transfer(&mut network, 1, Some(9)),
        Err(TransferError::UnknownNode { node: NodeId(9) })
    );
    let mut alone = Network::new(1);
    alone.pass(Duration::ZERO);
    assert_eq!(transfer(&mut alone, 1, None), Err(TransferError::NoOtherVoter));
}

#[test]
fn only_a_sound_node_asked_by_its_leader_takes_over() {
    let mut network = led_by_one(3);
    let term = network.core(1).term();
    let told =
        |from, to| Message { from: NodeId(from), to: NodeId(to), term, body: Body::TimeoutNow };
    network.deliver(told(3, 2));
    assert_eq!(
        (network.core(2).role(), network.core(2).term()),
        (Role::Follower, term),
        "node 3 does not lead"
    );
    network.node(2).is_disk_slow = true;
    network.propose(1, "x");
    network.pass(SECOND);
    network.deliver(told(1, 2));
    assert_eq!(
        (network.core(2).role(), network.core(2).term()),
        (Role::Follower, term),
        "its disk is stuck"
    );
    network.join(4);
    network.node(2).is_disk_slow = false;
    network.pass(SECOND / 10);
    change(&mut network, 1, &[add(4)]).unwrap();
    network.stabilize();
    network.deliver(told(1, 4));
    assert_eq!(network.core(4).role(), Role::Follower, "it does not vote");
    network.deliver(told(1, 3));
    network.stabilize();
    assert_eq!(network.leader(), Some(3));
}

/// Gives a member a priority.
pub(super) fn prefer(network: &mut Network, node: u64, priority: u8) {
    let leader = network.leader().unwrap();
    let update = MemberChange::Update {
        node: NodeId(node),
        disk: Some(DiskId(node.into())),
        address: None,
        priority: Some(priority),
        feature_level: None,
    };
    change(network, leader, &[update]).unwrap();
    network.stabilize();
}

#[test]
fn without_a_target_the_best_voter_takes_over() {
    let mut network = led_by_one(3);
    network.isolate(2);
    network.pass(SECOND / 2);
    transfer(&mut network, 1, None).unwrap();
    network.stabilize();
    assert_eq!(network.leader(), Some(3), "node 2 does not answer");
}

#[test]
fn the_voter_with_the_highest_priority_comes_to_lead_and_stays() {
    let mut network = led_by_one(3);
    prefer(&mut network, 2, 5);
    network.isolate(3);
    prefer(&mut network, 3, 9);
    network.pass(2 * SECOND);
    assert_eq!(network.leader(), Some(2), "the best of those that are there");
    network.heal();
    network.pass(2 * SECOND);
    assert_eq!(network.leader(), Some(3));
    let term = network.core(3).term();
    network.pass(5 * SECOND);
    assert_eq!((network.leader(), network.core(3).term()), (Some(3), term));
}

/// A node whose state machine has failed answers nobody, so another leads.
#[test]
pub(super) fn the_unfit_hand_over_and_do_not_campaign() {
    let mut network = led_by_one(3);
    network.with_core(1, |core, now| core.forbid_leading(now));
    network.stabilize();
    let leader = network.leader().unwrap();
    assert_ne!(leader, 1);
    // It votes and acknowledges: with one of the others alone there is a leader.
    let other = 5 - leader;
    network.isolate(other);
    let proposed = network.propose(leader, "x");
    network.stabilize();
    assert_eq!(network.core(leader).commit(), proposed.last);
    network.heal();
    network.pass(SECOND);
    network.crash(leader);
    network.pass(SECOND * 5);
    assert_eq!((network.leader(), network.core(1).role()), (Some(other), Role::Follower));
    // Alone it does not even ask.
    network.crash(other);
    network.pass(SECOND * 5);
    assert_eq!(network.core(1).role(), Role::Follower);
    network.with_core(1, |core, now| core.allow_leading(now));
    network.pass(SECOND * 5);
    assert_eq!(network.core(1).role(), Role::PreCandidate);
}

/// It cannot know which of the others are fit, so it asks one after the other.
#[test]
fn an_unfit_leader_hands_over_to_each_voter_in_turn() {
    let mut network = led_by_one(3);
    for id in [1, 2] {
        network.with_core(id, |core, now| core.forbid_leading(now));
    }
    network.pass(SECOND * 5);
    assert_eq!(network.leader(), Some(3));
}

/// Its removal is committed, and its successor does not catch up.
#[test]
fn a_removed_leader_leaves_though_its_transfer_fails() {
    let mut network = led_by_one(3);
    for id in [2, 3] {
        network.node(id).is_disk_slow = true;
    }
    let removal = change(&mut network, 1, &[MemberChange::Remove(NodeId(1))]).unwrap();
    network.propose(1, "x");
    network.stabilize();
    for id in [2, 3] {
        network.finish_write(id);
    }
    network.stabilize();
    assert_eq!(network.core(1).commit(), removal.last);
    let (term, timeout) = (network.core(1).term(), network.core(1).config().election_timeout.max);
    network.pass(timeout - Duration::from_millis(1));
    assert!(network.core(1).is_leader() && network.core(1).transfer_target().is_some());
    network.pass(Duration::from_millis(1));
    assert!(network.node(1).events.contains(&Event::NoLongerVoter { term }));
    assert_eq!(network.core(1).role(), Role::Follower);
}
