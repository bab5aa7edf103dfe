//! Disks that lost acknowledged writes, and folders that are copies.

mod support;

use std::{
    fs,
    path::{Path, PathBuf},
    time::Instant,
};

use support::{Cluster, TIMEOUT};

fn copy(from: &Path, to: &Path) {
    let _ = fs::remove_dir_all(to);
    fs::create_dir_all(to).unwrap();
    for file in fs::read_dir(from).unwrap() {
        let file = file.unwrap();
        fs::copy(file.path(), to.join(file.file_name())).unwrap();
    }
}

fn write(cluster: &Cluster, id: u64, prefix: &str, count: u64) {
    let mut client = cluster.client(id);
    for n in 0..count {
        assert_eq!(client.retry(&["SET", &format!("{prefix}-{n}"), "value"]), "OK");
    }
}

/// Waits until a node's log has these words.
fn wait_for_words(cluster: &Cluster, id: u64, words: &str) {
    let deadline = Instant::now() + TIMEOUT;
    while !cluster.log_of(id).contains(words) {
        assert!(
            Instant::now() < deadline,
            "node {id} does not say {words:?}: {}",
            cluster.log_of(id)
        );
        // Each answer of the node is a turn of its loop.
        cluster.client(id).ask(&["PING"]);
    }
}

fn last_segment(folder: &Path) -> PathBuf {
    let files = fs::read_dir(folder).unwrap().map(|file| file.unwrap().path());
    files.filter(|path| path.extension().is_some_and(|extension| extension == "log")).max().unwrap()
}

#[test]
fn a_disk_that_lost_writes_is_noticed_and_catches_up() {
    let mut cluster = Cluster::start(3);
    let (leader, follower) = (cluster.leader(), cluster.follower());
    write(&cluster, leader, "before", 50);
    let applied = cluster.client(leader).info("applied_index").unwrap();
    cluster.wait_for(follower, "durable_index", &applied);
    cluster.kill(follower);
    // Everything that could show the loss is lost, too: the node itself cannot see it.
    let segment = last_segment(&cluster.data(follower));
    let mut bytes = fs::read(&segment).unwrap();
    let end = bytes.len() - bytes.iter().rev().take_while(|&&byte| byte == 0).count();
    bytes[end / 2..].fill(0);
    fs::write(segment, bytes).unwrap();
    fs::remove_file(cluster.data(follower).join("SYNCED")).unwrap();
    cluster.restart(follower).unwrap();
    wait_for_words(&cluster, leader, &format!("the disk of node {follower} has lost writes"));
    cluster.wait_for(follower, "capacity", "voter");
    cluster.wait_for(leader, "alarms", "none");
    write(&cluster, follower, "after", 10);
    assert_eq!(cluster.client(follower).retry(&["DBSIZE"]), "(integer) 60");
}

#[test]
fn an_ordinary_restart_is_not_taken_for_a_loss() {
    let mut cluster = Cluster::start(3);
    let (leader, follower) = (cluster.leader(), cluster.follower());
    for round in 0..3 {
        write(&cluster, leader, &format!("up-{round}"), 5);
        if round > 0 {
            let node = cluster.nodes.get_mut(&follower).unwrap();
            node.signal("TERM");
            node.wait();
        }
        cluster.kill(follower);
        write(&cluster, leader, &format!("down-{round}"), 5);
        cluster.restart(follower).unwrap();
        let last = cluster.client(leader).info("last_index").unwrap();
        cluster.wait_for(follower, "durable_index", &last);
    }
    assert!(!cluster.log_of(leader).contains("has lost writes"), "{}", cluster.log_of(leader));
    assert_eq!(cluster.client(follower).info("capacity").unwrap(), "voter");
}

#[test]
fn an_older_copy_of_a_folder_is_refused() {
    let mut cluster = Cluster::start(3);
    let (leader, follower) = (cluster.leader(), cluster.follower());
    write(&cluster, leader, "old", 5);
    cluster.kill(follower);
    let backup = cluster.folder.path().join("backup");
    copy(&cluster.data(follower), &backup);
    for _ in 0..2 {
        cluster.restart(follower).unwrap();
        write(&cluster, follower, "new", 5);
        cluster.kill(follower);
    }
    copy(&backup, &cluster.data(follower));
    cluster.restart(follower).unwrap();
    wait_for_words(&cluster, follower, "comes with an older copy of its data folder");
    wait_for_words(&cluster, leader, "comes with an older copy of its data folder");
    write(&cluster, leader, "on", 5);
}
