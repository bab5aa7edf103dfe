//! Entries that are read back from the disk, and what may happen meanwhile.

use std::time::Duration;

use super::network::Network;
use super::snapshots::{propose, small};
use crate::core::{Action, Config, Done, Fetch};
use crate::types::{Append, Body, Entry, FollowerReport, Index, Message, NodeId};

const MILLI: Duration = Duration::from_millis(1);

fn without_tail(config: &mut Config) {
    small(config);
    config.tail_bytes = 1;
}

fn is_fetch(action: &Action) -> bool {
    matches!(action, Action::Fetch(_))
}

/// A leader reads the entries that node 3 lacks, from the fifth on; the disk has not answered yet.
fn fetching() -> (Network, Fetch, Vec<Entry>) {
    let mut network = Network::with(3, without_tail);
    network.campaign(1);
    network.stabilize();
    propose(&mut network, 1, 3);
    network.isolate(3);
    propose(&mut network, 1, 8);
    network.node(1).holds = is_fetch;
    network.heal();
    network.pass(60 * MILLI);
    assert_eq!(network.node(1).held.len(), 1);
    let Some(Action::Fetch(fetch)) = network.node(1).held.front().cloned() else { unreachable!() };
    assert_eq!(fetch.from, Index(5));
    let entries = network.node(1).disk.entries[4..].to_vec();
    (network, fetch, entries)
}

fn answer(network: &mut Network, fetch: &Fetch, entries: Vec<Entry>) {
    let id = fetch.id;
    network.with_core(1, |core, now| core.handle_done(now, Done::Fetched { id, entries }));
}

fn acknowledge(network: &mut Network, from: u64, matched: Index) {
    let term = network.core(1).term();
    let round = network.core(1).latest_round().unwrap();
    let report = FollowerReport { round, ..FollowerReport::default() };
    let body = Body::Appended { matched, report };
    network.deliver(Message { from: NodeId(from), to: NodeId(1), term, body });
}

#[test]
fn what_is_being_read_is_not_asked_for_again() {
    let mut network = Network::with_logs(&[vec![1, 1, 1]], |config| config.tail_bytes = 1);
    network.node(1).disk.commit = Index(3);
    network.crash(1);
    network.node(1).holds = is_fetch;
    network.restart(1);
    for _ in 0..3 {
        network.with_core(1, |core, now| core.handle_timeout(now));
    }
    network.campaign(1);
    network.campaign(1);
    assert_eq!(network.node(1).held.len(), 2, "once to apply, once for the last entry");
    network.release(1);
    network.release(1);
    network.node(1).holds = |_| false;
    network.pass(600 * MILLI);
    assert!(network.core(1).is_leader());
    assert_eq!(network.core(1).applied(), Index(4));
}

#[test]
fn entries_for_a_follower_that_has_moved_on_are_not_sent() {
    let (mut network, fetch, entries) = fetching();
    acknowledge(&mut network, 3, Index(7));
    network.wire.clear();
    answer(&mut network, &fetch, entries);
    for message in &network.wire {
        if let Body::AppendEntries(Append { previous_index, entries, .. }) = &message.body {
            let next = previous_index.next();
            assert!(entries.first().is_none_or(|first| first.index == next), "{message:?}");
        }
    }
    network.node(1).holds = |_| false;
    while !network.node(1).held.is_empty() {
        network.release(1);
    }
    network.pass(200 * MILLI);
    assert_eq!(network.core(3).commit(), network.core(1).commit());
}

#[test]
fn entries_that_were_compacted_meanwhile_are_not_sent() {
    let (mut network, fetch, _) = fetching();
    for _ in 0..2 {
        assert!(network.take_snapshot(1));
        network.propose(1, "x");
        network.isolate(3);
        network.pass(600 * MILLI);
    }
    assert!(network.core(1).terms().base() >= fetch.from);
    answer(&mut network, &fetch, Vec::new());
    network.node(1).holds = |_| false;
    network.node(1).held.clear();
    network.heal();
    network.pass(600 * MILLI);
    assert_eq!(network.core(3).commit(), network.core(1).commit());
    assert_eq!(network.node(3).installed, 1);
}
