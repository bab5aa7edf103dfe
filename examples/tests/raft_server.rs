//! The `raft` server as its users see it: real processes, real sockets, SIGKILL.

mod support;

use std::{
    io::{Read, Write},
    process::Stdio,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
};

use redis_protocol::resp2::types::BytesFrame;
use support::{Client, Cluster, Process, encode, raft, show};

#[test]
fn every_node_answers_everything() {
    let cluster = Cluster::start(3);
    for id in 1..=3 {
        let mut client = cluster.client(id);
        let key = format!("key-{id}");
        assert_eq!(client.retry(&["SET", &key, "hello"]), "OK");
        for reader in 1..=3 {
            // Linearizable: every node that is asked afterwards has it.
            assert_eq!(
                cluster.client(reader).retry(&["GET", &key]),
                "hello",
                "written by {id}, read by {reader}"
            );
        }
        assert_eq!(client.ask(&["INCR", "counter"]), format!("(integer) {id}"));
        assert_eq!(client.ask(&["EXISTS", &key, "nothing", &key]), "(integer) 2");
        assert_eq!(client.ask(&["DEL", &key, "nothing"]), "(integer) 1");
        assert_eq!(client.ask(&["GET", &key]), "(nil)");
        assert_eq!(client.ask(&["PING"]), "PONG");
        assert_eq!(client.ask(&["PING", "hey"]), "hey");
        assert!(client.ask(&["INFO"]).contains("# Raft\r\n"));
        assert_eq!(client.info("node_id").unwrap(), id.to_string());
        assert_eq!(client.ask(&["APPEND", "long", "ab"]), format!("(integer) {}", 2 * id));
        assert_eq!(client.ask(&["MSET", "a", "1", "b", "2"]), "OK");
        assert_eq!(client.ask(&["MGET", "a", "none", "b"]), "1, (nil), 2");
    }
}

#[test]
fn a_pipeline_is_answered_in_its_order_through_a_follower() {
    let cluster = Cluster::start(3);
    let mut client = cluster.client(cluster.follower());
    assert_eq!(client.retry(&["SET", "n", "0"]), "OK");
    let mut pipeline = Vec::new();
    for _ in 0..500 {
        // A read must see the write before it, and must not see the one after it.
        pipeline.extend(encode(&["INCR", "n"]));
        pipeline.extend(encode(&["GET", "n"]));
        pipeline.extend(encode(&["PING"]));
    }
    client.stream.write_all(&pipeline).unwrap();
    for n in 1..=500 {
        assert_eq!(show(&client.try_reply().unwrap()), format!("(integer) {n}"));
        assert_eq!(show(&client.try_reply().unwrap()), n.to_string());
        assert_eq!(show(&client.try_reply().unwrap()), "PONG");
    }
}

#[test]
fn a_transaction_is_one_step_through_any_node() {
    let cluster = Cluster::start(3);
    let follower = cluster.follower();
    assert_eq!(cluster.client(follower).retry(&["SET", "a", "0"]), "OK");
    // The two values are equal in every read.
    thread::scope(|scope| {
        for id in 1..=3 {
            let (mut writer, mut reader) = (cluster.client(id), cluster.client(id));
            scope.spawn(move || {
                for _ in 0..50 {
                    assert_eq!(writer.ask(&["MULTI"]), "OK");
                    assert_eq!(writer.ask(&["INCR", "x"]), "QUEUED");
                    assert_eq!(writer.ask(&["INCR", "y"]), "QUEUED");
                    assert_eq!(writer.ask(&["GET", "x"]), "QUEUED");
                    let text = writer.ask(&["EXEC"]);
                    let parts: Vec<&str> = text.split(", ").collect();
                    assert!(parts[0] == parts[1] && parts[0].ends_with(parts[2]), "{text}");
                }
            });
            scope.spawn(move || {
                for _ in 0..50 {
                    let text = reader.ask(&["MGET", "x", "y"]);
                    let (x, y) = text.split_once(", ").unwrap();
                    assert_eq!(x, y, "a transaction was seen half done");
                }
            });
        }
    });
    let mut client = cluster.client(follower);
    assert_eq!(client.ask(&["MULTI"]), "OK");
    assert!(client.ask(&["INCR"]).starts_with("ERR wrong number"));
    assert!(client.ask(&["EXEC"]).starts_with("EXECABORT"));
    assert_eq!(client.ask(&["GET", "x"]), "150");
}

#[test]
fn ten_thousand_pipelined_writes_are_all_there() {
    let cluster = Cluster::start(3);
    let mut client = cluster.client(cluster.leader());
    assert_eq!(client.retry(&["SET", "k", "v"]), "OK");
    let mut writer = client.stream.try_clone().unwrap();
    // From another thread: the server stops reading a client that does not read its replies.
    let sending = thread::spawn(move || {
        (0..10_000).try_for_each(|_| writer.write_all(&encode(&["INCR", "n"])))
    });
    for n in 1..=10_000 {
        assert_eq!(show(&client.try_reply().unwrap()), format!("(integer) {n}"));
    }
    sending.join().unwrap().unwrap();
    assert_eq!(cluster.client(cluster.follower()).ask(&["GET", "n"]), "10000");
}

/// The timeouts are long, so that on a busy machine no election and no expired request answers with
/// an error.
#[test]
fn many_deep_pipelines_through_a_follower_are_all_answered() {
    let cluster =
        Cluster::start_with(3, &["--election-timeout", "2000", "--request-timeout", "60000"]);
    let mut clients: Vec<Client> = (0..6).map(|_| cluster.client(cluster.follower())).collect();
    assert_eq!(clients[0].retry(&["SET", "n", "0"]), "OK");
    for client in &mut clients {
        client.stream.write_all(&encode(&["INCR", "n"]).repeat(4000)).unwrap();
    }
    for client in &mut clients {
        for _ in 0..4000 {
            let reply = show(&client.try_reply().unwrap());
            assert!(reply.starts_with("(integer)"), "{reply}");
        }
    }
    assert_eq!(clients[0].ask(&["GET", "n"]), "24000");
}

#[test]
fn malformed_requests_disturb_no_other_client() {
    let cluster = Cluster::start(1);
    let mut bystander = cluster.client(1);
    assert_eq!(bystander.retry(&["SET", "k", "v"]), "OK");

    let mut client = cluster.client(1);
    assert!(client.ask(&["FROBNICATE", "x"]).starts_with("ERR unknown command 'FROBNICATE'"));
    assert!(client.ask(&["GET"]).starts_with("ERR wrong number of arguments for 'get'"));
    assert_eq!(client.ask(&["GET", "k"]), "v", "the connection stays open");

    for malformed in [
        &b"*1\r\n$abc\r\n"[..],
        b"*2\r\n:1\r\n",
        b"\x00\x01",
        b"*1\r\n*1\r\n",
        b"*9999999999\r\n",
        b"nonsense\r\n",
    ] {
        let mut client = cluster.client(1);
        client.stream.write_all(malformed).unwrap();
        let mut text = Vec::new();
        client.stream.read_to_end(&mut text).expect("an error and the end of the connection");
        assert!(
            text.starts_with(b"-ERR "),
            "{:?} was answered {:?}",
            malformed,
            String::from_utf8_lossy(&text)
        );
    }
    assert_eq!(bystander.ask(&["GET", "k"]), "v");
}

#[test]
fn the_server_describes_its_commands() {
    let cluster = Cluster::start(1);
    let mut client = cluster.client(1);
    let count = client.ask(&["COMMAND", "COUNT"]);
    let names = client.ask(&["COMMAND", "LIST"]);
    assert_eq!(count, format!("(integer) {}", names.split(", ").count()));
    assert!(names.starts_with("get, set, "), "{names}");
    assert!(client.ask(&["COMMAND", "DOCS", "get"]).starts_with("get, summary, "));
    assert!(client.ask(&["RAFT", "HELP"]).contains("TRANSFER [id]"));
    let (manual, arity) = (raft().arg("commands").output().unwrap(), client.ask(&["RAFT", "ADD"]));
    assert!(String::from_utf8_lossy(&manual.stdout).contains("RAFT TRANSFER [id]"));
    assert_eq!(arity, "ERR wrong number of arguments for 'raft|add' command");
}

#[test]
fn requests_before_a_malformed_frame_are_answered_first() {
    let cluster = Cluster::start(1);
    let mut client = cluster.client(1);
    assert_eq!(client.retry(&["SET", "k", "v"]), "OK");
    let mut bytes = encode(&["INCR", "n"]);
    bytes.extend(encode(&["GET", "k"]));
    bytes.extend(b"*1\r\n$-5\r\n");
    client.stream.write_all(&bytes).unwrap();
    assert_eq!(show(&client.try_reply().unwrap()), "(integer) 1");
    assert_eq!(show(&client.try_reply().unwrap()), "v");
    assert!(show(&client.try_reply().unwrap()).starts_with("ERR Protocol error"));
    assert!(client.try_reply().is_err(), "the connection has ended");
}

/// The client sends the whole request before it reads, as most do: the error must not be lost in a
/// reset of the connection.
#[test]
fn a_request_that_is_too_large_ends_the_connection() {
    let cluster = Cluster::start(1);
    let mut client = cluster.client(1);
    client.send(&["SET", "k", &"x".repeat(4 << 20)]).unwrap();
    let reply = show(&client.try_reply().unwrap());
    assert!(reply.contains("--max-request-bytes"), "{reply}");
    assert!(client.try_reply().is_err(), "the connection has ended");
}

#[test]
fn a_client_that_does_not_read_cannot_fill_the_memory() {
    let cluster = Cluster::start(1);
    let mut client = cluster.client(1);
    assert_eq!(client.retry(&["SET", "long", &"x".repeat(900_000)]), "OK");
    let mut greedy = cluster.client(1);
    greedy.stream.write_all(&encode(&["GET", "long"]).repeat(4096)).unwrap(); // 3.7 GB of replies
    let many: Vec<&str> =
        std::iter::once("MGET").chain(std::iter::repeat_n("long", 1000)).collect();
    let reply = client.ask(&many);
    assert!(reply.starts_with("ERR the values exceed"), "{}", &reply[..reply.len().min(100)]);
    assert!(peak_kib(&cluster) < 256 << 10, "{} KiB", peak_kib(&cluster));
    assert!(show(&greedy.try_reply().unwrap()).len() == 900_000, "it is answered when it reads");
}

/// The most memory that node 1 has used.
fn peak_kib(cluster: &Cluster) -> u64 {
    let status =
        std::fs::read_to_string(format!("/proc/{}/status", cluster.nodes[&1].child.id())).unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    peak.trim().trim_end_matches(" kB").parse().unwrap()
}

/// A write can be short and its answer long, too.
#[test]
fn a_client_that_only_writes_cannot_fill_the_memory() {
    let cluster = Cluster::start(1);
    let mut client = cluster.client(1);
    assert_eq!(client.retry(&["SET", "long", &"x".repeat(900_000)]), "OK");
    let mut greedy = cluster.client(1);
    let transaction = [encode(&["MULTI"]), encode(&["GET", "long"]), encode(&["EXEC"])].concat();
    greedy.stream.write_all(&transaction.repeat(1000)).unwrap(); // 900 MB of replies
    // In the log after the requests in flight.
    assert_eq!(client.ask(&["SET", "k", "v"]), "OK");
    assert!(peak_kib(&cluster) < 256 << 10, "{} KiB", peak_kib(&cluster));
    for expected in [2, 6, 900_000] {
        let reply = show(&greedy.try_reply().unwrap());
        assert!(reply.len() >= expected && reply.len() < expected + 20, "{}", reply.len());
    }
}

/// Clients of the leader and of its followers send more than the cluster takes at a time, and are
/// slowed down.
#[test]
fn more_than_can_be_in_flight_waits_in_the_sockets() {
    // The timeouts are long, because a slow machine is not what is tested.
    let cluster =
        Cluster::start_with(3, &["--election-timeout", "3000", "--request-timeout", "60000"]);
    let mut clients: Vec<Client> = (0..24).map(|at| cluster.client(1 + at % 3)).collect();
    clients[0].retry(&["SET", "k", "v"]);
    // 96 MB of all clients together.
    let pipeline = encode(&["SET", "k", &"v".repeat(100_000)]).repeat(40);
    let sending: Vec<_> = clients
        .iter()
        .map(|client| {
            let (mut end, bytes) = (client.stream.try_clone().unwrap(), pipeline.clone());
            thread::spawn(move || end.write_all(&bytes))
        })
        .collect();
    for client in &mut clients {
        for _ in 0..40 {
            assert_eq!(show(&client.try_reply().unwrap()), "OK");
        }
    }
    sending.into_iter().for_each(|sending| sending.join().unwrap().unwrap());
}

/// Several client libraries send `HELLO 3` first, and give up if it is refused.
#[test]
fn a_client_may_speak_resp3() {
    let cluster = Cluster::start(1);
    let mut client = cluster.client(1);
    assert_eq!(client.retry(&["SET", "k", "v"]), "OK");
    // In one go: replies before the switch are still in the old protocol.
    let requests: [&[&str]; 7] = [
        &["GET", "none"],
        &["HELLO", "3"],
        &["GET", "none"],
        &["MGET", "k", "none"],
        &["CONFIG", "GET", "x"],
        &["HELLO", "2"],
        &["GET", "none"],
    ];
    client.stream.write_all(&requests.map(encode).concat()).unwrap();
    client.stream.shutdown(std::net::Shutdown::Write).unwrap();
    let mut replies = String::new();
    client.stream.read_to_string(&mut replies).unwrap();
    let (before, rest) =
        replies.split_once("%6\r\n$6\r\nserver\r\n").unwrap_or_else(|| panic!("{replies:?}"));
    assert_eq!(before, "$-1\r\n");
    let (hello, rest) = rest.split_once("$6\r\nmaster\r\n").unwrap();
    assert!(hello.contains("$5\r\nproto\r\n:3\r\n"), "{hello:?}");
    let (third, second) = rest.split_once("*12\r\n").unwrap();
    assert_eq!(third, "_\r\n*2\r\n$1\r\nv\r\n_\r\n%0\r\n");
    assert!(second.ends_with("$6\r\nmaster\r\n$-1\r\n"), "{second:?}");
}

#[test]
fn a_client_that_closes_its_half_is_still_answered() {
    let cluster = Cluster::start(1);
    let mut client = cluster.client(1);
    assert_eq!(client.retry(&["SET", "n", "0"]), "OK");
    for _ in 0..100 {
        client.send(&["INCR", "n"]).unwrap();
        client.send(&["GET", "n"]).unwrap();
    }
    client.stream.shutdown(std::net::Shutdown::Write).unwrap();
    for n in 1..=100 {
        assert_eq!(show(&client.try_reply().unwrap()), format!("(integer) {n}"));
        assert_eq!(show(&client.try_reply().unwrap()), n.to_string());
    }
    assert!(client.try_reply().is_err());
}

/// Increments through `client` until `stop` is set. Returns the number of acknowledged increments,
/// and of those with an unknown outcome.
fn increment(mut client: Client, key: &str, stop: &AtomicBool, total: &AtomicU64) -> (u64, u64) {
    let (mut acknowledged, mut unknown) = (0, 0);
    while !stop.load(Ordering::Relaxed) {
        let reply = client.send(&["INCR", key]).and_then(|()| client.try_reply());
        match reply {
            Ok(BytesFrame::Integer(_)) => {
                acknowledged += 1;
                total.fetch_add(1, Ordering::Relaxed);
            }
            Ok(BytesFrame::Error(error)) if error.starts_with("TRYAGAIN") => {}
            Ok(BytesFrame::Error(error)) if error.starts_with("UNKNOWN") => unknown += 1,
            Ok(other) => panic!("INCR was answered {other:?}"),
            Err(_) => {
                unknown += 1;
                break;
            }
        }
    }
    (acknowledged, unknown)
}

#[test]
fn a_leader_killed_under_load_loses_nothing_and_comes_back() {
    let mut cluster = Cluster::start(3);
    let leader = cluster.leader();
    let (stop, total) = (AtomicBool::new(false), AtomicU64::new(0));
    let clients: Vec<Client> = cluster.nodes.keys().map(|&id| cluster.client(id)).collect();
    let reached = |count: u64| {
        let deadline = std::time::Instant::now() + support::TIMEOUT;
        while total.load(Ordering::Relaxed) < count {
            assert!(std::time::Instant::now() < deadline, "writes have stopped");
            thread::yield_now();
        }
    };
    let results: Vec<(u64, u64)> = thread::scope(|scope| {
        let (stop, total) = (&stop, &total);
        let writers: Vec<_> = clients
            .into_iter()
            .map(|client| scope.spawn(move || increment(client, "n", stop, total)))
            .collect();
        reached(300);
        cluster.kill(leader);
        let at_kill = total.load(Ordering::Relaxed);
        // The others elect and serve.
        reached(at_kill + 300);
        cluster.restart(leader).unwrap();
        let at_restart = total.load(Ordering::Relaxed);
        reached(at_restart + 300);
        stop.store(true, Ordering::Relaxed);
        writers.into_iter().map(|writer| writer.join().unwrap()).collect()
    });
    let acknowledged: u64 = results.iter().map(|(acknowledged, _)| acknowledged).sum();
    let unknown: u64 = results.iter().map(|(_, unknown)| unknown).sum();
    for id in 1..=3 {
        let value: u64 = cluster.client(id).retry(&["GET", "n"]).parse().unwrap();
        assert!(
            (acknowledged..=acknowledged + unknown).contains(&value),
            "{acknowledged} increments acknowledged, {unknown} unknown, and node {id} has {value}"
        );
    }
}

#[test]
fn a_whole_cluster_killed_keeps_what_it_acknowledged() {
    let mut cluster = Cluster::start(3);
    for n in 0..50 {
        let id = 1 + n % 3;
        assert_eq!(cluster.client(id).retry(&["SET", &format!("k{n}"), &n.to_string()]), "OK");
    }
    (1..=3).for_each(|id| cluster.kill(id));
    (1..=3).for_each(|id| cluster.restart(id).unwrap());
    for n in 0..50 {
        assert_eq!(cluster.client(1 + n % 3).retry(&["GET", &format!("k{n}")]), n.to_string());
    }
}

#[test]
fn status_is_a_table_of_the_nodes_that_can_be_reached() {
    let mut cluster = Cluster::start(3);
    let leader = cluster.leader();
    let follower = cluster.follower();
    assert_eq!(cluster.client(follower).retry(&["SET", "k", "v"]), "OK");
    let status = |cluster: &Cluster| {
        let address = cluster.nodes[&follower].client.to_string();
        let output = raft().args(["status", "--client", &address]).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let table = status(&cluster);
    let lines: Vec<&str> = table.lines().collect();
    assert!(lines[0].starts_with("NODE  CLIENT"), "{table}");
    assert_eq!(lines.len(), 7, "{table}");
    assert!(table.contains(": voters 1 2 3\n"), "{table}");
    assert_eq!(table.matches(": replicate, matched ").count(), 2, "{table}");
    assert!(lines[leader as usize].contains("leader"), "{table}");
    assert_eq!(table.matches("follower").count(), 2, "{table}");

    let last = *cluster.nodes.keys().find(|&&id| id != leader && id != follower).unwrap();
    cluster.kill(last);
    let table = status(&cluster);
    assert!(table.lines().nth(last as usize).unwrap().contains("unreachable"), "{table}");

    let output = raft().args(["status", "--client", "127.0.0.1:1"]).output().unwrap();
    assert!(!output.status.success());
    assert!(
        String::from_utf8_lossy(&output.stderr).contains("cannot ask the node at 127.0.0.1:1"),
        "{output:?}"
    );
}

#[test]
fn signals_end_a_node_cleanly() {
    for name in ["INT", "TERM"] {
        let mut cluster = Cluster::start(1);
        assert_eq!(cluster.client(1).retry(&["SET", "k", "v"]), "OK");
        let mut node = cluster.nodes.remove(&1).unwrap();
        node.signal(name);
        assert!(node.wait().success(), "SIG{name}");
        cluster.restart(1).unwrap();
        assert_eq!(cluster.client(1).retry(&["GET", "k"]), "v");
    }
}

#[test]
fn mistakes_are_explained() {
    let cluster = Cluster::start(1);
    let serve = |arguments: &[&str]| {
        let log = cluster.folder.path().join("mistake.log");
        std::fs::write(&log, "").unwrap();
        let arguments: Vec<String> =
            arguments.iter().map(|&argument| argument.to_owned()).collect();
        match Process::start(&[], &arguments, &log) {
            Ok(_) => panic!("{arguments:?} started"),
            Err(text) => text,
        }
    };
    let data = cluster.data(1).display().to_string();
    let folder = cluster.folder.path().join("other").display().to_string();
    let any = "127.0.0.1:0";
    let base = |id: &'static str, data: &str| -> Vec<String> {
        ["--id", id, "--data", data, "--raft", any, "--client", any].map(str::to_owned).to_vec()
    };
    let with = |mut arguments: Vec<String>, more: &[&str]| {
        arguments.extend(more.iter().map(|&argument| argument.to_owned()));
        serve(&arguments.iter().map(String::as_str).collect::<Vec<_>>())
    };

    assert!(with(base("1", &data), &[]).contains("in use by another process"));
    assert!(with(base("0", &folder), &[]).contains("node ids start at 1"));
    assert!(with(base("1", &folder), &["--peer", "2"]).contains("ID=HOST:PORT"));
    assert!(with(base("1", &folder), &["--peer", "1=127.0.0.1:9"]).contains("its own peers"));
    assert!(
        with(base("1", &folder), &["--peer", "2=127.0.0.1:9", "--peer", "2=127.0.0.1:8"])
            .contains("twice")
    );
    assert!(
        with(base("2", &folder), &["--join", "127.0.0.1:1"])
            .contains("no node of the cluster answers")
    );
    assert!(with(base("2", &folder), &["--learner"]).contains("--join"));
    assert!(
        with(base("2", &folder), &["--join", "127.0.0.1:1", "--peer", "2=127.0.0.1:9"])
            .contains("cannot be used with")
    );
    assert!(with(base("1", &folder), &["--heartbeat", "200"]).contains("heartbeat"));
    assert!(with(base("1", &folder), &["--heartbeat", "0"]).contains("heartbeat"));
    assert!(
        with(base("1", &folder), &["--max-request-bytes", "0"]).contains("--max-request-bytes")
    );
    let taken = cluster.nodes[&1].client.to_string();
    assert!(
        serve(&["--id", "1", "--data", &folder, "--raft", any, "--client", &taken])
            .contains(&taken)
    );
}

#[test]
fn a_folder_of_another_node_is_refused() {
    let mut cluster = Cluster::start(1);
    cluster.kill(1);
    let mut arguments = cluster.arguments(1);
    arguments[1] = "2".to_owned();
    let log = cluster.folder.path().join("mistake.log");
    let text = Process::start(&[], &arguments, &log).map(|_| ()).unwrap_err();
    assert!(text.contains("belongs to node 1, not to node 2"), "{text}");
}

#[test]
fn the_demo_loses_nothing() {
    let output = raft().args(["demo", "--keys", "600"]).stdin(Stdio::null()).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    for step in [
        "three nodes started",
        "elected",
        "killed (SIGKILL)",
        "read back from both survivors",
        "nothing was lost",
    ] {
        assert!(text.contains(step), "no step {step:?} in:\n{text}");
    }
}
