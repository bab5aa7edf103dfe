//! calloop: a callback for each source.

use std::cell::RefCell;
use std::io;
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use calloop::generic::Generic;
use calloop::ping::make_ping;
use calloop::{EventLoop, EventSource, Interest, LoopHandle, Mode, Poll, PostAction, Readiness, Token, TokenFactory};

use super::{ACCEPTS, BUFFER, PACKETS, Peer, Rest, Step, Turn, Until};
use crate::sys;

pub(crate) struct Calloop;

thread_local! {
    /// The loop's one buffer.
    static BUFFER_OF_LOOP: RefCell<Vec<u8>> = RefCell::new(vec![0; BUFFER]);
}

impl Peer for Calloop {
    fn name(&self) -> &'static str {
        "calloop"
    }

    fn serve_tcp(&self, listener: TcpListener) -> io::Result<()> {
        let mut event_loop: EventLoop<'_, ()> = EventLoop::try_new()?;
        let handle = event_loop.handle();
        let door = Generic::new(listener, Interest::READ, Mode::Level);
        let inserted = event_loop.handle().insert_source(door, move |_, listener, _| {
            for _ in 0..ACCEPTS {
                let Ok((stream, _)) = listener.accept() else { break };
                welcome(&handle, stream)?;
            }
            Ok(PostAction::Continue)
        });
        inserted.map_err(|error| io::Error::other(error.to_string()))?;
        event_loop.run(None, &mut (), |()| {})?;
        Ok(())
    }

    fn serve_udp(&self, socket: UdpSocket) -> io::Result<()> {
        let mut event_loop: EventLoop<'_, ()> = EventLoop::try_new()?;
        let source = Generic::new(socket, Interest::READ, Mode::Level);
        let mut buffer = vec![0; BUFFER];
        let inserted = event_loop.handle().insert_source(source, move |_, socket, ()| {
            for _ in 0..PACKETS {
                let Ok((count, sender)) = socket.recv_from(&mut buffer) else { break };
                let _ = socket.send_to(&buffer[..count], sender);
            }
            Ok(PostAction::Continue)
        });
        inserted.map_err(|error| io::Error::other(error.to_string()))?;
        event_loop.run(None, &mut (), |()| {})?;
        Ok(())
    }

    fn turns(&self, turn: Turn, count: u64) -> Option<io::Result<Duration>> {
        Some(turns(turn, count))
    }
}

/// A connection as a source: calloop's generic one, whose interest changes with what is left over.
struct Client {
    stream: Generic<TcpStream>,
    rest: Rest,
}

impl EventSource for Client {
    type Event = ();
    type Metadata = ();
    type Ret = ();
    type Error = io::Error;

    fn process_events<F>(&mut self, readiness: Readiness, token: Token, _: F) -> io::Result<PostAction>
    where
        F: FnMut((), &mut ()),
    {
        let rest = &mut self.rest;
        let mut step = Step::Read;
        self.stream.process_events(readiness, token, |_, stream| {
            step = BUFFER_OF_LOOP.with_borrow_mut(|buffer| rest.proceed(&mut &**stream, buffer, Until::Once));
            Ok(PostAction::Continue)
        })?;
        let interest = match step {
            Step::Close => return Ok(PostAction::Remove),
            Step::Read => Interest::READ,
            Step::Write => Interest::WRITE,
        };
        if (interest.readable, interest.writable) == (self.stream.interest.readable, self.stream.interest.writable) {
            return Ok(PostAction::Continue);
        }
        self.stream.interest = interest;
        Ok(PostAction::Reregister)
    }

    fn register(&mut self, poll: &mut Poll, factory: &mut TokenFactory) -> calloop::Result<()> {
        self.stream.register(poll, factory)
    }

    fn reregister(&mut self, poll: &mut Poll, factory: &mut TokenFactory) -> calloop::Result<()> {
        self.stream.reregister(poll, factory)
    }

    fn unregister(&mut self, poll: &mut Poll) -> calloop::Result<()> {
        self.stream.unregister(poll)
    }
}

fn welcome(handle: &LoopHandle<'_, ()>, stream: TcpStream) -> io::Result<()> {
    stream.set_nonblocking(true)?;
    stream.set_nodelay(true)?;
    let client = Client { stream: Generic::new(stream, Interest::READ, Mode::Level), rest: Rest::default() };
    handle.insert_source(client, |(), _, ()| {}).map_err(|error| io::Error::other(error.to_string()))?;
    Ok(())
}

fn turns(turn: Turn, count: u64) -> io::Result<Duration> {
    let mut event_loop: EventLoop<'_, u64> = EventLoop::try_new()?;
    let (ping, source) = make_ping()?;
    let pinged = event_loop.handle().insert_source(source, |(), (), seen| *seen += 7);
    pinged.map_err(|error| io::Error::other(error.to_string()))?;
    let eventfd = sys::eventfd()?;
    let watched = Generic::new(eventfd.try_clone()?, Interest::READ, Mode::Edge);
    let inserted = event_loop.handle().insert_source(watched, |_, _, seen| {
        *seen += 7;
        Ok(PostAction::Continue)
    });
    inserted.map_err(|error| io::Error::other(error.to_string()))?;
    let begun = Instant::now();
    let mut seen = 0;
    for _ in 0..count {
        match turn {
            Turn::Wake => ping.ping(),
            Turn::Event => sys::ring(&eventfd),
        }
        event_loop.dispatch(None, &mut seen)?;
    }
    assert_eq!(seen, 7 * count);
    Ok(begun.elapsed())
}
