//! The file `SYNCED`: a lost end of the log is noticed if it was durable, and only then.

use super::*;
use crate::storage::synced::NAME;
use crate::storage::{Disk, StorageError};

/// A log of `count` entries, each synced separately, and the segments' names.
fn disk_with(count: u64) -> (TestDisk, Vec<String>) {
    let disk = TestDisk::default();
    let mut log = create(&disk);
    for index in 1..=count {
        log.append(&entries(vec![command(index, 1, 100)])).unwrap();
        log.sync().unwrap();
    }
    drop(log);
    let segments = disk.names();
    (disk, segments)
}

/// The refusal of the log: the file, the last entry left, and the last one known.
fn refused(disk: &TestDisk) -> (String, u64, u64) {
    match Log::open(disk.copy(), OPTIONS) {
        Err(error @ StorageError::EndLost { .. }) => {
            let text = error.to_string();
            let StorageError::EndLost { file, last_kept, last_known, .. } = error else {
                unreachable!()
            };
            for word in [&file, "SYNCED", "Delete nothing", "'raft inspect'", "'raft recover'"] {
                assert!(text.contains(word), "{word} is not in {text}");
            }
            let lost = if last_known > last_kept {
                format!("entries from {} on", last_kept.next())
            } else {
                "a vote".to_owned()
            };
            assert!(text.contains(&lost), "{text}");
            (file, last_kept.0, last_known.0)
        }
        other => panic!("{other:?}"),
    }
}

fn without_mark(disk: &TestDisk) -> TestDisk {
    let mut copy = disk.copy();
    copy.remove(NAME).unwrap();
    copy
}

/// Where the frames of a segment end.
fn frames_end(bytes: &[u8]) -> usize {
    bytes.len() - bytes.iter().rev().take_while(|&&byte| byte == 0).count()
}

#[test]
fn a_lost_end_is_refused() {
    let (disk, segments) = disk_with(100);
    let (last, earlier) = segments.split_last().unwrap();
    let whole = disk.bytes(last);
    let end = frames_end(&whole);
    let kept_by_earlier = {
        let mut copy = without_mark(&disk);
        copy.remove(last).unwrap();
        reopen(&copy).0.last_index().0
    };
    for from in [end - 1, end / 2, end - 400] {
        let (zeroed, cut, cut_to_a_unit) = (disk.copy(), disk.copy(), disk.copy());
        let mut bytes = whole.clone();
        bytes[from..].fill(0);
        zeroed.set_bytes(last, bytes);
        cut.set_bytes(last, whole[..from].to_vec());
        cut_to_a_unit.set_bytes(last, whole[..from / 256 * 256].to_vec());
        for disk in [zeroed, cut, cut_to_a_unit] {
            let (file, kept, known) = refused(&disk);
            assert_eq!((&file, known), (last, 100));
            assert!(kept >= kept_by_earlier && kept < 100, "{kept}");
        }
    }
    let mut removed = disk.copy();
    removed.remove(last).unwrap();
    assert_eq!(refused(&removed), (last.clone(), kept_by_earlier, 100));
    removed.remove(&earlier[earlier.len() - 1]).unwrap();
    let (file, kept, known) = refused(&removed);
    assert_eq!((&file, known), (&earlier[earlier.len() - 1], 100));
    assert!(kept < kept_by_earlier);
}

#[test]
fn a_folder_with_only_synced_is_not_empty() {
    let (disk, segments) = disk_with(100);
    let mut empty = disk.copy();
    for segment in &segments {
        empty.remove(segment).unwrap();
    }
    assert_eq!(refused(&empty), (segments[segments.len() - 1].clone(), 0, 100));
    let made = Log::create(empty, &identity(), &initial_configuration(), OPTIONS);
    assert!(matches!(made, Err(StorageError::AlreadyExists { file }) if file == NAME));
}

#[test]
fn a_file_cut_off_behind_the_last_frame_is_refused() {
    let (disk, segments) = disk_with(2);
    let whole = disk.bytes(&segments[0]);
    let cut = disk.copy();
    cut.set_bytes(&segments[0], whole[..2048].to_vec());
    assert!(frames_end(&whole) < 2048);
    assert_eq!(refused(&cut), (segments[0].clone(), 2, 2));
    // Without SYNCED, the length shows it: no segment has such a length.
    let cut = without_mark(&disk);
    cut.set_bytes(&segments[0], whole[..2047].to_vec());
    assert!(matches!(Log::open(cut, OPTIONS), Err(StorageError::Corrupt { offset: 2047, .. })));
}

#[test]
fn a_lost_vote_is_refused() {
    let disk = TestDisk::default();
    let mut log = create(&disk);
    log.append(&entries(vec![command(1, 1, 9)])).unwrap();
    log.sync().unwrap();
    log.append(&Write { hard_state: hard_state(3, 1), ..entries(vec![]) }).unwrap();
    log.sync().unwrap();
    drop(log);
    let segment = disk.names().pop().unwrap();
    let mut bytes = disk.bytes(&segment);
    let at = frames_end(&bytes) - 3;
    bytes[at] ^= 1;
    disk.set_bytes(&segment, bytes);
    assert_eq!(refused(&disk), (segment, 1, 1));
}

#[test]
fn unsynced_writes_are_not_missed() {
    let (disk, _) = disk_with(20);
    let (mut log, _) = reopen(&disk);
    log.append(&entries(vec![command(21, 1, 100)])).unwrap();
    assert_eq!(read(&mut log, 21, 21, 500).len(), 1, "it is in the file");
    drop(log);
    disk.lose_unsynced();
    assert_eq!(reopen(&disk).0.last_index(), Index(20));
}

#[test]
fn a_failed_sync_advances_no_mark() {
    let (disk, _) = disk_with(5);
    let (mut log, _) = reopen(&disk);
    let before = disk.bytes(NAME);
    log.append(&entries(vec![command(6, 1, 100)])).unwrap();
    disk.fail_after(Some(1));
    assert!(matches!(log.sync(), Err(StorageError::Io { operation: "sync", .. })));
    disk.fail_after(None);
    assert!(log.sync().is_err(), "the log is poisoned");
    assert_eq!(disk.bytes(NAME), before);
    log_is_opened_after(&disk, u64::MAX);
}

#[test]
fn a_mark_that_cannot_be_written_fails_the_sync() {
    let (disk, _) = disk_with(5);
    let (mut log, _) = reopen(&disk);
    log.append(&entries(vec![command(6, 1, 100)])).unwrap();
    disk.fail_after(Some(2));
    let error = log.sync().unwrap_err();
    assert!(
        matches!(&error, StorageError::Io { operation: "write", file, .. } if file == NAME),
        "{error}"
    );
}

/// Opens the log after a power failure that keeps these unsynced sectors.
fn log_is_opened_after(disk: &TestDisk, sectors: u64) {
    for changes in disk.subsets_of_changes() {
        let copy = disk.copy();
        copy.crash(sectors, changes);
        match Log::open(copy, OPTIONS) {
            Ok(_) | Err(StorageError::NoLog) => {}
            Err(error) => panic!("{error}"),
        }
    }
}

#[test]
pub(crate) fn no_crash_leaves_a_mark_beyond_the_log() {
    for operations in 0.. {
        let disk = TestDisk::default();
        disk.fail_after(Some(operations));
        let is_over = Log::create(disk.clone(), &identity(), &initial_configuration(), OPTIONS)
            .is_ok_and(|mut log| {
                (1..40).all(|index| {
                    log.append(&entries(vec![command(index, 1, 300)]))
                        .and_then(|()| log.sync())
                        .is_ok()
                })
            });
        disk.fail_after(None);
        for sectors in [0, u64::MAX, 0x5555_5555_5555_5555, 0xFF01_FF01_FF01_FF01, 1, 0x101] {
            log_is_opened_after(&disk, sectors);
        }
        if is_over {
            assert!(operations > 100, "{operations}");
            return;
        }
    }
}

#[test]
fn a_folder_without_synced_is_opened_and_gets_one() {
    let (disk, segments) = disk_with(100);
    let last = segments.last().unwrap();
    let mut bytes = disk.bytes(last);
    let end = frames_end(&bytes);
    bytes[end - 50..].fill(0);
    let old = without_mark(&disk);
    old.set_bytes(last, bytes);
    let (log, recovered) = reopen(&old);
    assert_eq!((log.last_index(), recovered.torn.unwrap().file), (Index(99), last.clone()));
    let made = old.names().pop().unwrap();
    old.set_bytes(&made, vec![0; 4096]);
    let mut removed = old.copy();
    removed.remove(&made).unwrap();
    assert_eq!(refused(&removed).2, 99);
}

#[test]
fn a_damaged_slot_leaves_the_older_mark() {
    let (disk, segments) = disk_with(10);
    let last = segments.last().unwrap();
    let whole = disk.bytes(NAME);
    let mut bytes = disk.bytes(last);
    let end = frames_end(&bytes);
    bytes[end - 1000..].fill(0);
    disk.set_bytes(last, bytes);
    let mut known: Vec<u64> = [0, 4096]
        .map(|slot| {
            let mut mark = whole.clone();
            mark[slot + 20] ^= 1;
            disk.set_bytes(NAME, mark);
            refused(&disk).2
        })
        .to_vec();
    known.sort_unstable();
    assert_eq!(known, [9, 10]);
    disk.set_bytes(NAME, vec![0xFF; 8192]);
    assert!(Log::open(disk, OPTIONS).is_ok(), "a missing mark proves nothing");
}

#[test]
fn another_logs_mark_is_refused() {
    let (disk, _) = disk_with(3);
    let other = TestDisk::default();
    let stranger = Identity { disk: DiskId(9), ..identity() };
    drop(Log::create(other.clone(), &stranger, &initial_configuration(), OPTIONS).unwrap());
    disk.set_bytes(NAME, other.bytes(NAME));
    assert!(
        matches!(Log::open(disk, OPTIONS), Err(StorageError::Corrupt { file, .. }) if file == NAME)
    );
}
