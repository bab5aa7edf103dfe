//! Nodes whose state machines have failed: when they are needed all the same.

use std::time::Duration;

use super::network::Network;
use crate::core::Role;

const SECOND: Duration = Duration::from_secs(1);

/// Three nodes of which 1, unfit to lead, alone holds an entry; 3 is down.
fn entry_only_on_a_failed_node() -> Network {
    let mut network = Network::new(3);
    network.campaign(1);
    network.stabilize();
    network.crash(3);
    network.isolate(2);
    let proposed = network.propose(1, "x");
    network.stabilize();
    network.with_core(1, |core, now| core.forbid_leading(now));
    network.pass(SECOND);
    assert_eq!((network.leader(), network.core(1).durable()), (None, proposed.last));
    assert!(network.core(2).last_index() < proposed.last);
    network
}

/// The rule "a node whose state machine has failed does not campaign" left this cluster, of which a
/// majority is up, without a leader for as long as node 3 was away.
#[test]
pub(super) fn a_failed_node_that_alone_holds_an_entry_gives_it_away() {
    let mut network = entry_only_on_a_failed_node();
    network.heal();
    for _ in 0..1000 {
        if network.core(1).campaigns_to_hand_over() {
            break;
        }
        network.pass(SECOND / 100);
        assert!(network.core(2).last_index() < network.core(1).last_index());
    }
    assert!(network.core(1).campaigns_to_hand_over());
    network.pass(SECOND * 3);
    assert_eq!(network.leader(), Some(2));
    assert_eq!(network.core(2).commit(), network.core(1).last_index(), "the entry is kept");
    assert!(!network.core(1).campaigns_to_hand_over());
    // Its time is over: it lets node 2 be.
    let term = network.core(2).term();
    network.pass(SECOND * 3);
    assert_eq!((network.leader(), network.core(2).term()), (Some(2), term));
    let proposed = network.propose(2, "y");
    network.stabilize();
    assert_eq!(network.core(1).commit(), proposed.last);
}

#[test]
fn a_failed_node_without_a_refused_candidate_does_not_campaign() {
    let mut network = entry_only_on_a_failed_node();
    network.pass(SECOND * 3);
    assert_eq!(network.core(1).role(), Role::Follower);
    // One that is fit again campaigns as ever.
    network.with_core(1, |core, now| core.allow_leading(now));
    network.pass(SECOND * 3);
    assert_eq!(network.core(1).role(), Role::PreCandidate);
}
