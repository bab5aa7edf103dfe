//! Keys that expire, on clusters of real processes that all have this machine's clock.

mod support;

use std::{
    io::Write,
    time::{Duration, Instant},
};

use support::{Client, Cluster, TIMEOUT, encode, show};

/// Reads a key until it has expired. It must not be seen after its lifetime, by a clock that all
/// nodes share.
fn outlive(client: &mut Client, key: &str, since: Instant, lifetime: Duration) {
    loop {
        // The deadline and the clock are in whole milliseconds.
        let is_over = since.elapsed() > lifetime + Duration::from_millis(1);
        match client.retry(&["GET", key]).as_str() {
            "(nil)" => return,
            value => assert!(!is_over, "{value:?} after {:?}", since.elapsed()),
        }
    }
}

#[test]
fn keys_expire_in_time_at_every_node_without_writes() {
    let cluster = Cluster::start(3);
    let lifetime = Duration::from_millis(60);
    cluster.client(1).retry(&["SET", "other", "v"]);
    for id in 1..=3 {
        let mut client = cluster.client(id);
        let before = Instant::now();
        assert_eq!(client.retry(&["SET", "k", "v", "PX", "60"]), "OK");
        let since = Instant::now();
        outlive(&mut client, "k", since, lifetime);
        assert!(
            before.elapsed() >= lifetime - Duration::from_millis(1),
            "gone after {:?}",
            before.elapsed()
        );
        // Once any node has reported the key as expired, every node does.
        for id in 1..=3 {
            let mut client = cluster.client(id);
            assert_eq!(client.retry(&["GET", "k"]), "(nil)");
            assert_eq!(client.retry(&["TTL", "k"]), "(integer) -2");
            assert_eq!(client.retry(&["MGET", "other", "k"]), "v, (nil)");
            assert_eq!(client.retry(&["DBSIZE"]), "(integer) 1");
        }
    }
}

#[test]
fn a_pipeline_across_a_deadline_is_answered_in_order() {
    let cluster = Cluster::start(3);
    let follower = cluster.follower();
    let mut client = cluster.client(follower);
    assert_eq!(client.retry(&["SET", "other", "v"]), "OK");
    let mut requests = encode(&["SET", "k", "v", "PX", "2"]);
    for _ in 0..300 {
        requests.extend(encode(&["GET", "k"]));
        requests.extend(encode(&["GET", "other"]));
        requests.extend(encode(&["PING"]));
    }
    requests.extend(encode(&["SET", "k", "new"]));
    requests.extend(encode(&["GET", "k"]));
    client.stream.write_all(&requests).unwrap();
    let mut reply = || show(&client.try_reply().unwrap());
    assert_eq!(reply(), "OK");
    let mut is_gone = false;
    for _ in 0..300 {
        match reply().as_str() {
            "(nil)" => is_gone = true,
            value => assert!(value == "v" && !is_gone, "{value:?} after it was gone"),
        }
        assert_eq!([reply(), reply()], ["v", "PONG"]);
    }
    assert_eq!([reply(), reply()], ["OK", "new"]);
}

#[test]
fn deadlines_survive_snapshots_and_whole_clusters() {
    let mut cluster = Cluster::start_with(3, &["--snapshot-every", "32768", "--segment", "16384"]);
    let leader = cluster.leader();
    let mut client = cluster.client(leader);
    assert_eq!(client.retry(&["SET", "long", "v", "EX", "1000"]), "OK");
    assert_eq!(client.retry(&["SETEX", "at", "1000", "v"]), "OK");
    assert_eq!(client.retry(&["EXPIREAT", "at", "4000000000"]), "(integer) 1");
    assert_eq!(client.retry(&["SET", "kept", "v", "EX", "1000"]), "OK");
    assert_eq!(client.retry(&["PERSIST", "kept"]), "(integer) 1");
    let since = Instant::now();
    assert_eq!(client.retry(&["SET", "short", "v", "PX", "300"]), "OK");
    let deadline = Instant::now() + TIMEOUT;
    for n in 0.. {
        assert_eq!(client.retry(&["SET", &format!("key-{}", n % 10), &"x".repeat(500)]), "OK");
        if client.info("snapshot_index").is_some_and(|index| index != "0") {
            break;
        }
        assert!(Instant::now() < deadline, "no snapshot");
    }
    (1..=3).for_each(|id| cluster.kill(id));
    (1..=3).for_each(|id| cluster.restart(id).unwrap());
    for id in 1..=3 {
        let mut client = cluster.client(id);
        let ttl = client.retry(&["TTL", "long"]);
        let left: u64 = ttl.trim_start_matches("(integer) ").parse().unwrap();
        assert!((900..=1000).contains(&left), "{ttl}");
        assert_eq!(client.retry(&["EXPIRETIME", "at"]), "(integer) 4000000000");
        assert_eq!(client.retry(&["TTL", "kept"]), "(integer) -1");
        outlive(&mut client, "short", since, Duration::from_secs(2));
    }
}

#[test]
fn commands_on_expiration_answer_as_in_redis() {
    let cluster = Cluster::start(1);
    let mut client = cluster.client(1);
    client.retry(&["SET", "k", "v"]);
    for (request, reply) in [
        (&["TTL", "k"][..], "(integer) -1"),
        (&["TTL", "none"], "(integer) -2"),
        (&["EXPIRE", "k", "100"], "(integer) 1"),
        (&["TTL", "k"], "(integer) 100"),
        (&["EXPIRE", "k", "50", "GT"], "(integer) 0"),
        (&["PEXPIRE", "k", "50000", "LT"], "(integer) 1"),
        (&["APPEND", "k", "w"], "(integer) 2"),
        (&["TTL", "k"], "(integer) 50"),
        (&["RENAME", "k", "l"], "OK"),
        (&["TTL", "l"], "(integer) 50"),
        (&["SET", "l", "x", "KEEPTTL"], "OK"),
        (&["TTL", "l"], "(integer) 50"),
        (&["GETEX", "l", "PERSIST"], "x"),
        (&["TTL", "l"], "(integer) -1"),
        (&["GETEX", "l", "EX", "7"], "x"),
        (&["TTL", "l"], "(integer) 7"),
        (&["SET", "l", "y"], "OK"),
        (&["TTL", "l"], "(integer) -1"),
        (&["SET", "l", "z", "XX", "GET", "PX", "100000"], "y"),
        (&["EXPIRE", "l", "-1"], "(integer) 1"),
        (&["EXISTS", "l"], "(integer) 0"),
        (&["SET", "lock", "me", "NX", "PX", "100000"], "OK"),
        (&["SET", "lock", "you", "NX", "PX", "100000"], "(nil)"),
        (&["TYPE", "lock"], "string"),
        (&["SET", "l", "v", "EX", "0"], "ERR invalid expire time in 'set' command"),
    ] {
        assert_eq!(client.retry(request), reply, "{request:?}");
    }
    for request in [&["MULTI"][..], &["SET", "t", "v", "EX", "9"], &["TTL", "t"]] {
        client.retry(request);
    }
    assert_eq!(client.retry(&["EXEC"]), "OK, (integer) 9");
    assert!(client.ask(&["INFO", "keyspace"]).contains("db0:keys=2,expires=2"), "lock and t");
}

/// A read that waits for log time is not overtaken by the reads behind it: if its answer is new, so
/// are theirs.
#[test]
fn reads_behind_one_that_waits_are_not_older_than_it() {
    let cluster = Cluster::start(3);
    let (mut writer, mut reader) =
        (cluster.client(cluster.leader()), cluster.client(cluster.follower()));
    let number = |reply: &str| reply.parse::<u32>().unwrap_or(0);
    for round in 1..200_u32 {
        assert_eq!(writer.retry(&["SET", "k", &round.to_string(), "PX", "1"]), "OK");
        let since = Instant::now();
        while since.elapsed() < Duration::from_millis(3) {
            assert_eq!(reader.retry(&["PING"]), "PONG");
        }
        let next = (round + 1).to_string();
        let writes = [encode(&["SET", "other", &next]), encode(&["SET", "k", &next])].concat();
        let reads = [encode(&["GET", "k"]), encode(&["GET", "other"])].concat();
        reader.stream.write_all(&reads).unwrap();
        writer.stream.write_all(&writes).unwrap();
        let [k, other] = [(); 2].map(|()| show(&reader.try_reply().unwrap()));
        let is_in_order =
            number(&k) <= round || number(&other) > round || other.starts_with("TRYAGAIN");
        assert!(is_in_order, "round {round}: k is {k}, and then the older {other} is read");
        let _ = [(); 2].map(|()| writer.try_reply().unwrap());
    }
}
