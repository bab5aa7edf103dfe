//! Names of the node's files that stand for something else.

use std::fs;
use std::os::unix::fs::{FileTypeExt, symlink};
use std::path::Path;
use std::process::Command;

use super::*;
use crate::storage::inspect::Folder;
use crate::storage::{RealDisk, StorageError};

const SEGMENT: &str = "0000000000000001.log";
const SNAPSHOT: &str = "0000000000000001.snap";

/// A folder with a log, and one special file.
fn folder_with(name: &str, make: impl FnOnce(&Path)) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    drop(
        Log::create(
            RealDisk::open(folder.path()).unwrap(),
            &identity(),
            &initial_configuration(),
            OPTIONS,
        )
        .unwrap(),
    );
    let path = folder.path().join(name);
    if path.exists() {
        fs::remove_file(&path).unwrap();
    }
    make(&path);
    folder
}

fn fifo(path: &Path) {
    assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
    assert!(fs::metadata(path).unwrap().file_type().is_fifo());
}

fn directory(path: &Path) {
    fs::create_dir(path).unwrap();
}

fn link_to_nothing(path: &Path) {
    symlink("nowhere", path).unwrap();
}

fn device(path: &Path) {
    symlink("/dev/null", path).unwrap();
}

/// Functions that create a special file, and what the error calls it.
type Odd = (fn(&Path), &'static str);

const ODD: [Odd; 4] = [
    (fifo, "a FIFO"),
    (directory, "a directory"),
    (link_to_nothing, "a symbolic link to nothing"),
    (device, "a device"),
];

#[test]
fn special_files_are_named_and_not_opened() {
    for name in [SEGMENT, SNAPSHOT, "SYNCED", "0000000000000007.spare", "0000000000000002.next"] {
        for (make, what) in ODD {
            let folder = folder_with(name, make);
            let expected =
                StorageError::SpecialFile { file: name.to_owned(), what: what.to_owned() };
            let opened = Log::open(RealDisk::open(folder.path()).unwrap(), OPTIONS);
            assert_eq!(opened.unwrap_err(), expected);
            assert_eq!(Folder::open(folder.path()).unwrap().dry_run_open().unwrap_err(), expected);
        }
    }
}

#[test]
fn inspect_names_special_files() {
    for (make, what) in ODD {
        let folder = folder_with(SEGMENT, make);
        let error = Folder::open(folder.path()).unwrap().segment(SEGMENT).unwrap_err().to_string();
        assert!(error.contains(SEGMENT) && error.contains(what), "{error}");
        let folder = folder_with(SNAPSHOT, make);
        let error =
            Folder::open(folder.path()).unwrap().snapshot(SNAPSHOT).unwrap_err().to_string();
        assert!(error.contains(SNAPSHOT) && error.contains(what), "{error}");
    }
}

#[test]
fn a_lock_that_is_a_special_file_is_named() {
    for (make, what) in [ODD[0], ODD[1]] {
        let folder = folder_with("LOCK", make);
        let error = RealDisk::open(folder.path()).unwrap_err().to_string();
        assert!(error.contains("LOCK") && error.contains(what), "{error}");
        Folder::open(folder.path()).unwrap();
    }
}

#[test]
fn a_link_to_a_file_is_accepted() {
    let folder = folder_with("unrelated", fifo);
    let moved = folder.path().join("elsewhere");
    fs::rename(folder.path().join(SEGMENT), &moved).unwrap();
    symlink(&moved, folder.path().join(SEGMENT)).unwrap();
    Log::open(RealDisk::open(folder.path()).unwrap(), OPTIONS).unwrap();
}
