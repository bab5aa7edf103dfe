//! Registration: which sources are called, and which calls are refused.

mod common;

use std::io::Write;
use std::thread;
use std::time::Duration;

use common::{Loop, On, Seen, drain, pair, poll, readable_tokens, ready, skip_on_libkqueue};
use kodiak_reactor::{Interest, Io, RegisterError, Trigger};

#[test]
fn an_event_of_a_source_dropped_in_its_batch_is_discarded() {
    let mut event_loop = Loop::new().unwrap();
    let (a, _a) = ready();
    let (b, _b) = ready();
    event_loop.register(&a, 1).unwrap();
    event_loop.register(&b, 2).unwrap();
    let mut sources = Some((a, b));
    let mut calls = 0;
    let mut handler = On(|_: &mut Loop, seen| {
        if let Seen::Readable(..) = seen {
            calls += 1;
            drop(sources.take());
        }
    });
    event_loop.run_once(&mut handler, None).unwrap();
    event_loop.run_once(&mut handler, Some(Duration::ZERO)).unwrap();
    assert_eq!(calls, 1);
    assert_eq!(event_loop.stats().stale_events, 1);
    assert_eq!(event_loop.source_count(), 0);
}

#[test]
fn an_event_of_a_source_deregistered_in_its_batch_is_discarded() {
    let mut event_loop = Loop::new().unwrap();
    let sources = [ready(), ready(), ready()];
    for (token, (io, _)) in sources.iter().enumerate() {
        event_loop.register(io, token as u32).unwrap();
    }
    let mut calls = 0;
    let mut handler = On(|event_loop: &mut Loop, seen| {
        if let Seen::Readable(..) = seen {
            calls += 1;
            for (io, _) in &sources {
                event_loop.deregister(io).unwrap();
            }
        }
    });
    event_loop.run_once(&mut handler, None).unwrap();
    assert_eq!(calls, 1);
}

/// A source that gets a slot within a batch must not get the event of the last owner.
#[test]
fn a_new_source_does_not_inherit_its_slot_s_old_event() {
    let mut event_loop = Loop::new().unwrap();
    let (a, _a) = ready();
    let (b, _b) = ready();
    event_loop.register(&a, 1).unwrap();
    event_loop.register(&b, 2).unwrap();
    let (next, _next) = pair();
    let mut old = Some((a, b));
    let mut calls = Vec::new();
    let mut handler = On(|event_loop: &mut Loop, seen| {
        if let Seen::Readable(token, _) = seen {
            calls.push(token);
            drop(old.take());
            event_loop.register(&next, 3).unwrap();
        }
    });
    event_loop.run_once(&mut handler, None).unwrap();
    assert_eq!(calls.len(), 1);
    assert_ne!(calls[0], 3);
}

#[test]
fn a_duplicate_does_not_fire_after_its_source_is_dropped() {
    let mut event_loop = Loop::new().unwrap();
    let (ours, theirs) = ready();
    let duplicate = ours.get_ref().try_clone().unwrap();
    event_loop.register(&ours, 1).unwrap();
    assert_eq!(poll(&mut event_loop).len(), 1);
    drop(ours);
    (&theirs).write_all(b"more").unwrap();
    assert_eq!(poll(&mut event_loop), []);
    assert_eq!(event_loop.stats().stale_events, 0, "the kernel itself must have forgotten it");
    drop(duplicate);
}

#[test]
fn sources_closed_in_a_batch_s_first_callback_are_all_silent() {
    let (ready, _theirs) = ready();
    // Duplicates of one readable socket: each is a source of its own and takes one descriptor.
    let mut sources = Vec::new();
    for _ in 0..2_500 {
        match ready.get_ref().try_clone() {
            Ok(duplicate) => sources.push(Io::new(duplicate)),
            Err(_) => break, // the limit of open descriptors is lower here
        }
    }
    for _ in 0..50 {
        sources.pop(); // leave some for other tests
    }
    // A batch brings all of them. libkqueue brings fewer, and has two descriptors for each.
    if skip_on_libkqueue("brings no more than 512 events at a time") {
        sources.truncate(500.min(sources.len() / 3));
    }
    let mut event_loop: Loop = Loop::builder().events_per_turn(4096).build().unwrap();
    for (token, io) in sources.iter().enumerate() {
        event_loop.register(io, token as u32).unwrap();
    }
    let count = sources.len() as u64;
    assert!(count > 100);
    let mut calls = 0;
    let mut handler = On(|_: &mut Loop, seen| {
        if let Seen::Readable(..) = seen {
            calls += 1;
            sources.clear();
        }
    });
    event_loop.run_once(&mut handler, None).unwrap();
    event_loop.run_once(&mut handler, Some(Duration::ZERO)).unwrap();
    assert_eq!(calls, 1);
    assert_eq!(event_loop.stats().stale_events, count - 1);
    assert_eq!(event_loop.source_count(), 0);
}

#[test]
fn registering_twice_is_an_error_and_changes_nothing() {
    let mut event_loop = Loop::new().unwrap();
    let (ours, _theirs) = ready();
    event_loop.register(&ours, 1).unwrap();
    let error = event_loop.register(&ours, 2).unwrap_err();
    assert!(matches!(error, RegisterError::AlreadyRegistered));
    assert!(error.to_string().contains("reregister"), "the text says what to do: {error}");
    assert_eq!(readable_tokens(&poll(&mut event_loop)), [1]);
}

#[test]
fn another_loop_s_source_is_refused() {
    let mut mine = Loop::new().unwrap();
    let mut other = Loop::new().unwrap();
    let (ours, _theirs) = ready();
    mine.register(&ours, 1).unwrap();
    assert!(matches!(other.register(&ours, 2), Err(RegisterError::OtherLoop)));
    assert!(matches!(
        other.reregister(&ours, 2, Interest::READABLE, Trigger::Level),
        Err(RegisterError::OtherLoop)
    ));
    assert!(matches!(other.deregister(&ours), Err(RegisterError::OtherLoop)));
    assert!(matches!(other.again(&ours), Err(RegisterError::OtherLoop)));
    assert_eq!(readable_tokens(&poll(&mut mine)), [1]);
    mine.deregister(&ours).unwrap();
    other.register(&ours, 2).unwrap();
    assert_eq!(readable_tokens(&poll(&mut other)), [2]);
    assert_eq!(poll(&mut mine), []);
}

#[test]
fn what_is_not_registered_cannot_be_changed() {
    let mut event_loop = Loop::new().unwrap();
    let (ours, _theirs) = ready();
    for _ in 0..2 {
        assert!(matches!(
            event_loop.reregister(&ours, 2, Interest::READABLE, Trigger::Level),
            Err(RegisterError::NotRegistered)
        ));
        assert!(matches!(event_loop.deregister(&ours), Err(RegisterError::NotRegistered)));
        assert!(matches!(event_loop.again(&ours), Err(RegisterError::NotRegistered)));
        event_loop.register(&ours, 1).unwrap();
        event_loop.deregister(&ours).unwrap();
    }
}

#[test]
fn what_the_kernel_refuses_leaves_no_trace() {
    let mut event_loop = Loop::new().unwrap();
    let file = Io::new(std::fs::File::open("/proc/self/status").unwrap());
    let regular = Io::new(std::fs::File::open(std::env::current_exe().unwrap()).unwrap());
    drop(file);
    let registered = event_loop.register(&regular, 1);
    if skip_on_libkqueue("refuses no file: every kqueue watches regular ones") {
        return registered.unwrap();
    }
    assert!(matches!(registered, Err(RegisterError::Kernel { .. })));
    assert_eq!(event_loop.source_count(), 0);
    assert!(matches!(event_loop.deregister(&regular), Err(RegisterError::NotRegistered)));
}

#[test]
fn the_bound_on_sources_is_an_error_that_names_its_setting() {
    let mut event_loop: Loop = Loop::builder().source_capacity(1).build().unwrap();
    let (a, _a) = pair();
    let (b, _b) = pair();
    event_loop.register(&a, 1).unwrap();
    let error = event_loop.register(&b, 2).unwrap_err();
    assert!(error.to_string().contains("source_capacity"), "{error}");
    drop(a);
    event_loop.register(&b, 2).unwrap();
}

#[test]
fn a_source_outlives_its_loop_and_joins_another() {
    let (ours, _theirs) = ready();
    let mut first = Loop::new().unwrap();
    first.register(&ours, 1).unwrap();
    drop(first);
    let mut second = Loop::new().unwrap();
    second.register(&ours, 2).unwrap();
    assert_eq!(readable_tokens(&poll(&mut second)), [2]);
}

#[test]
fn taking_an_io_apart_deregisters_it() {
    let mut event_loop = Loop::new().unwrap();
    let (ours, _theirs) = ready();
    event_loop.register(&ours, 1).unwrap();
    let stream = ours.into_inner();
    assert_eq!(poll(&mut event_loop), []);
    let ours = Io::new(stream);
    event_loop.register(&ours, 2).unwrap();
    assert_eq!(readable_tokens(&poll(&mut event_loop)), [2]);
}

#[test]
fn a_source_may_be_dropped_on_another_thread() {
    let mut event_loop = Loop::new().unwrap();
    let sources: Vec<_> = (0..100).map(|_| ready()).collect();
    for (io, _) in &sources {
        event_loop.register(io, 1).unwrap();
    }
    thread::spawn(move || drop(sources)).join().unwrap();
    assert_eq!(poll(&mut event_loop), []);
    assert_eq!(event_loop.source_count(), 0);
}

#[test]
fn level_reports_until_read_and_edge_once() {
    let mut event_loop = Loop::new().unwrap();
    let (level, _level) = ready();
    let (edge, mut edge_peer) = ready();
    event_loop.register(&level, 1).unwrap();
    event_loop.register_opt(&edge, 2, Interest::READABLE, Trigger::Edge).unwrap();
    let mut first = readable_tokens(&poll(&mut event_loop));
    first.sort_unstable();
    assert_eq!(first, [1, 2]);
    assert_eq!(readable_tokens(&poll(&mut event_loop)), [1]);
    drain(&level);
    assert_eq!(poll(&mut event_loop), []);
    edge_peer.write_all(b"y").unwrap();
    assert_eq!(readable_tokens(&poll(&mut event_loop)), [2]);
}

#[test]
fn oneshot_is_silent_until_it_is_registered_again() {
    let mut event_loop = Loop::new().unwrap();
    let (ours, mut theirs) = ready();
    event_loop
        .register_opt(&ours, 1, Interest::READABLE | Interest::WRITABLE, Trigger::Oneshot)
        .unwrap();
    assert_eq!(poll(&mut event_loop).len(), 2, "readable and writable are one event");
    theirs.write_all(b"y").unwrap();
    assert_eq!(poll(&mut event_loop), []);
    event_loop.reregister(&ours, 7, Interest::READABLE, Trigger::Oneshot).unwrap();
    assert_eq!(readable_tokens(&poll(&mut event_loop)), [7]);
    assert_eq!(poll(&mut event_loop), []);
}

#[test]
fn reregistering_in_a_callback_affects_the_rest_of_the_event() {
    let mut event_loop = Loop::new().unwrap();
    let (ours, _theirs) = ready();
    event_loop
        .register_opt(&ours, 1, Interest::READABLE | Interest::WRITABLE, Trigger::Level)
        .unwrap();
    let mut seen = Vec::new();
    let mut handler = On(|event_loop: &mut Loop, call| {
        seen.push(call);
        if let Seen::Readable(..) = call {
            event_loop.reregister(&ours, 2, Interest::READABLE, Trigger::Level).unwrap();
        }
    });
    event_loop.run_once(&mut handler, None).unwrap();
    assert_eq!(readable_tokens(&seen), [1]);
    assert!(
        !seen.iter().any(|call| matches!(call, Seen::Writable(_))),
        "no longer wanted: {seen:?}"
    );
}

#[test]
fn a_hang_up_has_its_hint_and_earlier_data_can_be_read() {
    let mut event_loop = Loop::new().unwrap();
    let (ours, theirs) = ready();
    event_loop.register(&ours, 1).unwrap();
    drop(theirs);
    let seen = poll(&mut event_loop);
    let [Seen::Readable(1, hint)] = seen[..] else { panic!("{seen:?}") };
    assert!(hint.is_data() && hint.is_hup());
    assert_eq!(drain(&ours), 1);
}

#[test]
fn a_hang_up_reaches_a_source_that_only_wants_to_write() {
    let mut event_loop = Loop::new().unwrap();
    let (ours, theirs) = pair();
    event_loop.register_opt(&ours, 1, Interest::WRITABLE, Trigger::Edge).unwrap();
    assert_eq!(poll(&mut event_loop), [Seen::Writable(1)]);
    drop(theirs);
    assert_eq!(poll(&mut event_loop), [Seen::Writable(1)]);
}

#[test]
fn again_calls_in_the_next_turn_once_without_an_event() {
    let mut event_loop = Loop::new().unwrap();
    let (ours, _theirs) = ready();
    event_loop.register_opt(&ours, 1, Interest::READABLE, Trigger::Edge).unwrap();
    let mut calls_by_turn = vec![0];
    let mut handler = On(|event_loop: &mut Loop, call| match call {
        Seen::Readable(1, hint) => {
            assert!(hint.is_data());
            *calls_by_turn.last_mut().unwrap() += 1;
            if calls_by_turn.len() < 4 {
                event_loop.again(&ours).unwrap();
                event_loop.again(&ours).unwrap();
            }
        }
        Seen::TurnEnd => {
            calls_by_turn.push(0);
            if calls_by_turn.len() > 5 {
                event_loop.shutdown();
            }
        }
        other => panic!("{other:?}"),
    });
    for _ in 0..5 {
        event_loop.run_once(&mut handler, Some(Duration::ZERO)).unwrap();
    }
    assert_eq!(calls_by_turn, [1, 1, 1, 1, 0, 0]);
}

/// After `again` the loop must not sleep.
#[test]
fn again_keeps_the_loop_from_sleeping() {
    let mut event_loop = Loop::new().unwrap();
    let (ours, _theirs) = ready();
    event_loop.register_opt(&ours, 1, Interest::READABLE, Trigger::Edge).unwrap();
    let mut calls = 0;
    let mut handler = On(|event_loop: &mut Loop, call| {
        if let Seen::Readable(..) = call {
            calls += 1;
            if calls == 100 { event_loop.shutdown() } else { event_loop.again(&ours).unwrap() }
        }
    });
    event_loop.run(&mut handler).unwrap();
    assert_eq!(event_loop.stats().sleeps, 1);
    assert_eq!(event_loop.stats().turns, 100);
}

#[test]
fn again_of_a_source_that_has_gone_is_forgotten() {
    let mut event_loop = Loop::new().unwrap();
    let (ours, _theirs) = pair();
    event_loop.register_opt(&ours, 1, Interest::READABLE, Trigger::Edge).unwrap();
    event_loop.again(&ours).unwrap();
    drop(ours);
    let (next, _next) = pair();
    event_loop.register(&next, 2).unwrap();
    assert_eq!(poll(&mut event_loop), []);
    assert_eq!(event_loop.next_timeout(), None);
}

#[test]
fn an_event_takes_the_place_of_again() {
    let mut event_loop = Loop::new().unwrap();
    let (ours, mut theirs) = pair();
    event_loop.register(&ours, 1).unwrap();
    event_loop.again(&ours).unwrap();
    theirs.write_all(b"x").unwrap();
    assert_eq!(readable_tokens(&poll(&mut event_loop)), [1], "once, not twice");
}
