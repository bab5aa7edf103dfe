//! Beyond a datagram at a time: batches, multicast, broadcast.

mod common;

use std::io::ErrorKind;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use common::{TEST_TIMEOUT, skip_on_libkqueue, until_readable};
use kodiak_net::{BindOptions, RecvBatch, SendBatch, TryRecv, UdpSocket, UnixDatagram};
use kodiak_reactor::{EventLoop, Handler, Interest, ReadHint, Trigger};

fn loopback() -> SocketAddr {
    "127.0.0.1:0".parse().unwrap()
}

#[derive(Clone, Copy, PartialEq, Debug)]
enum Side {
    Server,
    Client,
}

/// A server that answers batches with batches, and a client that asks until all its questions are
/// answered.
struct Exchange {
    server: UdpSocket,
    client: UdpSocket,
    received: RecvBatch,
    answers: SendBatch,
    questions: SendBatch,
    asked: u32,
    answered: u32,
}

const QUESTIONS: u32 = 1000;

impl Exchange {
    /// Asks as much as one batch holds; the next when these are answered, so that no buffer
    /// overflows.
    fn ask(&mut self) {
        while self.asked < QUESTIONS && self.questions.push(&self.asked.to_be_bytes(), None).is_ok()
        {
            self.asked += 1;
        }
        while !self.questions.is_empty()
            && self.client.try_send_batch(&mut self.questions).unwrap().is_some()
        {}
    }
}

impl Handler<Side, ()> for Exchange {
    fn readable(&mut self, event_loop: &mut EventLoop<Side, ()>, side: Side, _: ReadHint) {
        match side {
            Side::Server => {
                while self.server.try_recv_batch(&mut self.received).unwrap().is_some() {
                    for question in self.received.iter() {
                        self.answers.push(question.bytes, question.from).unwrap();
                    }
                    assert_eq!(
                        self.server.send_batch(&mut self.answers).unwrap(),
                        self.received.len()
                    );
                }
            }
            Side::Client => {
                while self.client.try_recv_batch(&mut self.received).unwrap().is_some() {
                    for answer in self.received.iter() {
                        assert_eq!(answer.bytes, self.answered.to_be_bytes());
                        self.answered += 1;
                    }
                }
                if self.answered == QUESTIONS {
                    return event_loop.shutdown();
                }
                if self.answered == self.asked {
                    self.ask();
                }
            }
        }
    }

    fn timeout(&mut self, _: &mut EventLoop<Side, ()>, _: Side) {
        panic!("{} of {} answered", self.answered, self.asked);
    }
}

fn exchange(received: RecvBatch, answers: SendBatch, questions: SendBatch) {
    let (server, client) =
        (UdpSocket::bind(loopback()).unwrap(), UdpSocket::bind(loopback()).unwrap());
    client.connect(server.local_addr().unwrap()).unwrap();
    let mut event_loop = EventLoop::new().unwrap();
    event_loop.register_opt(&server, Side::Server, Interest::READABLE, Trigger::Edge).unwrap();
    event_loop.register(&client, Side::Client).unwrap();
    event_loop.timeout(Side::Client, TEST_TIMEOUT).unwrap();
    let mut exchange =
        Exchange { server, client, received, answers, questions, asked: 0, answered: 0 };
    exchange.ask();
    event_loop.run(&mut exchange).unwrap();
}

#[test]
fn batches_are_answered_with_batches() {
    exchange(RecvBatch::new(20, 64), SendBatch::new(20, 1280), SendBatch::new(50, 1280));
}

#[test]
fn batches_work_the_same_one_by_one() {
    let answers = SendBatch::new(20, 1280).one_by_one();
    exchange(RecvBatch::new(20, 64).one_by_one(), answers, SendBatch::new(50, 1280).one_by_one());
}

/// Everything that `left` sends in batches arrives at `right`, in order, however often the
/// receiver's queue is full.
fn pour(mut received: RecvBatch, mut sent: SendBatch) {
    let (left, right) = UnixDatagram::pair().unwrap();
    let (mut next, mut expected, mut refusals) = (0_u32, 0_u32, 0);
    while expected < QUESTIONS {
        while next < QUESTIONS && sent.push(&next.to_be_bytes(), None).is_ok() {
            next += 1;
        }
        if !sent.is_empty() && left.try_send_batch(&mut sent).unwrap().is_some() {
            continue;
        }
        refusals += 1;
        until_readable(&right);
        while right.try_recv_batch(&mut received).unwrap().is_some() {
            for datagram in received.iter() {
                assert_eq!((datagram.bytes, datagram.from), (&expected.to_be_bytes()[..], None));
                expected += 1;
            }
        }
    }
    assert!(refusals > 1, "the queue was never full");
    assert_eq!(right.try_recv_batch(&mut received).unwrap(), None);
}

#[test]
fn batches_go_over_unix_datagrams_too() {
    pour(RecvBatch::new(20, 64), SendBatch::new(50, 1280));
    pour(RecvBatch::new(20, 64).one_by_one(), SendBatch::new(50, 1280).one_by_one());
}

#[test]
fn a_refused_datagram_does_not_break_the_socket() {
    let client = UdpSocket::bind(loopback()).unwrap();
    let closed = UdpSocket::bind(loopback()).unwrap().local_addr().unwrap();
    client.connect(closed).unwrap();
    let mut batch = SendBatch::new(4, 64);
    batch.push(b"hello", None).unwrap();
    assert_eq!(client.send_batch(&mut batch).unwrap(), 1);
    until_readable(&client);
    if skip_on_libkqueue("leaves no error on the socket that it reports one of") {
        return;
    }
    let mut answers = RecvBatch::new(4, 64);
    assert_eq!(
        client.try_recv_batch(&mut answers).unwrap_err().kind(),
        ErrorKind::ConnectionRefused
    );
    assert_eq!(client.try_recv_batch(&mut answers).unwrap(), None);
}

/// A member of `group` on an interface, by its address, and a sender to it. Nothing leaves this
/// machine.
fn members_v4(group: Ipv4Addr, interface: Ipv4Addr) -> (UdpSocket, UdpSocket, SocketAddr) {
    let member = UdpSocket::bind("0.0.0.0:0".parse().unwrap()).unwrap();
    member.join_multicast_v4(&group, &interface).unwrap();
    let sender = UdpSocket::bind((interface, 0).into()).unwrap();
    sender.set_multicast_if_v4(&interface).unwrap();
    sender.set_multicast_ttl_v4(0).unwrap();
    let to = SocketAddr::from((group, member.local_addr().unwrap().port()));
    (member, sender, to)
}

#[test]
fn multicast_v4_goes_both_ways() {
    let (member, sender, to) = members_v4(Ipv4Addr::new(239, 255, 77, 11), Ipv4Addr::LOCALHOST);
    sender.send_to(b"all of you", to).unwrap();
    until_readable(&member);
    let mut buffer = [0; 32];
    let (count, from) = member.try_recv_from(&mut buffer).unwrap().unwrap();
    assert_eq!((&buffer[..count], from), (&b"all of you"[..], sender.local_addr().unwrap()));
    member.send_to(b"here", from).unwrap();
    until_readable(&sender);
    assert_eq!(sender.try_recv(&mut buffer).unwrap(), Some(4));
}

/// The address of the interface that multicasts leave by, if there is one beside loopback.
fn outward_v4(group: Ipv4Addr) -> Option<Ipv4Addr> {
    let asking = UdpSocket::bind("0.0.0.0:0".parse().unwrap()).unwrap();
    asking.connect((group, 9).into()).ok()?;
    match asking.local_addr().unwrap() {
        SocketAddr::V4(address) if !address.ip().is_loopback() => Some(*address.ip()),
        _ => None,
    }
}

#[test]
fn a_socket_out_of_a_v4_group_receives_nothing() {
    let group = Ipv4Addr::new(239, 255, 77, 12);
    let outward = outward_v4(group);
    let (member, sender, to) = members_v4(group, outward.unwrap_or(Ipv4Addr::LOCALHOST));
    if outward.is_some() {
        // The loopback interface returns everything, whatever this says.
        sender.set_multicast_loop_v4(false).unwrap();
        sender.send_to(b"not to this machine", to).unwrap();
        sender.set_multicast_loop_v4(true).unwrap();
    }
    sender.send_to(b"to you", to).unwrap();
    let mut buffer = [0; 32];
    until_readable(&member);
    assert_eq!(member.try_recv(&mut buffer).unwrap(), Some(6));

    member.leave_multicast_v4(&group, &outward.unwrap_or(Ipv4Addr::LOCALHOST)).unwrap();
    sender.send_to(b"to others", to).unwrap();
    // What comes after it has come: datagrams of one sender keep their order here.
    sender
        .send_to(b"direct", SocketAddr::from((Ipv4Addr::LOCALHOST, to.port())))
        .or_else(|_| {
            // Not from an address of another interface: then from any.
            UdpSocket::bind(loopback())
                .unwrap()
                .send_to(b"direct", (Ipv4Addr::LOCALHOST, to.port()).into())
        })
        .unwrap();
    until_readable(&member);
    assert_eq!(member.try_recv(&mut buffer).unwrap(), Some(6));
    assert_eq!(&buffer[..6], b"direct");
}

/// An interface, by its number, that is up and knows multicast.
#[cfg(target_os = "linux")]
fn multicast_interface() -> Option<u32> {
    const UP_AND_MULTICAST: u32 = 0x1001;
    let read = |path: std::path::PathBuf| std::fs::read_to_string(path).ok();
    std::fs::read_dir("/sys/class/net").ok()?.flatten().find_map(|interface| {
        let flags = read(interface.path().join("flags"))?;
        let flags = u32::from_str_radix(flags.trim().trim_start_matches("0x"), 16).ok()?;
        (flags & UP_AND_MULTICAST == UP_AND_MULTICAST).then_some(())?;
        read(interface.path().join("ifindex"))?.trim().parse().ok()
    })
}

#[cfg(target_os = "linux")]
#[test]
fn multicast_v6_goes_both_ways() {
    // Interface-local: it does not leave this machine.
    let group: Ipv6Addr = "ff01::4b:4f44".parse().unwrap();
    let Some(interface) = multicast_interface() else {
        return eprintln!("skipped: no interface knows multicast");
    };
    let v6_only = BindOptions::new().only_v6(true);
    let Ok(sender) = UdpSocket::bind_with("[::]:0".parse().unwrap(), &v6_only) else {
        return eprintln!("skipped: no IPv6 here");
    };
    let member = UdpSocket::bind("[::]:0".parse().unwrap()).unwrap();
    if let Err(error) = member.join_multicast_v6(&group, interface) {
        return eprintln!("skipped: no IPv6 on interface {interface}: {error}");
    }
    assert!(member.join_multicast_v6(&group, interface).is_err(), "joined already");
    sender.set_multicast_if_v6(interface).unwrap();
    assert_eq!(sender.multicast_if_v6().unwrap(), interface);
    sender.set_multicast_hops_v6(3).unwrap();
    assert_eq!(sender.multicast_hops_v6().unwrap(), 3);
    let to = SocketAddr::from((group, member.local_addr().unwrap().port()));
    sender.set_multicast_loop_v6(false).unwrap();
    assert!(!sender.multicast_loop_v6().unwrap());
    sender.send_to(b"not to this machine", to).unwrap();
    sender.set_multicast_loop_v6(true).unwrap();
    sender.send_to(b"all of you", to).unwrap();
    until_readable(&member);
    let mut buffer = [0; 32];
    let (count, from) = member.try_recv_from(&mut buffer).unwrap().unwrap();
    assert_eq!(&buffer[..count], b"all of you");
    member.send_to(b"here", from).unwrap();
    until_readable(&sender);
    assert_eq!(sender.try_recv(&mut buffer).unwrap(), Some(4));

    member.leave_multicast_v6(&group, interface).unwrap();
    sender.send_to(b"to others", to).unwrap();
    sender.send_to(b"direct", SocketAddr::from((Ipv6Addr::LOCALHOST, to.port()))).unwrap();
    until_readable(&member);
    assert_eq!(member.try_recv(&mut buffer).unwrap(), Some(6), "it has left");
}

#[cfg(target_os = "linux")]
#[test]
fn broadcasts_need_the_option_and_arrive() {
    let receiver = UdpSocket::bind("0.0.0.0:0".parse().unwrap()).unwrap();
    let sender = UdpSocket::bind(loopback()).unwrap();
    let to = SocketAddr::from((
        Ipv4Addr::new(127, 255, 255, 255),
        receiver.local_addr().unwrap().port(),
    ));
    assert_eq!(sender.send_to(b"hear ye", to).unwrap_err().kind(), ErrorKind::PermissionDenied);
    sender.set_broadcast(true).unwrap();
    sender.send_to(b"hear ye", to).unwrap();
    until_readable(&receiver);
    assert_eq!(receiver.try_recv(&mut [0; 16]).unwrap(), Some(7));
}

#[cfg(target_os = "linux")]
#[test]
fn sockets_that_share_a_port_share_what_arrives() {
    let options = BindOptions::new().reuse_port(true);
    let first = UdpSocket::bind_with(loopback(), &options).unwrap();
    let address = first.local_addr().unwrap();
    assert!(socket2::SockRef::from(&first).reuse_port().unwrap());
    assert_eq!(
        UdpSocket::bind(address).unwrap_err().kind(),
        ErrorKind::AddrInUse,
        "all have to want it"
    );
    let second = UdpSocket::bind_with(address, &options).unwrap();
    // Linux spreads senders over the sockets by a hash: sixty-four heads and no tail would be
    // strange.
    let mut buffer = [0; 8];
    let mut received_count = [0; 2];
    for _ in 0..64 {
        let sender = UdpSocket::bind(loopback()).unwrap();
        sender.send_to(b"x", address).unwrap();
    }
    while received_count[0] + received_count[1] < 64 {
        for (count, socket) in received_count.iter_mut().zip([&first, &second]) {
            while socket.try_recv(&mut buffer).unwrap().is_some() {
                *count += 1;
            }
        }
    }
    assert!(received_count[0] > 0 && received_count[1] > 0, "{received_count:?}");
}
