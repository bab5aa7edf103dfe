//! On the real disk: appends that allocate nothing, and the lock.

use std::collections::VecDeque;
use std::io;

use super::*;
use crate::storage::{Completion, Job, RealDisk, Worker};

#[test]
fn steady_appends_allocate_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let disk = RealDisk::open(folder.path()).unwrap();
    let options = LogOptions { segment_bytes: 1 << 20, ..LogOptions::default() };
    let mut worker =
        Worker::new(Log::create(disk, &identity(), &initial_configuration(), options).unwrap());
    let mut jobs: VecDeque<Job> = VecDeque::with_capacity(8);
    let mut completions = Vec::with_capacity(8);
    for batch in 0..200 {
        // Only the run of the batch is measured: the core makes and drops the writes.
        let writes =
            (batch * 4 + 1..batch * 4 + 5).map(|index| entries(vec![command(index, 1, 100)]));
        jobs.extend(writes.map(Job::Write));
        completions.clear();
        let measured = allocation_counter::measure(|| {
            worker.run(&mut jobs, &mut |done| completions.push(done));
        });
        let marked = allocation_counter::measure(|| worker.write_mark(&mut |_| ()));
        assert!(completions.iter().all(|done| matches!(done, Completion::Done(_))));
        if batch > 10 {
            assert_eq!((measured.count_total, marked.count_total), (0, 0), "batch {batch}");
        }
    }
}

#[test]
fn the_real_disk_keeps_what_was_synced() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("made/on/demand");
    let open = || RealDisk::open(&path).unwrap();
    let mut log = Log::create(open(), &identity(), &initial_configuration(), OPTIONS).unwrap();
    let mut model = Model::default();
    for write in workload() {
        log.append(&write).unwrap();
        model.apply(&write);
    }
    log.sync().unwrap();
    drop(log);
    for _ in 0..3 {
        let (mut log, recovered) = Log::open(open(), OPTIONS).unwrap();
        model.assert_matches(&recovered.saved);
        let fetch = Fetch { id: 1, from: Index(1), to: Index(u64::MAX), limit_bytes: usize::MAX };
        assert_eq!(log.read(&fetch).unwrap(), model.entries);
    }
}

#[test]
fn a_folder_serves_one_node() {
    let folder = tempfile::tempdir().unwrap();
    let first = RealDisk::open(folder.path()).unwrap();
    let error = RealDisk::open(folder.path()).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ResourceBusy);
    assert!(error.to_string().contains(folder.path().to_str().unwrap()), "{error}");
    drop(first);
    RealDisk::open(folder.path()).unwrap();
}
