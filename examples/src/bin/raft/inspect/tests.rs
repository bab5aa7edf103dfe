//! The output for whole, torn, damaged and recycled folders.

use std::{
    collections::{BTreeMap, VecDeque},
    fs,
    path::Path,
};

use bytes::Bytes;
use kodiak_raft::{
    storage::{Job, Log, LogOptions, RealDisk, SnapshotSource, Worker},
    types::{
        ClusterId, Digest, DiskId, GroupId, Identity, Index, Member, NodeId, SnapshotMeta, Stamp,
        Term, Write,
    },
};

use super::run as inspect;
use super::*;

fn options() -> LogOptions {
    LogOptions::default().segment_bytes(4096).tail_bytes(1000)
}

fn bootstrap() -> Configuration {
    Configuration::of_voters([(
        NodeId(1),
        Member {
            disk: DiskId(0),
            address: "localhost:7001".to_owned(),
            priority: 0,
            ..Member::default()
        },
    )])
}

fn command(index: u64, text: &[u8]) -> Job {
    let payload = Payload::Command(Bytes::copy_from_slice(text));
    let entry = Entry { index: Index(index), term: Term(3), stamp: Stamp(index), payload };
    Job::Write(Write { sequence: index, entries: entry.into(), ..Write::default() })
}

fn worker(folder: &Path) -> Worker<RealDisk> {
    let identity =
        Identity { cluster: ClusterId(7), group: GroupId(1), node: NodeId(1), disk: DiskId(9) };
    let mut log =
        Log::create(RealDisk::open(folder).unwrap(), &identity, &bootstrap(), options()).unwrap();
    let hard_state =
        Some(HardState { term: Term(3), vote: Some(NodeId(1)), ..HardState::default() });
    log.append(&Write { hard_state, ..Write::default() }).unwrap();
    Worker::new(log)
}

fn run(worker: &mut Worker<RealDisk>, jobs: impl IntoIterator<Item = Job>) {
    let mut jobs = VecDeque::from_iter(jobs);
    let complete = |completion| match completion {
        kodiak_raft::storage::Completion::Done(_) => {}
        failed => panic!("{failed:?}"),
    };
    while worker.run(&mut jobs, &mut { complete }) {}
}

fn take(worker: &mut Worker<RealDisk>, index: u64) {
    let meta = SnapshotMeta {
        index: Index(index),
        term: Term(3),
        stamp: Stamp(9),
        configuration: bootstrap(),
        digest: None,
    };
    run(worker, [Job::TakeSnapshot { meta, source: SnapshotSource::new(&b"the state"[..]) }]);
}

fn printed(folder: &Path, entries: bool) -> (u64, String) {
    let before = contents(folder);
    let mut out = Vec::new();
    let damaged = print(&mut out, &Arguments { folder: folder.to_owned(), entries }).unwrap();
    assert!(contents(folder) == before, "it is only read");
    (damaged, String::from_utf8(out).unwrap())
}

fn contents(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let files = fs::read_dir(folder).unwrap().map(|file| file.unwrap());
    files
        .map(|file| (file.file_name().into_string().unwrap(), fs::read(file.path()).unwrap()))
        .collect()
}

const FIRST: &str = "0000000000000001.log";

#[test]
fn a_whole_folder_is_printed_entry_by_entry() {
    let folder = tempfile::tempdir().unwrap();
    let mut worker = worker(folder.path());
    run(&mut worker, [command(1, b"SET a \"b\"\x00\xFF"), command(2, b"")]);
    take(&mut worker, 1);
    let (damaged, text) = printed(folder.path(), true);
    assert_eq!(damaged, 0, "{text}");
    for line in [
        "A node is running on it",
        "0000000000000001.snap: snapshot",
        "up to entry 1 of term 3, stamp 9",
        "voters 1 (localhost:7001)",
        "0000000000000001.log: segment, 4096 bytes",
        "SYNCED: on disk up to frame 4 of segment 1",
        "cluster 00000000000000000000000000000007, group 1, node 1",
        "node 1, disk 00000000000000000000000000000009",
        "term 3, vote for node 1",
        "entry 1 of term 3: 1 command, 11 bytes",
        r#"1 term 3 stamp 1 command "SET a \"b\"\x00\xff""#,
        "A node that starts would have\n  term 3, vote for node 1\n",
        "entries 1 to 2, the last one of term 3",
        "\n  configuration: voters 1 (localhost:7001)",
    ] {
        assert!(text.contains(line), "{line:?} is not in\n{text}");
    }
    drop(worker);
    let (_, text) = printed(folder.path(), false);
    assert!(!text.contains("running") && !text.contains("SET"), "{text}");
}

/// The bytes of the first segment with a change, and what is printed then.
fn changed(folder: &Path, change: impl FnOnce(&mut Vec<u8>)) -> (u64, String) {
    let mut bytes = fs::read(folder.join(FIRST)).unwrap();
    change(&mut bytes);
    fs::write(folder.join(FIRST), bytes).unwrap();
    printed(folder, false)
}

fn end_of(bytes: &[u8]) -> usize {
    bytes.len() - bytes.iter().rev().take_while(|&&byte| byte == 0).count()
}

#[test]
fn a_torn_folder_is_not_a_damaged_one() {
    let folder = tempfile::tempdir().unwrap();
    let mut worker = worker(folder.path());
    run(&mut worker, [command(1, b"first")]);
    run(&mut worker, [command(2, b"second")]);
    drop(worker);
    let (damaged, text) = changed(folder.path(), |bytes| {
        let end = end_of(bytes);
        bytes[end - 3..].fill(0);
    });
    assert_eq!(damaged, 1, "{text}");
    assert!(
        text.contains("A node would refuse to start")
            && text.contains("entries from 2 on are lost"),
        "{text}"
    );
    // After a power failure the second mark may be missing.
    fs::remove_file(folder.path().join("SYNCED")).unwrap();
    let (damaged, text) = printed(folder.path(), false);
    assert_eq!(damaged, 0, "{text}");
    assert!(text.contains("SYNCED: no mark"), "{text}");
    assert!(text.contains("torn: a frame's checksum does not match its bytes"), "{text}");
    assert!(
        text.contains("cut 0000000000000001.log off at byte")
            && text.contains("\n  entry 1 of term 3\n"),
        "{text}"
    );
    assert!(text.contains("copy the last 2 writes to a new segment"), "{text}");
}

#[test]
fn damage_is_counted_and_printed_in_its_place() {
    let folder = tempfile::tempdir().unwrap();
    let mut worker = worker(folder.path());
    for index in 1..6 {
        run(&mut worker, [command(index, b"something to rot")]);
    }
    take(&mut worker, 2);
    drop(worker);
    let place = |bytes: &[u8]| end_of(bytes) / 2;
    let (damaged, text) = changed(folder.path(), |bytes| {
        let place = place(bytes);
        bytes[place] ^= 1;
    });
    assert_eq!(damaged, 2, "the place, and that a node would not start: {text}");
    assert!(text.contains("DAMAGED: a frame's checksum does not match its bytes"), "{text}");
    assert!(text.contains("A node would refuse to start"), "{text}");
    assert!(text.contains("entry 5 of term 3"), "what lies behind is printed: {text}");
    // The opening itself.
    let (damaged, text) = changed(folder.path(), |bytes| {
        let place = place(bytes);
        bytes[place] ^= 1;
        bytes[60] ^= 1;
    });
    assert_eq!(damaged, 2, "the other place is as it was: {text}");
    assert!(text.contains("entry 5 of term 3"), "{text}");
    // The snapshot: the log reaches back to entry 1, so a node would ignore it.
    let (_, text) = changed(folder.path(), |bytes| bytes[60] ^= 1);
    assert!(!text.contains("refuse"), "{text}");
    let file = folder.path().join("0000000000000002.snap");
    let mut bytes = fs::read(&file).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(file, bytes).unwrap();
    let (damaged, text) = printed(folder.path(), false);
    assert_eq!(damaged, 1, "{text}");
    assert!(
        text.contains("ignore 0000000000000002.snap") && text.contains("no snapshot"),
        "{text}"
    );
}

/// A folder with entries 1 to 3, a snapshot of entry 2, and the mark that the state differs. The
/// last entry on which the node agreed with the others is `agreed`.
pub(crate) fn diverged(folder: &Path, agreed: Index) {
    let mut worker = worker(folder);
    run(&mut worker, (1..4).map(|index| command(index, b"SET a b")));
    take(&mut worker, 2);
    let digest = Digest { index: Index(3), version: 1, value: 0xa };
    run(&mut worker, [Job::MarkDiverged(Divergence { digest, majority: 0xb, agreed })]);
}

#[test]
fn a_diverged_state_is_explained() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    diverged(folder, Index(1));
    let (damaged, text) = printed(folder, false);
    assert_eq!(damaged, 0, "{text}");
    for words in [
        "DIVERGED: after entry 3 the state of this node has digest 000000000000000a",
        "a majority of the voters has 000000000000000b (version 1)",
        "They last agreed after entry 1",
        "the snapshot of entry 2 may be wrong. Leave the file",
        "would\n  ask the leader for a snapshot",
    ] {
        assert!(text.contains(words), "{words:?} is not in\n{text}");
    }
    fs::write(folder.join("DIVERGED"), [0; 52]).unwrap();
    fs::write(folder.join("DIVERGED.new"), []).unwrap();
    let (damaged, text) = printed(folder, false);
    assert_eq!(damaged, 1, "{text}");
    assert!(text.contains("DAMAGED: DIVERGED cannot be read"), "{text}");
    assert!(text.contains("DIVERGED.new: cut short by a crash"), "{text}");
}

#[test]
fn a_state_that_the_log_rebuilds_is_explained() {
    let folder = tempfile::tempdir().unwrap();
    diverged(folder.path(), Index(2));
    let (damaged, text) = printed(folder.path(), false);
    assert_eq!(damaged, 0, "{text}");
    assert!(text.contains("builds its state from the log, and removes the file"), "{text}");
    assert!(!text.contains("ask the leader"), "{text}");
}

#[test]
fn a_recycled_segment_is_recognized() {
    let folder = tempfile::tempdir().unwrap();
    let mut worker = worker(folder.path());
    run(&mut worker, (1..90).map(|index| command(index, &[b'x'; 200])));
    take(&mut worker, 89);
    run(&mut worker, [Job::Compact { first: Index(90) }]);
    let segments = worker.log().segment_files();
    let mut next = 90;
    // The next segment's file was made ready before there was a spare; the one after it is a
    // spare's.
    while worker.log().segment_files().len() < segments.len() + 2 {
        run(&mut worker, [command(next, &[b'y'; 200])]);
        next += 1;
    }
    drop(worker);
    let (damaged, text) = printed(folder.path(), false);
    assert_eq!(damaged, 0, "{text}");
    assert!(text.contains("the file was recycled from an older segment"), "{text}");
    assert!(text.contains("the rest is left from the older segment"), "{text}");
    assert!(text.contains(".spare: room for a later segment"), "{text}");
    assert!(text.contains("a snapshot up to entry 89 of term 3"), "{text}");
}

#[test]
fn special_files_are_named() {
    let folder = tempfile::tempdir().unwrap();
    drop(worker(folder.path()));
    let second = "0000000000000002.log";
    assert!(
        std::process::Command::new("mkfifo")
            .arg(folder.path().join(second))
            .status()
            .unwrap()
            .success()
    );
    fs::create_dir(folder.path().join("0000000000000009.snap")).unwrap();
    let mut out = Vec::new();
    let damaged =
        print(&mut out, &Arguments { folder: folder.path().to_owned(), entries: false }).unwrap();
    let text = String::from_utf8(out).unwrap();
    assert_eq!(damaged, 3, "both, and that a node would not start: {text}");
    assert!(text.contains("DAMAGED: 0000000000000002.log: it is a FIFO"), "{text}");
    assert!(text.contains("DAMAGED: 0000000000000009.snap: it is a directory"), "{text}");
    assert!(text.contains("A node would refuse to start"), "{text}");
}

#[test]
fn an_empty_folder_has_no_log() {
    let folder = tempfile::tempdir().unwrap();
    let (damaged, text) = printed(folder.path(), false);
    assert!(damaged == 0 && text.contains("There is no log here."), "{text}");
    let missing = Arguments { folder: folder.path().join("missing"), entries: false };
    let error = inspect(&missing).unwrap_err().to_string();
    assert!(error.contains("missing"), "{error}");
}
