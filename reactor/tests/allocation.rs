//! After warm-up nothing allocates.

mod common;

use std::io::{self, Read, Write};
use std::process::{Command, ExitStatus};
use std::time::Duration;

use allocation_counter::measure;
use common::{Loop, On, Seen, pair};
use kodiak_reactor::{EventLoop, Handler, Interest, Io, Trigger};

#[test]
fn a_turn_with_everything_allocates_nothing() {
    let mut event_loop = Loop::new().unwrap();
    let (ours, mut theirs) = pair();
    event_loop.register(&ours, 1).unwrap();
    let (guest, _guest) = pair();
    let sender = event_loop.channel();
    let (further_sender, further) = event_loop.add_channel::<u64>(9, 8).unwrap();
    let mut moving = event_loop.timeout(3, Duration::from_secs(3600)).unwrap();
    event_loop.interval(4, Duration::from_micros(1)).unwrap();
    let mut fired = 0;
    let mut handler = On(|event_loop: &mut Loop, call| match call {
        Seen::Readable(1, _) => {
            let _ = ours.get_ref().read(&mut [0; 16]).unwrap();
            // Refused while it is still there from the last turn.
            if event_loop.register_opt(&guest, 2, Interest::WRITABLE, Trigger::Edge).is_ok() {
                event_loop.again(&guest).unwrap();
            }
        }
        Seen::Writable(2) => event_loop.deregister(&guest).unwrap(),
        Seen::Readable(9, _) => drop(further.try_recv().unwrap()),
        Seen::Notify(_) => {
            event_loop.reset_timeout(moving, Duration::from_secs(7200)).unwrap();
            event_loop.clear_timeout(moving).unwrap();
            moving = event_loop.timeout(3, Duration::from_secs(3600)).unwrap();
        }
        Seen::Timeout(4) => fired += 1,
        _ => {}
    });
    let mut turn = |event_loop: &mut Loop| {
        theirs.write_all(b"x").unwrap();
        sender.send(1).unwrap();
        further_sender.send(2).unwrap();
        event_loop.run_once(&mut handler, Some(Duration::ZERO)).unwrap();
    };
    (0..100).for_each(|_| turn(&mut event_loop));
    let counted = measure(|| (0..1000).for_each(|_| turn(&mut event_loop)));
    assert_eq!(counted.count_total, 0);
    assert!(fired > 100);
}

/// One path at a time, so that the name of what fails says which.
fn expect_none(what: &str, mut path: impl FnMut()) {
    (0..100).for_each(|_| path());
    let counted = measure(|| (0..1000).for_each(|_| path()));
    assert_eq!(counted.count_total, 0, "{what}");
}

#[test]
fn a_turn_by_an_event_allocates_nothing() {
    let mut event_loop = Loop::new().unwrap();
    let (ours, _theirs) = common::ready();
    event_loop.register(&ours, 1).unwrap();
    expect_none("a turn", || event_loop.run_once(&mut On(|_: &mut Loop, _| {}), None).unwrap());
}

#[test]
fn setting_moving_and_firing_a_timeout_allocates_nothing() {
    let mut event_loop = Loop::new().unwrap();
    let far = Duration::from_secs(3600);
    expect_none("set and cancel", || {
        let timeout = event_loop.timeout(1, far).unwrap();
        event_loop.clear_timeout(timeout).unwrap();
    });
    let moved = event_loop.timeout(2, far).unwrap();
    let mut further = far;
    expect_none("put off", || {
        further += Duration::from_millis(1);
        event_loop.reset_timeout(moved, further).unwrap();
    });
    expect_none("brought nearer", || {
        further -= Duration::from_millis(1);
        event_loop.reset_timeout(moved, further).unwrap();
    });
    let mut fired = 0;
    let mut handler = On(|_: &mut Loop, call| fired += u32::from(call == Seen::Timeout(3)));
    expect_none("set and fire", || {
        event_loop.timeout(3, Duration::ZERO).unwrap();
        event_loop.run_once(&mut handler, None).unwrap();
    });
    assert_eq!(fired, 1100);
}

/// Each side is counted on its own thread.
#[test]
fn a_message_to_another_loop_and_back_allocates_nothing() {
    let mut event_loop: Loop = Loop::new().unwrap();
    let (to_loop, mut here) = (event_loop.channel(), Loop::new().unwrap());
    let from_loop = here.channel();
    let there = std::thread::spawn(move || {
        let mut answers = On(|event_loop: &mut Loop, call| match call {
            Seen::Notify(0) => event_loop.shutdown(),
            Seen::Notify(n) => from_loop.send(n).unwrap(),
            _ => {}
        });
        (0..20).for_each(|_| event_loop.run_once(&mut answers, None).unwrap());
        measure(|| event_loop.run(&mut answers).unwrap()).count_total
    });
    let mut heard = 0;
    let mut handler = On(|_: &mut Loop, call| heard += u32::from(call == Seen::Notify(7)));
    expect_none("a round trip", || {
        to_loop.send(7).unwrap();
        here.run_once(&mut handler, None).unwrap();
    });
    to_loop.send(0).unwrap();
    assert_eq!((heard, there.join().unwrap()), (1100, 0));
}

#[test]
fn dropping_registered_sources_allocates_nothing() {
    let mut event_loop = Loop::new().unwrap();
    let (ours, _theirs) = pair();
    let fill = |event_loop: &mut Loop| -> Vec<Io<_>> {
        let sources: Vec<_> =
            (0..100).map(|_| Io::new(ours.get_ref().try_clone().unwrap())).collect();
        sources.iter().for_each(|io| event_loop.register(io, 1).unwrap());
        sources
    };
    for _ in 0..3 {
        let sources = fill(&mut event_loop);
        let counted = measure(|| drop(sources));
        assert_eq!(counted.count_total, 0);
    }
    let sources: Vec<_> = (0..100).map(|_| Io::new(ours.get_ref().try_clone().unwrap())).collect();
    let counted = measure(|| sources.iter().for_each(|io| event_loop.register(io, 1).unwrap()));
    assert_eq!(counted.count_total, 0, "registering in warm slots");
}

#[test]
fn the_end_of_a_child_allocates_nothing() {
    struct Ends(u32);
    impl Handler<(), ()> for Ends {
        fn child_exit(
            &mut self,
            _: &mut EventLoop<(), ()>,
            (): (),
            status: io::Result<ExitStatus>,
        ) {
            self.0 += u32::from(status.is_ok_and(|status| status.success()));
        }
    }
    let (mut event_loop, mut ends) = (EventLoop::new().unwrap(), Ends(0));
    for n in 1..=3 {
        event_loop.watch_child(Command::new("true").spawn().unwrap(), ()).unwrap();
        let counted = measure(|| event_loop.run_once(&mut ends, None).unwrap());
        assert_eq!((ends.0, counted.count_total), (n, 0));
    }
}
