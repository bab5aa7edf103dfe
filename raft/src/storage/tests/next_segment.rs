//! The next segment's file is prepared in time, and found under any name that a crash leaves.

use std::collections::VecDeque;
use std::io;

use super::snapshots::{run, take, worker_with};
use super::*;
use crate::storage::{Job, StorageError, Worker};

const NEXT: &str = "0000000000000002.next";
const SEGMENT: &str = "0000000000000002.log";

/// Appends until the next segment's file exists. Returns the number of entries.
fn half_full(disk: &TestDisk, worker: &mut Worker<TestDisk>) -> u64 {
    let is_there = || disk.names().iter().any(|name| name.ends_with(".next"));
    while !is_there() {
        let next = worker.log().last_index().0 + 1;
        run(worker, [Job::Write(entries(vec![command(next, 1, 300)]))]);
    }
    worker.log().last_index().0
}

/// Appends until the next segment begins.
fn fill(worker: &mut Worker<TestDisk>) {
    let segments = worker.log().segment_files().len();
    while worker.log().segment_files().len() == segments {
        let next = worker.log().last_index().0 + 1;
        run(worker, [Job::Write(entries(vec![command(next, 1, 300)]))]);
    }
}

#[test]
fn a_full_segment_costs_its_write_no_new_file() {
    let disk = TestDisk::default();
    let mut worker = worker_with(&disk, 0);
    half_full(&disk, &mut worker);
    while worker.run(&mut VecDeque::new(), &mut |completion| panic!("{completion:?}")) {}
    let before = disk.folder_changes();
    // Not through the worker, which would prepare the next file.
    let log = worker.log_mut();
    while log.segment_files().len() == 1 {
        let next = log.last_index().0 + 1;
        log.append(&entries(vec![command(next, 1, 300)])).unwrap();
        log.sync().unwrap();
    }
    assert_eq!(disk.folder_changes(), before);
    assert!(disk.names().contains(&SEGMENT.to_owned()) && !disk.names().contains(&NEXT.to_owned()));
}

#[test]
fn a_segment_is_found_under_its_prepared_name() {
    let disk = TestDisk::default();
    let mut worker = worker_with(&disk, 0);
    half_full(&disk, &mut worker);
    fill(&mut worker);
    let last = worker.log().last_index();
    drop(worker);
    disk.lose_unsynced();
    assert!(
        disk.names().contains(&NEXT.to_owned()),
        "the crash has undone the rename: {:?}",
        disk.names()
    );
    let (mut log, recovered) = reopen(&disk);
    assert_eq!((log.last_index(), recovered.torn), (last, None));
    assert_eq!(read(&mut log, 1, u64::MAX, usize::MAX).len() as u64, last.0);
    assert!(disk.names().contains(&SEGMENT.to_owned()) && !disk.names().contains(&NEXT.to_owned()));
}

#[test]
fn a_prepared_file_without_frames_is_removed() {
    let disk = TestDisk::default();
    let mut worker = worker_with(&disk, 0);
    let last = half_full(&disk, &mut worker);
    drop(worker);
    let (log, _) = reopen(&disk);
    assert_eq!(log.last_index(), Index(last));
    assert!(!disk.names().contains(&NEXT.to_owned()));
}

#[test]
fn a_damaged_prepared_segment_is_refused() {
    let disk = TestDisk::default();
    let mut worker = worker_with(&disk, 0);
    half_full(&disk, &mut worker);
    fill(&mut worker);
    // A mark says that the entry after the segment header is durable.
    worker.write_mark(&mut |completion| panic!("{completion:?}"));
    drop(worker);
    let whole = disk.bytes(SEGMENT);
    disk.lose_unsynced();
    disk.set_bytes(NEXT, whole.clone());
    let last = whole.iter().rposition(|&byte| byte != 0).unwrap();
    for byte in 0..=last - 48 {
        let disk = disk.copy();
        let mut bytes = whole.clone();
        bytes[byte] ^= 1 << (byte % 8);
        disk.set_bytes(NEXT, bytes);
        assert!(
            matches!(Log::open(disk, OPTIONS), Err(StorageError::Corrupt { .. })),
            "byte {byte}"
        );
    }
}

#[test]
fn a_failure_to_prepare_is_reported_when_needed() {
    let disk = TestDisk::default();
    let mut log = create(&disk);
    disk.fail_as(io::ErrorKind::StorageFull);
    let mut next = 1;
    while log.segment_files().len() == 1 && next < 8 {
        log.append(&entries(vec![command(next, 1, 300)])).unwrap();
        log.sync().unwrap();
        next += 1;
    }
    disk.fail_after(Some(0));
    assert!(!log.prepare_next_segment().unwrap(), "a failure to prepare is no error");
    disk.fail_after(None);
    assert!(!log.prepare_next_segment().unwrap(), "and is not repeated");
    while log.segment_files().len() == 1 {
        log.append(&entries(vec![command(next, 1, 300)])).unwrap();
        next += 1;
    }
    log.sync().unwrap();
    drop(log);
    assert_eq!(reopen(&disk).0.last_index(), Index(next - 1));
}

#[test]
fn a_spare_file_is_prepared_too() {
    let disk = TestDisk::default();
    let mut worker = worker_with(&disk, 0);
    (0..4).for_each(|_| fill(&mut worker));
    let last = worker.log().last_index();
    take(&mut worker, last.0, 1, b"x");
    worker.log_mut().compact(last.next()).unwrap();
    let spare_files = || disk.names().iter().filter(|name| name.ends_with(".spare")).count();
    assert_eq!(spare_files(), 2);
    let (files, _) = disk.folder_changes();
    for _ in 0..2 {
        fill(&mut worker);
    }
    assert!(disk.folder_changes().0 <= files + 1, "the spare files have become segments");
    assert_eq!(spare_files(), 0);
    let last = worker.log().last_index();
    drop(worker);
    disk.lose_unsynced();
    assert_eq!(reopen(&disk).0.last_index(), last);
}

#[test]
fn two_segments_without_durable_names_lose_nothing() {
    for operations in 0.. {
        let disk = TestDisk::default();
        let mut worker = worker_with(&disk, 0);
        half_full(&disk, &mut worker);
        fill(&mut worker);
        let mut acked = worker.log().last_index().0;
        disk.fail_after(Some(operations));
        let log = worker.log_mut();
        let mut done = true;
        while log.segment_files().len() < 3 {
            if log
                .append(&entries(vec![command(acked + 1, 1, 300)]))
                .and_then(|()| log.sync())
                .is_err()
            {
                done = false;
                break;
            }
            acked += 1;
        }
        drop(worker);
        disk.fail_after(None);
        for subset in disk.subsets_of_changes() {
            let disk = disk.copy();
            disk.crash(0, subset);
            let names = disk.names();
            match Log::open(disk.clone(), OPTIONS) {
                Ok((log, _)) => {
                    assert!(log.last_index().0 >= acked, "{operations} {subset:b} {names:?}")
                }
                Err(error) => panic!("{operations} {subset:b} {error} {names:?}"),
            }
        }
        if done {
            break;
        }
    }
}
