//! A snapshot on its way into a follower: pieces that are late or repeated, and what must wait
//! while it is installed.

use std::time::Duration;

use bytes::Bytes;

use super::network::{Network, file};
use super::snapshots::{compacted_while_away, deliver_until, is_piece, led, propose, small};
use crate::core::{Action, ReadChunk, Role};
use crate::types::{
    Append, Body, Chunk, Echo, Entries, Index, Message, NodeId, SnapshotMeta, Stamp, Term,
};

const SECOND: Duration = Duration::from_secs(1);
const MILLI: Duration = Duration::from_millis(1);

/// Until this node's disk is asked to install a snapshot; the disk does not finish it.
fn until_install_begins(network: &mut Network, id: u64) {
    network.node(id).is_disk_slow = true;
    for _ in 0..1_000 {
        if !network.node(id).installs.is_empty() {
            return;
        }
        network.pass(MILLI);
    }
    panic!("no installation within a second");
}

/// From the leader, in its term: entries after `previous`.
fn append(
    network: &Network,
    leader: u64,
    to: u64,
    previous: (Index, Term),
    entries: Entries,
) -> Message {
    let append = Append::after(previous.0, previous.1).entries(entries);
    let body = append.commit(network.core(leader).commit()).echo(Echo::of_round(1)).into();
    Message { from: NodeId(leader), to: NodeId(to), term: network.core(leader).term(), body }
}

/// From the leader: 64 bytes of a snapshot that includes `index`.
fn piece(network: &Network, leader: u64, to: u64, index: u64, offset: usize) -> Message {
    let core = network.core(leader);
    let (term, configuration) = (core.term(), core.configuration().clone());
    let meta =
        SnapshotMeta { index: Index(index), term, stamp: Stamp(0), configuration, digest: None };
    let bytes = file(Index(index));
    let data = Bytes::copy_from_slice(&bytes[offset..offset + 64]);
    let chunk = Chunk { offset: offset as u64, total_bytes: bytes.len() as u64, data };
    let body = Body::InstallSnapshot { meta: meta.into(), chunk, echo: Echo::of_round(1) };
    Message { from: NodeId(leader), to: NodeId(to), term, body }
}

/// What the latest message says that a follower has of a snapshot; that message is taken off the
/// wire.
fn take_progress(network: &mut Network) -> Option<(Index, u64)> {
    match network.wire.pop_back()?.body {
        Body::SnapshotProgress { index, received_bytes, .. } => Some((index, received_bytes)),
        other => panic!("{other:?}"),
    }
}

fn is_write(action: &Action) -> bool {
    matches!(action, Action::WriteChunk(_))
}

/// The leader's log is about to take this one's place: an entry of the old one would come to stand
/// where it does not belong.
#[test]
pub(super) fn entries_are_left_out_while_a_snapshot_is_installed() {
    let (mut network, leader, away) = led();
    compacted_while_away(&mut network, leader, away);
    let last = network.core(away).last_index();
    let previous = (last, network.core(away).terms().last_term());
    // Sent before the leader compacted its log, and late.
    let entry = network.node(leader).disk.entries[last.0 as usize].clone();
    let late = append(&network, leader, away, previous, entry.into());
    network.heal();
    until_install_begins(&mut network, away);
    network.deliver(late);
    assert_eq!(network.core(away).last_index(), last);
    assert!(network.node(away).writes.is_empty());
    network.node(away).is_disk_slow = false;
    network.pass(SECOND);
    assert_eq!(network.node(away).installed, 1);
    assert_eq!(network.core(away).applied(), network.core(leader).last_index());
}

#[test]
pub(super) fn a_write_beside_an_install_makes_only_the_snapshot_durable() {
    // Node 3 led term 2 and wrote a long log that nobody else has.
    let logs = [vec![1, 1], vec![1, 1], [vec![1, 1], vec![2; 60]].concat()];
    let mut network = Network::with_logs(&logs, small);
    network.isolate(3);
    let leader = network.elect();
    while network.core(leader).term() < Term(3) {
        network.crash(leader);
        network.restart(leader);
        network.elect();
    }
    let leader = network.leader().expect("two of three elect");
    compacted_while_away(&mut network, leader, 3);
    network.heal();
    until_install_begins(&mut network, 3);
    let (included, old) = (network.node(3).installs[0].0.index, network.core(3).last_index());
    assert!(included < old, "the old log is longer");
    // A term is written while the disk installs the snapshot.
    let term = network.core(leader).term().next();
    let body = Body::PreVote { campaign_term: Term(1), granted: false };
    network.deliver(Message { from: NodeId(3 - leader), to: NodeId(3), term, body });
    let install = network.node(3).installs[0].1;
    assert!(network.node(3).writes.back().is_some_and(|write| write.sequence > install));
    while network.finish_write(3) {}
    assert_eq!(network.node(3).installed, 1);
    assert_eq!((network.core(3).durable(), network.core(3).last_index()), (included, included));
}

/// Its log is about to be replaced; if elected, it would lead on entries that are gone.
#[test]
pub(super) fn a_node_that_installs_a_snapshot_does_not_campaign() {
    let (mut network, leader, away) = led();
    compacted_while_away(&mut network, leader, away);
    network.heal();
    until_install_begins(&mut network, away);
    let begun = network.now;
    network.crash(leader);
    network.wire.clear();
    network.campaign(away);
    let stalls = begun.after(network.core(away).config().election_timeout.max);
    assert!(network.now < stalls, "its disk does not count as stuck yet");
    assert!(network.wire.is_empty(), "{:?}", network.wire);
    assert_eq!(network.core(away).role(), Role::Follower);
}

/// The state machine would be restored to the later state first and to the earlier one then.
#[test]
pub(super) fn no_snapshot_is_installed_before_the_last_is_restored() {
    let (mut network, leader, away) = led();
    compacted_while_away(&mut network, leader, away);
    network.node(away).holds = |action| matches!(action, Action::Restore(_) | Action::Apply(_));
    network.heal();
    until_install_begins(&mut network, away);
    // While the first is installed, what follows it is compacted.
    for _ in 0..4 {
        propose(&mut network, leader, 10);
        assert!(network.take_snapshot(leader));
    }
    network.node(away).is_disk_slow = false;
    network.pass(SECOND);
    assert_eq!(network.node(away).installed, 1, "the state machine is not done");
    assert_eq!(
        network.core(away).status().receiving.map(|it| it.received_bytes == it.total_bytes),
        Some(true)
    );
    network.node(away).holds = |_| false;
    while !network.node(away).held.is_empty() {
        network.release(away);
    }
    network.pass(SECOND);
    assert_eq!(network.node(away).installed, 2);
    assert_eq!(network.core(away).applied(), network.core(leader).last_index());
}

#[test]
fn a_repeated_piece_is_written_once() {
    let (mut network, leader, follower) = led();
    network.node(follower).holds = is_write;
    let first = piece(&network, leader, follower, 40, 0);
    network.deliver(first.clone());
    assert_eq!((network.wire.len(), network.node(follower).held.len()), (0, 1));
    network.deliver(first.clone());
    assert_eq!(network.node(follower).held.len(), 1);
    assert_eq!(take_progress(&mut network), Some((Index(40), 0)), "nothing is written yet");
    network.release(follower);
    assert_eq!(take_progress(&mut network), Some((Index(40), 64)));
    network.deliver(first);
    assert!(network.node(follower).held.is_empty());
    assert_eq!(take_progress(&mut network), Some((Index(40), 64)), "and the next one is wanted");
}

#[test]
fn a_late_piece_of_an_older_snapshot_changes_nothing() {
    let (mut network, leader, follower) = led();
    for offset in [0, 64] {
        network.deliver(piece(&network, leader, follower, 50, offset));
        assert_eq!(take_progress(&mut network), Some((Index(50), offset as u64 + 64)));
    }
    network.deliver(piece(&network, leader, follower, 40, 0));
    assert_eq!(take_progress(&mut network), None);
    network.deliver(piece(&network, leader, follower, 50, 128));
    assert_eq!(take_progress(&mut network), Some((Index(50), 192)), "it goes on");
    // A newer one takes its place.
    network.deliver(piece(&network, leader, follower, 60, 0));
    assert_eq!(take_progress(&mut network), Some((Index(60), 64)));
}

#[test]
fn a_late_completion_does_not_count_for_another_snapshot() {
    let (mut network, leader, follower) = led();
    network.node(follower).holds = is_write;
    network.deliver(piece(&network, leader, follower, 40, 0));
    network.deliver(piece(&network, leader, follower, 50, 0));
    assert_eq!(network.node(follower).held.len(), 2);
    network.release(follower);
    assert_eq!(take_progress(&mut network), None, "that was of the one that was given up");
    assert_eq!(network.core(follower).status().receiving.unwrap().received_bytes, 0);
    network.release(follower);
    assert_eq!(take_progress(&mut network), Some((Index(50), 64)));
}

#[test]
fn another_snapshots_piece_waits_for_an_install() {
    let (mut network, leader, away) = led();
    compacted_while_away(&mut network, leader, away);
    network.heal();
    until_install_begins(&mut network, away);
    let installing = network.node(away).installs[0].0.index;
    network.wire.clear();
    network.deliver(piece(&network, leader, away, installing.0 + 10, 0));
    let whole = file(installing).len() as u64;
    assert_eq!(take_progress(&mut network), Some((installing, whole)));
    assert!(network.finish_write(away));
    assert_eq!(network.node(away).installed, 1);
}

/// The follower was restarted between the request for a piece and the piece: it wants another one.
#[test]
fn a_piece_read_for_an_earlier_place_is_not_sent() {
    let (mut network, leader, away) = led();
    compacted_while_away(&mut network, leader, away);
    network.node(leader).holds = |action| matches!(action, Action::ReadChunk(_));
    network.heal();
    while network.node(leader).held.is_empty() {
        network.pass(MILLI);
    }
    network.release(leader);
    let first = deliver_until(&mut network, is_piece);
    network.deliver(first);
    network.stabilize();
    let Some(&Action::ReadChunk(ReadChunk { offset, index, .. })) =
        network.node(leader).held.front()
    else {
        panic!("{:?}", network.node(leader).held)
    };
    assert_eq!(offset, 64);
    network.crash(away);
    network.restart(away);
    let term = network.core(leader).term();
    let body =
        Body::SnapshotProgress { index, received_bytes: 0, report: super::network::report(1) };
    network.deliver(Message { from: NodeId(away), to: NodeId(leader), term, body });
    network.wire.clear();
    network.release(leader);
    assert!(!network.wire.iter().any(is_piece), "{:?}", network.wire);
    let Some(&Action::ReadChunk(ReadChunk { offset, .. })) = network.node(leader).held.front()
    else {
        panic!("{:?}", network.node(leader).held)
    };
    assert_eq!(offset, 0);
}

#[test]
fn a_snapshot_of_a_later_term_than_its_leaders_is_ignored() {
    let (mut network, leader, follower) = led();
    let ignored = network.core(follower).status().ignored_messages;
    let mut message = piece(&network, leader, follower, 40, 0);
    if let Body::InstallSnapshot { meta, .. } = &mut message.body {
        meta.term = message.term.next();
    }
    network.deliver(message);
    assert_eq!(network.core(follower).status().ignored_messages, ignored + 1);
    assert!(network.node(follower).part.is_none() && network.wire.is_empty());
}
