//! `SCAN` and `KEYS` on a cluster of real processes.

mod support;

use std::{
    collections::BTreeSet,
    io::{Read, Write},
    time::{Duration, Instant},
};

use redis_protocol::resp2::types::BytesFrame;
use support::{Client, Cluster, TIMEOUT, encode, show};

/// One step: the next cursor, and the keys.
fn step(client: &mut Client, cursor: &str, further: &[&str]) -> (String, Vec<String>) {
    client.send(&[&["SCAN", cursor][..], further].concat()).unwrap();
    match client.try_reply().unwrap() {
        BytesFrame::Array(parts) => match &parts[..] {
            [next, BytesFrame::Array(keys)] => (show(next), keys.iter().map(show).collect()),
            other => panic!("{other:?}"),
        },
        other => panic!("{}", show(&other)),
    }
}

#[test]
fn a_scan_continues_at_another_node_and_after_a_restart() {
    let mut cluster = Cluster::start(3);
    cluster.client(1).retry(&["SET", "key-0", "v"]);
    let mut client = cluster.client(cluster.leader());
    for n in 1..500 {
        client.send(&["SET", &format!("key-{n}"), "v"]).unwrap();
    }
    (1..500).for_each(|_| assert_eq!(show(&client.try_reply().unwrap()), "OK"));
    let (mut cursor, mut seen, mut steps) = ("0".to_owned(), Vec::new(), 0);
    loop {
        let (next, keys) = step(&mut cluster.client(1 + steps % 3), &cursor, &["COUNT", "20"]);
        assert!(keys.len() >= 20 || next == "0", "{keys:?}");
        seen.extend(keys);
        cursor = next;
        steps += 1;
        if cursor == "0" {
            break;
        }
        if steps == 5 {
            cluster.kill(1);
            cluster.restart(1).unwrap();
            assert_eq!(cluster.client(1).retry(&["EXISTS", "key-0"]), "(integer) 1");
        }
    }
    assert!(steps > 10, "{steps} steps");
    assert_eq!(seen.len(), 500, "each is seen once");
    assert_eq!(
        seen.into_iter().collect::<BTreeSet<_>>(),
        (0..500).map(|n| format!("key-{n}")).collect()
    );
}

#[test]
fn scans_honour_patterns_and_deadlines() {
    let cluster = Cluster::start(1);
    let mut client = cluster.client(1);
    client.retry(&["MSET", "user:1", "v", "user:2", "v", "other", "v"]);
    assert_eq!(client.retry(&["KEYS", "user:?"]), "user:1, user:2");
    let all = ["COUNT", "1000", "MATCH", "user:*"];
    assert_eq!(
        step(&mut client, "0", &all),
        ("0".to_owned(), vec!["user:1".to_owned(), "user:2".to_owned()])
    );
    assert_eq!(step(&mut client, "0", &["TYPE", "hash"]), ("0".to_owned(), Vec::new()));
    assert_eq!(client.ask(&["SCAN", "x"]), "ERR invalid cursor");
    let since = Instant::now();
    assert_eq!(client.retry(&["SET", "user:2", "v", "PX", "30"]), "OK");
    // Nothing is written meanwhile.
    while client.retry(&["KEYS", "*"]) != "other, user:1" {
        assert!(since.elapsed() < TIMEOUT);
    }
    // Log time runs at twice the clocks' speed at most.
    assert!(since.elapsed() >= Duration::from_millis(15), "{:?}", since.elapsed());
    assert_eq!(step(&mut client, "0", &all), ("0".to_owned(), vec!["user:1".to_owned()]));
}

/// Sets fifty thousand keys.
fn fill(client: &mut Client) {
    for thousand in 0..50 {
        let names: Vec<String> = (0..1000).map(|n| format!("key-{thousand}-{n}")).collect();
        let pairs = names.iter().flat_map(|name| [name.as_str(), "v"]);
        let request: Vec<&str> = ["MSET"].into_iter().chain(pairs).collect();
        assert_eq!(client.retry(&request), "OK");
    }
}

/// A packet full of scans does not run in one go: other clients are served between them.
#[test]
fn many_scans_leave_room_for_other_clients() {
    const SCANS: usize = 200;
    let cluster = Cluster::start(1);
    let (mut looker, mut other) = (cluster.client(1), cluster.client(1));
    fill(&mut other);
    looker.stream.write_all(&encode(&["KEYS", "none"]).repeat(SCANS)).unwrap();
    let mut replies = vec![0; 4 * SCANS];
    looker.stream.read_exact(&mut replies[..4]).unwrap();
    assert_eq!(other.retry(&["PING"]), "PONG");
    looker.stream.set_nonblocking(true).unwrap();
    let ready = looker.stream.read(&mut replies).unwrap_or(0) / 4;
    assert!(ready < SCANS - 1, "all were answered before the other one");
    looker.stream.set_nonblocking(false).unwrap();
    looker.stream.read_exact(&mut replies[..4 * (SCANS - 1 - ready)]).unwrap();
    assert_eq!(other.retry(&["DBSIZE"]), "(integer) 50000");
}
