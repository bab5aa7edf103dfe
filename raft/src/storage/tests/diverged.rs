//! The file `DIVERGED` stays until another snapshot is installed, or no snapshot can be wrong.

use super::snapshots::{content, file_of, meta, run, take, worker_with};
use super::*;
use crate::core::Done;
use crate::storage::disk::{Disk, DiskFile};
use crate::storage::{Completion, Worker};
use crate::types::{Digest, Divergence};

fn divergence(agreed: u64) -> Divergence {
    let digest = Digest { index: Index(4), version: 1, value: 9 };
    Divergence { digest, majority: 7, agreed: Index(agreed) }
}

fn mark(worker: &mut Worker<TestDisk>, agreed: u64) {
    let completions = run(worker, [Job::MarkDiverged(divergence(agreed))]);
    assert_eq!(completions, [Completion::Done(Done::DivergenceMarked)]);
}

/// Installs another node's snapshot of this index.
fn install(worker: &mut Worker<TestDisk>, index: u64) -> bool {
    let meta = SnapshotMeta { digest: None, ..meta(index, 1) };
    let data = Bytes::from(file_of(&meta, &content(Index(index))));
    let chunk = Chunk { offset: 0, total_bytes: data.len() as u64, data };
    let written = write_chunk(1, &meta, chunk);
    let done = run(worker, [written, install_snapshot(99, &meta)]);
    done.contains(&Completion::Done(Done::SnapshotInstalled {
        index: Index(index),
        is_valid: true,
    }))
}

#[test]
fn a_diverged_snapshot_is_known_after_a_restart() {
    let disk = TestDisk::default();
    let mut worker = worker_with(&disk, 5);
    take(&mut worker, 4, 1, b"wrong");
    mark(&mut worker, 3);
    disk.lose_unsynced();
    let (log, recovered) = reopen(&disk);
    assert_eq!(recovered.saved.divergence, Some(divergence(3)));
    assert_eq!(recovered.saved.snapshot, Some(meta(4, 1)), "the log begins after it");
    assert!(log.is_diverged());
}

#[test]
fn a_snapshot_before_the_last_agreement_is_not_diverged() {
    let disk = TestDisk::default();
    let mut worker = worker_with(&disk, 5);
    take(&mut worker, 4, 1, b"right");
    mark(&mut worker, 4);
    let (log, recovered) = reopen(&disk);
    assert_eq!((recovered.saved.divergence, log.is_diverged()), (None, false));
    drop(log);
    // And so is the next one.
    let mut worker = Worker::new(reopen(&disk).0);
    take(&mut worker, 5, 1, b"right");
    assert_eq!(reopen(&disk).1.saved.divergence, None);
}

#[test]
fn another_nodes_snapshot_removes_the_mark() {
    for index in [4, 5] {
        let disk = TestDisk::default();
        let mut worker = worker_with(&disk, 6);
        take(&mut worker, 4, 1, b"wrong");
        mark(&mut worker, 3);
        assert!(install(&mut worker, index), "a snapshot of {index}");
        assert!(!worker.log().is_diverged());
        disk.lose_unsynced();
        let (mut log, recovered) = reopen(&disk);
        assert_eq!(recovered.saved.divergence, None);
        let reader = log.snapshot_reader().unwrap().unwrap();
        assert_eq!(snapshots::read_to_end(reader), content(Index(index)));
        assert_eq!(log.last_index(), Index(6), "the log stays");
    }
    // An older snapshot is not installed.
    let disk = TestDisk::default();
    let mut worker = worker_with(&disk, 6);
    take(&mut worker, 4, 1, b"own");
    assert!(!install(&mut worker, 3));
}

/// After a crash at any operation, either the mark exists or the snapshot is another node's.
#[test]
fn no_crash_restores_a_diverged_state() {
    for operations in 0..40 {
        for durable in [false, true] {
            let disk = TestDisk::default();
            let mut worker = worker_with(&disk, 6);
            take(&mut worker, 4, 1, b"wrong");
            mark(&mut worker, 3);
            disk.fail_after(Some(operations));
            let is_done = install(&mut worker, 4);
            disk.fail_after(None);
            drop(worker);
            if durable {
                disk.lose_unsynced();
            }
            let (mut log, recovered) = reopen(&disk);
            let is_right = snapshots::read_to_end(log.snapshot_reader().unwrap().unwrap())
                == content(Index(4));
            assert!(
                is_right || recovered.saved.divergence.is_some(),
                "after {operations} operations"
            );
            assert!(!is_done || recovered.saved.divergence.is_none());
        }
    }
}

/// The node crashed while it wrote the mark, and has not reported it.
#[test]
fn an_unfinished_mark_is_removed() {
    let mut disk = TestDisk::default();
    let mut worker = worker_with(&disk, 5);
    take(&mut worker, 4, 1, b"right");
    drop(worker);
    disk.create("DIVERGED.new", 0).unwrap().write_at(b"half of", 0).unwrap();
    let (log, recovered) = reopen(&disk);
    assert_eq!((recovered.saved.divergence, log.is_diverged()), (None, false));
    assert!(!disk.names().iter().any(|name| name.starts_with("DIVERGED")));
}
