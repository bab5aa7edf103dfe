//! Reads by lease, and stale ones.

use super::*;
use crate::core::Lease;

fn with_lease(core: &mut Config) {
    core.lease = Some(Lease::with_drift_ppm(1_000));
}

#[test]
fn a_lease_read_asks_nobody_while_the_lease_holds() {
    let mut cluster = Cluster::with_core(3, Limits::default(), with_lease).elect(0);
    cluster.submit(0, 1, write("a"));
    cluster.run();
    cluster.pass(Duration::from_millis(60), &[0]);
    cluster.take_replies(0);
    cluster.isolate(0);
    cluster.submit(0, 2, Request::LeaseRead(Bytes::new()));
    cluster.submit(0, 3, read());
    cluster.run();
    assert_eq!(cluster.take_replies(0), [(2, answer("1"))], "the other one waits for a majority");
    cluster.now.monotonic = cluster.now.monotonic.after(Duration::from_millis(250));
    cluster.submit(0, 4, Request::LeaseRead(Bytes::new()));
    cluster.run();
    assert_eq!(cluster.take_replies(0), [], "the lease has expired");
    cluster.cut.clear();
    cluster.pass(Duration::from_millis(100), &[0]);
    assert_eq!(cluster.take_replies(0), [(3, answer("1")), (4, answer("1"))]);
}

/// A driver that read its clock before the read arrived must not make an expired lease look valid.
#[test]
fn an_older_time_after_a_newer_one_does_not_count() {
    let mut cluster = Cluster::with_core(3, Limits::default(), with_lease).elect(0);
    cluster.pass(Duration::from_millis(60), &[0]);
    cluster.isolate(0);
    let before = cluster.now;
    cluster.now.monotonic = before.monotonic.after(Duration::from_millis(260));
    cluster.submit(0, 1, Request::LeaseRead(Bytes::new()));
    cluster.now = before;
    cluster.submit(0, 2, Request::StaleRead(Bytes::new()));
    cluster.run();
    assert_eq!(cluster.take_replies(0), [(2, answer("0"))]);
}

#[test]
fn a_followers_lease_read_waits_for_the_leaders_commit() {
    let mut cluster = Cluster::with_core(3, Limits::default(), with_lease).elect(0);
    cluster.pass(Duration::from_millis(60), &[0]);
    cluster.submit(0, 1, write("a"));
    cluster.run();
    cluster.submit(1, 2, Request::LeaseRead(Bytes::new()));
    cluster.run();
    cluster.pass(Duration::from_millis(60), &[0]);
    assert_eq!(cluster.take_replies(1), [(2, answer("1"))]);
}

#[test]
fn any_node_answers_a_stale_read_from_its_own_state() {
    let mut cluster = Cluster::new(3, Limits::default());
    cluster.submit(1, 1, Request::StaleRead(Bytes::new()));
    cluster.run();
    assert_eq!(cluster.take_replies(1), [(1, answer("0"))], "without any leader");
    let mut cluster = cluster.elect(0);
    cluster.isolate(2);
    cluster.submit(0, 2, write("a"));
    cluster.run();
    cluster.submit(0, 3, Request::StaleRead(Bytes::new()));
    cluster.submit(2, 4, Request::StaleRead(Bytes::new()));
    cluster.run();
    assert_eq!(cluster.take_replies(0), [(2, answer("a")), (3, answer("1"))]);
    assert_eq!(cluster.take_replies(2), [(4, answer("0"))], "old, and declared so");
    let now = cluster.now;
    cluster.nodes[2].replica.handle_storage_failure(now, &broken());
    cluster.submit(2, 5, Request::StaleRead(Bytes::new()));
    cluster.run();
    assert_eq!(cluster.take_replies(2), [(5, Outcome::Refused(Refusal::StorageFailed))]);
}
