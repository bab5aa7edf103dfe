//! Terms that no cluster reaches.

use std::time::Duration;

use super::network::Network;
use crate::core::{Event, Role};
use crate::types::{
    Append, Body, Chunk, Configuration, Echo, FollowerReport, Index, Message, NodeId, SnapshotMeta,
    Stamp, Term,
};

fn meta() -> SnapshotMeta {
    let (configuration, stamp) = (Configuration::default(), Stamp(0));
    SnapshotMeta { index: Index(9), term: Term(1), stamp, configuration, digest: None }
}

/// One of each kind that a node acts on.
fn bodies(term: Term) -> Vec<Body> {
    let (last_index, last_term, report) = (Index(9), Term(9), FollowerReport::default());
    let (previous_index, echo) = (Index(0), Echo::of_round(1).with_promise());
    let chunk = Chunk { offset: 0, total_bytes: 1, data: "x".into() };
    vec![
        Body::RequestPreVote { last_index, last_term },
        Body::PreVote { campaign_term: term, granted: false },
        Body::PreVote { campaign_term: Term(2), granted: true },
        Body::RequestVote { last_index, last_term, is_transfer: false },
        Body::RequestVote { last_index, last_term, is_transfer: true },
        Body::Vote { granted: true },
        Append::default().echo(echo).into(),
        Body::Appended { matched: Index(1), report },
        Body::Rejected { previous_index, hint_index: Index(0), hint_term: Term(0), report },
        Body::InstallSnapshot { meta: meta().into(), chunk, echo },
        Body::SnapshotProgress { index: Index(9), received_bytes: 1, report },
        Body::RequestReadIndex { request: 1, may_lease: false },
        Body::ReadIndex { request: 1, index: None },
        Body::TimeoutNow,
    ]
}

/// One frame with such a term, to any node, ended elections for good.
#[test]
pub(super) fn one_frame_does_not_end_elections() {
    let kinds = bodies(Term(1)).len();
    for kind in 0..kinds {
        let mut network = Network::new(3);
        let leader = network.elect();
        network.stabilize();
        let own = network.core(leader).term();
        for term in [
            Term(u64::MAX),
            Term(u64::MAX - 1),
            Term(Term::MAX.0 + 1),
            Term(own.0 + Term::JUMP_MAX + 1),
        ] {
            for to in 1..=3 {
                let body = bodies(term).swap_remove(kind);
                let before = (network.core(to).hard_state(), network.core(to).poll_timeout());
                network.deliver(Message { from: NodeId(to % 3 + 1), to: NodeId(to), term, body });
                assert_eq!(
                    (network.core(to).hard_state(), network.core(to).poll_timeout()),
                    before
                );
            }
        }
        assert_eq!(network.core(1).status().ignored_terms, 4);
        let told = |event: &&Event| matches!(event, Event::TermIgnored { .. });
        assert_eq!(network.node(1).events.iter().filter(told).count(), 1, "not every time");
        network.isolate(leader);
        network.pass(Duration::from_secs(2));
        let next = network.leader().expect("the others elect");
        assert!(next != leader && network.core(next).term() < Term(100));
    }
}

#[test]
fn a_term_within_bounds_is_adopted() {
    let mut network = Network::new(3);
    let leader = network.elect();
    network.stabilize();
    let term = network.core(leader).term().saturating_add(Term::JUMP_MAX);
    network.deliver(Message {
        from: NodeId(99),
        to: NodeId(leader),
        term,
        body: Body::Vote { granted: false },
    });
    assert_eq!(network.core(leader).term(), term);
    // A node that knows nothing cannot tell how far its cluster has come.
    let mut network = Network::new(3);
    let body = || Body::Vote { granted: false };
    network.deliver(Message {
        from: NodeId(2),
        to: NodeId(1),
        term: Term(Term::MAX.0 + 1),
        body: body(),
    });
    assert_eq!(network.core(1).term(), Term(0));
    network.deliver(Message { from: NodeId(2), to: NodeId(1), term: Term::MAX, body: body() });
    assert_eq!(network.core(1).term(), Term::MAX);
    network.pass(Duration::from_secs(5));
    assert_eq!(
        (network.core(1).term(), network.core(1).role()),
        (Term::MAX, Role::Follower),
        "the last one"
    );
}

#[test]
fn a_saved_term_beyond_the_last_keeps_out_of_elections() {
    for saved in [Term(Term::MAX.0 + 1), Term(u64::MAX)] {
        let mut network = Network::with_logs(&[vec![1], vec![1], vec![1]], |_| {});
        network.crash(1);
        network.node(1).disk.hard_state.term = saved;
        network.restart(1);
        network.pass(Duration::from_secs(5));
        assert!(network.node(1).events.contains(&Event::OutOfTerms { term: saved }));
        assert!(network.core(1).status().is_out_of_terms);
        assert_eq!((network.core(1).term(), network.core(1).role()), (saved, Role::Follower));
        let (last_index, last_term) = (Index(9), Term(9));
        let body = Body::RequestVote { last_index, last_term, is_transfer: false };
        network.wire.clear();
        network.deliver(Message { from: NodeId(2), to: NodeId(1), term: saved, body });
        assert_eq!(network.wire.pop_back().unwrap().body, Body::Vote { granted: false });
        assert!(network.leader().is_some_and(|leader| leader != 1), "the others go on without it");
    }
}
