//! Which entries a log removes, and where it begins afterwards.

use super::snapshots::{content, file_of, meta, name, run, take, worker_with};
use super::*;
use crate::core::{Done, ReadChunk};
use crate::storage::{Completion, Disk, StorageError, Worker};

fn segments(disk: &TestDisk) -> Vec<String> {
    disk.names().into_iter().filter(|name| name.ends_with(".log")).collect()
}

/// A worker with entries 1 to 60, about eleven in a segment.
fn long(disk: &TestDisk) -> Worker<TestDisk> {
    let worker = worker_with(disk, 60);
    assert!(segments(disk).len() > 4);
    worker
}

#[test]
fn only_entries_that_a_snapshot_includes_are_removed() {
    let disk = TestDisk::default();
    let mut worker = long(&disk);
    let before = segments(&disk);
    assert_eq!(worker.log_mut().compact(Index(50)), Ok(Index(1)));
    assert_eq!(segments(&disk), before, "there is no snapshot");
    take(&mut worker, 30, 1, b"x");
    let first = worker.log_mut().compact(Index(50)).unwrap();
    assert!(first > Index(11) && first <= Index(31), "{first}");
    assert!(segments(&disk).len() < before.len());
    let log = worker.log_mut();
    assert_eq!(read(log, first.0, 99, usize::MAX).len() as u64, 61 - first.0);
    assert_eq!(read(log, first.0 - 1, 99, usize::MAX), [], "no entry is below the first");
    disk.lose_unsynced();
    let (mut log, recovered) = reopen(&disk);
    assert_eq!(log.first_index(), first);
    assert_eq!(recovered.saved.terms.base(), first.previous());
    assert_eq!(recovered.saved.terms.last_index(), Index(60));
    assert_eq!(read(&mut log, first.0, 99, usize::MAX).len() as u64, 61 - first.0);
}

#[test]
fn configurations_of_removed_entries_stay_known() {
    let disk = TestDisk::default();
    let mut worker = long(&disk);
    let other = Configuration::of_voters([(NodeId(7), Member::default())]);
    let payload = Payload::Configuration(Box::new(other.clone()));
    run(&mut worker, [Job::Write(entries(vec![Entry { payload, ..command(61, 1, 0) }]))]);
    for index in 62..100 {
        run(&mut worker, [Job::Write(entries(vec![command(index, 1, 300)]))]);
    }
    let meta = crate::types::SnapshotMeta { configuration: other.clone(), ..meta(95, 1) };
    let source = crate::storage::SnapshotSource::new(std::io::empty());
    run(&mut worker, [Job::TakeSnapshot { meta: meta.clone(), source }]);
    assert!(worker.log_mut().compact(Index(96)).unwrap() > Index(61));
    for _ in 0..2 {
        let (log, recovered) = reopen(&disk);
        assert_eq!(recovered.saved.snapshot.as_ref(), Some(&meta));
        assert_eq!(recovered.saved.configurations, []);
        assert_eq!(log.contents.configuration(), &(Index(61), other.clone()));
    }
}

#[test]
fn a_log_never_begins_with_a_stale_segment_header() {
    let disk = TestDisk::default();
    let mut worker = long(&disk);
    // The last segments' headers name entries that are now replaced.
    let write = Write {
        truncate_from: Some(Index(35)),
        ..entries((35..41).map(|i| command(i, 2, 300)).collect())
    };
    run(&mut worker, [Job::Write(write)]);
    take(&mut worker, 40, 2, b"x");
    let first = worker.log_mut().compact(Index(41)).unwrap();
    assert!(first > Index(1) && first <= Index(35), "{first}");
    for _ in 0..2 {
        let (mut log, _) = reopen(&disk);
        assert_eq!(read(&mut log, first.0, 99, usize::MAX).len() as u64, 41 - first.0);
    }
}

#[test]
fn a_truncation_of_what_a_snapshot_includes_is_rejected() {
    let disk = TestDisk::default();
    let mut worker = long(&disk);
    take(&mut worker, 30, 1, b"x");
    let write =
        |from| Write { truncate_from: Some(Index(from)), ..entries(vec![command(from, 2, 1)]) };
    assert!(matches!(worker.log_mut().append(&write(30)), Err(StorageError::Rejected { .. })));
    worker.log_mut().append(&write(31)).unwrap();
}

fn receive(worker: &mut Worker<TestDisk>, index: u64, term: u64) {
    let meta = meta(index, term);
    let file = file_of(&meta, &content(Index(index)));
    let chunk = Chunk { offset: 0, total_bytes: file.len() as u64, data: Bytes::from(file) };
    let jobs = [write_chunk(1, &meta, chunk), install_snapshot(1, &meta)];
    let installed =
        Completion::Done(Done::SnapshotInstalled { index: Index(index), is_valid: true });
    assert_eq!(run(worker, jobs).pop(), Some(installed));
}

#[test]
fn entries_after_an_installed_snapshot_stay_if_it_matches() {
    for (index, term, last) in
        [(30, 1, 60), (60, 1, 60), (30, 2, 30), (60, 2, 60), (61, 1, 61), (90, 4, 90)]
    {
        let disk = TestDisk::default();
        let mut worker = long(&disk);
        run(&mut worker, [Job::Write(Write { hard_state: hard_state(5, 2), ..entries(vec![]) })]);
        receive(&mut worker, index, term);
        let matches = term == 1 && index <= 60;
        assert_eq!(worker.log().last_index(), Index(last), "{index} {term}");
        assert_eq!(worker.log().first_index() == Index(1), matches);
        disk.lose_unsynced();
        for _ in 0..2 {
            let (mut log, recovered) = reopen(&disk);
            assert_eq!(recovered.saved.hard_state, hard_state(5, 2).unwrap());
            assert_eq!(recovered.saved.terms.last_index(), Index(last));
            assert_eq!(recovered.saved.terms.term_at(Index(index)), Some(Term(term)));
            assert_eq!(read_all(&mut log).len(), if matches { 60 } else { 0 });
            log.append(&entries(vec![command(last + 1, 5, 10)])).unwrap();
            assert!(matches!(
                log.append(&entries(vec![command(last, 5, 10)])),
                Err(StorageError::Rejected { .. })
            ));
        }
    }
}

#[test]
fn writes_after_an_installation_are_done_after_it() {
    let disk = TestDisk::default();
    let mut worker = worker_with(&disk, 5);
    let meta = meta(20, 2);
    let file = file_of(&meta, b"state");
    let chunk = Chunk { offset: 0, total_bytes: file.len() as u64, data: Bytes::from(file) };
    let write = |sequence, entry: Entry| Job::Write(Write { sequence, ..entries(vec![entry]) });
    let jobs = [
        write(1, command(6, 1, 10)),
        write_chunk(1, &meta, chunk),
        install_snapshot(2, &meta),
        write(3, command(21, 2, 10)),
    ];
    let completions = run(&mut worker, jobs);
    let index = Index(20);
    let expected = [
        Done::Written { sequence: 1 },
        Done::ChunkWritten { id: 1, received_bytes: 0 },
        Done::SnapshotInstalled { index, is_valid: true },
        Done::Written { sequence: 3 },
    ];
    assert_eq!(completions.len(), 4);
    for (completion, expected) in completions.iter().zip(expected) {
        let Completion::Done(done) = completion else { panic!("{completion:?}") };
        assert_eq!(std::mem::discriminant(done), std::mem::discriminant(&expected));
    }
    assert_eq!(read(worker.log_mut(), 21, 21, 99), [command(21, 2, 10)]);
}

#[test]
fn a_needed_snapshot_without_a_header_is_refused() {
    let disk = TestDisk::default();
    let mut worker = long(&disk);
    take(&mut worker, 20, 1, b"older");
    worker.log_mut().compact(Index(21)).unwrap();
    drop(worker);
    let mut bytes = disk.bytes(&name(20));
    // The header is damaged.
    let at = 40;
    bytes[at] ^= 4;
    let damaged = disk.copy();
    damaged.set_bytes(&name(20), bytes);
    match Log::open(damaged, OPTIONS) {
        Err(StorageError::Corrupt { file, offset, .. }) => {
            assert!(file == name(20) && offset <= at as u64)
        }
        other => panic!("{other:?}"),
    }
    let mut missing = disk.copy();
    missing.remove(&name(20)).unwrap();
    assert!(matches!(Log::open(missing, OPTIONS), Err(StorageError::Corrupt { .. })));
    let (_, recovered) = reopen(&disk);
    assert_eq!(recovered.saved.snapshot, Some(meta(20, 1)));
}

#[test]
fn the_error_names_a_missing_installed_snapshot() {
    let mut disk = TestDisk::default();
    let mut worker = worker_with(&disk, 5);
    receive(&mut worker, 40, 2);
    drop(worker);
    disk.remove(&name(40)).unwrap();
    assert!(matches!(
        Log::open(disk, OPTIONS),
        Err(StorageError::Corrupt { file, .. }) if file == name(40)
    ));
}

#[test]
fn a_folder_with_only_a_snapshot_is_not_empty() {
    let mut disk = TestDisk::default();
    let mut worker = worker_with(&disk, 5);
    take(&mut worker, 4, 1, b"x");
    drop(worker);
    for file in segments(&disk) {
        disk.remove(&file).unwrap();
    }
    assert!(matches!(Log::open(disk.clone(), OPTIONS), Err(StorageError::EndLost { .. })));
    assert!(matches!(
        Log::create(disk.clone(), &identity(), &initial_configuration(), OPTIONS),
        Err(StorageError::AlreadyExists { file }) if file == name(4)
    ));
    let opened = Log::open_or_create(disk.clone(), OPTIONS, || unreachable!("there was a log"));
    assert!(matches!(opened, Err(StorageError::EndLost { .. })));
    // Without SYNCED, as in a folder of an earlier version.
    disk.remove("SYNCED").unwrap();
    assert!(matches!(Log::open(disk, OPTIONS), Err(StorageError::Corrupt { .. })));
}

#[test]
fn another_clusters_snapshot_is_refused() {
    let disk = TestDisk::default();
    let mut worker = worker_with(&disk, 5);
    take(&mut worker, 4, 1, b"x");
    drop(worker);
    let other = TestDisk::default();
    let stranger = Identity { cluster: ClusterId(77), ..identity() };
    let mut log = Log::create(other.clone(), &stranger, &initial_configuration(), OPTIONS).unwrap();
    log.append(&entries((1..5).map(|index| command(index, 1, 5)).collect())).unwrap();
    log.sync().unwrap();
    take(&mut Worker::new(log), 4, 1, b"x");
    disk.set_bytes(&name(4), other.bytes(&name(4)));
    assert!(matches!(
        Log::open(disk, OPTIONS),
        Err(StorageError::Corrupt { file, .. }) if file == name(4)
    ));
}

/// Flips bits of one byte of this snapshot's content.
fn damage(disk: &TestDisk, index: u64) {
    let mut bytes = disk.bytes(&name(index));
    let at = bytes.len() - 20;
    bytes[at] ^= 1;
    disk.set_bytes(&name(index), bytes);
}

#[test]
fn a_log_with_a_damaged_snapshot_installs_another() {
    for again in [30, 40] {
        let disk = TestDisk::default();
        let mut worker = long(&disk);
        take(&mut worker, 30, 1, b"a state of a few bytes");
        let first = worker.log_mut().compact(Index(31)).unwrap();
        drop(worker);
        damage(&disk, 30);
        let (log, recovered) = reopen(&disk);
        assert!(recovered.lacks_snapshot && recovered.damaged_snapshots.len() == 1);
        assert_eq!(recovered.saved.snapshot, Some(meta(30, 1)));
        assert_eq!(recovered.saved.terms.last_index(), Index(60));
        let mut worker = Worker::new(log);
        let read_chunk =
            Job::ReadChunk(ReadChunk { id: 1, index: Index(30), offset: 0, limit_bytes: 1_000 });
        let none = Completion::Done(Done::ChunkRead { id: 1, chunk: None });
        assert_eq!(run(&mut worker, [read_chunk]), [none], "a damaged snapshot is not sent");
        let file = file_of(&meta(again, 1), b"another state");
        let chunk = Chunk { offset: 0, total_bytes: file.len() as u64, data: file.into() };
        let installed = run(
            &mut worker,
            [write_chunk(2, &meta(again, 1), chunk), install_snapshot(1, &meta(again, 1))],
        );
        let is_valid =
            Completion::Done(Done::SnapshotInstalled { index: Index(again), is_valid: true });
        assert_eq!(installed[1], is_valid);
        disk.lose_unsynced();
        let (mut log, recovered) = reopen(&disk);
        assert!(!recovered.lacks_snapshot && recovered.damaged_snapshots.is_empty());
        assert_eq!(recovered.saved.snapshot, Some(meta(again, 1)));
        assert_eq!(
            read(&mut log, first.0, 99, usize::MAX).len() as u64,
            61 - first.0,
            "the log stays"
        );
        let reader = log.snapshot_reader().unwrap().unwrap();
        assert_eq!(super::snapshots::read_to_end(reader), b"another state");
    }
}

#[test]
fn a_log_that_does_not_reach_its_damaged_snapshot_is_refused() {
    let disk = TestDisk::default();
    let mut worker = long(&disk);
    take(&mut worker, 30, 1, b"a state of a few bytes");
    worker.log_mut().compact(Index(31)).unwrap();
    drop(worker);
    // As after a crash while it was installed: it has its name, and the log does not follow it yet.
    disk.clone().create(&name(90), 0).unwrap();
    disk.set_bytes(&name(90), file_of(&meta(90, 1), b"a newer state"));
    disk.clone().remove(&name(30)).unwrap();
    damage(&disk, 90);
    let error = Log::open(disk, OPTIONS).unwrap_err();
    assert!(error.to_string().contains("the log does not reach entry 90"), "{error}");
}
