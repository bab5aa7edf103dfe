//! Requests over changes of leader, and a state machine at the start of its node.

use super::*;

/// The core fails a read when its leader falls; the replica repeats it with the next leader.
#[test]
fn a_read_outlives_the_leader_that_was_asked() {
    let mut cluster = Cluster::led_by(0, 3, Limits::default());
    cluster.submit(0, 1, write("a"));
    cluster.run();
    cluster.isolate(0);
    cluster.submit(1, 2, read());
    cluster.run();
    assert_eq!(cluster.take_replies(1), [], "the request does not reach the leader");
    let mut cluster = cluster.elect(2);
    cluster.pass(Duration::from_millis(100), &[2]);
    assert_eq!(cluster.take_replies(1), [(2, answer("1"))]);
}

#[test]
fn a_start_with_a_snapshot_restores_it_before_anything_else() {
    let now = Now { monotonic: Time(1_000_000_000), wall: Stamp(1) };
    let initial_configuration = Configuration::of_voters([(id(0), Member::default())]);
    let mut terms = TermTable::new();
    (1..=3).for_each(|index| terms.append(Index(index), crate::types::Term(1)));
    let (index, term) = (Index(2), crate::types::Term(1));
    let configuration = initial_configuration.clone();
    let snapshot = SnapshotMeta { index, term, stamp: Stamp(1), configuration, digest: None };
    let hard_state = HardState { term, ..HardState::default() };
    let saved = Saved {
        hard_state,
        initial_configuration,
        snapshot: Some(snapshot),
        terms,
        ..Saved::default()
    };
    let mut replica = Replica::new(ReplicaConfig::new(Config::new(id(0))), saved, now).unwrap();
    let effects = std::iter::from_fn(|| replica.poll());
    let mut jobs = effects.filter_map(|effect| match effect {
        Effect::Machine(job) => Some(job),
        _ => None,
    });
    let first = jobs.next();
    assert!(matches!(&first, Some(MachineJob::Restore(meta)) if meta.index == index), "{first:?}");
}
