//! calloop, with a callback for each source.

use std::cell::RefCell;
use std::io;
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use calloop::generic::Generic;
use calloop::ping::make_ping;
use calloop::{
    EventLoop, EventSource, Interest, LoopHandle, Mode, Poll, PostAction, Readiness, Token,
    TokenFactory,
};

use super::{
    ACCEPTS_PER_EVENT, BUFFER_BYTES, IoStack, NextStep, PACKETS_PER_EVENT, ReadUntil, Turn, Unsent,
};
use crate::sys;

pub(crate) struct Calloop;

thread_local! {
    /// The buffer that all connections share.
    static LOOP_BUFFER: RefCell<Vec<u8>> = RefCell::new(vec![0; BUFFER_BYTES]);
}

impl IoStack for Calloop {
    fn name(&self) -> &'static str {
        "calloop"
    }

    fn serve_tcp(&self, listener: TcpListener) -> io::Result<()> {
        let mut event_loop: EventLoop<'_, ()> = EventLoop::try_new()?;
        let handle = event_loop.handle();
        let listener_key = Generic::new(listener, Interest::READ, Mode::Level);
        let inserted = event_loop.handle().insert_source(listener_key, move |_, listener, _| {
            for _ in 0..ACCEPTS_PER_EVENT {
                let Ok((stream, _)) = listener.accept() else { break };
                add_connection(&handle, stream)?;
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
        let mut buffer = vec![0; BUFFER_BYTES];
        let inserted = event_loop.handle().insert_source(source, move |_, socket, ()| {
            for _ in 0..PACKETS_PER_EVENT {
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

/// A connection as a source: calloop's generic one, whose interest depends on its unsent bytes.
struct Client {
    stream: Generic<TcpStream>,
    unsent: Unsent,
}

impl EventSource for Client {
    type Event = ();
    type Metadata = ();
    type Ret = ();
    type Error = io::Error;

    fn process_events<F>(
        &mut self,
        readiness: Readiness,
        token: Token,
        _: F,
    ) -> io::Result<PostAction>
    where
        F: FnMut((), &mut ()),
    {
        let unsent = &mut self.unsent;
        let mut step = NextStep::Read;
        self.stream.process_events(readiness, token, |_, stream| {
            step = LOOP_BUFFER
                .with_borrow_mut(|buffer| unsent.echo(&mut &**stream, buffer, ReadUntil::OneRead));
            Ok(PostAction::Continue)
        })?;
        let interest = match step {
            NextStep::Close => return Ok(PostAction::Remove),
            NextStep::Read => Interest::READ,
            NextStep::Write => Interest::WRITE,
        };
        if (interest.readable, interest.writable)
            == (self.stream.interest.readable, self.stream.interest.writable)
        {
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

fn add_connection(handle: &LoopHandle<'_, ()>, stream: TcpStream) -> io::Result<()> {
    stream.set_nonblocking(true)?;
    stream.set_nodelay(true)?;
    let client = Client {
        stream: Generic::new(stream, Interest::READ, Mode::Level),
        unsent: Unsent::default(),
    };
    handle
        .insert_source(client, |(), _, ()| {})
        .map_err(|error| io::Error::other(error.to_string()))?;
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
            Turn::Event => sys::add_one(&eventfd),
        }
        event_loop.dispatch(None, &mut seen)?;
    }
    assert_eq!(seen, 7 * count);
    Ok(begun.elapsed())
}
