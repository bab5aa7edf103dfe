//! ReadIndex on leaders and followers.

use std::time::Duration;

use super::network::{Network, report};
use crate::core::{ReadError, ReadId};
use crate::types::{Append, Body, Echo, Index, Message, NodeId, Term};

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn every_node_answers_reads_at_the_leaders_commit_index() {
    for count in [1, 3, 5] {
        let mut network = Network::new(count);
        let leader = network.elect();
        let proposed = network.propose(leader, "x");
        network.stabilize();
        for id in 1..=count {
            network.with_core(id, |core, now| core.read_index(now, ReadId(id))).unwrap();
            network.stabilize();
            assert_eq!(
                network.node(id).ready,
                [(ReadId(id), proposed.last)],
                "node {id} of {count}"
            );
        }
    }
}

#[test]
fn a_cluster_of_one_answers_in_the_same_step() {
    let mut network = Network::new(1);
    network.pass(SECOND);
    network.with_core(1, |core, now| core.read_index(now, ReadId(5))).unwrap();
    assert_eq!(network.node(1).ready, [(ReadId(5), Index(1))]);
}

#[test]
pub(super) fn reads_wait_for_the_first_entry_of_the_leaders_term() {
    let mut network = Network::new(3);
    let old = network.elect();
    network.propose(old, "x");
    network.stabilize();
    network.crash(old);
    // The new leader's no-op cannot be committed while no disk finishes.
    let new = loop {
        network.pass(Duration::from_millis(5));
        let candidate = (1..=3).find(|&id| id != old && network.core(id).is_leader());
        if let Some(leader) = candidate {
            break leader;
        }
    };
    let other = 6 - old - new;
    network.isolate(new);
    network.crash(new);
    network.restart(new);
    network.heal();
    network.nodes.values_mut().for_each(|node| node.is_disk_slow = true);
    let leader = loop {
        network.pass(Duration::from_millis(5));
        for id in [new, other] {
            // Votes may become durable, entries not: a write without entries is finished, one with
            // entries is kept.
            while network.node(id).writes.front().is_some_and(|write| write.entries.is_empty()) {
                network.finish_write(id);
            }
        }
        if let Some(leader) = [new, other].into_iter().find(|&id| network.core(id).is_leader()) {
            break leader;
        }
    };
    network.with_core(leader, |core, now| core.read_index(now, ReadId(1))).unwrap();
    network.stabilize();
    network.pass(Duration::from_millis(120)); // heartbeats are answered meanwhile
    assert!(network.node(leader).ready.is_empty(), "its commit index may be old");
    network.nodes.values_mut().for_each(|node| node.is_disk_slow = false);
    network.pass(Duration::from_millis(120));
    let first = network.core(leader).last_index();
    assert_eq!(network.node(leader).ready, [(ReadId(1), first)]);
}

#[test]
pub(super) fn a_late_answer_to_an_earlier_round_does_not_count() {
    let mut network = Network::new(3);
    let leader = network.elect();
    network.pass(Duration::from_millis(120));
    let term = network.core(leader).term();
    // A heartbeat's answers are still on their way when the read arrives.
    network.campaign(leader); // its next deadline: a heartbeat
    while network.wire.front().is_some_and(|message| matches!(message.body, Body::AppendEntries(_)))
    {
        let message = network.wire.pop_front().unwrap();
        network.deliver(message);
    }
    let late: Vec<Message> = network.wire.drain(..).collect();
    assert_eq!(late.len(), 2);
    network.with_core(leader, |core, now| core.read_index(now, ReadId(1))).unwrap();
    late.into_iter().for_each(|message| network.deliver(message));
    assert!(network.node(leader).ready.is_empty());
    // An answer to a round that was never begun counts even less.
    let body = Body::Appended { matched: Index(1), report: report(1_000_000) };
    network.deliver(Message { from: NodeId(leader % 3 + 1), to: NodeId(leader), term, body });
    assert!(network.node(leader).ready.is_empty());
    network.stabilize();
    assert_eq!(network.node(leader).ready.len(), 1);
}

#[test]
fn a_leader_that_is_cut_off_answers_no_read() {
    let mut network = Network::new(3);
    let leader = network.elect();
    network.isolate(leader);
    network.with_core(leader, |core, now| core.read_index(now, ReadId(1))).unwrap();
    network.pass(2 * SECOND);
    assert!(network.node(leader).ready.is_empty());
    assert_eq!(network.node(leader).failed, [ReadId(1)], "it gave up with its office");
    assert_eq!(
        network.with_core(leader, |core, now| core.read_index(now, ReadId(2))),
        Err(ReadError::NoLeader)
    );
}

#[test]
fn a_lost_read_request_is_repeated_and_fails_with_its_leader() {
    let mut network = Network::new(3);
    let leader = network.elect();
    let follower = leader % 3 + 1;
    network.stabilize();
    network.with_core(follower, |core, now| core.read_index(now, ReadId(1))).unwrap();
    network.wire.clear();
    network.pass(Duration::from_millis(200));
    assert_eq!(network.node(follower).ready.len(), 1);
    network.crash(leader);
    network.with_core(follower, |core, now| core.read_index(now, ReadId(2))).unwrap();
    network.pass(SECOND);
    assert_eq!(
        (network.node(follower).ready.len(), network.node(follower).failed.clone()),
        (1, vec![ReadId(2)])
    );
}

#[test]
fn reads_of_one_step_share_a_request_and_a_round() {
    let mut network = Network::new(3);
    let leader = network.elect();
    let follower = leader % 3 + 1;
    network.stabilize();
    network
        .with_core(follower, |core, now| {
            (1..=9).try_for_each(|id| core.read_index(now, ReadId(id)))
        })
        .unwrap();
    assert_eq!(network.wire.len(), 1);
    network.stabilize();
    assert_eq!(network.node(follower).ready.len(), 9);
}

#[test]
fn pending_reads_are_bounded() {
    let mut network = Network::with(3, |config| config.pending_reads = 2);
    let leader = network.elect();
    for id in [leader, leader % 3 + 1] {
        let asked = network
            .with_core(id, |core, now| (1..=3).try_for_each(|id| core.read_index(now, ReadId(id))));
        assert_eq!(asked, Err(ReadError::TooMany { limit: 2 }));
    }
}

#[test]
fn an_answer_to_an_earlier_life_is_not_taken_for_one_to_this() {
    let mut network = Network::new(3);
    let leader = network.elect();
    let follower = leader % 3 + 1;
    network.with_core(follower, |core, now| core.read_index(now, ReadId(1))).unwrap();
    let number = |network: &Network| match network.wire.back().unwrap().body {
        Body::RequestReadIndex { request, .. } => request,
        ref other => panic!("{other:?}"),
    };
    let first = number(&network);
    network.crash(follower);
    network.pass(Duration::from_millis(60));
    network.restart(follower);
    network.pass(Duration::from_millis(60));
    network.with_core(follower, |core, now| core.read_index(now, ReadId(1))).unwrap();
    assert_ne!(number(&network), first);
}

/// The follower would wait for an answer until its client's timeout ends.
#[test]
fn a_read_request_that_is_not_kept_is_answered_at_once() {
    let mut network = Network::with(3, |config| config.pending_reads = 2);
    let leader = network.elect();
    let follower = leader % 3 + 1;
    network.stabilize();
    let term = network.core(leader).term();
    let mut ask = |to: u64, request| {
        let (from, may_lease) = (NodeId(6 - leader - follower), false);
        let body = Body::RequestReadIndex { request, may_lease };
        network.wire.clear();
        network.deliver(Message { from, to: NodeId(to), term, body });
        let is_refused =
            |message: &Message| message.body == Body::ReadIndex { request, index: None };
        network.wire.iter().any(is_refused)
    };
    assert_eq!([1, 2, 3].map(|request| ask(leader, request)), [false, false, true]);
    assert!(ask(follower, 4), "it does not lead");
}

#[test]
fn only_the_leaders_answer_to_a_read_request_counts() {
    let mut network = Network::new(3);
    let leader = network.elect();
    let (follower, other) = (leader % 3 + 1, (leader + 1) % 3 + 1);
    network.stabilize();
    network.with_core(follower, |core, now| core.read_index(now, ReadId(1))).unwrap();
    let Body::RequestReadIndex { request, .. } = network.wire[0].body else {
        panic!("{:?}", network.wire)
    };
    let term = network.core(leader).term();
    for index in [None, Some(Index(0))] {
        let body = Body::ReadIndex { request, index };
        network.deliver(Message { from: NodeId(other), to: NodeId(follower), term, body });
    }
    assert!(network.node(follower).ready.is_empty() && network.node(follower).failed.is_empty());
    network.stabilize();
    assert_eq!(network.node(follower).ready.len(), 1);
}

#[test]
fn a_read_request_is_repeated_once_an_interval_and_round() {
    let mut network = Network::new(3);
    let leader = network.elect();
    let follower = leader % 3 + 1;
    network.stabilize();
    network.with_core(follower, |core, now| core.read_index(now, ReadId(1))).unwrap();
    let term = network.core(leader).term();
    let mut repeats = |millis: u64, round| {
        network.wire.clear();
        network.now = network.now.after(Duration::from_millis(millis));
        let body = Append::default().echo(Echo::of_round(round)).into();
        network.deliver(Message { from: NodeId(leader), to: NodeId(follower), term, body });
        network.wire.iter().any(|it| matches!(it.body, Body::RequestReadIndex { .. }))
    };
    assert!(!repeats(49, 100), "the answer may be on its way");
    assert!(repeats(1, 101), "an interval has passed");
    assert!(!repeats(1, 102), "it was asked a millisecond ago");
    assert!(!repeats(200, 102), "a round that was heard before asks for nothing");
    assert!(repeats(0, 103));
}

#[test]
fn failed_reads_no_longer_count() {
    let mut network = Network::with(3, |config| config.pending_reads = 2);
    let leader = network.elect();
    let follower = leader % 3 + 1;
    network.stabilize();
    for _ in 0..3 {
        for id in 1..=2 {
            network.with_core(follower, |core, now| core.read_index(now, ReadId(id))).unwrap();
        }
        network.wire.clear();
        // It hears of a later term, and of its leader's return.
        let term = network.core(follower).term().next();
        let body = Body::PreVote { campaign_term: Term(1), granted: false };
        network.deliver(Message { from: NodeId(leader), to: NodeId(follower), term, body });
        assert_eq!(std::mem::take(&mut network.node(follower).failed).len(), 2);
        let body = Append::default().echo(Echo::of_round(1)).into();
        network.deliver(Message { from: NodeId(leader), to: NodeId(follower), term, body });
    }
}
