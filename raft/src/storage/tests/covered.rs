//! Damage below a whole snapshot: the log begins after it.

use super::snapshots::{run, take, worker_with};
use super::*;
use crate::storage::{Disk, Job, StorageError};

fn segments(disk: &TestDisk) -> Vec<String> {
    disk.names().into_iter().filter(|name| name.ends_with(".log")).collect()
}

/// Entries 1 to 60, about eleven in a segment, with a snapshot up to 40.
fn disk_with_snapshot() -> TestDisk {
    let disk = TestDisk::default();
    let mut worker = worker_with(&disk, 60);
    take(&mut worker, 40, 1, b"state");
    disk
}

/// The first entry of the log that `disk` holds with these files removed.
fn beginning(disk: &TestDisk) -> (u64, Option<String>) {
    let (log, recovered) = reopen(disk);
    assert_eq!(log.last_index(), Index(60));
    let first = log.first_index();
    assert!(first <= Index(41), "the snapshot reaches the log");
    let (mut log, again) = reopen(disk);
    assert_eq!(again.damaged_segment, None, "the damaged segment is removed");
    assert_eq!(log.first_index(), first);
    assert_eq!(read(&mut log, first.0, 60, usize::MAX).len() as u64, 61 - first.0);
    (first.0, recovered.damaged_segment.map(|damaged| damaged.file))
}

/// The segments that hold only entries which the snapshot includes, and the first one after them.
fn covered(disk: &TestDisk) -> (Vec<String>, String) {
    let mut names = segments(disk);
    let holds_more = |name: &String| {
        let mut copy = disk.copy();
        copy.remove(name).unwrap();
        Log::open(copy, OPTIONS).is_err()
    };
    let rest = names.iter().position(holds_more).unwrap();
    let next = names[rest].clone();
    names.truncate(rest);
    assert!(names.len() >= 2, "{names:?}");
    (names, next)
}

#[test]
fn a_flipped_bit_below_a_snapshot_is_passed_over() {
    let disk = disk_with_snapshot();
    let (covered, _) = covered(&disk);
    for name in &covered {
        let whole = disk.bytes(name);
        let end = whole.len() - whole.iter().rev().take_while(|&&byte| byte == 0).count();
        for at in [0, 13, 60, end / 2, end - 1] {
            let disk = disk.copy();
            let mut bytes = whole.clone();
            bytes[at] ^= 4;
            disk.set_bytes(name, bytes);
            let (first, damaged) = beginning(&disk);
            assert!(first > 1);
            assert_eq!(damaged.as_ref(), Some(name), "byte {at}");
        }
    }
}

#[test]
fn segments_missing_below_a_snapshot_are_no_error() {
    let disk = disk_with_snapshot();
    let (covered, _) = covered(&disk);
    for missing in 0..1 << covered.len() {
        let mut disk = disk.copy();
        for (at, name) in covered.iter().enumerate().filter(|(at, _)| missing >> at & 1 == 1) {
            disk.remove(name).unwrap();
            assert!(at < covered.len());
        }
        beginning(&disk);
    }
}

#[test]
pub(crate) fn damage_that_may_hide_a_vote_is_refused() {
    let disk = disk_with_snapshot();
    let (_, next) = covered(&disk);
    let whole = disk.bytes(&next);
    let segment_header = crate::storage::frame::parse(&whole).unwrap().total_bytes();
    for at in [segment_header + 60, 60] {
        let disk = disk.copy();
        let mut bytes = whole.clone();
        bytes[at] ^= 4;
        disk.set_bytes(&next, bytes);
        // The snapshot includes the entry, but not the vote that the frame may hold.
        match Log::open(disk, OPTIONS) {
            Err(StorageError::Corrupt { file, .. }) => assert_eq!(file, next),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_log_begins_with_a_segment_whose_header_is_true() {
    let disk = TestDisk::default();
    let mut worker = worker_with(&disk, 60);
    // The headers of the last segments name entries that are now replaced.
    let write = Write {
        truncate_from: Some(Index(30)),
        ..entries((30..41).map(|i| command(i, 2, 300)).collect())
    };
    run(&mut worker, [Job::Write(write)]);
    take(&mut worker, 40, 2, b"x");
    let first = segments(&disk).remove(0);
    let mut bytes = disk.bytes(&first);
    bytes[500] ^= 1;
    disk.set_bytes(&first, bytes);
    let (mut log, recovered) = reopen(&disk);
    assert_eq!((log.last_index(), recovered.saved.terms.last_term()), (Index(40), Term(2)));
    assert!(
        log.first_index() > Index(1) && log.first_index() <= Index(30),
        "{}",
        log.first_index()
    );
    assert_eq!(
        read(&mut log, 30, 40, usize::MAX),
        (30..41).map(|i| command(i, 2, 300)).collect::<Vec<_>>()
    );
    assert_eq!(recovered.damaged_segment.unwrap().file, first);
}
