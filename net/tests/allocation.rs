//! Echoes over every kind of socket, in the loop, allocate nothing.

use std::io::Write;
use std::net::SocketAddr;

use allocation_counter::measure;
use kodiak_net::{
    RecvBatch, SendBatch, TcpListener, TcpStream, TryRead, TryRecv, UdpSocket, UnixDatagram,
    UnixStream, pipe,
};
use kodiak_reactor::{EventLoop, Handler, ReadHint};

fn loopback() -> SocketAddr {
    "127.0.0.1:0".parse().unwrap()
}

/// Runs `turns` callbacks of `handler` and expects no allocation after the first few.
fn expect_none<T: Copy, H: Handler<T, ()>>(event_loop: &mut EventLoop<T, ()>, handler: &mut H) {
    for _ in 0..20 {
        event_loop.run_once(handler, None).unwrap();
    }
    let counted = measure(|| {
        for _ in 0..500 {
            event_loop.run_once(handler, None).unwrap();
        }
    });
    assert_eq!(counted.count_total, 0);
}

/// Sends back what arrives at either end, without end.
struct PingPong<S, F>([S; 2], F);

impl<S, F: FnMut(&mut S)> Handler<usize, ()> for PingPong<S, F> {
    fn readable(&mut self, _: &mut EventLoop<usize, ()>, end: usize, _: ReadHint) {
        (self.1)(&mut self.0[end]);
    }
}

fn register<S: kodiak_reactor::Source>(ends: &[S; 2]) -> EventLoop<usize, ()> {
    let mut event_loop = EventLoop::new().unwrap();
    for (index, end) in ends.iter().enumerate() {
        event_loop.register(end, index).unwrap();
    }
    event_loop
}

fn bounce<S: std::io::Read + Write>(stream: &mut S) {
    let mut buffer = [0; 128];
    let count = stream.try_read(&mut buffer).unwrap().unwrap();
    stream.write_all(&buffer[..count]).unwrap();
}

#[test]
fn an_echo_over_tcp_allocates_nothing() {
    let listener = TcpListener::bind(loopback()).unwrap();
    let left = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let right = loop {
        if let Some((right, _)) = listener.accept().unwrap() {
            break right;
        }
    };
    let mut ends = [TcpStream::from_std(left).unwrap(), right];
    ends.iter().for_each(|end| end.set_nodelay(true).unwrap());
    ends[0].write_all(b"around").unwrap();
    expect_none(&mut register(&ends), &mut PingPong(ends, bounce));
}

#[test]
fn an_echo_over_a_unix_stream_allocates_nothing() {
    let (mut left, right) = UnixStream::pair().unwrap();
    left.write_all(b"around").unwrap();
    let ends = [left, right];
    expect_none(&mut register(&ends), &mut PingPong(ends, bounce));
}

#[test]
fn an_echo_over_udp_allocates_nothing() {
    let ends = [UdpSocket::bind(loopback()).unwrap(), UdpSocket::bind(loopback()).unwrap()];
    ends[0].send_to(b"around", ends[1].local_addr().unwrap()).unwrap();
    let bounce = |socket: &mut UdpSocket| {
        let mut buffer = [0; 128];
        let (count, from) = socket.try_recv_from(&mut buffer).unwrap().unwrap();
        assert_eq!(socket.try_send_to(&buffer[..count], from).unwrap(), Some(count));
    };
    expect_none(&mut register(&ends), &mut PingPong(ends, bounce));
}

#[test]
fn an_echo_in_udp_batches_allocates_nothing() {
    let ends = [UdpSocket::bind(loopback()).unwrap(), UdpSocket::bind(loopback()).unwrap()];
    let (mut incoming, mut outgoing) = (RecvBatch::new(16, 64), SendBatch::new(16, 1024));
    for _ in 0..8 {
        outgoing.push(b"around", Some(ends[1].local_addr().unwrap())).unwrap();
    }
    ends[0].send_batch(&mut outgoing).unwrap();
    let bounce = move |socket: &mut UdpSocket| {
        socket.try_recv_batch(&mut incoming).unwrap().unwrap();
        for datagram in incoming.iter() {
            outgoing.push(datagram.bytes, datagram.from).unwrap();
        }
        assert_eq!(socket.try_send_batch(&mut outgoing).unwrap(), Some(incoming.len()));
    };
    expect_none(&mut register(&ends), &mut PingPong(ends, bounce));
}

#[test]
fn an_echo_in_batches_of_unix_datagrams_allocates_nothing() {
    let ends: [UnixDatagram; 2] = UnixDatagram::pair().unwrap().into();
    let (mut incoming, mut outgoing) = (RecvBatch::new(16, 64), SendBatch::new(16, 1024));
    (0..8).for_each(|_| outgoing.push(b"around", None).unwrap());
    ends[0].send_batch(&mut outgoing).unwrap();
    let bounce = move |socket: &mut UnixDatagram| {
        socket.try_recv_batch(&mut incoming).unwrap().unwrap();
        for datagram in incoming.iter() {
            outgoing.push(datagram.bytes, datagram.from).unwrap();
        }
        assert_eq!(socket.try_send_batch(&mut outgoing).unwrap(), Some(incoming.len()));
    };
    expect_none(&mut register(&ends), &mut PingPong(ends, bounce));
}

#[test]
fn an_echo_in_unix_datagrams_allocates_nothing() {
    let (left, right) = UnixDatagram::pair().unwrap();
    left.send(b"around").unwrap();
    let ends = [left, right];
    let bounce = |socket: &mut UnixDatagram| {
        let mut buffer = [0; 128];
        let count = socket.try_recv(&mut buffer).unwrap().unwrap();
        assert_eq!(socket.try_send(&buffer[..count]).unwrap(), Some(count));
    };
    expect_none(&mut register(&ends), &mut PingPong(ends, bounce));
}

#[test]
fn a_message_around_a_pipe_allocates_nothing() {
    let (mut sender, receiver) = pipe::new().unwrap();
    sender.write_all(b"around").unwrap();
    struct Round(pipe::Sender, pipe::Receiver);
    impl Handler<(), ()> for Round {
        fn readable(&mut self, _: &mut EventLoop<(), ()>, _: (), _: ReadHint) {
            let mut buffer = [0; 16];
            let count = self.1.try_read(&mut buffer).unwrap().unwrap();
            self.0.write_all(&buffer[..count]).unwrap();
        }
    }
    let mut event_loop = EventLoop::new().unwrap();
    event_loop.register(&receiver, ()).unwrap();
    expect_none(&mut event_loop, &mut Round(sender, receiver));
}

#[test]
fn dropping_a_registered_socket_allocates_nothing() {
    struct Idle;
    impl Handler<(), ()> for Idle {}
    let pairs: Vec<_> = (0..10).map(|_| UnixStream::pair().unwrap()).collect();
    let mut event_loop = EventLoop::new().unwrap();
    for (left, right) in &pairs {
        event_loop.register(left, ()).unwrap();
        event_loop.register(right, ()).unwrap();
    }
    let counted = measure(|| drop(pairs));
    assert_eq!(counted.count_total, 0);
    event_loop.run_once(&mut Idle, Some(std::time::Duration::ZERO)).unwrap();
    assert_eq!(event_loop.source_count(), 0);
}
