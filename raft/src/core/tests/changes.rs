//! Changes of configuration: what the leader checks again, and what members report.

use std::time::Duration;

use super::membership::{add, change, promote};
use super::network::Network;
use crate::core::{Event, Role};
use crate::types::{Append, Body, Echo, MemberChange, Message, NodeId};

const SECOND: Duration = Duration::from_secs(1);
const MILLI: Duration = Duration::from_millis(1);

fn remove(node: u64) -> MemberChange {
    MemberChange::Remove(NodeId(node))
}

fn led_by_one(count: u64) -> Network {
    let mut network = Network::with(count, |config| config.promotion_lag = 2);
    network.campaign(1);
    network.stabilize();
    assert_eq!(network.leader(), Some(1));
    network
}

/// After a change others are a quorum, and one of them may have been silent for a while.
#[test]
fn a_change_makes_the_leader_check_its_quorum_again() {
    for phase in 0..10 {
        let mut network = led_by_one(3);
        network.pass(Duration::from_millis(1_000 + phase * 50));
        network.isolate(3);
        network.pass(300 * MILLI);
        let peers = network.core(1).status().peers;
        let heard = peers.iter().find(|peer| peer.id == NodeId(3)).unwrap().heard;
        change(&mut network, 1, &[remove(2)]).unwrap();
        network.stabilize();
        let end = heard.after(network.core(1).config().election_timeout.max);
        network.pass(end.since(network.now) - MILLI);
        assert!(network.core(1).is_leader());
        network.pass(MILLI);
        let has_stepped_down = |event: &Event| matches!(event, Event::LostQuorum { .. });
        assert!(network.node(1).events.iter().any(has_stepped_down), "phase {phase}");
    }
}

#[test]
fn a_learner_may_lack_as_much_as_the_limit_says() {
    let mut network = led_by_one(3);
    network.join(4);
    change(&mut network, 1, &[add(4)]).unwrap();
    network.pass(100 * MILLI);
    network.node(4).is_disk_slow = true;
    for command in ["a", "b"] {
        network.propose(1, command);
    }
    network.stabilize();
    assert!(change(&mut network, 1, &[promote(4)]).is_ok(), "it lacks two, and may lack two");
}

#[test]
fn a_removal_is_reported_once_and_only_when_committed() {
    let removals = |network: &mut Network| {
        let is_removal = |event: &&Event| matches!(event, Event::Removed { .. });
        network.node(1).events.iter().filter(is_removal).count()
    };
    let mut network = led_by_one(3);
    network.isolate(3);
    change(&mut network, 1, &[remove(1)]).unwrap();
    network.stabilize();
    assert_eq!(removals(&mut network), 0, "node 2 alone is no majority of nodes 2 and 3");
    network.heal();
    network.pass(SECOND);
    assert_eq!(network.core(1).role(), Role::Follower);
    assert_eq!(removals(&mut network), 1);
}

/// A leader whose removal is not committed may have to lead on: another leader may never come.
#[test]
fn a_leader_stays_in_office_until_its_removal_is_committed() {
    let mut network = led_by_one(3);
    network.isolate(2);
    change(&mut network, 1, &[remove(1)]).unwrap();
    network.stabilize();
    network.with_core(1, |core, now| core.transfer_leadership(now, Some(NodeId(3)))).unwrap();
    let told = network.wire.len();
    network.wire.retain(|message| message.body != Body::TimeoutNow);
    assert!(network.wire.len() < told, "node 3 lacks nothing");
    assert!(network.core(1).is_leader());
}

/// Until then it can still say what became of the entries that follow its removal.
#[test]
fn a_removed_leader_leaves_once_its_entries_are_committed() {
    let mut network = led_by_one(3);
    for id in [2, 3] {
        network.node(id).is_disk_slow = true;
    }
    change(&mut network, 1, &[remove(1)]).unwrap();
    let proposed = network.propose(1, "x");
    network.stabilize();
    for id in [2, 3] {
        network.finish_write(id);
    }
    network.stabilize();
    assert_eq!(network.core(1).transfer_target(), Some(NodeId(2)));
    network.finish_write(2);
    network.stabilize();
    assert!(network.core(1).is_leader() && network.core(1).commit() < proposed.last);
    network.finish_write(3);
    network.stabilize();
    assert!(!network.core(1).is_leader());
    assert_eq!(network.core(1).commit(), proposed.last);
}

/// A leader that leaves waits for the commit; any other need not: the target has the entries.
#[test]
fn a_target_that_lacks_nothing_takes_over_before_the_commit() {
    let mut network = led_by_one(5);
    for id in [2, 4, 5] {
        network.node(id).is_disk_slow = true;
    }
    let proposed = network.propose(1, "x");
    network.stabilize();
    assert!(network.core(1).commit() < proposed.last);
    network.with_core(1, |core, now| core.transfer_leadership(now, Some(NodeId(3)))).unwrap();
    assert!(network.wire.iter().any(|message| message.body == Body::TimeoutNow));
}

#[test]
fn entries_with_a_gap_are_ignored() {
    let mut network = led_by_one(3);
    let (term, last) = (network.core(1).term(), network.core(2).last_index());
    let ignored = network.core(2).status().ignored_messages;
    let gap: Vec<_> = [1, 3].map(|step| super::network::entry(last.0 + step, term.0)).into();
    let echo = Echo::of_round(1).with_promise();
    let body = Append::after(last, term).entries(gap).echo(echo).into();
    network.deliver(Message { from: NodeId(1), to: NodeId(2), term, body });
    assert_eq!(network.core(2).status().ignored_messages, ignored + 1);
    assert_eq!(network.core(2).last_index(), last);
}
