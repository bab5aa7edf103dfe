//! Signals as callbacks, and waits that they interrupt. One program of its own without the test
//! harness, whose threads would take the signals: here the loop's thread is the only one.

mod common;

use std::process::{self, Child, Command};
use std::time::{Duration, Instant};

use common::{Loop, On, Seen, ready};
use kodiak_reactor::Signal;
use kodiak_sys::Signals;

fn kill_us(signal: &str) -> Child {
    Command::new("kill")
        .args([signal, &process::id().to_string()])
        .spawn()
        .expect("the `kill` program")
}

fn main() {
    signals_come_first();
    waits_survive_signals();
    many_signals_neither_shorten_nor_prolong_a_wait();
    println!("signals: ok");
}

/// Whatever the kernel lists first: the socket was registered, and ready, before the signal came.
fn signals_come_first() {
    let mut event_loop = Loop::new().unwrap();
    let (ours, _theirs) = ready();
    event_loop.register(&ours, 1).unwrap();
    event_loop.timeout(2, Duration::ZERO).unwrap();
    event_loop.watch_signals(&[Signal::USR1]).unwrap();
    // This is the only thread, so the signal has been taken when the child has ended.
    assert!(kill_us("-USR1").wait().unwrap().success());
    let mut seen = Vec::new();
    event_loop.run_once(&mut On(|_: &mut Loop, call| seen.push(call)), None).unwrap();
    let [Seen::Signal(info), Seen::Readable(1, _), Seen::Timeout(2), Seen::TurnEnd] = seen[..]
    else {
        panic!("{seen:?}")
    };
    assert_eq!(info.signal, Signal::USR1);
}

fn waits_survive_signals() {
    let mut event_loop = Loop::new().unwrap();
    event_loop.watch_signals(&[Signal::USR1]).unwrap();
    event_loop.watch_signals(&[Signal::USR1, Signal::USR2]).unwrap();
    let start = Instant::now();
    let limit = Duration::from_secs(20);
    let deadline = start + Duration::from_millis(50);
    event_loop.timeout_at(1, deadline).unwrap();
    event_loop.timeout(2, limit).unwrap();
    let mut children = vec![kill_us("-USR1")];
    let (mut signals, mut interrupted, mut timed_out) = (0, 0, false);
    let mut handler = On(|event_loop: &mut Loop, call| {
        match call {
            Seen::Signal(info) => {
                assert_eq!(info.signal, Signal::USR1);
                assert!(info.pid.is_some());
                signals += 1;
                if interrupted == 0 {
                    children.push(kill_us("-USR1")); // it came while the loop was awake: once more
                }
            }
            Seen::Interrupted => interrupted += 1,
            Seen::Timeout(1) => {
                assert!(Instant::now() >= deadline, "an interrupted wait must not end early");
                timed_out = true;
            }
            Seen::Timeout(_) => panic!("no signal interrupted a wait within {limit:?}"),
            _ => {}
        }
        if signals > 0 && interrupted > 0 && timed_out {
            event_loop.shutdown();
        }
    });
    event_loop.run(&mut handler).unwrap();
    assert_eq!(event_loop.stats().interruptions, interrupted);
    event_loop.watch_signals(&[]).unwrap();
    children.iter_mut().for_each(|child| assert!(child.wait().unwrap().success()));
}

/// Signals that are not the loop's: their handler runs, and all that the loop gets of them is the
/// end of its wait.
fn many_signals_neither_shorten_nor_prolong_a_wait() {
    let _elsewhere = Signals::new(&[Signal::USR2]).unwrap();
    let storm = format!("while kill -USR2 {}; do :; done", process::id());
    let mut storm = Command::new("sh").args(["-c", &storm]).spawn().unwrap();
    let mut event_loop = Loop::new().unwrap();
    let limit = Duration::from_millis(30);
    // The shell may take a while to begin.
    for turn in 1.. {
        let (before, begun) = (event_loop.stats(), Instant::now());
        let mut ends = 0;
        let mut handler = On(|_: &mut Loop, call| ends += u32::from(call == Seen::TurnEnd));
        event_loop.run_once(&mut handler, Some(limit)).unwrap();
        assert!(begun.elapsed() >= limit, "ended early");
        let stats = event_loop.stats();
        let (interruptions, sleeps) =
            (stats.interruptions - before.interruptions, stats.sleeps - before.sleeps);
        assert_eq!((ends, stats.turns), (1, turn), "resumed within the turn");
        assert!(
            sleeps == interruptions || sleeps == interruptions + 1,
            "not longer than it had to: {sleeps} {interruptions}"
        );
        if interruptions >= 3 {
            break;
        }
    }
    storm.kill().unwrap();
    storm.wait().unwrap();
}
