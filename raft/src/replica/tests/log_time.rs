//! Log time in a replica.

use super::*;

/// After ten hours without any node, commands wait until the new leader knows another clock.
///
/// Stamped with the old time, they would expire ten hours early.
#[test]
pub(crate) fn a_command_waits_until_the_leader_knows_the_time() {
    let mut cluster = Cluster::new(3, Limits::default());
    cluster.now.wall = Stamp(36_000_000);
    let leader = loop {
        let deadline = cluster.nodes[0].replica.poll_timeout().unwrap();
        cluster.now.monotonic = cluster.now.monotonic.max(deadline);
        let now = cluster.now;
        cluster.nodes[0].replica.handle_timeout(now);
        while let Some((from, to, message)) = {
            cluster.poll(0);
            cluster.messages.pop_front()
        } {
            if cluster.nodes[0].replica.core().is_leader() {
                break;
            }
            cluster.nodes[to].replica.handle_message(now, id(from), message);
            cluster.poll(to);
        }
        if cluster.nodes[0].replica.core().is_leader() {
            break &cluster.nodes[0];
        }
    };
    let first = leader.replica.core().last_index();
    cluster.submit(0, 1, Request::OpenSession { ttl_ms: 60_000 });
    cluster.poll(0);
    assert_eq!(cluster.nodes[0].replica.core().last_index(), first, "it waits");
    cluster.run();
    cluster.pass(Duration::from_millis(200), &[0]);
    assert!(matches!(cluster.take_replies(0)[..], [(1, Outcome::Opened(_))]));
    let entry = cluster.nodes[0].replica.core().entry(first.next()).unwrap();
    assert!(entry.stamp >= Stamp(36_000_000), "{entry:?}");
    cluster.submit(0, 2, write("x"));
    cluster.run();
    assert_eq!(cluster.nodes[0].machine.sessions().len(), 1, "it was opened just now");
}
