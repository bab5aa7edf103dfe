//! Many datagrams in one call, and one call for each datagram.

mod common;

use common::{libkqueue_lacks, readiness_until, watching};
use kodiak_sys::socket::{self, PushError, RecvBatch, SendBatch};
use kodiak_sys::{Interest, Readiness, Trigger};
use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsFd;
use std::os::unix::net::UnixDatagram;

/// Runs a test with one call for a batch, and with one call for each datagram.
fn both(test: impl Fn(fn(RecvBatch) -> RecvBatch, fn(SendBatch) -> SendBatch)) {
    test(|batch| batch, |batch| batch);
    test(RecvBatch::one_by_one, SendBatch::one_by_one);
}

fn pair(address: &str) -> Option<(UdpSocket, UdpSocket)> {
    Some((UdpSocket::bind(address).ok()?, UdpSocket::bind(address).ok()?))
}

fn v4() -> (UdpSocket, UdpSocket) {
    pair("127.0.0.1:0").unwrap()
}

fn until_readable(socket: &impl AsFd) {
    readiness_until(&watching(socket, Interest::READABLE, Trigger::Level), Readiness::is_readable);
}

#[test]
fn a_batch_arrives_in_order_with_its_sender() {
    both(|recv, send| {
        for (left, right) in ["127.0.0.1:0", "[::1]:0"].into_iter().filter_map(pair) {
            let mut outgoing = send(SendBatch::new(10, 100));
            for text in ["one", "", "three"] {
                outgoing.push(text.as_bytes(), Some(right.local_addr().unwrap())).unwrap();
            }
            assert_eq!(outgoing.send(left.as_fd()).unwrap(), 3);
            assert!(outgoing.is_empty());
            let mut incoming = recv(RecvBatch::new(10, 10));
            let mut seen = Vec::new();
            while seen.len() < 3 {
                until_readable(&right);
                assert!(incoming.recv(right.as_fd()).unwrap() > 0);
                for datagram in incoming.iter() {
                    assert_eq!(datagram.from, Some(left.local_addr().unwrap()));
                    assert!(!datagram.is_truncated);
                    seen.push(datagram.bytes.to_vec());
                }
            }
            assert_eq!(seen, [&b"one"[..], b"", b"three"]);
        }
    });
}

#[test]
fn a_blocking_socket_without_a_datagram_is_not_waited_for() {
    both(|recv, send| {
        let (left, _right) = v4();
        let mut incoming = recv(RecvBatch::new(4, 16));
        assert_eq!(incoming.recv(left.as_fd()).unwrap_err().kind(), ErrorKind::WouldBlock);
        assert!(incoming.is_empty() && incoming.get(0).is_none());
        assert_eq!(send(SendBatch::new(4, 16)).send(left.as_fd()).unwrap(), 0);
    });
}

#[test]
fn datagrams_that_do_not_fit_come_in_the_next_call() {
    both(|recv, _| {
        let (left, right) = v4();
        left.connect(right.local_addr().unwrap()).unwrap();
        for byte in 0..5 {
            left.send(&[byte]).unwrap();
        }
        let mut incoming = recv(RecvBatch::new(2, 16));
        let mut seen = Vec::new();
        while seen.len() < 5 {
            until_readable(&right);
            let count = incoming.recv(right.as_fd()).unwrap();
            assert!(count <= 2 && count == incoming.len() && incoming.iter().len() == count);
            assert_eq!(incoming.is_full(), count == 2);
            assert!(incoming.get(count).is_none());
            seen.extend(incoming.iter().map(|datagram| datagram.bytes[0]));
        }
        assert_eq!(seen, [0, 1, 2, 3, 4]);
        assert_eq!(incoming.recv(right.as_fd()).unwrap_err().kind(), ErrorKind::WouldBlock);
        assert_eq!(incoming.len(), 0);
    });
}

#[test]
fn a_truncated_datagram_is_marked() {
    both(|recv, _| {
        let (left, right) = v4();
        for text in [&b"exact"[..], b"longer", b"short"] {
            left.send_to(text, right.local_addr().unwrap()).unwrap();
        }
        let mut incoming = recv(RecvBatch::new(3, 5));
        let mut seen = Vec::new();
        while seen.len() < 3 {
            until_readable(&right);
            incoming.recv(right.as_fd()).unwrap();
            seen.extend(
                incoming.iter().map(|datagram| (datagram.bytes.to_vec(), datagram.is_truncated)),
            );
        }
        assert_eq!(
            seen,
            [(b"exact".to_vec(), false), (b"longe".to_vec(), true), (b"short".to_vec(), false)]
        );
    });
}

#[test]
fn a_datagram_that_cannot_be_sent_can_be_skipped() {
    both(|_, send| {
        let (left, right) = v4();
        let to = right.local_addr().unwrap();
        let mut outgoing = send(SendBatch::new(4, 100_000));
        outgoing.push(b"before", Some(to)).unwrap();
        outgoing.push(&[0; 66_000], Some(to)).unwrap(); // longer than any UDP datagram
        outgoing.push(b"after", Some(to)).unwrap();
        assert_eq!(outgoing.send(left.as_fd()).unwrap(), 1);
        assert_eq!(outgoing.len(), 2);
        assert_eq!(outgoing.send(left.as_fd()).unwrap_err().raw_os_error(), Some(libc::EMSGSIZE));
        assert_eq!(outgoing.len(), 2);
        assert!(outgoing.skip());
        assert_eq!(outgoing.send(left.as_fd()).unwrap(), 1);
        assert!(outgoing.is_empty() && !outgoing.skip());
        right.recv(&mut [0; 8]).unwrap();
        let mut last = [0; 8];
        assert_eq!(right.recv(&mut last).unwrap(), 5);
        assert_eq!(&last[..5], b"after");
    });
}

#[test]
fn a_full_queue_at_the_receiver_keeps_the_rest() {
    // Unix datagrams have flow control: the kernel refuses some once the receiver's queue is full.
    both(|recv, send| {
        let (left, right) = UnixDatagram::pair().unwrap();
        let mut outgoing = send(SendBatch::new(1024, 4096));
        let mut sent = 0_u32;
        let error = loop {
            while outgoing.push(&sent.to_ne_bytes(), None).is_ok() {
                sent += 1;
            }
            if let Err(error) = outgoing.send(left.as_fd()) {
                break error;
            }
        };
        assert_eq!(error.kind(), ErrorKind::WouldBlock);
        let mut incoming = recv(RecvBatch::new(100, 4));
        let mut expected = 0_u32;
        while expected < sent {
            match incoming.recv(right.as_fd()) {
                Ok(_) => {
                    for datagram in incoming.iter() {
                        assert_eq!(
                            (datagram.bytes, datagram.from),
                            (&expected.to_ne_bytes()[..], None)
                        );
                        expected += 1;
                    }
                }
                Err(_) => assert!(outgoing.send(left.as_fd()).unwrap() > 0),
            }
        }
        assert!(outgoing.is_empty());
    });
}

#[test]
fn an_earlier_refusal_is_an_error_of_the_next_call() {
    both(|recv, _| {
        let (left, right) = v4();
        left.connect(right.local_addr().unwrap()).unwrap();
        drop(right);
        left.send(b"refused").unwrap();
        readiness_until(&watching(&left, Interest::READABLE, Trigger::Level), Readiness::is_error);
        if libkqueue_lacks("leaves no error on the socket that it reports one of") {
            let error = socket::take_error(left.as_fd()).unwrap().unwrap();
            return assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
        }
        let mut incoming = recv(RecvBatch::new(4, 16));
        assert_eq!(incoming.recv(left.as_fd()).unwrap_err().kind(), ErrorKind::ConnectionRefused);
        assert_eq!(incoming.recv(left.as_fd()).unwrap_err().kind(), ErrorKind::WouldBlock);
    });
}

#[test]
fn a_batch_keeps_its_bounds_and_names_them() {
    let to: SocketAddr = "127.0.0.1:9".parse().unwrap();
    let mut outgoing = SendBatch::new(2, 10);
    assert_eq!(outgoing.push(&[0; 11], Some(to)), Err(PushError::TooLong { bytes_max: 10 }));
    outgoing.push(&[0; 8], Some(to)).unwrap();
    assert_eq!(outgoing.push(&[0; 3], Some(to)), Err(PushError::Full), "too few bytes left");
    outgoing.push(&[0; 2], Some(to)).unwrap();
    assert_eq!(outgoing.push(&[], Some(to)), Err(PushError::Full), "too many datagrams");
    assert!(PushError::Full.to_string().contains("SendBatch::new"));
    outgoing.clear();
    assert!(outgoing.is_empty());
    outgoing.push(&[0; 10], None).unwrap();

    assert_eq!(
        (RecvBatch::new(0, 0).capacity(), RecvBatch::new(usize::MAX, 1).capacity()),
        (1, 1024)
    );
}

#[test]
fn space_of_sent_datagrams_is_reused_before_all_are_sent() {
    let (left, right) = v4();
    let to = right.local_addr().unwrap();
    let mut outgoing = SendBatch::new(3, 70_000);
    outgoing.push(b"ab", Some(to)).unwrap();
    outgoing.push(&[b'x'; 66_000], Some(to)).unwrap();
    outgoing.push(b"cd", Some(to)).unwrap();
    assert_eq!(outgoing.send(left.as_fd()).unwrap(), 1);
    outgoing.push(b"ef", Some(to)).unwrap();
    assert_eq!(outgoing.len(), 3);
    outgoing.skip();
    assert_eq!(outgoing.send(left.as_fd()).unwrap(), 2);
    let mut buffer = [0; 8];
    let texts: Vec<_> = (0..3)
        .map(|_| right.recv(&mut buffer).map(|len| buffer[..len].to_vec()).unwrap())
        .collect();
    assert_eq!(texts, [b"ab", b"cd", b"ef"]);
}

#[test]
fn batches_are_send_and_sync() {
    fn is_send_and_sync<T: Send + Sync>() {}
    is_send_and_sync::<RecvBatch>();
    is_send_and_sync::<SendBatch>();
}
