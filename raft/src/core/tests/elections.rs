//! Who leads, and who must not.

use std::time::Duration;

use super::network::{Network, reduced};
use crate::core::{BootstrapPhase, ElectionTimeout, Event, Role};
use crate::types::{Append, Body, Echo, FollowerReport, Index, Message, NodeId, Term, Time};

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn clusters_of_one_three_and_five_elect_and_commit() {
    for count in [1, 3, 5] {
        let mut network = Network::new(count);
        let leader = network.elect();
        let proposed = network.propose(leader, "x");
        network.stabilize();
        for id in 1..=count {
            assert_eq!(
                network.core(id).commit(),
                proposed.last,
                "node {id} of {count} learns of it at once"
            );
            assert_eq!(network.core(id).applied(), proposed.last);
            assert_eq!(network.core(id).leader(), Some(NodeId(leader)));
        }
    }
}

#[test]
fn a_cluster_of_one_leads_at_once_and_has_no_deadline() {
    let mut network = Network::new(1);
    assert_eq!(network.core(1).poll_timeout(), Some(network.now));
    network.pass(Duration::ZERO);
    assert_eq!(network.core(1).role(), Role::Leader);
    network.pass(Duration::from_millis(50)); // It notes on disk that its no-op is committed.
    assert_eq!(network.core(1).poll_timeout(), None);
}

#[test]
fn duelling_candidates_agree_on_one_in_the_end() {
    let mut network = Network::new(3);
    // All three campaign at the same moment, with all their messages on the wire.
    network.now = network.now.after(SECOND);
    (1..=3).for_each(|id| network.with_core(id, |core, now| core.handle_timeout(now)));
    assert!((1..=3).all(|id| network.core(id).role() == Role::PreCandidate));
    let leader = network.elect();
    network.pass(SECOND);
    assert_eq!(network.leader(), Some(leader));
    assert!(
        network.core(leader).term() <= Term(3),
        "it took {} terms",
        network.core(leader).term()
    );
}

#[test]
pub(super) fn a_leader_cut_off_from_its_majority_is_replaced() {
    let mut network = Network::new(5);
    let old = network.elect();
    let term = network.core(old).term();
    // One of its followers still hears and answers it, which is not enough.
    let other = old % 5 + 1;
    network.isolate(old);
    network.isolate(other);
    network.cut.remove(&(NodeId(old), NodeId(other)));
    network.cut.remove(&(NodeId(other), NodeId(old)));
    network.pass(SECOND);
    assert_ne!(network.core(old).role(), Role::Leader);
    assert!(network.node(old).events.contains(&Event::LostQuorum { term }));
    assert_ne!(network.elect(), old);
}

#[test]
fn a_partitioned_node_returns_without_an_election() {
    let mut network = Network::new(3);
    let leader = network.elect();
    let (term, away) = (network.core(leader).term(), leader % 3 + 1);
    network.isolate(away);
    network.pass(10 * SECOND);
    assert_eq!(network.core(away).term(), term, "pre-vote keeps the term down");
    network.heal();
    network.pass(SECOND);
    assert_eq!((network.leader(), network.core(leader).term()), (Some(leader), term));
    assert_eq!(network.core(away).leader(), Some(NodeId(leader)));
}

#[test]
fn a_request_for_votes_does_not_depose_a_leader_that_is_heard() {
    let mut network = Network::new(3);
    let leader = network.elect();
    let (term, voter, rival) = (network.core(leader).term(), leader % 3 + 1, (leader + 1) % 3 + 1);
    let body = Body::RequestVote { last_index: Index(100), last_term: term, is_transfer: false };
    let request = Message { from: NodeId(rival), to: NodeId(voter), term: Term(term.0 + 5), body };
    network.deliver(request.clone());
    assert_eq!(network.core(voter).term(), term);
    assert_eq!(network.wire.pop_back().unwrap().body, Body::Vote { granted: false });
    // Once the leader has been silent for the shorter election timeout, the same request is
    // honoured.
    network.now = network.now.after(network.core(voter).config().election_timeout.min);
    network.deliver(request);
    assert_eq!(
        (network.core(voter).term(), network.core(voter).hard_state().vote),
        (Term(term.0 + 5), Some(NodeId(rival)))
    );
}

#[test]
pub(super) fn rejected_pre_votes_raise_the_term_of_a_longer_log() {
    // Node 1 must win: only its log has the entry. But node 2 is in a far later term.
    let mut network = Network::with_logs(&[vec![1, 1], vec![1], vec![]], |_| {});
    network.crash(3);
    network.node(2).disk.hard_state.term = Term(9);
    network.crash(2);
    network.restart(2);
    assert_eq!(network.elect(), 1);
    assert!(network.core(1).term() > Term(9));
}

#[test]
pub(super) fn a_term_seen_is_not_a_vote_granted() {
    let mut network = Network::new(3);
    network.campaign(1);
    network.nodes.values_mut().for_each(|node| node.is_disk_slow = true);
    network.stabilize(); // pre-votes; then the candidacy waits for node 1's disk
    assert_eq!((network.core(1).role(), network.core(1).term()), (Role::Candidate, Term(1)));
    network.finish_write(1);
    // The requests arrive and put 2 and 3 into term 1, but their votes are not on disk.
    network.stabilize();
    assert_eq!(network.core(2).term(), Term(1));
    for body in
        [Body::Vote { granted: false }, Body::PreVote { campaign_term: Term(2), granted: true }]
    {
        network.deliver(Message { from: NodeId(2), to: NodeId(1), term: Term(1), body });
    }
    assert_eq!(network.core(1).role(), Role::Candidate);
    network.finish_write(3);
    network.stabilize();
    assert_eq!(network.core(1).role(), Role::Leader, "a true vote elects");
}

#[test]
pub(super) fn candidacies_and_votes_wait_for_the_disk() {
    let mut network = Network::new(3);
    network.nodes.values_mut().for_each(|node| node.is_disk_slow = true);
    network.campaign(1);
    network.stabilize();
    assert_eq!(network.core(1).role(), Role::Candidate);
    assert_eq!(
        (network.core(2).term(), network.core(3).term()),
        (Term(0), Term(0)),
        "nobody was asked"
    );
    network.finish_write(1);
    network.stabilize();
    assert_eq!(network.core(2).hard_state().vote, Some(NodeId(1)));
    // Power fails at node 2 before its vote is on disk: it may vote for another, for nobody saw its
    // vote.
    network.crash(2);
    network.restart(2);
    assert_eq!((network.core(2).term(), network.core(1).role()), (Term(0), Role::Candidate));
}

#[test]
fn an_earlier_write_does_not_make_the_own_vote_durable() {
    let mut network = Network::new(1);
    network.pass(Duration::ZERO);
    network.node(1).is_disk_slow = true;
    network.propose(1, "first");
    // A former member's answer has a later term: the leader steps down over its own writes.
    let term = network.core(1).term().next();
    network.deliver(Message {
        from: NodeId(2),
        to: NodeId(1),
        term,
        body: Body::Vote { granted: false },
    });
    assert_eq!(network.core(1).role(), Role::Follower);
    network.campaign(1);
    assert_eq!((network.core(1).role(), network.node(1).writes.len()), (Role::Candidate, 3));
    network.finish_write(1);
    assert_eq!(network.core(1).role(), Role::Candidate, "that was the proposal");
    network.finish_write(1);
    assert_eq!(network.core(1).role(), Role::Candidate, "that was the term before");
    network.finish_write(1);
    assert_eq!(network.core(1).role(), Role::Leader);
}

#[test]
fn votes_and_appends_of_unknown_nodes_are_answered() {
    let mut network = Network::new(3);
    network.now = network.now.after(SECOND);
    let stranger = |body| Message { from: NodeId(77), to: NodeId(1), term: Term(4), body };
    network.deliver(stranger(Body::RequestPreVote { last_index: Index(0), last_term: Term(0) }));
    let granted = Body::PreVote { campaign_term: Term(4), granted: true };
    assert_eq!(network.wire.pop_back().unwrap().body, granted);
    network.deliver(stranger(Body::RequestVote {
        last_index: Index(0),
        last_term: Term(0),
        is_transfer: false,
    }));
    network.finish_write(1);
    assert_eq!(network.wire.pop_back().unwrap().body, Body::Vote { granted: true });
    let append = Append::default().echo(Echo::of_round(1).with_promise());
    network.deliver(stranger(append.into()));
    let report = FollowerReport { round: 1, ..FollowerReport::default() };
    assert_eq!(
        reduced(network.wire.pop_back().unwrap().body),
        Body::Appended { matched: Index(0), report }
    );
    assert_eq!(network.core(1).leader(), Some(NodeId(77)));
}

#[test]
pub(super) fn a_leader_with_a_stuck_disk_steps_down_and_stays_down() {
    let mut network = Network::new(3);
    let stuck = network.elect();
    network.node(stuck).is_disk_slow = true;
    let (term, proposed) = (network.core(stuck).term(), network.propose(stuck, "x"));
    network.stabilize();
    assert_eq!(network.core(stuck).commit(), proposed.last, "the others' disks are a majority");
    network.pass(6 * SECOND);
    assert!(network.node(stuck).events.contains(&Event::StalledWrite { term }));
    let leader = network.elect();
    assert_ne!(leader, stuck);
    assert!(
        network.core(leader).terms().term_at(proposed.last) == Some(term),
        "what was committed is still there"
    );
    network.node(stuck).is_disk_slow = false;
    network.pass(SECOND);
    assert_eq!(network.core(stuck).durable(), network.core(leader).last_index());
}

#[test]
fn followers_have_one_deadline_which_heartbeats_push_back() {
    let mut network = Network::new(3);
    let leader = network.elect();
    let follower = leader % 3 + 1;
    let before = network.core(follower).poll_timeout().unwrap();
    network.pass(Duration::from_millis(60));
    let after = network.core(follower).poll_timeout().unwrap();
    assert!(after > before && after < Time(u64::MAX));
    let early = network.clock();
    let node = network.node(follower);
    let unchanged = node.core.clone();
    node.core.handle_timeout(early);
    assert_eq!((node.core.poll(), node.core.role()), (None, unchanged.role()));
}

/// Node 1 is away and has founded the cluster with node 2, whose disk was wiped since: it waits.
/// Node 3 had met both before, and has not heard of it.
#[test]
fn a_node_that_awaits_bootstrap_takes_no_part_in_term_1() {
    let mut network = Network::new(3);
    network.isolate(1);
    network.with_core(2, |core, _| core.set_bootstrap(BootstrapPhase::Pending));
    network.pass(Duration::from_secs(5));
    assert!(
        network.leader().is_none() && [2, 3].iter().all(|&id| network.core(id).term() == Term(0))
    );
    let body = Body::RequestVote { last_index: Index(0), last_term: Term(0), is_transfer: false };
    network.deliver(Message { from: NodeId(3), to: NodeId(2), term: Term(1), body });
    assert_eq!(network.wire.pop_back().unwrap().body, Body::Vote { granted: false });
    assert_eq!(network.core(2).term(), Term(0), "or it would seem to belong to a cluster");
    network.with_core(2, |core, _| core.set_bootstrap(BootstrapPhase::Complete));
    network.pass(Duration::from_secs(5));
    assert!(network.leader().is_some(), "all have met after all");
}

#[test]
fn a_node_that_awaits_bootstrap_votes_in_later_terms() {
    let mut network = Network::with_logs(&[vec![1], vec![], vec![]], |_| {});
    for id in [2, 3] {
        network.with_core(id, |core, _| core.set_bootstrap(BootstrapPhase::Pending));
    }
    assert_eq!(network.elect(), 1);
    network.stabilize();
    network.isolate(1);
    network.pass(Duration::from_secs(5));
    assert!([2, 3].iter().any(|&id| network.core(id).is_leader()));
}

/// Else it would have to lose its majority first, and hold its clients up until then.
#[test]
fn a_deposed_leader_steps_down_on_a_heartbeat() {
    let mut network = Network::new(3);
    let old = network.elect();
    network.isolate(old);
    network.pass(Duration::from_millis(250));
    let new = loop {
        network.pass(Duration::from_millis(10));
        if let Some(new) = network.leader().filter(|&leader| leader != old) {
            break new;
        }
    };
    let (term, old_term) = (network.core(new).term(), network.core(old).term());
    assert!(network.core(old).is_leader(), "it has not missed its majority yet");
    network.heal();
    network.wire.clear();
    network.campaign(old); // its next deadline: a heartbeat
    let stays = network.wire.iter().position(|message| message.to != NodeId(new)).unwrap();
    let heartbeat = network.wire.remove(stays).unwrap();
    assert_eq!(heartbeat.term, old_term);
    network.wire.clear();
    network.deliver(heartbeat);
    network.stabilize();
    assert_eq!((network.core(old).role(), network.core(old).term()), (Role::Follower, term));
}

/// A voter that has just helped a candidate gives it the time to win.
#[test]
fn a_vote_resets_the_voters_election_timer() {
    let mut network = Network::new(3);
    network.now = network.now.after(Duration::from_millis(240));
    let before = network.core(2).poll_timeout().unwrap();
    let body = Body::RequestVote { last_index: Index(0), last_term: Term(0), is_transfer: false };
    let request = Message { from: NodeId(1), to: NodeId(2), term: Term(1), body };
    network.deliver(request);
    assert_eq!(network.core(2).hard_state().vote, Some(NodeId(1)));
    let after = network.core(2).poll_timeout().unwrap();
    assert_eq!(after.since(before), Duration::from_millis(240));
    assert!(after.since(network.now) >= network.core(2).config().election_timeout.min);
    // A request that it refuses does not.
    let body = Body::RequestVote { last_index: Index(0), last_term: Term(0), is_transfer: false };
    network.now = network.now.after(Duration::from_millis(10));
    network.deliver(Message { from: NodeId(3), to: NodeId(2), term: Term(1), body });
    assert_eq!(network.core(2).poll_timeout(), Some(after));
}

/// Answers may overtake each other: the refusal can be the older one.
#[test]
fn a_refusal_takes_no_grant_back() {
    let mut network = Network::new(5);
    network.campaign(1);
    network.wire.clear();
    let answer = |network: &mut Network, from, granted| {
        let body = Body::PreVote { campaign_term: Term(1), granted };
        network.deliver(Message { from: NodeId(from), to: NodeId(1), term: Term(0), body });
    };
    answer(&mut network, 2, false);
    answer(&mut network, 2, true);
    answer(&mut network, 2, false);
    assert_eq!(network.core(1).role(), Role::PreCandidate);
    answer(&mut network, 3, true);
    assert_eq!(network.core(1).role(), Role::Candidate, "three of five have granted it");
}

/// Nodes that waited for equally long would split their votes again and again (§3.4).
#[test]
fn every_campaign_is_followed_by_another_random_wait() {
    let mut network = Network::new(3);
    network.isolate(1);
    let mut waits = std::collections::BTreeSet::new();
    for _ in 0..20 {
        network.campaign(1);
        network.wire.clear();
        let wait = network.core(1).poll_timeout().unwrap().since(network.now);
        let ElectionTimeout { min: shortest, max: longest } =
            network.core(1).config().election_timeout;
        assert!((shortest..=longest).contains(&wait), "{wait:?}");
        waits.insert(wait);
    }
    assert!(waits.len() > 15, "{waits:?}");
}

#[test]
fn a_node_that_asks_for_votes_knows_no_leader() {
    let mut network = Network::new(3);
    let leader = network.elect();
    let away = leader % 3 + 1;
    network.stabilize();
    assert_eq!(network.core(away).leader(), Some(NodeId(leader)));
    network.isolate(away);
    network.campaign(away);
    assert_eq!(
        (network.core(away).role(), network.core(away).leader()),
        (Role::PreCandidate, None)
    );
}
