//! The I/O stacks that are compared, one file each, behind one trait.
//!
//! Every TCP server does the same work. It accepts all pending connections (64 at most) and sets
//! `TCP_NODELAY`. On a readable connection it reads once into the loop's buffer of 64 KiB and
//! writes the bytes back. Bytes that the kernel does not take are kept in a vector of the
//! connection until it is writable. A stack with edge triggers only reads until a short read. Every
//! UDP server receives and answers all pending packets (64 at most).

mod calloop;
mod kodiak;
#[cfg(libevent)]
mod libevent;
#[cfg(libuv)]
mod libuv;
mod mio;
mod polling;
mod raw;
mod raw_with_features;
mod tokio;

use std::io::{self, Read, Write};
use std::net::{TcpListener, UdpSocket};
use std::time::Duration;

pub(crate) const BUFFER_BYTES: usize = 64 * 1024;
pub(crate) const ACCEPTS_PER_EVENT: usize = 64;
pub(crate) const PACKETS_PER_EVENT: usize = 64;
/// The greatest number of events of one wait.
pub(crate) const EVENTS_PER_WAIT: usize = 1024;

/// What ends the wait of an empty turn.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Turn {
    /// The loop's own waker.
    Wake,
    /// A write to a registered eventfd, edge-triggered.
    Event,
}

/// One I/O stack.
pub(crate) trait IoStack: Sync {
    fn name(&self) -> &'static str;

    /// Serves echo to the clients of a non-blocking listener until the process is killed.
    fn serve_tcp(&self, listener: TcpListener) -> io::Result<()>;

    /// Sends each packet back to its sender until the process is killed.
    fn serve_udp(&self, socket: UdpSocket) -> io::Result<()>;

    /// Wakes the loop and runs one turn, `count` times, on one thread. `None` if the stack does not
    /// support it.
    fn turns(&self, turn: Turn, count: u64) -> Option<io::Result<Duration>>;
}

/// All stacks of the tables. The ratios are to the first one.
pub(crate) const ALL: &[&dyn IoStack] = &[
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

/// Stacks for the scripts, which the tables leave out.
const SCRIPTS_ONLY: &[&dyn IoStack] = &[&raw_with_features::RawWithFeatures];

pub(crate) fn find(name: &str) -> Option<&'static dyn IoStack> {
    ALL.iter().chain(SCRIPTS_ONLY).copied().find(|stack| stack.name() == name)
}

/// Prints which stacks were not built, and why.
pub(crate) fn print_missing() {
    if cfg!(not(libuv)) {
        println!("libuv: skipped, built without uv.h (Debian: libuv1-dev)\n");
    }
    if cfg!(not(libevent)) {
        println!("libevent: skipped, built without event2/event.h (Debian: libevent-dev)\n");
    }
}

/// What a connection waits for.
#[derive(PartialEq, Eq, Clone, Copy)]
pub(crate) enum NextStep {
    Read,
    Write,
    Close,
}

/// A server's connection over the stack's stream type.
pub(crate) struct Connection<S> {
    pub(crate) stream: S,
    pub(crate) unsent: Unsent,
    /// What the loop waits for now; the registration changes only with it.
    pub(crate) waits_for: NextStep,
}

impl<S: Read + Write> Connection<S> {
    pub(crate) fn new(stream: S) -> Connection<S> {
        Connection { stream, unsent: Unsent::default(), waits_for: NextStep::Read }
    }

    #[inline]
    pub(crate) fn echo(&mut self, buffer: &mut [u8], until: ReadUntil) -> NextStep {
        self.unsent.echo(&mut self.stream, buffer, until)
    }
}

/// How far a connection is read for one event.
#[derive(PartialEq, Eq, Clone, Copy)]
pub(crate) enum ReadUntil {
    /// One read: a level-triggered loop reports the rest again.
    OneRead,
    /// Until a short read: for edge triggers.
    ShortRead,
    /// Until a read would block: for an edge that also reported the end.
    WouldBlock,
}

/// The bytes that the kernel has not accepted yet.
#[derive(Default)]
pub(crate) struct Unsent {
    bytes: Vec<u8>,
}

impl Unsent {
    /// Writes the unsent bytes, then reads and writes back.
    #[inline]
    pub(crate) fn echo<S: Read + Write>(
        &mut self,
        stream: &mut S,
        buffer: &mut [u8],
        until: ReadUntil,
    ) -> NextStep {
        if !self.bytes.is_empty() {
            match stream.write(&self.bytes) {
                Ok(count) if count == self.bytes.len() => self.bytes.clear(),
                Ok(count) => {
                    self.bytes.drain(..count);
                    return NextStep::Write;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return NextStep::Write,
                Err(_) => return NextStep::Close,
            }
        }
        loop {
            let count = match stream.read(buffer) {
                Ok(0) => return NextStep::Close,
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return NextStep::Read,
                Err(_) => return NextStep::Close,
            };
            let written = match stream.write(&buffer[..count]) {
                Ok(written) => written,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
                Err(_) => return NextStep::Close,
            };
            if written < count {
                self.bytes.extend_from_slice(&buffer[written..count]);
                return NextStep::Write;
            }
            if until == ReadUntil::OneRead
                || (until == ReadUntil::ShortRead && count < buffer.len())
            {
                return NextStep::Read;
            }
        }
    }
}
