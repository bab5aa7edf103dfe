//! Suspension: an ignored hang-up, error or urgent byte is reported a few times, then the loop
//! sleeps. A handler that reacts, however slowly, misses nothing.

mod common;

use std::io::{PipeReader, PipeWriter, Read, Write, pipe};
use std::net::{Shutdown, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::time::Duration;

use common::{Loop, On, Seen, drain, pair, poll, readable_tokens, ready, skip_on_libkqueue};
use kodiak_reactor::{Interest, Io, Source, Trigger};

/// More turns than a lasting condition is reported in.
const MANY_TURNS: usize = 20;
/// More turns than any event needs to arrive.
const MAX_TURNS: usize = 1000;
const NONE: [Seen; 0] = [];

/// All callbacks until the loop has no more by itself, which a spinning loop never has.
fn until_quiet(event_loop: &mut Loop) -> Vec<Seen> {
    let mut all = Vec::new();
    for _ in 0..MANY_TURNS {
        let seen = poll(event_loop);
        if seen.is_empty() && poll(event_loop).is_empty() {
            return all;
        }
        all.extend(seen);
    }
    panic!("still reported after {MANY_TURNS} turns: {:?}", &all[all.len() - 3..]);
}

/// The callbacks of the next turn that has any, when `more` is done before each.
fn soon(event_loop: &mut Loop, mut more: impl FnMut()) -> Vec<Seen> {
    for _ in 0..MAX_TURNS {
        more();
        let seen = poll(event_loop);
        if !seen.is_empty() {
            return seen;
        }
    }
    panic!("nothing was seen in {MAX_TURNS} turns");
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
fn an_ignored_hang_up_does_not_keep_the_loop_awake() {
    for interest in
        [Interest::READABLE, Interest::WRITABLE, Interest::READABLE | Interest::WRITABLE]
    {
        for unread in [false, true] {
            let mut event_loop = Loop::new().unwrap();
            let (ours, theirs) = if unread { ready() } else { pair() };
            register(&mut event_loop, &ours, interest);
            drop(theirs);
            let seen = until_quiet(&mut event_loop);
            assert!((3..16).contains(&seen.len()), "{interest:?}, unread {unread}: {seen:?}");
            assert_eq!(event_loop.stats().suspensions, 1);
            assert_eq!(event_loop.source_count(), 1, "it is still registered");
        }
    }
}

/// The same with a clock: the loop truly sleeps until a timeout.
#[test]
fn a_timeout_beside_an_ignored_hang_up_takes_one_sleep() {
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
        for _ in 0..MAX_TURNS {
            if event_loop.is_running() {
                event_loop.run_once(&mut handler, Some(Duration::ZERO)).unwrap();
            }
        }
        assert_eq!((received, ended), (sent.len(), true));
        assert_eq!(event_loop.stats().suspensions, 0, "it reads: it must not be suspended");
    }
}

#[test]
fn reregistering_resumes_a_suspended_source() {
    let mut event_loop = Loop::new().unwrap();
    let (ours, theirs) = ready();
    register(&mut event_loop, &ours, Interest::READABLE);
    drop(theirs);
    until_quiet(&mut event_loop);
    event_loop.reregister(&ours, 5, Interest::READABLE, Trigger::Level).unwrap();
    for _ in 0..2 {
        let [Seen::Readable(5, hint)] = poll(&mut event_loop)[..] else { panic!("not seen") };
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
    assert_eq!(readable_tokens(&poll(&mut event_loop)), [1], "and so does registering it again");
}

/// The peer has closed its writing half, and reads: the end of its stream is reported and ignored,
/// and writing continues under level trigger.
#[test]
fn writing_to_a_half_closed_peer_stays_level_triggered() {
    let mut event_loop = Loop::new().unwrap();
    let (ours, theirs) = tcp();
    ours.set_nonblocking(true).unwrap();
    let ours = Io::new(ours);
    theirs.shutdown(Shutdown::Write).unwrap();
    theirs.set_read_timeout(Some(Duration::from_secs(10))).unwrap(); // fails rather than hangs
    register(&mut event_loop, &ours, Interest::READABLE | Interest::WRITABLE);
    for _ in 0..MANY_TURNS {
        let seen = poll(&mut event_loop);
        if seen.is_empty() {
            continue; // the turn in which it was suspended: the kernel reports it again
        }
        let [Seen::Readable(1, hint), Seen::Writable(1)] = seen[..] else { panic!("{seen:?}") };
        assert!(hint.is_hup());
    }
    assert_eq!(event_loop.stats().suspensions, 1);
    // Full: nothing can be written, and the end of the other half is not reported again.
    let chunk = [0; 1 << 16];
    while (&mut ours.get_ref()).write(&chunk).is_ok() {}
    let full = (0..MAX_TURNS).find(|_| {
        while (&mut ours.get_ref()).write(&chunk).is_ok() {}
        poll(&mut event_loop).is_empty()
    });
    assert!(full.is_some(), "the end of the other half is reported in every turn");
    assert_eq!(until_quiet(&mut event_loop), NONE);
    // Room again, a little at a time.
    for _ in 0..3 {
        let seen = soon(&mut event_loop, || (&theirs).read_exact(&mut vec![0; 1 << 18]).unwrap());
        assert!(seen.contains(&Seen::Writable(1)), "{seen:?}");
        while (&mut ours.get_ref()).write(&chunk).is_ok() {}
    }
    // The full close is reported, too.
    drop(theirs);
    let seen = until_quiet(&mut event_loop);
    assert!(seen.contains(&Seen::Writable(1)) && !readable_tokens(&seen).is_empty());
    assert_eq!(event_loop.stats().suspensions, 2);
}

#[test]
fn an_ignored_half_close_still_reports_the_full_close() {
    let mut event_loop = Loop::new().unwrap();
    let (ours, theirs) = pair();
    theirs.shutdown(Shutdown::Write).unwrap();
    register(&mut event_loop, &ours, Interest::READABLE);
    until_quiet(&mut event_loop);
    drop(theirs);
    assert!(!until_quiet(&mut event_loop).is_empty());
}

#[test]
fn an_end_of_a_pipe_without_its_other_end_is_suspended() {
    let mut event_loop = Loop::new().unwrap();
    let (reader, writer) = pipes();
    let reader = Io::new(reader);
    register(&mut event_loop, &reader, Interest::READABLE);
    drop(writer);
    let seen = until_quiet(&mut event_loop);
    assert!(matches!(seen[0], Seen::Readable(1, hint) if hint.is_hup()));

    let (reader, writer) = pipes();
    let writer = Io::new(writer);
    register(&mut event_loop, &writer, Interest::WRITABLE);
    drop(reader);
    let seen = until_quiet(&mut event_loop);
    assert_eq!(seen[0], Seen::Writable(1), "the next write reports the error");
    assert_eq!(event_loop.stats().suspensions, 2);
}

/// Each send to an unused port is refused with an error. A handler that takes the error and sends
/// again gets each further error, and the answer when the port is bound at last.
#[test]
fn each_new_error_of_a_socket_is_reported_if_it_is_taken() {
    if skip_on_libkqueue(
        "takes errors from sockets: each is reported once, not again when suspended",
    ) {
        return;
    }
    let unused = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = unused.local_addr().unwrap();
    drop(unused);
    let ours = UdpSocket::bind("127.0.0.1:0").unwrap();
    ours.connect(address).unwrap();
    ours.set_nonblocking(true).unwrap();
    let ours = Io::new(ours);
    let mut event_loop = Loop::new().unwrap();
    register(&mut event_loop, &ours, Interest::READABLE);
    for _ in 0..MANY_TURNS {
        ours.get_ref().send(b"hello").unwrap();
        let seen = soon(&mut event_loop, || {});
        assert!(matches!(seen[..], [Seen::Readable(1, hint)] if hint.is_error()), "{seen:?}");
        ours.get_ref().recv(&mut [0; 16]).unwrap_err();
    }
    assert_eq!(until_quiet(&mut event_loop), NONE);
    let server = UdpSocket::bind(address).unwrap();
    for n in 0..MANY_TURNS {
        server.send_to(&[n as u8; 4], ours.get_ref().local_addr().unwrap()).unwrap();
    }
    for _ in 0..MANY_TURNS {
        assert_eq!(
            readable_tokens(&poll(&mut event_loop)),
            [1],
            "one datagram a turn, as under level trigger"
        );
        assert_eq!(ours.get_ref().recv(&mut [0; 16]).unwrap(), 4);
    }
    assert_eq!(poll(&mut event_loop), NONE);
    // An error that is not taken is reported a few times only.
    drop(server);
    ours.get_ref().send(b"hello").unwrap();
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
fn a_dropped_suspended_source_leaves_nothing_to_the_next() {
    let mut event_loop = Loop::new().unwrap();
    let (ours, theirs) = pair();
    register(&mut event_loop, &ours, Interest::READABLE);
    drop(theirs);
    until_quiet(&mut event_loop);
    let number = format!("{:?}", ours.as_fd());
    drop(ours);
    assert_eq!(event_loop.source_count(), 0);
    // Most likely the same number, but always another source.
    let (ours, mut theirs) = pair();
    let reused = format!("{:?}", ours.as_fd()) == number;
    register(&mut event_loop, &ours, Interest::READABLE);
    theirs.write_all(b"x").unwrap();
    for _ in 0..MANY_TURNS {
        assert_eq!(readable_tokens(&poll(&mut event_loop)), [1], "number reused: {reused}");
    }
    assert_eq!(event_loop.stats().suspensions, 1);
}
