//! How often a turn reads the clock. This program runs itself with a library preloaded that counts;
//! without a C compiler to make it, or a linker that accepts it, it prints that and ends.

mod common;

use std::io::{Read, Write};
use std::os::unix::process::parent_id;
use std::process::Command;
use std::time::Duration;

use common::{Loop, On, Seen, pair};

const TURNS: usize = 50;
const FAR: Duration = Duration::from_secs(3600);

/// Where the preloaded library writes down its count.
fn mark() {
    let _ = parent_id();
}

/// What is counted: sections between marks.
fn scenario() {
    let mut event_loop = Loop::new().unwrap();
    let (ours, mut theirs) = pair();
    event_loop.register(&ours, 1).unwrap();
    let mut turns = |event_loop: &mut Loop, also: &mut dyn FnMut(&mut Loop)| {
        let mut left = TURNS;
        theirs.write_all(b"x").unwrap();
        let mut handler = On(|event_loop: &mut Loop, call| {
            if let Seen::Readable(..) = call {
                ours.get_ref().read_exact(&mut [0]).unwrap();
                also(event_loop);
                left -= 1;
                if left == 0 {
                    return event_loop.shutdown();
                }
                theirs.write_all(b"x").unwrap();
            }
        });
        event_loop.run(&mut handler).unwrap();
        mark();
    };
    turns(&mut event_loop, &mut |_| {});
    // 0: nothing but I/O.
    turns(&mut event_loop, &mut |_| {});
    // 1: the turn's time asked for, again and again.
    turns(&mut event_loop, &mut |event_loop| {
        let first = event_loop.now();
        (0..10).for_each(|_| assert_eq!(event_loop.now(), first));
    });
    // 2: timeouts that count from the turn's time, set and cleared.
    turns(&mut event_loop, &mut |event_loop| {
        for _ in 0..10 {
            let timeout = event_loop.timeout_at(2, event_loop.now() + FAR).unwrap();
            event_loop.clear_timeout(timeout).unwrap();
        }
    });
    // 3: relative timeouts, set and cleared: one reading each.
    turns(&mut event_loop, &mut |event_loop| {
        for _ in 0..10 {
            let timeout = event_loop.timeout(2, FAR).unwrap();
            event_loop.clear_timeout(timeout).unwrap();
        }
    });
    // 4: one that stays.
    event_loop.timeout(3, FAR).unwrap();
    mark();
    turns(&mut event_loop, &mut |_| {});
}

fn main() {
    if std::env::args().any(|argument| argument == "scenario") {
        return scenario();
    }
    if std::env::var("RUSTFLAGS").is_ok_and(|flags| flags.contains("sanitizer")) {
        println!(
            "clock: skipped, because a sanitizer's allocator reads the clock before the counting \
             library is ready"
        );
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (library, counts) = (folder.path().join("shim.so"), folder.path().join("counts"));
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clock_shim.c");
    let compiled = Command::new("cc")
        .args(["-shared", "-fPIC", "-O1", "-o"])
        .arg(&library)
        .args([source, "-ldl"])
        .output();
    if !compiled.is_ok_and(|output| output.status.success()) {
        println!("clock: skipped, because there is no `cc` here that makes a shared library");
        return;
    }
    let mut counted = Command::new(std::env::current_exe().unwrap());
    counted.arg("scenario").env("LD_PRELOAD", &library).env("KODIAK_READINGS", &counts);
    let status = counted.status().unwrap();
    assert!(status.success());
    let Ok(counts) = std::fs::read_to_string(&counts) else {
        println!("clock: skipped, because nothing can be preloaded here");
        return;
    };
    let counts: Vec<usize> = counts.lines().map(|line| line.parse().unwrap()).collect();
    let readings: Vec<usize> = counts.windows(2).map(|pair| pair[1] - pair[0]).collect();
    let &[nothing, asked, absolute, relative, _setting, pending] = readings.as_slice() else {
        panic!("seven marks, not {counts:?}");
    };
    assert_eq!(nothing, 0, "not at all: `now` was not called, and no timeout is pending");
    assert_eq!(asked, TURNS, "once a turn, however often it is asked for");
    assert_eq!(absolute, TURNS, "and as often for timeouts that count from it");
    assert!(relative >= 10 * TURNS, "the shim counts: {relative}");
    assert!(relative <= 11 * TURNS, "relative ones read it themselves: {relative}");
    // The second is before the wait: counted from the turn's beginning, the timeout would be late
    // by the turn's callbacks.
    assert!(
        pending <= 2 * TURNS,
        "at most twice a turn that sleeps while a timeout is pending: {pending} in {TURNS}"
    );
    println!(
        "clock: ok ({nothing}, {asked}, {absolute}, {relative}, {pending} readings in {TURNS} \
         turns each)"
    );
}
