//! A new cluster out of an old folder: everything comes over but who belonged to the cluster, and
//! the old folder stays as it was.

use std::collections::{BTreeMap, VecDeque};
use std::fs;
use std::io::Read;
use std::path::Path;

use super::*;
use crate::storage::{
    Completion, DisasterRecovery, DisasterRecoveryError, Job, RealDisk, RecoveredCluster,
    SnapshotSource, StorageError, Worker,
};
use crate::types::SnapshotMeta;

const FIRST: &str = "0000000000000001.log";

/// Sixty commands with a change of membership among them; a snapshot up to `snapshot`, if that is
/// not 0.
fn make_old(folder: &Path, snapshot: u64) -> Vec<Entry> {
    let disk = RealDisk::open(folder).unwrap();
    let mut worker = Worker::new(Log::create(disk, &identity(), &founding(), OPTIONS).unwrap());
    let mut written = Vec::new();
    for index in 1..=60 {
        let mut entry = command(index, 1 + index / 20, 300);
        if index == 50 {
            entry.payload = Payload::Configuration(Box::new(founding()));
        }
        let write =
            Write { hard_state: hard_state(entry.term.0, 1), ..entries(vec![entry.clone()]) };
        run(&mut worker, Job::Write(Write { sequence: index, ..write }));
        written.push(entry);
    }
    if snapshot > 0 {
        let (index, term) = (Index(snapshot), Term(1 + snapshot / 20));
        let meta = SnapshotMeta {
            index,
            term,
            stamp: Stamp(snapshot * 10),
            configuration: founding(),
            digest: None,
        };
        run(
            &mut worker,
            Job::TakeSnapshot { meta, source: SnapshotSource::new(&b"the state"[..]) },
        );
        run(&mut worker, Job::Compact { first: index });
    }
    written
}

fn run(worker: &mut Worker<RealDisk>, job: Job) {
    let mut jobs = VecDeque::from([job]);
    let mut complete =
        |completion| assert!(matches!(completion, Completion::Done(_)), "{completion:?}");
    while worker.run(&mut jobs, &mut complete) {}
}

fn salvage(folder: &Path) -> DisasterRecovery {
    let identity = Identity {
        cluster: ClusterId(99),
        group: GroupId(0),
        node: NodeId(7),
        disk: DiskId(0xABC),
    };
    let (from, into) = (folder.join("old"), folder.join("new"));
    DisasterRecovery { from, into, identity, address: "seven:7".to_owned(), log: OPTIONS }
}

fn contents(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let files = fs::read_dir(folder).unwrap().map(|file| file.unwrap());
    files
        .map(|file| (file.file_name().into_string().unwrap(), fs::read(file.path()).unwrap()))
        .collect()
}

#[test]
fn everything_comes_over_but_the_members() {
    // From the log alone; from a snapshot with a log after it; from a snapshot that includes
    // everything.
    for snapshot in [0, 33, 60] {
        let folder = tempfile::tempdir().unwrap();
        let salvage = salvage(folder.path());
        let written = make_old(&salvage.from, snapshot);
        let before = contents(&salvage.from);
        let salvaged = salvage.run().unwrap();
        assert_eq!(contents(&salvage.from), before, "the old folder is only read");
        assert_eq!(
            (salvaged.from, salvaged.last, salvaged.term),
            (identity(), (Index(60), Term(4)), Term(5))
        );
        assert_eq!(salvaged.loss, None);
        assert_eq!(salvaged.configuration, founding());

        let (mut log, recovered) =
            Log::open(RealDisk::open(&salvage.into).unwrap(), OPTIONS).unwrap();
        let expected = Identity { group: identity().group, ..salvage.identity };
        assert_eq!(recovered.identity, expected);
        let saved = recovered.saved;
        assert_eq!(saved.hard_state, HardState { term: Term(5), ..HardState::default() });
        assert_eq!(saved.configuration().voters, [NodeId(7)].into());
        let member = &saved.configuration().members[&NodeId(7)];
        assert_eq!((member.disk, &*member.address), (DiskId(0xABC), "seven:7"));
        assert_eq!(saved.configurations, [], "what was in force in the old cluster is forgotten");
        assert_eq!(saved.initial_configuration, *saved.configuration());
        assert_eq!((saved.terms.base(), saved.terms.last_index()), (Index(snapshot), Index(60)));
        assert_eq!(saved.snapshot.as_ref().map_or(0, |meta| meta.index.0), snapshot);
        if let Some(meta) = &saved.snapshot {
            assert_eq!(
                (meta.stamp, &meta.configuration),
                (Stamp(snapshot * 10), &saved.initial_configuration)
            );
            let mut state = Vec::new();
            log.snapshot_reader().unwrap().unwrap().read_to_end(&mut state).unwrap();
            assert_eq!(state, b"the state");
        }
        let fetch =
            Fetch { id: 1, from: Index(snapshot + 1), to: Index(60), limit_bytes: usize::MAX };
        let copied = log.read(&fetch).unwrap();
        for (copied, written) in copied.iter().zip(&written[snapshot as usize..]) {
            let payload =
                if written.index == Index(50) { Payload::Noop } else { written.payload.clone() };
            assert_eq!(*copied, Entry { payload, ..written.clone() });
        }
        assert_eq!(copied.len() as u64, 60 - snapshot);
    }
}

#[test]
fn a_log_of_which_nothing_is_whole_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let salvage = salvage(folder.path());
    make_old(&salvage.from, 0);
    let mut bytes = fs::read(salvage.from.join(FIRST)).unwrap();
    bytes[60] ^= 1;
    fs::write(salvage.from.join(FIRST), bytes).unwrap();
    let before = contents(&salvage.from);
    let error = salvage.run().unwrap_err();
    assert!(
        matches!(&error, DisasterRecoveryError::Old { error: StorageError::Corrupt { .. }, .. }),
        "{error}"
    );
    assert!(error.to_string().contains("folder of another member"), "{error}");
    assert_eq!(contents(&salvage.from), before);
    assert!(!salvage.into.exists());
}

#[test]
fn a_torn_tail_is_cut_as_it_would_be_at_a_start() {
    let folder = tempfile::tempdir().unwrap();
    let salvage = salvage(folder.path());
    let mut log =
        Log::create(RealDisk::open(&salvage.from).unwrap(), &identity(), &founding(), OPTIONS)
            .unwrap();
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
    assert!(
        matches!(salvage.run(), Err(DisasterRecoveryError::Io { .. })),
        "there is no old folder"
    );
    make_old(&salvage.from, 0);
    let running = RealDisk::open(&salvage.from).unwrap();
    assert!(matches!(salvage.run(), Err(DisasterRecoveryError::InUse(_))));
    drop(running);
    let part = folder.path().join("new.recovering");
    fs::create_dir(&part).unwrap();
    assert!(matches!(salvage.run(), Err(DisasterRecoveryError::LeftOver(_))));
    fs::remove_dir(&part).unwrap();
    fs::create_dir(&salvage.into).unwrap();
    salvage.run().unwrap();
    assert!(matches!(salvage.run(), Err(DisasterRecoveryError::NotEmpty(_))));
    assert!(!part.exists());
}

/// What comes over, and the entries after its snapshot.
fn recovered(salvage: &DisasterRecovery) -> (RecoveredCluster, Vec<Entry>) {
    let before = contents(&salvage.from);
    let salvaged = salvage.run().unwrap();
    assert_eq!(contents(&salvage.from), before, "the old folder is only read");
    let (mut log, recovered) = Log::open(RealDisk::open(&salvage.into).unwrap(), OPTIONS).unwrap();
    assert_eq!(recovered.saved.terms.last_index(), salvaged.last.0);
    assert_eq!(
        recovered.saved.hard_state,
        HardState { term: salvaged.term, ..HardState::default() }
    );
    let (from, to) = (log.first_index(), Index(u64::MAX));
    let entries = log.read(&Fetch { id: 1, from, to, limit_bytes: usize::MAX }).unwrap();
    (salvaged, entries)
}

fn lost(salvaged: &RecoveredCluster) -> (u64, u64) {
    let loss = salvaged.loss.as_ref().unwrap();
    assert_eq!(loss.kept, salvaged.last.0);
    (loss.kept.0, loss.known.0)
}

fn change(folder: &Path, file: &str, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = fs::read(folder.join(file)).unwrap();
    change(&mut bytes);
    fs::write(folder.join(file), bytes).unwrap();
}

fn segments(folder: &Path) -> Vec<String> {
    contents(folder).into_keys().filter(|name| name.ends_with(".log")).collect()
}

fn frames_end(bytes: &[u8]) -> usize {
    bytes.len() - bytes.iter().rev().take_while(|&&byte| byte == 0).count()
}

#[test]
fn the_whole_part_of_a_damaged_log_comes_over() {
    for (segment, place) in [(0, 2), (2, 1), (2, 3), (5, 2)] {
        let folder = tempfile::tempdir().unwrap();
        let salvage = salvage(folder.path());
        let written = make_old(&salvage.from, 0);
        let name = &segments(&salvage.from)[segment];
        change(&salvage.from, name, |bytes| {
            let at = frames_end(bytes) * place / 4;
            bytes[at] ^= 1;
        });
        let (salvaged, entries) = recovered(&salvage);
        let (kept, known) = lost(&salvaged);
        assert!(kept > 0 && kept < 60, "{kept}");
        assert_eq!(known, 60, "the second mark says so");
        assert_eq!(salvaged.term, Term(written[kept as usize - 1].term.0 + 1));
        assert_eq!(entries.len() as u64, kept);
        for (copied, written) in
            entries.iter().zip(&written).filter(|(_, written)| written.index != Index(50))
        {
            assert_eq!(copied, written);
        }
        assert!(salvaged.loss.unwrap().damaged.iter().any(|(file, _)| file > name || kept > 50));
    }
}

#[test]
fn what_is_known_to_be_lost_is_told_without_the_second_mark() {
    let folder = tempfile::tempdir().unwrap();
    let salvage = salvage(folder.path());
    make_old(&salvage.from, 0);
    fs::remove_file(salvage.from.join("SYNCED")).unwrap();
    change(&salvage.from, FIRST, |bytes| bytes[2000] ^= 1);
    let (salvaged, _) = recovered(&salvage);
    assert_eq!(lost(&salvaged).1, 60, "the frames after the damage say so");
}

#[test]
fn a_cut_end_and_missing_segments_are_told() {
    for missing in [1, 3] {
        let folder = tempfile::tempdir().unwrap();
        let salvage = salvage(folder.path());
        make_old(&salvage.from, 0);
        let names = segments(&salvage.from);
        fs::remove_file(salvage.from.join(&names[names.len() - missing])).unwrap();
        let (salvaged, _) = recovered(&salvage);
        let (kept, known) = lost(&salvaged);
        assert!(kept > 10 && kept < 60 && known == 60, "{kept} {known}");
    }
}

#[test]
fn an_older_snapshot_comes_over_if_the_newest_is_damaged() {
    let folder = tempfile::tempdir().unwrap();
    let salvage = salvage(folder.path());
    // One that is older, beside a log that has been compacted up to the newer one.
    make_old(&salvage.from, 33);
    let older = fs::read(salvage.from.join("0000000000000021.snap")).unwrap();
    fs::remove_dir_all(&salvage.from).unwrap();
    make_old(&salvage.from, 50);
    fs::write(salvage.from.join("0000000000000021.snap"), older).unwrap();
    change(&salvage.from, "0000000000000032.snap", |bytes| *bytes.last_mut().unwrap() ^= 1);
    let (salvaged, entries) = recovered(&salvage);
    assert_eq!((lost(&salvaged), entries), ((33, 60), vec![]));
    assert_eq!((salvaged.last, salvaged.term), ((Index(33), Term(2)), Term(3)));
    // Nothing but a snapshot is left.
    fs::remove_dir_all(&salvage.into).unwrap();
    for segment in segments(&salvage.from) {
        fs::remove_file(salvage.from.join(segment)).unwrap();
    }
    let (salvaged, _) = recovered(&salvage);
    assert_eq!((salvaged.from.node, salvaged.last.0), (NodeId(0), Index(33)));
    assert_eq!(salvaged.loss.unwrap().known, Index(50), "the damaged snapshot's name says so");
}

#[test]
fn a_term_driven_up_does_not_come_over() {
    for term in [u64::MAX, u64::MAX - 1] {
        let folder = tempfile::tempdir().unwrap();
        let salvage = salvage(folder.path());
        make_old(&salvage.from, 0);
        let (mut log, _) = Log::open(RealDisk::open(&salvage.from).unwrap(), OPTIONS).unwrap();
        log.append(&Write { hard_state: hard_state(term, 0), ..entries(vec![]) }).unwrap();
        log.sync().unwrap();
        drop(log);
        assert_eq!(recovered(&salvage).0.term, Term(5));
    }
    let folder = tempfile::tempdir().unwrap();
    let salvage = salvage(folder.path());
    make_old(&salvage.from, 0);
    let (mut log, _) = Log::open(RealDisk::open(&salvage.from).unwrap(), OPTIONS).unwrap();
    log.append(&entries(vec![command(61, 1 << 62, 1)])).unwrap();
    log.sync().unwrap();
    drop(log);
    assert!(
        matches!(salvage.run(), Err(DisasterRecoveryError::TermsExhausted { term: Term(term), .. }) if term == 1 << 62)
    );
    assert!(!salvage.into.exists());
}
