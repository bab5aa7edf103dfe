//! Changes of a running cluster, as operators make them: real processes join, leave, move and are
//! lost.

mod support;

use std::{
    fs,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::Instant,
};

use support::{Client, Cluster, TIMEOUT, raft};

/// Increments a key until `stop` is set. Returns the number of acknowledged increments, and of
/// those with an unknown outcome.
fn count_up(mut client: Client, key: &str, stop: &AtomicBool, progress: &AtomicU64) -> (u64, u64) {
    let (mut acknowledged, mut unsure) = (0, 0);
    while !stop.load(Ordering::Relaxed) {
        let text = client.ask(&["INCR", key]);
        match text {
            _ if text.starts_with("(integer)") => acknowledged += 1,
            _ if text.starts_with("UNKNOWN") => unsure += 1,
            _ => assert!(text.starts_with("TRYAGAIN"), "{text}"),
        }
        progress.store(acknowledged, Ordering::Relaxed);
    }
    (acknowledged, unsure)
}

/// Runs `meanwhile` during writes through a node, and checks that each acknowledged one took effect
/// once.
fn under_writes(cluster: &mut Cluster, through: u64, meanwhile: impl FnOnce(&mut Cluster)) -> u64 {
    let (stop, progress) = (AtomicBool::new(false), AtomicU64::new(0));
    let client = cluster.client(through);
    let (acknowledged, unsure) = thread::scope(|scope| {
        let writer = scope.spawn(|| count_up(client, "n", &stop, &progress));
        meanwhile(cluster);
        // Some more writes, with the changed cluster.
        let (begun, deadline) = (progress.load(Ordering::Relaxed), Instant::now() + TIMEOUT);
        while progress.load(Ordering::Relaxed) < begun + 10 && !writer.is_finished() {
            assert!(Instant::now() < deadline, "writes have stopped");
            thread::yield_now();
        }
        stop.store(true, Ordering::Relaxed);
        writer.join().unwrap()
    });
    let n: u64 = cluster.client(through).retry(&["GET", "n"]).parse().unwrap();
    assert!(
        (acknowledged..=acknowledged + unsure).contains(&n),
        "{n} for {acknowledged} and perhaps {unsure} more"
    );
    n
}

/// Runs a `raft` command that must succeed, and returns its output.
fn run(arguments: &[&str]) -> String {
    let output = raft().args(arguments).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(
        output.status.success(),
        "{arguments:?}: {text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    text
}

#[test]
fn a_cluster_grows_from_one_to_three_to_five_under_writes() {
    let mut cluster = Cluster::start(1);
    let n = under_writes(&mut cluster, 1, |cluster| {
        for (voters, new) in [("1,2,3", [2, 3]), ("1,2,3,4,5", [4, 5])] {
            // Each joins through another node; the first of these only forwards to the leader.
            new.iter().for_each(|&id| cluster.join(id, id / 2, &[]).unwrap());
            for id in 1..=new[1] {
                cluster.wait_for(id, "voters", voters);
                cluster.wait_for(id, "learners", "none");
            }
        }
    });
    // Started again with the same flags, the nodes keep their roles.
    cluster.kill(4);
    cluster.restart(4).unwrap();
    for id in 1..=5 {
        assert_eq!(cluster.client(id).retry(&["GET", "n"]), n.to_string(), "node {id}");
    }
    // Five can lose two, even the leader and the initial member.
    let leader = cluster.leader();
    cluster.kill(leader);
    cluster.kill(if leader == 1 { 2 } else { 1 });
    let left = *cluster.nodes.keys().next().unwrap();
    assert_eq!(cluster.client(left).retry(&["INCR", "n"]), format!("(integer) {}", n + 1));
}

#[test]
fn removed_nodes_report_their_removal() {
    let mut cluster = Cluster::start(3);
    let (leader, follower) = (cluster.leader(), cluster.follower());
    let other = 6 - leader - follower;
    assert_eq!(cluster.client(other).retry(&["SET", "k", "v"]), "OK");
    // A node that is down when it is removed learns it when it comes back.
    cluster.kill(follower);
    let client = cluster.nodes[&other].client.to_string();
    let text = run(&["member", "--client", &client, "remove", &follower.to_string()]);
    assert!(!text.contains(&cluster.raft_address(follower)), "{text}");
    cluster.restart(follower).unwrap();
    cluster.wait_for(follower, "role", "removed");
    let text = cluster.client(follower).ask(&["GET", "k"]);
    assert!(text.starts_with("ERR removed"), "{text}");
    assert!(cluster.log_of(follower).contains("was removed from the cluster"));
    // The leader learns its own removal when it is committed, and another node leads.
    assert_eq!(cluster.client(other).retry(&["RAFT", "REMOVE", &leader.to_string()]), "OK");
    cluster.wait_for(leader, "role", "removed");
    cluster.wait_for(other, "role", "leader");
    cluster.wait_for(other, "voters", &other.to_string());
    assert!(cluster.client(leader).ask(&["SET", "k", "w"]).starts_with("ERR removed"));
    assert_eq!(cluster.client(other).retry(&["GET", "k"]), "v");
    let text = cluster.client(other).ask(&["RAFT", "REMOVE", &other.to_string()]);
    assert!(text.starts_with("ERR no voter would be left"), "{text}");
    let text = cluster.client(other).ask(&[
        "RAFT",
        "ADD",
        &leader.to_string(),
        "127.0.0.1:1",
        &"1".repeat(32),
    ]);
    assert!(text.starts_with("ERR a new member's id must be above 3"), "{text}");
}

#[test]
fn a_wiped_node_is_refused_and_replaced_under_a_new_id() {
    let mut cluster = Cluster::start(3);
    assert_eq!(cluster.client(1).retry(&["SET", "k", "v"]), "OK");
    let deadline = Instant::now() + TIMEOUT;
    for id in 1..=3 {
        // The initial members have learned each other's disks, and the log has them.
        let mut client = cluster.client(id);
        while client.ask(&["RAFT", "MEMBERS"]).contains("disk=00000000000000000000000000000000") {
            assert!(Instant::now() < deadline, "{}", client.ask(&["RAFT", "MEMBERS"]));
        }
    }
    let wiped = cluster.follower();
    let others: Vec<u64> = (1..=3).filter(|&id| id != wiped).collect();
    cluster.kill(wiped);
    fs::remove_dir_all(cluster.data(wiped)).unwrap();
    // Only the log has them.
    others.iter().for_each(|&id| cluster.kill(id));
    others.iter().for_each(|&id| cluster.restart(id).unwrap());
    cluster.restart(wiped).unwrap();
    let deadline = Instant::now() + TIMEOUT;
    while !cluster.log_of(wiped).contains("its promises were on the old disk") {
        assert!(Instant::now() < deadline, "{}", cluster.log_of(wiped));
    }
    cluster.kill(wiped);
    fs::remove_dir_all(cluster.data(wiped)).unwrap();
    // It may not join under its old id either, and no file is created.
    let text = cluster.join(wiped, others[0], &[]).unwrap_err();
    assert!(text.contains("ids are never used again, so choose one above 3"), "{text}");
    assert!(!cluster.data(wiped).exists());
    cluster.join(4, others[1], &["--learner"]).unwrap();
    cluster.wait_for(4, "capacity", "learner");
    let (old, client) = (wiped.to_string(), cluster.nodes[&others[0]].client.to_string());
    // It is promoted once it has caught up, which the command waits for.
    let text = run(&["member", "--client", &client, "replace", &old, "4"]);
    let voters = format!("{},{},4", others[0], others[1]);
    assert!(text.contains("the next id must be above 4"), "{text}");
    cluster.wait_for(4, "voters", &voters);
    cluster.wait_for(4, "outgoing_voters", "none");
    assert_eq!(cluster.client(4).retry(&["GET", "k"]), "v");
}

#[test]
fn leadership_is_transferred_without_losing_a_write() {
    // With leases, which must end with leadership.
    let mut cluster = Cluster::start_with(3, &["--lease-drift", "1000"]);
    assert_eq!(cluster.client(1).retry(&["DEL", "n"]), "(integer) 0");
    let writes_through = cluster.follower();
    under_writes(&mut cluster, writes_through, |cluster| {
        for _ in 0..3 {
            let (leader, follower) = (cluster.leader(), cluster.follower());
            let asked = cluster.nodes[&follower].client.to_string();
            let text = run(&["transfer", "--client", &asked, "--to", &follower.to_string()]);
            assert!(text.starts_with(&format!("node {follower} leads")), "{text}");
            assert_ne!(cluster.leader(), leader);
        }
    });
    let leader = cluster.leader();
    cluster.wait_for(leader, "lease", "held");
    let text = cluster.client(leader).ask(&["RAFT", "TRANSFER", &leader.to_string()]);
    assert!(text.starts_with(&format!("ERR node {leader} leads already")), "{text}");
    assert_eq!(cluster.client(leader).ask(&["RAFT", "TRANSFER"]), "OK");
    assert_ne!(cluster.leader(), leader);
    // The node of the highest priority gets leadership by itself.
    let follower = cluster.follower();
    assert_eq!(
        cluster.client(leader).retry(&["RAFT", "PRIORITY", &follower.to_string(), "9"]),
        "OK"
    );
    cluster.wait_for(follower, "role", "leader");
}

#[test]
fn a_survivor_of_a_lost_majority_starts_a_new_cluster() {
    let mut cluster = Cluster::start_with(3, &["--snapshot-every", "4096", "--segment", "8192"]);
    let value = |n: u64| format!("{n:0100}");
    let mut client = cluster.client(cluster.leader());
    for n in 0..150 {
        assert_eq!(client.retry(&["SET", &format!("key-{n}"), &value(n)]), "OK");
    }
    let survivor = cluster.follower();
    // It has everything.
    assert_eq!(cluster.client(survivor).retry(&["GET", "key-149"]), value(149));
    (1..=3).for_each(|id| cluster.kill(id));
    let (old, new) = (cluster.data(survivor), cluster.data(4));
    let (old, new) = (old.display().to_string(), new.display().to_string());
    let mut arguments =
        vec!["recover", "--data", &old, "--into", &new, "--id", "4", "--raft", "127.0.0.1:1"];
    let hesitating = raft().args(&arguments).output().unwrap();
    assert!(!hesitating.status.success() && !cluster.data(4).exists());
    assert!(String::from_utf8_lossy(&hesitating.stderr).contains("--accept-data-loss"));
    arguments.push("--accept-data-loss");
    let text = run(&arguments);
    assert!(text.contains("LOST: what the other nodes had"), "{text}");

    cluster.start_as(4, Vec::new()).unwrap();
    cluster.wait_for(4, "role", "leader");
    // Its port could not be known before.
    let address = cluster.raft_address(4);
    assert_eq!(cluster.client(4).retry(&["RAFT", "ADDRESS", "4", &address]), "OK");
    cluster.join(5, 4, &[]).unwrap();
    cluster.join(6, 4, &[]).unwrap();
    cluster.wait_for(5, "voters", "4,5,6");
    cluster.wait_for(6, "voters", "4,5,6");
    // The rest of the old cluster belongs to another cluster.
    cluster.restart(survivor).unwrap();
    cluster.kill(4);
    let mut client = cluster.client(5);
    for n in 0..150 {
        assert_eq!(client.retry(&["GET", &format!("key-{n}")]), value(n));
    }
    assert_eq!(client.retry(&["DBSIZE"]), "(integer) 150");
    assert_eq!(cluster.client(survivor).info("leader_id").unwrap(), "none");
}
