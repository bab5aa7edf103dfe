//! Membership changes and leadership transfers: the outcome of each, and its time.

use super::*;
use crate::types::{DiskId, FeatureLevel, MemberChange};

fn change(changes: &[MemberChange]) -> Request {
    Request::Admin(AdminRequest::ChangeMembership(changes.to_vec()))
}

fn transfer(to: Option<usize>) -> Request {
    Request::Admin(AdminRequest::TransferLeadership(to.map(id)))
}

fn add(place: u64) -> MemberChange {
    let member = Member {
        disk: DiskId(place.into()),
        address: format!("host:{place}"),
        priority: 0,
        ..Member::default()
    };
    MemberChange::AddLearner { node: NodeId(place), member }
}

fn done() -> Outcome {
    answer("")
}

/// The reason, and whether it is final, of the only reply.
fn declined(replies: &[(u64, Outcome)]) -> (&str, bool) {
    match replies {
        [(_, Outcome::Refused(Refusal::Declined { reason, is_final }))] => (reason, *is_final),
        other => panic!("{other:?}"),
    }
}

fn voters(cluster: &Cluster, place: usize) -> Vec<u64> {
    cluster.nodes[place].replica.core().configuration().voters.iter().map(|node| node.0).collect()
}

#[test]
fn any_node_takes_a_change_and_retries_it() {
    let mut cluster = Cluster::led_by(0, 4, Limits::default());
    // Submitted at once to three nodes, made one after the other.
    cluster.submit(1, 10, change(&[MemberChange::Demote(id(3))]));
    cluster.submit(2, 11, change(&[MemberChange::Remove(id(2))]));
    cluster.submit(0, 12, change(&[add(9)]));
    cluster.run();
    assert_eq!(cluster.take_replies(1), [(10, done())]);
    assert_eq!(cluster.take_replies(0), [(12, done())]);
    assert_eq!(voters(&cluster, 0), [1, 2]);
    // A node that removes itself gets the answer, or at least no refusal.
    let replies = cluster.take_replies(2);
    assert!(matches!(replies[..], [(11, Outcome::Answer(_))] | []), "{replies:?}");
}

#[test]
fn a_joint_change_is_answered_when_leaving_it_is_committed() {
    let mut cluster = Cluster::led_by(0, 5, Limits::default());
    cluster.submit(0, 10, change(&[MemberChange::Remove(id(3)), MemberChange::Remove(id(4))]));
    cluster.poll(0);
    assert!(cluster.nodes[0].replica.core().configuration().is_joint());
    while let Some((from, to, message)) = cluster.messages.pop_front() {
        cluster.nodes[to].replica.handle_message(cluster.now, id(from), message);
        cluster.poll(to);
        let core = cluster.nodes[0].replica.core();
        if !cluster.nodes[0].replies.is_empty() {
            assert!(
                !core.configuration().is_joint() && core.configuration_index() <= core.commit()
            );
        }
    }
    assert_eq!(cluster.take_replies(0), [(10, done())]);
    assert_eq!(voters(&cluster, 0), [1, 2, 3]);
}

#[test]
fn impossible_changes_are_refused_at_once_others_later() {
    let mut cluster = Cluster::led_by(0, 3, Limits::default());
    cluster.submit(1, 10, change(&[MemberChange::Remove(NodeId(9))]));
    cluster.run();
    let replies = cluster.take_replies(1);
    let (reason, is_final) = declined(&replies);
    assert!(reason.contains("node 9 is not a member") && is_final, "{reason}");
    cluster.submit(0, 11, change(&[add(9)]));
    cluster.run();
    assert_eq!(cluster.take_replies(0), [(11, done())]);
    // The learner has never been connected, but may still be.
    cluster.messages.clear();
    cluster.submit(0, 12, change(&[MemberChange::Promote(NodeId(9))]));
    let deadline = cluster.now.monotonic.after(Duration::from_secs(5));
    cluster.poll(0);
    assert!(cluster.take_replies(0).is_empty());
    cluster.now.monotonic = deadline;
    let now = cluster.now;
    cluster.nodes[0].replica.handle_timeout(now);
    cluster.poll(0);
    let replies = cluster.take_replies(0);
    let (reason, is_final) = declined(&replies);
    assert!(reason.contains("node 9 has not answered") && !is_final, "{reason}");
}

#[test]
fn a_replaced_change_is_refused_a_cut_off_one_is_unknown() {
    let mut cluster = Cluster::led_by(0, 3, Limits::default());
    cluster.isolate(0);
    cluster.submit(0, 10, change(&[MemberChange::Demote(id(2))]));
    cluster.run();
    // The other two continue without it.
    let mut cluster = cluster.elect(1);
    cluster.submit(1, 11, write("a"));
    cluster.run();
    assert!(cluster.take_replies(0).is_empty());
    cluster.cut.clear();
    cluster.pass(Duration::from_millis(400), &[1]);
    assert_eq!(cluster.take_replies(0), [(10, Outcome::Refused(Refusal::Superseded))]);
    assert_eq!(voters(&cluster, 0), [1, 2, 3]);

    cluster.cut.insert((1, 2));
    cluster.submit(2, 12, change(&[MemberChange::Demote(id(0))]));
    cluster.run();
    let now = cluster.now;
    cluster.nodes[2].replica.handle_disconnected(now, id(1));
    cluster.run();
    assert_eq!(cluster.take_replies(2), [(12, Outcome::Unknown(Doubt::LinkBroken))]);
}

#[test]
fn a_transfer_is_answered_when_its_target_leads() {
    let mut cluster = Cluster::led_by(0, 3, Limits::default());
    cluster.submit(2, 10, transfer(Some(1)));
    cluster.submit(0, 11, write("a"));
    cluster.submit(2, 12, write("b"));
    cluster.run();
    assert!(cluster.nodes[1].replica.core().is_leader());
    cluster.pass(Duration::from_millis(60), &[1]);
    // The old leader answers the transfer as its last act.
    let replies = cluster.take_replies(2);
    assert!(replies.contains(&(10, done())), "{replies:?}");
    assert_eq!(cluster.take_replies(0), [(11, answer("a"))]);
    // To itself, or without a suitable target.
    cluster.submit(1, 13, transfer(Some(1)));
    cluster.run();
    let replies = cluster.take_replies(1);
    assert!(declined(&replies).1, "{replies:?}");
    cluster.submit(1, 14, transfer(None));
    cluster.run();
    assert_eq!(cluster.take_replies(1), [(14, done())]);
}

#[test]
fn a_failed_or_replaced_transfer_is_refused() {
    let mut cluster = Cluster::led_by(0, 3, Limits::default());
    cluster.cut.insert((0, 1));
    cluster.submit(0, 10, transfer(Some(1)));
    cluster.submit(0, 11, write("a"));
    cluster.run();
    cluster.pass(Duration::from_millis(600), &[0]);
    let replies = cluster.take_replies(0);
    assert!(replies.contains(&(11, answer("a"))), "{replies:?}");
    let failed: Vec<_> = replies.into_iter().filter(|(number, _)| *number == 10).collect();
    assert!(declined(&failed).0.contains("has not taken over in time"), "{failed:?}");
    cluster.submit(0, 12, transfer(Some(1)));
    cluster.submit(0, 13, transfer(Some(2)));
    cluster.run();
    let replies = cluster.take_replies(0);
    assert!(replies.contains(&(13, done())), "{replies:?}");
    let replaced: Vec<_> = replies.into_iter().filter(|(number, _)| *number == 12).collect();
    assert!(declined(&replaced).0.contains("replaced by one to node 3"), "{replaced:?}");
}

#[test]
fn a_removed_node_refuses_everything_and_says_why() {
    let mut cluster = Cluster::led_by(0, 3, Limits::default());
    // It misses its removal.
    cluster.isolate(2);
    cluster.submit(0, 10, change(&[MemberChange::Remove(id(2))]));
    cluster.run();
    assert_eq!(cluster.take_replies(0), [(10, done())]);
    cluster.submit(2, 11, read());
    cluster.submit(2, 12, write("a"));
    let now = cluster.now;
    cluster.nodes[2].replica.handle_disconnected(now, id(0));
    cluster.submit(2, 13, change(&[MemberChange::Promote(id(2))]));
    cluster.submit(2, 14, write("b"));
    cluster.poll(2);
    // Another node reports the removal.
    cluster.nodes[2].replica.handle_removed(now);
    cluster.nodes[2].replica.handle_removed(now);
    cluster.submit(2, 15, read());
    cluster.poll(2);
    assert!(cluster.nodes[2].replica.status().is_removed);
    let replies = cluster.take_replies(2);
    for number in [11, 13, 14, 15] {
        assert!(
            replies.contains(&(number, Outcome::Refused(Refusal::Removed))),
            "{number}: {replies:?}"
        );
    }
    // A leader that is removed learns of it at the commit.
    cluster.submit(1, 16, change(&[MemberChange::Remove(id(0))]));
    cluster.run();
    assert_eq!(cluster.take_replies(1), [(16, done())]);
    assert!(
        cluster.nodes[0].replica.status().is_removed && cluster.nodes[1].replica.core().is_leader()
    );
}

#[test]
fn the_feature_level_rises_once_every_version_is_known() {
    let mut cluster = Cluster::led_by(0, 3, Limits::default());
    let level = FeatureLevel::CURRENT;
    let enable = || change(&[MemberChange::EnableFeatures(level)]);
    let ask = |cluster: &mut Cluster, number| {
        cluster.submit(0, number, enable());
        cluster.pass(Duration::from_millis(5_100), &[0]);
        cluster.take_replies(0)
    };
    cluster.nodes[0].replica.note_feature_level(id(1), level);
    let replies = ask(&mut cluster, 10);
    let (reason, is_final) = declined(&replies);
    assert!(reason.contains("node 3 has not been connected") && !is_final, "{reason}");
    cluster.nodes[0].replica.note_feature_level(id(2), FeatureLevel::BASE);
    let replies = ask(&mut cluster, 11);
    let (reason, is_final) = declined(&replies);
    assert!(reason.contains("node 3") && is_final, "{reason}");
    // Its machine was upgraded.
    cluster.nodes[0].replica.note_feature_level(id(2), level);
    cluster.submit(1, 12, enable());
    cluster.run();
    assert_eq!(cluster.take_replies(1), [(12, done())]);
    for node in &cluster.nodes {
        let configuration = node.replica.core().configuration();
        assert_eq!(configuration.feature_level, level);
        assert!(configuration.members.values().all(|member| member.feature_level == level));
    }
    // The level never decreases.
    cluster.submit(0, 13, change(&[MemberChange::EnableFeatures(FeatureLevel::BASE)]));
    cluster.run();
    assert!(declined(&cluster.take_replies(0)).1);
}
