//! Many datagrams in one call.
//!
//! A batch allocates its memory once and reuses it for every call.

use super::address::Address;
use super::message::{CallsPer, Headers};
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::fd::BorrowedFd;

/// The greatest batch: Linux takes no more datagrams in one call (`UIO_MAXIOV`).
const MAX_DATAGRAMS: usize = 1024;

/// The length of the longest IP datagram.
const MAX_DATAGRAM_BYTES: usize = 65_535;

/// A buffer for datagrams that are received with one call (`recvmmsg`).
///
/// Where the kernel lacks that call, each datagram takes a call of its own.
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
/// let bytes: Vec<_> = incoming.iter().map(|datagram| datagram.bytes).collect();
/// assert_eq!(bytes, [b"one", b"two"]);
/// assert_eq!(incoming.get(0).unwrap().from, Some(theirs.local_addr()?));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct RecvBatch {
    /// `bytes_each` for each datagram.
    bytes: Box<[u8]>,
    bytes_each: usize,
    names: Box<[Address]>,
    headers: Headers,
    received: usize,
    calls: CallsPer,
    /// The error after the last datagram of a batch received one by one; the kernel has not kept
    /// it.
    error: Option<io::Error>,
}

/// One datagram of a [`RecvBatch`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Datagram<'a> {
    /// Its payload; only the first bytes if it was longer than the buffer for one datagram.
    pub bytes: &'a [u8],
    /// The sender; `None` if that is not an IP address.
    pub from: Option<SocketAddr>,
    /// Whether it was longer than the buffer for one datagram, and the rest is lost.
    pub is_truncated: bool,
}

impl RecvBatch {
    /// Room for `datagrams`, clamped to 1 to 1024, of `bytes_each`, clamped to 1 to 65,535.
    pub fn new(datagrams: usize, bytes_each: usize) -> RecvBatch {
        let datagrams = datagrams.clamp(1, MAX_DATAGRAMS);
        let bytes_each = bytes_each.clamp(1, MAX_DATAGRAM_BYTES);
        RecvBatch {
            bytes: vec![0; datagrams * bytes_each].into_boxed_slice(),
            bytes_each,
            names: vec![Address::zeroed(); datagrams].into_boxed_slice(),
            headers: Headers::new(datagrams),
            received: 0,
            calls: CallsPer::Batch,
            error: None,
        }
    }

    /// Makes it receive with a call for each datagram, as where the kernel lacks `recvmmsg`.
    ///
    /// For sandboxes that refuse `recvmmsg`, and for comparison.
    #[must_use]
    pub fn one_by_one(mut self) -> RecvBatch {
        self.calls = CallsPer::Datagram;
        self
    }

    /// Receives the datagrams that have arrived, as far as they fit. Returns their number, which
    /// is at least 1.
    ///
    /// The previous content is cleared, also after an error. Never waits, even on a blocking
    /// socket. An error that comes after a datagram is returned by the next call, so a batch is for
    /// one socket only.
    ///
    /// # Errors
    /// [`WouldBlock`](io::ErrorKind::WouldBlock) if no datagram has arrived; otherwise the
    /// [kernel's error](crate#errors), for instance that a datagram sent earlier was refused.
    pub fn recv(&mut self, socket: BorrowedFd<'_>) -> io::Result<usize> {
        self.received = 0;
        if let Some(error) = self.error.take() {
            return Err(error);
        }
        let buffers = self.bytes.chunks_exact_mut(self.bytes_each).zip(&mut self.names);
        self.received = self.headers.receive(socket, buffers, self.calls, &mut self.error)?;
        Ok(self.received)
    }

    /// The number of datagrams that the last call received.
    pub fn len(&self) -> usize {
        self.received
    }

    /// Whether the last call received none.
    pub fn is_empty(&self) -> bool {
        self.received == 0
    }

    /// The number of datagrams that fit.
    pub fn capacity(&self) -> usize {
        self.names.len()
    }

    /// Whether no more datagrams fit; then another call may receive more.
    pub fn is_full(&self) -> bool {
        self.received == self.capacity()
    }

    /// The datagram at `index`, in the order of arrival; `None` from [`len`](Self::len) on.
    pub fn get(&self, index: usize) -> Option<Datagram<'_>> {
        if index >= self.received {
            return None;
        }
        let received = self.headers.received(index);
        let buffer = &self.bytes[index * self.bytes_each..][..self.bytes_each];
        Some(Datagram {
            bytes: &buffer[..received.len.min(buffer.len())],
            from: self.names[index].to_inet().filter(|_| received.has_name),
            is_truncated: received.is_truncated,
        })
    }

    /// The datagrams in the order of arrival.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Datagram<'_>> {
        (0..self.received).map(|index| self.get(index).expect("index is below len"))
    }
}

impl fmt::Debug for RecvBatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("RecvBatch");
        shown.field("received", &self.received).field("capacity", &self.capacity());
        shown.field("bytes_each", &self.bytes_each).finish_non_exhaustive()
    }
}

/// A queue of datagrams that are sent with one call (`sendmmsg`).
///
/// [`push`](Self::push) copies a datagram into the queue. [`send`](Self::send) sends as many as the
/// kernel takes, in order, and keeps the rest until the socket is writable again. Where the kernel
/// lacks `sendmmsg`, each datagram takes a call of its own. [`RecvBatch`] has an example.
pub struct SendBatch {
    bytes: Box<[u8]>,
    /// The number of `bytes` in use, from the beginning.
    used: usize,
    queue: Vec<Queued>,
    /// The number of datagrams at the front of the queue that have been sent.
    sent: usize,
    datagrams_max: usize,
    headers: Headers,
    calls: CallsPer,
}

struct Queued {
    start: usize,
    len: usize,
    name: Address,
    name_len: libc::socklen_t,
}

/// Why [`SendBatch::push`] did not queue a datagram.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum PushError {
    /// The batch is full: send first.
    Full,
    /// The datagram is longer than the whole batch.
    TooLong {
        /// The batch's size, as given to [`SendBatch::new`].
        bytes_max: usize,
    },
}

impl fmt::Display for PushError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PushError::Full => {
                f.write_str("the batch is full: send it first (SendBatch::new sets its size)")
            }
            PushError::TooLong { bytes_max } => {
                write!(
                    f,
                    "the datagram is longer than the whole batch, {bytes_max} bytes \
                     (SendBatch::new sets its size)"
                )
            }
        }
    }
}

impl std::error::Error for PushError {}

impl SendBatch {
    /// Room for `datagrams`, clamped to 1 to 1024, of `bytes` in total, at least 1.
    pub fn new(datagrams: usize, bytes: usize) -> SendBatch {
        let datagrams = datagrams.clamp(1, MAX_DATAGRAMS);
        SendBatch {
            bytes: vec![0; bytes.max(1)].into_boxed_slice(),
            used: 0,
            queue: Vec::with_capacity(datagrams),
            sent: 0,
            datagrams_max: datagrams,
            headers: Headers::new(datagrams),
            calls: CallsPer::Batch,
        }
    }

    /// Makes it send with a call for each datagram, as where the kernel lacks `sendmmsg`.
    ///
    /// For sandboxes that refuse `sendmmsg`, and for comparison.
    #[must_use]
    pub fn one_by_one(mut self) -> SendBatch {
        self.calls = CallsPer::Datagram;
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
            self.compact();
            if !self.has_room(bytes.len()) {
                return Err(PushError::Full);
            }
        }
        let (name, name_len) = to.map_or_else(|| (Address::zeroed(), 0), Address::inet);
        self.queue.push(Queued { start: self.used, len: bytes.len(), name, name_len });
        self.bytes[self.used..][..bytes.len()].copy_from_slice(bytes);
        self.used += bytes.len();
        Ok(())
    }

    /// Sends as many datagrams as the kernel takes now, in order. Returns their number.
    ///
    /// At least one is sent, unless the queue is empty. Datagrams that were sent leave the queue,
    /// the others stay. Never waits, even on a blocking socket.
    ///
    /// # Errors
    /// After an error none was sent, and it concerns the first in the queue:
    /// [`WouldBlock`](io::ErrorKind::WouldBlock) if the kernel's buffer is full; otherwise the
    /// [kernel's error](crate#errors), for instance that the datagram is too long, or that an
    /// *earlier* one was refused. Send again, or [`skip`](Self::skip) the datagram.
    pub fn send(&mut self, socket: BorrowedFd<'_>) -> io::Result<usize> {
        if self.is_empty() {
            return Ok(0);
        }
        let bytes = &self.bytes;
        let datagrams = self.queue[self.sent..]
            .iter()
            .map(|queued| (&bytes[queued.start..][..queued.len], &queued.name, queued.name_len));
        let count = self.headers.send(socket, datagrams, self.calls)?;
        self.drop_first(count);
        Ok(count)
    }

    /// Drops the first datagram without sending it. False if there is none.
    pub fn skip(&mut self) -> bool {
        if self.is_empty() {
            return false;
        }
        self.drop_first(1);
        true
    }

    /// Drops all datagrams without sending them.
    pub fn clear(&mut self) {
        self.drop_first(self.len());
    }

    /// The number of datagrams that are not sent yet.
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

    /// Moves the unsent datagrams to the beginning of `bytes`.
    fn compact(&mut self) {
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
