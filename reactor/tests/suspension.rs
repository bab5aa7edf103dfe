//! Hang-ups, errors and urgent data to which nobody reacts: told a few times, then the loop sleeps.
//! And whoever does react, however slowly, misses nothing.

mod common;

use std::io::{PipeReader, PipeWriter, Read, Write, pipe};
use std::net::{Shutdown, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::time::Duration;

use common::{Loop, On, Seen, drain, libkqueue_lacks, pair, poll, readable_tokens, ready};
use kodiak_reactor::{Interest, Io, Source, Trigger};

/// More than a condition is ever told.
const PLENTY: usize = 20;
const PLENTIFUL: usize = 1000;
const NONE: [Seen; 0] = [];

/// What is told until the loop has nothing more to say of itself; a spinning loop never gets there.
fn until_quiet(event_loop: &mut Loop) -> Vec<Seen> {
    let mut all = Vec::new();
    for _ in 0..PLENTY {
        let seen = poll(event_loop);
        if seen.is_empty() && poll(event_loop).is_empty() {
            return all;
        }
        all.extend(seen);
    }
    panic!("still telling after {PLENTY} turns: {:?}", &all[all.len() - 3..]);
}

/// What the next turn tells that tells anything, when `more` is done before each.
fn soon(event_loop: &mut Loop, mut more: impl FnMut()) -> Vec<Seen> {
    for _ in 0..PLENTIFUL {
        more();
        let seen = poll(event_loop);
        if !seen.is_empty() {
            return seen;
        }
    }
    panic!("nothing was told in {PLENTIFUL} turns");
}

fn register<S: Source>(event_loop: &mut Loop, source: &S, interest: Interest) {
    event_loop.register_opt(source, 1, interest, Trigger::Level).unwrap();
}

fn pipes() -> (PipeReader, PipeWriter) {
    pipe().unwrap()
}

fn tcp() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let ours = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    (ours, listener.accept().unwrap().0)
}

#[test]
fn a_hung_up_peer_nobody_reads_from_does_not_keep_the_loop_awake() {
    for interest in
        [Interest::READABLE, Interest::WRITABLE, Interest::READABLE | Interest::WRITABLE]
    {
        for unread in [false, true] {
            let mut event_loop = Loop::new().unwrap();
            let (ours, theirs) = if unread { ready() } else { pair() };
            register(&mut event_loop, &ours, interest);
            drop(theirs);
            let told = until_quiet(&mut event_loop);
            assert!((3..16).contains(&told.len()), "{interest:?}, unread {unread}: {told:?}");
            assert_eq!(event_loop.stats().suspensions, 1);
            assert_eq!(event_loop.source_count(), 1, "it is still registered");
        }
    }
}

/// The same with a clock: the loop truly sleeps until a timeout.
#[test]
fn with_a_hung_up_source_ignored_a_timeout_takes_one_sleep() {
    let mut event_loop = Loop::new().unwrap();
    let (ours, theirs) = pair();
    register(&mut event_loop, &ours, Interest::READABLE);
    drop(theirs);
    event_loop.timeout(2, Duration::from_millis(30)).unwrap();
    let mut handler = On(|event_loop: &mut Loop, call| {
        if call == Seen::Timeout(2) {
            event_loop.shutdown();
        }
    });
    event_loop.run(&mut handler).unwrap();
    assert!(event_loop.stats().turns <= 9, "{:?}", event_loop.stats());
}

#[test]
fn a_slow_reader_of_a_hung_up_peer_gets_every_byte_and_the_end() {
    for trickle in [1, 3] {
        let mut event_loop = Loop::new().unwrap();
        let (ours, mut theirs) = pair();
        let sent = [7; 100];
        theirs.write_all(&sent).unwrap();
        drop(theirs);
        register(&mut event_loop, &ours, Interest::READABLE);
        let (mut received, mut ended, mut tellings) = (0, false, 0);
        let mut handler = On(|event_loop: &mut Loop, call| {
            let Seen::Readable(..) = call else { return };
            tellings += 1;
            // Now and then it is busy with something else.
            if tellings % 3 != 0 {
                let n = ours.get_ref().read(&mut vec![0; trickle]).unwrap();
                received += n;
                ended = n == 0;
            }
            if ended {
                event_loop.shutdown();
            }
        });
        for _ in 0..PLENTIFUL {
            if event_loop.is_running() {
                event_loop.run_once(&mut handler, Some(Duration::ZERO)).unwrap();
            }
        }
        assert_eq!((received, ended), (sent.len(), true));
        assert_eq!(event_loop.stats().suspensions, 0, "it reads: it must not be suspended");
    }
}

#[test]
fn what_is_suspended_is_revived_by_reregistering_and_told_what_holds() {
    let mut event_loop = Loop::new().unwrap();
    let (ours, theirs) = ready();
    register(&mut event_loop, &ours, Interest::READABLE);
    drop(theirs);
    until_quiet(&mut event_loop);
    event_loop.reregister(&ours, 5, Interest::READABLE, Trigger::Level).unwrap();
    for _ in 0..2 {
        let [Seen::Readable(5, hint)] = poll(&mut event_loop)[..] else { panic!("not told") };
        assert!(hint.is_data() && hint.is_hup());
    }
    until_quiet(&mut event_loop);
    assert_eq!(event_loop.stats().suspensions, 2, "ignored again, suspended again");
    assert_eq!(drain(&ours), 1);
    event_loop.again(&ours).unwrap();
    assert_eq!(
        readable_tokens(&poll(&mut event_loop)),
        [5],
        "again works for a suspended source as for any"
    );
    event_loop.deregister(&ours).unwrap();
    register(&mut event_loop, &ours, Interest::READABLE);
    assert_eq!(readable_tokens(&poll(&mut event_loop)), [1], "and so does registering it anew");
}

/// The peer will send no more, but reads on: the end of its stream is told and ignored, and writing
/// goes on as under level trigger.
#[test]
fn a_half_closed_peer_that_is_written_to_stays_level_triggered_for_writing() {
    let mut event_loop = Loop::new().unwrap();
    let (ours, theirs) = tcp();
    ours.set_nonblocking(true).unwrap();
    let ours = Io::new(ours);
    theirs.shutdown(Shutdown::Write).unwrap();
    theirs.set_read_timeout(Some(Duration::from_secs(10))).unwrap(); // fails rather than hangs
    register(&mut event_loop, &ours, Interest::READABLE | Interest::WRITABLE);
    for _ in 0..PLENTY {
        let seen = poll(&mut event_loop);
        if seen.is_empty() {
            continue; // the turn in which it was suspended: the kernel reports it anew
        }
        let [Seen::Readable(1, hint), Seen::Writable(1)] = seen[..] else { panic!("{seen:?}") };
        assert!(hint.is_hup());
    }
    assert_eq!(event_loop.stats().suspensions, 1);
    // Full: nothing can be written, the end of the other half is known, and so there is nothing to
    // tell.
    let chunk = [0; 1 << 16];
    while (&mut ours.get_ref()).write(&chunk).is_ok() {}
    let full = (0..PLENTIFUL).find(|_| {
        while (&mut ours.get_ref()).write(&chunk).is_ok() {}
        poll(&mut event_loop).is_empty()
    });
    assert!(full.is_some(), "the end of the other half is told over and over");
    assert_eq!(until_quiet(&mut event_loop), NONE);
    // Room again, a little at a time.
    for _ in 0..3 {
        let seen = soon(&mut event_loop, || (&theirs).read_exact(&mut vec![0; 1 << 18]).unwrap());
        assert!(seen.contains(&Seen::Writable(1)), "{seen:?}");
        while (&mut ours.get_ref()).write(&chunk).is_ok() {}
    }
    // And its death is told, too.
    drop(theirs);
    let told = until_quiet(&mut event_loop);
    assert!(told.contains(&Seen::Writable(1)) && !readable_tokens(&told).is_empty());
    assert_eq!(event_loop.stats().suspensions, 2);
}

#[test]
fn a_half_closed_peer_nobody_cares_for_tells_later_that_it_is_gone_altogether() {
    let mut event_loop = Loop::new().unwrap();
    let (ours, theirs) = pair();
    theirs.shutdown(Shutdown::Write).unwrap();
    register(&mut event_loop, &ours, Interest::READABLE);
    until_quiet(&mut event_loop);
    drop(theirs);
    assert!(!until_quiet(&mut event_loop).is_empty(), "news");
}

#[test]
fn both_ends_of_a_pipe_whose_other_end_is_gone_are_suspended() {
    let mut event_loop = Loop::new().unwrap();
    let (reader, writer) = pipes();
    let reader = Io::new(reader);
    register(&mut event_loop, &reader, Interest::READABLE);
    drop(writer);
    let told = until_quiet(&mut event_loop);
    assert!(matches!(told[0], Seen::Readable(1, hint) if hint.is_hup()));

    let (reader, writer) = pipes();
    let writer = Io::new(writer);
    register(&mut event_loop, &writer, Interest::WRITABLE);
    drop(reader);
    let told = until_quiet(&mut event_loop);
    assert_eq!(told[0], Seen::Writable(1), "the next write reports the error");
    assert_eq!(event_loop.stats().suspensions, 2);
}

/// Each send to a port where nobody listens comes back as an error. Whoever takes the error and
/// sends again must be told of the next one, for ever, and of the answer when somebody listens at
/// last.
#[test]
fn a_socket_whose_errors_are_taken_hears_of_each_new_one() {
    if libkqueue_lacks(
        "takes errors from sockets: each is told once, not anew when it is suspended",
    ) {
        return;
    }
    let nobody = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = nobody.local_addr().unwrap();
    drop(nobody);
    let ours = UdpSocket::bind("127.0.0.1:0").unwrap();
    ours.connect(address).unwrap();
    ours.set_nonblocking(true).unwrap();
    let ours = Io::new(ours);
    let mut event_loop = Loop::new().unwrap();
    register(&mut event_loop, &ours, Interest::READABLE);
    for _ in 0..PLENTY {
        ours.get_ref().send(b"anybody?").unwrap();
        let told = soon(&mut event_loop, || {});
        assert!(matches!(told[..], [Seen::Readable(1, hint)] if hint.is_error()), "{told:?}");
        ours.get_ref().recv(&mut [0; 16]).unwrap_err();
    }
    assert_eq!(until_quiet(&mut event_loop), NONE);
    let somebody = UdpSocket::bind(address).unwrap();
    for n in 0..PLENTY {
        somebody.send_to(&[n as u8; 4], ours.get_ref().local_addr().unwrap()).unwrap();
    }
    for _ in 0..PLENTY {
        assert_eq!(
            readable_tokens(&poll(&mut event_loop)),
            [1],
            "one datagram a turn, as under level trigger"
        );
        assert_eq!(ours.get_ref().recv(&mut [0; 16]).unwrap(), 4);
    }
    assert_eq!(poll(&mut event_loop), NONE);
    // And an error that nobody takes ends.
    drop(somebody);
    ours.get_ref().send(b"anybody?").unwrap();
    assert!(!until_quiet(&mut event_loop).is_empty());
}

#[test]
fn under_edge_and_oneshot_nothing_is_ever_suspended() {
    for (trigger, times) in [(Trigger::Edge, 1), (Trigger::Oneshot, 1)] {
        let mut event_loop = Loop::new().unwrap();
        let (ours, theirs) = ready();
        event_loop.register_opt(&ours, 1, Interest::READABLE, trigger).unwrap();
        drop(theirs);
        assert_eq!(until_quiet(&mut event_loop).len(), times, "{trigger:?}");
        assert_eq!(event_loop.stats().suspensions, 0);
    }
}

#[test]
fn dropping_and_replacing_a_suspended_source_leaves_nothing_behind() {
    let mut event_loop = Loop::new().unwrap();
    let (ours, theirs) = pair();
    register(&mut event_loop, &ours, Interest::READABLE);
    drop(theirs);
    until_quiet(&mut event_loop);
    let number = format!("{:?}", ours.as_fd());
    drop(ours);
    assert_eq!(event_loop.source_count(), 0);
    // The same number, most likely, and a source of its own in any case.
    let (ours, mut theirs) = pair();
    let reused = format!("{:?}", ours.as_fd()) == number;
    register(&mut event_loop, &ours, Interest::READABLE);
    theirs.write_all(b"x").unwrap();
    for _ in 0..PLENTY {
        assert_eq!(readable_tokens(&poll(&mut event_loop)), [1], "number reused: {reused}");
    }
    assert_eq!(event_loop.stats().suspensions, 1);
}
