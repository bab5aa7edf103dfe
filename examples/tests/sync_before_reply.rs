//! On the real disk: a write is answered after it was synced, never before. Seen by `strace`.

mod support;

use std::process::Command;

use support::{Client, Process};

/// Looks for `key`'s way through a trace: into the log, synced, answered. The error says what is out of order.
fn check(trace: &str, key: &str) -> Result<(), String> {
    let lines: Vec<&str> = trace.lines().collect();
    let find = |what: &str, from: usize, matches: &dyn Fn(&str) -> bool| {
        let found = lines[from..].iter().position(|line| matches(line)).map(|at| from + at);
        found.ok_or_else(|| format!("no {what} after line {from} of:\n{trace}"))
    };
    let written = find("write to the log", 0, &|line| line.contains("pwrite64(") && line.contains(key))?;
    // Either the call in one line, or the line in which it returns.
    let synced = find("sync", written, &|line| line.contains("fdatasync") && line.ends_with("= 0"))?;
    let answered = find("answer", 0, &|line| line.contains("+OK\\r\\n"))?;
    if answered < synced {
        return Err(format!("answered in line {answered}, synced in line {synced} of:\n{trace}"));
    }
    Ok(())
}

#[test]
fn a_write_is_synced_before_it_is_answered() {
    if Command::new("strace").arg("-V").output().is_err() {
        println!("skipped: there is no strace on this machine");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let trace = folder.path().join("trace");
    let trace_path = trace.display().to_string();
    let calls = "trace=pwrite64,pwritev,fdatasync,fsync,write,writev,sendto,sendmsg";
    let wrapper = ["strace", "-f", "-qq", "-s", "4096", "-e", calls, "-e", "signal=none", "-o", &trace_path];
    let data = folder.path().join("data").display().to_string();
    let arguments = ["--id", "1", "--data", &data, "--raft", "127.0.0.1:0", "--client", "127.0.0.1:0"];
    let log = folder.path().join("log");
    let node = Process::start(&wrapper, &arguments.map(str::to_owned), &log);
    let mut node = match node {
        Ok(node) => node,
        Err(said) if said.contains("ptrace") => {
            println!("skipped: strace may not trace here: {said}");
            return;
        }
        Err(said) => panic!("{said}"),
    };
    let mut client = Client::connect(node.client);
    assert_eq!(client.insist(&["SET", "a-key-to-be-traced", "v"]), "OK");
    // strace hands the signal on to what it traces, and ends with it.
    let pid = client.ask(&["INFO", "server"]);
    let pid = pid.lines().find_map(|line| line.strip_prefix("process_id:")).unwrap().trim().to_owned();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    node.wait();
    let trace = std::fs::read_to_string(&trace).unwrap();
    check(&trace, "a-key-to-be-traced").unwrap();
}

#[test]
fn the_check_notices_an_early_answer() {
    let early = "1 pwrite64(3, \"..key..\", 9, 0) = 9\n2 sendto(9, \"+OK\\r\\n\", 5) = 5\n1 fdatasync(3) = 0\n";
    assert!(check(early, "key").unwrap_err().starts_with("answered in line 1"));
    let unsynced = "1 pwrite64(3, \"..key..\", 9, 0) = 9\n2 sendto(9, \"+OK\\r\\n\", 5) = 5\n";
    assert!(check(unsynced, "key").unwrap_err().starts_with("no sync"));
    let pending = "1 pwrite64(3, \"..key..\", 9, 0) = 9\n1 fdatasync(3 <unfinished ...>\n2 sendto(9, \"+OK\\r\\n\", 5) = 5\n\
                   1 <... fdatasync resumed>) = 0\n";
    assert!(check(pending, "key").unwrap_err().starts_with("answered in line 2"));
    let good = "1 pwrite64(3, \"..key..\", 9, 0) = 9\n1 fdatasync(3) = 0\n2 sendto(9, \"+OK\\r\\n\", 5) = 5\n";
    check(good, "key").unwrap();
}
