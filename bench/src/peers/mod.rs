//! The peers: one file each, all behind one small trait.
//!
//! Every TCP peer does the same work: it accepts until nobody waits (64 at most), sets `TCP_NODELAY`, and on a readable
//! connection reads once into the loop's one buffer of 64 KiB and writes back what it read; what the kernel does not take
//! waits in the connection's own vector for it to be writable. Who gets edges only reads on until a short read.
//! Every UDP peer receives and answers until nothing waits (64 at most).

mod calloop;
mod duties;
mod kodiak;
#[cfg(libevent)]
mod libevent;
#[cfg(libuv)]
mod libuv;
mod mio;
mod polling;
mod raw;
mod tokio;

use std::io::{self, Read, Write};
use std::net::{TcpListener, UdpSocket};
use std::time::Duration;

pub(crate) const BUFFER: usize = 64 * 1024;
pub(crate) const ACCEPTS: usize = 64;
pub(crate) const PACKETS: usize = 64;
/// Events that one wait may bring.
pub(crate) const EVENTS: usize = 1024;

/// What makes an empty turn turn.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Turn {
    /// The loop's own means of waking it.
    Wake,
    /// A registered eventfd (edge-triggered) that is written to.
    Event,
}

/// One I/O stack.
pub(crate) trait Peer: Sync {
    fn name(&self) -> &'static str;

    /// Serves echo to the clients of a (non-blocking) listener until the process is killed.
    fn serve_tcp(&self, listener: TcpListener) -> io::Result<()>;

    /// Sends each packet back to its sender until the process is killed.
    fn serve_udp(&self, socket: UdpSocket) -> io::Result<()>;

    /// Makes the loop ready and lets it turn once, `count` times, on one thread. `None` if the peer has no such thing.
    fn turns(&self, turn: Turn, count: u64) -> Option<io::Result<Duration>>;
}

/// All of them; the first is what the others are measured by.
pub(crate) const ALL: &[&dyn Peer] = &[
    &raw::Raw,
    &kodiak::Kodiak,
    &mio::Mio,
    &polling::Polling,
    &calloop::Calloop,
    &tokio::Tokio,
    #[cfg(libuv)]
    &libuv::Libuv,
    #[cfg(libevent)]
    &libevent::Libevent,
];

/// Those that the scripts ask for by name, and the tables leave out.
const EXTRA: &[&dyn Peer] = &[&duties::Duties];

pub(crate) fn find(name: &str) -> Option<&'static dyn Peer> {
    ALL.iter().chain(EXTRA).copied().find(|peer| peer.name() == name)
}

/// Says which peers are not here, and why.
pub(crate) fn print_missing() {
    if cfg!(not(libuv)) {
        println!("libuv: skipped, uv.h was not found when this was built (Debian: libuv1-dev)\n");
    }
    if cfg!(not(libevent)) {
        println!("libevent: skipped, event2/event.h was not found when this was built (Debian: libevent-dev)\n");
    }
}

/// What a connection wants next.
#[derive(PartialEq, Eq, Clone, Copy)]
pub(crate) enum Step {
    Read,
    Write,
    Close,
}

/// A connection of a server, over whatever stream the peer has.
pub(crate) struct Connection<S> {
    pub(crate) stream: S,
    pub(crate) rest: Rest,
    /// What the loop has been asked to wait for; a peer asks again only when it changes.
    pub(crate) waits_for: Step,
}

impl<S: Read + Write> Connection<S> {
    pub(crate) fn new(stream: S) -> Connection<S> {
        Connection { stream, rest: Rest::default(), waits_for: Step::Read }
    }

    #[inline]
    pub(crate) fn proceed(&mut self, buffer: &mut [u8], until: Until) -> Step {
        self.rest.proceed(&mut self.stream, buffer, until)
    }
}

/// When a connection has been read enough for one event.
#[derive(PartialEq, Eq, Clone, Copy)]
pub(crate) enum Until {
    /// After one read: a level-triggered loop hears of the rest.
    Once,
    /// After a read that falls short: for edges.
    Short,
    /// When it would block: for an edge that told of the end as well.
    Empty,
}

/// What the kernel has not taken yet.
#[derive(Default)]
pub(crate) struct Rest {
    bytes: Vec<u8>,
}

impl Rest {
    /// Writes what is left over, then reads and writes back.
    #[inline]
    pub(crate) fn proceed<S: Read + Write>(&mut self, stream: &mut S, buffer: &mut [u8], until: Until) -> Step {
        if !self.bytes.is_empty() {
            match stream.write(&self.bytes) {
                Ok(count) if count == self.bytes.len() => self.bytes.clear(),
                Ok(count) => {
                    self.bytes.drain(..count);
                    return Step::Write;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Step::Write,
                Err(_) => return Step::Close,
            }
        }
        loop {
            let count = match stream.read(buffer) {
                Ok(0) => return Step::Close,
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Step::Read,
                Err(_) => return Step::Close,
            };
            let written = match stream.write(&buffer[..count]) {
                Ok(written) => written,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
                Err(_) => return Step::Close,
            };
            if written < count {
                self.bytes.extend_from_slice(&buffer[written..count]);
                return Step::Write;
            }
            if until == Until::Once || (until == Until::Short && count < buffer.len()) {
                return Step::Read;
            }
        }
    }
}
