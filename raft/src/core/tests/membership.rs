//! Who belongs to the cluster, and how that changes.

use std::collections::BTreeSet;
use std::time::Duration;

use super::network::{Network, voters};
use crate::core::{Core, Event, Proposed, ReadId, Role};
use crate::types::{
    Append, ChangeError, Configuration, DiskId, Echo, Entry, Index, Member, MemberChange, Message,
    NodeId, Payload, Term,
};

const SECOND: Duration = Duration::from_secs(1);

pub(super) fn add(node: u64) -> MemberChange {
    let member = Member {
        disk: DiskId(node.into()),
        address: format!("host:{node}"),
        priority: 0,
        ..Member::default()
    };
    MemberChange::AddLearner { node: NodeId(node), member }
}

pub(super) fn promote(node: u64) -> MemberChange {
    MemberChange::Promote(NodeId(node))
}

fn remove(node: u64) -> MemberChange {
    MemberChange::Remove(NodeId(node))
}

pub(super) fn change(
    network: &mut Network,
    id: u64,
    changes: &[MemberChange],
) -> Result<Proposed, ChangeError> {
    network.with_core(id, |core, now| core.change_membership(now, changes))
}

fn ids(nodes: &BTreeSet<NodeId>) -> Vec<u64> {
    nodes.iter().map(|node| node.0).collect()
}

/// Three voters, of which node 1 leads.
fn three() -> Network {
    let mut network = Network::new(3);
    network.campaign(1);
    network.stabilize();
    assert_eq!(network.leader(), Some(1));
    network
}

/// Learners with these ids join and catch up.
fn with_learners(network: &mut Network, learners: &[u64]) {
    learners.iter().for_each(|&id| network.join(id));
    let changes: Vec<_> = learners.iter().map(|&id| add(id)).collect();
    change(network, 1, &changes).unwrap();
    network.stabilize();
}

#[test]
fn a_learner_counts_only_once_it_is_promoted() {
    let mut network = three();
    network.propose(1, "x");
    network.stabilize();
    network.join(4);
    assert_eq!(network.core(4).role_deadline(), None, "it waits to be added");
    let added = change(&mut network, 1, &[add(4)]).unwrap();
    network.stabilize();
    assert_eq!(network.core(4).commit(), added.last);
    assert_eq!(
        (network.core(4).leader(), network.core(4).role_deadline()),
        (Some(NodeId(1)), None)
    );
    assert!(
        network
            .node(4)
            .events
            .contains(&Event::MembershipChanged { index: added.last, is_joint: false })
    );
    // Two of three voters decide, whatever the learner does.
    network.isolate(3);
    network.isolate(4);
    let proposed = network.propose(1, "y");
    network.stabilize();
    assert_eq!(network.core(1).commit(), proposed.last);
    network.heal();
    network.pass(SECOND / 2);
    let promoted = change(&mut network, 1, &[promote(4)]).unwrap();
    network.stabilize();
    assert_eq!(network.core(4).commit(), promoted.last);
    assert_eq!(ids(&network.core(4).configuration().voters), [1, 2, 3, 4]);
    assert!(
        network.core(4).role_deadline() > Some(network.now),
        "it waits for a leader from now on"
    );
    // Now two of four do not.
    network.isolate(3);
    network.isolate(4);
    let proposed = network.propose(1, "z");
    network.stabilize();
    assert!(network.core(1).commit() < proposed.last);
}

/// The schedule that Ongaro reported in 2015: two leaders, each with a change of one vote to {1 2 3
/// 4}, and majorities {2 3} and {1 4 5} that have no node in common.
///
/// ```text
///  term 1   node 1 appends {1 2 3 4 5}, which reaches only 5
///  term 2   node 2 is elected by 2, 3 and 4; it appends {2 3 4}, which reaches 3:
///           {2 3} would commit it
///  term 3   node 1 is elected by 1, 4 and 5, and removes what {2 3} has committed
/// ```
///
/// Had node 2 waited until its no-op was committed by three of {1 2 3 4}, one of 1, 4 and 5 would
/// have it, and not vote for 1.
#[test]
pub(super) fn the_schedule_of_the_bug_of_2015_is_refused() {
    let mut network = Network::new(4);
    network.join(5);
    network.campaign(1);
    network.stabilize();
    change(&mut network, 1, &[add(5)]).unwrap();
    network.pass(Duration::from_millis(100));
    // C1 reaches node 5 only.
    for other in [2, 3, 4] {
        cut(&mut network, 1, other);
        cut(&mut network, 5, other);
    }
    change(&mut network, 1, &[promote(5)]).unwrap();
    network.stabilize();
    assert_eq!(ids(&network.core(5).configuration().voters), [1, 2, 3, 4, 5]);
    // Nodes 2, 3 and 4 wait long enough, and 2 is elected; but its no-op reaches nobody.
    network.now = network.now.after(SECOND);
    network.campaign(2);
    deliver_until_leader(&mut network, 2);
    network.wire.clear();
    cut(&mut network, 2, 4);
    let refused = change(&mut network, 2, &[remove(1)]);
    if let Ok(made) = refused {
        // What would follow: C2 and the no-op are committed by 2 and 3, and node 1 is elected by 1,
        // 4 and 5 all the same.
        network.pass(Duration::from_millis(100));
        assert!(network.core(2).commit() >= made.last);
        network.isolate(2);
        network.isolate(3);
        for other in [4, 5] {
            network.cut.remove(&(NodeId(1), NodeId(other)));
            network.cut.remove(&(NodeId(other), NodeId(1)));
        }
        network.pass(3 * SECOND);
        panic!("node {:?} leads without what was committed", network.leader());
    }
    assert_eq!(refused, Err(ChangeError::TermNotCommitted));
    network.cut.remove(&(NodeId(2), NodeId(4)));
    network.cut.remove(&(NodeId(4), NodeId(2)));
    network.pass(SECOND / 10);
    change(&mut network, 2, &[remove(1)]).unwrap();
}

fn cut(network: &mut Network, one: u64, other: u64) {
    network.cut.insert((NodeId(one), NodeId(other)));
    network.cut.insert((NodeId(other), NodeId(one)));
}

/// Delivers messages until `id` leads, and none of those that it sends then.
fn deliver_until_leader(network: &mut Network, id: u64) {
    while network.core(id).role() != Role::Leader {
        if let Some(message) = network.wire.pop_front() {
            network.deliver(message);
        } else {
            let ids: Vec<u64> = network.nodes.keys().map(|node| node.0).collect();
            assert!(ids.iter().any(|&id| network.finish_write(id)), "nothing is left to happen");
        }
    }
}

#[test]
pub(super) fn one_change_at_a_time() {
    let mut network = three();
    network.join(4);
    network.join(5);
    for follower in [2, 3] {
        network.node(follower).is_disk_slow = true;
    }
    let first = change(&mut network, 1, &[add(4)]).unwrap();
    network.stabilize();
    let refused = change(&mut network, 1, &[add(5)]);
    assert_eq!(refused, Err(ChangeError::Pending { index: first.last }));
    for follower in [2, 3] {
        network.node(follower).is_disk_slow = false;
    }
    network.stabilize();
    change(&mut network, 1, &[add(5)]).unwrap();
    network.stabilize();
    assert_eq!(ids(&network.core(5).configuration().learners), [4, 5]);
}

#[test]
pub(super) fn a_configuration_counts_as_soon_as_it_is_in_the_log() {
    let mut network = three();
    with_learners(&mut network, &[4]);
    network.pass(Duration::from_millis(100));
    network.isolate(3);
    network.isolate(4);
    let promoted = change(&mut network, 1, &[promote(4)]).unwrap();
    network.stabilize();
    assert!(network.core(1).commit() < promoted.last, "two of four are no majority");
    network.heal();
    network.pass(Duration::from_millis(100));
    assert_eq!(network.core(4).commit(), promoted.last);
}

#[test]
pub(super) fn a_truncation_brings_the_earlier_configuration_back() {
    let mut network = three();
    network.join(4);
    network.isolate(1);
    let lost = change(&mut network, 1, &[add(4)]).unwrap();
    assert_eq!(ids(&network.core(1).configuration().learners), [4]);
    network.pass(SECOND);
    let leader = network.elect();
    assert_ne!(leader, 1);
    network.heal();
    network.pass(SECOND);
    assert_eq!(network.core(1).configuration(), &voters(3));
    assert_eq!(network.core(1).configuration_index(), Index(0));
    let memberships = network.node(1).events.clone();
    let memberships =
        memberships.iter().filter(|event| matches!(event, Event::MembershipChanged { .. }));
    let expected =
        [lost.last, Index(0)].map(|index| Event::MembershipChanged { index, is_joint: false });
    assert!(memberships.eq(&expected));
    change(&mut network, leader, &[add(4)]).unwrap();
    network.stabilize();
    assert_eq!(network.core(1).configuration(), network.core(4).configuration());
}

/// Voters 2 and 3 are to be replaced by 4 and 5.
fn replacing_two() -> (Network, Index) {
    let mut network = three();
    with_learners(&mut network, &[4, 5]);
    network.pass(Duration::from_millis(100));
    network.isolate(2);
    network.isolate(3);
    let joint = change(&mut network, 1, &[promote(4), promote(5), remove(2), remove(3)]).unwrap();
    network.stabilize();
    (network, joint.last)
}

#[test]
pub(super) fn a_joint_configuration_needs_both_halves_and_is_then_left() {
    let (mut network, joint) = replacing_two();
    assert!(network.core(4).configuration().is_joint());
    assert!(
        network.core(1).commit() < joint,
        "1, 4 and 5 are a majority of the incoming half only"
    );
    assert_eq!(change(&mut network, 1, &[add(6)]), Err(ChangeError::Pending { index: joint }));
    network.heal();
    network.pass(Duration::from_millis(100));
    let left = joint.next();
    for id in 1..=5 {
        assert_eq!(network.core(id).commit(), left, "node {id} learns it");
        assert_eq!(ids(&network.core(id).configuration().voters), [1, 4, 5]);
        assert!(!network.core(id).configuration().is_joint());
        assert_eq!(network.core(id).is_removed(), [2, 3].contains(&id));
        let events = &network.node(id).events;
        assert!(events.contains(&Event::MembershipChanged { index: joint, is_joint: true }));
        assert!(events.contains(&Event::MembershipChanged { index: left, is_joint: false }));
        assert_eq!(events.contains(&Event::Removed { index: left }), [2, 3].contains(&id));
    }
    let peers: Vec<u64> = network.core(1).status().peers.iter().map(|peer| peer.id.0).collect();
    assert_eq!(peers, [4, 5], "nothing more is sent to those who are gone");
}

#[test]
pub(super) fn a_new_leader_leaves_the_joint_configuration_that_it_finds() {
    let mut network = three();
    with_learners(&mut network, &[4, 5]);
    network.pass(Duration::from_millis(100));
    // The joint configuration reaches everybody, but its leader hears of that from nobody, and
    // dies.
    for other in 2..=5 {
        network.cut.insert((NodeId(other), NodeId(1)));
    }
    let joint =
        change(&mut network, 1, &[promote(4), promote(5), remove(2), remove(3)]).unwrap().last;
    network.stabilize();
    network.crash(1);
    network.heal();
    let leader = network.elect();
    network.pass(SECOND);
    network.restart(1);
    network.pass(SECOND);
    for id in 1..=5 {
        assert_eq!(ids(&network.core(id).configuration().voters), [1, 4, 5], "node {id}");
        assert!(!network.core(id).configuration().is_joint());
        assert!(network.core(id).configuration_index() > joint.next(), "a no-op came between");
    }
    let proposed = network.propose(leader, "x");
    network.stabilize();
    assert_eq!(network.core(1).commit(), proposed.last);
}

#[test]
pub(super) fn a_removed_leader_does_not_count_itself_and_steps_down() {
    let mut network = three();
    let (term, since) = (network.core(1).term(), network.now);
    network.isolate(3);
    let removal = change(&mut network, 1, &[remove(1)]).unwrap();
    let proposed = network.propose(1, "it leads until then");
    network.stabilize();
    assert!(network.core(1).commit() < removal.last, "node 2 alone is no majority of {{2, 3}}");
    assert_eq!(network.core(1).role(), Role::Leader);
    network.heal();
    network.pass(Duration::from_millis(100));
    assert_eq!(network.core(1).commit(), proposed.last);
    assert_eq!((network.core(1).role(), network.core(1).role_deadline()), (Role::Follower, None));
    assert!(network.node(1).events.contains(&Event::NoLongerVoter { term }));
    assert!(network.node(1).events.contains(&Event::Removed { index: removal.last }));
    let leader = network.leader().expect("handed over: nobody waits for an election timeout");
    assert!([2, 3].contains(&leader) && network.core(leader).term() == term.next());
    assert!(network.now < since.after(network.core(1).config().election_timeout.min));
    network.pass(10 * SECOND);
    assert_eq!(network.core(1).role(), Role::Follower, "it never campaigns again");
}

/// Found by the simulator: node 1 has the longer log and is not in its configuration, node 2 needs
/// its vote.
#[test]
pub(super) fn a_removal_that_may_be_lost_prevents_no_campaign() {
    let mut network = Network::new(2);
    network.campaign(1);
    network.stabilize();
    network.isolate(1);
    change(&mut network, 1, &[remove(1)]).unwrap();
    network.stabilize();
    for id in [1, 2] {
        network.crash(id);
        network.restart(id);
    }
    network.heal();
    assert!(!network.core(1).configuration().is_voter(NodeId(1)));
    network.elect();
    network.pass(SECOND);
    assert_eq!(network.leader(), Some(2), "node 1 is elected, commits its removal and hands over");
    assert!(network.core(1).is_removed());
    assert_eq!(network.core(1).role_deadline(), None);
}

/// Found by the simulator: the leader stays alone with a read that only the removed one could have
/// confirmed.
#[test]
fn a_read_is_answered_when_those_who_did_not_answer_are_gone() {
    let mut network = Network::new(2);
    network.campaign(1);
    network.stabilize();
    network.isolate(2);
    network.with_core(1, |core, now| core.read_index(now, ReadId(7))).unwrap();
    network.stabilize();
    assert_eq!(network.node(1).ready, []);
    change(&mut network, 1, &[remove(2)]).unwrap();
    network.stabilize();
    assert_eq!(network.node(1).ready, [(ReadId(7), Index(1))]);
}

#[test]
fn a_demoted_leader_becomes_a_learner_of_the_next() {
    let mut network = three();
    change(&mut network, 1, &[MemberChange::Demote(NodeId(1))]).unwrap();
    network.pass(SECOND);
    let leader = network.leader().unwrap();
    assert_ne!(leader, 1);
    let proposed = network.propose(leader, "x");
    network.stabilize();
    assert_eq!(network.core(1).commit(), proposed.last);
    assert!(!network.core(1).is_removed());
    // One vote more in each direction is a joint change; node 1 votes and may lead again.
    network.with_core(leader, |core, now| core.change_membership(now, &[promote(1)])).unwrap();
    network.stabilize();
    network.with_core(leader, |core, now| core.transfer_leadership(now, Some(NodeId(1)))).unwrap();
    network.stabilize();
    assert_eq!(network.leader(), Some(1));
}

#[test]
fn a_removed_voter_learns_of_it_and_does_not_campaign() {
    let mut network = three();
    let removal = change(&mut network, 1, &[remove(3)]).unwrap();
    network.stabilize();
    assert!(network.core(3).is_removed());
    assert!(network.node(3).events.contains(&Event::Removed { index: removal.last }));
    assert_eq!(network.core(3).role_deadline(), None);
    let delivered = network.core(3).status();
    network.propose(1, "x");
    network.pass(SECOND);
    assert_eq!(network.core(3).last_index(), delivered.last_index, "nothing more is sent");
    assert_eq!(network.leader(), Some(1));
    // A node that is cut off then does not learn of it, and its requests have no effect afterwards.
    let mut network = three();
    network.isolate(3);
    change(&mut network, 1, &[remove(3)]).unwrap();
    network.pass(SECOND);
    network.heal();
    let term = network.core(1).term();
    network.pass(5 * SECOND);
    assert!(!network.core(3).is_removed());
    assert_eq!(
        (network.leader(), network.core(1).term(), network.core(3).term()),
        (Some(1), term, term)
    );
}

#[test]
pub(super) fn a_learner_that_lags_or_is_silent_is_not_promoted() {
    let mut network = Network::with(3, |config| config.promotion_lag = 2);
    network.campaign(1);
    network.stabilize();
    network.join(4);
    network.isolate(4);
    change(&mut network, 1, &[add(4)]).unwrap();
    network.stabilize();
    assert_eq!(
        change(&mut network, 1, &[promote(4)]),
        Err(ChangeError::LearnerSilent { node: NodeId(4) })
    );
    let at_once = change(&mut network, 1, &[add(5), promote(5)]);
    assert_eq!(at_once, Err(ChangeError::LearnerSilent { node: NodeId(5) }));
    network.heal();
    network.pass(Duration::from_millis(100));
    network.node(4).is_disk_slow = true;
    for number in 0..3 {
        network.propose(1, &format!("{number}"));
    }
    network.stabilize();
    let behind = ChangeError::LearnerBehind { node: NodeId(4), lag: 3, limit: 2 };
    assert_eq!(change(&mut network, 1, &[promote(4)]), Err(behind));
    network.finish_write(4);
    network.stabilize();
    network.isolate(4);
    network.pass(SECOND);
    assert_eq!(
        change(&mut network, 1, &[promote(4)]),
        Err(ChangeError::LearnerSilent { node: NodeId(4) })
    );
    network.heal();
    network.node(4).is_disk_slow = false;
    network.pass(Duration::from_millis(100));
    change(&mut network, 1, &[promote(4)]).unwrap();
}

#[test]
pub(super) fn an_id_is_never_used_again() {
    let mut network = three();
    with_learners(&mut network, &[7]);
    change(&mut network, 1, &[remove(7)]).unwrap();
    network.stabilize();
    let used = |node| Err(ChangeError::IdUsed { node: NodeId(node), highest_id: NodeId(7) });
    assert_eq!(change(&mut network, 1, &[add(7)]), used(7));
    assert_eq!(change(&mut network, 1, &[add(5)]), used(5), "nor one that was passed over");
    // Neither a snapshot nor a restart forgets it.
    assert!(network.take_snapshot(1));
    network.crash(1);
    network.restart(1);
    let leader = network.elect();
    assert_eq!(change(&mut network, leader, &[add(7)]), used(7));
    change(&mut network, leader, &[add(8)]).unwrap();
}

#[test]
fn impossible_changes_are_refused_by_name() {
    let mut network = three();
    assert_eq!(
        change(&mut network, 2, &[add(4)]),
        Err(ChangeError::NotLeader { leader: Some(NodeId(1)) })
    );
    let before = network.core(1).last_index();
    assert_eq!(change(&mut network, 1, &[]), Err(ChangeError::NothingChanges));
    assert_eq!(
        change(&mut network, 1, &[remove(9)]),
        Err(ChangeError::UnknownNode { node: NodeId(9) })
    );
    assert_eq!(network.core(1).last_index(), before);
}

#[test]
fn a_new_node_is_sent_a_snapshot_where_the_log_begins_later() {
    let mut network = three();
    for _ in 0..2 {
        for number in 0..5 {
            network.propose(1, &format!("{number}"));
        }
        network.stabilize();
        assert!(network.take_snapshot(1));
    }
    assert!(network.core(1).terms().base() > Index(0));
    network.join(4);
    let added = change(&mut network, 1, &[add(4)]).unwrap();
    network.pass(SECOND);
    assert_eq!((network.node(4).installed, network.core(4).commit()), (1, added.last));
    change(&mut network, 1, &[promote(4)]).unwrap();
    network.stabilize();
    assert!(network.core(4).configuration().is_voter(NodeId(4)));
}

/// Found by the simulator: a node that joined has the log from its beginning, but not the
/// initial configuration.
#[test]
fn a_joiner_takes_no_snapshot_without_a_configuration() {
    let mut network = three();
    network.propose(1, "x");
    network.stabilize();
    network.join(4);
    network.node(4).is_disk_slow = true;
    let added = change(&mut network, 1, &[add(4)]).unwrap();
    network.stabilize();
    network.finish_write(4);
    network.stabilize();
    while network.core(4).applied() < added.last {
        assert!(!network.take_snapshot(4), "up to {}", network.core(4).applied());
        network.pass(Duration::from_millis(50));
        network.finish_write(4);
    }
    assert!(network.take_snapshot(4));
    assert_eq!(network.core(4).snapshot().unwrap().configuration, *network.core(1).configuration());
}

#[test]
fn a_cluster_grows_from_one_and_shrinks_to_one_again() {
    let mut network = Network::new(1);
    network.pass(Duration::ZERO);
    for id in 2..=5 {
        network.join(id);
        change(&mut network, 1, &[add(id)]).unwrap();
        network.pass(Duration::from_millis(100));
        change(&mut network, 1, &[promote(id)]).unwrap();
        network.pass(Duration::from_millis(100));
    }
    assert_eq!(ids(&network.core(5).configuration().voters), [1, 2, 3, 4, 5]);
    for id in 2..=5 {
        change(&mut network, 1, &[remove(id)]).unwrap();
        network.pass(Duration::from_millis(100));
        assert!(network.core(id).is_removed());
    }
    assert_eq!(change(&mut network, 1, &[remove(1)]), Err(ChangeError::NoVoters));
    let proposed = network.propose(1, "x");
    network.stabilize();
    assert_eq!(network.core(1).commit(), proposed.last);
    assert_eq!(network.core(1).role_deadline(), None, "alone, it waits for nothing");
}

#[test]
fn a_new_voter_waits_a_full_timeout_for_a_leader() {
    let mut network = Network::new(3);
    network.join(4);
    network.now = network.now.after(10 * SECOND);
    let configuration =
        Configuration::of_voters((1..=4).map(|node| (NodeId(node), Member::default())));
    let payload = Payload::Configuration(Box::new(configuration));
    let entries = vec![Entry { payload, ..super::network::entry(1, 1) }];
    let append = Append::default().entries(entries);
    let body = append.echo(Echo::of_round(1).with_promise()).into();
    network.deliver(Message { from: NodeId(1), to: NodeId(4), term: Term(1), body });
    let timeout = network.core(4).config().election_timeout.min;
    assert!(network.core(4).role_deadline() >= Some(network.now.after(timeout)));
}

#[test]
fn a_restarted_node_goes_on_with_the_configuration_of_its_log() {
    let mut network = three();
    with_learners(&mut network, &[4, 5]);
    change(&mut network, 1, &[promote(4), promote(5)]).unwrap();
    network.pass(Duration::from_millis(100));
    let before: Vec<Configuration> =
        (1..=5).map(|id| network.core(id).configuration().clone()).collect();
    assert_eq!(ids(&before[0].voters), [1, 2, 3, 4, 5]);
    for id in 1..=5 {
        network.crash(id);
        network.restart(id);
    }
    let after: Vec<Configuration> =
        (1..=5).map(|id| network.core(id).configuration().clone()).collect();
    assert_eq!(before, after);
    network.elect();
    let is_voter = |core: &Core| core.configuration().is_voter(core.id());
    assert!((1..=5).all(|id| is_voter(network.core(id))));
}

/// Node 3 is dead; without node 2 the leader could commit nothing.
#[test]
pub(super) fn a_change_leaves_a_quorum_that_answers() {
    let mut network = Network::new(3);
    let leader = network.elect();
    network.stabilize();
    let (alive, dead) = (leader % 3 + 1, (leader + 1) % 3 + 1);
    network.isolate(dead);
    network.pass(Duration::from_secs(2));
    assert_eq!(network.leader(), Some(leader));
    let refused = change(&mut network, leader, &[MemberChange::Remove(NodeId(alive))]);
    assert_eq!(refused, Err(ChangeError::NoQuorum { silent: vec![NodeId(dead)] }));
    change(&mut network, leader, &[MemberChange::Remove(NodeId(dead))]).unwrap();
    network.pass(Duration::from_secs(1));
    assert_eq!(network.leader(), Some(leader));
    assert_eq!(network.core(leader).configuration().voters.len(), 2);
}

/// The leader leaves it with its next step; a change that came before that step would skip it.
#[test]
fn a_joint_configuration_is_left_before_another_change() {
    let (mut network, joint) = replacing_two();
    network.heal();
    for _ in 0..1_000 {
        match network.wire.pop_front() {
            Some(message) if message.to == NodeId(1) => {
                let now = network.clock();
                network.node(1).core.handle_message(now, message);
                if network.core(1).commit() >= joint {
                    break;
                }
                network.with_core(1, |_, _| {});
            }
            Some(message) => network.deliver(message),
            None if (1..=5).any(|id| network.finish_write(id)) => {}
            None => network.campaign(1),
        }
    }
    assert_eq!(network.core(1).commit(), joint);
    let now = network.clock();
    let refused = network.node(1).core.change_membership(now, &[add(6)]);
    assert_eq!(refused, Err(ChangeError::Joint { index: joint }));
}

#[test]
fn a_voter_that_has_never_answered_makes_no_quorum() {
    let mut network = Network::new(3);
    network.isolate(3);
    network.campaign(1);
    network.stabilize();
    assert_eq!(network.core(1).commit(), Index(1));
    let refused = change(&mut network, 1, &[remove(2)]);
    assert_eq!(refused, Err(ChangeError::NoQuorum { silent: vec![NodeId(3)] }));
}
