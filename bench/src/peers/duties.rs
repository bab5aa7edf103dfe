//! A hand-written epoll loop that has the duties of ours, so that the price of a duty can be told from the price of a library:
//!
//! - other threads can wake it, and make no system call while it is awake: a flag, exchanged before and after each wait, and
//!   looked at before the turn ends;
//! - an event finds its connection by slot and generation, so that it never reaches the slot's next owner;
//! - a connection dropped elsewhere is noticed before the next event: one flag is looked at for each;
//! - the place in the batch is moved on before anything is called that may panic;
//! - turns, waits and events are counted, and who is called at a turn's end is called.

use std::io;
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::time::{Duration, Instant};

use libc::{EPOLLET, EPOLLIN, EPOLLOUT, EPOLLRDHUP};

use super::raw::accept_one;
use super::{ACCEPTS, BUFFER, Connection, EVENTS, Peer, Step, Turn, Until};
use crate::sys::{self, Epoll};

pub(crate) struct Duties;

impl Peer for Duties {
    fn name(&self) -> &'static str {
        "raw with duties"
    }

    fn serve_tcp(&self, listener: TcpListener) -> io::Result<()> {
        let mut turns = Turns::new()?;
        turns.epoll.add(listener.as_raw_fd(), EPOLLIN, DOOR)?;
        let mut server = Server { listener, connections: Vec::new(), free: Vec::new(), buffer: vec![0; BUFFER] };
        loop {
            turns.turn(&mut server)?;
        }
    }

    fn serve_udp(&self, _: UdpSocket) -> io::Result<()> {
        Err(io::Error::new(io::ErrorKind::Unsupported, "the loop with duties serves TCP only"))
    }

    fn turns(&self, _: Turn, count: u64) -> Option<io::Result<Duration>> {
        Some(turns(count))
    }
}

const DOOR: u64 = u64::MAX;
const ARMED: u8 = 0;
const AWAKE: u8 = 1;

/// What other threads would have a part of.
struct Shared {
    flag: AtomicU8,
    any_dead: AtomicBool,
}

struct Turns {
    epoll: Epoll,
    shared: Arc<Shared>,
    next: usize,
    count: usize,
    turns: u64,
    waits: u64,
    events: u64,
    messages: u64,
    dead: u64,
}

/// Who is called.
trait Called {
    fn event(&mut self, epoll: &Epoll, key: u64);
    fn turn_end(&mut self);
}

impl Turns {
    fn new() -> io::Result<Turns> {
        let shared = Arc::new(Shared { flag: AtomicU8::new(AWAKE), any_dead: AtomicBool::new(false) });
        Ok(Turns {
            epoll: Epoll::new(EVENTS)?,
            shared,
            next: 0,
            count: 0,
            turns: 0,
            waits: 0,
            events: 0,
            messages: 0,
            dead: 0,
        })
    }

    #[inline]
    fn turn(&mut self, called: &mut impl Called) -> io::Result<()> {
        if self.shared.flag.compare_exchange(AWAKE, ARMED, Ordering::SeqCst, Ordering::SeqCst).is_err() {
            self.receive_messages();
        }
        self.waits += 1;
        self.count = self.epoll.wait(-1)?;
        if self.shared.flag.swap(AWAKE, Ordering::SeqCst) != ARMED {
            self.receive_messages();
        }
        self.next = 0;
        while self.next < self.count {
            if self.shared.any_dead.load(Ordering::Relaxed) {
                self.bury_the_dead();
            }
            let (key, _) = self.epoll.event(self.next);
            self.next += 1;
            self.events += 1;
            called.event(&self.epoll, key);
        }
        if self.shared.flag.load(Ordering::Acquire) != AWAKE {
            self.receive_messages();
        }
        called.turn_end();
        self.turns += 1;
        Ok(())
    }

    /// Nobody has sent any. It has to be there, or the compiler leaves out the questions as well.
    #[cold]
    #[inline(never)]
    fn receive_messages(&mut self) {
        self.messages += 1;
        self.shared.flag.store(AWAKE, Ordering::Release);
    }

    /// As above.
    #[cold]
    #[inline(never)]
    fn bury_the_dead(&mut self) {
        self.dead += 1;
        self.shared.any_dead.store(false, Ordering::Release);
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
        for _ in 0..ACCEPTS {
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

impl Called for Server {
    #[inline]
    fn event(&mut self, epoll: &Epoll, key: u64) {
        if key == DOOR {
            return self.accept(epoll);
        }
        let Some(slot) = self.connections.get_mut(key as u32 as usize) else { return };
        if slot.generation != (key >> 32) as u32 {
            return;
        }
        let Some(connection) = &mut slot.connection else { return };
        let step = connection.proceed(&mut self.buffer, Until::Once);
        if step == Step::Close {
            slot.connection = None;
            slot.generation += 1;
            self.free.push(key as u32);
        } else if step != connection.waits_for {
            connection.waits_for = step;
            let flags = if step == Step::Write { EPOLLOUT } else { EPOLLIN | EPOLLRDHUP };
            epoll.modify(connection.stream.as_raw_fd(), flags, key).expect("a watched connection can be modified");
        }
    }

    fn turn_end(&mut self) {}
}

struct Seen {
    slots: Vec<(u32, u64)>,
    seen: u64,
}

impl Called for Seen {
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
    let mut turns = Turns::new()?;
    let eventfd = sys::eventfd()?;
    turns.epoll.add(eventfd.as_raw_fd(), EPOLLIN | EPOLLET, 5 << 32)?;
    let mut seen = Seen { slots: vec![(5, 6)], seen: 0 };
    let begun = Instant::now();
    for _ in 0..count {
        sys::ring(&eventfd);
        turns.turn(&mut seen)?;
    }
    assert_eq!((seen.seen, turns.turns, turns.waits, turns.events), (7 * count, count, count, count));
    assert_eq!((turns.messages, turns.dead), (0, 0));
    Ok(begun.elapsed())
}
