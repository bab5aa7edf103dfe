//! The order in a turn, its budgets, and what happens around `run`.

mod common;

use std::io::Write;
use std::os::fd::AsFd;
use std::panic::{self, AssertUnwindSafe};
use std::time::{Duration, Instant};

use common::{Loop, On, Seen, drain, pair, poll, readable_tokens, ready, skip_on_libkqueue};
use kodiak_reactor::{EventLoop, Handler, Interest, Io, ReadHint, RunError, Trigger};

#[test]
fn a_turn_goes_io_timers_messages_channels_turn_end() {
    let mut event_loop = Loop::new().unwrap();
    let (ours, _theirs) = ready();
    let now = event_loop.now();
    event_loop.channel().send(3).unwrap();
    let (sender, receiver) = event_loop.add_channel::<&str>(4, 1).unwrap();
    sender.send("further").unwrap();
    event_loop.timeout_at(2, now).unwrap();
    event_loop
        .register_opt(&ours, 1, Interest::READABLE | Interest::WRITABLE, Trigger::Level)
        .unwrap();
    let mut seen = Vec::new();
    let mut handler = On(|_: &mut Loop, call| {
        if let Seen::Readable(4, _) = call {
            receiver.try_recv().unwrap();
        }
        seen.push(match call {
            Seen::Readable(token, _) => format!("readable {token}"),
            other => format!("{other:?}"),
        });
    });
    event_loop.run_once(&mut handler, None).unwrap();
    assert_eq!(
        seen,
        ["readable 1", "Writable(1)", "Timeout(2)", "Notify(3)", "readable 4", "TurnEnd"]
    );
}

#[test]
fn messages_beyond_the_budget_come_next_turn_without_a_wake() {
    let mut event_loop: Loop = Loop::builder().messages_per_turn(2).build().unwrap();
    let sender = event_loop.channel();
    for n in 0..5 {
        sender.send(n).unwrap();
    }
    let mut seen = Vec::new();
    let mut handler = On(|event_loop: &mut Loop, call| {
        seen.push(call);
        if call == Seen::Notify(4) {
            event_loop.shutdown();
        }
    });
    event_loop.run(&mut handler).unwrap();
    use Seen::{Notify, TurnEnd};
    assert_eq!(
        seen,
        [Notify(0), Notify(1), TurnEnd, Notify(2), Notify(3), TurnEnd, Notify(4), TurnEnd]
    );
    assert!(
        event_loop.stats().sleeps <= 1,
        "the first wait, which the sender's wake had ended beforehand"
    );
}

/// A handler that keeps sending to itself must not starve the sockets.
#[test]
fn a_flood_of_messages_does_not_starve_io() {
    let mut event_loop: Loop = Loop::builder().messages_per_turn(10).build().unwrap();
    let sender = event_loop.channel();
    sender.send(0).unwrap();
    let (ours, mut theirs) = pair();
    event_loop.register(&ours, 1).unwrap();
    let mut messages = 0;
    let mut handler = On(|event_loop: &mut Loop, call| match call {
        Seen::Notify(_) => {
            messages += 1;
            if messages == 15 {
                theirs.write_all(b"x").unwrap();
            }
            sender.send(0).unwrap();
        }
        Seen::Readable(..) => event_loop.shutdown(),
        _ => {}
    });
    event_loop.run(&mut handler).unwrap();
    assert!(messages <= 30, "{messages}");
}

#[test]
fn events_beyond_the_budget_come_in_later_turns() {
    let mut event_loop: Loop = Loop::builder().events_per_turn(2).build().unwrap();
    let sources: Vec<_> = (0..5).map(|_| ready()).collect();
    for (token, (io, _)) in sources.iter().enumerate() {
        event_loop.register_opt(io, token as u32, Interest::READABLE, Trigger::Edge).unwrap();
    }
    let turns: Vec<Vec<u32>> = (0..4).map(|_| readable_tokens(&poll(&mut event_loop))).collect();
    assert!(turns.iter().all(|turn| turn.len() <= 2));
    let mut all: Vec<u32> = turns.concat();
    all.sort_unstable();
    assert_eq!(all, [0, 1, 2, 3, 4]);
}

#[test]
fn run_inside_a_callback_is_an_error() {
    let mut event_loop = Loop::new().unwrap();
    event_loop.channel().send(1).unwrap();
    let mut errors = 0;
    let mut handler = On(|event_loop: &mut Loop, call| {
        if let Seen::Notify(_) = call {
            let mut inner = On(|_: &mut Loop, _| panic!("must not run"));
            assert!(matches!(event_loop.run(&mut inner), Err(RunError::AlreadyRunning)));
            assert!(matches!(event_loop.run_once(&mut inner, None), Err(RunError::AlreadyRunning)));
            errors += 1;
        }
    });
    event_loop.run_once(&mut handler, None).unwrap();
    assert_eq!(errors, 1);
}

/// The rest of the batch must be delivered after a callback panicked: even under edge trigger,
/// where the kernel reports it once.
#[test]
fn after_a_panic_the_loop_continues_with_the_rest_of_the_turn() {
    let mut event_loop = Loop::new().unwrap();
    let sources: Vec<_> = (0..4).map(|_| ready()).collect();
    for (token, (io, _)) in sources.iter().enumerate() {
        event_loop
            .register_opt(io, token as u32, Interest::READABLE | Interest::WRITABLE, Trigger::Edge)
            .unwrap();
    }
    event_loop.channel().send(9).unwrap();
    let mut called = Vec::new();
    let mut handler = On(|_: &mut Loop, call| {
        called.push(call);
        if let Seen::Readable(..) = call {
            panic!("a callback's own");
        }
    });
    let hook = panic::take_hook();
    panic::set_hook(Box::new(|_| {}));
    let mut panics = 0;
    while panics < 5
        && panic::catch_unwind(AssertUnwindSafe(|| event_loop.run_once(&mut handler, None)))
            .is_err()
    {
        panics += 1;
    }
    panic::set_hook(hook);
    assert_eq!(panics, 4);
    assert_eq!(readable_tokens(&called).len(), 4);
    for token in 0..4 {
        assert_eq!(called.iter().filter(|call| **call == Seen::Writable(token)).count(), 1);
    }
    assert_eq!(called[called.len() - 2..], [Seen::Notify(9), Seen::TurnEnd]);
    assert!(event_loop.is_running());
}

#[test]
fn run_once_waits_for_its_timeout() {
    let mut event_loop = Loop::new().unwrap();
    assert_eq!(poll(&mut event_loop), []);
    assert_eq!(event_loop.stats().sleeps, 0);
    let start = Instant::now();
    let wait = Duration::from_millis(20);
    event_loop.timeout(1, Duration::from_secs(3600)).unwrap();
    event_loop.run_once(&mut On(|_: &mut Loop, _| {}), Some(wait)).unwrap();
    assert!(start.elapsed() >= wait);
    assert_eq!((event_loop.stats().turns, event_loop.stats().sleeps), (2, 1));
}

#[test]
fn shutdown_finishes_the_turn_and_the_loop_can_run_again() {
    let mut event_loop = Loop::new().unwrap();
    let sender = event_loop.channel();
    for round in 0..3 {
        for n in 0..3 {
            sender.send(n).unwrap();
        }
        let mut seen = Vec::new();
        let mut handler = On(|event_loop: &mut Loop, call| {
            assert!(event_loop.is_running() || call != Seen::Notify(0));
            seen.push(call);
            event_loop.shutdown();
            assert!(!event_loop.is_running());
        });
        event_loop.run(&mut handler).unwrap();
        assert_eq!(
            seen,
            [Seen::Notify(0), Seen::Notify(1), Seen::Notify(2), Seen::TurnEnd],
            "round {round}"
        );
        assert!(!event_loop.is_running());
    }
}

#[test]
fn a_shutdown_before_run_lets_it_run_one_turn() {
    let mut event_loop = Loop::new().unwrap();
    event_loop.channel().send(1).unwrap();
    event_loop.remote().shutdown().unwrap();
    let mut seen = Vec::new();
    event_loop.run(&mut On(|_: &mut Loop, call| seen.push(call))).unwrap();
    assert_eq!(seen, [Seen::Notify(1), Seen::TurnEnd]);
}

/// A loop that sleeps in an outer loop's wait still serves everything.
#[test]
fn a_loop_can_be_nested_in_another() {
    struct Outer<'a, F> {
        inner: &'a mut Loop,
        inner_handler: On<F>,
    }
    impl<F: FnMut(&mut Loop, Seen)> Handler<(), ()> for Outer<'_, F> {
        fn readable(&mut self, event_loop: &mut EventLoop<(), ()>, (): (), _: ReadHint) {
            self.serve(event_loop);
        }
        fn timeout(&mut self, event_loop: &mut EventLoop<(), ()>, (): ()) {
            self.serve(event_loop);
        }
    }
    impl<F: FnMut(&mut Loop, Seen)> Outer<'_, F> {
        fn serve(&mut self, event_loop: &mut EventLoop<(), ()>) {
            self.inner.run_once(&mut self.inner_handler, Some(Duration::ZERO)).unwrap();
            if !self.inner.is_running() {
                event_loop.shutdown();
            } else if let Some(timeout) = self.inner.next_timeout() {
                event_loop.timeout((), timeout).unwrap();
            }
        }
    }

    let mut inner = Loop::new().unwrap();
    let (ours, theirs) = pair();
    inner.register(&ours, 1).unwrap();
    let sender = inner.channel();
    let mut seen = Vec::new();
    let inner_handler = On(|inner: &mut Loop, call| {
        match call {
            Seen::Notify(2) => drop(inner.timeout(3, Duration::from_millis(5)).unwrap()),
            Seen::Timeout(3) => drop((&theirs).write_all(b"x")),
            Seen::Readable(1, _) => {
                drain(&ours);
                inner.shutdown();
            }
            _ => return,
        }
        seen.push(call);
    });
    let mut outer = EventLoop::<(), ()>::new().unwrap();
    let descriptor = Io::new(inner.as_fd().try_clone_to_owned().unwrap());
    let registered = outer.register(&descriptor, ());
    if skip_on_libkqueue("has no descriptor that becomes readable") {
        return assert!(registered.is_err());
    }
    registered.unwrap();
    let thread = std::thread::spawn(move || sender.send(2));
    outer.run(&mut Outer { inner: &mut inner, inner_handler }).unwrap();
    thread.join().unwrap().unwrap();
    assert_eq!(seen.len(), 3, "{seen:?}");
}

#[test]
fn times_are_measured_on_request() {
    let mut event_loop: Loop = Loop::builder().measure_time(true).build().unwrap();
    event_loop.timeout(1, Duration::from_millis(5)).unwrap();
    let busy = Duration::from_millis(2);
    let mut handler = On(|_: &mut Loop, call| {
        if let Seen::Timeout(_) = call {
            let start = Instant::now();
            while start.elapsed() < busy {}
        }
    });
    event_loop.run_once(&mut handler, None).unwrap();
    poll(&mut event_loop);
    let stats = event_loop.stats();
    assert!(
        stats.longest_callback >= busy && stats.busy >= busy && stats.idle > Duration::ZERO,
        "{stats:?}"
    );
}

#[test]
fn invalid_settings_are_errors() {
    type Set = fn(kodiak_reactor::Builder<u32, u32>, usize) -> kodiak_reactor::Builder<u32, u32>;
    let settings: [(&str, Set); 7] = [
        ("channel_capacity", |builder, n| builder.channel_capacity(n)),
        ("events_per_turn", |builder, n| builder.events_per_turn(n)),
        ("messages_per_turn", |builder, n| builder.messages_per_turn(n)),
        ("timers_per_turn", |builder, n| builder.timers_per_turn(n)),
        ("signals_per_turn", |builder, n| builder.signals_per_turn(n)),
        ("timer_capacity", |builder, n| builder.timer_capacity(n)),
        ("source_capacity", |builder, n| builder.source_capacity(n)),
    ];
    for (name, set) in settings {
        let error = set(Loop::builder(), 0).build().unwrap_err().to_string();
        assert!(error.contains("must be at least 1") && error.contains(name), "{error}");
        set(Loop::builder(), 1).build().unwrap();
    }
    let error = Loop::builder().events_per_turn(1 << 20).build().unwrap_err();
    assert!(error.to_string().contains("events_per_turn"), "{error}");
}
