//! polling, in its level-triggered mode.

use std::io;
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::num::NonZeroUsize;
use std::time::{Duration, Instant};

use polling::{Event, Events, PollMode, Poller};
use slab::Slab;

use super::{
    ACCEPTS_PER_EVENT, BUFFER_BYTES, Connection, EVENTS_PER_WAIT, IoStack, NextStep,
    PACKETS_PER_EVENT, ReadUntil, Turn,
};
use crate::sys;

pub(crate) struct Polling;

const LISTENER: usize = usize::MAX - 1;

fn new_events() -> Events {
    Events::with_capacity(NonZeroUsize::new(EVENTS_PER_WAIT).expect("not zero"))
}

impl IoStack for Polling {
    fn name(&self) -> &'static str {
        "polling"
    }

    fn serve_tcp(&self, listener: TcpListener) -> io::Result<()> {
        let (poller, mut events) = (Poller::new()?, new_events());
        let mut buffer = vec![0; BUFFER_BYTES];
        let mut connections: Slab<Connection<TcpStream>> = Slab::new();
        // SAFETY: every source is deleted before it is dropped, and the listener lives as long as
        // the process.
        unsafe { poller.add_with_mode(&listener, Event::readable(LISTENER), PollMode::Level)? };
        loop {
            events.clear();
            poller.wait(&mut events, None)?;
            for event in events.iter() {
                if event.key == LISTENER {
                    accept(&poller, &listener, &mut connections)?;
                    continue;
                }
                let Some(connection) = connections.get_mut(event.key) else { continue };
                let step = connection.echo(&mut buffer, ReadUntil::OneRead);
                if step == NextStep::Close {
                    poller.delete(&connection.stream)?;
                    connections.remove(event.key);
                } else if step != connection.waits_for {
                    connection.waits_for = step;
                    let wanted = if step == NextStep::Write {
                        Event::writable(event.key)
                    } else {
                        Event::readable(event.key)
                    };
                    poller.modify_with_mode(&connection.stream, wanted, PollMode::Level)?;
                }
            }
        }
    }

    fn serve_udp(&self, socket: UdpSocket) -> io::Result<()> {
        let (poller, mut events) = (Poller::new()?, new_events());
        let mut buffer = vec![0; BUFFER_BYTES];
        // SAFETY: the socket lives as long as the process.
        unsafe { poller.add_with_mode(&socket, Event::readable(LISTENER), PollMode::Level)? };
        loop {
            events.clear();
            poller.wait(&mut events, None)?;
            for _ in events.iter() {
                for _ in 0..PACKETS_PER_EVENT {
                    let Ok((count, sender)) = socket.recv_from(&mut buffer) else { break };
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
    poller: &Poller,
    listener: &TcpListener,
    connections: &mut Slab<Connection<TcpStream>>,
) -> io::Result<()> {
    for _ in 0..ACCEPTS_PER_EVENT {
        let Ok((stream, _)) = listener.accept() else { return Ok(()) };
        stream.set_nonblocking(true)?;
        stream.set_nodelay(true)?;
        let entry = connections.vacant_entry();
        // SAFETY: deleted before it is dropped.
        unsafe { poller.add_with_mode(&stream, Event::readable(entry.key()), PollMode::Level)? };
        entry.insert(Connection::new(stream));
    }
    Ok(())
}

fn turns(turn: Turn, count: u64) -> io::Result<Duration> {
    let (poller, mut events) = (Poller::new()?, new_events());
    let eventfd = sys::eventfd()?;
    // SAFETY: the eventfd is deleted before it is dropped, below.
    unsafe { poller.add_with_mode(&eventfd, Event::readable(7), PollMode::Edge)? };
    let begun = Instant::now();
    let mut seen = 0;
    for _ in 0..count {
        match turn {
            Turn::Wake => poller.notify()?,
            Turn::Event => sys::add_one(&eventfd),
        }
        events.clear();
        poller.wait(&mut events, None)?;
        seen += events.iter().map(|event| event.key as u64).sum::<u64>();
    }
    let elapsed = begun.elapsed();
    assert!(turn == Turn::Wake || seen == 7 * count);
    poller.delete(&eventfd)?;
    Ok(elapsed)
}
