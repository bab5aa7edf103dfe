//! Connecting, accepting, and the state of a socket.

mod common;

use common::{readiness_until, tcp_pair, watching};
use kodiak_sys::socket::{self, AcceptFailure, ConnectProgress};
use kodiak_sys::{Interest, Readiness, Trigger};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};

fn assert_nonblocking_and_cloexec(socket: &OwnedFd) {
    // SAFETY: the descriptor is borrowed for the whole call; this command takes nothing.
    let status = unsafe { libc::fcntl(socket.as_raw_fd(), libc::F_GETFL) };
    assert_ne!(status & libc::O_NONBLOCK, 0);
    // SAFETY: as above.
    let flags = unsafe { libc::fcntl(socket.as_raw_fd(), libc::F_GETFD) };
    assert_ne!(flags & libc::FD_CLOEXEC, 0);
}

fn connect_and_send(listen: &str) {
    let listener = TcpListener::bind(listen).unwrap();
    let (client, _) = socket::connect_tcp(listener.local_addr().unwrap()).unwrap();
    assert_nonblocking_and_cloexec(&client);
    readiness_until(&watching(&client, Interest::WRITABLE, Trigger::Level), Readiness::is_writable);
    assert!(socket::take_error(client.as_fd()).unwrap().is_none());
    let (server, peer) = socket::accept_tcp(listener.as_fd()).unwrap();
    assert_nonblocking_and_cloexec(&server);
    let (mut client, server) = (TcpStream::from(client), TcpStream::from(server));
    assert_eq!(peer, client.local_addr().unwrap());
    assert_eq!(socket::bytes_readable(server.as_fd()).unwrap(), 0);
    client.write_all(b"hello").unwrap();
    readiness_until(&watching(&server, Interest::READABLE, Trigger::Level), Readiness::is_readable);
    assert_eq!(socket::bytes_readable(server.as_fd()).unwrap(), 5);
}

#[test]
fn tcp_connects_over_v4() {
    connect_and_send("127.0.0.1:0");
}

#[test]
fn tcp_connects_over_v6() {
    if TcpListener::bind("[::1]:0").is_ok() {
        connect_and_send("[::1]:0");
    }
}

/// The socket of a connection attempt that was refused; `None` if `connect` itself failed.
fn refused() -> Option<OwnedFd> {
    // The listener is closed at once.
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (client, _) = socket::connect_tcp(address).ok()?;
    readiness_until(&watching(&client, Interest::WRITABLE, Trigger::Level), Readiness::is_writable);
    Some(client)
}

#[test]
fn a_refused_connection_is_never_in_progress() {
    let Some(client) = refused() else { return };
    let error = socket::connect_progress(client.as_fd()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    let Some(client) = refused() else { return };
    assert!(socket::take_error(client.as_fd()).unwrap().is_some(), "another caller took it");
    let error = socket::connect_progress(client.as_fd()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotConnected, "{error}");
}

#[test]
fn an_unanswered_attempt_is_in_progress() {
    // On Linux a listener whose queue is full drops further attempts: they stay in progress for
    // minutes.
    if !cfg!(target_os = "linux") {
        return println!(
            "skipped: only Linux leaves an attempt unanswered when the listener's queue is full"
        );
    }
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    // SAFETY: no pointers; the descriptor is borrowed for the whole call.
    assert_eq!(unsafe { libc::listen(listener.as_raw_fd(), 0) }, 0);
    let address = listener.local_addr().unwrap();
    let attempts: Vec<_> = (0..16).map(|_| socket::connect_tcp(address).unwrap().0).collect();
    let progress = |client: &OwnedFd| socket::connect_progress(client.as_fd()).unwrap();
    assert!(attempts.iter().any(|client| progress(client) == ConnectProgress::InProgress));
    assert!(attempts.iter().any(|client| progress(client) == ConnectProgress::Connected));
}

#[test]
fn unix_sockets_connect_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    assert_eq!(socket::connect_unix(&path).unwrap_err().kind(), ErrorKind::NotFound);
    let listener = UnixListener::bind(&path).unwrap();
    let (client, progress) = socket::connect_unix(&path).unwrap();
    assert_eq!(progress, ConnectProgress::Connected);
    assert_nonblocking_and_cloexec(&client);
    let server = socket::accept_unix(listener.as_fd()).unwrap();
    assert_nonblocking_and_cloexec(&server);
    UnixStream::from(server).write_all(b"hello").unwrap();
    let mut text = [0; 8];
    assert_eq!(UnixStream::from(client).read(&mut text).unwrap(), 5);
}

#[test]
fn unix_paths_have_bounds() {
    let longest = common::unix_path_max();
    for path in ["", "a\0b", &"x".repeat(longest + 1)] {
        let error = socket::connect_unix(path.as_ref()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{path:?}: {error}");
    }
    let fits = socket::connect_unix("x".repeat(longest).as_ref()).unwrap_err();
    assert_eq!(fits.kind(), ErrorKind::NotFound);
}

#[test]
fn accepting_without_a_connection_would_block() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let error = socket::accept_tcp(listener.as_fd()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::WouldBlock);
    assert_eq!(socket::accept_failure(&error), AcceptFailure::WouldBlock);
}

#[test]
fn errors_of_accept_are_classified() {
    let classify = |number| socket::accept_failure(&io::Error::from_raw_os_error(number));
    assert_eq!(classify(libc::ECONNABORTED), AcceptFailure::Connection);
    assert_eq!(classify(libc::EPROTO), AcceptFailure::Connection);
    assert_eq!(classify(libc::EMFILE), AcceptFailure::Exhausted);
    assert_eq!(classify(libc::ENFILE), AcceptFailure::Exhausted);
    assert_eq!(classify(libc::EINVAL), AcceptFailure::Listener);
    let (a, _b) = tcp_pair();
    assert_eq!(
        socket::accept_failure(&socket::accept_tcp(a.as_fd()).unwrap_err()),
        AcceptFailure::Listener
    );
    assert!(socket::is_out_of_descriptors(&io::Error::from_raw_os_error(libc::EMFILE)));
    assert!(!socket::is_out_of_descriptors(&ErrorKind::WouldBlock.into()));
    assert!(socket::is_in_progress(&io::Error::from_raw_os_error(libc::EINPROGRESS)));
}

#[test]
fn take_error_refuses_a_pipe() {
    let (reader, mut writer) = io::pipe().unwrap();
    assert!(socket::take_error(reader.as_fd()).is_err());
    writer.write_all(b"abc").unwrap();
    assert_eq!(socket::bytes_readable(reader.as_fd()).unwrap(), 3, "pipes count their bytes, too");
}

#[test]
fn both_ends_of_a_pipe_are_nonblocking_and_close_on_exec() {
    let (reader, writer) = kodiak_sys::pipe().unwrap();
    for end in [&reader, &writer] {
        assert_nonblocking_and_cloexec(end);
        kodiak_sys::set_nonblocking(end.as_fd(), false).unwrap();
        // SAFETY: the descriptor is borrowed for the whole call; this command takes nothing.
        let status = unsafe { libc::fcntl(end.as_raw_fd(), libc::F_GETFL) };
        assert_eq!(status & libc::O_NONBLOCK, 0);
        kodiak_sys::set_nonblocking(end.as_fd(), true).unwrap();
        assert_nonblocking_and_cloexec(end);
    }
}
