//! A new cluster out of an old folder: everything comes over but who belonged to the cluster, and the old folder stays as it
//! was.

use std::collections::{BTreeMap, VecDeque};
use std::fs;
use std::io::Read;
use std::path::Path;

use super::*;
use crate::storage::{Completion, Job, RealDisk, Salvage, SalvageError, SnapshotSource, StorageError, Worker};
use crate::types::SnapshotMeta;

const FIRST: &str = "0000000000000001.log";

/// Sixty commands with a change of membership among them; a snapshot up to `snapshot`, if that is not 0.
fn make_old(folder: &Path, snapshot: u64) -> Vec<Entry> {
    let disk = RealDisk::open(folder).unwrap();
    let mut worker = Worker::new(Log::create(disk, &identity(), &founding(), OPTIONS).unwrap());
    let mut written = Vec::new();
    for index in 1..=60 {
        let mut entry = command(index, 1 + index / 20, 300);
        if index == 50 {
            entry.payload = Payload::Configuration(Box::new(founding()));
        }
        let write = Write { hard_state: hard_state(entry.term.0, 1), ..entries(vec![entry.clone()]) };
        run(&mut worker, Job::Write(Write { sequence: index, ..write }));
        written.push(entry);
    }
    if snapshot > 0 {
        let (index, term) = (Index(snapshot), Term(1 + snapshot / 20));
        let meta = SnapshotMeta { index, term, stamp: Stamp(snapshot * 10), configuration: founding(), digest: None };
        run(&mut worker, Job::TakeSnapshot { meta, source: SnapshotSource::new(&b"the state"[..]) });
        run(&mut worker, Job::Compact { first: index });
    }
    written
}

fn run(worker: &mut Worker<RealDisk>, job: Job) {
    let mut jobs = VecDeque::from([job]);
    let mut complete = |completion| assert!(matches!(completion, Completion::Done(_)), "{completion:?}");
    while worker.run(&mut jobs, &mut complete) {}
}

fn salvage(folder: &Path) -> Salvage {
    let identity = Identity { cluster: ClusterId(99), group: GroupId(0), node: NodeId(7), disk: DiskId(0xABC) };
    let (from, into) = (folder.join("old"), folder.join("new"));
    Salvage { from, into, identity, address: "seven:7".to_owned(), log: OPTIONS }
}

fn contents(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let files = fs::read_dir(folder).unwrap().map(|file| file.unwrap());
    files.map(|file| (file.file_name().into_string().unwrap(), fs::read(file.path()).unwrap())).collect()
}

#[test]
fn everything_comes_over_but_the_members() {
    // From the log alone; from a snapshot with a log after it; from a snapshot that includes everything.
    for snapshot in [0, 33, 60] {
        let folder = tempfile::tempdir().unwrap();
        let salvage = salvage(folder.path());
        let written = make_old(&salvage.from, snapshot);
        let before = contents(&salvage.from);
        let salvaged = salvage.run().unwrap();
        assert_eq!(contents(&salvage.from), before, "the old folder is only read");
        assert_eq!((salvaged.from, salvaged.last, salvaged.term), (identity(), (Index(60), Term(4)), Term(5)));
        assert_eq!(salvaged.configuration, founding());

        let (mut log, recovered) = Log::open(RealDisk::open(&salvage.into).unwrap(), OPTIONS).unwrap();
        let expected = Identity { group: identity().group, ..salvage.identity };
        assert_eq!(recovered.identity, expected);
        let saved = recovered.saved;
        assert_eq!(saved.hard_state, HardState { term: Term(5), ..HardState::default() });
        assert_eq!(saved.configuration().voters, [NodeId(7)].into());
        let member = &saved.configuration().members[&NodeId(7)];
        assert_eq!((member.disk, &*member.address), (DiskId(0xABC), "seven:7"));
        assert_eq!(saved.configurations, [], "what was in force in the old cluster is forgotten");
        assert_eq!(saved.founding, *saved.configuration());
        assert_eq!((saved.terms.base(), saved.terms.last_index()), (Index(snapshot), Index(60)));
        assert_eq!(saved.snapshot.as_ref().map_or(0, |meta| meta.index.0), snapshot);
        if let Some(meta) = &saved.snapshot {
            assert_eq!((meta.stamp, &meta.configuration), (Stamp(snapshot * 10), &saved.founding));
            let mut state = Vec::new();
            log.snapshot_reader().unwrap().unwrap().read_to_end(&mut state).unwrap();
            assert_eq!(state, b"the state");
        }
        let fetch = Fetch { id: 1, from: Index(snapshot + 1), to: Index(60), limit_bytes: usize::MAX };
        let copied = log.read(&fetch).unwrap();
        for (copied, written) in copied.iter().zip(&written[snapshot as usize..]) {
            let payload = if written.index == Index(50) { Payload::Noop } else { written.payload.clone() };
            assert_eq!(*copied, Entry { payload, ..written.clone() });
        }
        assert_eq!(copied.len() as u64, 60 - snapshot);
    }
}

#[test]
fn a_damaged_log_is_refused_with_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let salvage = salvage(folder.path());
    make_old(&salvage.from, 0);
    let mut bytes = fs::read(salvage.from.join(FIRST)).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(salvage.from.join(FIRST), bytes).unwrap();
    let before = contents(&salvage.from);
    let error = salvage.run().unwrap_err();
    assert!(matches!(&error, SalvageError::Old { error: StorageError::Corrupt { .. }, .. }), "{error}");
    assert!(error.to_string().contains("folder of another member"), "{error}");
    assert_eq!(contents(&salvage.from), before);
    assert!(!salvage.into.exists());
}

#[test]
fn a_torn_tail_is_cut_as_it_would_be_at_a_start() {
    let folder = tempfile::tempdir().unwrap();
    let salvage = salvage(folder.path());
    let mut log = Log::create(RealDisk::open(&salvage.from).unwrap(), &identity(), &founding(), OPTIONS).unwrap();
    log.append(&entries(vec![command(1, 1, 10)])).unwrap();
    log.sync().unwrap();
    log.append(&entries(vec![command(2, 1, 10)])).unwrap();
    // It reaches the file, and no sync.
    log.read(&Fetch { id: 1, from: Index(1), to: Index(1), limit_bytes: 1 }).unwrap();
    drop(log);
    let mut bytes = fs::read(salvage.from.join(FIRST)).unwrap();
    let end = bytes.len() - bytes.iter().rev().take_while(|&&byte| byte == 0).count();
    bytes[end - 3..].fill(0);
    fs::write(salvage.from.join(FIRST), bytes).unwrap();
    assert_eq!(salvage.run().unwrap().last, (Index(1), Term(1)));
}

#[test]
fn folders_in_use_or_in_the_way_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let salvage = salvage(folder.path());
    assert!(matches!(salvage.run(), Err(SalvageError::Io { .. })), "there is no old folder");
    make_old(&salvage.from, 0);
    let running = RealDisk::open(&salvage.from).unwrap();
    assert!(matches!(salvage.run(), Err(SalvageError::InUse(_))));
    drop(running);
    let part = folder.path().join("new.recovering");
    fs::create_dir(&part).unwrap();
    assert!(matches!(salvage.run(), Err(SalvageError::LeftOver(_))));
    fs::remove_dir(&part).unwrap();
    fs::create_dir(&salvage.into).unwrap();
    salvage.run().unwrap();
    assert!(matches!(salvage.run(), Err(SalvageError::NotEmpty(_))));
    assert!(!part.exists());
}
