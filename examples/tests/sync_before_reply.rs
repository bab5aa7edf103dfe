//! On a real disk, a write is answered after it was synced, never before. `strace` shows it.

mod support;

use std::process::Command;

use support::{Client, Process};

/// Finds the calls for `key` in a trace: written to the log, synced, answered. The error names what
/// is out of order.
fn check(trace: &str, key: &str) -> Result<(), String> {
    let lines: Vec<&str> = trace.lines().collect();
    let find = |what: &str, from: usize, matches: &dyn Fn(&str) -> bool| {
        let found = lines[from..].iter().position(|line| matches(line)).map(|at| from + at);
        found.ok_or_else(|| format!("no {what} after line {from} of:\n{trace}"))
    };
    let written =
        find("write to the log", 0, &|line| line.contains("pwrite64(") && line.contains(key))?;
    // Either the call in one line, or the line in which it returns.
    let synced =
        find("sync", written, &|line| line.contains("fdatasync") && line.ends_with("= 0"))?;
    // The second mark, which begins with its checksum and its magic number.
    let is_mark = |line: &str| line.contains("pwrite64(") && line.contains("KdkY");
    let marked = find("second mark", written, &is_mark)?;
    if marked < synced {
        return Err(format!("marked in line {marked}, synced in line {synced} of:\n{trace}"));
    }
    let answered = find("answer", 0, &|line| line.contains("+OK\\r\\n"))?;
    if answered < marked {
        return Err(format!("answered in line {answered}, marked in line {marked} of:\n{trace}"));
    }
    Ok(())
}

#[test]
fn a_write_is_synced_before_it_is_answered() {
    let missing = "this test needs strace, and permission to trace: install it ('apt-get install \
                   strace', as .ci/run does), and allow ptrace";
    if let Err(error) = Command::new("strace").arg("-V").output() {
        panic!("{error}: {missing}");
    }
    let folder = tempfile::tempdir().unwrap();
    let trace = folder.path().join("trace");
    let trace_path = trace.display().to_string();
    let calls = "trace=pwrite64,pwritev,fdatasync,fsync,write,writev,sendto,sendmsg";
    let wrapper =
        ["strace", "-f", "-qq", "-s", "4096", "-e", calls, "-e", "signal=none", "-o", &trace_path];
    let data = folder.path().join("data").display().to_string();
    let arguments =
        ["--id", "1", "--data", &data, "--raft", "127.0.0.1:0", "--client", "127.0.0.1:0"];
    let log = folder.path().join("log");
    let node = Process::start(&wrapper, &arguments.map(str::to_owned), &log);
    let mut node = match node {
        Ok(node) => node,
        Err(text) if text.contains("ptrace") => panic!("{missing}: {text}"),
        Err(text) => panic!("{text}"),
    };
    let mut client = Client::connect(node.client);
    assert_eq!(client.retry(&["SET", "a-key-to-be-traced", "v"]), "OK");
    // strace passes the signal to the process that it traces, and ends with it.
    let pid = client.ask(&["INFO", "server"]);
    let pid =
        pid.lines().find_map(|line| line.strip_prefix("process_id:")).unwrap().trim().to_owned();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    node.wait();
    let trace = std::fs::read_to_string(&trace).unwrap();
    check(&trace, "a-key-to-be-traced").unwrap();
}

#[test]
fn the_check_notices_an_early_answer() {
    let mark = "1 pwrite64(4, \"....KdkY..\", 80, 0) = 80\n";
    let early = "1 pwrite64(3, \"..key..\", 9, 0) = 9\n2 sendto(9, \"+OK\\r\\n\", 5) = 5\n\
                 1 fdatasync(3) = 0\n";
    assert!(check(&format!("{early}{mark}"), "key").unwrap_err().starts_with("answered in line 1"));
    assert!(check(early, "key").unwrap_err().starts_with("no second mark"));
    let unsynced = "1 pwrite64(3, \"..key..\", 9, 0) = 9\n2 sendto(9, \"+OK\\r\\n\", 5) = 5\n";
    assert!(check(unsynced, "key").unwrap_err().starts_with("no sync"));
    let pending = "1 pwrite64(3, \"..key..\", 9, 0) = 9\n1 fdatasync(3 <unfinished ...>\n\
                   2 sendto(9, \"+OK\\r\\n\", 5) = 5\n1 <... fdatasync resumed>) = 0\n";
    assert!(
        check(&format!("{pending}{mark}"), "key").unwrap_err().starts_with("answered in line 2")
    );
    let (written, answered) =
        ("1 pwrite64(3, \"..key..\", 9, 0) = 9\n", "2 sendto(9, \"+OK\\r\\n\", 5) = 5\n");
    let synced = "1 fdatasync(3) = 0\n";
    check(&format!("{written}{synced}{mark}{answered}"), "key").unwrap();
    let marked_early = format!("{written}{mark}{synced}{answered}");
    assert!(check(&marked_early, "key").unwrap_err().starts_with("marked in line 1"));
    let answered_unmarked = format!("{written}{synced}{answered}{mark}");
    assert!(check(&answered_unmarked, "key").unwrap_err().starts_with("answered in line 2"));
}
