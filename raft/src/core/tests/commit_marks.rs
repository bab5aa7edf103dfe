//! What the disks hear of the commit index (RAFT-RULES, 4).

use std::time::Duration;

use super::network::Network;

const HEARTBEAT: Duration = Duration::from_millis(50);

#[test]
fn a_commit_reaches_every_disk_within_a_heartbeat() {
    for nodes in [1, 3] {
        let mut network = Network::new(nodes);
        network.pass(Duration::from_secs(2));
        let leader = network.leader().unwrap();
        let proposed = network.propose(leader, "x");
        network.stabilize();
        // A follower hears of it with the next message; the leader knows it now.
        network.pass(HEARTBEAT + HEARTBEAT);
        for id in 1..=nodes {
            assert_eq!(network.node(id).marks.last(), Some(&proposed.last), "node {id} of {nodes}");
            network.node(id).marks.clear();
        }
        network.pass(20 * HEARTBEAT);
        for id in 1..=nodes {
            assert_eq!(network.node(id).marks, [], "it is noted once");
        }
    }
}

#[test]
fn writes_that_follow_spare_the_commit_mark() {
    let mut network = Network::new(3);
    let leader = network.elect();
    network.pass(Duration::from_secs(1));
    for id in 1..=3 {
        network.node(id).marks.clear();
    }
    for _ in 0..100 {
        network.propose(leader, "x");
        network.pass(HEARTBEAT / 2);
    }
    for id in 1..=3 {
        assert_eq!(network.node(id).marks, [], "node {id}");
    }
}

#[test]
fn a_restart_does_not_repeat_the_commit_mark() {
    let mut network = Network::new(1);
    network.pass(Duration::from_secs(1));
    assert_eq!(network.node(1).marks.len(), 1);
    network.crash(1);
    network.restart(1);
    network.pass(Duration::from_nanos(1));
    assert_eq!(network.node(1).marks.len(), 1);
}
