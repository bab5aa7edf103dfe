//! Sockets in a real event loop: echo, connecting, half-closes, dropping, and that none of it
//! allocates.

mod common;

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::thread;
use std::time::Duration;

use common::{TEST_TIMEOUT, until_readable};
use kodiak_net::{
    BindOptions, ConnectError, Connecting, Fill, Finish, RingBuf, TcpListener, TcpStream, TryRead,
    TryRecv, UdpSocket, UnixDatagram, UnixListener, UnixStream,
};
use kodiak_reactor::{EventLoop, Handler, Interest, ReadHint, RegisterError, Source, Trigger};

fn loopback() -> SocketAddr {
    "127.0.0.1:0".parse().unwrap()
}

/// Echoes what one stream sends until it has sent all; then ends the stream's other direction and
/// the loop.
struct Echo<S> {
    stream: S,
    buffer: RingBuf,
    ended: bool,
    fills_refused: usize,
}

impl<S: Source + Read + Write> Echo<S> {
    fn new(stream: S) -> Echo<S> {
        Echo { stream, buffer: RingBuf::new(4096), ended: false, fills_refused: 0 }
    }

    fn fill(&mut self) {
        match self.buffer.fill_from(&mut self.stream).unwrap() {
            Fill::Closed => self.ended = true,
            Fill::Full => self.fills_refused += 1,
            Fill::Bytes(_) | Fill::WouldBlock => {}
        }
    }

    /// Writes, and asks the loop for exactly what can go on: reading while there is room, writing
    /// while there are bytes.
    fn drain(&mut self, event_loop: &mut EventLoop<(), ()>) {
        self.buffer.drain_to(&mut self.stream).unwrap();
        if self.ended && self.buffer.is_empty() {
            return event_loop.shutdown();
        }
        let mut interest =
            if self.buffer.is_empty() { Interest::READABLE } else { Interest::WRITABLE };
        if !self.ended && !self.buffer.is_full() {
            interest |= Interest::READABLE;
        }
        event_loop.reregister(&self.stream, (), interest, Trigger::Level).unwrap();
    }
}

impl<S: Source + Read + Write> Handler<(), ()> for Echo<S> {
    fn readable(&mut self, event_loop: &mut EventLoop<(), ()>, _: (), _: ReadHint) {
        self.fill();
        self.drain(event_loop);
    }

    fn writable(&mut self, event_loop: &mut EventLoop<(), ()>, _: ()) {
        self.drain(event_loop);
    }
}

const PAYLOAD: usize = 1 << 20;

/// Sends a megabyte on one thread and reads it back on another, so that neither side can run away
/// from the other.
fn client<S: Read + Send + 'static, W: Write>(
    mut reader: S,
    mut writer: W,
    finish: impl FnOnce(W),
) {
    let sent: Vec<u8> = (0..PAYLOAD).map(|index| ((index * 31) >> 3) as u8).collect();
    let expected = sent.clone();
    let reading = thread::spawn(move || {
        let mut received = Vec::new();
        reader.read_to_end(&mut received).unwrap();
        assert!(received == expected, "the echo differs");
    });
    writer.write_all(&sent).unwrap();
    finish(writer);
    reading.join().unwrap();
}

fn serve<S: Source + Read + Write>(stream: S) {
    let mut event_loop = EventLoop::new().unwrap();
    event_loop.register(&stream, ()).unwrap();
    let mut echo = Echo::new(stream);
    event_loop.run(&mut echo).unwrap();
    assert!(echo.ended && echo.buffer.is_empty());
    assert_eq!(echo.fills_refused, 0, "a full buffer is not asked to read");
}

#[test]
fn a_half_closed_tcp_peer_gets_its_whole_echo() {
    let listener = TcpListener::bind(loopback()).unwrap();
    let address = listener.local_addr().unwrap();
    let client = thread::spawn(move || {
        let stream = std::net::TcpStream::connect(address).unwrap();
        client(stream.try_clone().unwrap(), stream, |stream| {
            stream.shutdown(Shutdown::Write).unwrap()
        });
    });
    serve(accept_in_loop(&listener, |listener| {
        listener.accept().unwrap().map(|(stream, _)| stream)
    }));
    client.join().unwrap();
}

#[test]
fn a_half_closed_unix_peer_gets_its_whole_echo() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("echo");
    let listener = UnixListener::bind(&path).unwrap();
    let client = thread::spawn(move || {
        let stream = StdUnixStream::connect(path).unwrap();
        client(stream.try_clone().unwrap(), stream, |stream| {
            stream.shutdown(Shutdown::Write).unwrap()
        });
    });
    serve(accept_in_loop(&listener, |listener| {
        listener.accept().unwrap().map(|(stream, _)| stream)
    }));
    client.join().unwrap();
}

/// Waits in a loop until `listener` has a connection.
fn accept_in_loop<L: Source, S>(listener: &L, accept: impl Fn(&L) -> Option<S>) -> S {
    struct Accepting<'a, L, S, A> {
        listener: &'a L,
        accept: A,
        accepted: Option<S>,
    }
    impl<L, S, A: Fn(&L) -> Option<S>> Handler<(), ()> for Accepting<'_, L, S, A> {
        fn readable(&mut self, event_loop: &mut EventLoop<(), ()>, _: (), _: ReadHint) {
            self.accepted = (self.accept)(self.listener);
            if self.accepted.is_some() {
                event_loop.shutdown();
            }
        }
    }
    let mut event_loop = EventLoop::new().unwrap();
    event_loop.register(listener, ()).unwrap();
    let mut accepting = Accepting { listener, accept, accepted: None };
    event_loop.run(&mut accepting).unwrap();
    accepting.accepted.unwrap()
}

#[derive(Clone, Copy, PartialEq, Debug)]
enum Side {
    Server,
    Client,
}

#[test]
fn udp_datagrams_are_echoed_to_their_sender() {
    struct Ping {
        server: UdpSocket,
        client: UdpSocket,
        answers: Vec<Vec<u8>>,
    }
    impl Handler<Side, ()> for Ping {
        fn readable(&mut self, event_loop: &mut EventLoop<Side, ()>, side: Side, _: ReadHint) {
            let mut buffer = [0; 64];
            match side {
                Side::Server => {
                    while let Some((count, peer)) = self.server.try_recv_from(&mut buffer).unwrap()
                    {
                        assert_eq!(
                            self.server.try_send_to(&buffer[..count], peer).unwrap(),
                            Some(count)
                        );
                    }
                }
                Side::Client => {
                    while let Some(count) = self.client.try_recv(&mut buffer).unwrap() {
                        self.answers.push(buffer[..count].to_vec());
                    }
                    if self.answers.len() == 3 {
                        event_loop.shutdown();
                    }
                }
            }
        }
    }
    let server = UdpSocket::bind(loopback()).unwrap();
    let client = UdpSocket::bind(loopback()).unwrap();
    client.connect(server.local_addr().unwrap()).unwrap();
    let mut event_loop = EventLoop::new().unwrap();
    event_loop.register(&server, Side::Server).unwrap();
    event_loop.register(&client, Side::Client).unwrap();
    for text in ["one", "", "three"] {
        client.send(text.as_bytes()).unwrap();
    }
    let mut ping = Ping { server, client, answers: Vec::new() };
    event_loop.run(&mut ping).unwrap();
    assert_eq!(ping.answers, [&b"one"[..], b"", b"three"]);
}

/// Drives one `Connecting` to its end in a loop.
struct Connector<S> {
    connecting: Option<Connecting<S>>,
    outcome: Option<Result<S, ConnectError>>,
    in_progress: usize,
}

impl<S: Source> Connector<S> {
    fn new(connecting: Connecting<S>) -> Connector<S> {
        Connector { connecting: Some(connecting), outcome: None, in_progress: 0 }
    }

    fn run(&mut self, event_loop: &mut EventLoop<Side, ()>) {
        let timeout = event_loop.timeout(Side::Client, TEST_TIMEOUT).unwrap();
        event_loop.run(self).unwrap();
        event_loop.clear_timeout(timeout).unwrap();
    }

    fn ask(&mut self, event_loop: &mut EventLoop<Side, ()>) {
        match self.connecting.take().unwrap().finish() {
            Ok(Finish::Connected(stream)) => self.outcome = Some(Ok(stream)),
            Ok(Finish::InProgress(connecting)) => {
                self.in_progress += 1;
                self.connecting = Some(connecting);
            }
            Err(error) => self.outcome = Some(Err(error)),
        }
        if self.outcome.is_some() {
            event_loop.shutdown();
        }
    }
}

impl<S: Source> Handler<Side, ()> for Connector<S> {
    fn writable(&mut self, event_loop: &mut EventLoop<Side, ()>, side: Side) {
        assert_eq!(side, Side::Client);
        self.ask(event_loop);
    }

    fn timeout(&mut self, _: &mut EventLoop<Side, ()>, _: Side) {
        panic!("neither connected nor refused; still in progress after {} calls", self.in_progress);
    }
}

/// Number of sources after a turn, in which dropped ones are removed.
fn sources_left(event_loop: &mut EventLoop<Side, ()>) -> usize {
    struct Idle;
    impl Handler<Side, ()> for Idle {}
    event_loop.run_once(&mut Idle, Some(Duration::ZERO)).unwrap();
    event_loop.source_count()
}

#[test]
fn the_registration_of_a_connecting_carries_over_to_its_stream() {
    struct Reading(TcpStream);
    impl Handler<Side, ()> for Reading {
        fn readable(&mut self, event_loop: &mut EventLoop<Side, ()>, side: Side, _: ReadHint) {
            assert_eq!(side, Side::Server);
            assert_eq!(self.0.try_read(&mut [0; 8]).unwrap(), Some(5));
            event_loop.shutdown();
        }
        fn writable(&mut self, _: &mut EventLoop<Side, ()>, _: Side) {
            panic!("it was reregistered for readable");
        }
    }

    let listener = TcpListener::bind(loopback()).unwrap();
    let connecting = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    assert_eq!(connecting.address().to_string(), listener.local_addr().unwrap().to_string());
    let mut event_loop = EventLoop::new().unwrap();
    event_loop.register_opt(&connecting, Side::Client, Interest::WRITABLE, Trigger::Level).unwrap();
    let mut connector = Connector::new(connecting);
    connector.run(&mut event_loop);
    let stream = connector.outcome.unwrap().unwrap();

    let twice = event_loop.register(&stream, Side::Server);
    assert!(matches!(twice, Err(RegisterError::AlreadyRegistered)));
    event_loop.reregister(&stream, Side::Server, Interest::READABLE, Trigger::Level).unwrap();
    assert_eq!(event_loop.source_count(), 1);
    until_readable(&listener);
    let (mut peer, _) = listener.accept().unwrap().unwrap();
    peer.write_all(b"ahead").unwrap();
    event_loop.run(&mut Reading(stream)).unwrap();
    assert_eq!(sources_left(&mut event_loop), 0, "dropping the stream took it out of the loop");
}

#[test]
fn a_refused_connection_names_the_address() {
    let address = std::net::TcpListener::bind(loopback()).unwrap().local_addr().unwrap();
    let error = match TcpStream::connect(address) {
        // The kernel may know at once on loopback.
        Err(error) => error,
        Ok(connecting) => {
            let mut event_loop = EventLoop::new().unwrap();
            event_loop
                .register_opt(&connecting, Side::Client, Interest::WRITABLE, Trigger::Level)
                .unwrap();
            let mut connector = Connector::new(connecting);
            connector.run(&mut event_loop);
            assert_eq!(sources_left(&mut event_loop), 0, "the failed attempt has left the loop");
            connector.outcome.unwrap().unwrap_err()
        }
    };
    assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    assert_eq!(error.to_string(), format!("connecting to {address} failed"));
}

/// Linux drops connection requests while the backlog is full and the client repeats them after a
/// second: a connection that is certainly on its way and certainly not there.
#[cfg(target_os = "linux")]
#[test]
fn a_connection_is_in_progress_and_then_connected() {
    let listener = TcpListener::bind_with(loopback(), &BindOptions::new().backlog(0)).unwrap();
    let address = listener.local_addr().unwrap();
    let _queued = std::net::TcpStream::connect(address).unwrap();
    until_readable(&listener);
    let connecting = TcpStream::connect(address).unwrap();
    let Finish::InProgress(connecting) = connecting.finish().unwrap() else {
        panic!("the backlog is full")
    };
    let mut event_loop = EventLoop::new().unwrap();
    event_loop.register_opt(&connecting, Side::Client, Interest::WRITABLE, Trigger::Level).unwrap();
    let mut connector = Connector::new(connecting);
    event_loop.run_once(&mut connector, Some(Duration::ZERO)).unwrap();
    assert!(connector.outcome.is_none() && connector.connecting.is_some());

    while listener.accept().unwrap().is_some() {}
    connector.run(&mut event_loop);
    assert_eq!(connector.outcome.unwrap().unwrap().peer_addr().unwrap(), address);
}

#[test]
fn unix_streams_connect_in_a_loop_too() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("den");
    let _listener = UnixListener::bind(&path).unwrap();
    let connecting = UnixStream::connect(&path).unwrap();
    let mut event_loop = EventLoop::new().unwrap();
    event_loop.register_opt(&connecting, Side::Client, Interest::WRITABLE, Trigger::Level).unwrap();
    let mut connector = Connector::new(connecting);
    connector.run(&mut event_loop);
    assert_eq!(
        connector.outcome.unwrap().unwrap().peer_addr().unwrap().as_pathname(),
        Some(path.as_path())
    );
}

/// Counts callbacks.
#[derive(Default)]
struct Count {
    readable: usize,
}

impl Handler<(), ()> for Count {
    fn readable(&mut self, _: &mut EventLoop<(), ()>, _: (), _: ReadHint) {
        self.readable += 1;
    }
}

#[test]
fn a_duplicate_does_not_fire_after_its_socket_is_dropped() {
    let (ours, mut theirs) = StdUnixStream::pair().unwrap();
    let _duplicate = ours.try_clone().unwrap();
    let stream = UnixStream::from_std(ours).unwrap();
    let mut event_loop = EventLoop::new().unwrap();
    event_loop.register(&stream, ()).unwrap();
    theirs.write_all(b"!").unwrap();
    let mut count = Count::default();
    event_loop.run_once(&mut count, Some(Duration::ZERO)).unwrap();
    assert_eq!(count.readable, 1);

    drop(stream);
    theirs.write_all(b"!").unwrap();
    event_loop.run_once(&mut count, Some(Duration::ZERO)).unwrap();
    assert_eq!(count.readable, 1);
    assert_eq!(event_loop.source_count(), 0);
}

#[test]
fn into_std_leaves_the_loop_and_every_type_is_a_source() {
    let folder = tempfile::tempdir().unwrap();
    let mut event_loop = EventLoop::<(), ()>::new().unwrap();
    let tcp = TcpListener::bind(loopback()).unwrap();
    let udp = UdpSocket::bind(loopback()).unwrap();
    let unix = UnixListener::bind(folder.path().join("listener")).unwrap();
    let datagram = UnixDatagram::bind(folder.path().join("datagram")).unwrap();
    let (stream, _peer) = UnixStream::pair().unwrap();
    event_loop.register(&tcp, ()).unwrap();
    event_loop.register(&udp, ()).unwrap();
    event_loop.register(&unix, ()).unwrap();
    event_loop.register(&datagram, ()).unwrap();
    event_loop.register(&stream, ()).unwrap();
    assert_eq!(event_loop.source_count(), 5);
    let std_sockets =
        (tcp.into_std(), udp.into_std(), unix.into_std(), datagram.into_std(), stream.into_std());
    event_loop.run_once(&mut Count::default(), Some(Duration::ZERO)).unwrap();
    assert_eq!(event_loop.source_count(), 0);
    drop(std_sockets);
}

/// A message that goes back and forth between two ends in one loop.
struct PingPong {
    ends: [TcpStream; 2],
    buffers: [RingBuf; 2],
    turns: usize,
}

impl Handler<usize, ()> for PingPong {
    fn readable(&mut self, _: &mut EventLoop<usize, ()>, end: usize, _: ReadHint) {
        assert_eq!(self.buffers[end].fill_from(&mut self.ends[end]).unwrap(), Fill::Bytes(100));
        assert_eq!(self.buffers[end].drain_to(&mut self.ends[end]).unwrap(), Some(100));
        self.turns += 1;
    }
}

#[test]
fn an_echo_allocates_nothing() {
    let listener = std::net::TcpListener::bind(loopback()).unwrap();
    let mut left =
        TcpStream::from_std(std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap())
            .unwrap();
    let right = TcpStream::from_std(listener.accept().unwrap().0).unwrap();
    left.set_nodelay(true).unwrap();
    right.set_nodelay(true).unwrap();
    left.write_all(&[b'p'; 100]).unwrap();

    let mut event_loop = EventLoop::new().unwrap();
    event_loop.register(&left, 0).unwrap();
    event_loop.register(&right, 1).unwrap();
    // Not a multiple of the message: the bytes wrap around, and the calls are vectored.
    let buffers = [RingBuf::new(130), RingBuf::new(130)];
    let mut game = PingPong { ends: [left, right], buffers, turns: 0 };
    for _ in 0..10 {
        event_loop.run_once(&mut game, None).unwrap();
    }
    let counted = allocation_counter::measure(|| {
        for _ in 0..1000 {
            event_loop.run_once(&mut game, None).unwrap();
        }
    });
    assert!(game.turns >= 1000);
    assert_eq!(counted.count_total, 0);
}
