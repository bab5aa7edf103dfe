//! A hand-written epoll loop with the features of the reactor's loop.
//!
//! Compared with `raw.rs` it shows the cost of the features; the reactor's loop, compared with this
//! one, shows the cost of the library. The features:
//!
//! - Other threads can wake the loop, without a system call while it is awake: a flag is exchanged
//!   before and after each wait, and read before the turn ends.
//! - An event finds its connection by slot and generation, so it never reaches the next connection
//!   of the slot.
//! - A connection that another thread dropped is noticed before the next event, by a flag that is
//!   read for each event.
//! - The position in the batch is advanced before any call that may panic.
//! - Turns, waits and events are counted, and the handler is called at the end of a turn.

use std::io;
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::time::{Duration, Instant};

use libc::{EPOLLET, EPOLLIN, EPOLLOUT, EPOLLRDHUP};

use super::raw::accept_one;
use super::{
    ACCEPTS_PER_EVENT, BUFFER_BYTES, Connection, EVENTS_PER_WAIT, IoStack, NextStep, ReadUntil,
    Turn,
};
use crate::sys::{self, Epoll};

pub(crate) struct RawWithFeatures;

impl IoStack for RawWithFeatures {
    fn name(&self) -> &'static str {
        "raw with features"
    }

    fn serve_tcp(&self, listener: TcpListener) -> io::Result<()> {
        let mut event_loop = Loop::new()?;
        event_loop.epoll.add(listener.as_raw_fd(), EPOLLIN, LISTENER)?;
        let mut server = Server {
            listener,
            connections: Vec::new(),
            free: Vec::new(),
            buffer: vec![0; BUFFER_BYTES],
        };
        loop {
            event_loop.turn(&mut server)?;
        }
    }

    fn serve_udp(&self, _: UdpSocket) -> io::Result<()> {
        Err(io::Error::new(
            io::ErrorKind::Unsupported,
            "the raw loop with features serves only TCP",
        ))
    }

    fn turns(&self, _: Turn, count: u64) -> Option<io::Result<Duration>> {
        Some(turns(count))
    }
}

const LISTENER: u64 = u64::MAX;
const ARMED: u8 = 0;
const AWAKE: u8 = 1;

/// The state that other threads would share.
struct Shared {
    flag: AtomicU8,
    has_dropped: AtomicBool,
}

struct Loop {
    epoll: Epoll,
    shared: Arc<Shared>,
    next: usize,
    count: usize,
    turns: u64,
    waits: u64,
    events: u64,
    messages: u64,
    dropped: u64,
}

trait Handler {
    fn event(&mut self, epoll: &Epoll, key: u64);
    fn turn_end(&mut self);
}

impl Loop {
    fn new() -> io::Result<Loop> {
        let shared =
            Arc::new(Shared { flag: AtomicU8::new(AWAKE), has_dropped: AtomicBool::new(false) });
        Ok(Loop {
            epoll: Epoll::new(EVENTS_PER_WAIT)?,
            shared,
            next: 0,
            count: 0,
            turns: 0,
            waits: 0,
            events: 0,
            messages: 0,
            dropped: 0,
        })
    }

    #[inline]
    fn turn(&mut self, handler: &mut impl Handler) -> io::Result<()> {
        if self
            .shared
            .flag
            .compare_exchange(AWAKE, ARMED, Ordering::SeqCst, Ordering::SeqCst)
            .is_err()
        {
            self.receive_messages();
        }
        self.waits += 1;
        self.count = self.epoll.wait(-1)?;
        if self.shared.flag.swap(AWAKE, Ordering::SeqCst) != ARMED {
            self.receive_messages();
        }
        self.next = 0;
        while self.next < self.count {
            if self.shared.has_dropped.load(Ordering::Relaxed) {
                self.forget_dropped();
            }
            let (key, _) = self.epoll.event(self.next);
            self.next += 1;
            self.events += 1;
            handler.event(&self.epoll, key);
        }
        if self.shared.flag.load(Ordering::Acquire) != AWAKE {
            self.receive_messages();
        }
        handler.turn_end();
        self.turns += 1;
        Ok(())
    }

    /// Never called in the benchmark. Without it the compiler would remove the checks.
    #[cold]
    #[inline(never)]
    fn receive_messages(&mut self) {
        self.messages += 1;
        self.shared.flag.store(AWAKE, Ordering::Release);
    }

    /// As above.
    #[cold]
    #[inline(never)]
    fn forget_dropped(&mut self) {
        self.dropped += 1;
        self.shared.has_dropped.store(false, Ordering::Release);
    }
}

struct Slot {
    generation: u32,
    connection: Option<Connection<TcpStream>>,
}

struct Server {
    listener: TcpListener,
    connections: Vec<Slot>,
    free: Vec<u32>,
    buffer: Vec<u8>,
}

impl Server {
    #[inline(never)]
    fn accept(&mut self, epoll: &Epoll) {
        for _ in 0..ACCEPTS_PER_EVENT {
            let Some(stream) = accept_one(&self.listener) else { return };
            let slot = self.free.pop().unwrap_or_else(|| {
                self.connections.push(Slot { generation: 0, connection: None });
                self.connections.len() as u32 - 1
            });
            let entry = &mut self.connections[slot as usize];
            let key = u64::from(entry.generation) << 32 | u64::from(slot);
            let ready = stream.set_nodelay(true).is_ok();
            if ready && epoll.add(stream.as_raw_fd(), EPOLLIN | EPOLLRDHUP, key).is_ok() {
                entry.connection = Some(Connection::new(stream));
            } else {
                self.free.push(slot);
            }
        }
    }
}

impl Handler for Server {
    #[inline]
    fn event(&mut self, epoll: &Epoll, key: u64) {
        if key == LISTENER {
            return self.accept(epoll);
        }
        let Some(slot) = self.connections.get_mut(key as u32 as usize) else { return };
        if slot.generation != (key >> 32) as u32 {
            return;
        }
        let Some(connection) = &mut slot.connection else { return };
        let step = connection.echo(&mut self.buffer, ReadUntil::OneRead);
        if step == NextStep::Close {
            slot.connection = None;
            slot.generation += 1;
            self.free.push(key as u32);
        } else if step != connection.waits_for {
            connection.waits_for = step;
            let flags = if step == NextStep::Write { EPOLLOUT } else { EPOLLIN | EPOLLRDHUP };
            epoll
                .modify(connection.stream.as_raw_fd(), flags, key)
                .expect("a watched connection can be modified");
        }
    }

    fn turn_end(&mut self) {}
}

struct Counter {
    slots: Vec<(u32, u64)>,
    seen: u64,
}

impl Handler for Counter {
    #[inline]
    fn event(&mut self, _: &Epoll, key: u64) {
        if let Some((generation, token)) = self.slots.get(key as u32 as usize)
            && *generation == (key >> 32) as u32
        {
            self.seen += token;
        }
    }

    fn turn_end(&mut self) {
        self.seen += 1;
    }
}

fn turns(count: u64) -> io::Result<Duration> {
    let mut event_loop = Loop::new()?;
    let eventfd = sys::eventfd()?;
    event_loop.epoll.add(eventfd.as_raw_fd(), EPOLLIN | EPOLLET, 5 << 32)?;
    let mut seen = Counter { slots: vec![(5, 6)], seen: 0 };
    let begun = Instant::now();
    for _ in 0..count {
        sys::add_one(&eventfd);
        event_loop.turn(&mut seen)?;
    }
    assert_eq!(
        (seen.seen, event_loop.turns, event_loop.waits, event_loop.events),
        (7 * count, count, count, count)
    );
    assert_eq!((event_loop.messages, event_loop.dropped), (0, 0));
    Ok(begun.elapsed())
}
