//! Helpers of the conformance tests, which use only the public API and are the same for every
//! backend.
#![allow(dead_code, unreachable_pub)]

use kodiak_sys::{Event, Events, Interest, Readiness, Selector, Trigger};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

/// Long enough for any machine; only a test that fails waits this long.
pub const TIME_LIMIT: Duration = Duration::from_secs(30);

/// Whether the backend is libkqueue, which lacks some of a kernel's functions. Prints that the test
/// is skipped, and why.
pub fn libkqueue_lacks(what: &str) -> bool {
    let lacks = cfg!(all(target_os = "linux", kodiak_kqueue));
    if lacks {
        println!("skipped: libkqueue {what}");
    }
    lacks
}

/// Waits until a source is ready. After an interruption it waits again.
pub fn wait(selector: &Selector) -> Vec<Event> {
    let deadline = Instant::now() + TIME_LIMIT;
    let mut events = Events::with_capacity(64);
    loop {
        match selector.wait(&mut events, Some(deadline.saturating_duration_since(Instant::now()))) {
            Ok(0) => panic!("nothing became ready in {TIME_LIMIT:?}"),
            Ok(_) => return events.iter().collect(),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => panic!("{error}"),
        }
    }
}

/// The sources that are ready now.
pub fn ready_now(selector: &Selector) -> Vec<Event> {
    let mut events = Events::with_capacity(64);
    selector.wait(&mut events, Some(Duration::ZERO)).unwrap();
    events.iter().collect()
}

/// The readiness of the only source that is ready, after waiting for it to satisfy `enough`.
pub fn readiness_until(selector: &Selector, enough: impl Fn(Readiness) -> bool) -> Readiness {
    let deadline = Instant::now() + TIME_LIMIT;
    loop {
        let events = wait(selector);
        assert_eq!(events.len(), 1, "one source has one event: {events:?}");
        if enough(events[0].readiness) {
            return events[0].readiness;
        }
        assert!(Instant::now() < deadline, "still only {events:?}");
        std::thread::yield_now();
    }
}

/// A selector that watches `source` under key 1.
pub fn watching(source: &impl AsFd, interest: Interest, trigger: Trigger) -> Selector {
    let selector = Selector::new().unwrap();
    selector.add(source.as_fd(), 1, interest, trigger).unwrap();
    selector
}

pub fn unix_pair() -> (UnixStream, UnixStream) {
    let (a, b) = UnixStream::pair().unwrap();
    a.set_nonblocking(true).unwrap();
    b.set_nonblocking(true).unwrap();
    (a, b)
}

pub fn tcp_pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let a = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (b, _) = listener.accept().unwrap();
    a.set_nonblocking(true).unwrap();
    b.set_nonblocking(true).unwrap();
    (a, b)
}

/// The greatest length of a Unix socket's path, without the zero at its end.
pub fn unix_path_max() -> usize {
    size_of::<libc::sockaddr_un>() - std::mem::offset_of!(libc::sockaddr_un, sun_path) - 1
}
