//! "One system call a turn", as strace sees it. This program runs itself under strace; without
//! strace it prints that and ends.

mod common;

use std::io::{Read, Write};
use std::os::unix::process::parent_id;
use std::process::Command;
use std::time::Duration;

use common::{Loop, On, Seen, pair};

const TURNS: usize = 50;

/// A system call that nothing else here makes, to mark sections of the trace.
fn mark() {
    let _ = parent_id();
}

/// What is traced: five sections between marks.
fn scenario() {
    let mut event_loop = Loop::new().unwrap();
    let (ours, mut theirs) = pair();
    event_loop.register(&ours, 1).unwrap();
    let sender = event_loop.channel();
    let mut echo = On(|_: &mut Loop, call| {
        if let Seen::Readable(..) = call {
            let mut byte = [0; 1];
            ours.get_ref().read_exact(&mut byte).unwrap();
            ours.get_ref().write_all(&byte).unwrap();
        }
    });
    let mut round = |event_loop: &mut Loop| {
        theirs.write_all(b"x").unwrap();
        event_loop.run_once(&mut echo, None).unwrap();
        theirs.read_exact(&mut [0]).unwrap();
    };
    round(&mut event_loop);
    // The first timeout allocates room for timers.
    let first = event_loop.timeout(2, Duration::from_secs(60)).unwrap();
    event_loop.clear_timeout(first).unwrap();
    mark(); // 1: echo
    (0..TURNS).for_each(|_| round(&mut event_loop));
    mark(); // 2: the same with timers that are set, moved and cleared meanwhile
    for _ in 0..TURNS {
        let timeout = event_loop.timeout(2, Duration::from_secs(60)).unwrap();
        round(&mut event_loop);
        event_loop.reset_timeout(timeout, Duration::from_secs(90)).unwrap();
        event_loop.clear_timeout(timeout).unwrap();
    }
    mark(); // 3: a burst of messages to a loop that is not awake
    (0..1000).for_each(|n| sender.send(n).unwrap());
    event_loop.run_once(&mut On(|_: &mut Loop, _| {}), None).unwrap();
    mark(); // 4: messages to a loop that is awake, from its own callback
    sender.send(0).unwrap();
    let mut burst = On(|_: &mut Loop, call| {
        if call == Seen::Notify(0) {
            (1..1000).for_each(|n| sender.send(n).unwrap());
        }
    });
    event_loop.run_once(&mut burst, None).unwrap();
    mark(); // 5: the same without a notification before
    let mut burst = On(|_: &mut Loop, call| {
        if let Seen::Readable(..) = call {
            ours.get_ref().read_exact(&mut [0; 1]).unwrap();
            (0..1000).for_each(|n| sender.send(n).unwrap());
        }
    });
    theirs.write_all(b"x").unwrap();
    event_loop.run_once(&mut burst, None).unwrap();
    mark();
}

/// How many calls of each kind each section made.
fn sections(trace: &str) -> Vec<Vec<&str>> {
    let mut sections = Vec::new();
    for line in trace.lines() {
        let name = line.split('(').next().unwrap_or(line);
        match name {
            "getppid" => sections.push(Vec::new()),
            _ => sections
                .last_mut()
                .into_iter()
                .for_each(|section: &mut Vec<&str>| section.push(name)),
        }
    }
    sections.pop();
    sections
}

fn count(section: &[&str], names: &[&str]) -> usize {
    section.iter().filter(|name| names.contains(name)).count()
}

fn main() {
    if std::env::args().any(|argument| argument == "scenario") {
        return scenario();
    }
    if common::skip_on_libkqueue("makes further system calls") {
        return;
    }
    if cfg!(kodiak_pipe_waker) {
        println!("system_calls: skipped, because a wake by pipe is two calls");
        return;
    }
    let works = Command::new("strace")
        .args(["-o", "/dev/null", "true"])
        .output()
        .is_ok_and(|out| out.status.success());
    if !works {
        println!("system_calls: skipped, because strace is missing or not allowed here");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("trace");
    let itself = std::env::current_exe().unwrap();
    let mut traced = Command::new("strace");
    traced.arg("-o").arg(&file).arg(itself).arg("scenario");
    // In a build with AddressSanitizer: its search for leaks is a debugger, too, and there can be
    // only one.
    let status = traced.env("ASAN_OPTIONS", "detect_leaks=0").status().unwrap();
    assert!(status.success());
    let trace = std::fs::read_to_string(&file).unwrap();
    let sections = sections(&trace);
    assert_eq!(sections.len(), 5, "{trace}");
    const WAITS: [&str; 2] = ["epoll_pwait2", "epoll_wait"];
    const READS: [&str; 2] = ["read", "recvfrom"];
    const WRITES: [&str; 2] = ["write", "sendto"];
    for section in &sections[..2] {
        assert_eq!(count(section, &WAITS), TURNS);
        assert_eq!(
            (count(section, &READS), count(section, &WRITES)),
            (2 * TURNS, 2 * TURNS),
            "the test's own"
        );
        assert_eq!(section.len(), 5 * TURNS, "and nothing else: {section:?}");
    }
    assert_eq!(sections[2], ["write", sections[2][1]], "one wake for the burst");
    assert_eq!(count(&sections[2], &WAITS), 1);
    assert_eq!(
        sections[3],
        ["write", sections[3][1]],
        "one wake for the first, none for those sent to a loop awake"
    );
    assert_eq!(count(&sections[3], &WAITS), 1);
    assert_eq!(
        (sections[4].len(), count(&sections[4], &WAITS)),
        (3, 1),
        "no wake at all: {:?}",
        sections[4]
    );
    assert_eq!(
        (count(&sections[4], &READS), count(&sections[4], &WRITES)),
        (1, 1),
        "the test's own"
    );
    println!("system_calls: ok");
}
