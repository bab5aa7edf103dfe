//! Every request has an outcome and frees its slot, even if its leader, log or link is gone.

use super::*;
use crate::types::{Body, FollowerReport, Message};

fn forward(cluster: &mut Cluster, request: u64, text: &'static str) {
    let proposal = Bytes::from_static(text.as_bytes()).into();
    let message = PeerMessage::Forward { request, proposal };
    cluster.nodes[0].replica.handle_message(cluster.now, id(1), message);
    cluster.poll(0);
}

/// A leader that is cut off and takes no more commands; `waiting` of its own wait.
fn blocked(waiting: u64) -> Cluster {
    let tune = |core: &mut Config| (core.uncommitted_bytes, core.command_bytes) = (100, 8);
    let limits = Limits { request_bytes: 8, ..Limits::default() };
    let mut cluster = Cluster::with_core(3, limits, tune).elect(0);
    cluster.isolate(0);
    for number in 0..3 + waiting {
        cluster.submit(0, number, write("x"));
        cluster.poll(0);
    }
    cluster
}

/// The refusals that node 1 gets for its forwarded requests when node 0 no longer leads.
fn refusals_when_deposed(cluster: &mut Cluster) -> Vec<(u64, Outcome)> {
    cluster.messages.clear();
    let mut told = Vec::new();
    for _ in 0..100 {
        cluster.now.monotonic = cluster.nodes[0].replica.poll_timeout().unwrap();
        let now = cluster.now;
        cluster.nodes[0].replica.handle_timeout(now);
        cluster.poll(0);
        for (_, _, message) in cluster.messages.drain(..) {
            if let PeerMessage::Forwarded { request, outcome } = message {
                told.push((request, outcome));
            }
        }
        if !cluster.nodes[0].replica.core().is_leader() {
            return told;
        }
    }
    panic!("it still leads");
}

#[test]
fn a_deposed_leader_refuses_forwarded_writes_in_front() {
    let mut cluster = blocked(0);
    forward(&mut cluster, 7, "y");
    let refused = Outcome::Refused(Refusal::NotLeader { leader: None });
    assert_eq!(refusals_when_deposed(&mut cluster), [(7, refused)]);
}

#[test]
fn a_deposed_leader_refuses_forwarded_writes_behind_its_own() {
    let mut cluster = blocked(1);
    forward(&mut cluster, 7, "y");
    let refused = Outcome::Refused(Refusal::NotLeader { leader: None });
    assert_eq!(refusals_when_deposed(&mut cluster), [(7, refused)]);
    assert_eq!(cluster.take_replies(0), [], "its own requests wait for the next leader");
}

#[test]
fn forwarded_writes_free_their_places_when_answered() {
    let limits = Limits { forwarded_requests: 1, ..Limits::default() };
    let mut cluster = Cluster::led_by(0, 3, limits);
    for number in 0..3 {
        cluster.submit(1, number, write("a"));
        cluster.run();
        assert_eq!(cluster.take_replies(1), [(number, answer("a"))]);
    }
}

#[test]
fn a_command_longer_than_a_batch_is_proposed_alone() {
    let limits = Limits { batch_bytes: 50, ..Limits::default() };
    let mut cluster = Cluster::led_by(0, 1, limits);
    let long = "a command that is longer than a whole batch may be";
    cluster.submit(0, 1, write(long));
    cluster.submit(0, 2, write("b"));
    cluster.run();
    assert_eq!(cluster.take_replies(0), [(1, answer(long)), (2, answer("b"))]);
}

/// The core accepts a batch as a whole: one above its bound would never be accepted.
#[test]
fn no_batch_is_longer_than_what_the_core_takes() {
    let tune = |core: &mut Config| (core.uncommitted_bytes, core.command_bytes) = (70, 8);
    let limits = Limits { request_bytes: 8, ..Limits::default() };
    let mut cluster = Cluster::with_core(1, limits, tune).elect(0);
    for number in 0..4 {
        cluster.submit(0, number, write("12345678"));
    }
    cluster.run();
    assert_eq!(cluster.take_replies(0).len(), 4);
}

#[test]
fn a_second_failure_of_the_disk_is_not_reported() {
    let mut cluster = Cluster::led_by(0, 1, Limits::default());
    let (now, events) = (cluster.now, cluster.nodes[0].events);
    for _ in 0..2 {
        cluster.nodes[0].replica.handle_storage_failure(now, &broken());
        cluster.poll(0);
    }
    assert_eq!(cluster.nodes[0].events, events + 1);
}

#[test]
fn an_admin_request_is_open_until_it_is_answered() {
    let mut cluster = Cluster::led_by(0, 3, Limits::default());
    assert!(!cluster.nodes[0].replica.has_admin_requests());
    cluster.submit(
        0,
        1,
        Request::Admin(AdminRequest::ChangeMembership(vec![MemberChange::Demote(id(2))])),
    );
    cluster.poll(0);
    assert!(cluster.nodes[0].replica.has_admin_requests());
    cluster.run();
    assert_eq!(cluster.take_replies(0), [(1, answer(""))]);
    assert!(!cluster.nodes[0].replica.has_admin_requests());
}

#[test]
fn an_address_counts_for_the_size_of_its_change() {
    let update = |address: Option<&str>| {
        let address = address.map(str::to_owned);
        let (node, disk, priority, feature_level) = (id(1), None, None, None);
        let change = MemberChange::Update { node, disk, address, priority, feature_level };
        AdminRequest::ChangeMembership(vec![change]).size_bytes()
    };
    assert_eq!(update(Some("host:1")), update(None) + 6);
}

#[test]
fn a_failed_machine_refuses_writes_and_not_changes() {
    let mut cluster = Cluster::led_by(0, 1, Limits::default());
    let now = cluster.now;
    let failure = MachineFailure {
        callback: MachineCallback::Apply,
        index: Index(1),
        reason: "a test".to_owned(),
        has_panicked: false,
    };
    cluster.nodes[0].replica.handle_machine_done(now, MachineDone::Failed(failure));
    cluster.submit(0, 1, write("a"));
    let refused = Outcome::Refused(Refusal::MachineFailed { index: Index(1) });
    cluster.poll(0);
    assert_eq!(cluster.take_replies(0), [(1, refused)]);
    cluster.submit(0, 2, Request::Admin(AdminRequest::TransferLeadership(None)));
    assert!(cluster.nodes[0].replica.has_admin_requests());
}

#[test]
fn a_reported_forgetful_disk_reaches_the_core() {
    let mut cluster = Cluster::led_by(0, 3, Limits::default());
    let (now, events) = (cluster.now, cluster.nodes[0].events);
    cluster.nodes[0].replica.handle_peer_forgot(now, id(1));
    cluster.poll(0);
    assert!(cluster.nodes[0].events > events, "the leader reports it");
}

#[test]
fn a_leader_takes_the_snapshot_that_a_member_needs() {
    let mut cluster = Cluster::led_by(0, 3, Limits::default());
    let (now, replica) = (cluster.now, &mut cluster.nodes[0].replica);
    let (index, term) = (replica.status().applied, replica.core().term());
    let report = FollowerReport { round: 1, ..FollowerReport::default() };
    let body = Body::SnapshotProgress { index, received_bytes: 0, report };
    let message = Message { from: id(1), to: id(0), term, body };
    replica.handle_message(now, id(1), PeerMessage::Raft(message));
    let mut effects = std::iter::from_fn(|| replica.poll());
    let is_taken = |effect: Effect| match effect {
        Effect::Machine(MachineJob::TakeSnapshot(meta)) => meta.index == index,
        _ => false,
    };
    assert!(effects.any(is_taken));
}

#[test]
fn a_snapshot_follows_as_many_bytes_as_the_setting_says() {
    let limits = Limits { snapshot_every_bytes: 200, ..Limits::default() };
    let mut cluster = Cluster::led_by(0, 1, limits);
    cluster.nodes[0].holds_machine = true;
    for number in 0..10 {
        cluster.submit(0, number, write("x"));
        cluster.poll(0);
    }
    let is_taken = |job: &MachineJob| matches!(job, MachineJob::TakeSnapshot(_));
    assert!(cluster.nodes[0].held.iter().any(is_taken));
}

#[test]
fn the_core_knows_that_a_restored_snapshot_is_applied() {
    let mut cluster = Cluster::led_by(0, 3, Limits::default());
    cluster.isolate(0);
    let last = cluster.nodes[0].replica.core().last_index().0;
    let meta = snapshot_installs::install(&mut cluster, last + 2);
    let now = cluster.now;
    let replica = &mut cluster.nodes[0].replica;
    assert!(replica.core().applied() < meta.index);
    replica.handle_machine_done(now, MachineDone::Restored(meta.clone()));
    assert_eq!(replica.core().applied(), meta.index);
}

/// The change is in the log of a leader that was deposed; its successor's snapshot stands for it.
#[test]
fn a_change_replaced_by_a_snapshot_is_unknown() {
    let overtaken = Outcome::Unknown(Doubt::LogReplaced);
    let superseded = Outcome::Refused(Refusal::Superseded);
    for (beyond, expected) in [(0, superseded), (1, overtaken)] {
        let mut cluster = Cluster::led_by(0, 3, Limits::default());
        cluster.isolate(0);
        cluster.submit(0, 1, write("a"));
        cluster.poll(0);
        let last = cluster.nodes[0].replica.core().last_index().0;
        let (node, disk, address, feature_level) = (id(1), None, None, None);
        let priority = Some(1);
        let change = MemberChange::Update { node, disk, address, priority, feature_level };
        cluster.submit(0, 2, Request::Admin(AdminRequest::ChangeMembership(vec![change])));
        cluster.poll(0);
        assert_eq!(cluster.nodes[0].replica.core().last_index(), Index(last + 1));
        let meta = snapshot_installs::install(&mut cluster, last + beyond);
        let now = cluster.now;
        cluster.nodes[0].replica.handle_machine_done(now, MachineDone::Restored(meta));
        cluster.poll(0);
        let replies = cluster.take_replies(0);
        assert!(replies.contains(&(2, expected.clone())), "{expected:?}: {replies:?}");
    }
}

#[test]
fn a_non_member_may_forward_only_its_own_addition() {
    let mut cluster = Cluster::led_by(0, 3, Limits::default());
    cluster.submit(
        0,
        1,
        Request::Admin(AdminRequest::ChangeMembership(vec![MemberChange::Remove(id(2))])),
    );
    cluster.run();
    let told = |cluster: &mut Cluster, node: NodeId| {
        let proposal = Bytes::from_static(b"x").into();
        let message = PeerMessage::Forward { request: 7, proposal };
        cluster.nodes[0].replica.handle_message(cluster.now, node, message);
        match cluster.nodes[0].replica.poll() {
            Some(Effect::Send { message: PeerMessage::Forwarded { outcome, .. }, .. }) => outcome,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(told(&mut cluster, id(2)), Outcome::Refused(Refusal::Removed));
    let stranger = told(&mut cluster, NodeId(9));
    let is_declined = matches!(stranger, Outcome::Refused(Refusal::Declined { .. }));
    assert!(is_declined, "{stranger:?}");
}

#[test]
fn a_follower_names_its_leader_to_strangers_too() {
    let mut cluster = Cluster::led_by(0, 3, Limits::default());
    let message = PeerMessage::Forward { request: 7, proposal: Bytes::new().into() };
    let (now, replica) = (cluster.now, &mut cluster.nodes[1].replica);
    replica.handle_message(now, NodeId(9), message);
    let outcome = Outcome::Refused(Refusal::NotLeader { leader: Some(id(0)) });
    let message = PeerMessage::Forwarded { request: 7, outcome };
    assert_eq!(replica.poll(), Some(Effect::Send { to: NodeId(9), message }));
}
