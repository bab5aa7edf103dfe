//! Disks that forget what they had acknowledged, and leaders that contradict what is committed.

use std::time::Duration;

use super::network::{Network, entry, report};
use crate::core::{Event, Role};
use crate::types::{
    Append, Body, Echo, FollowerReport, Index, MemberChange, Message, NodeId, Term,
};

const SECOND: Duration = Duration::from_secs(1);

/// Three nodes, a leader, and ten committed commands everywhere.
fn led() -> (Network, u64, u64, u64) {
    let mut network = Network::new(3);
    let leader = network.elect();
    for _ in 0..10 {
        network.propose(leader, "x");
        network.pass(Duration::from_millis(100));
    }
    (network, leader, leader % 3 + 1, (leader + 1) % 3 + 1)
}

/// The node's disk loses all entries after the third, as an older copy of its folder would.
fn forget(network: &mut Network, node: u64) {
    network.crash(node);
    let disk = &mut network.node(node).disk;
    disk.entries.truncate(3);
    disk.commit = disk.commit.min(Index(3));
}

fn says(network: &mut Network, node: u64, is_it: impl Fn(&Event) -> bool) -> bool {
    network.node(node).events.iter().any(is_it)
}

#[test]
pub(super) fn a_voter_that_forgot_comes_back_behind_a_fence() {
    let (mut network, leader, forgetful, _) = led();
    let matched = network.core(leader).last_index();
    forget(&mut network, forgetful);
    network.restart(forgetful);
    network.pass(2 * SECOND);
    let proved =
        Event::PeerForgot { node: NodeId(forgetful), matched: Some(matched), is_voter: true };
    assert!(says(&mut network, leader, |event| *event == proved));
    let passed =
        |event: &Event| if let Event::PassedFence { index } = event { Some(*index) } else { None };
    let mut fences = network.node(forgetful).events.iter().filter_map(passed);
    assert!(
        fences.all(|fence| fence > matched),
        "a fence comes after all that it had acknowledged"
    );
    assert!(
        !network.core(forgetful).has_forgotten()
            && network.node(forgetful).disk.hard_state.forgot.is_none()
    );
    assert!(
        network.core(leader).configuration().voters.contains(&NodeId(forgetful)),
        "and votes again"
    );
    assert_eq!(network.core(forgetful).commit(), network.core(leader).commit());
    assert!(network.core(leader).is_leader());
}

#[test]
pub(super) fn the_mark_outlives_a_restart_and_forbids_votes() {
    let (mut network, leader, forgetful, other) = led();
    network.crash(other); // Without a majority of the others there is no fence.
    forget(&mut network, forgetful);
    network.restart(forgetful);
    network.pass(Duration::from_millis(300));
    assert!(network.core(forgetful).has_forgotten());
    network.crash(leader);
    network.crash(forgetful);
    network.restart(forgetful);
    network.restart(other);
    network.pass(10 * SECOND);
    assert_eq!(network.leader(), None, "with its vote a leader could lack what was acknowledged");
    assert_eq!(network.core(forgetful).role(), Role::Follower, "nor does it campaign");
    network.restart(leader);
    network.pass(10 * SECOND);
    assert!(network.leader().is_some_and(|leader| leader != forgetful));
    assert!(!network.core(forgetful).has_forgotten(), "any leader brings it back");
}

#[test]
pub(super) fn what_a_disk_that_forgot_acknowledges_does_not_count() {
    let mut network = Network::new(5);
    let leader = network.elect();
    for _ in 0..10 {
        network.propose(leader, "x");
        network.pass(Duration::from_millis(100));
    }
    let [forgetful, _, down, also_down] = [1, 2, 3, 4].map(|step| (leader + step - 1) % 5 + 1);
    network.crash(down);
    network.crash(also_down);
    // Long enough for the two to count as silent: with one of three others there is no fence.
    network.pass(Duration::from_millis(600));
    let before = network.core(leader).commit();
    forget(&mut network, forgetful);
    network.restart(forgetful);
    network.pass(Duration::from_millis(200));
    assert!(
        network.core(leader).configuration().voters.contains(&NodeId(forgetful)),
        "no fence yet"
    );
    network.propose(leader, "y");
    network.stabilize();
    assert_eq!(
        network.core(forgetful).last_index(),
        network.core(leader).last_index(),
        "it is sent everything"
    );
    assert_eq!(network.core(leader).commit(), before);
    assert!(network.core(leader).status().peers.iter().any(|peer| peer.has_forgotten));
    network.pass(2 * SECOND);
    assert_eq!(network.leader(), None, "its answers are no contact, either");
    network.restart(down);
    network.restart(also_down);
    network.pass(5 * SECOND);
    let leader = network.elect();
    assert!(network.core(leader).commit() > before);
}

/// A rejection as the follower would send it, of a round that the test chooses.
fn rejected(network: &Network, leader: u64, from: u64, round: u64) -> Message {
    let previous_index = network.core(leader).last_index();
    let (hint_index, hint_term) =
        (Index(2), network.core(leader).terms().term_at(Index(2)).unwrap());
    let body = Body::Rejected { previous_index, hint_index, hint_term, report: report(round) };
    Message { from: NodeId(from), to: NodeId(leader), term: network.core(leader).term(), body }
}

fn latest_round(network: &Network) -> u64 {
    let round = |message: &Message| match message.body {
        Body::AppendEntries(ref append) => Some(append.echo.round),
        _ => None,
    };
    network.wire.iter().filter_map(round).max().expect("a round was begun")
}

#[test]
pub(super) fn an_acknowledgement_in_the_same_round_proves_nothing() {
    let (mut network, leader, follower, other) = led();
    network.cut.extend([(NodeId(leader), NodeId(other)), (NodeId(leader), NodeId(follower))]);
    network.propose(leader, "y");
    network.propose(leader, "z");
    // Both acknowledge in the round of the last heartbeat, which is the latest.
    network.with_core(leader, |core, now| core.handle_timeout(now));
    let term = network.core(leader).term();
    let last = network.core(leader).last_index();
    let round = network.core(leader).latest_round().expect("it leads");
    let body = Body::Appended { matched: last, report: report(round) };
    network.deliver(Message { from: NodeId(follower), to: NodeId(leader), term, body });
    network.wire.clear();
    let old = rejected(&network, leader, follower, round);
    network.deliver(old.clone());
    network.deliver(old);
    let is_proof = |event: &Event| matches!(event, Event::PeerForgot { .. });
    assert!(
        !says(&mut network, leader, is_proof),
        "messages of that round left before the acknowledgement came"
    );
    assert!(latest_round(&network) > round, "the next round is begun at once");
    let proof = rejected(&network, leader, follower, latest_round(&network));
    network.deliver(proof);
    assert!(says(&mut network, leader, is_proof));
}

#[test]
fn a_learner_that_forgot_was_never_counted() {
    let (mut network, leader, ..) = led();
    network.join(4);
    let member = crate::types::Member { disk: crate::types::DiskId(4), ..Default::default() };
    let change = [MemberChange::AddLearner { node: NodeId(4), member }];
    network.with_core(leader, |core, now| core.change_membership(now, &change)).unwrap();
    network.pass(SECOND);
    forget(&mut network, 4);
    network.restart(4);
    network.pass(SECOND);
    let is_learner =
        |event: &Event| matches!(event, Event::PeerForgot { node: NodeId(4), is_voter: false, .. });
    assert!(says(&mut network, leader, is_learner));
    assert!(!network.core(4).has_forgotten());
    assert_eq!(network.core(4).commit(), network.core(leader).commit());
}

#[test]
fn a_claim_of_another_than_the_leader_makes_no_mark() {
    let (mut network, leader, follower, other) = led();
    let term = network.core(leader).term();
    let body = Body::Forgot { last_index: Index(5) };
    network.deliver(Message { from: NodeId(other), to: NodeId(follower), term, body });
    assert!(!network.core(follower).has_forgotten());
}

/// The message of a leader of the next term that has something else at entry 4.
fn contradiction(network: &Network, from: u64, to: u64) -> Message {
    contradiction_after(network, from, to, Index(3))
}

fn contradiction_after(network: &Network, from: u64, to: u64, previous_index: Index) -> Message {
    let core = network.core(to);
    let term = core.term().next();
    let previous_term = core.terms().term_at(previous_index).unwrap();
    let stamp = crate::types::Stamp(u64::MAX >> 1);
    let index = previous_index.next().0;
    let entry = crate::types::Entry { stamp, ..entry(index, term.0) };
    let append = Append::after(previous_index, previous_term).entries(entry);
    let body = append.echo(Echo::of_round(1)).into();
    Message { from: NodeId(from), to: NodeId(to), term, body }
}

#[test]
fn a_contradiction_of_what_is_committed_stops_the_node() {
    let (mut network, leader, follower, other) = led();
    let log = network.log_of(follower);
    network.crash(leader);
    network.crash(other);
    network.crash(follower);
    network.restart(follower); // What was committed is known from the disk.
    let commit = network.core(follower).commit();
    assert!(commit >= Index(4));
    let message = contradiction(&network, other, follower);
    let term = message.term;
    network.deliver(message.clone());
    let stopped = Event::CommittedConflict { index: Index(4), leader: NodeId(other) };
    assert!(says(&mut network, follower, |event| *event == stopped));
    let log_term = Term(log[3]);
    let answer = Body::CommittedConflict { index: Index(4), log_term };
    assert_eq!(network.wire.pop_back().map(|message| message.body), Some(answer.clone()));
    network.stabilize();
    network.pass(10 * SECOND);
    assert_eq!(
        (network.log_of(follower), network.core(follower).commit()),
        (log, commit),
        "nothing is written"
    );
    assert_eq!(network.core(follower).role(), Role::Follower);
    network.deliver(message);
    assert_eq!(
        network.wire.pop_back().map(|message| (message.term, message.body)),
        Some((term, answer))
    );
}

#[test]
fn a_contradiction_of_the_last_committed_entry_stops_the_node() {
    let (mut network, leader, follower, other) = led();
    network.crash(leader);
    let commit = network.core(follower).commit();
    let message = contradiction_after(&network, other, follower, commit.previous());
    network.deliver(message);
    let stopped = Event::CommittedConflict { index: commit, leader: NodeId(other) };
    assert!(says(&mut network, follower, |event| *event == stopped));
    assert_eq!(network.core(follower).committed_conflict(), Some(commit));
}

#[test]
fn a_leader_reports_a_follower_that_stopped_at_a_conflict() {
    let (mut network, leader, follower, _) = led();
    let term = network.core(leader).term();
    let body = Body::CommittedConflict { index: Index(4), log_term: Term(1) };
    for _ in 0..2 {
        let body = body.clone();
        network.deliver(Message { from: NodeId(follower), to: NodeId(leader), term, body });
    }
    let reports = network
        .node(leader)
        .events
        .iter()
        .filter(|event| matches!(event, Event::PeerConflict { .. }));
    assert_eq!(reports.count(), 1, "once");
    let status = network.core(leader).status();
    assert!(
        status
            .peers
            .iter()
            .any(|peer| peer.id == NodeId(follower) && peer.conflict == Some(Index(4)))
    );
}

#[test]
fn what_was_committed_is_applied_before_a_leader_is_known() {
    let (mut network, _, follower, _) = led();
    let commit = network.node(follower).disk.commit;
    assert!(commit >= Index(9));
    network.isolate(follower);
    network.crash(follower);
    network.restart(follower);
    network.with_core(follower, |_, _| ());
    assert_eq!(network.core(follower).applied(), commit);
    assert_eq!(network.core(follower).leader(), None);
}

/// What an older version reports says nothing of a mark.
#[test]
fn a_report_of_an_older_version_is_no_claim() {
    let report = FollowerReport { round: 3, ..FollowerReport::default() };
    assert!(!report.has_forgotten && report.applied.is_none() && report.durable_sequence.is_none());
}

/// Five nodes, a leader, and ten committed commands everywhere.
fn led_five() -> (Network, [u64; 5]) {
    let mut network = Network::new(5);
    let leader = network.elect();
    for _ in 0..10 {
        network.propose(leader, "x");
        network.pass(Duration::from_millis(100));
    }
    (network, [0, 1, 2, 3, 4].map(|step| (leader + step - 1) % 5 + 1))
}

/// The leader that made the mark had entries that nobody else has; the next one's log never comes
/// so far.
#[test]
pub(super) fn a_mark_beyond_the_next_leaders_log_is_lowered() {
    let (mut network, [leader, forgetful, others @ ..]) = led_five();
    forget(&mut network, forgetful);
    for one in [leader, forgetful] {
        for other in others {
            network.cut.insert((NodeId(one), NodeId(other)));
            network.cut.insert((NodeId(other), NodeId(one)));
        }
    }
    for _ in 0..50 {
        network.propose(leader, "never committed");
    }
    network.restart(forgetful);
    network.pass(Duration::from_millis(150));
    let mark = network.core(forgetful).hard_state().forgot.expect("the mark of `Forgot`");
    assert!(mark > network.core(others[0]).last_index().next().next());
    network.crash(leader);
    network.heal();
    network.pass(5 * SECOND);
    let next = network.leader().expect("the others elect one");
    assert!(network.core(next).last_index() < mark, "without writes its log never comes so far");
    assert!(!network.core(forgetful).has_forgotten(), "it has passed a fence");
    assert!(
        network.core(next).configuration().voters.contains(&NodeId(forgetful)),
        "and votes again"
    );
}

/// A driver that does not lead has met a disk that forgot.
#[test]
pub(super) fn a_vote_of_a_disk_that_forgot_does_not_count() {
    let (mut network, leader, candidate, forgetful) = led();
    network.crash(leader);
    forget(&mut network, forgetful);
    network.restart(forgetful);
    network.with_core(candidate, |core, now| core.handle_peer_forgot(now, NodeId(forgetful)));
    let said = Event::PeerForgot { node: NodeId(forgetful), matched: None, is_voter: true };
    assert!(
        says(&mut network, candidate, |event| *event == said),
        "each node that learns of it reports it"
    );
    network.pass(10 * SECOND);
    let leads =
        |event: &Event| matches!(event, Event::LeadershipChanged { role: Role::Leader, .. });
    assert!(
        !says(&mut network, candidate, leads),
        "with its vote a leader could lack what was acknowledged"
    );
    network.restart(leader);
    network.pass(10 * SECOND);
    assert!(network.leader().is_some_and(|leader| leader != forgetful));
    assert!(!network.core(forgetful).has_forgotten());
    let next = network.leader().unwrap();
    assert!(network.core(next).configuration().voters.contains(&NodeId(forgetful)), "it is back");
}

#[test]
fn a_late_forgot_message_makes_no_second_mark() {
    let (mut network, leader, forgetful, _) = led();
    let (last, term) = (network.core(leader).last_index(), network.core(leader).term());
    forget(&mut network, forgetful);
    network.restart(forgetful);
    network.pass(2 * SECOND);
    assert!(network.core(leader).configuration().voters.contains(&NodeId(forgetful)));
    let body = Body::Forgot { last_index: last };
    network.deliver(Message { from: NodeId(leader), to: NodeId(forgetful), term, body });
    assert!(!network.core(forgetful).has_forgotten());
}

/// A copy of an answer that the follower gave while it had the mark, delivered after it has come
/// back.
#[test]
pub(super) fn an_answer_from_before_the_fence_makes_no_second_one() {
    let (mut network, leader, forgetful, other) = led();
    network.crash(other); // Without a majority of the others there is no fence.
    forget(&mut network, forgetful);
    network.restart(forgetful);
    network.pass(Duration::from_millis(300));
    assert!(network.core(forgetful).has_forgotten());
    let round = network.core(leader).latest_round().unwrap();
    let marked = FollowerReport { has_forgotten: true, ..report(round) };
    let body = Body::Appended { matched: Index(3), report: marked };
    let term = network.core(leader).term();
    let late = Message { from: NodeId(forgetful), to: NodeId(leader), term, body };
    network.restart(other);
    network.pass(2 * SECOND);
    assert!(network.core(leader).is_leader() && !network.core(forgetful).has_forgotten());
    assert!(network.core(leader).configuration().voters.contains(&NodeId(forgetful)), "it is back");
    network.deliver(late);
    assert!(!network.core(leader).status().peers.iter().any(|peer| peer.has_forgotten));
    network.pass(SECOND);
    assert!(network.core(leader).configuration().voters.contains(&NodeId(forgetful)), "and stays");
}

/// The folder is put back once more, to a state before the mark.
#[test]
pub(super) fn a_node_that_forgot_its_mark_is_informed_again() {
    let (mut network, leader, forgetful, other) = led();
    network.crash(other); // Without a majority of the others there is no fence.
    for _ in 0..2 {
        forget(&mut network, forgetful);
        network.node(forgetful).disk.hard_state.forgot = None;
        network.restart(forgetful);
        network.pass(Duration::from_millis(150));
        assert!(network.core(leader).is_leader());
        assert!(network.core(forgetful).has_forgotten());
    }
}
