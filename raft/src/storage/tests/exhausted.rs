//! A full file system of the operating system. The test mounts one, which needs root; otherwise it
//! prints that it is skipped.

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::*;
use crate::core::Done;
use crate::storage::{Completion, Job, RealDisk, StorageError, Worker};

const SEGMENTS: LogOptions = LogOptions { segment_bytes: 64 << 10, tail_bytes: 500 };
const ENTRY_BYTES: usize = 3000;

/// A mount, until it is dropped.
struct Mount {
    path: PathBuf,
}

fn succeeds(program: &str, arguments: &[&str]) -> bool {
    let command =
        Command::new(program).args(arguments).stdout(Stdio::null()).stderr(Stdio::null()).status();
    command.is_ok_and(|status| status.success())
}

impl Mount {
    /// `None` if it cannot be mounted here.
    fn new(path: &Path, arguments: &[&str]) -> Option<Mount> {
        std::fs::create_dir_all(path).unwrap();
        let arguments = [arguments, &[path.to_str().unwrap()]].concat();
        let mount = succeeds("mount", &arguments).then(|| Mount { path: path.to_owned() });
        if mount.is_none() {
            println!("skipped: `mount {}` is not possible here", arguments.join(" "));
        }
        mount
    }

    fn resize(&self, size: &str) {
        assert!(succeeds(
            "mount",
            &["-o", &format!("remount,size={size}"), self.path.to_str().unwrap()]
        ));
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = succeeds("umount", &[self.path.to_str().unwrap()])
            || succeeds("umount", &["-l", self.path.to_str().unwrap()]);
    }
}

fn open(path: &Path) -> Result<(Log<RealDisk>, Recovered), StorageError> {
    Log::open(RealDisk::open(path).unwrap(), SEGMENTS)
}

/// Writes until the disk refuses. Returns the last acknowledged entry, and the error. Nothing is
/// acknowledged after the error.
fn write_until_refused(log: Log<RealDisk>) -> (u64, StorageError) {
    let mut worker = Worker::new(log);
    let mut acknowledged = worker.log().last_index().0;
    loop {
        let index = acknowledged + 1;
        assert!(index < 100_000, "the disk never gets full");
        let mut failure = None;
        worker.run(&mut VecDeque::from([Job::Write(write(index))]), &mut |completion| {
            match completion {
                Completion::Done(Done::Written { sequence }) => acknowledged = sequence,
                other @ (Completion::Done(_)
                | Completion::SnapshotFailed { .. }
                | Completion::Synced { .. }) => {
                    panic!("{other:?}")
                }
                Completion::Failed(error) => failure = Some(error),
            }
        });
        let Some(error) = failure else { continue };
        let mut is_terminal = false;
        worker.run(&mut VecDeque::from([Job::Write(write(index + 1))]), &mut |completion| {
            is_terminal = completion == Completion::Failed(error.clone());
        });
        assert!(is_terminal);
        return (acknowledged, error);
    }
}

/// The write of one entry, with the entry's index as its sequence.
fn write(index: u64) -> Write {
    Write { sequence: index, ..entries(vec![command(index, 1, ENTRY_BYTES)]) }
}

/// The log holds everything that was acknowledged, and accepts more.
fn goes_on(path: &Path, acknowledged: u64) {
    let (mut log, recovered) = open(path).unwrap();
    let last = log.last_index().0;
    assert!(
        last >= acknowledged,
        "{acknowledged} entries were acknowledged, {last} are there: {recovered:?}"
    );
    for index in 1..=last {
        let fetch = Fetch { id: 1, from: Index(index), to: Index(index), limit_bytes: 0 };
        assert_eq!(log.read(&fetch).unwrap(), [command(index, 1, ENTRY_BYTES)]);
    }
    log.append(&write(last + 1)).unwrap();
    log.sync().unwrap();
    drop(log);
    assert_eq!(open(path).unwrap().0.last_index(), Index(last + 1));
}

#[test]
fn a_full_file_system_is_reported_and_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let Some(mount) =
        Mount::new(&folder.path().join("full"), &["-t", "tmpfs", "-o", "size=600k", "tmpfs"])
    else {
        return;
    };
    let log = Log::create(
        RealDisk::open(&mount.path).unwrap(),
        &identity(),
        &initial_configuration(),
        SEGMENTS,
    )
    .unwrap();
    let mut acknowledged = 0;
    // Started again while the disk is full: the log is refused or accepts a little more, and loses
    // nothing.
    let mut log = Some(log);
    for _ in 0..3 {
        let error = match log.take().map_or_else(|| open(&mount.path).map(|(log, _)| log), Ok) {
            Ok(log) => {
                assert!(log.last_index().0 >= acknowledged);
                let (last, error) = write_until_refused(log);
                acknowledged = last;
                error
            }
            Err(error) => error,
        };
        assert!(
            matches!(
                &error,
                StorageError::Io { source, .. } if source.kind() == io::ErrorKind::StorageFull
            ),
            "{error}"
        );
        assert!(error.to_string().contains("free some space and start the node again"), "{error}");
    }
    assert!(acknowledged > 50, "{acknowledged}");
    mount.resize("4m");
    goes_on(&mount.path, acknowledged);
}
