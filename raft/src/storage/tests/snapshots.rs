//! Snapshots: written in blocks, found whole or not at all, sent to another node in chunks.

use std::collections::VecDeque;
use std::io::{self, Cursor, Read};

use super::*;
use crate::core::{Done, ReadChunk};
use crate::error_chain::error_chain;
use crate::storage::snapshot::{SnapshotWriter, WriteProgress};
use crate::storage::{Completion, Disk, SnapshotReader, SnapshotSource, StorageError, Worker};

pub(super) fn meta(index: u64, term: u64) -> SnapshotMeta {
    SnapshotMeta {
        index: Index(index),
        term: Term(term),
        stamp: Stamp(index * 10),
        configuration: initial_configuration(),
        digest: None,
    }
}

/// The state machine's bytes at an index: none, few, or several blocks.
pub(super) fn content(index: Index) -> Vec<u8> {
    let bytes = [0, 100, 40_000, 300_000][index.0 as usize % 4];
    (0..bytes).map(|at| (at * 31 + index.0 as usize * 7) as u8).collect()
}

pub(super) fn read_to_end(mut reader: SnapshotReader<impl crate::storage::DiskFile>) -> Vec<u8> {
    let mut bytes = Vec::new();
    reader.read_to_end(&mut bytes).unwrap();
    bytes
}

fn source(bytes: &[u8]) -> SnapshotSource {
    SnapshotSource::new(Cursor::new(bytes.to_vec()))
}

pub(super) fn name(index: u64) -> String {
    format!("{index:016x}.snap")
}

pub(super) fn run(
    worker: &mut Worker<TestDisk>,
    jobs: impl IntoIterator<Item = Job>,
) -> Vec<Completion> {
    let (mut jobs, mut completions) = (VecDeque::from_iter(jobs), Vec::new());
    while worker.run(&mut jobs, &mut |completion| completions.push(completion)) {}
    completions
}

fn done(worker: &mut Worker<TestDisk>, job: Job) -> Done {
    let mut completions = run(worker, [job]);
    assert_eq!(completions.len(), 1, "{completions:?}");
    match completions.pop() {
        Some(Completion::Done(done)) => done,
        other => panic!("{other:?}"),
    }
}

/// A worker whose log holds entries 1 to `last` of term 1.
pub(super) fn worker_with(disk: &TestDisk, last: u64) -> Worker<TestDisk> {
    let mut worker = Worker::new(create(disk));
    for index in 1..=last {
        done(&mut worker, Job::Write(entries(vec![command(index, 1, 300)])));
    }
    worker
}

pub(super) fn take(worker: &mut Worker<TestDisk>, index: u64, term: u64, bytes: &[u8]) {
    let taken = done(worker, Job::TakeSnapshot { meta: meta(index, term), source: source(bytes) });
    assert_eq!(taken, Done::SnapshotTaken { index: Index(index) });
}

/// The file of a snapshot that another node of the cluster has written.
pub(super) fn file_of(meta: &SnapshotMeta, content: &[u8]) -> Vec<u8> {
    let disk = TestDisk::default();
    let donor = Identity { node: NodeId(9), disk: DiskId(9), ..identity() };
    let mut writer =
        SnapshotWriter::begin(&mut disk.clone(), &donor, meta.clone(), source(content)).unwrap();
    while !matches!(writer.write_block().unwrap(), WriteProgress::Complete { .. }) {}
    disk.bytes(writer.name())
}

#[test]
fn a_snapshot_is_read_back() {
    for bytes in [0, 1, 1000, 256 << 10, (256 << 10) + 1, 900_000] {
        let disk = TestDisk::default();
        let mut worker = worker_with(&disk, 3);
        let content: Vec<u8> = (0..bytes).map(|at| (at / 7) as u8).collect();
        take(&mut worker, 2, 1, &content);
        assert!(disk.names().contains(&name(2)));
        disk.lose_unsynced();
        let (mut log, recovered) = reopen(&disk);
        assert_eq!(recovered.saved.snapshot, Some(meta(2, 1)));
        let reader = log.snapshot_reader().unwrap().unwrap();
        assert_eq!(reader.meta(), &meta(2, 1));
        assert_eq!(read_to_end(reader), content);
        assert_eq!(read_all(&mut log).len(), 3, "the log is unchanged");
    }
}

#[test]
fn a_write_waits_for_at_most_one_block() {
    let disk = TestDisk::default();
    let mut worker = worker_with(&disk, 1);
    let content = vec![7; 10 * (256 << 10)];
    let mut jobs =
        VecDeque::from([Job::TakeSnapshot { meta: meta(1, 1), source: source(&content) }]);
    let mut completions = Vec::new();
    let mut calls = 0;
    while worker.run(&mut jobs, &mut |completion| completions.push(completion)) {
        calls += 1;
        let writes = disk.writes();
        jobs.push_back(Job::Write(entries(vec![command(1 + calls, 1, 10)])));
        assert!(worker.run(&mut jobs, &mut |completion| completions.push(completion)) || calls > 4);
        assert!(disk.writes() - writes <= 3, "the batch and one block");
    }
    assert!(calls >= 5, "{calls}");
    assert_eq!(completions.len() as u64, calls + 1);
    assert_eq!(worker.log().snapshot(), Some(&meta(1, 1)));
}

#[test]
fn every_flipped_byte_is_noticed() {
    let disk = TestDisk::default();
    let mut worker = worker_with(&disk, 2);
    take(&mut worker, 2, 1, b"some state");
    drop(worker);
    let whole = disk.bytes(&name(2));
    for at in 0..whole.len() {
        let disk = disk.copy();
        let mut bytes = whole.clone();
        bytes[at] ^= 1 << (at % 8);
        disk.set_bytes(&name(2), bytes);
        let (mut log, recovered) = reopen(&disk);
        assert_eq!(recovered.saved.snapshot, None, "byte {at}");
        assert_eq!(
            recovered.damaged_snapshots.len(),
            1,
            "the log has its first entry, so it can do without"
        );
        assert!(recovered.damaged_snapshots[0].offset <= at as u64);
        assert_eq!(read_all(&mut log).len(), 2);
    }
    for cut in 0..whole.len() {
        let disk = disk.copy();
        disk.set_bytes(&name(2), whole[..cut].to_vec());
        assert_eq!(reopen(&disk).1.damaged_snapshots.len(), 1, "cut at {cut}");
    }
    disk.set_bytes(&name(2), [&whole[..], b"x"].concat());
    assert_eq!(reopen(&disk).1.damaged_snapshots.len(), 1);
}

#[test]
fn the_bytes_of_a_snapshot_are_as_documented() {
    let mut meta = meta(3, 2);
    meta.configuration = Configuration::default();
    let chain = |previous: u32, bytes: &[u8]| {
        crc32c::crc32c(&[&previous.to_le_bytes()[..], bytes].concat())
    };
    let body = [
        &5u128.to_le_bytes()[..],
        &6u64.to_le_bytes(),
        &3u64.to_le_bytes(),
        &2u64.to_le_bytes(),
        &30u64.to_le_bytes(),
        &[0; 24],
    ]
    .concat();
    let head = [b"KdkS", &(body.len() as u32).to_le_bytes()[..], &[1, 0, 0, 0], &body].concat();
    let block = [&5u32.to_le_bytes()[..], b"state"].concat();
    let trailer = [&[0; 4][..], &5u64.to_le_bytes()].concat();
    let first = crc32c::crc32c(&head);
    let second = chain(first, &block);
    let third = chain(second, &trailer);
    let expected = [
        &first.to_le_bytes()[..],
        &head,
        &second.to_le_bytes(),
        &block,
        &third.to_le_bytes(),
        &trailer,
    ]
    .concat();
    assert_eq!(file_of(&meta, b"state"), expected);
}

#[test]
fn an_older_snapshot_stays_while_it_is_being_read() {
    let disk = TestDisk::default();
    let mut worker = worker_with(&disk, 9);
    let read = |worker: &mut Worker<TestDisk>, index, offset| match done(
        worker,
        Job::ReadChunk(ReadChunk { id: 4, index: Index(index), offset, limit_bytes: 50 }),
    ) {
        Done::ChunkRead { id: 4, chunk } => chunk,
        other => panic!("{other:?}"),
    };
    take(&mut worker, 2, 1, &[1; 200]);
    assert_eq!(read(&mut worker, 1, 0), None, "there never was one");
    let first = read(&mut worker, 2, 0).unwrap();
    take(&mut worker, 4, 1, &[2; 200]);
    let total = first.total_bytes;
    let mut carried = first.data.to_vec();
    while (carried.len() as u64) < total {
        let chunk = read(&mut worker, 2, carried.len() as u64).unwrap();
        assert_eq!((chunk.offset, chunk.total_bytes), (carried.len() as u64, total));
        carried.extend_from_slice(&chunk.data);
    }
    assert_eq!(carried, file_of(&meta(2, 1), &[1; 200]));
    assert_eq!(read(&mut worker, 2, total).unwrap().data.len(), 0, "nothing follows the end");
    take(&mut worker, 6, 1, &[3; 200]);
    assert!(disk.names().contains(&name(2)), "it has been read since the last snapshot");
    take(&mut worker, 8, 1, &[4; 200]);
    let names: Vec<String> =
        disk.names().into_iter().filter(|name| name.ends_with(".snap")).collect();
    assert_eq!(names, [name(8)]);
    assert_eq!(read(&mut worker, 2, 0), None);
}

fn chunk_at(file: &[u8], offset: usize, bytes: usize) -> Chunk {
    let data = Bytes::copy_from_slice(&file[offset..file.len().min(offset + bytes)]);
    Chunk { offset: offset as u64, total_bytes: file.len() as u64, data }
}

fn send(worker: &mut Worker<TestDisk>, meta: &SnapshotMeta, chunk: Chunk) -> u64 {
    match done(worker, write_chunk(3, meta, chunk)) {
        Done::ChunkWritten { id: 3, received_bytes } => received_bytes,
        other => panic!("{other:?}"),
    }
}

fn install(worker: &mut Worker<TestDisk>, meta: &SnapshotMeta) -> bool {
    match done(worker, install_snapshot(1, meta)) {
        Done::SnapshotInstalled { index, is_valid } => {
            assert_eq!(index, meta.index);
            is_valid
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn receiving_can_be_resumed_and_repeated() {
    let disk = TestDisk::default();
    let mut worker = worker_with(&disk, 5);
    let (meta, state) = (meta(20, 3), content(Index(3)));
    let file = file_of(&meta, &state);
    assert_eq!(send(&mut worker, &meta, chunk_at(&file, 1000, 10)), 0, "the beginning is missing");
    assert_eq!(send(&mut worker, &meta, chunk_at(&file, 0, 1000)), 1000);
    assert_eq!(
        send(&mut worker, &meta, chunk_at(&file, 0, 1000)),
        1000,
        "a repeated chunk is dropped"
    );
    assert_eq!(
        send(&mut worker, &meta, chunk_at(&file, 3000, 1000)),
        1000,
        "so is one after a gap"
    );
    assert!(!install(&mut worker, &super::snapshots::meta(21, 3)), "another one");
    assert_eq!(send(&mut worker, &meta, chunk_at(&file, 1000, 100_000)), 101_000);
    let mut received = 101_000;
    while received < file.len() as u64 {
        received = send(&mut worker, &meta, chunk_at(&file, received as usize, 77_777));
    }
    assert!(install(&mut worker, &meta));
    assert!(install(&mut worker, &meta), "it is there");
    let log = worker.log_mut();
    assert_eq!((log.first_index(), log.last_index()), (Index(21), Index(20)));
    assert_eq!(read_to_end(log.snapshot_reader().unwrap().unwrap()), state);
    done(&mut worker, Job::Write(entries(vec![command(21, 3, 9)])));
    disk.lose_unsynced();
    let (mut log, recovered) = reopen(&disk);
    assert_eq!(recovered.saved.snapshot, Some(meta));
    assert_eq!(recovered.saved.terms.term_at(Index(20)), Some(Term(3)));
    assert_eq!(read(&mut log, 21, 99, 999), [command(21, 3, 9)]);
}

#[test]
fn another_snapshot_starts_over() {
    let disk = TestDisk::default();
    let mut worker = worker_with(&disk, 5);
    let (first, second) = (meta(20, 3), meta(30, 3));
    let (first_file, second_file) = (file_of(&first, &[1; 500]), file_of(&second, &[2; 500]));
    assert_eq!(send(&mut worker, &first, chunk_at(&first_file, 0, 100)), 100);
    assert_eq!(
        send(&mut worker, &second, chunk_at(&second_file, 0, 9999)),
        second_file.len() as u64
    );
    assert_eq!(send(&mut worker, &first, chunk_at(&first_file, 100, 100)), 0);
    assert_eq!(disk.names().iter().filter(|name| name.ends_with(".part")).count(), 1);
    assert!(install(&mut worker, &second));
    assert!(disk.names().iter().all(|name| !name.ends_with(".part")));
}

#[test]
fn damage_on_the_way_is_not_installed() {
    let disk = TestDisk::default();
    let mut worker = worker_with(&disk, 5);
    let meta = meta(20, 3);
    let file = file_of(&meta, b"state");
    for at in 0..file.len() {
        let mut damaged = file.clone();
        damaged[at] ^= 0x40;
        for piece in [file.len(), 7] {
            let mut received = 0;
            for offset in (0..file.len()).step_by(piece) {
                received = send(&mut worker, &meta, chunk_at(&damaged, offset, piece));
            }
            assert!(received < file.len() as u64 || !install(&mut worker, &meta), "byte {at}");
        }
    }
    // A whole snapshot, but not the announced one.
    let other = file_of(&super::snapshots::meta(20, 2), b"state");
    send(&mut worker, &meta, chunk_at(&other, 0, 9999));
    assert!(!install(&mut worker, &meta));
    // An incomplete one.
    send(&mut worker, &meta, chunk_at(&file, 0, 50));
    assert!(!install(&mut worker, &meta));
    assert_eq!(worker.log().snapshot(), None);
    assert_eq!(read_all(worker.log_mut()).len(), 5, "nothing has changed");
    send(&mut worker, &meta, chunk_at(&file, 0, 9999));
    assert!(install(&mut worker, &meta), "and it still works");
}

#[test]
fn damage_is_noticed_when_it_is_sent() {
    let disk = TestDisk::default();
    let mut worker = worker_with(&disk, 5);
    take(&mut worker, 4, 1, &[5; 5000]);
    let mut bytes = disk.bytes(&name(4));
    bytes[3000] ^= 1;
    disk.set_bytes(&name(4), bytes);
    let ask =
        |offset| Job::ReadChunk(ReadChunk { id: 1, index: Index(4), offset, limit_bytes: 2000 });
    let completions = run(&mut worker, [ask(0), ask(2000), ask(4000)]);
    let corrupt = |completion: &Completion| {
        matches!(
            completion,
            Completion::Failed(StorageError::Corrupt { file, .. }) if *file == name(4)
        )
    };
    assert!(completions.iter().any(corrupt), "{completions:?}");
}

/// The last chunks may be lost on the network after all of them have been read.
#[test]
fn a_chunk_is_read_again_after_the_last_one() {
    let disk = TestDisk::default();
    let mut worker = worker_with(&disk, 5);
    take(&mut worker, 4, 1, &[5; 5000]);
    let ask =
        |offset| Job::ReadChunk(ReadChunk { id: 1, index: Index(4), offset, limit_bytes: 2000 });
    let completions =
        run(&mut worker, [ask(0), ask(2000), ask(4000), ask(2000), ask(4000), ask(0)]);
    let is_done = |completion: &Completion| {
        matches!(completion, Completion::Done(Done::ChunkRead { chunk: Some(_), .. }))
    };
    assert!(completions.iter().all(is_done), "{completions:?}");
    assert_eq!(completions.len(), 6);
}

#[test]
fn unfinished_files_are_removed() {
    let mut disk = TestDisk::default();
    let worker = worker_with(&disk, 2);
    drop(worker);
    for name in ["0000000000000002.snap.new", "0000000000000009.snap.part", "0000000000000007.new"]
    {
        disk.create(name, 0).unwrap();
    }
    disk.create("notes.txt", 0).unwrap();
    reopen(&disk);
    let others: Vec<String> =
        disk.names().into_iter().filter(|name| !name.ends_with(".log")).collect();
    assert_eq!(others, ["notes.txt"]);
}

#[test]
fn a_snapshot_of_what_the_log_does_not_hold_is_rejected() {
    let disk = TestDisk::default();
    for (index, term) in [(6, 1), (3, 2)] {
        let mut worker = worker_with(&disk.copy(), 5);
        let job = Job::TakeSnapshot { meta: meta(index, term), source: source(b"") };
        let completions = run(&mut worker, [job]);
        assert!(matches!(completions[..], [Completion::Failed(StorageError::Rejected { .. })]));
    }
}

#[test]
fn a_failing_source_is_reported() {
    struct Broken;
    impl Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
            Err(std::io::Error::other("the state machine is broken"))
        }
    }
    let mut worker = worker_with(&TestDisk::default(), 2);
    let job = || Job::TakeSnapshot { meta: meta(2, 1), source: SnapshotSource::new(Broken) };
    let completions = run(&mut worker, [job(), job()]);
    assert_eq!(completions.len(), 2);
    for completion in completions {
        let Completion::SnapshotFailed { index: Index(2), error } = completion else {
            panic!("{completion:?}")
        };
        let text = error_chain(&error);
        assert!(text.contains("the state machine is broken"), "{text}");
    }
}

#[test]
fn a_reader_repeats_its_end_or_its_error() {
    let disk = TestDisk::default();
    let mut worker = worker_with(&disk, 3);
    take(&mut worker, 3, 1, &content(Index(3)));
    let mut reader = worker.log_mut().snapshot_reader().unwrap().unwrap();
    let mut bytes = Vec::new();
    for _ in 0..3 {
        reader.read_to_end(&mut bytes).unwrap();
        assert_eq!(bytes, content(Index(3)));
    }
    let mut rotten = disk.bytes(&name(3));
    let at = rotten.len() - 5000;
    rotten[at] ^= 1;
    disk.set_bytes(&name(3), rotten);
    let mut reader = worker.log_mut().snapshot_reader().unwrap().unwrap();
    let mut found = vec![0; bytes.len()];
    let first_block = 256 << 10;
    reader.read_exact(&mut found[..first_block]).unwrap();
    assert_eq!(found[..first_block], bytes[..first_block]);
    for _ in 0..3 {
        let error = reader.read(&mut found).unwrap_err();
        assert!(
            error.kind() == std::io::ErrorKind::InvalidData && error.to_string().contains(&name(3)),
            "{error}"
        );
    }
}

#[test]
fn a_snapshot_without_space_leaves_the_log_alone() {
    // No space for its header, its content, its trailer.
    for room in [0, 200, 600_000] {
        let disk = TestDisk::default();
        let mut worker = worker_with(&disk, 20);
        let state = vec![7; 599_000 + 1_000 * usize::from(room == 600_000)];
        disk.limit_snapshots(Some(room));
        let take = |worker: &mut Worker<TestDisk>| {
            let source = source(&state);
            let mut completions = run(worker, [Job::TakeSnapshot { meta: meta(10, 1), source }]);
            while worker.run(&mut VecDeque::new(), &mut |completion| completions.push(completion)) {
            }
            completions
        };
        match &take(&mut worker)[..] {
            [
                Completion::SnapshotFailed {
                    index: Index(10),
                    error: StorageError::Io { source, file, .. },
                },
            ] => {
                assert_eq!(
                    (source.kind(), file.as_str()),
                    (io::ErrorKind::StorageFull, "000000000000000a.snap.new")
                );
            }
            other => panic!("{room}: {other:?}"),
        }
        assert!(
            disk.names().iter().all(|name| !name.contains(".snap")),
            "the unfinished file is removed"
        );
        let written = run(
            &mut worker,
            [Job::Write(Write { sequence: 9, ..entries(vec![command(21, 1, 30)]) })],
        );
        assert_eq!(written, [Completion::Done(Done::Written { sequence: 9 })]);
        disk.limit_snapshots(None);
        assert_eq!(take(&mut worker), [Completion::Done(Done::SnapshotTaken { index: Index(10) })]);
        let (log, _) = reopen(&disk);
        assert_eq!((log.last_index(), log.snapshot()), (Index(21), Some(&meta(10, 1))));
    }
}

#[test]
fn a_repeated_chunk_changes_nothing() {
    let disk = TestDisk::default();
    let mut worker = worker_with(&disk, 5);
    let (meta, file) = (meta(40, 2), file_of(&meta(40, 2), &content(Index(40))));
    let total_bytes = file.len() as u64;
    let third = file.len() / 3;
    let write = |worker: &mut Worker<TestDisk>, from: usize, to: usize, damage: u8| {
        let mut data = file[from..to].to_vec();
        data[0] ^= damage;
        let chunk = Chunk { offset: from as u64, total_bytes, data: Bytes::from(data) };
        let done = run(worker, [write_chunk(1, &meta, chunk)]).pop();
        let Some(Completion::Done(Done::ChunkWritten { received_bytes, .. })) = done else {
            panic!("{done:?}")
        };
        received_bytes
    };
    assert_eq!(write(&mut worker, 0, third, 0), third as u64);
    assert_eq!(write(&mut worker, third, 2 * third, 0), 2 * third as u64);
    // A late copy of an earlier chunk, damaged or not, and one from further on: the progress is
    // reported again, and nothing is written.
    let before = disk.writes();
    for (from, to, damage) in
        [(third, 2 * third, 0), (third, third + 9, 0xFF), (2 * third + 1, file.len(), 0)]
    {
        assert_eq!(write(&mut worker, from, to, damage), 2 * third as u64);
        assert_eq!(disk.writes(), before);
    }
    assert_eq!(write(&mut worker, 2 * third, file.len(), 0), total_bytes);
    let installed = run(&mut worker, [install_snapshot(1, &meta)]).pop();
    assert_eq!(
        installed,
        Some(Completion::Done(Done::SnapshotInstalled { index: Index(40), is_valid: true }))
    );
}
