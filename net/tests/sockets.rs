//! Sockets by themselves, without a loop: addresses, options, conversions, errors.

mod common;

use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::os::fd::OwnedFd;
use std::time::Duration;

use common::until_readable;
use kodiak_net::{
    BindOptions, ConnectError, Connecting, Finish, Keepalive, TcpListener, TcpStream, TryRead,
    TryRecv, TryWrite, UdpSocket, UnixDatagram, UnixListener, UnixStream,
};

fn loopback() -> SocketAddr {
    "127.0.0.1:0".parse().unwrap()
}

fn connected<S>(connecting: Connecting<S>) -> S
where
    S: kodiak_reactor::Source,
{
    match connecting.finish().unwrap() {
        Finish::Connected(stream) => stream,
        Finish::InProgress(_) => panic!("not connected yet"),
    }
}

/// Both ends of a TCP connection: ours and a blocking one of std's.
fn tcp_pair() -> (TcpStream, std::net::TcpStream) {
    let listener = std::net::TcpListener::bind(loopback()).unwrap();
    let connecting = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (theirs, _) = listener.accept().unwrap();
    (connected(connecting), theirs)
}

#[test]
fn a_bind_error_names_the_address() {
    let listener = TcpListener::bind(loopback()).unwrap();
    let address = listener.local_addr().unwrap();
    let error = TcpListener::bind(address).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    assert_eq!(error.to_string(), format!("binding to {address} failed"));
    assert_eq!(io::Error::from(error).kind(), io::ErrorKind::AddrInUse);

    let taken = UdpSocket::bind(loopback()).unwrap();
    assert_eq!(
        UdpSocket::bind(taken.local_addr().unwrap()).unwrap_err().kind(),
        io::ErrorKind::AddrInUse
    );
}

#[test]
fn unix_errors_name_the_path() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("unused");
    let error = UnixStream::connect(&path).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::NotFound);
    assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");

    drop(UnixListener::bind(&path).unwrap());
    assert_eq!(UnixListener::bind(&path).unwrap_err().kind(), io::ErrorKind::AddrInUse);
    let refused = UnixStream::connect(&path).unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
    assert!(refused.get_ref().unwrap().is::<ConnectError>());

    let long = folder.path().join("x".repeat(200));
    let error = UnixListener::bind(&long).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    assert!(error.to_string().contains("about a hundred bytes"), "{error}");
}

#[cfg(target_os = "linux")]
#[test]
fn abstract_names_need_no_file() {
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::SocketAddr;

    let name = format!("kodiak-net-test-{}", std::process::id());
    let address = SocketAddr::from_abstract_name(name).unwrap();
    let listener = UnixListener::bind_addr(&address).unwrap();
    assert_eq!(listener.local_addr().unwrap().as_abstract_name(), address.as_abstract_name());
    let mut client = connected(UnixStream::connect_addr(&address).unwrap());
    let (mut server, _) = listener.accept().unwrap().unwrap();
    client.write_all(b"hidden").unwrap();
    let mut buffer = [0; 8];
    assert_eq!(server.try_read(&mut buffer).unwrap(), Some(6));
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_unix_backlog_is_reported_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let address = std::os::unix::net::SocketAddr::from_pathname(folder.path().join("den")).unwrap();
    let _listener = UnixListener::bind_with(&address, &BindOptions::new().backlog(0)).unwrap();
    let mut waiting = Vec::new();
    let error = loop {
        match UnixStream::connect_addr(&address) {
            Ok(connecting) => waiting.push(connecting),
            Err(error) => break error,
        }
        assert!(waiting.len() < 100, "a backlog of nothing has an end");
    };
    assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
}

#[test]
fn would_block_is_none_and_the_end_is_zero() {
    let (mut ours, mut theirs) = tcp_pair();
    let mut buffer = [0; 16];
    assert_eq!(ours.try_read(&mut buffer).unwrap(), None);
    assert_eq!(ours.read(&mut buffer).unwrap_err().kind(), io::ErrorKind::WouldBlock);
    theirs.write_all(b"over").unwrap();
    theirs.shutdown(Shutdown::Write).unwrap();
    until_readable(&ours);
    assert_eq!(ours.peek(&mut buffer).unwrap(), 4);
    assert_eq!(ours.try_read(&mut buffer).unwrap(), Some(4));
    until_readable(&ours);
    assert_eq!(ours.try_read(&mut buffer).unwrap(), Some(0));
    // The other direction is still open.
    ours.write_all(b"roger").unwrap();
    drop(ours);
    let mut answer = String::new();
    theirs.read_to_string(&mut answer).unwrap();
    assert_eq!(answer, "roger");
}

#[test]
fn writing_stops_when_the_buffer_is_full_and_resumes() {
    let (ours, mut theirs) = tcp_pair();
    let mut taken = 0;
    while let Some(count) = (&ours).try_write(&[9; 65536]).unwrap() {
        taken += count;
    }
    let mut received = vec![0; taken];
    theirs.read_exact(&mut received).unwrap();
    assert!(received.iter().all(|byte| *byte == 9));
}

#[test]
fn vectored_calls_keep_the_order() {
    let (mut left, mut right) = UnixStream::pair().unwrap();
    let parts = [IoSlice::new(b"one "), IoSlice::new(b"two "), IoSlice::new(b"three")];
    assert_eq!(left.write_vectored(&parts).unwrap(), 13);
    let (mut first, mut second) = ([0; 6], [0; 10]);
    let count = right
        .try_read_vectored(&mut [IoSliceMut::new(&mut first), IoSliceMut::new(&mut second)])
        .unwrap();
    assert_eq!(count, Some(13));
    assert_eq!(&first, b"one tw");
    assert_eq!(&second[..7], b"o three");
    assert_eq!(
        (&left).try_write_vectored(&[IoSlice::new(b"a"), IoSlice::new(b"b")]).unwrap(),
        Some(2)
    );
}

#[test]
fn datagrams_keep_their_boundaries() {
    let folder = tempfile::tempdir().unwrap();
    let (server_path, client_path) = (folder.path().join("server"), folder.path().join("client"));
    let server = UnixDatagram::bind(&server_path).unwrap();
    let client = UnixDatagram::bind(&client_path).unwrap();
    client.connect(&server_path).unwrap();
    assert_eq!(client.try_send(b"first").unwrap(), Some(5));
    client.send(b"second").unwrap();
    let mut buffer = [0; 3];
    let (count, peer) = server.try_recv_from(&mut buffer).unwrap().unwrap();
    assert_eq!((count, &buffer), (3, b"fir"), "the rest of a long datagram is gone");
    assert_eq!(peer.as_pathname(), Some(client_path.as_path()));
    assert_eq!(server.try_recv(&mut buffer).unwrap(), Some(3));
    assert_eq!(&buffer, b"sec");
    assert_eq!(server.try_recv(&mut buffer).unwrap(), None);
    assert_eq!(server.send_to_addr(b"hi", &peer).unwrap(), 2);

    let left = UdpSocket::bind(loopback()).unwrap();
    let right = UdpSocket::bind(loopback()).unwrap();
    left.connect(right.local_addr().unwrap()).unwrap();
    assert_eq!(left.peer_addr().unwrap(), right.local_addr().unwrap());
    assert_eq!(left.try_send(b"").unwrap(), Some(0));
    until_readable(&right);
    assert_eq!(left.peek(&mut buffer).unwrap_err().kind(), io::ErrorKind::WouldBlock);
    assert_eq!(right.peek_from(&mut buffer).unwrap(), (0, left.local_addr().unwrap()));
    assert_eq!(right.try_recv_from(&mut buffer).unwrap(), Some((0, left.local_addr().unwrap())));
    assert_eq!(right.try_send_to(b"back", left.local_addr().unwrap()).unwrap(), Some(4));
    until_readable(&left);
    assert_eq!((left.peek(&mut buffer).unwrap(), &buffer), (3, b"bac"));
    assert_eq!(left.recv(&mut buffer).unwrap(), 3);
}

#[test]
fn stream_options_are_what_they_were_set_to() {
    let (stream, _theirs) = tcp_pair();
    stream.set_nodelay(true).unwrap();
    assert!(stream.nodelay().unwrap());
    stream.set_ttl(42).unwrap();
    assert_eq!(stream.ttl().unwrap(), 42);

    assert_eq!(stream.linger().unwrap(), None);
    stream.set_linger(Some(Duration::from_millis(1500))).unwrap();
    assert_eq!(stream.linger().unwrap(), Some(Duration::from_secs(2)), "rounded up");
    stream.set_linger(None).unwrap();
    assert_eq!(stream.linger().unwrap(), None);

    assert!(!stream.keepalive().unwrap());
    let keepalive = Keepalive::new()
        .idle(Duration::from_millis(30_500))
        .interval(Duration::from_secs(7))
        .count(3);
    stream.set_keepalive(Some(keepalive)).unwrap();
    assert!(stream.keepalive().unwrap());
    let raw = socket2::SockRef::from(&stream);
    assert_eq!(raw.tcp_keepalive_time().unwrap(), Duration::from_secs(31), "rounded up");
    assert_eq!(raw.tcp_keepalive_interval().unwrap(), Duration::from_secs(7));
    assert_eq!(raw.tcp_keepalive_retries().unwrap(), 3);
    stream.set_keepalive(None).unwrap();
    assert!(!stream.keepalive().unwrap());

    stream.set_recv_buffer_size(32 * 1024).unwrap();
    stream.set_send_buffer_size(32 * 1024).unwrap();
    assert!(stream.recv_buffer_size().unwrap() >= 32 * 1024);
    assert!(stream.send_buffer_size().unwrap() >= 32 * 1024);
    assert!(stream.take_error().unwrap().is_none());
}

#[cfg(any(target_os = "linux", target_os = "android"))]
#[test]
fn a_user_timeout_is_rounded_up_and_can_be_reset() {
    let (stream, _theirs) = tcp_pair();
    let asked = |stream: &TcpStream| socket2::SockRef::from(stream).tcp_user_timeout().unwrap();
    assert_eq!(asked(&stream), None);
    let ms = Duration::from_millis;
    for (set, kept) in [
        (ms(1500), ms(1500)),
        (Duration::from_micros(1_500_001), ms(1501)),
        (Duration::ZERO, ms(1)),
    ] {
        stream.set_user_timeout(Some(set)).unwrap();
        assert_eq!(asked(&stream), Some(kept), "{set:?}");
    }
    stream.set_user_timeout(None).unwrap();
    assert_eq!(asked(&stream), None);
}

/// The descriptor's number, for other libraries, and a second handle to the same socket.
#[test]
fn a_duplicate_is_a_source_of_its_own() {
    use std::os::fd::{AsFd, AsRawFd};
    struct Idle(u32);
    impl kodiak_reactor::Handler<u32, ()> for Idle {
        fn readable(
            &mut self,
            _: &mut kodiak_reactor::EventLoop<u32, ()>,
            token: u32,
            _: kodiak_reactor::ReadHint,
        ) {
            self.0 += token;
        }
    }
    let (stream, mut theirs) = tcp_pair();
    assert_eq!(stream.as_raw_fd(), stream.as_fd().as_raw_fd());
    let twin = stream.try_clone().unwrap();
    let mut event_loop = kodiak_reactor::EventLoop::new().unwrap();
    event_loop.register(&stream, 1).unwrap();
    event_loop.register(&twin, 10).unwrap();
    theirs.write_all(b"both").unwrap();
    let mut seen = Idle(0);
    event_loop.run_once(&mut seen, None).unwrap();
    assert_eq!(seen.0, 11);
    drop(stream);
    seen.0 = 0;
    event_loop.run_once(&mut seen, None).unwrap();
    assert_eq!((seen.0, event_loop.source_count()), (10, 1), "one closes, the other stays");
    drop(OwnedFd::from(twin));
    assert_eq!(event_loop.source_count(), 0);
}

/// For what our own `connect` does not offer: an address to come from, an option set beforehand.
#[test]
fn a_connection_started_with_socket2_is_finished_here() {
    let listener = std::net::TcpListener::bind(loopback()).unwrap();
    let target = listener.local_addr().unwrap();
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.set_nonblocking(true).unwrap();
    socket.bind(&"127.0.0.9:0".parse::<SocketAddr>().unwrap().into()).unwrap();
    match socket.connect(&target.into()) {
        Ok(()) => {}
        Err(error) => assert!(kodiak_sys::socket::is_in_progress(&error), "{error}"),
    }
    let stream = connected(TcpStream::connecting(socket.into(), target).unwrap());
    let (_, peer) = listener.accept().unwrap();
    assert_eq!(peer.ip().to_string(), "127.0.0.9");
    assert_eq!(stream.peer_addr().unwrap(), target);
    // No socket listens there: the error names the address that was given.
    let unused = std::net::TcpListener::bind(loopback()).unwrap().local_addr().unwrap();
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.connect(&unused.into()).unwrap_err();
    let error = TcpStream::connecting(socket.into(), unused).unwrap().finish().unwrap_err();
    assert!(error.to_string().contains(&unused.to_string()), "{error}");
}

#[test]
fn bind_options_are_set_before_binding() {
    let options = BindOptions::new()
        .reuse_port(true)
        .reuse_address(true)
        .recv_buffer_size(64 * 1024)
        .send_buffer_size(64 * 1024);
    let first = UdpSocket::bind_with(loopback(), &options).unwrap();
    let second = UdpSocket::bind_with(first.local_addr().unwrap(), &options).unwrap();
    assert_eq!(first.local_addr().unwrap(), second.local_addr().unwrap());
    assert!(second.recv_buffer_size().unwrap() >= 64 * 1024);

    let listener = TcpListener::bind_with(loopback(), &BindOptions::new().backlog(3)).unwrap();
    assert!(
        socket2::SockRef::from(&listener).reuse_address().unwrap(),
        "a server may restart at once"
    );
    listener.set_ttl(9).unwrap();
    assert_eq!(listener.ttl().unwrap(), 9);

    assert!(
        TcpListener::bind_with(loopback(), &BindOptions::new().only_v6(true)).is_err(),
        "not an IPv6 address"
    );
    match TcpListener::bind_with("[::1]:0".parse().unwrap(), &BindOptions::new().only_v6(true)) {
        Ok(listener) => assert!(listener.only_v6().unwrap()),
        // A machine without IPv6.
        Err(error) => assert!(error.to_string().contains("[::1]:0"), "{error}"),
    }
}

#[test]
fn udp_options_are_what_they_were_set_to() {
    let socket = UdpSocket::bind("0.0.0.0:0".parse().unwrap()).unwrap();
    socket.set_broadcast(true).unwrap();
    assert!(socket.broadcast().unwrap());
    socket.set_multicast_loop_v4(false).unwrap();
    assert!(!socket.multicast_loop_v4().unwrap());
    socket.set_multicast_ttl_v4(5).unwrap();
    assert_eq!(socket.multicast_ttl_v4().unwrap(), 5);
    let loopback = std::net::Ipv4Addr::LOCALHOST;
    socket.set_multicast_if_v4(&loopback).unwrap();
    assert_eq!(socket.multicast_if_v4().unwrap(), loopback);
    let group = "239.255.77.7".parse().unwrap();
    socket.join_multicast_v4(&group, &loopback).unwrap();
    assert!(socket.join_multicast_v4(&group, &loopback).is_err(), "joined already");
    socket.leave_multicast_v4(&group, &loopback).unwrap();
    socket.set_ttl(3).unwrap();
    assert_eq!(socket.ttl().unwrap(), 3);
}

#[test]
fn conversions_to_std_and_back_keep_the_socket_usable() {
    let (ours, mut theirs) = tcp_pair();
    let descriptor = OwnedFd::from(ours);
    let ours = TcpStream::try_from(descriptor).unwrap();
    theirs.write_all(b"x").unwrap();
    let mut blocking = ours.into_std();
    blocking.set_nonblocking(false).unwrap();
    blocking.read_exact(&mut [0]).unwrap();

    // A blocking socket of std's is made non-blocking on the way in.
    let mut again = TcpStream::try_from(blocking).unwrap();
    assert_eq!(again.try_read(&mut [0]).unwrap(), None);

    let listener = TcpListener::from_std(std::net::TcpListener::bind(loopback()).unwrap()).unwrap();
    assert!(listener.accept().unwrap().is_none());
    let socket = UdpSocket::try_from(std::net::UdpSocket::bind(loopback()).unwrap()).unwrap();
    assert_eq!(socket.try_recv(&mut [0]).unwrap(), None);
    let (left, _right) = std::os::unix::net::UnixStream::pair().unwrap();
    let mut left = UnixStream::try_from(OwnedFd::from(left)).unwrap();
    assert_eq!(left.try_read(&mut [0]).unwrap(), None);
}

#[test]
fn accepted_streams_do_not_block() {
    let listener = TcpListener::bind(loopback()).unwrap();
    let client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    until_readable(&listener);
    let (mut stream, peer) = listener.accept().unwrap().unwrap();
    assert_eq!(peer, client.local_addr().unwrap());
    assert_eq!(stream.peer_addr().unwrap(), peer);
    assert_eq!(stream.try_read(&mut [0]).unwrap(), None);
    assert!(listener.accept().unwrap().is_none());
}
