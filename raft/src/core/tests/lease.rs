//! Reads without a round, and the promises that they rest on.

use std::time::Duration;

use super::network::{Network, PROMISE};
use crate::core::{Config, Core, ElectionTimeout, Lease, ReadId};
use crate::types::{
    Append, Body, Echo, HardState, Index, MemberChange, Message, NodeId, Term, Time,
};

const MILLI: Duration = Duration::from_millis(1);

/// Promises last 250 ms; clocks may be a tenth off, so that a lease lasts 250 * 0.9 / 1.1.
fn with_lease(config: &mut Config) {
    config.lease = Some(Lease::with_drift_ppm(100_000));
}

const LEASE: Duration = Duration::from_nanos(250_000_000 * 9 / 11);

fn lease_read(network: &mut Network, node: u64, id: u64) -> bool {
    network.with_core(node, |core, now| core.lease_read(now, ReadId(id))).unwrap();
    network.node(node).ready.last().is_some_and(|&(ready, _)| ready == ReadId(id))
}

/// Three nodes and a leader whose followers have just heard a new round; its number and the time of
/// its sending.
fn after_a_round() -> (Network, u64, Time) {
    let mut network = Network::with(3, with_lease);
    let leader = network.elect();
    network.campaign(leader); // its next deadline: a heartbeat
    let sent = network.now;
    (network, leader, sent)
}

#[test]
fn a_lease_read_is_answered_at_once_while_the_lease_holds() {
    let (mut network, leader, sent) = after_a_round();
    network.stabilize();
    assert_eq!(network.core(leader).lease_until(), Some(sent.after(LEASE)));
    network.isolate(leader);
    network.now = sent.after(LEASE - Duration::from_nanos(1));
    assert!(lease_read(&mut network, leader, 1), "nobody else can be elected yet");
    assert!(network.wire.is_empty(), "and nobody was asked");
    network.now = sent.after(LEASE);
    assert!(!lease_read(&mut network, leader, 2), "it has run out");
    assert!(!network.wire.is_empty(), "so a majority is asked");
    network.heal();
    network.stabilize();
    assert!(network.core(leader).lease_until().is_some(), "whose answer begins another");
    assert_eq!(network.node(leader).ready.len(), 2);
}

#[test]
fn without_the_setting_it_is_a_read_like_any_other() {
    let mut network = Network::new(3);
    let leader = network.elect();
    network.stabilize();
    assert!(!lease_read(&mut network, leader, 1));
    network.stabilize();
    assert_eq!(network.node(leader).ready.len(), 1);
}

#[test]
pub(super) fn a_lease_runs_from_when_its_round_was_sent() {
    let (mut network, leader, sent) = after_a_round();
    while network.wire.front().is_some_and(|message| matches!(message.body, Body::AppendEntries(_)))
    {
        let message = network.wire.pop_front().unwrap();
        network.deliver(message);
    }
    network.now = sent.after(30 * MILLI); // before the next heartbeat
    network.stabilize();
    assert_eq!(network.core(leader).lease_until(), Some(sent.after(LEASE)));
}

#[test]
pub(super) fn a_lease_is_shorter_than_a_promise_by_what_clocks_may_drift() {
    let (mut network, leader, sent) = after_a_round();
    network.stabilize();
    // A leader's clock that runs a tenth slow, beside a voter's that runs a tenth fast.
    let (slow, fast) = (0.9, 1.1);
    let lease = network.core(leader).lease_until().unwrap().since(sent).div_f64(slow);
    let promise = (250 * MILLI).div_f64(fast);
    assert!(
        lease <= promise,
        "the lease lasts {lease:?} of true time, the promise only {promise:?}"
    );
    assert!(promise - lease < MILLI, "and hardly less");
}

/// Node 1 waits four times as long for a leader as the others do.
fn with_a_longer_timeout(config: &mut Config) {
    with_lease(config);
    if config.id == NodeId(1) {
        config.election_timeout =
            ElectionTimeout::new(config.election_timeout.min * 4, config.election_timeout.max * 4);
    }
}

/// A leader whose own promises would last four times as long as those that it has.
#[test]
pub(super) fn a_lease_lasts_no_longer_than_its_voters_have_promised() {
    let mut network = Network::with(3, with_a_longer_timeout);
    network.campaign(1);
    network.stabilize();
    network.campaign(1); // a heartbeat
    let sent = network.now;
    network.stabilize();
    assert_eq!(network.core(1).lease_until(), Some(sent.after(LEASE)));
    network.isolate(1);
    while !network.core(2).is_leader() && !network.core(3).is_leader() {
        let next =
            if network.core(2).poll_timeout() <= network.core(3).poll_timeout() { 2 } else { 3 };
        network.campaign(next);
        network.stabilize();
    }
    assert!(network.now < sent.after(1000 * MILLI), "the others are done before node 1 would be");
    assert!(!lease_read(&mut network, 1, 1), "another leads");
}

#[test]
fn a_lease_lasts_as_long_as_a_quorum_has_promised() {
    let mut network = Network::with(3, |config| {
        with_lease(config);
        if config.id > NodeId(1) {
            config.election_timeout = ElectionTimeout::new(
                config.election_timeout.min * 4,
                config.election_timeout.max * 4,
            );
        }
    });
    network.campaign(1);
    network.stabilize();
    network.campaign(1);
    let sent = network.now;
    network.stabilize();
    assert_eq!(
        network.core(1).lease_until(),
        Some(sent.after((1000 * MILLI) * 9 / 11)),
        "the leader helps nobody while it leads"
    );
    network.isolate(3);
    network.pass(2000 * MILLI);
    let until = network.core(1).lease_until().expect("a majority answers");
    assert!(
        until <= network.now.after(LEASE),
        "of two, none counts on more than the shorter of both"
    );
}

#[test]
pub(super) fn there_is_no_lease_once_another_was_asked_to_campaign() {
    let (mut network, leader, _) = after_a_round();
    network.stabilize();
    let target = leader % 3 + 1;
    network
        .with_core(leader, |core, now| core.transfer_leadership(now, Some(NodeId(target))))
        .unwrap();
    assert!(network.wire.iter().any(|message| message.body == Body::TimeoutNow));
    assert!(!lease_read(&mut network, leader, 1));
    network.wire.retain(|message| message.body != Body::TimeoutNow);
    network.isolate(target);
    network.pass(600 * MILLI);
    assert_eq!(network.core(leader).transfer_target(), None, "the transfer has failed");
    assert!(network.core(leader).is_leader(), "it leads on");
    assert_eq!(network.core(leader).lease_until(), None, "but the target may still campaign");
    assert_eq!(network.node(leader).ready.len(), 1, "a majority was asked");
}

/// The voters of the lease's round may be a minority of the next configuration.
#[test]
pub(super) fn a_lease_ends_with_the_configuration_whose_quorum_made_it() {
    let (mut network, leader, _) = after_a_round();
    network.stabilize();
    let (other, stays) = (leader % 3 + 1, (leader + 1) % 3 + 1);
    network.isolate(stays);
    network.pass(240 * MILLI);
    assert!(network.core(leader).lease_until().is_some(), "two of three have promised");
    let changes = [MemberChange::Remove(NodeId(other))];
    network.with_core(leader, |core, now| core.change_membership(now, &changes)).unwrap();
    assert!(!lease_read(&mut network, leader, 1), "of the two that are left one has not, lately");
    network.heal();
    network.stabilize();
    network.pass(100 * MILLI);
    assert!(network.core(leader).lease_until().is_some(), "the new one's quorum makes another");
}

/// The only voter that is left is bound to nobody, so it campaigns as soon as it is restarted.
#[test]
pub(super) fn a_leader_that_is_no_voter_has_no_lease() {
    let (mut network, leader, _) = after_a_round();
    network.stabilize();
    let others = [leader % 3 + 1, (leader + 1) % 3 + 1];
    let changes = [MemberChange::Remove(NodeId(leader)), MemberChange::Remove(NodeId(others[0]))];
    network.with_core(leader, |core, now| core.change_membership(now, &changes)).unwrap();
    while network.core(leader).configuration().is_voter(NodeId(leader)) {
        match network.wire.pop_front() {
            Some(message) => network.deliver(message),
            None => (1..=3).for_each(|id| while network.finish_write(id) {}),
        }
    }
    // The one that is left hears and answers it, and commits nothing.
    network.node(others[1]).is_disk_slow = true;
    network.pass(120 * MILLI);
    assert!(network.core(leader).is_leader());
    assert_eq!(network.core(leader).lease_until(), None);
}

#[test]
pub(super) fn a_lease_ends_with_the_office() {
    let (mut network, leader, _) = after_a_round();
    network.stabilize();
    let (term, other) = (network.core(leader).term().next(), leader % 3 + 1);
    network.deliver(Message {
        from: NodeId(other),
        to: NodeId(leader),
        term,
        body: Body::Vote { granted: false },
    });
    assert!(!network.core(leader).is_leader());
    assert_eq!(network.core(leader).lease_until(), None);
    let asked = network.with_core(leader, |core, now| core.lease_read(now, ReadId(1)));
    assert!(asked.is_err() && network.node(leader).ready.is_empty());
}

#[test]
fn a_followers_lease_read_costs_one_request_and_no_round() {
    let (mut network, leader, _) = after_a_round();
    network.stabilize();
    let follower = leader % 3 + 1;
    assert!(!lease_read(&mut network, follower, 1));
    network.with_core(follower, |core, now| core.read_index(now, ReadId(2))).unwrap();
    let may_lease: Vec<bool> = network
        .wire
        .drain(..)
        .map(|message| match message.body {
            Body::RequestReadIndex { may_lease, .. } => may_lease,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(
        may_lease,
        [true, false],
        "an answer by lease must not serve a read that wants a majority"
    );
    assert!(!lease_read(&mut network, follower, 3));
    let question = network.wire.pop_front().unwrap();
    network.deliver(question);
    assert_eq!(network.wire.len(), 1, "the answer, and no round");
    network.stabilize();
    assert_eq!(network.node(follower).ready.last().map(|&(id, _)| id), Some(ReadId(3)));
    // What was lost is asked again, each in its kind.
    network.pass(200 * MILLI);
    assert_eq!(network.node(follower).ready.len(), 3);
}

#[test]
fn the_times_of_rounds_are_bounded() {
    let (mut network, leader, sent) = after_a_round();
    network.isolate(leader);
    for id in 0..1000 {
        network.with_core(leader, |core, now| core.read_index(now, ReadId(id))).unwrap();
    }
    network.wire.clear();
    network.heal();
    network.now = sent.after(100 * MILLI);
    network.campaign(leader);
    let later = network.now;
    network.stabilize();
    let until = network.core(leader).lease_until().expect("a majority has answered");
    assert!(until <= later.after(LEASE));
    network.pass(100 * MILLI);
    assert!(network.core(leader).lease_until() > Some(until), "it goes on");
}

/// A request for a vote in the term after the voter's, from a node whose log is as good.
fn ask_for_vote(network: &mut Network, candidate: u64, voter: u64, term: Term) -> bool {
    let (last_index, last_term) =
        (network.core(voter).last_index(), network.core(voter).terms().last_term());
    let body = Body::RequestVote { last_index, last_term, is_transfer: false };
    network.deliver(Message { from: NodeId(candidate), to: NodeId(voter), term, body });
    while network.finish_write(voter) {}
    let answers: Vec<Message> =
        network.wire.drain(..).filter(|message| message.from == NodeId(voter)).collect();
    let granted = |message: &Message| matches!(message.body, Body::Vote { granted: true });
    assert!(answers.iter().any(|message| matches!(message.body, Body::Vote { .. })), "{answers:?}");
    answers.iter().any(granted)
}

#[test]
pub(super) fn a_restarted_voter_waits_as_long_as_it_may_have_promised() {
    let (mut network, leader, _) = after_a_round();
    network.stabilize();
    let (voter, candidate) = (leader % 3 + 1, (leader + 1) % 3 + 1);
    network.isolate(leader);
    network.crash(voter);
    network.restart(voter);
    let (restarted, term) = (network.now, network.core(voter).term().next());
    network.now = restarted.after(249 * MILLI);
    assert!(!ask_for_vote(&mut network, candidate, voter, term));
    assert!(network.core(voter).term() < term, "it does not even adopt the term");
    network.now = restarted.after(250 * MILLI);
    assert!(ask_for_vote(&mut network, candidate, voter, term));
}

#[test]
pub(super) fn a_restarted_voter_waits_as_long_as_it_promised_before() {
    let mut network = Network::with(3, with_a_longer_timeout);
    let leader = network.elect();
    assert_ne!(leader, 1, "it waits longer than the others");
    network.stabilize();
    let candidate = 5 - leader;
    network.isolate(leader);
    network.crash(1);
    network.tune = with_lease;
    network.restart(1);
    let (restarted, term) = (network.now, network.core(1).term().next());
    network.now = restarted.after(999 * MILLI);
    assert!(!ask_for_vote(&mut network, candidate, 1, term), "it has promised a second");
    network.now = restarted.after(1000 * MILLI);
    assert!(ask_for_vote(&mut network, candidate, 1, term));
    assert_eq!(
        network.node(1).disk.hard_state.promise,
        Duration::ZERO,
        "it follows nobody, and all is over"
    );
}

/// What it promised in its first life is not over when it starts for the third time.
#[test]
pub(super) fn an_earlier_promise_outlives_two_restarts() {
    let mut network = Network::with(3, with_a_longer_timeout);
    let leader = network.elect();
    assert_ne!(leader, 1, "it waits longer than the others");
    network.stabilize();
    let candidate = 5 - leader;
    network.isolate(leader);
    network.crash(1);
    network.tune = with_lease;
    network.restart(1);
    network.now = network.now.after(100 * MILLI);
    // It comes to another term and writes that down.
    let term = network.core(1).term().next();
    let body = Body::PreVote { campaign_term: Term(1), granted: false };
    network.deliver(Message { from: NodeId(candidate), to: NodeId(1), term, body });
    while network.finish_write(1) {}
    let HardState { term: written, promise, .. } = network.node(1).disk.hard_state;
    assert_eq!((written, promise), (term, 1000 * MILLI));
    network.crash(1);
    network.restart(1);
    let (restarted, term) = (network.now, term.next());
    network.now = restarted.after(899 * MILLI);
    assert!(!ask_for_vote(&mut network, candidate, 1, term), "it has promised a second");
}

/// Were its length lost with the memory, a restarted voter could keep still for too short a time.
#[test]
pub(super) fn a_longer_promise_is_made_once_its_length_is_durable() {
    let mut network = Network::with(2, with_lease);
    let leader = network.elect();
    network.stabilize();
    let voter = 3 - leader;
    network.crash(voter);
    network.tune = |config| {
        with_lease(config);
        config.election_timeout = ElectionTimeout::new(400 * MILLI, 500 * MILLI);
    };
    network.node(voter).is_disk_slow = true;
    network.restart(voter);
    network.now = network.now.after(300 * MILLI);
    // It refuses what does not follow from its log, which no write of entries delays.
    network.propose(leader, "lost on the way");
    network.wire.clear();
    network.campaign(leader);
    network.stabilize();
    assert!(network.core(leader).is_leader());
    assert_eq!(
        network.core(leader).lease_until(),
        None,
        "what is promised from memory is no promise"
    );
    assert_eq!(network.node(voter).disk.hard_state.promise, 250 * MILLI);
    while network.finish_write(voter) {}
    network.stabilize();
    assert_eq!(network.node(voter).disk.hard_state.promise, 400 * MILLI);
    assert!(network.core(leader).lease_until().is_some());
}

#[test]
fn a_new_node_and_a_lonely_one_need_not_wait() {
    let mut network = Network::new(3);
    assert!(ask_for_vote(&mut network, 2, 1, Term(1)), "it has never heard a leader");
    let mut network = Network::with_logs(&[vec![1]], with_lease);
    network.pass(Duration::ZERO);
    assert!(network.core(1).is_leader(), "there is nobody to whom it can have promised anything");
}

/// A leader that was demoted and is added again holds a lease on the promise of the only voter that
/// is left by its own log, which does not have the addition yet (the simulator's seed
/// 900000029176).
#[test]
pub(super) fn the_only_voter_by_its_own_log_waits_for_its_promise() {
    let mut network = Network::with(3, with_lease);
    let leader = network.elect();
    network.stabilize();
    let (other, only) = (leader % 3 + 1, (leader + 1) % 3 + 1);
    let changes = [MemberChange::Demote(NodeId(leader)), MemberChange::Demote(NodeId(other))];
    network.with_core(leader, |core, now| core.change_membership(now, &changes)).unwrap();
    while network.core(only).configuration().voters.len() > 1
        || network.core(only).configuration().is_joint()
    {
        match network.wire.pop_front() {
            Some(message) => network.deliver(message),
            None => (1..=3).for_each(|id| while network.finish_write(id) {}),
        }
    }
    while network.finish_write(only) {}
    network.wire.clear();
    // The leader does not know that this is committed, so it leads; the next change would need
    // that.
    assert_eq!(network.core(only).configuration().voters, [NodeId(only)].into());
    network.crash(only);
    network.restart(only);
    network.isolate(only);
    network.pass(249 * MILLI);
    assert!(!network.core(only).is_leader(), "the old leader may rely on its promise");
    network.pass(2 * MILLI);
    assert!(network.core(only).is_leader(), "then it needs nobody");
    assert_eq!(network.node(only).disk.hard_state.promise, Duration::ZERO, "no promise binds it");
    network.crash(only);
    network.restart(only);
    network.pass(Duration::ZERO);
    assert!(network.core(only).is_leader(), "it has followed nobody since");
}

#[test]
pub(super) fn a_restarted_voter_can_be_reached_before_it_votes() {
    let mut network = Network::with_logs(&[vec![1], vec![1], vec![1]], |_| {});
    network.crash(1);
    network.node(1).disk.hard_state.promise = Duration::ZERO;
    network.restart(1);
    let (restarted, term) = (network.now, Term(2));
    network.now = restarted.after(99 * MILLI);
    assert!(!ask_for_vote(&mut network, 2, 1, term), "a heartbeat every 50 ms");
    network.now = restarted.after(100 * MILLI);
    assert!(ask_for_vote(&mut network, 2, 1, term));
}

#[test]
fn a_promise_is_saved_before_it_is_made_not_at_the_start() {
    let mut network = Network::with(3, with_lease);
    let leader = network.elect();
    network.stabilize();
    let voter = leader % 3 + 1;
    assert_eq!(network.node(voter).disk.hard_state.promise, PROMISE);
    assert_eq!(network.node(leader).disk.hard_state.promise, Duration::ZERO, "it followed nobody");
    network.crash(voter);
    network.node(voter).disk.hard_state.promise = Duration::ZERO; // as if it had followed nobody
    network.node(voter).is_disk_slow = true;
    network.restart(voter);
    assert!(network.node(voter).writes.is_empty());
    network.campaign(leader);
    network.stabilize();
    let saved = |network: &mut Network| network.node(voter).disk.hard_state.promise;
    assert_eq!(saved(&mut network), Duration::ZERO);
    let promised = |network: &mut Network| {
        network.campaign(leader);
        let round = network.wire.iter().position(|message| message.to == NodeId(voter)).unwrap();
        let message = network.wire.remove(round).unwrap();
        network.deliver(message);
        match &network.wire.back().unwrap().body {
            Body::Appended { report, .. } => report.promise,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(promised(&mut network), Duration::ZERO, "it is answered all the same");
    while network.finish_write(voter) {}
    assert_eq!(saved(&mut network), PROMISE);
    assert_eq!(promised(&mut network), PROMISE);
}

/// Leaders differ in whether they want promises; what was promised to one is kept whatever the next
/// wants.
#[test]
pub(super) fn a_promise_is_made_only_to_a_leader_that_wants_it() {
    let mut network = Network::new(3);
    let leader = network.elect();
    network.stabilize();
    let voter = leader % 3 + 1;
    assert_eq!(network.node(voter).disk.hard_state.promise, Duration::ZERO, "nobody wanted any");
    let heard = |network: &mut Network, wants_promise| {
        let echo = Echo { wants_promise, ..Echo::of_round(1_000) };
        let body = Append::default().echo(echo).into();
        let term = network.core(voter).term();
        network.deliver(Message { from: NodeId(leader), to: NodeId(voter), term, body });
        while network.finish_write(voter) {}
    };
    heard(&mut network, true);
    assert_eq!(network.node(voter).disk.hard_state.promise, PROMISE);
    heard(&mut network, false);
    assert_eq!(network.node(voter).disk.hard_state.promise, PROMISE, "it may still bind");
    network.crash(voter);
    network.restart(voter);
    let (restarted, term) = (network.now, network.core(voter).term().next());
    network.now = restarted.after(249 * MILLI);
    assert!(!ask_for_vote(&mut network, leader, voter, term), "it waits for what it saved");
    network.now = restarted.after(250 * MILLI);
    assert!(ask_for_vote(&mut network, leader, voter, term));
    assert_eq!(network.node(voter).disk.hard_state.promise, Duration::ZERO);
}

#[test]
pub(super) fn a_promise_outlives_the_term_in_which_it_was_made() {
    let (mut network, leader, sent) = after_a_round();
    network.stabilize();
    let (voter, candidate) = (leader % 3 + 1, (leader + 1) % 3 + 1);
    network.isolate(leader);
    // An old answer of the candidate's has a later term.
    let term = Term(network.core(voter).term().0 + 5);
    let body = Body::PreVote { campaign_term: Term(1), granted: false };
    network.deliver(Message { from: NodeId(candidate), to: NodeId(voter), term, body });
    assert_eq!((network.core(voter).term(), network.core(voter).leader()), (term, None));
    network.now = sent.after(249 * MILLI);
    assert!(
        network.core(leader).lease_until().is_some_and(|until| until > sent),
        "its leader relies on it"
    );
    assert!(!ask_for_vote(&mut network, candidate, voter, term));
    network.now = sent.after(250 * MILLI);
    assert!(ask_for_vote(&mut network, candidate, voter, term));
}

#[test]
fn a_leader_without_a_committed_entry_of_its_own_has_no_lease() {
    let mut network = Network::with(3, with_lease);
    network.nodes.values_mut().for_each(|node| node.is_disk_slow = true);
    let leader = loop {
        network.pass(5 * MILLI);
        for id in 1..=3 {
            // Votes may become durable, entries not.
            while network.node(id).writes.front().is_some_and(|write| write.entries.is_empty()) {
                network.finish_write(id);
            }
        }
        if let Some(leader) = network.leader() {
            break leader;
        }
    };
    network.campaign(leader);
    network.stabilize();
    assert_eq!(network.core(leader).commit(), Index(0));
    assert_eq!(network.core(leader).lease_until(), None);
    assert!(!lease_read(&mut network, leader, 1));
}

/// Were its term lost with its memory, a new voter could not know after a restart that it had
/// promised anything.
#[test]
pub(super) fn a_promise_is_of_a_term_that_is_durable() {
    let mut network = Network::with_logs(&[vec![1, 1], vec![1, 1], vec![]], with_lease);
    network.isolate(3);
    let leader = network.elect();
    network.stabilize();
    network.isolate(3 - leader);
    network.pass(300 * MILLI);
    assert_eq!(network.core(leader).lease_until(), None, "the other's promise has run out");
    // Now node 3, which knows no term yet, hears of the leader and refuses what does not follow
    // from its empty log.
    network.heal();
    network.isolate(3 - leader);
    network.node(3).is_disk_slow = true;
    network.pass(100 * MILLI);
    assert_eq!(network.core(3).term(), network.core(leader).term());
    assert!(network.core(leader).is_leader());
    assert_eq!(
        network.core(leader).lease_until(),
        None,
        "a lease on a promise that a crash would undo"
    );
}

/// What the leader does with a follower's question: whether it answers at once, and whether it asks
/// the others.
fn leaders_response(network: &mut Network, follower: u64, may_lease: bool) -> (bool, bool) {
    network.wire.clear();
    let ask = |core: &mut Core, now| match may_lease {
        true => core.lease_read(now, ReadId(7)),
        false => core.read_index(now, ReadId(7)),
    };
    network.with_core(follower, ask).unwrap();
    let question = network.wire.pop_front().unwrap();
    network.deliver(question);
    let answers = |message: &Message| matches!(message.body, Body::ReadIndex { .. });
    let asks = |message: &Message| matches!(message.body, Body::AppendEntries(_));
    (network.wire.iter().any(answers), network.wire.iter().any(asks))
}

#[test]
fn a_followers_question_is_answered_by_a_lease_if_both_want_it() {
    let (mut network, leader, sent) = after_a_round();
    network.stabilize();
    let follower = leader % 3 + 1;
    assert_eq!(leaders_response(&mut network, follower, true), (true, false));
    assert_eq!(
        leaders_response(&mut network, follower, false),
        (false, true),
        "it wants a majority"
    );
    network.now = sent.after(LEASE);
    assert_eq!(
        leaders_response(&mut network, follower, true),
        (false, true),
        "the lease has lapsed"
    );
}
