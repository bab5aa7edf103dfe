//! Many datagrams in one call.
//!
//! A batch owns its memory, which is allocated once and reused: receive, read, receive again; or
//! fill, send, fill again.

use super::address::Address;
use super::message::Headers;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::fd::BorrowedFd;

/// No batch holds more datagrams: Linux takes no more in one call (`UIO_MAXIOV`).
const MAX_DATAGRAMS: usize = 1024;

/// No IP datagram is longer.
const MAX_DATAGRAM_BYTES: usize = 65_535;

/// Room for datagrams to be received with one call (`recvmmsg`; one call each where the kernel has
/// none).
///
/// ```
/// use kodiak_sys::socket::{RecvBatch, SendBatch};
/// use std::net::UdpSocket;
/// use std::os::fd::AsFd;
///
/// let (ours, theirs) = (UdpSocket::bind("127.0.0.1:0")?, UdpSocket::bind("127.0.0.1:0")?);
/// let mut outgoing = SendBatch::new(8, 1024);
/// outgoing.push(b"one", Some(ours.local_addr()?))?;
/// outgoing.push(b"two", Some(ours.local_addr()?))?;
/// assert_eq!(outgoing.send(theirs.as_fd())?, 2);
///
/// let mut incoming = RecvBatch::new(8, 1500);
/// assert_eq!(incoming.recv(ours.as_fd())?, 2);
/// assert_eq!(incoming.iter().map(|datagram| datagram.bytes).collect::<Vec<_>>(), [b"one", b"two"]);
/// assert_eq!(incoming.get(0).unwrap().from, Some(theirs.local_addr()?));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct RecvBatch {
    /// One after the other, `bytes_each` for each datagram.
    bytes: Box<[u8]>,
    bytes_each: usize,
    names: Box<[Address]>,
    headers: Headers,
    received: usize,
    many: bool,
    /// Came after a datagram in a batch received one by one, where the kernel does not keep it.
    error: Option<io::Error>,
}

/// One datagram of a [`RecvBatch`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Datagram<'a> {
    /// What it says; its first bytes if it was longer than its room.
    pub bytes: &'a [u8],
    /// Who sent it; `None` if that is not an IP address.
    pub from: Option<SocketAddr>,
    /// Whether it was longer than its room, and the rest is lost.
    pub is_truncated: bool,
}

impl RecvBatch {
    /// Room for `datagrams` (1 to 1024, or what is nearest) of `bytes_each` (1 to 65,535, or what
    /// is nearest).
    pub fn new(datagrams: usize, bytes_each: usize) -> RecvBatch {
        let datagrams = datagrams.clamp(1, MAX_DATAGRAMS);
        let bytes_each = bytes_each.clamp(1, MAX_DATAGRAM_BYTES);
        RecvBatch {
            bytes: vec![0; datagrams * bytes_each].into_boxed_slice(),
            bytes_each,
            names: vec![Address::blank(); datagrams].into_boxed_slice(),
            headers: Headers::new(datagrams),
            received: 0,
            many: true,
            error: None,
        }
    }

    /// Makes it receive with a call for each datagram, as it does where the kernel knows nothing
    /// else: for sandboxes that refuse `recvmmsg`, and for comparison.
    #[must_use]
    pub fn one_by_one(mut self) -> RecvBatch {
        self.many = false;
        self
    }

    /// Receives what waits, as far as there is room, and says how many datagrams that are: at least
    /// one. What was in here before is gone, in every case. Never waits, even if the socket is a
    /// blocking one.
    ///
    /// An error that comes after a datagram is kept for the next call, so use a batch with one
    /// socket only.
    ///
    /// # Errors
    /// [`WouldBlock`](io::ErrorKind::WouldBlock) when nothing waits; otherwise what the kernel
    /// says, such as that a datagram sent earlier was refused.
    pub fn recv(&mut self, socket: BorrowedFd<'_>) -> io::Result<usize> {
        self.received = 0;
        if let Some(error) = self.error.take() {
            return Err(error);
        }
        let places = self.bytes.chunks_exact_mut(self.bytes_each).zip(&mut self.names);
        self.received = self.headers.receive(socket, places, self.many, &mut self.error)?;
        Ok(self.received)
    }

    /// How many datagrams the last call brought.
    pub fn len(&self) -> usize {
        self.received
    }

    /// Whether the last call brought none.
    pub fn is_empty(&self) -> bool {
        self.received == 0
    }

    /// For how many datagrams there is room.
    pub fn capacity(&self) -> usize {
        self.names.len()
    }

    /// Whether there was room for no more: others may wait.
    pub fn is_full(&self) -> bool {
        self.received == self.capacity()
    }

    /// The datagram at `index`, in the order of arrival; `None` from [`len`](Self::len) on.
    pub fn get(&self, index: usize) -> Option<Datagram<'_>> {
        if index >= self.received {
            return None;
        }
        let outcome = self.headers.outcome(index);
        let room = &self.bytes[index * self.bytes_each..][..self.bytes_each];
        Some(Datagram {
            bytes: &room[..outcome.len.min(room.len())],
            from: self.names[index].to_inet().filter(|_| outcome.has_name),
            is_truncated: outcome.is_truncated,
        })
    }

    /// The datagrams in the order of arrival.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Datagram<'_>> {
        (0..self.received).map(|index| self.get(index).expect("as many were received"))
    }
}

impl fmt::Debug for RecvBatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("RecvBatch");
        shown.field("received", &self.received).field("capacity", &self.capacity());
        shown.field("bytes_each", &self.bytes_each).finish_non_exhaustive()
    }
}

/// A queue of datagrams to be sent with one call (`sendmmsg`; one call each where the kernel has
/// none).
///
/// [`push`](Self::push) copies a datagram in; [`send`](Self::send) sends as many as the kernel
/// takes, in order, and keeps the rest for when the socket is writable again. [`RecvBatch`] has an
/// example.
pub struct SendBatch {
    bytes: Box<[u8]>,
    /// How many of `bytes` are taken, from the beginning.
    used: usize,
    queue: Vec<Queued>,
    /// How many of the queue have been sent.
    sent: usize,
    datagrams_max: usize,
    headers: Headers,
    many: bool,
}

struct Queued {
    start: usize,
    len: usize,
    name: Address,
    name_len: libc::socklen_t,
}

/// A datagram was not queued in a [`SendBatch`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum PushError {
    /// There is no room now: send first.
    Full,
    /// It would not fit into the batch if it were empty.
    TooLong {
        /// The batch's size, as given to [`SendBatch::new`].
        bytes_max: usize,
    },
}

impl fmt::Display for PushError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PushError::Full => f.write_str(
                "the batch is full: send it first (its bounds are set in SendBatch::new)",
            ),
            PushError::TooLong { bytes_max } => {
                write!(
                    f,
                    "the datagram is longer than the whole batch, {bytes_max} bytes \
                     (set in SendBatch::new)"
                )
            }
        }
    }
}

impl std::error::Error for PushError {}

impl SendBatch {
    /// Room for `datagrams` (1 to 1024, or what is nearest) with `bytes` together (1 at least).
    pub fn new(datagrams: usize, bytes: usize) -> SendBatch {
        let datagrams = datagrams.clamp(1, MAX_DATAGRAMS);
        SendBatch {
            bytes: vec![0; bytes.max(1)].into_boxed_slice(),
            used: 0,
            queue: Vec::with_capacity(datagrams),
            sent: 0,
            datagrams_max: datagrams,
            headers: Headers::new(datagrams),
            many: true,
        }
    }

    /// Makes it send with a call for each datagram, as it does where the kernel knows nothing else:
    /// for sandboxes that refuse `sendmmsg`, and for comparison.
    #[must_use]
    pub fn one_by_one(mut self) -> SendBatch {
        self.many = false;
        self
    }

    /// Queues a copy of a datagram for `to`, or for the connected peer.
    ///
    /// # Errors
    /// [`PushError`]; nothing was queued.
    pub fn push(&mut self, bytes: &[u8], to: Option<SocketAddr>) -> Result<(), PushError> {
        if bytes.len() > self.bytes.len() {
            return Err(PushError::TooLong { bytes_max: self.bytes.len() });
        }
        if !self.has_room(bytes.len()) {
            self.move_up();
            if !self.has_room(bytes.len()) {
                return Err(PushError::Full);
            }
        }
        let (name, name_len) = to.map_or_else(|| (Address::blank(), 0), Address::inet);
        self.queue.push(Queued { start: self.used, len: bytes.len(), name, name_len });
        self.bytes[self.used..][..bytes.len()].copy_from_slice(bytes);
        self.used += bytes.len();
        Ok(())
    }

    /// Sends as many datagrams as the kernel takes now, in order, and says how many: all, or at
    /// least one. Those are gone from here, the others stay. Zero if there were none. Never waits,
    /// even if the socket is a blocking one.
    ///
    /// # Errors
    /// None has gone, and what it is about is the first: [`WouldBlock`](io::ErrorKind::WouldBlock)
    /// when the kernel's buffer is full; otherwise what the kernel says, such as that it is too
    /// long, or that an *earlier* one was refused. Send again, or [`skip`](Self::skip) it.
    pub fn send(&mut self, socket: BorrowedFd<'_>) -> io::Result<usize> {
        if self.is_empty() {
            return Ok(0);
        }
        let bytes = &self.bytes;
        let datagrams = self.queue[self.sent..]
            .iter()
            .map(|queued| (&bytes[queued.start..][..queued.len], &queued.name, queued.name_len));
        let count = self.headers.send(socket, datagrams, self.many)?;
        self.drop_first(count);
        Ok(count)
    }

    /// Drops the first datagram unsent. False if there is none.
    pub fn skip(&mut self) -> bool {
        let any = !self.is_empty();
        if any {
            self.drop_first(1);
        }
        any
    }

    /// Drops all of them unsent.
    pub fn clear(&mut self) {
        self.drop_first(self.len());
    }

    /// How many datagrams wait to be sent.
    pub fn len(&self) -> usize {
        self.queue.len() - self.sent
    }

    /// Whether all have been sent.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn has_room(&self, bytes: usize) -> bool {
        self.queue.len() < self.datagrams_max && bytes <= self.bytes.len() - self.used
    }

    fn drop_first(&mut self, count: usize) {
        self.sent += count;
        if self.is_empty() {
            self.queue.clear();
            (self.sent, self.used) = (0, 0);
        }
    }

    /// Moves what waits to the beginning, where the sent ones were.
    fn move_up(&mut self) {
        let Some(first) = self.queue.get(self.sent) else { return };
        let start = first.start;
        self.queue.drain(..self.sent);
        self.bytes.copy_within(start..self.used, 0);
        self.queue.iter_mut().for_each(|queued| queued.start -= start);
        (self.sent, self.used) = (0, self.used - start);
    }
}

impl fmt::Debug for SendBatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("SendBatch");
        shown.field("waiting", &self.len()).field("datagrams_max", &self.datagrams_max);
        shown.field("bytes_max", &self.bytes.len()).finish_non_exhaustive()
    }
}
