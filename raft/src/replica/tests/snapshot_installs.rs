//! The effect of a leader's snapshot on pending requests.

use super::*;
use crate::core::{InstallSnapshot, WriteChunk};
use crate::types::{Body, Chunk, Echo, Message, Term};

/// The successor of node 1 sends it a snapshot up to `index`, in one piece.
///
/// Returns the snapshot that node 1's state machine is asked to restore.
pub(super) fn install(cluster: &mut Cluster, index: u64) -> SnapshotMeta {
    let core = cluster.nodes[0].replica.core();
    let (term, configuration) = (core.term().next(), core.configuration().clone());
    let meta =
        SnapshotMeta { index: Index(index), term, stamp: Stamp(1), configuration, digest: None };
    receive(cluster, term, meta)
}

/// Node 2, the leader of `term`, sends node 1 this snapshot in one piece.
///
/// Returns the snapshot that node 1's state machine is asked to restore.
pub(super) fn receive(cluster: &mut Cluster, term: Term, meta: SnapshotMeta) -> SnapshotMeta {
    let now = cluster.now;
    let Node { replica, replies, .. } = &mut cluster.nodes[0];
    let data = Bytes::from_static(b"the content of a snapshot");
    let total_bytes = data.len() as u64;
    let chunk = Chunk { offset: 0, total_bytes, data };
    let body =
        Body::InstallSnapshot { meta: meta.into(), chunk, echo: Echo::of_round(1).with_promise() };
    let message = PeerMessage::Raft(Message { from: id(1), to: id(0), term, body });
    replica.handle_message(now, id(1), message);
    loop {
        let done = match replica.poll().expect("the state machine is restored") {
            Effect::Storage(Job::Write(write)) => Done::Written { sequence: write.sequence },
            Effect::Storage(Job::WriteChunk(WriteChunk { id, .. })) => {
                Done::ChunkWritten { id, received_bytes: total_bytes }
            }
            Effect::Storage(Job::InstallSnapshot(InstallSnapshot { meta, .. })) => {
                Done::SnapshotInstalled { index: meta.index, is_valid: true }
            }
            Effect::Machine(MachineJob::Restore(meta)) => return meta,
            Effect::Reply { id, outcome } => {
                replies.push((id.0, outcome));
                continue;
            }
            _ => continue,
        };
        replica.handle_done(now, done);
    }
}

/// The successor's snapshot covers the indexes of two of a former leader's three commands.
///
/// Those two may be included in it. The third is lost for certain.
#[test]
pub(crate) fn commands_replaced_by_a_snapshot_are_unknown() {
    let mut cluster = Cluster::led_by(0, 3, Limits::default());
    cluster.isolate(0);
    let last = cluster.nodes[0].replica.core().last_index().0;
    for (number, text) in [(1, "a"), (2, "b"), (3, "c")] {
        cluster.submit(0, number, write(text));
    }
    cluster.poll(0);
    assert_eq!(cluster.nodes[0].replica.core().last_index(), Index(last + 3));
    let meta = install(&mut cluster, last + 2);
    assert_eq!(meta.index, Index(last + 2));
    assert_eq!(cluster.take_replies(0), []);
    let now = cluster.now;
    cluster.nodes[0].replica.handle_machine_done(now, MachineDone::Restored(meta.clone()));
    cluster.poll(0);
    let overtaken = Outcome::Unknown(Doubt::LogReplaced);
    let lost = Outcome::Refused(Refusal::Superseded);
    assert_eq!(cluster.take_replies(0), [(1, overtaken.clone()), (2, overtaken), (3, lost)]);
    assert_eq!(cluster.nodes[0].replica.status().pending_requests, 0);
    assert_eq!(cluster.nodes[0].replica.status().applied, meta.index);
}

/// Their outcomes could not be sent; kept, they would take the slots of others.
#[test]
fn requests_of_a_peer_go_with_its_link() {
    let mut cluster = Cluster::led_by(0, 3, Limits::default());
    cluster.cut.extend([(0, 1), (0, 2)]);
    cluster.submit(1, 1, write("a"));
    cluster.submit(2, 2, write("b"));
    cluster.submit(0, 3, write("c"));
    cluster.run();
    assert_eq!(cluster.nodes[0].replica.status().pending_requests, 3);
    let now = cluster.now;
    cluster.nodes[0].replica.handle_disconnected(now, id(1));
    assert_eq!(cluster.nodes[0].replica.status().pending_requests, 2);
    assert_eq!(cluster.nodes[0].replica.status().pending_bytes, 2);
    cluster.cut.clear();
    cluster.pass(Duration::from_millis(60), &[0]);
    assert_eq!(cluster.take_replies(0), [(3, answer("c"))]);
    assert_eq!(cluster.take_replies(2), [(2, answer("b"))]);
    assert_eq!(cluster.take_replies(1), [], "its answer would belong to an earlier link");
    assert_eq!(cluster.nodes[0].machine.machine().commands, [b"c", b"a", b"b"]);
}
