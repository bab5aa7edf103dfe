//! A loop that has nothing to do does nothing: counted, not timed.

mod common;

use std::time::Duration;

use common::{Loop, On, Seen};
use kodiak_reactor::Stats;

/// Lets real time pass, in a loop of its own.
fn pass(time: Duration) {
    let mut clock = Loop::new().unwrap();
    clock.timeout(0, time).unwrap();
    clock
        .run(&mut On(|clock: &mut Loop, call| {
            if let Seen::Timeout(_) = call {
                clock.shutdown()
            }
        }))
        .unwrap();
}

/// The counters of a loop that had nothing to do for a fifth of a second, until it was stopped.
fn left_alone(mut event_loop: Loop) -> Stats {
    let remote = event_loop.remote();
    let thread = std::thread::spawn(move || {
        event_loop.run(&mut On(|_: &mut Loop, _| {})).unwrap();
        event_loop.stats()
    });
    pass(Duration::from_millis(200));
    remote.shutdown().unwrap();
    thread.join().unwrap()
}

#[test]
fn a_loop_with_nothing_to_do_never_wakes() {
    let stats = left_alone(Loop::new().unwrap());
    assert_eq!((stats.turns, stats.events), (1, 0), "the one in which it was stopped");
    assert!(stats.sleeps <= 1, "{} sleeps: the kernel was asked more than once", stats.sleeps);
}

#[test]
fn a_far_timer_costs_no_wake_before_its_deadline() {
    // Deadlines of every level of the wheel: none may wake the loop to be moved nearer.
    for far in [
        Duration::from_secs(1),
        Duration::from_secs(60),
        Duration::from_secs(86_400),
        Duration::from_secs(3_000_000_000),
    ] {
        let mut event_loop = Loop::new().unwrap();
        event_loop.timeout(0, far).unwrap();
        let stats = left_alone(event_loop);
        assert_eq!(
            (stats.turns, stats.timers_fired),
            (1, 0),
            "the one in which it was stopped, {far:?}"
        );
        assert!(stats.sleeps <= 1, "{far:?}: {} sleeps", stats.sleeps);
    }
}

#[test]
fn a_lone_timer_costs_one_wake() {
    for delay in [70, 3_000, 50_000, 300_000].map(Duration::from_micros) {
        let mut event_loop = Loop::new().unwrap();
        event_loop.timeout(0, delay).unwrap();
        let mut stop = On(|event_loop: &mut Loop, call| {
            if let Seen::Timeout(_) = call {
                event_loop.shutdown()
            }
        });
        event_loop.run(&mut stop).unwrap();
        let stats = event_loop.stats();
        assert_eq!((stats.turns, stats.timers_fired), (1, 1), "{delay:?}");
        assert!(stats.sleeps <= 1, "{delay:?}: {} sleeps", stats.sleeps);
    }
}
