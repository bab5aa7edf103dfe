//! What must not cost anything: heartbeats allocate nothing, and an idle cluster says nothing else.

use std::time::Duration;

use super::network::Network;
use crate::core::{Action, Core, Lease};
use crate::types::{Body, Message, Now};

fn only_message(core: &mut Core) -> Message {
    let Some(Action::Send(message)) = core.poll() else { panic!("a message was expected") };
    message
}

#[test]
fn a_heartbeat_sent_received_and_answered_allocates_nothing() {
    let mut network = Network::with(3, |config| config.lease = Some(Lease::with_drift_ppm(1_000)));
    let leader = network.elect();
    network.pass(Duration::from_secs(1));
    let mut followers: Vec<u64> = (1..=3).filter(|&id| id != leader).collect();
    let mut take = |id: u64| network.nodes.remove(&crate::types::NodeId(id)).unwrap().core;
    let mut leader = take(leader);
    let (mut first, mut second) = (take(followers.remove(0)), take(followers.remove(0)));
    let mut beat = || {
        let now = Now { monotonic: leader.poll_timeout().unwrap(), ..Now::default() };
        leader.handle_timeout(now);
        let requests = [only_message(&mut leader), only_message(&mut leader)];
        assert_eq!(leader.poll(), None);
        for request in requests {
            assert!(
                matches!(&request.body, Body::AppendEntries(append) if append.entries.is_empty())
            );
            let follower = if request.to == first.id() { &mut first } else { &mut second };
            follower.handle_message(now, request);
            let answer = only_message(follower);
            assert_eq!(follower.poll(), None);
            leader.handle_message(now, answer);
            assert_eq!(leader.poll(), None);
        }
    };
    beat();
    let allocated = allocation_counter::measure(|| (0..100).for_each(|_| beat()));
    assert_eq!(allocated.count_total, 0);
}

#[test]
fn an_idle_second_is_twenty_heartbeats_and_their_answers() {
    let mut network = Network::new(3);
    network.elect();
    network.pass(Duration::from_secs(1));
    let before = network.delivered;
    network.pass(Duration::from_secs(1));
    assert_eq!(network.delivered - before, 20 * 2 * 2);
}

#[test]
fn equal_histories_are_equal_states() {
    let run = || {
        let mut network = Network::new(3);
        let leader = network.elect();
        network.propose(leader, "x");
        network.pass(Duration::from_secs(2));
        network
    };
    let (one, other) = (run(), run());
    (1..=3).for_each(|id| assert_eq!(one.core(id), other.core(id)));
}

#[test]
fn a_core_is_what_a_model_checker_can_hold() {
    fn holds<T: Clone + Eq + std::hash::Hash + std::fmt::Debug + Send + Sync>() {}
    holds::<Core>();
}
