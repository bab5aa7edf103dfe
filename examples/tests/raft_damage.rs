//! Data folders that are damaged while the node is down: nothing that was acknowledged is missing without a word.

mod support;

use std::{fs, path::PathBuf};

use support::{Cluster, raft};

/// The last segment of a node's log.
fn last_segment(cluster: &Cluster, id: u64) -> PathBuf {
    let files = fs::read_dir(cluster.data(id)).unwrap().map(|file| file.unwrap().path());
    files.filter(|path| path.extension().is_some_and(|extension| extension == "log")).max().unwrap()
}

/// A node with acknowledged writes, killed, of whose log a half is gone.
fn cut(writes: u64, damage: impl FnOnce(&mut Vec<u8>, usize)) -> Cluster {
    let mut cluster = Cluster::start(1);
    let mut client = cluster.client(1);
    for n in 0..writes {
        assert_eq!(client.insist(&["SET", &format!("key-{n}"), "value"]), "OK");
    }
    cluster.kill(1);
    let path = last_segment(&cluster, 1);
    let mut bytes = fs::read(&path).unwrap();
    let end = bytes.len() - bytes.iter().rev().take_while(|&&byte| byte == 0).count();
    damage(&mut bytes, end / 2);
    fs::write(path, bytes).unwrap();
    cluster
}

#[test]
fn a_log_that_lost_its_end_is_refused_and_recovered() {
    const WRITES: u64 = 100;
    let zeroed: fn(&mut Vec<u8>, usize) = |bytes, from| bytes[from..].fill(0);
    let cut_short: fn(&mut Vec<u8>, usize) = |bytes, from| bytes.truncate(from);
    for damage in [zeroed, cut_short] {
        let mut cluster = cut(WRITES, damage);
        let said = cluster.restart(1).unwrap_err();
        for words in ["SYNCED says that more was on disk: entries from", "Delete nothing", "raft recover"] {
            assert!(said.contains(words), "{words} is not in {said}");
        }
        let data = cluster.data(1).display().to_string();
        let inspected = raft().args(["inspect", &data]).output().unwrap();
        assert!(!inspected.status.success());
        assert!(String::from_utf8_lossy(&inspected.stdout).contains("A node would refuse to start"));

        let new = cluster.data(2).display().to_string();
        let mut recover = raft();
        recover.args(["recover", "--data", &data, "--into", &new, "--id", "2", "--raft", "127.0.0.1:1"]);
        let recovered = recover.arg("--accept-data-loss").output().unwrap();
        let said = String::from_utf8_lossy(&recovered.stdout).into_owned();
        assert!(recovered.status.success(), "{said} {}", String::from_utf8_lossy(&recovered.stderr));
        let lost = said.lines().find_map(|line| line.strip_prefix("LOST: entries ")).expect("it says what is lost");
        let (from, to) = lost.split_once(" are lost").unwrap().0.split_once("..=").unwrap();
        let lost = to.parse::<u64>().unwrap() - from.parse::<u64>().unwrap() + 1;
        cluster.start_as(2, Vec::new()).unwrap();
        cluster.wait_for(2, "role", "leader");
        assert_eq!(cluster.client(2).insist(&["DBSIZE"]), format!("(integer) {}", WRITES - lost));
        assert!(lost > WRITES / 4 && lost < WRITES, "{lost}");
    }
}
