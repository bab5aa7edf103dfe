//! Data folders that are damaged while the node is down: no acknowledged write is lost silently.

mod support;

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Instant,
};

use support::{Cluster, TIMEOUT, raft};

/// The last segment of a node's log.
fn last_segment(cluster: &Cluster, id: u64) -> PathBuf {
    let files = fs::read_dir(cluster.data(id)).unwrap().map(|file| file.unwrap().path());
    files.filter(|path| path.extension().is_some_and(|extension| extension == "log")).max().unwrap()
}

/// The number of the oldest segment of a node's log.
fn oldest_segment(cluster: &Cluster, id: u64) -> u64 {
    let names = fs::read_dir(cluster.data(id)).unwrap().map(|file| file.unwrap().file_name());
    let numbers = names.filter_map(|name| {
        u64::from_str_radix(name.to_str().unwrap().strip_suffix(".log")?, 16).ok()
    });
    numbers.min().unwrap()
}

/// The newest snapshot of a node.
fn newest_snapshot(cluster: &Cluster, id: u64) -> Option<PathBuf> {
    let files = fs::read_dir(cluster.data(id)).unwrap().map(|file| file.unwrap().path());
    files.filter(|path| path.extension().is_some_and(|extension| extension == "snap")).max()
}

/// A killed node with acknowledged writes, whose log was cut in half.
fn cut(writes: u64, damage: impl FnOnce(&mut Vec<u8>, usize)) -> Cluster {
    let mut cluster = Cluster::start(1);
    let mut client = cluster.client(1);
    for n in 0..writes {
        assert_eq!(client.retry(&["SET", &format!("key-{n}"), "value"]), "OK");
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
        let text = cluster.restart(1).unwrap_err();
        for words in
            ["SYNCED says that more was on disk: entries from", "Delete nothing", "raft recover"]
        {
            assert!(text.contains(words), "{words} is not in {text}");
        }
        let data = cluster.data(1).display().to_string();
        let inspected = raft().args(["inspect", &data]).output().unwrap();
        assert!(!inspected.status.success());
        assert!(
            String::from_utf8_lossy(&inspected.stdout).contains("A node would refuse to start")
        );

        let new = cluster.data(2).display().to_string();
        let mut recover = raft();
        recover.args([
            "recover",
            "--data",
            &data,
            "--into",
            &new,
            "--id",
            "2",
            "--raft",
            "127.0.0.1:1",
        ]);
        let recovered = recover.arg("--accept-data-loss").output().unwrap();
        let text = String::from_utf8_lossy(&recovered.stdout).into_owned();
        assert!(
            recovered.status.success(),
            "{text} {}",
            String::from_utf8_lossy(&recovered.stderr)
        );
        let lost = text
            .lines()
            .find_map(|line| line.strip_prefix("LOST: entries "))
            .expect("it says what is lost");
        let (from, to) = lost.split_once(" are lost").unwrap().0.split_once("..=").unwrap();
        let lost = to.parse::<u64>().unwrap() - from.parse::<u64>().unwrap() + 1;
        cluster.start_as(2, Vec::new()).unwrap();
        cluster.wait_for(2, "role", "leader");
        assert_eq!(cluster.client(2).retry(&["DBSIZE"]), format!("(integer) {}", WRITES - lost));
        assert!(lost > WRITES / 4 && lost < WRITES, "{lost}");
    }
}

#[test]
fn a_node_with_a_damaged_snapshot_gets_another() {
    let small = ["--snapshot-every", "32768", "--segment", "16384"];
    let mut cluster = Cluster::start_with(3, &small);
    let leader = cluster.leader();
    let (mut client, mut written) = (cluster.client(leader), 0);
    // Entry 1 is in segment 1 or 2. The files are deleted after INFO reports a later first_index.
    while oldest_segment(&cluster, 3) <= 2 {
        assert_eq!(client.retry(&["SET", &format!("key-{written}"), &"v".repeat(500)]), "OK");
        written += 1;
        assert!(written < 10_000, "nothing is compacted");
    }
    (1..=3).for_each(|id| cluster.kill(id));
    let path = newest_snapshot(&cluster, 3).unwrap();
    let mut bytes = fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&path, bytes).unwrap();
    let inspected =
        raft().args(["inspect", &cluster.data(3).display().to_string()]).output().unwrap();
    let text = String::from_utf8_lossy(&inspected.stdout).into_owned();
    assert!(text.contains("ask the leader for a snapshot to replace"), "{text}");

    cluster.restart(3).unwrap();
    let mut client = cluster.client(3);
    let deadline = Instant::now() + TIMEOUT;
    while !client.info("alarms").unwrap().contains("is damaged: it asks its leader for another") {
        assert!(Instant::now() < deadline, "{}", client.ask(&["INFO", "raft"]));
    }
    let log = cluster.log_of(3);
    let name = path.file_name().unwrap().to_str().unwrap();
    assert!(log.contains(name) && log.contains("asks its leader for another snapshot"), "{log}");
    (1..=2).for_each(|id| cluster.restart(id).unwrap());
    cluster.leader();
    cluster.wait_for(3, "alarms", "none");
    // The snapshot is on disk by now, and the state machine is restored from it.
    let (mut client, expected) = (cluster.client(3), format!("(integer) {written}"));
    let deadline = Instant::now() + TIMEOUT;
    while client.ask(&["DBSIZE"]) != expected {
        assert!(Instant::now() < deadline, "{}", client.ask(&["DBSIZE"]));
    }
}

fn succeeds(program: &str, arguments: &[&str]) -> bool {
    let command =
        Command::new(program).args(arguments).stdout(Stdio::null()).stderr(Stdio::null()).status();
    command.is_ok_and(|status| status.success())
}

/// A mounted filesystem, until this is dropped.
struct Mount<'a>(&'a Path);

impl Drop for Mount<'_> {
    fn drop(&mut self) {
        let _ = succeeds("umount", &["-l", self.0.to_str().unwrap()]);
    }
}

#[test]
fn a_full_disk_ends_the_process_and_space_brings_it_back() {
    let mut cluster =
        Cluster::start_with(1, &["--segment", "65536", "--snapshot-every", "1000000000"]);
    cluster.kill(1);
    let data = cluster.data(1);
    let path = data.to_str().unwrap().to_owned();
    fs::remove_dir_all(&data).unwrap();
    fs::create_dir(&data).unwrap();
    if !succeeds("mount", &["-t", "tmpfs", "-o", "size=600k", "tmpfs", &path]) {
        println!("skipped: a file system can be mounted by root only");
        return;
    }
    let _mount = Mount(&data);
    cluster.restart(1).unwrap();
    let mut client = cluster.client(1);
    let value = "v".repeat(3000);
    let mut acknowledged = 0;
    let refusal = loop {
        // The connection may end with the process.
        if client.send(&["SET", &format!("key-{acknowledged}"), &value]).is_err() {
            break String::new();
        }
        match client.try_reply().map(|reply| support::show(&reply)) {
            Ok(reply) if reply == "OK" => acknowledged += 1,
            Ok(reply) if reply.starts_with("TRYAGAIN") && acknowledged == 0 => {}
            Ok(reply) => break reply,
            Err(_) => break String::new(),
        }
        assert!(acknowledged < 10_000, "the disk is never full");
    };
    assert!(refusal.is_empty() || refusal.contains("disk"), "{refusal}");
    let status = cluster.nodes.get_mut(&1).unwrap().wait();
    assert_eq!(status.code(), Some(3), "{}", cluster.log_of(1));
    assert!(cluster.log_of(1).contains("ends with exit code 3"), "{}", cluster.log_of(1));
    cluster.kill(1);
    assert!(succeeds("mount", &["-o", "remount,size=8m", &path]));
    cluster.restart(1).unwrap();
    cluster.wait_for(1, "role", "leader");
    let mut client = cluster.client(1);
    for n in 0..acknowledged {
        assert_eq!(client.retry(&["GET", &format!("key-{n}")]), value);
    }
    assert!(acknowledged > 30, "{acknowledged}");
}
