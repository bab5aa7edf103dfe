//! Bugs with sockets that other event loops had, each with the test that excludes it here.
//!
//! Two more are elsewhere: `descriptors.rs` (a full table of descriptors must not make `accept`
//! spin) and `event_loop.rs` (a duplicate must not fire after its socket was dropped).

mod common;

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use common::{TEST_TIMEOUT, skip_on_libkqueue, until_readable};
use kodiak_net::{Connecting, Finish, TcpListener, TcpStream, TryRead, UdpSocket, UnixStream};
use kodiak_reactor::{EventLoop, Handler, Interest, ReadHint, Trigger};
use kodiak_sys::{Events, Selector};
use socket2::SockRef;

fn loopback() -> SocketAddr {
    "127.0.0.1:0".parse().unwrap()
}

/// Counts callbacks by kind, and reacts to none.
#[derive(Default, Debug)]
struct Counts {
    data: usize,
    ends: usize,
    writable: usize,
    priority: usize,
    timeouts: usize,
}

impl Handler<(), ()> for Counts {
    fn readable(&mut self, _: &mut EventLoop<(), ()>, _: (), hint: ReadHint) {
        self.data += usize::from(hint.is_data());
        self.ends += usize::from(hint.is_hup() || hint.is_error());
    }
    fn writable(&mut self, _: &mut EventLoop<(), ()>, _: ()) {
        self.writable += 1;
    }
    fn priority(&mut self, _: &mut EventLoop<(), ()>, _: ()) {
        self.priority += 1;
    }
    fn timeout(&mut self, _: &mut EventLoop<(), ()>, _: ()) {
        self.timeouts += 1;
    }
}

fn tcp_pair() -> (TcpStream, std::net::TcpStream) {
    let listener = std::net::TcpListener::bind(loopback()).unwrap();
    let ours =
        TcpStream::from_std(std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap())
            .unwrap();
    (ours, listener.accept().unwrap().0)
}

#[test]
fn out_of_band_data_under_level_trigger_does_not_spin() {
    let (ours, theirs) = tcp_pair();
    let mut event_loop = EventLoop::new().unwrap();
    event_loop.register(&ours, ()).unwrap();
    assert_eq!(SockRef::from(&theirs).send_out_of_band(b"!").unwrap(), 1);
    // Until it has arrived, where the kernel can tell.
    let selector = Selector::new().unwrap();
    if selector.add(ours.as_fd(), 0, Interest::PRIORITY, Trigger::Level).is_ok() {
        assert_eq!(selector.wait(&mut Events::with_capacity(1), Some(TEST_TIMEOUT)).unwrap(), 1);
    }
    let mut counts = Counts::default();
    for _ in 0..100 {
        event_loop.run_once(&mut counts, Some(Duration::ZERO)).unwrap();
    }
    assert_eq!(
        (counts.data, counts.ends, counts.priority),
        (0, 0, 0),
        "out-of-band data is not in the interest"
    );
    assert_eq!(event_loop.stats().events, 0, "the kernel does not report it to this loop either");
}

#[cfg(target_os = "linux")]
#[test]
fn out_of_band_data_that_was_asked_for_is_priority_and_not_data() {
    let (ours, theirs) = tcp_pair();
    let mut event_loop = EventLoop::new().unwrap();
    let registered =
        event_loop.register_opt(&ours, (), Interest::READABLE | Interest::PRIORITY, Trigger::Level);
    if skip_on_libkqueue("cannot watch for out-of-band data") {
        return assert!(registered.is_err());
    }
    registered.unwrap();
    SockRef::from(&theirs).send_out_of_band(b"!").unwrap();
    let mut counts = Counts::default();
    event_loop.run_once(&mut counts, Some(TEST_TIMEOUT)).unwrap();
    assert_eq!((counts.data, counts.priority), (0, 1));
}

#[test]
fn a_duplicate_in_a_message_does_not_fire_for_a_dropped_socket() {
    // The duplicate is in a message, without a number in this process.
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    let (carrier, carrier_end) = UnixStream::pair().unwrap();
    let mut event_loop = EventLoop::new().unwrap();
    event_loop.register(&ours, ()).unwrap();
    carrier.send_with_descriptors(b"x", &[ours.as_fd()]).unwrap();
    theirs.write_all(b"!").unwrap();
    drop(ours);
    let mut counts = Counts::default();
    for _ in 0..10 {
        event_loop.run_once(&mut counts, Some(Duration::ZERO)).unwrap();
    }
    assert_eq!(
        (counts.data, event_loop.stats().stale_events),
        (0, 0),
        "neither to the handler nor to the loop"
    );
    let mut descriptors = Vec::new();
    carrier_end.recv_with_descriptors(&mut [0; 1], &mut descriptors, 1).unwrap();
    let mut back = UnixStream::try_from(descriptors.pop().unwrap()).unwrap();
    assert_eq!(back.try_read(&mut [0; 8]).unwrap(), Some(1), "the file lived on");
}

#[test]
fn a_reused_descriptor_number_gets_no_old_event() {
    let mut event_loop = EventLoop::<(), ()>::new().unwrap();
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    let number = ours.as_fd().as_raw_fd();
    event_loop
        .register_opt(&ours, (), Interest::READABLE | Interest::WRITABLE, Trigger::Level)
        .unwrap();
    theirs.write_all(b"!").unwrap();
    // The same number, now another file, and never registered. Other tests open files, too: until
    // it is the one.
    drop(ours);
    let mut held = Vec::new();
    let (next, mut peer) = loop {
        let (next, peer) = UnixStream::pair().unwrap();
        if next.as_fd().as_raw_fd() == number || held.len() > 200 {
            break (next, peer);
        }
        held.push((next, peer));
    };
    peer.write_all(b"!").unwrap();
    let mut counts = Counts::default();
    for _ in 0..10 {
        event_loop.run_once(&mut counts, Some(Duration::ZERO)).unwrap();
    }
    assert_eq!((counts.data, counts.ends, counts.writable), (0, 0, 0));
    // And nothing of the last stands in the next one's way.
    event_loop.register(&next, ()).unwrap();
    event_loop.run_once(&mut counts, Some(TEST_TIMEOUT)).unwrap();
    assert_eq!((counts.data, counts.writable), (1, 0));
}

#[test]
fn only_the_current_owner_of_a_moved_descriptor_is_called() {
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    let (mut first, mut second) =
        (EventLoop::<(), ()>::new().unwrap(), EventLoop::<(), ()>::new().unwrap());
    first.register(&ours, ()).unwrap();
    // The same number throughout.
    let ours = UnixStream::try_from(OwnedFd::from(ours)).unwrap();
    second.register(&ours, ()).unwrap();
    theirs.write_all(b"!").unwrap();
    let (mut by_first, mut by_second) = (Counts::default(), Counts::default());
    first.run_once(&mut by_first, Some(Duration::ZERO)).unwrap();
    second.run_once(&mut by_second, Some(TEST_TIMEOUT)).unwrap();
    assert_eq!((by_first.data, by_second.data), (0, 1));
    assert!(first.deregister(&ours).is_err());
    second.deregister(&ours).unwrap();
    first.register(&ours, ()).unwrap();
}

fn until_hung_up(source: &impl kodiak_reactor::Source) {
    struct Until(bool);
    impl Handler<(), ()> for Until {
        fn readable(&mut self, event_loop: &mut EventLoop<(), ()>, _: (), hint: ReadHint) {
            if hint.is_error() || hint.is_hup() {
                self.0 = true;
                event_loop.shutdown();
            }
        }
        fn timeout(&mut self, event_loop: &mut EventLoop<(), ()>, _: ()) {
            event_loop.shutdown();
        }
    }
    let mut event_loop = EventLoop::new().unwrap();
    event_loop.register(source, ()).unwrap();
    event_loop.timeout((), TEST_TIMEOUT).unwrap();
    let mut until = Until(false);
    event_loop.run(&mut until).unwrap();
    assert!(until.0, "no end in {TEST_TIMEOUT:?}");
    event_loop.deregister(source).unwrap();
}

#[test]
fn a_connection_reset_before_finish_is_an_error() {
    let listener = std::net::TcpListener::bind(loopback()).unwrap();
    let connecting = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (theirs, _) = listener.accept().unwrap();
    SockRef::from(&theirs).set_linger(Some(Duration::ZERO)).unwrap();
    drop(theirs);
    until_hung_up(&connecting);
    let error = connecting.finish().unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
}

#[test]
fn a_connection_closed_before_finish_is_a_stream_at_its_end() {
    let listener = std::net::TcpListener::bind(loopback()).unwrap();
    let connecting = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    listener.accept().unwrap().0.write_all(b"bye").unwrap();
    until_hung_up(&connecting);
    let Finish::Connected(mut stream) = connecting.finish().unwrap() else {
        panic!("it was accepted")
    };
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    assert_eq!(text, "bye");
}

#[test]
fn calling_finish_early_and_often_changes_nothing() {
    fn ask<S: kodiak_reactor::Source>(mut connecting: Connecting<S>) -> (S, usize) {
        let mut asked = 0;
        let deadline = Instant::now() + TEST_TIMEOUT;
        loop {
            asked += 1;
            match connecting.finish().unwrap() {
                Finish::Connected(stream) => return (stream, asked),
                Finish::InProgress(again) => connecting = again,
            }
            assert!(Instant::now() < deadline);
            std::thread::yield_now();
        }
    }
    let listener = TcpListener::bind(loopback()).unwrap();
    let (mut stream, asked) = ask(TcpStream::connect(listener.local_addr().unwrap()).unwrap());
    assert!(asked >= 1);
    stream.write_all(b"x").unwrap();
    until_readable(&listener);
    let (mut peer, _) = listener.accept().unwrap().unwrap();
    until_readable(&peer);
    assert_eq!(peer.try_read(&mut [0; 4]).unwrap(), Some(1));
}

#[test]
fn a_refused_datagram_is_an_error_once_and_does_not_spin() {
    let ours = UdpSocket::bind(loopback()).unwrap();
    ours.connect(UdpSocket::bind(loopback()).unwrap().local_addr().unwrap()).unwrap();
    ours.send(b"hello").unwrap();
    let mut event_loop = EventLoop::new().unwrap();
    event_loop.register(&ours, ()).unwrap();
    let mut counts = Counts::default();
    event_loop.run_once(&mut counts, Some(TEST_TIMEOUT)).unwrap();
    assert_eq!(counts.ends, 1);
    if !skip_on_libkqueue("leaves no error on the socket that it reports one of") {
        assert_eq!(
            ours.recv(&mut [0; 4]).unwrap_err().kind(),
            std::io::ErrorKind::ConnectionRefused
        );
    }
    for _ in 0..100 {
        event_loop.run_once(&mut counts, Some(Duration::ZERO)).unwrap();
    }
    assert_eq!(counts.ends, 1);
}
