//! Interactions of cores as text: every `*.txt` here is a script with what it prints (README.md
//! explains the language). After an intended change: `KODIAK_UPDATE_SCRIPTS=1 cargo test -p
//! kodiak-raft --test scripts`, and read the diff.

mod cluster;
mod disk;
mod golden;
mod language;
mod members;
mod show;

use std::fs;
use std::path::{Path, PathBuf};

fn scripts() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scripts");
    let files = fs::read_dir(folder)
        .expect("the scripts lie beside the test")
        .map(|file| file.unwrap().path());
    let mut files: Vec<PathBuf> =
        files.filter(|file| file.extension().is_some_and(|end| end == "txt")).collect();
    files.sort();
    files
}

#[test]
fn every_script_prints_what_it_did() {
    let update = std::env::var_os("KODIAK_UPDATE_SCRIPTS").is_some_and(|value| value != "0");
    let scripts = scripts();
    assert!(!scripts.is_empty(), "there are scripts");
    let failures: Vec<String> =
        scripts.iter().filter_map(|script| golden::check(script, update).err()).collect();
    assert!(
        failures.is_empty(),
        "{}\nif the change is intended: \
         KODIAK_UPDATE_SCRIPTS=1 cargo test -p kodiak-raft --test scripts",
        failures.join("\n")
    );
}

#[test]
fn an_error_names_the_line_of_the_script() {
    let cases = [
        ("timeout 1", "s.txt:1: a script begins with `cluster N`"),
        ("cluster 3\n\ndance 1", "s.txt:3: `dance 1` is none of: cluster N"),
        ("cluster 3\ncluster 3", "s.txt:2: there is a cluster already"),
        ("cluster 0", "s.txt:1: a cluster of 0 nodes; there may be 1 to 9"),
        ("cluster 3 depth=2", "s.txt:1: `depth` is no setting; there are"),
        ("cluster 3 message-bytes=0", "s.txt:1: Config::message_bytes is 0"),
        ("cluster 3\nlog 1 1", "s.txt:2: `1` should be a node and a colon, as in `1:`"),
        ("cluster 3\nlog 1: 2 1", "s.txt:2: a log's terms begin at 1 or more and never fall"),
        (
            "cluster 3\nlog 1: 2\nterm 1: 1\ntimeout 1",
            "s.txt:4: node 1: the saved state contradicts itself: ",
        ),
        (
            "cluster 3\ntimeout 1\nlog 1: 1",
            "s.txt:3: what a disk holds at first must be said before anything happens",
        ),
        ("cluster 3\ntimeout 4", "s.txt:2: there is no node 4, only 1 to 3"),
        ("cluster 3\ntimeout x", "s.txt:2: `x` is not a number"),
        ("cluster 3\ndeliver 1-2", "s.txt:2: `1-2` should be a link, as in `1->2`"),
        ("cluster 3\ndeliver 1->2", "s.txt:2: no messages are on 1->2"),
        ("cluster 3\ntimeout 1\ndeliver 1->2 2", "s.txt:3: 1 message is on 1->2"),
        ("cluster 3\nwritten 1", "s.txt:2: node 1 has no unfinished write"),
        ("cluster 3\ncrash 1\ntimeout 1", "s.txt:3: node 1 is down"),
        ("cluster 3\nrestart 1", "s.txt:2: node 1 is up"),
        ("cluster 3\njoin 5", "s.txt:2: the next node to join can only be 4"),
        ("cluster 3\nchange 1 swap 2", "s.txt:2: `swap` is none of: add N"),
        ("cluster 3\nchange 1 add", "s.txt:2: `add` lacks its node"),
    ];
    for (script, expected) in cases {
        let error = golden::run("s.txt", script).expect_err(script);
        assert!(error.starts_with(expected), "{script:?} gives {error:?}, not {expected:?}");
    }
}

#[test]
fn a_difference_is_shown_by_its_line() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("s.txt");
    fs::write(&file, "cluster 1\ntimeout 1\n    is      1 asleep\n").unwrap();
    let error = golden::check(&file, false).unwrap_err();
    assert!(error.starts_with("s.txt:3: the file has `    is      1 asleep`"), "{error}");
    golden::check(&file, true).unwrap();
    golden::check(&file, false).expect("the rewritten file is what it prints");
    let text = fs::read_to_string(&file).unwrap();
    assert!(text.starts_with("cluster 1\ntimeout 1\n    writes  1 #1: term 1, vote 1\n"), "{text}");
}
