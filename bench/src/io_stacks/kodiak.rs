//! Kodiak's reactor.

use std::io;
use std::net::{TcpListener, UdpSocket};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use kodiak_net::TcpStream;
use kodiak_reactor::{EventLoop, Handler, Interest, Io, ReadHint, Trigger};
use slab::Slab;

use super::{
    ACCEPTS_PER_EVENT, BUFFER_BYTES, Connection, EVENTS_PER_WAIT, IoStack, NextStep,
    PACKETS_PER_EVENT, ReadUntil, Turn,
};
use crate::sys;

pub(crate) struct Kodiak;

impl IoStack for Kodiak {
    fn name(&self) -> &'static str {
        "kodiak"
    }

    fn serve_tcp(&self, listener: TcpListener) -> io::Result<()> {
        let listener = kodiak_net::TcpListener::from_std(listener)?;
        let mut event_loop = EventLoop::builder().events_per_turn(EVENTS_PER_WAIT).build()?;
        event_loop.register(&listener, Token::Listener)?;
        let mut server = Echo { listener, connections: Slab::new(), buffer: vec![0; BUFFER_BYTES] };
        Ok(event_loop.run(&mut server)?)
    }

    fn serve_udp(&self, socket: UdpSocket) -> io::Result<()> {
        let socket = kodiak_net::UdpSocket::from_std(socket)?;
        let mut event_loop = EventLoop::builder().events_per_turn(EVENTS_PER_WAIT).build()?;
        event_loop.register(&socket, ())?;
        Ok(event_loop.run(&mut Packets { socket, buffer: vec![0; BUFFER_BYTES] })?)
    }

    fn turns(&self, turn: Turn, count: u64) -> Option<io::Result<Duration>> {
        Some(match turn {
            Turn::Wake => wakes(count),
            Turn::Event => events(count),
        })
    }
}

#[derive(Clone, Copy)]
enum Token {
    Listener,
    Connection(u32),
}

struct Echo {
    listener: kodiak_net::TcpListener,
    connections: Slab<Connection<TcpStream>>,
    buffer: Vec<u8>,
}

type Loop = EventLoop<Token, ()>;

impl Echo {
    /// Not inlined into the code that runs for each message.
    #[inline(never)]
    fn accept(&mut self, event_loop: &mut Loop) {
        for _ in 0..ACCEPTS_PER_EVENT {
            let Ok(Some((stream, _))) = self.listener.accept() else { return };
            let entry = self.connections.vacant_entry();
            let ready = stream.set_nodelay(true).is_ok();
            if ready && event_loop.register(&stream, Token::Connection(entry.key() as u32)).is_ok()
            {
                entry.insert(Connection::new(stream));
            }
        }
    }

    fn echo(&mut self, event_loop: &mut Loop, key: u32) {
        let Some(connection) = self.connections.get_mut(key as usize) else { return };
        let step = connection.echo(&mut self.buffer, ReadUntil::OneRead);
        if step == NextStep::Close {
            self.connections.remove(key as usize);
        } else if step != connection.waits_for {
            connection.waits_for = step;
            let interest =
                if step == NextStep::Write { Interest::WRITABLE } else { Interest::READABLE };
            let result = event_loop.reregister(
                &connection.stream,
                Token::Connection(key),
                interest,
                Trigger::Level,
            );
            result.expect("a registered connection can be reregistered");
        }
    }
}

impl Handler<Token, ()> for Echo {
    fn readable(&mut self, event_loop: &mut Loop, token: Token, _: ReadHint) {
        match token {
            Token::Listener => self.accept(event_loop),
            Token::Connection(key) => self.echo(event_loop, key),
        }
    }

    fn writable(&mut self, event_loop: &mut Loop, token: Token) {
        if let Token::Connection(key) = token {
            self.echo(event_loop, key);
        }
    }
}

struct Packets {
    socket: kodiak_net::UdpSocket,
    buffer: Vec<u8>,
}

impl Handler<(), ()> for Packets {
    fn readable(&mut self, _: &mut EventLoop<(), ()>, (): (), _: ReadHint) {
        for _ in 0..PACKETS_PER_EVENT {
            let Ok((count, sender)) = self.socket.recv_from(&mut self.buffer) else { return };
            let _ = self.socket.send_to(&self.buffer[..count], sender);
        }
    }
}

#[derive(Default)]
struct Turns {
    seen: u64,
}

impl Handler<u64, ()> for Turns {
    fn readable(&mut self, _: &mut EventLoop<u64, ()>, token: u64, _: ReadHint) {
        self.seen += token;
    }

    fn turn_end(&mut self, _: &mut EventLoop<u64, ()>) {
        self.seen += 1;
    }
}

fn wakes(count: u64) -> io::Result<Duration> {
    let mut event_loop: EventLoop<u64, ()> =
        EventLoop::builder().events_per_turn(EVENTS_PER_WAIT).build()?;
    let (remote, mut turns) = (event_loop.remote(), Turns::default());
    let begun = Instant::now();
    for _ in 0..count {
        remote.wake()?;
        event_loop.run_once(&mut turns, None)?;
    }
    assert_eq!(turns.seen, count);
    Ok(begun.elapsed())
}

fn events(count: u64) -> io::Result<Duration> {
    let mut event_loop: EventLoop<u64, ()> =
        EventLoop::builder().events_per_turn(EVENTS_PER_WAIT).build()?;
    let eventfd: Io<OwnedFd> = Io::new(sys::eventfd()?);
    event_loop.register_opt(&eventfd, 6, Interest::READABLE, Trigger::Edge)?;
    let mut turns = Turns::default();
    let begun = Instant::now();
    for _ in 0..count {
        sys::add_one(eventfd.get_ref());
        event_loop.run_once(&mut turns, None)?;
    }
    assert_eq!(turns.seen, 7 * count);
    Ok(begun.elapsed())
}
