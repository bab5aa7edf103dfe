//! Snapshots: what of the log goes, how a follower that needs it is served, and what installing
//! must never do.

use std::time::Duration;

use bytes::Bytes;

use super::network::{Network, file};
use crate::core::{Config, PeerMode, Role};
use crate::types::{
    Append, Body, Chunk, Echo, Entry, Index, Message, NodeId, Payload, SnapshotMeta, Stamp, Term,
};

const SECOND: Duration = Duration::from_secs(1);

pub(super) fn small(config: &mut Config) {
    config.snapshot_chunk_bytes = 64;
    config.snapshot_chunks = 2;
    config.retained_snapshots = 2;
}

/// The leader proposes and commits with the nodes that hear it.
pub(super) fn propose(network: &mut Network, leader: u64, count: usize) {
    for number in 0..count {
        network.propose(leader, &format!("command {number}"));
        network.stabilize();
    }
}

/// The leader has compacted what `away`, which is cut off, needs next.
pub(super) fn compacted_while_away(network: &mut Network, leader: u64, away: u64) {
    network.isolate(away);
    network.pass(SECOND); // Long enough to count as gone.
    for _ in 0..2 {
        propose(network, leader, 10);
        assert!(network.take_snapshot(leader));
    }
    propose(network, leader, 3);
    let (base, commit) = (network.core(leader).terms().base(), network.core(away).commit());
    assert!(base > commit, "compacted up to {base}, {away} has {commit}");
}

pub(super) fn led() -> (Network, u64, u64) {
    let mut network = Network::with(3, small);
    let leader = network.elect();
    (network, leader, leader % 3 + 1)
}

/// Delivers until a message to or from `id` is of that kind, which is left out and returned.
pub(super) fn deliver_until(network: &mut Network, is_it: impl Fn(&Message) -> bool) -> Message {
    for _ in 0..10_000 {
        let message = network.wire.pop_front().expect("a message of that kind");
        if is_it(&message) {
            return message;
        }
        network.deliver(message);
    }
    panic!("no such message");
}

pub(super) fn is_piece(message: &Message) -> bool {
    matches!(&message.body, Body::InstallSnapshot { .. })
}

#[test]
pub(super) fn a_follower_behind_the_log_is_sent_a_snapshot_then_entries() {
    let (mut network, leader, away) = led();
    compacted_while_away(&mut network, leader, away);
    network.heal();
    network.pass(SECOND);
    assert_eq!(network.node(away).installed, 1);
    let status = network.core(leader).status();
    let last = status.last_index;
    assert_eq!((network.core(away).applied(), network.core(away).last_index()), (last, last));
    assert!(network.core(away).status().first_index > Index(1));
    assert!(
        status.peers.iter().all(|peer| peer.mode == PeerMode::Replicate && peer.matched == last),
        "{status:?}"
    );
    // It starts again from the snapshot, and is as good as any.
    network.crash(away);
    network.restart(away);
    assert_eq!(network.core(away).applied(), network.core(away).snapshot().unwrap().index);
    network.crash(leader);
    let next = network.elect();
    propose(&mut network, next, 1);
    network.pass(SECOND);
    assert!(network.core(away).applied() > last);
}

#[test]
fn the_log_is_kept_back_to_the_previous_snapshot() {
    let (mut network, leader, away) = led();
    propose(&mut network, leader, 10);
    assert!(network.take_snapshot(leader));
    assert!(!network.take_snapshot(leader), "nothing has been applied since");
    assert_eq!(network.core(leader).status().first_index, Index(1));
    network.isolate(away);
    network.pass(SECOND);
    propose(&mut network, leader, 10);
    assert!(network.take_snapshot(leader));
    let status = network.core(leader).status();
    assert_eq!((status.first_index, status.snapshot), (Index(12), Index(21)));
    network.heal();
    network.pass(SECOND);
    assert_eq!((network.node(away).installed, network.core(away).applied()), (0, Index(21)));
}

#[test]
fn the_log_is_kept_longer_for_a_live_follower_within_bounds() {
    let (mut network, leader, slow) = led();
    network.node(slow).is_disk_slow = true;
    for round in 1..=3 {
        propose(&mut network, leader, 10);
        // It answers heartbeats, so it lives; it has nothing on its disk.
        network.pass(Duration::from_millis(100));
        assert!(network.take_snapshot(leader));
        let first = network.core(leader).status().first_index;
        assert_eq!(first, [Index(1), Index(2), Index(12)][round - 1], "after snapshot {round}");
    }
}

#[test]
fn pieces_are_bounded_in_number_and_lost_ones_are_sent_again() {
    let (mut network, leader, away) = led();
    compacted_while_away(&mut network, leader, away);
    network.heal();
    network.with_core(leader, |core, now| {
        let later = now.monotonic.after(Duration::from_millis(100));
        core.handle_timeout(crate::types::Now { monotonic: later, ..now });
    });
    let first = deliver_until(&mut network, is_piece);
    let Body::InstallSnapshot { chunk, .. } = &first.body else { unreachable!() };
    assert_eq!(
        (chunk.offset, chunk.data.len()),
        (0, 64),
        "one piece until the follower has answered"
    );
    network.deliver(first);
    // From then on two; all of them are lost, and with them the answers.
    let second = deliver_until(&mut network, is_piece);
    let third = deliver_until(&mut network, is_piece);
    let offset = |message: &Message| match &message.body {
        Body::InstallSnapshot { chunk, .. } => chunk.offset,
        _ => unreachable!(),
    };
    assert_eq!((offset(&second), offset(&third)), (64, 128));
    network.stabilize();
    let peer = network
        .core(leader)
        .status()
        .peers
        .into_iter()
        .find(|peer| peer.id == NodeId(away))
        .unwrap();
    let PeerMode::Snapshot(transfer) = peer.mode else { panic!("{peer:?}") };
    assert_eq!(
        (transfer.received_bytes, transfer.total_bytes),
        (64, file(transfer.index).len() as u64)
    );
    assert_eq!(
        network.core(away).status().receiving,
        Some(crate::core::SnapshotProgress { ..transfer })
    );
    // After some silence it goes on where the follower is, not at the beginning.
    let mut again = None;
    while again.is_none() {
        network.pass(Duration::ZERO);
        let deadline = network.core(leader).poll_timeout().expect("the next heartbeat");
        network.now = network.now.max(deadline);
        network.with_core(leader, |core, now| core.handle_timeout(now));
        again = network.wire.iter().find(|message| is_piece(message)).map(offset);
    }
    assert_eq!(again, Some(64));
    network.pass(SECOND);
    assert_eq!(network.node(away).installed, 1);
    assert_eq!(network.core(away).applied(), network.core(leader).last_index());
}

#[test]
fn a_snapshot_that_was_damaged_on_its_way_is_asked_for_again() {
    let (mut network, leader, away) = led();
    compacted_while_away(&mut network, leader, away);
    network.heal();
    network.node(away).is_disk_slow = true;
    network.pass(SECOND);
    assert_eq!((network.node(away).installs.len(), network.node(away).installed), (1, 0));
    if let Some((_, bytes)) = &mut network.node(away).part {
        bytes[70] ^= 1;
    }
    network.node(away).is_disk_slow = false;
    network.pass(SECOND);
    assert_eq!(network.node(away).installed, 1);
    assert_eq!(network.core(away).applied(), network.core(leader).last_index());
}

/// hashicorp/raft#697: what followed in the old log is of another history.
#[test]
pub(super) fn an_installed_snapshot_discards_a_conflicting_suffix() {
    // Node 3 led term 2 and wrote a long log that nobody else has.
    let logs = [vec![1, 1], vec![1, 1], [vec![1, 1], vec![2; 60]].concat()];
    let mut network = Network::with_logs(&logs, small);
    network.isolate(3);
    for id in [1, 2] {
        network.node(id).disk.hard_state.term = Term(2);
        network.crash(id);
        network.restart(id);
    }
    network.campaign(1);
    network.stabilize();
    assert_eq!(network.core(1).role(), Role::Leader);
    compacted_while_away(&mut network, 1, 3);
    let snapshot = network.core(1).snapshot().unwrap().index;
    assert!(snapshot < Index(62), "the old log is longer");
    network.heal();
    network.pass(SECOND);
    assert_eq!(network.node(3).installed, 1);
    assert!(network.log_of(3).iter().all(|&term| term == 3), "{:?}", network.log_of(3));
    assert_eq!(network.core(3).last_index(), network.core(1).last_index());
    assert_eq!(network.core(3).applied(), network.core(1).applied());
}

#[test]
pub(super) fn a_snapshot_of_what_is_committed_already_is_never_installed() {
    let (mut network, leader, follower) = led();
    propose(&mut network, leader, 5);
    network.pass(SECOND);
    let core = network.core(follower);
    let (index, term, configuration) = (Index(4), core.term(), core.configuration().clone());
    let before = (core.applied(), core.last_index());
    let meta = Box::new(SnapshotMeta { index, term, stamp: Stamp(0), configuration, digest: None });
    let data = Bytes::from(file(index));
    let chunk = Chunk { offset: 0, total_bytes: data.len() as u64, data };
    let body = Body::InstallSnapshot { meta, chunk, echo: Echo::of_round(1).with_promise() };
    let term = network.core(leader).term();
    network.deliver(Message { from: NodeId(leader), to: NodeId(follower), term, body });
    assert!(network.node(follower).part.is_none() && network.node(follower).installs.is_empty());
    let answer = network.wire.pop_back().expect("an answer");
    assert!(
        matches!(answer.body, Body::Appended { matched, .. } if matched >= index),
        "{answer:?}"
    );
    assert_eq!((network.core(follower).applied(), network.core(follower).last_index()), before);
}

#[test]
pub(super) fn a_node_that_installs_a_snapshot_takes_no_part() {
    let (mut network, leader, away) = led();
    compacted_while_away(&mut network, leader, away);
    let before = network.core(away).last_index();
    network.heal();
    network.node(away).is_disk_slow = true;
    network.pass(SECOND);
    let snapshot = network.core(leader).snapshot().unwrap().clone();
    assert_eq!(network.node(away).installs.len(), 1);
    let term = network.core(leader).term();
    // A heartbeat is answered, for what was there before.
    assert!(
        network
            .core(leader)
            .status()
            .peers
            .iter()
            .all(|peer| peer.id != NodeId(away) || peer.matched <= before)
    );
    // Entries that would follow the snapshot are left out.
    let payload = Payload::Command(Bytes::from_static(b"x"));
    let entry = Entry { index: snapshot.index.next(), term, stamp: snapshot.stamp, payload };
    let append = Append::after(snapshot.index, snapshot.term).entries(entry);
    let echo = Echo::of_round(1).with_promise();
    let body = append.commit(snapshot.index).echo(echo).into();
    network.deliver(Message { from: NodeId(leader), to: NodeId(away), term, body });
    assert_eq!(network.core(away).last_index(), before);
    // The leader falls silent: this node does not stand for election with a log that is about to
    // go.
    network.crash(leader);
    network.pass(SECOND);
    assert!(network.node(away).writes.iter().all(|write| write.entries.is_empty()));
    assert_ne!(network.core(away).role(), Role::Leader);
    // The disk is done: now it counts, in whatever term it is by now.
    network.node(away).is_disk_slow = false;
    network.pass(SECOND);
    assert_eq!(network.node(away).installed, 1);
    assert!(network.core(away).durable() >= snapshot.index);
    let next = network.leader().expect("two of three elect");
    propose(&mut network, next, 1);
    network.pass(SECOND);
    assert_eq!(network.core(away).applied(), network.core(next).last_index());
}

#[test]
fn power_loss_during_a_snapshot_transfer_costs_only_time() {
    for is_installing in [false, true] {
        let (mut network, leader, away) = led();
        compacted_while_away(&mut network, leader, away);
        network.heal();
        network.node(away).is_disk_slow = true;
        if is_installing {
            network.pass(SECOND);
            assert_eq!(network.node(away).installs.len(), 1);
        } else {
            network.pass(Duration::from_millis(40));
            network.wire.clear();
        }
        network.crash(away);
        network.pass(SECOND);
        network.restart(away);
        network.node(away).is_disk_slow = false;
        network.pass(2 * SECOND);
        assert_eq!(network.node(away).installed, 1);
        assert_eq!(network.core(away).applied(), network.core(leader).last_index());
    }
}

#[test]
fn a_sender_starts_over_when_its_snapshot_was_replaced() {
    let (mut network, leader, away) = led();
    compacted_while_away(&mut network, leader, away);
    let old = network.core(leader).snapshot().unwrap().index;
    network.heal();
    network.with_core(leader, |core, now| {
        let later = now.monotonic.after(Duration::from_millis(100));
        core.handle_timeout(crate::types::Now { monotonic: later, ..now });
    });
    let first = deliver_until(&mut network, is_piece);
    assert!(matches!(&first.body, Body::InstallSnapshot { meta, .. } if meta.index == old));
    // Meanwhile there is a newer one, and the old one is gone.
    propose(&mut network, leader, 2);
    assert!(network.take_snapshot(leader));
    network.deliver(first);
    network.pass(SECOND);
    assert_eq!(network.node(away).installed, 1);
    assert_eq!(
        network.core(away).snapshot().unwrap().index,
        network.core(leader).snapshot().unwrap().index
    );
    assert_eq!(network.core(away).applied(), network.core(leader).last_index());
}

/// The leader once offered such a follower the same snapshot without end, and the follower had it
#[test]
fn a_snapshot_outgrown_on_the_way_is_followed_by_the_newest() {
    let (mut network, leader, away) = led();
    compacted_while_away(&mut network, leader, away);
    let sent = network.core(leader).snapshot().unwrap().index;
    network.heal();
    network.node(away).is_disk_slow = true;
    network.pass(SECOND);
    assert_eq!(network.node(away).installs.len(), 1);
    // While it is installed, what follows it is compacted.
    for _ in 0..4 {
        propose(&mut network, leader, 10);
        assert!(network.take_snapshot(leader));
    }
    assert!(network.core(leader).terms().base() > sent);
    network.node(away).is_disk_slow = false;
    network.pass(SECOND);
    assert_eq!(network.node(away).installed, 2);
    assert_eq!(network.core(away).applied(), network.core(leader).last_index());
}

#[test]
pub(super) fn a_snapshot_brings_the_configuration_as_of_its_index() {
    let (mut network, leader, away) = led();
    network.isolate(away);
    network.pass(SECOND);
    propose(&mut network, leader, 3);
    // (Changes of membership are another matter; here the configuration simply is in the log.)
    let mut configuration = network.core(leader).configuration().clone();
    configuration.members.entry(NodeId(1)).or_default().address = "elsewhere:1".to_owned();
    let expected = configuration.clone();
    let core = network.core(leader);
    let (index, term, round) = (core.last_index().next(), core.term(), 1_000);
    let previous = (core.last_index(), core.terms().last_term());
    let entry = Entry {
        index,
        term: term.next(),
        stamp: Stamp(u64::MAX >> 1),
        payload: Payload::Configuration(configuration.into()),
    };
    let other = 6 - leader - away;
    // The next term's leader wrote it; it is enough that both others have it.
    let from = NodeId(away);
    for to in [leader, other] {
        let append = Append::after(previous.0, previous.1).entries(entry.clone());
        let echo = Echo::of_round(round).with_promise();
        let body = append.commit(previous.0).echo(echo).into();
        network.cut.clear();
        network.deliver(Message { from, to: NodeId(to), term: term.next(), body });
        network.isolate(away);
        network.stabilize();
    }
    let leader = network.elect();
    assert_eq!(network.core(leader).configuration(), &expected);
    compacted_while_away(&mut network, leader, away);
    network.heal();
    network.pass(SECOND);
    assert_eq!((network.node(away).installed, network.core(away).configuration()), (1, &expected));
    network.crash(away);
    network.restart(away);
    assert_eq!(network.core(away).configuration(), &expected);
}

#[test]
fn a_leader_of_the_past_learns_of_it_when_it_sends_a_snapshot() {
    let (mut network, leader, follower) = led();
    propose(&mut network, leader, 2);
    let core = network.core(follower);
    let (term, index, configuration) = (core.term(), Index(9), core.configuration().clone());
    let meta = Box::new(SnapshotMeta {
        index,
        term: Term(1),
        stamp: Stamp(0),
        configuration,
        digest: None,
    });
    let chunk = Chunk { offset: 0, total_bytes: 3, data: Bytes::from_static(b"abc") };
    let body = Body::InstallSnapshot { meta, chunk, echo: Echo::of_round(1).with_promise() };
    let from = NodeId(6 - leader - follower);
    network.wire.clear();
    network.deliver(Message { from, to: NodeId(follower), term: Term(term.0 - 1), body });
    let answer = network.wire.pop_back().expect("an answer");
    assert_eq!((answer.to, answer.term), (from, term));
    assert!(network.node(follower).part.is_none());
}
