//! Which requests for votes are granted.

use super::network::Network;
use crate::core::Role;
use crate::types::{Body, Index, Message, NodeId, Term};

/// Three nodes that have known a leader, which is gone, for longer than an election timeout.
fn without_a_leader() -> Network {
    let mut network = Network::new(3);
    network.campaign(1);
    network.stabilize();
    network.propose(1, "x");
    network.stabilize();
    network.crash(1);
    network.now = network.now.after(network.core(2).config().election_timeout.max);
    network.wire.clear();
    network
}

/// What node 2 answers to node 3, which names this as the end of its log.
fn ask_vote(network: &mut Network, term: Term, last: (Term, Index)) -> Option<Body> {
    let body = Body::RequestVote { last_index: last.1, last_term: last.0, is_transfer: false };
    network.deliver(Message { from: NodeId(3), to: NodeId(2), term, body });
    while network.finish_write(2) {}
    network.wire.drain(..).map(|message| message.body).next()
}

#[test]
fn a_candidate_with_a_shorter_log_gets_no_vote() {
    let mut network = without_a_leader();
    let (term, last) = (network.core(2).term(), network.core(2).last_index());
    let refused = Some(Body::Vote { granted: false });
    assert_eq!(ask_vote(&mut network, term.next(), (term, last.previous())), refused);
    let before = Term(term.0 - 1);
    let longer = ask_vote(&mut network, term.next(), (before, last.next()));
    assert_eq!(longer, refused, "of an older term");
    let answer = ask_vote(&mut network, term.next(), (term, last));
    assert_eq!(answer, Some(Body::Vote { granted: true }));
}

#[test]
fn a_lost_vote_is_sent_again() {
    let mut network = without_a_leader();
    let (term, last) = (network.core(2).term(), network.core(2).last_index());
    for _ in 0..2 {
        let answer = ask_vote(&mut network, term.next(), (term, last));
        assert_eq!(answer, Some(Body::Vote { granted: true }));
    }
}

#[test]
fn a_pre_candidate_that_votes_for_another_gives_way() {
    let mut network = without_a_leader();
    let (term, last) = (network.core(2).term(), network.core(2).last_index());
    // It learns of the next term, in which it has not voted, and asks about the one after.
    let body = Body::PreVote { campaign_term: term, granted: false };
    network.deliver(Message { from: NodeId(3), to: NodeId(2), term: term.next(), body });
    network.campaign(2);
    assert_eq!((network.core(2).role(), network.core(2).term()), (Role::PreCandidate, term.next()));
    network.wire.clear();
    let answer = ask_vote(&mut network, term.next(), (term, last));
    assert_eq!(answer, Some(Body::Vote { granted: true }));
    assert_eq!(network.core(2).role(), Role::Follower);
}

#[test]
fn a_pre_vote_is_for_a_later_term() {
    let mut network = without_a_leader();
    let (term, last) = (network.core(2).term(), network.core(2).last_index());
    let mut ask = |term: Term| {
        let body = Body::RequestPreVote { last_index: last, last_term: Term(term.0.min(1)) };
        network.deliver(Message { from: NodeId(3), to: NodeId(2), term, body });
        match network.wire.pop_back().map(|message| message.body) {
            Some(Body::PreVote { granted, .. }) => granted,
            other => panic!("{other:?}"),
        }
    };
    assert!(!ask(term));
    assert!(ask(term.next()));
}

#[test]
fn a_message_to_another_node_is_ignored() {
    let mut network = without_a_leader();
    let (term, last) = (network.core(2).term(), network.core(2).last_index());
    let body = Body::RequestVote { last_index: last, last_term: term, is_transfer: false };
    let message = Message { from: NodeId(1), to: NodeId(3), term: term.next(), body };
    let ignored = network.core(2).status().ignored_messages;
    network.with_core(2, |core, now| core.handle_message(now, message));
    assert_eq!(network.core(2).status().ignored_messages, ignored + 1);
    assert_eq!((network.core(2).term(), network.wire.len()), (term, 0));
}
