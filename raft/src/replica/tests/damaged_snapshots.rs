//! Snapshots whose files are unreadable, as opposed to state machines that refuse them.

use super::snapshot_installs::{install, receive};
use super::*;

fn meta(index: u64) -> SnapshotMeta {
    let configuration = Configuration::of_voters([(id(0), Member::default())]);
    let (index, term, stamp) = (Index(index), crate::types::Term(1), Stamp(1));
    SnapshotMeta { index, term, stamp, configuration, digest: None }
}

/// A file that fails its checksum somewhere, or cannot be opened at all.
struct Rotten {
    head: Option<Vec<u8>>,
    opened: u32,
}

struct FailedChecksum;

impl Read for FailedChecksum {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Err(io::Error::new(io::ErrorKind::InvalidData, "the block's checksum does not match"))
    }
}

impl MachineHost for Rotten {
    fn open_snapshot(&mut self, _: &SnapshotMeta) -> io::Result<Box<dyn Read + '_>> {
        self.opened += 1;
        let head = self.head.as_deref().ok_or(io::ErrorKind::NotFound)?;
        Ok(Box::new(head.chain(FailedChecksum)))
    }
}

fn restore(host: &mut impl MachineHost) -> Vec<&'static str> {
    let mut machine = MachineRunner::new(Journal::default());
    let mut said = Vec::new();
    machine.run(MachineJob::Restore(meta(7)), host, &mut |done| {
        said.push(match done {
            MachineDone::SnapshotDamaged(damaged) if damaged == meta(7) => "damaged",
            MachineDone::Failed(_) => "failed",
            other => panic!("{other:?}"),
        });
    });
    assert!(machine.has_failed());
    said
}

#[test]
fn a_damaged_file_differs_from_a_machine_that_refuses() {
    // Damaged at once, in the sessions, in the state machine's own bytes; missing.
    let mut whole = Vec::new();
    snapshot::encode_content(Box::new(&b"a"[..]), &Sessions::new())
        .read_to_end(&mut whole)
        .unwrap();
    let heads = [Some(vec![]), Some(whole[..2].to_vec()), Some(whole), None];
    for head in heads {
        let mut host = Rotten { head, opened: 0 };
        assert_eq!(restore(&mut host), ["damaged", "failed"]);
        assert_eq!(host.opened, RESTORE_ATTEMPTS);
    }
    // The content has another version, as any other copy of it would.
    let mut host = Host { now: Now::default(), content: Some(vec![1; 100]) };
    assert_eq!(restore(&mut host), ["failed"]);
}

fn failure(meta: &SnapshotMeta) -> MachineFailure {
    let (callback, index) = (MachineCallback::Restore, meta.index);
    MachineFailure { callback, index, reason: "a checksum".to_owned(), has_panicked: false }
}

/// A node's log was replaced by a snapshot, whose file is damaged before the state machine has read
/// it.
#[test]
fn a_snapshot_that_cannot_be_restored_is_replaced_by_the_same() {
    let mut cluster = Cluster::led_by(0, 3, Limits::default());
    cluster.isolate(0);
    let last = cluster.nodes[0].replica.core().last_index().0;
    let meta = install(&mut cluster, last + 5);
    let now = cluster.now;
    let replica = &mut cluster.nodes[0].replica;
    replica.handle_machine_done(now, MachineDone::SnapshotDamaged(meta.clone()));
    replica.handle_machine_done(now, MachineDone::Failed(failure(&meta)));
    assert!(replica.core().status().awaits_snapshot);
    let progress = LoadingProgress::AwaitingSnapshot { index: meta.index };
    assert_eq!(replica.loading_progress(), Some(progress));
    replica.submit(now, RequestId(1), Request::StaleRead(Bytes::new()));
    let reply =
        std::iter::from_fn(|| replica.poll()).find(|effect| matches!(effect, Effect::Reply { .. }));
    let outcome = Outcome::Refused(Refusal::Loading { progress });
    assert_eq!(reply, Some(Effect::Reply { id: RequestId(1), outcome }));
    let term = replica.core().term();
    assert_eq!(receive(&mut cluster, term, meta.clone()), meta);
    let replica = &mut cluster.nodes[0].replica;
    replica.handle_machine_done(now, MachineDone::Restored(meta.clone()));
    let status = replica.status();
    assert_eq!((status.applied, status.machine_failure), (meta.index, None));
    assert!(!status.core.awaits_snapshot);
}

/// A snapshot of a wrong state is replaced once. If the replacement is wrong too, restoring is at
/// fault, and further requests would send snapshots without end.
#[test]
fn a_snapshot_with_a_wrong_state_is_replaced_once() {
    let mut cluster = Cluster::led_by(0, 3, Limits::default());
    cluster.isolate(0);
    let last = cluster.nodes[0].replica.core().last_index().0;
    let meta = install(&mut cluster, last + 5);
    let asks = |cluster: &mut Cluster, meta: &SnapshotMeta| {
        let now = cluster.now;
        let replica = &mut cluster.nodes[0].replica;
        replica.handle_machine_done(now, MachineDone::SnapshotMismatch(meta.clone()));
        replica.handle_machine_done(now, MachineDone::Failed(failure(meta)));
        replica.core().status().awaits_snapshot
    };
    let receives = |cluster: &mut Cluster, meta: &SnapshotMeta| {
        let term = cluster.nodes[0].replica.core().term();
        assert_eq!(receive(cluster, term, meta.clone()), *meta);
    };
    assert!(asks(&mut cluster, &meta));
    receives(&mut cluster, &meta);
    assert!(!asks(&mut cluster, &meta), "the second is wrong, too");
    let now = cluster.now;
    cluster.nodes[0].replica.handle_machine_done(now, MachineDone::Restored(meta.clone()));
    assert!(asks(&mut cluster, &meta), "again after a correct one");
}

/// The state machine tried the one before when the next one was installed already.
#[test]
fn a_damaged_snapshot_that_was_replaced_is_not_asked_for() {
    let mut cluster = Cluster::led_by(0, 3, Limits::default());
    cluster.isolate(0);
    let last = cluster.nodes[0].replica.core().last_index().0;
    let meta = install(&mut cluster, last + 5);
    let older = SnapshotMeta { index: meta.index.previous(), ..meta };
    let now = cluster.now;
    let replica = &mut cluster.nodes[0].replica;
    replica.handle_machine_done(now, MachineDone::SnapshotDamaged(older.clone()));
    replica.handle_machine_done(now, MachineDone::Failed(failure(&older)));
    assert!(!replica.core().status().awaits_snapshot);
}
