//! Snapshots, as users see them: nodes come back, are killed while they catch up, and start
//! together.

mod support;

use std::{
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use support::{Client, Cluster, TIMEOUT};

/// Small files, so that a test need not write many bytes.
const SMALL: [&str; 6] =
    ["--snapshot-every", "32768", "--snapshot-chunk", "2048", "--segment", "16384"];
const KEYS: u64 = 64;

/// A value of some length.
fn value(n: u64) -> String {
    format!("{n:0200}")
}

fn number(client: &mut Client, field: &str) -> u64 {
    client.info(field).and_then(|text| text.parse().ok()).unwrap_or(0)
}

/// Writes until `stop` is set. `acknowledged` has the last acknowledged value of each key.
fn load(mut client: Client, acknowledged: &[AtomicU64], stop: &AtomicBool) {
    for n in 1.. {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        let key = n % KEYS;
        if client.ask(&["SET", &format!("key-{key}"), &value(n)]) == "OK" {
            acknowledged[key as usize].store(n, Ordering::Relaxed);
        }
    }
}

/// The values of all keys at a node.
fn all(client: &mut Client) -> Vec<String> {
    (0..KEYS).map(|key| client.retry(&["GET", &format!("key-{key}")])).collect()
}

/// Waits until a node has compacted its log beyond `index`.
fn wait_until_compacted_beyond(client: &mut Client, index: u64) {
    let deadline = Instant::now() + TIMEOUT;
    while number(client, "first_index") <= index + 1 {
        assert!(
            Instant::now() < deadline,
            "nothing is compacted: {}",
            client.ask(&["INFO", "raft"])
        );
    }
}

/// Waits until a node has applied `index`.
fn wait_until_applied(client: &mut Client, index: u64) {
    let deadline = Instant::now() + TIMEOUT;
    while number(client, "applied_index") < index {
        assert!(
            Instant::now() < deadline,
            "it does not catch up: {}",
            client.ask(&["INFO", "raft"])
        );
    }
}

#[test]
fn a_snapshot_brings_a_node_up_to_date_though_it_is_killed() {
    let mut cluster = Cluster::start_with(3, &SMALL);
    let leader = cluster.leader();
    let away = cluster.follower();
    let last = number(&mut cluster.client(away), "last_index");
    cluster.kill(away);
    let acknowledged: Vec<AtomicU64> = (0..KEYS).map(|_| AtomicU64::new(0)).collect();
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let writer = cluster.client(leader);
        let (acknowledged, stop) = (&acknowledged, &stop);
        let writer = scope.spawn(move || load(writer, acknowledged, stop));
        for &id in cluster.nodes.keys() {
            wait_until_compacted_beyond(&mut cluster.client(id), last);
        }
        // Killed while it catches up: before, during and after the snapshot.
        for attempt in 0..6 {
            cluster.restart(away).unwrap();
            let mut client = cluster.client(away);
            let begun = Instant::now();
            while begun.elapsed() < Duration::from_millis(10 * attempt)
                && number(&mut client, "snapshot_index") <= last
            {}
            cluster.kill(away);
        }
        cluster.restart(away).unwrap();
        let mut client = cluster.client(away);
        let goal = number(&mut cluster.client(leader), "commit_index");
        wait_until_applied(&mut client, goal);
        assert!(number(&mut client, "snapshot_index") > last, "{}", client.ask(&["INFO", "raft"]));
        stop.store(true, Ordering::Relaxed);
        writer.join().unwrap();
    });
    // All nodes have the acknowledged values.
    let expected = all(&mut cluster.client(leader));
    for (key, acknowledged) in acknowledged.iter().enumerate() {
        assert_eq!(expected[key], value(acknowledged.load(Ordering::Relaxed)), "key {key}");
    }
    for id in 1..=3 {
        assert_eq!(all(&mut cluster.client(id)), expected, "node {id}");
    }
}

#[test]
fn a_whole_cluster_starts_again_from_its_snapshots() {
    let mut cluster = Cluster::start_with(3, &SMALL);
    let leader = cluster.leader();
    let mut client = cluster.client(leader);
    for n in 0..600 {
        assert_eq!(client.retry(&["SET", &format!("key-{}", n % KEYS), &value(n)]), "OK");
    }
    let expected = all(&mut client);
    let goal = number(&mut client, "commit_index");
    for id in 1..=3 {
        let mut client = cluster.client(id);
        wait_until_applied(&mut client, goal);
        wait_until_compacted_beyond(&mut client, 1);
    }
    (1..=3).for_each(|id| cluster.kill(id));
    (1..=3).for_each(|id| cluster.restart(id).unwrap());
    for id in 1..=3 {
        let mut client = cluster.client(id);
        assert_eq!(all(&mut client), expected, "node {id}");
        assert!(number(&mut client, "snapshot_index") > 0);
    }
    assert_eq!(cluster.client(2).retry(&["DBSIZE"]), format!("(integer) {KEYS}"));
}
