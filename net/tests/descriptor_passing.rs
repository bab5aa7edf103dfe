//! Descriptors, identities and abstract names over Unix sockets, in the loop.

mod common;

use std::io::{ErrorKind, Write};
use std::os::fd::{AsFd, OwnedFd};

use common::{TEST_TIMEOUT, until_readable};
use kodiak_net::{TryRead, TryRecv, UnixDatagram, UnixStream, pipe};
use kodiak_reactor::{EventLoop, Handler, ReadHint};

/// A server hands its client's connection to a worker, which answers on it: what descriptor passing
/// is for.
#[test]
fn a_connection_is_handed_over_and_goes_on() {
    struct Worker {
        orders: UnixStream,
        descriptors: Vec<OwnedFd>,
    }
    impl Handler<(), ()> for Worker {
        fn readable(&mut self, event_loop: &mut EventLoop<(), ()>, _: (), _: ReadHint) {
            let mut order = [0; 16];
            let received = self
                .orders
                .try_recv_with_descriptors(&mut order, &mut self.descriptors, 1)
                .unwrap()
                .unwrap();
            assert_eq!((&order[..received.bytes], received.descriptors), (&b"serve"[..], 1));
            let mut client = UnixStream::try_from(self.descriptors.pop().unwrap()).unwrap();
            client.write_all(b"at your service").unwrap();
            event_loop.shutdown();
        }
        fn timeout(&mut self, _: &mut EventLoop<(), ()>, _: ()) {
            panic!("no order came");
        }
    }
    let (server, orders) = UnixStream::pair().unwrap();
    let (mut client, at_server) = UnixStream::pair().unwrap();
    let mut event_loop = EventLoop::new().unwrap();
    event_loop.register(&orders, ()).unwrap();
    event_loop.timeout((), TEST_TIMEOUT).unwrap();
    assert_eq!(server.try_send_with_descriptors(b"serve", &[at_server.as_fd()]).unwrap(), Some(5));
    drop(at_server);
    event_loop.run(&mut Worker { orders, descriptors: Vec::new() }).unwrap();
    until_readable(&client);
    assert_eq!(client.try_read(&mut [0; 32]).unwrap(), Some(15));
    assert_eq!(
        client.try_read(&mut [0; 32]).unwrap(),
        Some(0),
        "the connection has no other owner"
    );
}

#[test]
fn datagrams_carry_descriptors_to_a_peer_and_to_an_address() {
    let folder = tempfile::tempdir().unwrap();
    let receiver = UnixDatagram::bind(folder.path().join("post")).unwrap();
    let sender = UnixDatagram::unbound().unwrap();
    let mut descriptors = Vec::new();
    assert_eq!(receiver.try_recv_with_descriptors(&mut [0; 8], &mut descriptors, 4).unwrap(), None);
    let (mut pipe_sender, pipe_receiver) = pipe::new().unwrap();
    let address = receiver.local_addr().unwrap();
    assert_eq!(
        sender.send_with_descriptors_to(b"one", &[pipe_receiver.as_fd()], &address).unwrap(),
        3
    );
    sender.connect_addr(&address).unwrap();
    assert_eq!(sender.send_with_descriptors(b"four", &[pipe_receiver.as_fd(); 2]).unwrap(), 4);
    for (bytes, count) in [(3, 1), (4, 2)] {
        let received = receiver.recv_with_descriptors(&mut [0; 8], &mut descriptors, 4).unwrap();
        assert_eq!(
            (received.bytes, received.descriptors, received.descriptors_lost),
            (bytes, count, false)
        );
    }
    pipe_sender.write_all(b"x").unwrap();
    let mut duplicate = pipe::Receiver::try_from(descriptors.pop().unwrap()).unwrap();
    assert_eq!(duplicate.try_read(&mut [0; 8]).unwrap(), Some(1));
}

#[test]
fn sending_descriptors_to_a_full_peer_is_none() {
    let (left, right) = UnixDatagram::pair().unwrap();
    let (sender, mut receiver) = pipe::new().unwrap();
    let mut sent = 0;
    while left.try_send_with_descriptors(b"x", &[sender.as_fd()]).unwrap().is_some() {
        sent += 1;
    }
    assert!(sent > 0);
    drop(sender);
    assert_eq!(receiver.try_read(&mut [0]).unwrap(), None, "descriptors on their way are open");
    drop(right);
    assert_eq!(
        receiver.try_read(&mut [0]).unwrap(),
        Some(0),
        "and closed when they are not received"
    );
}

#[test]
fn a_plain_read_closes_the_descriptors_it_skips() {
    let (left, mut right) = UnixStream::pair().unwrap();
    let (sender, mut receiver) = pipe::new().unwrap();
    left.send_with_descriptors(b"x", &[sender.as_fd()]).unwrap();
    drop(sender);
    assert_eq!(right.try_read(&mut [0; 8]).unwrap(), Some(1));
    assert_eq!(receiver.try_read(&mut [0]).unwrap(), Some(0));
}

#[test]
fn the_peer_s_credentials_come_from_the_kernel() {
    let (left, _right) = UnixStream::pair().unwrap();
    let peer = left.peer_credentials().unwrap();
    if cfg!(target_os = "linux") {
        assert_eq!(peer.pid, Some(std::process::id()));
    }
    let (datagram, _right) = UnixDatagram::pair().unwrap();
    // Some systems know the peers of streams only.
    if let Ok(credentials) = datagram.peer_credentials() {
        assert_eq!((credentials.uid, credentials.gid), (peer.uid, peer.gid));
    }
    assert!(UnixDatagram::unbound().unwrap().peer_credentials().is_err());
}

#[cfg(target_os = "linux")]
#[test]
fn abstract_names_serve_datagrams_too() {
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::SocketAddr;

    let name = format!("kodiak-net-datagram-{}", std::process::id());
    let address = SocketAddr::from_abstract_name(&name).unwrap();
    let receiver = UnixDatagram::bind_addr(&address).unwrap();
    assert_eq!(UnixDatagram::bind_addr(&address).unwrap_err().kind(), ErrorKind::AddrInUse);
    let sender_address = SocketAddr::from_abstract_name(format!("{name}-sender")).unwrap();
    let sender = UnixDatagram::bind_addr(&sender_address).unwrap();
    assert_eq!(sender.try_send_to_addr(b"one", &address).unwrap(), Some(3));
    sender.connect_addr(&address).unwrap();
    assert_eq!(sender.try_send(b"two!").unwrap(), Some(4));
    assert_eq!(sender.peer_addr().unwrap().as_abstract_name(), Some(name.as_bytes()));
    let mut buffer = [0; 8];
    let (count, from) = receiver.try_recv_from(&mut buffer).unwrap().unwrap();
    assert_eq!((count, from.as_abstract_name()), (3, sender_address.as_abstract_name()));
    assert_eq!(receiver.try_recv(&mut buffer).unwrap(), Some(4));
    drop(receiver);
    assert_eq!(
        sender.send(b"x").unwrap_err().kind(),
        ErrorKind::ConnectionRefused,
        "the name went with the socket"
    );
    UnixDatagram::bind_addr(&address).unwrap();
}

#[test]
fn unix_datagrams_by_path_shut_down_and_connect() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("den");
    let sender = UnixDatagram::unbound().unwrap();
    assert_eq!(sender.try_send_to(b"x", &path).unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(sender.connect(&path).unwrap_err().kind(), ErrorKind::NotFound);
    let receiver = UnixDatagram::bind(&path).unwrap();
    assert_eq!(sender.try_send_to(b"xyz", &path).unwrap(), Some(3));
    let mut buffer = [0; 2];
    let (count, from) = receiver.try_recv_from(&mut buffer).unwrap().unwrap();
    assert!(from.is_unnamed());
    assert_eq!((count, &buffer), (2, b"xy"), "cut to the buffer");
    sender.connect(&path).unwrap();
    sender.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(sender.send(b"x").unwrap_err().kind(), ErrorKind::BrokenPipe);
}
