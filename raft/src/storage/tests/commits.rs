//! The commit index in the log never exceeds its last entry, and never falls.

use super::*;
use crate::core::Done;
use crate::storage::body;
use crate::storage::frame::{self, FrameHeader, FrameKind};
use crate::storage::{Completion, Job, StorageError, Worker};

fn written(last: u64) -> (TestDisk, Log<TestDisk>) {
    let disk = TestDisk::default();
    let mut log = create(&disk);
    log.append(&entries((1..=last).map(|index| command(index, 1, 20)).collect())).unwrap();
    log.sync().unwrap();
    (disk, log)
}

fn saved(disk: &TestDisk) -> Index {
    reopen(&disk.copy()).1.saved.commit
}

#[test]
fn a_mark_holds_a_commit_index_that_no_frame_holds() {
    let (disk, log) = written(5);
    let mut worker = Worker::new(log);
    let idle = |worker: &mut Worker<TestDisk>| {
        worker.write_mark(&mut |completion| panic!("{completion:?}"))
    };
    worker.log_mut().commit_to(Index(3)).unwrap();
    assert_eq!(saved(&disk), Index(0), "nothing is written yet");
    idle(&mut worker);
    assert_eq!(saved(&disk), Index(3));
    let writes = disk.writes();
    idle(&mut worker);
    assert_eq!(disk.writes(), writes, "it is said once");
    worker.log_mut().commit_to(Index(5)).unwrap();
    worker.log_mut().commit_to(Index(4)).unwrap();
    idle(&mut worker);
    assert_eq!(saved(&disk), Index(5), "it never falls");
    // A segment header repeats it, and is durable.
    drop(worker);
    drop(reopen(&disk));
    disk.lose_unsynced();
    assert_eq!(saved(&disk), Index(5));
}

#[test]
fn a_mark_of_format_2_holds_no_commit_index() {
    let disk = TestDisk::default();
    let base = initial_configuration().at_feature_level(FeatureLevel::BASE);
    let mut log = Log::create(disk.clone(), &identity(), &base, OPTIONS).unwrap();
    log.append(&entries(vec![command(1, 1, 9)])).unwrap();
    log.sync().unwrap();
    log.commit_to(Index(1)).unwrap();
    log.write_mark().unwrap();
    assert_eq!(saved(&disk), Index(0));
}

#[test]
fn a_job_notes_the_commit_index_after_its_writes() {
    let (disk, log) = written(5);
    let mut worker = Worker::new(log);
    let sixth = Write { sequence: 9, ..entries(vec![command(6, 1, 9)]) };
    let mut jobs = [Job::MarkCommit { commit: Index(6) }, Job::Write(sixth)].into();
    let mut completions = Vec::new();
    worker.run(&mut jobs, &mut |completion| completions.push(completion));
    assert_eq!(completions, [Completion::Done(Done::Written { sequence: 9 })]);
    assert!(worker.wants_mark());
    worker.write_mark(&mut |completion| panic!("{completion:?}"));
    assert!(!worker.wants_mark());
    assert_eq!(saved(&disk), Index(6));
}

#[test]
fn a_commit_index_that_falls_is_refused() {
    let (disk, mut log) = written(5);
    log.append(&Write { commit: Index(4), ..entries(vec![command(6, 1, 9)]) }).unwrap();
    let fallen = Write { commit: Index(3), ..entries(vec![command(7, 1, 9)]) };
    assert!(matches!(log.append(&fallen), Err(StorageError::Rejected { .. })));
    log.append(&entries(vec![command(7, 1, 9)])).unwrap(); // it says nothing, as in format 2
    log.sync().unwrap();
    drop(log);
    forge(&disk, FrameKind::Write, |out| {
        body::put_write(
            out,
            &Write { commit: Index(3), ..entries(vec![command(8, 1, 9)]) },
            frame::NEWEST,
        );
    });
    assert!(matches!(Log::open(disk, OPTIONS), Err(StorageError::Corrupt { .. })));
}

#[test]
fn a_commit_index_beyond_the_log_is_rejected() {
    let (_, mut log) = written(5);
    assert!(matches!(log.commit_to(Index(6)), Err(StorageError::Rejected { .. })));
    let beyond = Write { commit: Index(7), ..entries(vec![command(6, 1, 9)]) };
    assert!(matches!(log.append(&beyond), Err(StorageError::Rejected { .. })));
    log.append(&Write { commit: Index(6), ..entries(vec![command(6, 1, 9)]) }).unwrap();
}

#[test]
fn committed_entries_are_not_truncated_after_a_restart() {
    let (disk, mut log) = written(5);
    log.append(&Write { commit: Index(4), ..entries(vec![command(6, 1, 9)]) }).unwrap();
    log.sync().unwrap();
    drop(log);
    let (mut log, _) = reopen(&disk);
    let truncating =
        |from| Write { truncate_from: Some(Index(from)), ..entries(vec![command(from, 2, 9)]) };
    assert!(matches!(log.append(&truncating(4)), Err(StorageError::Rejected { .. })));
    log.append(&truncating(5)).unwrap();
}

/// Appends a frame to the last segment, as if it had been written and synced.
fn forge(disk: &TestDisk, kind: FrameKind, body: impl FnOnce(&mut Vec<u8>)) {
    let name = disk.names().pop().unwrap();
    let mut bytes = disk.bytes(&name);
    let (mut at, mut last) = (0, None);
    while let Ok(frame) = frame::parse(&bytes[at..]) {
        at += frame.total_bytes();
        last = Some(frame);
    }
    let last = last.unwrap();
    let sequence = last.header.sequence + 1;
    let header =
        FrameHeader { kind, sequence, synced: sequence, previous: last.checksum, ..last.header };
    let mut made = Vec::new();
    frame::begin(&mut made);
    body(&mut made);
    frame::finish(&mut made, 0, &header);
    bytes[at..at + made.len()].copy_from_slice(&made);
    disk.set_bytes(&name, bytes);
}

#[test]
fn a_saved_commit_index_beyond_the_log_is_corruption() {
    let step = |commit| Write { commit: Index(commit), ..entries(vec![command(6, 1, 9)]) };
    for (commit, is_fine) in [(6, true), (7, false), (u64::MAX, false)] {
        let (disk, log) = written(5);
        drop(log);
        forge(&disk, FrameKind::Write, |out| body::put_write(out, &step(commit), frame::NEWEST));
        assert_eq!(Log::open(disk, OPTIONS).is_ok(), is_fine, "step {commit}");
        let (disk, log) = written(5);
        drop(log);
        forge(&disk, FrameKind::Mark, |out| out.extend_from_slice(&(commit - 1).to_le_bytes()));
        match Log::open(disk, OPTIONS) {
            Ok((_, recovered)) => assert!(is_fine && recovered.saved.commit == Index(commit - 1)),
            Err(StorageError::Corrupt { what, .. }) => {
                assert!(!is_fine && what.contains("commit index"), "{what}")
            }
            Err(other) => panic!("{other}"),
        }
    }
}

/// Durable marks are not written again, but the number of the last frame must not fall: other nodes
/// know how far this log was durable.
#[test]
fn opening_never_lowers_the_number_of_the_last_frame() {
    let (disk, mut log) = written(5);
    for commit in [1, 2, 3, 4] {
        log.commit_to(Index(commit)).unwrap();
        log.write_mark().unwrap();
    }
    log.append(&entries(vec![command(6, 1, 9)])).unwrap();
    log.sync().unwrap();
    let position = log.position();
    drop(log);
    disk.lose_unsynced();
    for life in 0..3 {
        let (log, recovered) = reopen(&disk);
        assert!(
            recovered.saved.position >= position,
            "life {life}: {:?} after {position:?}",
            recovered.saved.position
        );
        assert!(log.position() >= position);
        assert_eq!(recovered.saved.commit, Index(4));
    }
}
