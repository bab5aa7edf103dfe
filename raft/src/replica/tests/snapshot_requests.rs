//! Snapshots on request.

use super::*;
use crate::types::Index;

/// A cluster of one whose snapshots the test writes.
struct Solo {
    cluster: Cluster,
    being_written: Vec<Index>,
}

impl Solo {
    fn new() -> Solo {
        let cluster = Cluster::led_by(0, 1, Limits::default());
        Solo { cluster, being_written: Vec::new() }
    }

    fn submit(&mut self, number: u64, request: Request) {
        self.cluster.submit(0, number, request);
        self.poll();
    }

    fn poll(&mut self) {
        let now = self.cluster.now;
        let Node { replica, machine, replies, .. } = &mut self.cluster.nodes[0];
        while let Some(effect) = replica.poll() {
            match effect {
                Effect::Storage(Job::Write(write)) => {
                    replica.handle_done(now, Done::Written { sequence: write.sequence });
                }
                Effect::Storage(Job::TakeSnapshot { meta, .. }) => {
                    self.being_written.push(meta.index)
                }
                Effect::Machine(job) => {
                    let mut host = Host { content: None, now };
                    machine.run(job, &mut host, &mut |done| replica.handle_machine_done(now, done));
                }
                Effect::Reply { id, outcome } => replies.push((id.0, outcome)),
                _ => {}
            }
        }
    }

    fn written(&mut self) -> Index {
        let index = self.being_written.remove(0);
        let now = self.cluster.now;
        self.cluster.nodes[0].replica.handle_done(now, Done::SnapshotTaken { index });
        self.poll();
        index
    }

    fn last_index(&self) -> Index {
        self.cluster.nodes[0].replica.core().last_index()
    }

    fn replies(&mut self) -> Vec<(u64, Outcome)> {
        std::mem::take(&mut self.cluster.nodes[0].replies)
    }
}

fn done(index: Index) -> Outcome {
    Outcome::Answer(Answer::new("", index))
}

#[test]
fn a_snapshot_includes_what_came_before_the_request() {
    let mut solo = Solo::new();
    solo.submit(1, write("a"));
    let first = solo.last_index();
    solo.submit(2, Request::Snapshot);
    solo.submit(3, Request::Snapshot);
    solo.submit(4, write("b"));
    let second = solo.last_index();
    solo.submit(5, Request::Snapshot);
    solo.replies();
    assert_eq!(solo.being_written, [first], "one at a time");
    assert_eq!(solo.written(), first);
    assert_eq!(solo.replies(), [(2, done(first)), (3, done(first))]);
    assert_eq!(solo.written(), second);
    assert_eq!(solo.replies(), [(5, done(second))]);
    // There is one already.
    solo.submit(6, Request::Snapshot);
    assert_eq!(solo.replies(), [(6, done(second))]);
    assert_eq!(solo.being_written, []);
}

#[test]
fn a_snapshot_that_cannot_be_written_is_refused_by_cause() {
    let mut solo = Solo::new();
    solo.submit(1, write("a"));
    solo.submit(2, Request::Snapshot);
    solo.replies();
    let (now, index) = (solo.cluster.now, solo.being_written.remove(0));
    solo.cluster.nodes[0].replica.handle_snapshot_failure(now, index, &broken());
    solo.poll();
    let replies = solo.replies();
    let [(2, Outcome::Refused(Refusal::Declined { reason, is_final: false }))] = &replies[..]
    else {
        panic!("{replies:?}");
    };
    assert!(reason.contains("panicked"), "{reason}");
    // The next one is tried at once: the operator may have made room before the request.
    solo.submit(3, Request::Snapshot);
    assert_eq!(solo.written(), index);
    assert_eq!(solo.replies(), [(3, done(index))]);
}

#[test]
fn a_snapshot_that_takes_too_long_is_unknown() {
    let mut solo = Solo::new();
    solo.submit(1, write("a"));
    solo.submit(2, Request::Snapshot);
    solo.replies();
    solo.cluster.now.monotonic = solo.cluster.now.monotonic.after(Duration::from_secs(5));
    let now = solo.cluster.now;
    solo.cluster.nodes[0].replica.handle_timeout(now);
    solo.poll();
    assert_eq!(solo.replies(), [(2, Outcome::Unknown(Doubt::TimedOut))]);
    solo.written();
    assert_eq!(solo.replies(), []);
}
