//! Failing disks, crashes between any two operations, and callers' mistakes.

use std::collections::VecDeque;

use super::*;
use crate::core::Done;
use crate::storage::{Completion, Job, StorageError, Worker};

#[test]
fn nothing_happens_after_a_failed_sync() {
    let disk = TestDisk::default();
    let mut log = create(&disk);
    log.append(&entries(vec![command(1, 1, 9)])).unwrap();
    disk.fail_after(Some(1));
    let first = log.sync().unwrap_err();
    assert!(matches!(&first, StorageError::Io { operation: "sync", .. }), "{first}");
    disk.fail_after(None);
    let poisoned = StorageError::Poisoned { source: Box::new(first) };
    assert_eq!(log.sync().unwrap_err(), poisoned);
    assert_eq!(log.write_mark().unwrap_err(), poisoned);
    assert_eq!(log.append(&entries(vec![command(2, 1, 9)])).unwrap_err(), poisoned);
    assert_eq!(
        log.read(&Fetch { id: 1, from: Index(1), to: Index(1), limit_bytes: 1 }).unwrap_err(),
        poisoned
    );
}

#[test]
fn what_opening_returns_is_durable() {
    // A sync fails, the kernel still shows the bytes, and the process starts again. Now the bytes
    // count, so they must be on disk.
    let disk = TestDisk::default();
    let mut log = create(&disk);
    log.append(&entries(vec![command(1, 1, 9)])).unwrap();
    log.sync().unwrap();
    log.append(&Write { hard_state: hard_state(3, 1), ..entries(vec![command(2, 1, 9)]) }).unwrap();
    disk.fail_after(Some(1));
    log.sync().unwrap_err();
    disk.fail_after(None);
    let (mut log, recovered) = reopen(&disk);
    let handed_over = Model::of(&mut log, &recovered.saved);
    assert_eq!(handed_over.entries.len(), 2);
    assert_eq!(recovered.rewritten, 1, "the second write's frame says that the first was on disk");
    disk.lose_unsynced();
    let (mut log, recovered) = reopen(&disk);
    assert_eq!(Model::of(&mut log, &recovered.saved), handed_over);
    assert_eq!(recovered.rewritten, 0, "they are settled");
}

/// Runs the workload, a sync after every second write, until it ends or the disk fails. Returns the
/// states after the last successful sync and after each write since.
fn run_until_failure(disk: &TestDisk) -> Option<Vec<Model>> {
    let mut log = match Log::open_or_create(disk.clone(), OPTIONS, || {
        (identity(), initial_configuration())
    }) {
        Ok((log, _)) => log,
        Err(_) => return None,
    };
    let mut states = vec![Model::default()];
    for (at, write) in workload().iter().enumerate() {
        let mut next = states.last().unwrap().clone();
        next.apply(write);
        states.push(next);
        if log.append(write).is_err() {
            return Some(states);
        }
        if at % 2 == 1 {
            if log.sync().is_err() {
                return Some(states);
            }
            states.drain(..states.len() - 1);
        } else if log.write_mark().is_err() {
            return Some(states);
        }
    }
    Some(states)
}

fn open_and_compare(disk: &TestDisk, states: Option<&[Model]>) {
    match (Log::open(disk.clone(), OPTIONS), states) {
        (Ok((mut log, recovered)), states) => {
            let found = Model::of(&mut log, &recovered.saved);
            found.assert_matches(&recovered.saved);
            assert!(
                states.map_or(found == Model::default(), |states| states.contains(&found)),
                "{found:?}"
            );
        }
        (Err(error), states) => {
            assert_eq!(error, StorageError::NoLog);
            assert!(states.is_none(), "the log was there");
        }
    }
}

#[test]
fn a_crash_after_any_operation_loses_nothing_synced() {
    for operations in 0.. {
        let disk = TestDisk::default();
        disk.fail_after(Some(operations));
        let states = run_until_failure(&disk);
        let is_over = disk.has_operations_left();
        disk.fail_after(None);
        for lose in [true, false] {
            let disk = disk.copy();
            if lose {
                disk.lose_unsynced()
            } else {
                disk.keep_unsynced()
            }
            open_and_compare(&disk, states.as_deref());
            crash_while_opening(&disk, states.as_deref());
        }
        if is_over {
            return;
        }
    }
}

/// Opening fails after any number of operations, the machine crashes, and the next opening finds
/// the same.
fn crash_while_opening(disk: &TestDisk, states: Option<&[Model]>) {
    for operations in 0.. {
        let disk = disk.copy();
        disk.fail_after(Some(operations));
        let opened = Log::open(disk.clone(), OPTIONS);
        disk.fail_after(None);
        disk.lose_unsynced();
        match opened {
            Ok((_, recovered)) => {
                let (_, again) = reopen(&disk);
                let life = recovered.saved.life + 1;
                assert!(again.saved.position > recovered.saved.position);
                let position = again.saved.position;
                assert_eq!(again.saved, Saved { life, position, ..recovered.saved });
                return;
            }
            Err(StorageError::NoLog) => return,
            Err(_) => open_and_compare(&disk, states),
        }
    }
}

#[test]
fn contradictions_are_rejected_and_change_nothing() {
    let disk = TestDisk::default();
    let mut log = create(&disk);
    log.append(&Write {
        hard_state: hard_state(2, 1),
        ..entries(vec![command(1, 1, 5), command(2, 2, 5)])
    })
    .unwrap();
    let wrong = [
        entries(vec![command(4, 2, 5)]),
        entries(vec![command(2, 2, 5)]),
        entries(vec![command(3, 1, 5)]),
        entries(vec![command(3, 2, 5), command(5, 2, 5)]),
        Write { truncate_from: Some(Index(0)), ..entries(vec![]) },
        Write { truncate_from: Some(Index(1)), ..entries(vec![command(1, 0, 5)]) },
        Write { truncate_from: Some(Index(2)), ..entries(vec![command(3, 2, 5)]) },
        Write { hard_state: hard_state(1, 0), ..entries(vec![]) },
        Write { hard_state: hard_state(2, 2), ..entries(vec![]) },
        Write { hard_state: hard_state(2, 0), ..entries(vec![]) },
    ];
    for write in &wrong {
        let error = log.append(write).unwrap_err();
        assert!(matches!(error, StorageError::Rejected { .. }), "{write:?}: {error}");
    }
    log.append(&entries(vec![command(3, 2, 5)])).unwrap();
    log.sync().unwrap();
    assert_eq!(read_all(&mut log).len(), 3);
    let (mut log, recovered) = reopen(&disk);
    assert_eq!(Model::of(&mut log, &recovered.saved).entries.len(), 3);
}

#[test]
fn a_log_is_created_once() {
    let disk = TestDisk::default();
    assert_eq!(Log::open(disk.clone(), OPTIONS).unwrap_err(), StorageError::NoLog);
    drop(create(&disk));
    let again =
        Log::create(disk.clone(), &identity(), &initial_configuration(), OPTIONS).unwrap_err();
    assert!(matches!(again, StorageError::AlreadyExists { .. }));
    let (log, recovered) =
        Log::open_or_create(disk, OPTIONS, || unreachable!("it exists")).unwrap();
    assert_eq!((log.identity(), recovered.identity), (&identity(), identity()));
    assert_eq!(recovered.saved.initial_configuration, initial_configuration());
}

fn job(sequence: u64, index: u64) -> Job {
    Job::Write(Write { sequence, ..entries(vec![command(index, 1, 30)]) })
}

fn run(worker: &mut Worker<TestDisk>, jobs: impl IntoIterator<Item = Job>) -> Vec<Completion> {
    let (mut jobs, mut completions) = (VecDeque::from_iter(jobs), Vec::new());
    worker.run(&mut jobs, &mut |completion| completions.push(completion));
    assert!(jobs.is_empty());
    completions
}

#[test]
fn a_batch_is_one_write_one_sync_and_one_mark() {
    let disk = TestDisk::default();
    let mut worker = Worker::new(create(&disk));
    let (writes, syncs) = (disk.writes(), disk.syncs());
    let fetch = || Job::Fetch(Fetch { id: 9, from: Index(2), to: Index(3), limit_bytes: 1000 });
    let completions = run(&mut worker, [job(1, 1), fetch(), job(2, 2), job(3, 3)]);
    // SYNCED is another write.
    assert_eq!((disk.writes() - writes, disk.syncs() - syncs), (2, 1));
    let written = |sequence| Completion::Done(Done::Written { sequence });
    let fetched = Completion::Done(Done::Fetched {
        id: 9,
        entries: vec![command(2, 1, 30), command(3, 1, 30)],
    });
    assert_eq!(completions, [written(1), written(2), written(3), fetched]);
    // A batch of fetches, and writes that change nothing, needs no sync.
    run(&mut worker, [fetch(), Job::Write(Write { sequence: 4, ..entries(vec![]) })]);
    assert_eq!((disk.writes() - writes, disk.syncs() - syncs), (2, 1));
    // The mark is one more write, once, without a sync.
    for _ in 0..2 {
        worker.write_mark(&mut |completion| panic!("{completion:?}"));
        assert_eq!((disk.writes() - writes, disk.syncs() - syncs), (3, 1));
    }
}

#[test]
fn after_a_failed_batch_every_job_fails() {
    for operations in [0, 1] {
        let disk = TestDisk::default();
        let mut worker = Worker::new(create(&disk));
        disk.fail_after(Some(operations));
        let fetch = || Job::Fetch(Fetch { id: 9, from: Index(1), to: Index(1), limit_bytes: 1000 });
        let failed = run(&mut worker, [job(1, 1), fetch(), job(2, 2)]);
        assert_eq!(failed.len(), 3);
        disk.fail_after(None);
        worker.write_mark(&mut |completion| panic!("{completion:?}"));
        let later = run(&mut worker, [job(3, 3), fetch()]);
        assert!(
            failed
                .iter()
                .chain(&later)
                .all(|completion| matches!(completion, Completion::Failed(_)))
        );
        assert_eq!(later.len(), 2);
    }
}

#[test]
fn a_failing_mark_is_reported() {
    let disk = TestDisk::default();
    let mut worker = Worker::new(create(&disk));
    run(&mut worker, [job(1, 1)]);
    disk.fail_after(Some(0));
    let mut told = 0;
    worker.write_mark(&mut |completion| {
        told += u32::from(matches!(completion, Completion::Failed(_)))
    });
    disk.fail_after(None);
    assert_eq!(told, 1);
    assert!(matches!(run(&mut worker, [job(2, 2)])[..], [Completion::Failed(_)]));
}
