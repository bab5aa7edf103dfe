//! At most one wake per sleep, and no reads, counted by strace.
//!
//! Four senders send to a loop that sleeps in the kernel. This program runs itself under strace;
//! without strace it prints that it is skipped.
#![cfg_attr(loom, allow(unused))]

use std::process::Command;
use std::thread;

use kodiak_channel::{Notifier, TryRecvError, bounded};
use kodiak_sys::{Events, Selector, Waker};

const SENDERS: u32 = 4;
const EACH: u32 = 2_000;

/// What the loop checks before it sleeps.
#[derive(Clone, Copy, PartialEq)]
enum Checks {
    Everything,
    ReadyTopics,
}

/// The program that is traced.
fn scenario(checks: Checks) {
    let selector = Selector::new().unwrap();
    let notifier = Notifier::new(Waker::new(&selector, 7).unwrap());
    let (sender, receiver) = bounded(64, &notifier);
    let threads: Vec<_> = (0..SENDERS)
        .map(|_| {
            let sender = sender.clone();
            thread::spawn(move || {
                for n in 0..EACH {
                    let mut message = n;
                    while let Err(error) = sender.send(message) {
                        message = error.into_inner();
                        // Spins, because only the channel's own system calls must be counted.
                        std::hint::spin_loop();
                    }
                }
            })
        })
        .collect();
    drop(sender);
    let mut events = Events::with_capacity(4);
    let mut received = 0;
    loop {
        match receiver.try_recv() {
            Ok(_) => received += 1,
            Err(TryRecvError::Closed) => break,
            Err(_) if checks == Checks::ReadyTopics => {
                // The channel must be checked after the topics are taken.
                if !notifier.take_ready().is_empty() {
                    continue;
                }
                if notifier.prepare_sleep() {
                    selector.wait(&mut events, None).unwrap();
                }
            }
            Err(_) => {
                let is_ready = || {
                    // `getppid` marks in the trace an arming that is not followed by a sleep.
                    receiver.is_ready().then(std::os::unix::process::parent_id).is_some()
                };
                notifier.sleep_unless(is_ready, || selector.wait(&mut events, None).unwrap());
            }
        }
    }
    assert_eq!(received, SENDERS * EACH);
    threads.into_iter().for_each(|thread| thread.join().unwrap());
}

#[cfg(loom)]
fn main() {}

#[cfg(not(loom))]
fn main() {
    for (checks, argument) in [(Checks::Everything, "all"), (Checks::ReadyTopics, "topics")] {
        if std::env::args().any(|given| given == argument) {
            return scenario(checks);
        }
    }
    if cfg!(kodiak_pipe_waker) || cfg!(kodiak_kqueue) {
        println!("system_calls: skipped, because a wake is another call here");
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
    for argument in ["all", "topics"] {
        let calls = traced(argument);
        let count = |name: &str| calls.iter().filter(|call| call.as_str() == name).count();
        let (wakes, sleeps) = (count("write"), count("epoll_wait"));
        // A loop that checks again after arming the notifier may find a message instead of
        // sleeping, and be woken nevertheless.
        let found = count("getppid");
        assert!(argument == "all" || found == 0, "a loop with topics never checks twice");
        assert!(
            wakes <= sleeps + found,
            "{argument}: {wakes} wakes for {sleeps} sleeps and {found} second checks"
        );
        assert!(sleeps > 0, "{argument}: it never slept, so this tested nothing");
        assert_eq!(count("read"), 0, "{argument}: a wake needs no reading");
        println!(
            "system_calls: ok: {argument}: {wakes} wakes for {sleeps} sleeps and {} messages",
            SENDERS * EACH
        );
    }
}

/// The traced calls of all threads since the selector was made. Before that, the start of the
/// program reads files.
fn traced(argument: &str) -> Vec<String> {
    let folder =
        std::env::temp_dir().join(format!("kodiak-channel-{}-{argument}", std::process::id()));
    let itself = std::env::current_exe().unwrap();
    let mut traced = Command::new("strace");
    traced
        .args(["-f", "-e", "trace=epoll_create1,epoll_wait,read,write,getppid", "-o"])
        .arg(&folder)
        .arg(itself)
        .arg(argument);
    // For AddressSanitizer: its leak detection needs ptrace, which strace already uses.
    let status = traced.env("ASAN_OPTIONS", "detect_leaks=0").status().unwrap();
    let trace = std::fs::read_to_string(&folder).unwrap();
    std::fs::remove_file(&folder).unwrap();
    assert!(status.success(), "{trace}");
    // "1234  write(5, ...": and "<... epoll_wait resumed>", which is not another call.
    let names = trace.lines().filter_map(|line| {
        line.split_ascii_whitespace().nth(1)?.split_once('(').map(|(name, _)| name)
    });
    let calls: Vec<String> = names.map(str::to_owned).collect();
    let begun = calls.iter().position(|name| name == "epoll_create1").expect("a selector was made");
    calls[begun..].to_vec()
}
