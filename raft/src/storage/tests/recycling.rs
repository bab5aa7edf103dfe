//! Recycled files: the old frames in them change nothing.

use proptest::prelude::*;

use super::snapshots::{run, take, worker_with};
use super::*;
use crate::storage::{Job, StorageError, Worker, frame};

fn spare_files(disk: &TestDisk) -> Vec<String> {
    disk.names().into_iter().filter(|name| name.ends_with(".spare")).collect()
}

/// Writes entries of one size until the next segment begins. Returns their number.
fn fill_segment(worker: &mut Worker<TestDisk>, bytes: usize) -> u64 {
    let segments = worker.log().segment_files().len();
    let mut count = 0;
    while worker.log().segment_files().len() == segments {
        let next = worker.log().last_index().0 + 1;
        run(worker, [Job::Write(entries(vec![command(next, 1, bytes)]))]);
        count += 1;
    }
    count
}

/// A disk with spare files, each full of whole old frames.
fn with_spares(bytes: usize) -> (TestDisk, Worker<TestDisk>) {
    let disk = TestDisk::default();
    let mut worker = worker_with(&disk, 0);
    for _ in 0..4 {
        fill_segment(&mut worker, bytes);
    }
    let last = worker.log().last_index();
    take(&mut worker, last.0, 1, b"x");
    worker.log_mut().compact(last.next()).unwrap();
    (disk, worker)
}

#[test]
fn at_most_two_spare_files_are_kept() {
    let (disk, mut worker) = with_spares(300);
    assert_eq!(spare_files(&disk).len(), 2, "{:?}", disk.names());
    let files = disk.names().len();
    for _ in 0..6 {
        fill_segment(&mut worker, 300);
        let last = worker.log().last_index();
        take(&mut worker, last.0, 1, b"x");
        worker.log_mut().compact(last.next()).unwrap();
        assert!(disk.names().len() <= files, "{:?}", disk.names());
    }
    // A log with segments of another length does not use them.
    drop(worker);
    let options = LogOptions { segment_bytes: 8192, ..OPTIONS };
    Log::open(disk.clone(), options).unwrap();
    assert_eq!(spare_files(&disk), [""; 0]);
}

#[test]
fn a_spare_file_becomes_the_next_segment() {
    let (disk, mut worker) = with_spares(300);
    fill_segment(&mut worker, 300);
    assert_eq!(spare_files(&disk).len(), 1);
    let name = worker.log().segment_files().pop().unwrap();
    let bytes = disk.bytes(&name);
    let segment_header = frame::parse(&bytes).unwrap();
    // Old frames follow the last new one.
    let next = segment_header.total_bytes()
        + frame::parse(&bytes[segment_header.total_bytes()..]).unwrap().total_bytes();
    assert!(bytes[next..].iter().any(|&byte| byte != 0));
    let last = worker.log().last_index();
    drop(worker);
    let (log, recovered) = reopen(&disk);
    assert_eq!(
        (log.last_index(), recovered.torn),
        (last, None),
        "old frames are not taken for a torn write"
    );
}

#[test]
fn old_frames_at_the_same_places_are_ignored() {
    // Old and new frames have the same length, so an old frame begins exactly where the next one
    // would.
    let (disk, mut worker) = with_spares(300);
    fill_segment(&mut worker, 300);
    let name = worker.log().segment_files().pop().unwrap();
    for _ in 0..5 {
        let last = worker.log().last_index();
        let bytes = disk.bytes(&name);
        let mut at = 0;
        let mut own = None;
        let (mut ours, mut theirs) = (0, 0);
        while let Ok(frame) = frame::parse(&bytes[at..]) {
            let tag = *own.get_or_insert(frame.header.tag);
            if frame.header.tag == tag {
                ours += 1
            } else {
                theirs += 1
            }
            at += frame.total_bytes();
        }
        assert!(ours >= 2 && theirs >= 2, "{ours} {theirs}");
        for lost in [false, true] {
            let disk = disk.copy();
            if lost {
                disk.lose_unsynced();
            }
            let (mut log, recovered) = reopen(&disk);
            assert_eq!((log.last_index(), recovered.torn), (last, None));
            assert!(read(&mut log, last.0, last.0, 999) == [command(last.0, 1, 300)]);
        }
        run(&mut worker, [Job::Write(entries(vec![command(last.0 + 1, 1, 300)]))]);
    }
}

#[test]
fn a_torn_recycled_file_loses_nothing() {
    let (disk, mut worker) = with_spares(300);
    fill_segment(&mut worker, 300);
    let settled = worker.log().last_index();
    let log = worker.log_mut();
    for index in settled.0 + 1..settled.0 + 5 {
        log.append(&entries(vec![command(index, 2, 300)])).unwrap();
    }
    read(log, 1, 0, 0);
    for sectors in (0..16)
        .map(|shift| 0xFFFF_u64 << shift)
        .chain((0..16).map(|sector| !(1 << sector)))
        .chain([0])
    {
        let disk = disk.copy();
        disk.crash(sectors, 0);
        let (mut log, _) = reopen(&disk);
        let last = log.last_index();
        assert!(last >= settled && last <= Index(settled.0 + 4));
        for index in settled.0 + 1..=last.0 {
            assert_eq!(read(&mut log, index, index, 999), [command(index, 2, 300)]);
        }
    }
}

#[test]
fn marks_of_old_frames_do_not_count() {
    let (disk, mut worker) = with_spares(300);
    fill_segment(&mut worker, 300);
    for _ in 0..3 {
        let next = worker.log().last_index().0 + 1;
        run(&mut worker, [Job::Write(entries(vec![command(next, 1, 300)]))]);
    }
    worker.write_mark(&mut |completion| panic!("{completion:?}"));
    let name = worker.log().segment_files().pop().unwrap();
    let whole = disk.bytes(&name);
    let mut at = 0;
    let mut own = None;
    while let Ok(frame) = frame::parse(&whole[at..]) {
        if *own.get_or_insert(frame.header.tag) != frame.header.tag {
            break;
        }
        at += frame.total_bytes();
    }
    let end = at - frame::total_bytes(0);
    for byte in 0..end {
        let disk = disk.copy();
        let mut bytes = whole.clone();
        bytes[byte] ^= 1 << (byte % 8);
        disk.set_bytes(&name, bytes);
        match Log::open(disk, OPTIONS) {
            Err(StorageError::Corrupt { file, offset, .. }) => {
                assert!(file == name && offset <= byte as u64)
            }
            other => panic!("a flip in byte {byte} led to {other:?}"),
        }
    }
    // Only old frames lie past the mark: damage there does not matter.
    for byte in end..whole.len() {
        let disk = disk.copy();
        let mut bytes = whole.clone();
        bytes[byte] ^= 1 << (byte % 8);
        disk.set_bytes(&name, bytes);
        assert_eq!(reopen(&disk).0.last_index(), worker.log().last_index());
    }
}

#[test]
fn no_opening_reads_frames_of_a_killed_one() {
    for appended in 1..4 {
        for operations in 0.. {
            let (disk, mut worker) = with_spares(300);
            fill_segment(&mut worker, 300);
            let last = worker.log().last_index();
            let log = worker.log_mut();
            for index in last.0 + 1..=last.0 + appended {
                log.append(&entries(vec![command(index, 1, 300)])).unwrap();
            }
            // Reading writes them to the file: the next process sees them, but they are not
            // durable.
            read(log, 1, 0, 0);
            drop(worker);
            disk.fail_after(Some(operations));
            let opened = Log::open(disk.clone(), OPTIONS);
            disk.fail_after(None);
            disk.lose_unsynced();
            let (log, _) = reopen(&disk);
            assert!(log.last_index() >= last, "{operations} operations");
            let found = log.last_index();
            // The log can be opened once more.
            assert_eq!(reopen(&disk).0.last_index(), found);
            if opened.is_ok() {
                assert!(operations > 3, "{operations}");
                break;
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    /// Whatever a recycled file holds, even frames of the same log, is not taken for a frame of its
    /// new segment.
    #[test]
    fn old_frames_of_a_recycled_file_are_never_read(
        old in 40usize..400,
        new in prop::collection::vec(0usize..400, 0..12),
        shift in 0usize..80,
        noise in prop::option::of(any::<u8>()),
    ) {
        let (disk, mut worker) = with_spares(old);
        // Frames of all segments, the newest one's included, at other places.
        for spare in spare_files(&disk) {
            let file = worker.log().segment_files().pop().unwrap();
            let mut bytes = disk.bytes(if noise.is_some() { &spare } else { &file });
            bytes.rotate_right(shift * 8);
            if let Some(noise) = noise {
                bytes[shift * 50] = noise;
            }
            disk.set_bytes(&spare, bytes);
        }
        fill_segment(&mut worker, old);
        let from = worker.log().last_index().0;
        for (index, &bytes) in (from + 1..).zip(&new) {
            run(&mut worker, [Job::Write(entries(vec![command(index, 1, bytes)]))]);
        }
        let last = worker.log().last_index();
        prop_assert_eq!(last.0, from + new.len() as u64);
        drop(worker);
        let (mut log, _) = reopen(&disk);
        prop_assert_eq!(log.last_index(), last);
        for (index, &bytes) in (from + 1..).zip(&new) {
            prop_assert_eq!(read(&mut log, index, index, 0), [command(index, 1, bytes)]);
        }
    }
}
