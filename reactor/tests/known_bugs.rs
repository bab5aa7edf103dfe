//! Bugs that other event loops had, each with the test that excludes it here.
//!
//! - An event delivered to the next owner of a slot or descriptor: here; `sources.rs`
//!   (`a_new_source_does_not_inherit ..`, `sources_closed_in_a_batch_s ..`).
//! - A duplicate that keeps firing after its socket was dropped: `sources.rs` (`a_duplicate ..`).
//! - State keyed by the descriptor's number: here.
//! - A kqueue change that fires for a closed descriptor: kodiak-sys, `tests/selector.rs`.
//! - A spin on EMFILE in accept: kodiak-net, `tests/descriptors.rs`.
//! - A spin on out-of-band data: here.
//! - A spin on a timeout under a millisecond, a cancelled timer, or one beyond 24.8 days: here.
//! - A spin on a hung-up peer that is not read: `suspension.rs`, `fifo.rs`.
//! - A wait that ends early on EINTR: `signals.rs`.
//! - A lost wake-up: `messages.rs` (`no_wake_up_is_lost ..`); kodiak-channel under loom.
//! - Starvation by one socket or sender with endless data: here; `turns.rs` (`a_flood ..`).
//! - Checks that differ between debug and release: here.
//! - Two loops, or a loop's end and a source's, at the same moment: here.
//! - A panic in a callback: here; `turns.rs` (`after_a_panic ..`), `children.rs`.
//! - A timer set in its own callback: here; `timers.rs` (`a_timeout_set_in_its_own_callback ..`).

mod common;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd};
use std::panic::{self, AssertUnwindSafe};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use common::{Loop, On, Seen, drain, pair, poll, readable_tokens, ready, skip_on_libkqueue};
use kodiak_reactor::{Interest, Io, Trigger};
use kodiak_sys::{Events, Selector};
use socket2::SockRef;

const DAY: Duration = Duration::from_secs(24 * 3600);
const NONE: [Seen; 0] = [];

fn tcp() -> (Io<TcpStream>, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let ours = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    ours.set_nonblocking(true).unwrap();
    (Io::new(ours), listener.accept().unwrap().0)
}

/// Sockets open and close under the same few numbers, within callbacks; each event must reach its
/// own socket.
#[test]
fn no_state_is_keyed_by_a_descriptor_number() {
    let mut event_loop = Loop::new().unwrap();
    let mut slots: Vec<_> = (0..4).map(|_| None).collect();
    let (mut next_token, mut reused) = (0, 0);
    let mut numbers = std::collections::BTreeSet::new();
    for round in 0..200 {
        let slot = round % slots.len();
        slots[slot] = None; // its number is free now, and most likely the next one's
        let (ours, theirs) = ready();
        reused += usize::from(!numbers.insert(ours.as_fd().as_raw_fd()));
        next_token += 1;
        event_loop.register(&ours, next_token).unwrap();
        slots[slot] = Some((ours, theirs, next_token));
        let mut tokens = readable_tokens(&poll(&mut event_loop));
        tokens.sort_unstable();
        let mut alive: Vec<u32> = slots.iter().flatten().map(|slot| slot.2).collect();
        alive.sort_unstable();
        assert_eq!(tokens, alive);
    }
    assert!(reused > 50, "the test is about numbers that come back: {reused}");
}

#[test]
fn out_of_band_data_never_implies_readable_and_does_not_spin() {
    let (ours, theirs) = tcp();
    let witness = Io::new(ours.get_ref().try_clone().unwrap());
    let (mut event_loop, mut other) = (Loop::new().unwrap(), Loop::new().unwrap());
    let registered =
        other.register_opt(&ours, 1, Interest::READABLE | Interest::PRIORITY, Trigger::Level);
    if skip_on_libkqueue("cannot watch for out-of-band data") {
        return assert!(registered.is_err());
    }
    registered.unwrap();
    event_loop.register(&witness, 2).unwrap();
    SockRef::from(&theirs).send_out_of_band(b"!").unwrap();
    let mut seen = Vec::new();
    other.run_once(&mut On(|_: &mut Loop, call| seen.push(call)), None).unwrap();
    assert_eq!(seen, [Seen::Priority(1), Seen::TurnEnd]);
    assert_eq!(poll(&mut event_loop), NONE, "without interest in urgent data it is not reported");
    // Not read: reported a few times, then suspended.
    let tokens: Vec<_> = (0..20).map(|_| poll(&mut other)).collect();
    assert!(tokens.iter().rev().take(8).all(Vec::is_empty) && !tokens[0].is_empty(), "{tokens:?}");
    assert_eq!(other.stats().suspensions, 1);
    // The next urgent byte is reported, and ordinary data as always.
    SockRef::from(&theirs).send_out_of_band(b"?").unwrap();
    assert!(poll(&mut other).contains(&Seen::Priority(1)));
    let mut byte = [std::mem::MaybeUninit::uninit()];
    SockRef::from(ours.get_ref()).recv_out_of_band(&mut byte).unwrap();
    (&theirs).write_all(b"data").unwrap();
    for _ in 0..10 {
        assert_eq!(readable_tokens(&poll(&mut other)), [1], "level-triggered");
    }
}

#[test]
fn a_cancelled_timer_costs_no_turn() {
    let mut event_loop = Loop::new().unwrap();
    let doomed: Vec<_> =
        (1..20).map(|n| event_loop.timeout(1, Duration::from_millis(n)).unwrap()).collect();
    doomed.into_iter().for_each(|timeout| assert!(event_loop.clear_timeout(timeout).is_some()));
    event_loop.timeout(2, Duration::from_millis(40)).unwrap();
    event_loop
        .run_once(&mut On(|_: &mut Loop, call| assert_ne!(call, Seen::Timeout(1))), None)
        .unwrap();
    let stats = event_loop.stats();
    assert_eq!((stats.turns, stats.sleeps, stats.timers_fired), (1, 1, 1));
}

#[test]
fn a_timeout_under_a_millisecond_is_one_sleep() {
    for micros in [1, 10, 250, 999] {
        let mut event_loop = Loop::new().unwrap();
        let begun = Instant::now();
        event_loop.timeout(1, Duration::from_micros(micros)).unwrap();
        event_loop.run_once(&mut On(|_: &mut Loop, _| {}), None).unwrap();
        assert!(begun.elapsed() >= Duration::from_micros(micros));
        let stats = event_loop.stats();
        assert_eq!((stats.turns, stats.timers_fired), (1, 1));
        assert!(stats.sleeps <= 1, "{stats:?}");
    }
}

/// 24.8 days are `i32::MAX` milliseconds, where other loops' waits wrap or return at once.
#[test]
fn a_timeout_of_months_neither_ends_early_nor_spins() {
    for (timer, limit) in
        [(Some(60 * DAY), None), (None, Some(60 * DAY)), (Some(36_500 * DAY), Some(Duration::MAX))]
    {
        let mut event_loop = Loop::new().unwrap();
        if let Some(timer) = timer {
            event_loop.timeout(1, timer).unwrap();
        }
        let remote = event_loop.remote();
        let alarm = thread::spawn(move || {
            let mut clock = Loop::new().unwrap();
            clock.timeout(1, Duration::from_millis(40)).unwrap();
            clock.run_once(&mut On(|_: &mut Loop, _| {}), None).unwrap();
            remote.wake().unwrap();
        });
        let mut seen = Vec::new();
        event_loop.run_once(&mut On(|_: &mut Loop, call| seen.push(call)), limit).unwrap();
        alarm.join().unwrap();
        assert_eq!(seen, [Seen::TurnEnd]);
        let stats = event_loop.stats();
        assert_eq!(
            (stats.sleeps, stats.wakes, stats.timers_fired),
            (1, 1, 0),
            "{timer:?} {limit:?}"
        );
    }
}

#[test]
fn endless_data_starves_neither_timers_nor_other_sockets() {
    for trigger in [Trigger::Level, Trigger::Edge] {
        let mut event_loop: Loop = Loop::builder().events_per_turn(2).build().unwrap();
        let (hog, mut feeder) = ready();
        let others: Vec<_> = (0..5).map(|_| ready()).collect();
        event_loop.register_opt(&hog, 0, Interest::READABLE, trigger).unwrap();
        for (token, (io, _)) in others.iter().enumerate() {
            event_loop.register(io, token as u32 + 1).unwrap();
        }
        event_loop.timeout(9, Duration::ZERO).unwrap();
        let (mut fed, mut called, mut fired) = (0, [false; 5], false);
        let mut handler = On(|event_loop: &mut Loop, call| {
            match call {
                Seen::Readable(0, _) => {
                    fed += 1;
                    feeder.write_all(b"more").unwrap();
                    (&mut hog.get_ref()).read_exact(&mut [0; 4]).unwrap();
                    event_loop.again(&hog).unwrap();
                }
                Seen::Readable(token, _) => {
                    let index = token as usize - 1;
                    called[index] = true;
                    drain(&others[index].0);
                }
                Seen::Timeout(9) => fired = true,
                _ => {}
            }
            if fired && called == [true; 5] {
                event_loop.shutdown();
            }
            assert!(fed < 100, "{trigger:?}: {called:?} {fired}");
        });
        event_loop.run(&mut handler).unwrap();
    }
}

#[test]
fn endless_messages_starve_no_timer_socket_or_other_channel() {
    let mut event_loop: Loop =
        Loop::builder().messages_per_turn(8).channel_capacity(64).build().unwrap();
    let sender = event_loop.channel();
    let (other, receiver) = event_loop.add_channel::<u8>(3, 1).unwrap();
    let (ours, _theirs) = ready();
    event_loop.register(&ours, 1).unwrap();
    event_loop.timeout(2, Duration::ZERO).unwrap();
    other.send(0).unwrap();
    sender.send(0).unwrap();
    let (mut messages, mut called) = (0, [false; 3]);
    let mut handler = On(|event_loop: &mut Loop, call| {
        match call {
            Seen::Notify(n) => {
                messages += 1;
                sender.send(n).unwrap();
            }
            Seen::Readable(1, _) => called[0] = true,
            Seen::Timeout(2) => called[1] = true,
            Seen::Readable(3, _) => called[2] = receiver.try_recv().is_ok(),
            _ => {}
        }
        if called == [true; 3] {
            event_loop.shutdown();
        }
        assert!(messages <= 8, "{called:?}");
    });
    event_loop.run(&mut handler).unwrap();
}

#[test]
fn a_timer_set_for_now_in_its_callback_fires_once_a_turn() {
    let mut event_loop = Loop::new().unwrap();
    event_loop.timeout(1, Duration::ZERO).unwrap();
    let (ours, mut theirs) = pair();
    event_loop.register(&ours, 2).unwrap();
    let mut by_turn = vec![0];
    let mut handler = On(|event_loop: &mut Loop, call| match call {
        Seen::Timeout(1) => {
            *by_turn.last_mut().unwrap() += 1;
            if by_turn.len() == 20 {
                theirs.write_all(b"x").unwrap();
            }
            let now = event_loop.now();
            event_loop.timeout_at(1, now).unwrap();
        }
        Seen::TurnEnd => by_turn.push(0),
        Seen::Readable(2, _) => event_loop.shutdown(),
        _ => {}
    });
    event_loop.run(&mut handler).unwrap();
    by_turn.pop();
    assert_eq!(by_turn, [1; 21], "neither lost nor twice");
}

/// A panic loses its own call, and what the handler owned is closed when the handler is dropped:
/// the peer sees the end.
#[test]
fn a_panic_in_a_callback_leaks_no_descriptor() {
    let mut event_loop = Loop::new().unwrap();
    let (ours, mut theirs) = ready();
    let (survivor, mut survivor_s_peer) = pair();
    event_loop.register(&ours, 1).unwrap();
    event_loop.register(&survivor, 2).unwrap();
    let mut owned = Some(ours);
    let mut handler = On(move |_: &mut Loop, call| {
        if let Seen::Readable(1, _) = call {
            let _dies_with_this_call = owned.take();
            panic!("a callback's own");
        }
    });
    panic::catch_unwind(AssertUnwindSafe(|| event_loop.run_once(&mut handler, None))).unwrap_err();
    assert_eq!(event_loop.source_count(), 1, "known at once, not in the next turn");
    theirs.set_nonblocking(true).unwrap();
    let end = theirs.read(&mut [0; 1]);
    assert!(
        matches!(&end, Ok(0))
            || end.is_err_and(|e| e.kind() == std::io::ErrorKind::ConnectionReset)
    );
    survivor_s_peer.write_all(b"x").unwrap();
    assert_eq!(readable_tokens(&poll(&mut event_loop)), [2]);
}

/// A check in debug builds alone would be missing in production.
#[test]
fn debug_and_release_check_the_same() {
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = 0;
    for entry in std::fs::read_dir(sources).unwrap() {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        for forbidden in ["debug_assert", "debug_assertions", "overflow_checks"] {
            assert!(!text.contains(forbidden), "{} says {forbidden}", path.display());
        }
        files += 1;
    }
    assert!(files > 10);
}

/// Our loop sleeps in a selector that has only its descriptor and `next_timeout`.
#[test]
fn a_loop_nested_in_a_selector_serves_all_its_sources() {
    let outer = Selector::new().unwrap();
    let mut events = Events::with_capacity(4);
    let mut inner = Loop::new().unwrap();
    let added = outer.add(inner.as_fd(), 77, Interest::READABLE, Trigger::Level);
    if skip_on_libkqueue("has no descriptor that becomes readable") {
        return assert!(added.is_err());
    }
    added.unwrap();
    let (ours, mut theirs) = pair();
    inner.register(&ours, 1).unwrap();
    let sender = inner.channel();
    thread::spawn(move || sender.send(5)).join().unwrap().unwrap();
    outer.wait(&mut events, inner.next_timeout()).unwrap();
    assert_eq!(poll(&mut inner), [Seen::Notify(5)]);
    inner.timeout(6, Duration::from_millis(3)).unwrap();
    while poll(&mut inner) != [Seen::Timeout(6)] {
        // Not early; and if the inner loop finds nothing due it is because the outer wait was.
        assert!(inner.next_timeout().is_some());
        outer.wait(&mut events, inner.next_timeout()).unwrap();
    }
    assert_eq!(inner.next_timeout(), None);
    theirs.write_all(b"x").unwrap();
    outer.wait(&mut events, inner.next_timeout()).unwrap();
    assert_eq!(events.get(0).map(|event| event.key), Some(77));
    assert_eq!(readable_tokens(&poll(&mut inner)), [1]);
    drain(&ours);
    poll(&mut inner);
    assert_eq!(
        outer.wait(&mut events, Some(Duration::ZERO)).unwrap(),
        0,
        "and is silent when it has nothing to say"
    );
}

/// Foreign descriptors: a pipe, and another selector with a source of its own.
#[test]
fn a_foreign_descriptor_is_a_source() {
    let mut event_loop = Loop::new().unwrap();
    let (reader, mut writer) = std::io::pipe().unwrap();
    let pipe = Io::new(reader);
    event_loop.register(&pipe, 1).unwrap();
    let theirs = Selector::new().unwrap();
    let (ours, mut peer) = pair();
    theirs.add(ours.as_fd(), 0, Interest::READABLE, Trigger::Level).unwrap();
    let selector = Io::new(theirs);
    let registered = event_loop.register(&selector, 2);
    if skip_on_libkqueue("has no descriptor that becomes readable") {
        return assert!(registered.is_err());
    }
    registered.unwrap();
    assert_eq!(poll(&mut event_loop), NONE);
    peer.write_all(b"x").unwrap();
    assert_eq!(readable_tokens(&poll(&mut event_loop)), [2]);
    writer.write_all(b"x").unwrap();
    let mut both = readable_tokens(&poll(&mut event_loop));
    both.sort_unstable();
    assert_eq!(both, [1, 2]);
    drop(pipe);
    drain(&ours);
    assert_eq!(poll(&mut event_loop), NONE);
}

/// A panic leaves half a batch undelivered. A source that gets a slot before the next run must not
/// get the last owner's event.
#[test]
fn a_panicked_batch_delivers_nothing_to_a_reused_slot() {
    let mut event_loop = Loop::new().unwrap();
    let mut sources = [Some(ready()), Some(ready())];
    for (token, source) in sources.iter().enumerate() {
        event_loop.register(&source.as_ref().unwrap().0, token as u32).unwrap();
    }
    let mut first = 0;
    let mut handler = On(|_: &mut Loop, call| {
        if let Seen::Readable(token, _) = call {
            first = token as usize;
            panic!("a callback's own");
        }
    });
    panic::catch_unwind(AssertUnwindSafe(|| event_loop.run_once(&mut handler, None))).unwrap_err();
    drop(sources[1 - first].take());
    let (next, _next) = pair();
    event_loop.register(&next, 7).unwrap();
    assert_eq!(poll(&mut event_loop), NONE, "the event was the dropped source's");
    assert_eq!(event_loop.stats().stale_events, 1);
    assert_eq!(
        readable_tokens(&poll(&mut event_loop)),
        [first as u32],
        "and the panic's is still level-triggered"
    );
}

/// A panic leaves no run on the stack, so the loop may sleep in an outer loop's wait: a sender must
/// wake that one.
#[test]
fn after_a_panic_a_message_wakes_the_outer_loop() {
    let mut event_loop = Loop::new().unwrap();
    let sender = event_loop.channel();
    sender.send(1).unwrap();
    let mut handler = On(|_: &mut Loop, call| {
        if let Seen::Notify(_) = call {
            panic!("a callback's own");
        }
    });
    panic::catch_unwind(AssertUnwindSafe(|| event_loop.run_once(&mut handler, None))).unwrap_err();
    let outer = Selector::new().unwrap();
    let mut events = Events::with_capacity(4);
    let added = outer.add(event_loop.as_fd(), 77, Interest::READABLE, Trigger::Level);
    if skip_on_libkqueue("has no descriptor that becomes readable") {
        return assert!(added.is_err());
    }
    added.unwrap();
    while outer.wait(&mut events, Some(Duration::ZERO)).unwrap() > 0 {
        poll(&mut event_loop); // what the first wake has left
    }
    panic::catch_unwind(AssertUnwindSafe(|| {
        sender.send(2).unwrap();
        event_loop.run_once(&mut handler, None)
    }))
    .unwrap_err();
    // That turn has taken the wake. The next one must wake the outer wait.
    sender.send(3).unwrap();
    assert_eq!(
        outer.wait(&mut events, Some(Duration::from_secs(10))).unwrap(),
        1,
        "the sender has notified"
    );
    assert_eq!(poll(&mut event_loop), [Seen::Notify(3)]);
}

/// A source belongs to one loop even if several register it at the same moment, and a loop that is
/// dropped meanwhile does no damage.
#[test]
fn of_loops_that_race_for_a_source_one_registers_it() {
    for round in 0..200 {
        let (ours, mut theirs) = pair();
        let start = std::sync::Barrier::new(3);
        let (ours, start) = (&ours, &start);
        let mut winners: Vec<Loop> = thread::scope(|scope| {
            let racers: Vec<_> = (0..3)
                .map(|token| {
                    scope.spawn(move || {
                        let mut event_loop = Loop::new().unwrap();
                        start.wait();
                        let won = event_loop.register(ours, token).is_ok();
                        won.then_some(event_loop) // a loser's loop ends here
                    })
                })
                .collect();
            racers.into_iter().filter_map(|racer| racer.join().unwrap()).collect()
        });
        assert_eq!(winners.len(), 1, "round {round}");
        theirs.write_all(b"x").unwrap();
        assert_eq!(readable_tokens(&poll(&mut winners[0])).len(), 1);
    }
}

/// Dropping a source uses its loop, and dropping a loop releases its sources.
#[test]
fn sources_and_their_loop_can_be_dropped_at_the_same_time() {
    for _ in 0..200 {
        let mut event_loop = Loop::new().unwrap();
        let sources: Vec<_> = (0..8).map(|_| ready()).collect();
        for (token, (io, _)) in sources.iter().enumerate() {
            event_loop.register(io, token as u32).unwrap();
        }
        let start = std::sync::Barrier::new(2);
        thread::scope(|scope| {
            scope.spawn(|| {
                start.wait();
                drop(sources);
            });
            start.wait();
            drop(event_loop);
            // Most likely it has the old loop's slot in the table.
            let mut next = Loop::new().unwrap();
            let (ours, _theirs) = ready();
            next.register(&ours, 99).unwrap();
            assert_eq!(readable_tokens(&poll(&mut next)), [99]);
            assert_eq!((next.source_count(), next.stats().stale_events), (1, 0));
        });
    }
}
