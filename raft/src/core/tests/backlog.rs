//! State machines that are slower than the log: who pushes back, and who does not.

use std::time::Duration;

use bytes::Bytes;

use super::network::Network;
use crate::core::{Action, Config, Done, Event, ProposeError};
use crate::types::{Index, NodeId, Stamp};

const SECOND: Duration = Duration::from_secs(1);
const LIMIT_BYTES: usize = 1_000;

/// Three nodes, led by 1.
fn led_by_one() -> Network {
    let tune = |config: &mut Config| {
        (config.backlog_bytes, config.backlog_timeout) = (LIMIT_BYTES, SECOND);
    };
    let mut network = Network::with(3, tune);
    network.campaign(1);
    network.stabilize();
    assert_eq!(network.leader(), Some(1));
    network
}

/// From now on the state machine of this node does nothing.
fn stop_applying(network: &mut Network, id: u64) {
    network.node(id).holds = |action| matches!(action, Action::Apply(_));
}

/// The state machine of this node comes back.
fn apply_again(network: &mut Network, id: u64) {
    network.node(id).holds = |_| false;
    while !network.node(id).held.is_empty() {
        network.release(id);
    }
}

fn propose(network: &mut Network, id: u64) -> Result<Index, ProposeError> {
    let command = Bytes::from_static(&[7; 68]);
    let proposed = network.with_core(id, |core, now| core.propose(now, [command]));
    network.stabilize();
    proposed.map(|proposed| proposed.last)
}

/// Until its leader refuses proposals.
fn fill(network: &mut Network, id: u64) -> ProposeError {
    (0..100).find_map(|_| propose(network, id).err()).expect("a refusal")
}

#[test]
fn a_leader_with_a_backlog_refuses_proposals_and_no_more() {
    let mut network = led_by_one();
    stop_applying(&mut network, 1);
    let refused = fill(&mut network, 1);
    let backlog_bytes = network.core(1).backlog_bytes();
    assert_eq!(refused, ProposeError::BacklogFull { backlog_bytes, limit_bytes: LIMIT_BYTES });
    assert!(refused.to_string().contains("Config::backlog_bytes (1000)"), "{refused}");
    assert!(backlog_bytes > LIMIT_BYTES && backlog_bytes <= LIMIT_BYTES + 100, "{backlog_bytes}");
    // What is applied may be read, and the office is kept while the timeout runs.
    let (id, term) = (crate::core::ReadId(1), network.core(1).term());
    network.with_core(1, |core, now| core.read_index(now, id).unwrap());
    network.stabilize();
    assert_eq!(network.node(1).ready.len(), 1);
    network.pass(SECOND / 2);
    assert_eq!((network.leader(), network.core(1).term()), (Some(1), term));
    apply_again(&mut network, 1);
    assert_eq!(network.core(1).backlog_bytes(), 0);
    propose(&mut network, 1).unwrap();
}

#[test]
pub(super) fn a_follower_with_a_backlog_acknowledges() {
    let mut network = led_by_one();
    [2, 3].into_iter().for_each(|id| stop_applying(&mut network, id));
    let last = (0..50).map(|_| propose(&mut network, 1).unwrap()).last().unwrap();
    assert_eq!(network.core(1).commit(), last);
    for id in [2, 3] {
        assert!(network.core(id).backlog_bytes() > LIMIT_BYTES);
        assert_eq!(network.core(id).durable(), last);
    }
    // Nor does it keep them from being elected.
    network.crash(1);
    network.pass(3 * SECOND);
    assert!(matches!(network.leader(), Some(2 | 3)));
}

#[test]
pub(super) fn a_leader_with_a_backlog_hands_over_to_a_voter_without() {
    let mut network = led_by_one();
    [1, 2].into_iter().for_each(|id| stop_applying(&mut network, id));
    fill(&mut network, 1);
    let backlog_bytes = network.core(1).backlog_bytes();
    network.pass(SECOND * 2);
    assert_eq!(network.leader(), Some(3), "node 2 is over the bound, too");
    let expected = Event::Backlogged { backlog_bytes, to: Some(NodeId(3)) };
    assert!(network.node(1).events.contains(&expected));
    propose(&mut network, 3).unwrap();
}

#[test]
fn a_leader_with_a_backlog_stays_if_all_have_one() {
    let mut network = led_by_one();
    [1, 2, 3].into_iter().for_each(|id| stop_applying(&mut network, id));
    fill(&mut network, 1);
    let term = network.core(1).term();
    network.pass(SECOND * 20);
    assert_eq!((network.leader(), network.core(1).term()), (Some(1), term));
    let said = |event: &&Event| matches!(event, Event::Backlogged { to: None, .. });
    assert_eq!(
        network.node(1).events.iter().filter(said).count(),
        4,
        "after 1, 3, 7 and 15 seconds"
    );
}

/// Entries that are not in memory count by the size of those that are.
#[test]
fn what_was_committed_before_a_start_counts() {
    let mut network = led_by_one();
    (0..8).for_each(|_| drop(propose(&mut network, 1)));
    network.crash(1);
    network.tune = |config| config.tail_bytes = 250;
    network.restart(1);
    let bytes = network.core(1).backlog_bytes();
    assert!((700..=900).contains(&bytes), "{bytes}");
    stop_applying(&mut network, 1);
    network.pass(SECOND * 2);
    apply_again(&mut network, 1);
    network.pass(SECOND);
    assert_eq!(network.core(1).backlog_bytes(), 0);
}

#[test]
pub(super) fn compaction_keeps_what_is_not_applied() {
    let mut network = led_by_one();
    let applied = network.core(1).applied();
    stop_applying(&mut network, 1);
    let take = |network: &mut Network, index: Index| {
        let meta = network.node(1).core.take_snapshot(index, Stamp(1));
        network.node(1).disk.snapshot = Some(meta.expect("it was handed out"));
        network.with_core(1, |core, now| core.handle_done(now, Done::SnapshotTaken { index }));
    };
    for _ in 0..3 {
        let last = propose(&mut network, 1).unwrap();
        take(&mut network, last);
        assert!(network.core(1).status().first_index <= applied.next());
    }
    apply_again(&mut network, 1);
    let before = network.core(1).applied();
    let last = propose(&mut network, 1).unwrap();
    take(&mut network, last);
    assert_eq!(network.core(1).status().first_index, before.next(), "now it may go");
}
