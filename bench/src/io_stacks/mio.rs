//! mio, which has only edge triggers: a connection is read until a short read.

use std::io;
use std::net::{TcpListener, UdpSocket};
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token, Waker};
use slab::Slab;

use super::{BUFFER_BYTES, Connection, EVENTS_PER_WAIT, IoStack, NextStep, ReadUntil, Turn};
use crate::sys;

pub(crate) struct Mio;

const LISTENER: Token = Token(usize::MAX);

impl IoStack for Mio {
    fn name(&self) -> &'static str {
        "mio"
    }

    fn serve_tcp(&self, listener: TcpListener) -> io::Result<()> {
        let mut listener = mio::net::TcpListener::from_std(listener);
        let (mut poll, mut events) = (Poll::new()?, Events::with_capacity(EVENTS_PER_WAIT));
        let mut buffer = vec![0; BUFFER_BYTES];
        let mut connections: Slab<Connection<TcpStream>> = Slab::new();
        poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
        loop {
            poll.poll(&mut events, None)?;
            for event in &events {
                if event.token() == LISTENER {
                    accept(&poll, &listener, &mut connections)?;
                    continue;
                }
                let Some(connection) = connections.get_mut(event.token().0) else { continue };
                let until = if event.is_read_closed() {
                    ReadUntil::WouldBlock
                } else {
                    ReadUntil::ShortRead
                };
                match connection.echo(&mut buffer, until) {
                    NextStep::Close => drop(connections.remove(event.token().0)),
                    // Registered for both interests, and an edge needs no change.
                    NextStep::Read | NextStep::Write => {}
                }
            }
        }
    }

    fn serve_udp(&self, socket: UdpSocket) -> io::Result<()> {
        let mut socket = mio::net::UdpSocket::from_std(socket);
        let (mut poll, mut events) = (Poll::new()?, Events::with_capacity(EVENTS_PER_WAIT));
        let mut buffer = vec![0; BUFFER_BYTES];
        poll.registry().register(&mut socket, LISTENER, Interest::READABLE)?;
        loop {
            poll.poll(&mut events, None)?;
            for _ in &events {
                // Until it would block: with an edge trigger the rest would not be reported again.
                while let Ok((count, sender)) = socket.recv_from(&mut buffer) {
                    let _ = socket.send_to(&buffer[..count], sender);
                }
            }
        }
    }

    fn turns(&self, turn: Turn, count: u64) -> Option<io::Result<Duration>> {
        Some(turns(turn, count))
    }
}

fn accept(
    poll: &Poll,
    listener: &mio::net::TcpListener,
    connections: &mut Slab<Connection<TcpStream>>,
) -> io::Result<()> {
    // As with packets: until it would block.
    while let Ok((mut stream, _)) = listener.accept() {
        stream.set_nodelay(true)?;
        let entry = connections.vacant_entry();
        poll.registry().register(
            &mut stream,
            Token(entry.key()),
            Interest::READABLE | Interest::WRITABLE,
        )?;
        entry.insert(Connection::new(stream));
    }
    Ok(())
}

fn turns(turn: Turn, count: u64) -> io::Result<Duration> {
    let (mut poll, mut events) = (Poll::new()?, Events::with_capacity(EVENTS_PER_WAIT));
    let waker = Waker::new(poll.registry(), Token(7))?;
    let eventfd: OwnedFd = sys::eventfd()?;
    let raw = eventfd.as_raw_fd();
    poll.registry().register(&mut SourceFd(&raw), Token(7), Interest::READABLE)?;
    let begun = Instant::now();
    let mut seen = 0;
    for _ in 0..count {
        match turn {
            Turn::Wake => waker.wake()?,
            Turn::Event => sys::add_one(&eventfd),
        }
        poll.poll(&mut events, None)?;
        for event in &events {
            seen += event.token().0 as u64;
        }
    }
    assert_eq!(seen, 7 * count);
    Ok(begun.elapsed())
}
