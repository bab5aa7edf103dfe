//! State machines that restore a snapshot, or replay the log: who leads meanwhile.

use std::time::Duration;

use super::network::Network;
use crate::core::{Action, Event, Role};
use crate::types::{Index, NodeId};

const SECOND: Duration = Duration::from_secs(1);

/// Three nodes with a snapshot and some entries after it, led by 1.
fn with_snapshots() -> Network {
    let mut network = Network::with(3, |config| config.backlog_timeout = SECOND);
    network.campaign(1);
    network.stabilize();
    for _ in 0..4 {
        network.propose(1, "x");
    }
    network.pass(SECOND / 5);
    (1..=3).for_each(|id| assert!(network.take_snapshot(id)));
    network.propose(1, "y");
    network.pass(SECOND / 5);
    network
}

/// The node starts again, and its state machine restores for as long as the test wants.
fn restart_restoring(network: &mut Network, id: u64) {
    if !network.node(id).is_down {
        network.crash(id);
    }
    network.restart(id);
    network.node(id).holds = |action| matches!(action, Action::Apply(_) | Action::Restore(_));
    network.with_core(id, |core, _| core.restore_at_start());
    assert!(network.core(id).is_loading());
}

fn is_restored(network: &mut Network, id: u64) {
    network.node(id).holds = |_| false;
    while !network.node(id).held.is_empty() {
        network.release(id);
    }
    assert!(!network.core(id).is_loading());
}

/// Node 1 leads, and its state machine restores.
fn led_by_a_node_that_restores() -> Network {
    let mut network = with_snapshots();
    restart_restoring(&mut network, 1);
    let leader = network.elect();
    network.pass(SECOND);
    network.with_core(leader, |core, now| core.transfer_leadership(now, Some(NodeId(1)))).unwrap();
    network.stabilize();
    assert_eq!(network.leader(), Some(1), "an operator may want it");
    network
}

#[test]
pub(super) fn a_leader_that_restores_hands_over_to_a_voter_that_answers() {
    let mut network = led_by_a_node_that_restores();
    restart_restoring(&mut network, 2);
    network.pass(SECOND * 2);
    assert_eq!(network.leader(), Some(3), "node 2 answers as little");
    let expected = Event::LeaderLoading { to: Some(NodeId(3)) };
    assert!(network.node(1).events.contains(&expected));
    network.propose(3, "z");
    network.stabilize();
    assert_eq!(network.core(1).commit(), network.core(3).last_index(), "it acknowledges");
    is_restored(&mut network, 1);
    assert_eq!(network.core(1).applied(), network.core(3).commit());
}

#[test]
fn a_leader_that_restores_stays_if_nobody_answers() {
    let mut network = led_by_a_node_that_restores();
    [2, 3].into_iter().for_each(|id| restart_restoring(&mut network, id));
    let term = network.core(1).term();
    network.pass(SECOND * 20);
    assert_eq!((network.leader(), network.core(1).term()), (Some(1), term));
    let said = |event: &&Event| matches!(event, Event::LeaderLoading { to: None });
    assert_eq!(
        network.node(1).events.iter().filter(said).count(),
        4,
        "after 1, 3, 7 and 15 seconds"
    );
    is_restored(&mut network, 1);
    network.pass(SECOND * 20);
    assert_eq!(network.node(1).events.iter().filter(said).count(), 4);
}

/// What the log held at the start counts, what was appended since does not.
#[test]
fn a_leader_that_replays_hands_over_and_a_slow_one_does_not() {
    let mut network = with_snapshots();
    network.node(1).holds = |action| matches!(action, Action::Apply(_));
    network.propose(1, "z");
    network.pass(SECOND * 2);
    assert!(!network.core(1).is_loading());
    assert_eq!(network.leader(), Some(1), "it is behind, and under the bound");
    network.crash(1);
    network.restart(1);
    network.node(1).holds = |action| matches!(action, Action::Apply(_));
    let leader = network.elect();
    network.pass(SECOND);
    network.with_core(leader, |core, now| core.transfer_leadership(now, Some(NodeId(1)))).unwrap();
    network.stabilize();
    assert!(network.core(1).is_leader() && network.core(1).is_loading());
    network.pass(SECOND * 2);
    assert!(matches!(network.leader(), Some(2 | 3)));
}

#[test]
pub(super) fn a_node_that_restores_lets_others_campaign_first() {
    let mut network = with_snapshots();
    restart_restoring(&mut network, 2);
    network.pass(SECOND);
    network.crash(1);
    // Its timeout is the first to come.
    network.campaign(2);
    network.stabilize();
    assert_eq!((network.core(2).role(), network.leader()), (Role::Follower, None));
    assert_eq!(network.elect(), 3);
}

#[test]
pub(super) fn where_all_restore_one_of_them_leads() {
    let mut network = with_snapshots();
    (1..=3).for_each(|id| network.crash(id));
    (1..=3).for_each(|id| restart_restoring(&mut network, id));
    network.pass(SECOND * 3);
    let leader = network.leader().expect("a leader");
    // It commits, and is the one that leads once it is restored.
    let proposed = network.propose(leader, "z");
    network.stabilize();
    assert_eq!(network.core(leader).commit(), proposed.last);
}

/// As a failed one: it alone holds an entry that may be committed.
#[test]
fn a_node_that_restores_and_is_needed_does_not_wait() {
    let mut network = with_snapshots();
    network.isolate(2);
    network.propose(1, "z");
    network.stabilize();
    network.crash(3);
    restart_restoring(&mut network, 1);
    network.heal();
    assert_eq!(network.elect(), 1);
    network.pass(SECOND * 2);
    assert_eq!(network.leader(), Some(2), "that was all that it was needed for");
}

/// One that prefers a node that restores would be answered by nobody.
#[test]
fn a_preferred_voter_gets_no_leadership_while_it_restores() {
    let mut network = with_snapshots();
    restart_restoring(&mut network, 3);
    super::transfer::prefer(&mut network, 3, 9);
    network.pass(SECOND * 3);
    assert_eq!(network.leader(), Some(1));
    is_restored(&mut network, 3);
    network.pass(SECOND * 3);
    assert_eq!(network.leader(), Some(3));
}

#[test]
fn the_only_voter_leads_at_once() {
    let mut network = Network::with(1, |config| config.backlog_timeout = SECOND);
    network.campaign(1);
    network.stabilize();
    network.propose(1, "x");
    network.stabilize();
    assert!(network.take_snapshot(1));
    restart_restoring(&mut network, 1);
    network.pass(SECOND / 100);
    assert_eq!(network.leader(), Some(1));
    assert_eq!(network.core(1).applied(), Index(0));
}
