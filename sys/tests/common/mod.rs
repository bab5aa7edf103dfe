//! What the conformance tests share. They use the public API only and are the same for every
//! backend.
#![allow(dead_code, unreachable_pub)]

use kodiak_sys::{Event, Events, Interest, Readiness, Selector, Trigger};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

/// Long enough for any machine; only a test that is about to fail waits this long.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Whether the backend is libkqueue, which cannot do all that a kernel can; who asks is about to
/// skip a test, for a printed reason.
pub fn libkqueue_lacks(what: &str) -> bool {
    let lacks = cfg!(all(target_os = "linux", kodiak_kqueue));
    if lacks {
        println!("skipped: libkqueue {what}");
    }
    lacks
}

/// Waits until something is ready. Interruptions are waited out.
pub fn wait(selector: &Selector) -> Vec<Event> {
    let deadline = Instant::now() + PATIENCE;
    let mut events = Events::with_capacity(64);
    loop {
        match selector.wait(&mut events, Some(deadline.saturating_duration_since(Instant::now()))) {
            Ok(0) => panic!("nothing became ready in {PATIENCE:?}"),
            Ok(_) => return events.iter().collect(),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => panic!("{error}"),
        }
    }
}

/// What is ready now.
pub fn look(selector: &Selector) -> Vec<Event> {
    let mut events = Events::with_capacity(64);
    selector.wait(&mut events, Some(Duration::ZERO)).unwrap();
    events.iter().collect()
}

/// The readiness of the only source that is ready, after waiting for it to satisfy `enough`.
pub fn readiness_until(selector: &Selector, enough: impl Fn(Readiness) -> bool) -> Readiness {
    let deadline = Instant::now() + PATIENCE;
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

/// How many bytes a Unix socket's path can have, without the zero at its end.
pub fn unix_path_room() -> usize {
    size_of::<libc::sockaddr_un>() - std::mem::offset_of!(libc::sockaddr_un, sun_path) - 1
}
