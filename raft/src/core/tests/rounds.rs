//! Rounds: what a leader sends in one, which answers count, and when it looks at who has answered.

use std::time::Duration;

use super::network::{Network, report};
use super::snapshots::{compacted_while_away, deliver_until, led};
use crate::core::ReadId;
use crate::types::{Body, Message, NodeId};

const MILLI: Duration = Duration::from_millis(1);

fn is_append(message: &Message) -> bool {
    matches!(message.body, Body::AppendEntries(_))
}

/// Becomes leader of three and leaves what it has to send on the wire.
fn just_elected() -> Network {
    let mut network = Network::new(3);
    network.campaign(1);
    while !network.core(1).is_leader() {
        match network.wire.pop_front() {
            Some(message) => network.deliver(message),
            None => (1..=3).for_each(|id| while network.finish_write(id) {}),
        }
    }
    network
}

#[test]
fn entries_of_a_round_are_its_heartbeat() {
    let network = just_elected();
    let to: Vec<u64> = network.wire.iter().filter(|it| is_append(it)).map(|it| it.to.0).collect();
    assert_eq!(to, [2, 3], "the no-op opens the round, no empty message follows it");
}

#[test]
fn a_commit_index_is_sent_once_to_a_follower_that_lags() {
    let mut network = Network::with(3, |config| config.in_flight_messages = 1);
    network.campaign(1);
    network.stabilize();
    network.node(3).is_disk_slow = true;
    for command in ["a", "b", "c"] {
        network.propose(1, command);
        network.stabilize();
    }
    let commit = network.core(1).commit();
    assert_eq!(commit, network.core(1).last_index(), "nodes 1 and 2 have all of it");
    for _ in 0..3 {
        network.with_core(1, |core, now| core.handle_timeout(now));
        assert_eq!(network.wire.len(), 0, "node 3 learns it with the entries");
    }
    network.node(3).is_disk_slow = false;
    network.stabilize();
    assert_eq!(network.core(3).commit(), commit);
}

#[test]
fn a_follower_amid_a_snapshot_is_asked_for_reads() {
    let (mut network, leader, away) = led();
    compacted_while_away(&mut network, leader, away);
    network.node(away).is_disk_slow = true;
    network.heal();
    network.pass(60 * MILLI);
    assert_eq!(network.node(away).installs.len(), 1, "it has all of it, and installs");
    let other = 6 - leader - away;
    network.isolate(other);
    let since = network.now;
    network.with_core(leader, |core, now| core.read_index(now, ReadId(1))).unwrap();
    network.stabilize();
    assert_eq!((network.node(leader).ready.len(), network.now), (1, since));
}

#[test]
fn an_acknowledgement_beyond_the_leaders_log_is_ignored() {
    let mut network = Network::new(3);
    let leader = network.elect();
    let (term, last) = (network.core(leader).term(), network.core(leader).last_index());
    let before = network.core(leader).status();
    let body = Body::Appended { matched: last.next(), report: report(1) };
    for from in (1..=3).filter(|&id| id != leader) {
        let (from, to, body) = (NodeId(from), NodeId(leader), body.clone());
        network.deliver(Message { from, to, term, body });
    }
    let after = network.core(leader).status();
    assert_eq!(after.ignored_messages, before.ignored_messages + 2);
    assert_eq!(after.commit, last);
    assert!(after.peers.iter().all(|peer| peer.matched == last));
    let proposed = network.propose(leader, "x");
    network.stabilize();
    assert_eq!(network.core(leader).commit(), proposed.last);
}

#[test]
fn a_rejection_confirms_a_read() {
    let mut network = Network::new(3);
    network.campaign(1);
    network.stabilize();
    network.isolate(3);
    network.propose(1, "lost on its way to node 2");
    network.wire.clear();
    network.with_core(1, |core, now| core.read_index(now, ReadId(1))).unwrap();
    // The read's round claims that node 2 has the entry.
    let heartbeat = deliver_until(&mut network, |it| it.to == NodeId(2));
    network.deliver(heartbeat);
    let answer = deliver_until(&mut network, |it| it.to == NodeId(1));
    assert!(matches!(answer.body, Body::Rejected { .. }), "{answer:?}");
    network.deliver(answer);
    assert_eq!(network.node(1).ready.len(), 1, "node 2 follows this leader, whatever it lacks");
}

#[test]
fn each_write_that_is_done_is_acknowledged() {
    let mut network = Network::new(3);
    network.campaign(1);
    network.stabilize();
    network.isolate(3);
    network.node(2).is_disk_slow = true;
    let first = network.propose(1, "a");
    network.stabilize();
    let second = network.propose(1, "b");
    network.stabilize();
    network.finish_write(2);
    network.stabilize();
    assert_eq!(network.core(1).commit(), first.last, "the second write takes its time");
    network.finish_write(2);
    network.stabilize();
    assert_eq!(network.core(1).commit(), second.last);
}
