//! Folders that are recovered from only if the operator says so.

use std::path::Path;

use kodiak_raft::types::Index;

use super::*;
use crate::inspect::tests::diverged;

fn arguments(data: &Path, into: &Path, from_diverged: bool) -> Arguments {
    let raft = "localhost:7002".parse().unwrap();
    let (data, into) = (data.to_owned(), into.to_owned());
    Arguments {
        data,
        into,
        id: 2,
        raft,
        from_removed: false,
        from_diverged,
        accept_data_loss: true,
    }
}

#[test]
fn a_state_that_differs_is_taken_only_by_request() {
    let folder = tempfile::tempdir().unwrap();
    let (data, into) = (folder.path().join("old"), folder.path().join("new"));
    diverged(&data, Index(1));
    let error = run(&arguments(&data, &into, false)).unwrap_err().to_string();
    for words in ["DIVERGED", "snapshot of entry 2", "another member's folder", "--from-diverged"] {
        assert!(error.contains(words), "{words} is not in {error}");
    }
    assert!(!into.exists());
    run(&arguments(&data, &into, true)).unwrap();
    assert!(into.join("0000000000000002.snap").exists() && !into.join("DIVERGED").exists());
}

#[test]
fn a_snapshot_from_before_the_difference_is_taken() {
    let folder = tempfile::tempdir().unwrap();
    let (data, into) = (folder.path().join("old"), folder.path().join("new"));
    diverged(&data, Index(2));
    run(&arguments(&data, &into, false)).unwrap();
    assert!(into.join("0000000000000002.snap").exists());
}
