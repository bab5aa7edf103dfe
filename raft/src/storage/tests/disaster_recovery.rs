//! Disaster recovery copies everything but the members, and only reads the old folder.

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
    let mut worker =
        Worker::new(Log::create(disk, &identity(), &initial_configuration(), OPTIONS).unwrap());
    let mut written = Vec::new();
    for index in 1..=60 {
        let mut entry = command(index, 1 + index / 20, 300);
        if index == 50 {
            entry.payload = Payload::Configuration(Box::new(initial_configuration()));
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
            configuration: initial_configuration(),
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

fn recovery(folder: &Path) -> DisasterRecovery {
    let identity = Identity {
        cluster: ClusterId(99),
        group: GroupId(0),
        node: NodeId(7),
        disk: DiskId(0xABC),
    };
    let (from, into) = (folder.join("old"), folder.join("new"));
    DisasterRecovery::new(from, into, identity, "seven:7").log(OPTIONS)
}

fn contents(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let files = fs::read_dir(folder).unwrap().map(|file| file.unwrap());
    files
        .map(|file| (file.file_name().into_string().unwrap(), fs::read(file.path()).unwrap()))
        .collect()
}

#[test]
fn everything_but_the_members_is_copied() {
    // The log alone, a snapshot with a log after it, a snapshot that includes everything.
    for snapshot in [0, 33, 60] {
        let folder = tempfile::tempdir().unwrap();
        let recovery = recovery(folder.path());
        let written = make_old(&recovery.from, snapshot);
        let before = contents(&recovery.from);
        let new = recovery.run().unwrap();
        assert_eq!(contents(&recovery.from), before, "the old folder is only read");
        assert_eq!(
            (new.old_identity, new.last_index, new.last_term, new.term),
            (identity(), Index(60), Term(4), Term(5))
        );
        assert_eq!(new.loss, None);
        assert_eq!(new.configuration, initial_configuration());

        let (mut log, recovered) =
            Log::open(RealDisk::open(&recovery.into).unwrap(), OPTIONS).unwrap();
        let expected = Identity { group: identity().group, ..recovery.identity };
        assert_eq!(recovered.identity, expected);
        let saved = recovered.saved;
        assert_eq!(saved.hard_state, HardState { term: Term(5), ..HardState::default() });
        assert_eq!(saved.configuration().voters, [NodeId(7)].into());
        let member = &saved.configuration().members[&NodeId(7)];
        assert_eq!((member.disk, &*member.address), (DiskId(0xABC), "seven:7"));
        assert_eq!(saved.configurations, [], "the old configuration is not copied");
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
    let recovery = recovery(folder.path());
    make_old(&recovery.from, 0);
    let mut bytes = fs::read(recovery.from.join(FIRST)).unwrap();
    bytes[60] ^= 1;
    fs::write(recovery.from.join(FIRST), bytes).unwrap();
    let before = contents(&recovery.from);
    let error = recovery.run().unwrap_err();
    assert!(
        matches!(
            &error,
            DisasterRecoveryError::OldLog { source: StorageError::Corrupt { .. }, .. }
        ),
        "{error}"
    );
    assert!(error.to_string().contains("folder of another member"), "{error}");
    assert_eq!(contents(&recovery.from), before);
    assert!(!recovery.into.exists());
}

#[test]
fn a_torn_tail_is_cut_off_as_at_a_start() {
    let folder = tempfile::tempdir().unwrap();
    let recovery = recovery(folder.path());
    let mut log = Log::create(
        RealDisk::open(&recovery.from).unwrap(),
        &identity(),
        &initial_configuration(),
        OPTIONS,
    )
    .unwrap();
    log.append(&entries(vec![command(1, 1, 10)])).unwrap();
    log.sync().unwrap();
    log.append(&entries(vec![command(2, 1, 10)])).unwrap();
    // The read writes it to the file, without a sync.
    log.read(&Fetch { id: 1, from: Index(1), to: Index(1), limit_bytes: 1 }).unwrap();
    drop(log);
    let mut bytes = fs::read(recovery.from.join(FIRST)).unwrap();
    let end = bytes.len() - bytes.iter().rev().take_while(|&&byte| byte == 0).count();
    bytes[end - 3..].fill(0);
    fs::write(recovery.from.join(FIRST), bytes).unwrap();
    let new = recovery.run().unwrap();
    assert_eq!((new.last_index, new.last_term), (Index(1), Term(1)));
}

#[test]
fn folders_in_use_or_in_the_way_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let recovery = recovery(folder.path());
    assert!(
        matches!(recovery.run(), Err(DisasterRecoveryError::Io { .. })),
        "there is no old folder"
    );
    make_old(&recovery.from, 0);
    let running = RealDisk::open(&recovery.from).unwrap();
    assert!(matches!(recovery.run(), Err(DisasterRecoveryError::InUse(_))));
    drop(running);
    let part = folder.path().join("new.recovering");
    fs::create_dir(&part).unwrap();
    assert!(matches!(recovery.run(), Err(DisasterRecoveryError::Unfinished(_))));
    fs::remove_dir(&part).unwrap();
    fs::create_dir(&recovery.into).unwrap();
    recovery.run().unwrap();
    assert!(matches!(recovery.run(), Err(DisasterRecoveryError::NotEmpty(_))));
    assert!(!part.exists());
}

/// Recovers a cluster. Returns also the entries after its snapshot.
fn recovered(recovery: &DisasterRecovery) -> (RecoveredCluster, Vec<Entry>) {
    let before = contents(&recovery.from);
    let new = recovery.run().unwrap();
    assert_eq!(contents(&recovery.from), before, "the old folder is only read");
    let (mut log, recovered) = Log::open(RealDisk::open(&recovery.into).unwrap(), OPTIONS).unwrap();
    assert_eq!(recovered.saved.terms.last_index(), new.last_index);
    assert_eq!(recovered.saved.hard_state, HardState { term: new.term, ..HardState::default() });
    let (from, to) = (log.first_index(), Index(u64::MAX));
    let entries = log.read(&Fetch { id: 1, from, to, limit_bytes: usize::MAX }).unwrap();
    (new, entries)
}

fn lost(new: &RecoveredCluster) -> (u64, u64) {
    let loss = new.loss.as_ref().unwrap();
    assert_eq!(loss.last_kept, new.last_index);
    (loss.last_kept.0, loss.last_known.0)
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
fn the_whole_part_of_a_damaged_log_is_copied() {
    for (segment, place) in [(0, 2), (2, 1), (2, 3), (5, 2)] {
        let folder = tempfile::tempdir().unwrap();
        let recovery = recovery(folder.path());
        let written = make_old(&recovery.from, 0);
        let name = &segments(&recovery.from)[segment];
        change(&recovery.from, name, |bytes| {
            let at = frames_end(bytes) * place / 4;
            bytes[at] ^= 1;
        });
        let (new, entries) = recovered(&recovery);
        let (kept, known) = lost(&new);
        assert!(kept > 0 && kept < 60, "{kept}");
        assert_eq!(known, 60, "SYNCED says so");
        assert_eq!(new.term, Term(written[kept as usize - 1].term.0 + 1));
        assert_eq!(entries.len() as u64, kept);
        for (copied, written) in
            entries.iter().zip(&written).filter(|(_, written)| written.index != Index(50))
        {
            assert_eq!(copied, written);
        }
        assert!(new.loss.unwrap().damaged.iter().any(|damaged| damaged.file > *name || kept > 50));
    }
}

#[test]
fn lost_entries_are_reported_even_without_synced() {
    let folder = tempfile::tempdir().unwrap();
    let recovery = recovery(folder.path());
    make_old(&recovery.from, 0);
    fs::remove_file(recovery.from.join("SYNCED")).unwrap();
    change(&recovery.from, FIRST, |bytes| bytes[2000] ^= 1);
    let (new, _) = recovered(&recovery);
    assert_eq!(lost(&new).1, 60, "the frames after the damage say so");
}

#[test]
fn a_lost_end_and_missing_segments_are_reported() {
    for missing in [1, 3] {
        let folder = tempfile::tempdir().unwrap();
        let recovery = recovery(folder.path());
        make_old(&recovery.from, 0);
        let names = segments(&recovery.from);
        fs::remove_file(recovery.from.join(&names[names.len() - missing])).unwrap();
        let (new, _) = recovered(&recovery);
        let (kept, known) = lost(&new);
        assert!(kept > 10 && kept < 60 && known == 60, "{kept} {known}");
    }
}

#[test]
fn an_older_snapshot_replaces_a_damaged_one() {
    let folder = tempfile::tempdir().unwrap();
    let recovery = recovery(folder.path());
    // An older one, beside a log that has been compacted up to the newer one.
    make_old(&recovery.from, 33);
    let older = fs::read(recovery.from.join("0000000000000021.snap")).unwrap();
    fs::remove_dir_all(&recovery.from).unwrap();
    make_old(&recovery.from, 50);
    fs::write(recovery.from.join("0000000000000021.snap"), older).unwrap();
    change(&recovery.from, "0000000000000032.snap", |bytes| *bytes.last_mut().unwrap() ^= 1);
    let (new, entries) = recovered(&recovery);
    assert_eq!((lost(&new), entries), ((33, 60), vec![]));
    assert_eq!((new.last_index, new.last_term, new.term), (Index(33), Term(2), Term(3)));
    // Nothing but a snapshot is left.
    fs::remove_dir_all(&recovery.into).unwrap();
    for segment in segments(&recovery.from) {
        fs::remove_file(recovery.from.join(segment)).unwrap();
    }
    let (new, _) = recovered(&recovery);
    assert_eq!((new.old_identity.node, new.last_index), (NodeId(0), Index(33)));
    assert_eq!(new.loss.unwrap().last_known, Index(50), "the damaged snapshot's name says so");
}

#[test]
fn a_term_above_the_last_entrys_is_not_copied() {
    for term in [u64::MAX, u64::MAX - 1] {
        let folder = tempfile::tempdir().unwrap();
        let recovery = recovery(folder.path());
        make_old(&recovery.from, 0);
        let (mut log, _) = Log::open(RealDisk::open(&recovery.from).unwrap(), OPTIONS).unwrap();
        log.append(&Write { hard_state: hard_state(term, 0), ..entries(vec![]) }).unwrap();
        log.sync().unwrap();
        drop(log);
        assert_eq!(recovered(&recovery).0.term, Term(5));
    }
    let folder = tempfile::tempdir().unwrap();
    let recovery = recovery(folder.path());
    make_old(&recovery.from, 0);
    let (mut log, _) = Log::open(RealDisk::open(&recovery.from).unwrap(), OPTIONS).unwrap();
    log.append(&entries(vec![command(61, 1 << 62, 1)])).unwrap();
    log.sync().unwrap();
    drop(log);
    let error = recovery.run().unwrap_err();
    assert!(
        matches!(error, DisasterRecoveryError::TermsExhausted { term, .. } if term.0 == 1 << 62),
        "{error}"
    );
    assert!(!recovery.into.exists());
}
