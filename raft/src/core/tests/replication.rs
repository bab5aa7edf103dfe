//! Entries on their way: the paper's figures, hints, windows, fetches, commitment.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use bytes::Bytes;

use super::network::{Network, reduced, report};
use crate::core::{Action, Done, ProposeError, Role};
use crate::types::{
    Append, Body, Echo, Entries, Entry, Index, Message, NodeId, Payload, Stamp, Term,
};

const SECOND: Duration = Duration::from_secs(1);

/// Figure 3.6 of the dissertation (figure 7 of the paper): a leader's log and six that followers
/// may have.
fn figure_7() -> Vec<Vec<u64>> {
    vec![
        vec![1, 1, 1, 4, 4, 5, 5, 6, 6, 6],       // the leader of term 8
        vec![1, 1, 1, 4, 4, 5, 5, 6, 6],          // a: lacks one entry
        vec![1, 1, 1, 4],                         // b: lacks many
        vec![1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 6],    // c: has one too many
        vec![1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 7, 7], // d: was leader of term 7
        vec![1, 1, 1, 4, 4, 4, 4],                // e: both lacks and has too many
        vec![1, 1, 1, 2, 2, 2, 3, 3, 3, 3, 3],    // f: twice leader, never heard
    ]
}

#[test]
pub(super) fn figure_7_every_log_becomes_the_leaders() {
    let mut network = Network::with_logs(&figure_7(), |_| {});
    // c and d would not vote for it, being ahead; a, b, e and f are a majority with it. They are
    // all in term 7 by now.
    for node in network.nodes.values_mut() {
        node.disk.hard_state.term = Term(7);
    }
    (1..=7).for_each(|id| {
        network.crash(id);
        network.restart(id);
    });
    network.campaign(1);
    network.stabilize();
    assert_eq!((network.core(1).role(), network.core(1).term()), (Role::Leader, Term(8)));
    network.pass(Duration::from_millis(100));
    for id in 1..=7 {
        assert_eq!(network.log_of(id), [1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 8], "node {id}");
        assert_eq!(network.core(id).commit(), Index(11));
    }
}

/// Figure 3.7 (figure 8 of the paper): an entry of an old term on a majority is not committed by
/// counting copies.
#[test]
pub(super) fn figure_8_only_an_entry_of_the_leaders_own_term_commits() {
    //      1 2        S1 led term 2, S5 term 3 and never replicated index 2;
    //                 now S1 leads again, in term 4.
    //  S1  1 2        It brings entry 2 of term 2 to S3: a majority of five has it,
    //  S2  1 2        but S5 could still win with S3 and S4's help if S1 failed now.
    //  S3  1
    //  S4  1
    //  S5  1 3
    let logs = [vec![1, 2], vec![1, 2], vec![1], vec![1], vec![1, 3]];
    let mut network = Network::with_logs(&logs, |_| {});
    for id in 1..=5 {
        network.node(id).disk.hard_state.term = Term(3);
        network.crash(id);
        network.restart(id);
    }
    network.crash(5);
    network.campaign(1);
    while network.core(1).role() != Role::Leader {
        let message = network.wire.pop_front();
        match message {
            Some(message) => network.deliver(message),
            None => assert!((1..=4).any(|id| network.finish_write(id))),
        }
    }
    // Its no-op at index 3 never arrives anywhere; entry 2 does, on S3, by a message of its own.
    network.wire.clear();
    let append = Append::after(Index(1), Term(1)).entries(super::network::entry(2, 2));
    let body = append.echo(Echo::of_round(1).with_promise()).into();
    network.deliver(Message { from: NodeId(1), to: NodeId(3), term: Term(4), body });
    network.finish_write(3);
    for from in [2, 3] {
        let body = Body::Appended { matched: Index(2), report: report(1) };
        network.deliver(Message { from: NodeId(from), to: NodeId(1), term: Term(4), body });
    }
    assert_eq!(network.core(1).commit(), Index(0), "three of five have entry 2, and yet");
    // (d): S1 fails, S5 wins with term 3 at its end, and replaces entry 2.
    network.wire.clear();
    network.crash(1);
    network.restart(5);
    network.now = network.now.after(SECOND);
    network.campaign(5);
    network.stabilize();
    network.now = network.now.after(SECOND);
    network.campaign(5);
    network.stabilize();
    assert_eq!(network.core(5).role(), Role::Leader);
    network.restart(1);
    network.pass(SECOND);
    (1..=5).for_each(|id| assert_eq!(network.log_of(id)[..2], [1, 3], "node {id}"));
}

#[test]
fn hints_find_the_place_in_a_round_trip_per_term_not_per_entry() {
    let leader = [vec![1; 10], vec![4; 300]].concat();
    let follower = [vec![1; 10], vec![2; 200], vec![3; 200]].concat();
    let mut network = Network::with_logs(&[leader.clone(), follower, leader], |_| {});
    network.campaign(1);
    network.stabilize();
    let rejections = |network: &Network| {
        network.wire.iter().filter(|m| matches!(m.body, Body::Rejected { .. })).count()
    };
    assert_eq!(rejections(&network), 0);
    assert_eq!(network.core(2).terms(), network.core(1).terms());
    assert!(network.delivered < 35, "{} messages for three nodes in all", network.delivered);
}

#[test]
pub(super) fn a_follower_commits_no_further_than_it_has_verified() {
    // The follower has entries 2 and 3 of an old leader. A heartbeat that verifies index 1 says
    // that 3 is committed.
    let mut network = Network::with_logs(&[vec![1, 1, 1], vec![1, 2, 2], vec![1, 2, 2]], |_| {});
    let append = Append::after(Index(1), Term(1)).commit(Index(3));
    let body = append.echo(Echo::of_round(1).with_promise()).into();
    network.nodes.get_mut(&NodeId(2)).unwrap().is_disk_slow = true;
    let now = network.clock();
    let core = &mut network.node(1).core;
    core.handle_message(now, Message { from: NodeId(2), to: NodeId(1), term: Term(3), body });
    assert_eq!(core.commit(), Index(1));
}

#[test]
pub(super) fn only_verified_durable_entries_are_acknowledged() {
    let mut network = Network::with_logs(&[vec![1, 1, 1], vec![1], vec![1]], |_| {});
    network.node(1).is_disk_slow = true;
    let append = |entries: Entries, round| {
        let append = Append::after(Index(1), Term(1)).entries(entries);
        append.echo(Echo::of_round(round).with_promise()).into()
    };
    let from_2 = |body| Message { from: NodeId(2), to: NodeId(1), term: Term(2), body };
    network.deliver(from_2(append(Entries::new(), 1)));
    assert!(network.wire.is_empty(), "the new term is not on disk");
    network.finish_write(1);
    assert_eq!(
        reduced(network.wire.pop_front().unwrap().body),
        Body::Appended { matched: Index(1), report: report(1) }
    );
    let entry = |index, term| Entry { stamp: Stamp(5), ..super::network::entry(index, term) };
    network.deliver(from_2(append(entry(2, 2).into(), 1)));
    assert!(network.wire.is_empty(), "nor is the entry");
    network.deliver(from_2(append(Entries::new(), 2)));
    assert_eq!(
        reduced(network.wire.pop_front().unwrap().body),
        Body::Appended { matched: Index(1), report: report(2) },
        "a round is"
    );
    network.finish_write(1);
    assert_eq!(
        reduced(network.wire.pop_front().unwrap().body),
        Body::Appended { matched: Index(2), report: report(2) }
    );
    network.deliver(from_2(append(entry(2, 2).into(), 2)));
    assert_eq!(
        reduced(network.wire.pop_front().unwrap().body),
        Body::Appended { matched: Index(2), report: report(2) },
        "repeated"
    );
}

#[test]
pub(super) fn a_short_old_message_truncates_nothing() {
    let mut network = Network::new(3);
    let leader = network.elect();
    let follower = leader % 3 + 1;
    let first = network.propose(leader, "a");
    let old = network.wire.iter().find(|m| m.to == NodeId(follower)).unwrap().clone();
    network.stabilize();
    network.propose(leader, "b");
    network.stabilize();
    let last = network.core(follower).last_index();
    assert!(last > first.last);
    network.deliver(old);
    assert_eq!(network.core(follower).last_index(), last);
}

#[test]
fn the_leaders_own_write_counts_only_when_it_is_done() {
    let mut network = Network::new(3);
    let leader = network.elect();
    let (one, other) = (leader % 3 + 1, (leader + 1) % 3 + 1);
    network.node(leader).is_disk_slow = true;
    network.crash(other);
    let proposed = network.propose(leader, "x");
    assert!(!network.wire.is_empty(), "sent beside the write");
    network.stabilize();
    assert_eq!(network.core(one).durable(), proposed.last);
    assert!(
        network.core(leader).commit() < proposed.last,
        "one follower and an unfinished write are no majority"
    );
    network.finish_write(leader);
    assert_eq!(network.core(leader).commit(), proposed.last);
}

#[test]
fn commitment_travels_at_once_and_needs_no_answer() {
    let mut network = Network::new(3);
    let leader = network.elect();
    network.stabilize();
    let before = network.delivered;
    network.propose(leader, "x");
    network.stabilize();
    assert_eq!(network.delivered - before, 6, "two each of: entries, acknowledgement, notice");
    let proposed = network.propose(leader, "y");
    network.stabilize();
    assert!((1..=3).all(|id| network.core(id).applied() == proposed.last));
}

#[test]
fn proposals_between_two_polls_are_one_message_and_one_write() {
    let mut network = Network::new(3);
    let leader = network.elect();
    network.node(leader).is_disk_slow = true;
    network.with_core(leader, |core, now| {
        core.propose(now, [Bytes::from_static(b"a")]).unwrap();
        core.propose(now, [Bytes::from_static(b"b"), Bytes::from_static(b"c")]).unwrap();
    });
    assert_eq!(network.wire.len(), 2);
    assert_eq!(
        network.node(leader).writes.iter().map(|write| write.entries.len()).collect::<Vec<_>>(),
        [3]
    );
}

#[test]
pub(super) fn windows_bound_what_is_in_flight_and_the_rest_follows() {
    let tune = |config: &mut crate::core::Config| {
        (config.message_bytes, config.in_flight_messages, config.in_flight_bytes) = (100, 3, 250);
    };
    let mut network = Network::with(3, tune);
    let leader = network.elect();
    let follower = leader % 3 + 1;
    network.isolate(follower);
    for _ in 0..20 {
        network.propose(leader, "0123456789abcdef0123456789abcdef"); // 64 bytes with its overhead
    }
    let peer = network
        .core(leader)
        .status()
        .peers
        .into_iter()
        .find(|peer| peer.id == NodeId(follower))
        .unwrap();
    assert!(peer.in_flight_messages <= 3 && peer.in_flight_bytes < 250 + 100, "{peer:?}");
    network.stabilize();
    network.heal();
    network.pass(SECOND);
    assert_eq!(network.core(follower).applied(), network.core(leader).last_index());
}

#[test]
fn entries_not_in_memory_are_fetched_to_send_and_to_apply() {
    let mut network = Network::with(3, |config| {
        (config.tail_bytes, config.message_bytes, config.applying_bytes) = (100, 200, 150)
    });
    let leader = network.elect();
    let away = leader % 3 + 1;
    network.crash(away);
    for number in 0..50 {
        network.propose(leader, &format!("command {number}"));
        network.stabilize();
    }
    let last = network.core(leader).last_index();
    assert!(network.core(leader).entry(Index(5)).is_none(), "the tail is short");
    let before = network.node(leader).fetches;
    network.restart(away);
    network.pass(SECOND);
    assert_eq!(network.core(away).applied(), last);
    assert!(network.node(leader).fetches > before);
    // After a start nothing is in memory but the tail, and everything is applied again.
    network.crash(away);
    network.restart(away);
    network.pass(SECOND);
    assert_eq!(
        (network.core(away).applied(), network.node(away).applied.len() as u64),
        (last, last.0)
    );
    assert!(network.node(away).fetches > 0);
}

#[test]
fn a_node_without_a_tail_fetches_its_last_entry_to_campaign() {
    let mut network = Network::with_logs(&[vec![1, 1]], |config| config.tail_bytes = 1);
    assert_eq!(network.core(1).entry(Index(2)), None);
    network.pass(SECOND);
    assert_eq!((network.core(1).role(), network.node(1).applied.len()), (Role::Leader, 3));
}

#[test]
pub(super) fn the_cap_on_uncommitted_bytes_holds_and_lets_the_noop_through() {
    let tune = |config: &mut crate::core::Config| {
        (config.uncommitted_bytes, config.command_bytes) = (200, 100)
    };
    let mut network = Network::with(3, tune);
    let leader = network.elect();
    let command = || Bytes::from_static(&[0; 68]); // 100 bytes with its overhead
    let full = Err(ProposeError::UncommittedFull { limit_bytes: 200 });
    let before = network.core(leader).last_index();
    assert_eq!(
        network.with_core(leader, |core, now| core.propose(now, vec![command(); 3])),
        full,
        "all or none"
    );
    assert_eq!(network.core(leader).last_index(), before);
    network.with_core(leader, |core, now| core.propose(now, vec![command(); 2])).unwrap();
    assert_eq!(network.with_core(leader, |core, now| core.propose(now, [command()])), full);
    network.stabilize();
    network.with_core(leader, |core, now| core.propose(now, [command()])).unwrap();
    let large =
        network.with_core(leader, |core, now| core.propose(now, [Bytes::from_static(&[0; 101])]));
    assert_eq!(large, Err(ProposeError::TooLarge { bytes: 101, limit_bytes: 100 }));
    assert_eq!(
        network.with_core(leader, |core, now| core.propose::<Bytes>(now, [])),
        Err(ProposeError::Empty)
    );
    let follower = leader % 3 + 1;
    let refused = network.with_core(follower, |core, now| core.propose(now, [command()]));
    assert_eq!(refused, Err(ProposeError::NotLeader { leader: Some(NodeId(leader)) }));
}

#[test]
pub(super) fn stamps_never_run_backwards_even_if_a_leaders_clock_does() {
    let mut network = Network::new(1);
    network.wall_began = 9_000_000;
    network.pass(SECOND);
    network.propose(1, "a");
    network.wall_errors.insert(1, -8_000_000);
    network.propose(1, "b");
    network.pass(SECOND);
    network.propose(1, "c");
    network.pass(SECOND);
    let stamps: Vec<u64> = network.node(1).applied.iter().map(|entry| entry.stamp.0).collect();
    assert_eq!(stamps[1..], [9_001_000, 9_001_000, 9_001_500]);
    assert!(matches!(network.node(1).applied[1].payload, Payload::Command(_)));
}

#[test]
#[should_panic(expected = "only")]
fn a_completion_of_an_unknown_write_panics() {
    let mut network = Network::new(1);
    network.with_core(1, |core, now| core.handle_done(now, Done::Written { sequence: 9 }));
}

/// The heartbeat with a commit index may overtake the entries that it is about: the follower cannot
/// accept it then, and must receive it again once it has them.
#[test]
fn a_commit_is_sent_once_the_follower_has_the_entry() {
    let mut network = Network::new(3);
    network.campaign(1);
    while !network.core(1).is_leader() {
        match network.wire.pop_front() {
            Some(message) => network.deliver(message),
            None => (1..=3).for_each(|id| while network.finish_write(id) {}),
        }
    }
    let (leader, slow, other) = (1, 2, 3);
    let at = network.wire.iter().position(|message| message.to == NodeId(slow)).unwrap();
    let entries = network.wire.remove(at).unwrap();
    assert!(matches!(&entries.body, Body::AppendEntries(append) if append.entries.len() == 1));
    network.cut.insert((NodeId(slow), NodeId(leader)));
    network.stabilize();
    network.pass(Duration::from_millis(60));
    let commit = network.core(leader).commit();
    assert_eq!((commit, network.core(other).commit()), (Index(1), Index(1)));
    assert_eq!(network.core(slow).commit(), Index(0), "it has heard of it and lacks the entry");
    network.heal();
    network.deliver(entries);
    network.stabilize();
    assert_eq!(network.core(slow).commit(), commit, "without another heartbeat");
}

#[test]
fn an_entry_of_a_later_term_than_its_leaders_is_ignored() {
    let mut network = Network::new(3);
    let leader = network.elect();
    let follower = leader % 3 + 1;
    let (term, last) = (network.core(leader).term(), network.core(follower).last_index());
    let ignored = network.core(follower).status().ignored_messages;
    let later = super::network::entry(last.0 + 1, term.next().0);
    let later = Entry { stamp: Stamp(u64::MAX), ..later };
    for (previous_term, entries) in [(term, vec![later]), (term.next(), vec![])] {
        let append = Append::after(last, previous_term).entries(entries);
        let body = append.echo(Echo::of_round(1).with_promise()).into();
        network.deliver(Message { from: NodeId(leader), to: NodeId(follower), term, body });
    }
    assert_eq!(network.core(follower).status().ignored_messages, ignored + 2);
    assert_eq!(network.core(follower).last_index(), last);
}

#[test]
pub(super) fn entries_of_other_terms_than_the_logs_are_not_fetched() {
    let mut network = Network::with_logs(&[vec![1, 1]], |config| config.tail_bytes = 1);
    network.node(1).holds = |action| matches!(action, Action::Fetch(_));
    network.campaign(1);
    let now = network.clock();
    let answer = |network: &Network, entry| {
        let mut core = network.core(1).clone();
        let done = Done::Fetched { id: 1, entries: vec![entry] };
        catch_unwind(AssertUnwindSafe(|| core.handle_done(now, done))).is_ok()
    };
    assert_eq!(network.node(1).held.len(), 1);
    assert!(answer(&network, super::network::entry(2, 1)));
    assert!(!answer(&network, super::network::entry(2, 2)), "the disk has another entry there");
    assert!(!answer(&network, super::network::entry(1, 1)), "or the wrong one");
}
