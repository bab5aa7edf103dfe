//! The texts of `raft` for an operator who is new to it: what was done, what went wrong, and what
//! to do about it.

mod support;

use std::net::TcpListener;

use support::{Cluster, Process, TIMEOUT, hold_a_port, raft};

/// Runs a command that must fail, and returns its errors.
fn fails(arguments: &[&str]) -> String {
    let output = raft().args(arguments).output().unwrap();
    assert!(!output.status.success(), "{arguments:?}: {output:?}");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Runs a command that must succeed, and returns its output and its errors.
fn succeeds(arguments: &[&str]) -> (String, String) {
    let output = raft().args(arguments).output().unwrap();
    let text =
        [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes).into_owned());
    assert!(output.status.success(), "{arguments:?}: {text:?}");
    text.into()
}

/// A cluster is not bootstrapped before all initial members have met.
#[test]
fn an_initial_member_that_met_no_other_cannot_be_recovered() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    // No process answers there.
    let (ours, theirs) = (hold_a_port(), hold_a_port());
    let addresses = [&ours, &theirs].map(|port| port.local_addr().unwrap().to_string());
    drop(ours);
    let (data, peer) = (path("data"), format!("2={}", addresses[1]));
    let serve = [
        "--id",
        "1",
        "--data",
        &data,
        "--raft",
        &addresses[0],
        "--client",
        "127.0.0.1:0",
        "--peer",
        &peer,
    ];
    let log = folder.path().join("log");
    let node = Process::start(&[], &serve.map(str::to_owned), &log).unwrap();
    drop(node);
    let text = std::fs::read_to_string(log).unwrap();
    assert!(text.contains("bootstrapping a new cluster"), "{text}");
    assert!(!text.contains("bootstrapped"), "{text}");
    let new = path("new");
    let recover = [
        "recover",
        "--data",
        &data,
        "--into",
        &new,
        "--id",
        "9",
        "--raft",
        "127.0.0.1:7",
        "--accept-data-loss",
    ];
    let text = fails(&recover);
    assert!(text.contains("has no entry: it never met the others"), "{text}");
}

#[test]
fn a_bootstrap_is_logged_once_and_a_join_is_none() {
    let mut cluster = Cluster::start(1);
    let bootstraps =
        |cluster: &Cluster, id| cluster.log_of(id).matches("bootstrapped a new cluster").count();
    let id = cluster.client(1).info("cluster_id").unwrap();
    assert!(
        cluster
            .log_of(1)
            .contains(&format!("bootstrapped a new cluster {id}, \"kodiak\", of node 1"))
    );
    cluster.kill(1);
    cluster.restart(1).unwrap();
    cluster.join(2, 1, &[]).unwrap();
    cluster.wait_for(2, "voters", "1,2");
    assert_eq!((bootstraps(&cluster, 1), bootstraps(&cluster, 2)), (1, 0), "{}", cluster.log_of(2));
}

#[test]
fn conflicting_flags_are_named_before_any_file_is_made() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("node");
    let any = "127.0.0.1:0";
    let serve = |raft: &str, more: &[&str]| {
        let base = [
            "serve",
            "--id",
            "1",
            "--data",
            data.to_str().unwrap(),
            "--raft",
            raft,
            "--client",
            any,
        ];
        let text = fails(&[&base[..], more].concat());
        assert!(!data.exists(), "{text}");
        assert!(!text.contains("Config::") && !text.contains("Options::"), "{text}");
        text
    };
    for (raft, more, words) in [
        (
            any,
            &["--join", "127.0.0.1:1", "--cluster", "mine"][..],
            &["--cluster mine", "--join"][..],
        ),
        (any, &["--heartbeat", "200"], &["--heartbeat 200", "--election-timeout 150"]),
        ("0.0.0.0:0", &[], &["--raft 0.0.0.0:0", "--advertise-raft HOST:PORT"]),
        (
            "192.0.2.1:7001",
            &[],
            &[
                "cannot listen for peers on 192.0.2.1:7001 (--raft 192.0.2.1:7001)",
                "--advertise-raft",
            ],
        ),
        ("no-such-host.invalid:1", &[], &["--raft: cannot resolve \"no-such-host.invalid:1\""]),
        (
            any,
            &["--join", "no-such-host.invalid:1"],
            &["--join", "cannot resolve \"no-such-host.invalid:1\""],
        ),
        (any, &["--max-clients", "0"], &["--max-clients", "give clients, from 1"]),
        (any, &["--heartbeat", "-5"], &["--heartbeat", "give milliseconds, from 1 to 3600000"]),
        (any, &["--advertise", "x"], &["--advertise", "no port"]),
    ] {
        let text = serve(raft, more);
        assert!(words.iter().all(|&word| text.contains(word)), "{raft} {more:?}: {text}");
    }
    let file = folder.path().join("file");
    std::fs::write(&file, "").unwrap();
    let text = fails(&[
        "serve",
        "--id",
        "1",
        "--data",
        file.to_str().unwrap(),
        "--raft",
        any,
        "--client",
        any,
    ]);
    assert!(text.contains("--data") && text.contains("is not a folder"), "{text}");
}

/// The address of an initial member must resolve when the folder is created.
#[test]
fn an_initial_member_that_cannot_be_resolved_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().to_str().unwrap();
    let any = "127.0.0.1:0";
    let peer = "2=no-such-host.invalid:1";
    let text = fails(&[
        "serve", "--id", "1", "--data", data, "--raft", any, "--client", any, "--peer", peer,
    ]);
    assert!(text.contains("--peer 2=no-such-host.invalid:1: cannot resolve"), "{text}");
}

#[test]
fn a_name_may_stand_for_every_address() {
    let folder = tempfile::tempdir().unwrap();
    let start = |id: u64, port: u16, further: &[String]| {
        let data = folder.path().join(id.to_string()).display().to_string();
        let raft = format!("localhost:{port}");
        let base =
            ["--id", &id.to_string(), "--data", &data, "--raft", &raft, "--client", "localhost:0"];
        let arguments: Vec<String> =
            base.map(str::to_owned).into_iter().chain(further.iter().cloned()).collect();
        Process::start(&[], &arguments, &folder.path().join(format!("{id}.log")))
    };
    // Another process may take a port between its choice and its use.
    let started = (0..5).find_map(|_| {
        let held = [(); 2].map(|()| TcpListener::bind("localhost:0").unwrap());
        let ports = held.map(|listener| listener.local_addr().unwrap().port());
        let peer = |at: usize| ["--peer".to_owned(), format!("{}=localhost:{}", at + 1, ports[at])];
        let one = start(1, ports[0], &peer(1)).ok()?;
        Some((one, start(2, ports[1], &peer(0)).ok()?, ports))
    });
    let (one, _two, ports) = started.expect("two free ports in five attempts");
    let client = format!("localhost:{}", one.client.port());
    let deadline = std::time::Instant::now() + TIMEOUT;
    let status = loop {
        let (status, _) = succeeds(&["status", "--client", &client]);
        if status.contains("leader") && status.matches("localhost:").count() == 2 {
            break status;
        }
        assert!(std::time::Instant::now() < deadline, "{status}");
    };
    assert!(!status.contains("127.0.0.1"), "{status}");
    let (members, _) = succeeds(&["member", "--client", &client, "list"]);
    for port in ports {
        assert!(members.contains(&format!("localhost:{port} ")), "{members}");
    }
    let text = fails(&["status", "--client", "no-such-host.invalid:1"]);
    assert!(text.contains("cannot resolve \"no-such-host.invalid:1\""), "{text}");
}

#[test]
fn a_raft_port_given_as_a_client_port_is_recognized() {
    let cluster = Cluster::start(1);
    let raft_port = cluster.raft_address(1);
    let folder = cluster.folder.path().join("other");
    let (data, any) = (folder.to_str().unwrap(), "127.0.0.1:0");
    for arguments in [
        &["status", "--client", &raft_port][..],
        &["member", "--client", &raft_port, "list"],
        &["member", "--client", &raft_port, "remove", "1"],
        &["transfer", "--client", &raft_port],
        &[
            "serve", "--id", "2", "--data", data, "--raft", any, "--client", any, "--join",
            &raft_port,
        ],
    ] {
        let text = fails(arguments);
        assert!(
            text.contains("as a node does on its --raft port: give the node's --client address"),
            "{text}"
        );
        assert!(!text.contains("may or may not"), "{text}");
    }
}

#[test]
fn a_transfer_against_the_priorities_is_warned_about() {
    let cluster = Cluster::start(3);
    let leader = cluster.leader();
    let to = cluster.follower().to_string();
    let client = cluster.nodes[&leader].client.to_string();
    let transfer = ["transfer", "--client", &client, "--to", &to];
    succeeds(&["member", "--client", &client, "priority", &leader.to_string(), "9"]);
    let (_, warned) = succeeds(&transfer);
    assert!(warned.contains(&format!("node {leader} has the higher priority (9, ")), "{warned}");
    cluster.wait_for(leader, "role", "leader");
    succeeds(&["member", "--client", &client, "priority", &leader.to_string(), "0"]);
    let (_, warned) = succeeds(&transfer);
    assert_eq!(warned, "");
}

#[test]
fn a_removed_node_refuses_to_list_members() {
    let mut cluster = Cluster::start(3);
    let (leader, follower) = (cluster.leader(), cluster.follower());
    let away = 6 - leader - follower;
    cluster.wait_for_an_entry(away);
    cluster.kill(away);
    // In this order: each time the running nodes are a majority.
    for id in [away, follower] {
        assert_eq!(cluster.client(leader).retry(&["RAFT", "REMOVE", &id.to_string()]), "OK");
    }
    cluster.restart(away).unwrap();
    for id in [follower, away] {
        cluster.wait_for(id, "role", "removed");
        let text = cluster.client(id).ask(&["RAFT", "MEMBERS"]);
        assert!(
            text.starts_with(&format!("ERR removed: node {id} was removed from the cluster")),
            "{text}"
        );
        let client = cluster.nodes[&id].client.to_string();
        assert!(fails(&["member", "--client", &client, "list"]).contains("ask a member"));
        let (status, _) = succeeds(&["status", "--client", &client]);
        assert!(
            status.contains("was removed from the cluster, and its information is old"),
            "{status}"
        );
    }
    // No new cluster is made from their folders, though the log of the node that was away does not
    // have the removal.
    cluster.kill(follower);
    cluster.kill(away);
    for id in [follower, away] {
        let (old, new) = (cluster.data(id), cluster.folder.path().join(format!("new-{id}")));
        let arguments =
            ["recover", "--data", old.to_str().unwrap(), "--into", new.to_str().unwrap()];
        let arguments =
            [&arguments[..], &["--raft", "localhost:1", "--accept-data-loss", "--id", "9"]]
                .concat();
        let text = fails(&arguments);
        assert!(
            text.contains(&format!("node {id}, ")) && text.contains("--from-removed"),
            "{text}"
        );
        assert!(!new.exists());
        succeeds(&[&arguments[..], &["--from-removed"]].concat());
        assert!(new.exists());
    }
}

#[test]
fn a_recovered_node_needs_an_id_that_was_never_used() {
    let mut cluster = Cluster::start(3);
    cluster.wait_for_an_entry(1);
    (1..=3).for_each(|id| cluster.kill(id));
    let (old, new) = (cluster.data(1), cluster.data(9));
    let recover = |id: &str| {
        let arguments =
            ["recover", "--data", old.to_str().unwrap(), "--into", new.to_str().unwrap()];
        fails(&[&arguments[..], &["--raft", "localhost:1", "--id", id]].concat())
    };
    for id in ["1", "3"] {
        let text = recover(id);
        assert!(
            text.contains(&format!("--id {id} is, or was, another node's"))
                && text.contains("above 3"),
            "{text}"
        );
    }
    assert!(recover("4").contains("--accept-data-loss"));
    let none = cluster.folder.path().join("none");
    let text = fails(&[
        "recover",
        "--data",
        none.to_str().unwrap(),
        "--into",
        "x",
        "--id",
        "9",
        "--raft",
        "localhost:1",
    ]);
    assert!(text.contains("none") && text.lines().count() == 1, "{text}");
}
