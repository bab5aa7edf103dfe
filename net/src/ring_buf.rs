//! [`RingBuf`]: a bounded ring buffer of bytes, between a socket and a parser.

use std::fmt;
use std::io::{self, BufRead, IoSlice, IoSliceMut, Read, Write};

use crate::try_io::not_ready_is_none;

/// A first-in, first-out buffer of bytes with a fixed capacity.
///
/// Bytes enter at the back and leave at the front. The end of the memory continues at its
/// beginning, so no bytes are moved to make room. The stored bytes are at most two slices, and so
/// is the free space: one vectored call moves all of it from or to a socket
/// ([`fill_from`](RingBuf::fill_from), [`drain_to`](RingBuf::drain_to)).
///
/// The capacity is a bound: the buffer never grows. When it is full the caller stops reading, which
/// gives the peer back-pressure. Only [`new`](RingBuf::new) allocates.
///
/// ```
/// use kodiak_net::RingBuf;
/// use std::io::Write;
///
/// // Frames of one length byte and a body.
/// let mut buffer = RingBuf::new(64);
/// buffer.writer().write_all(b"\x05helloand some more")?;
/// let length = usize::from(buffer.peek(1).expect("there is a byte")[0]);
/// let frame = buffer.peek(1 + length).expect("the whole frame is here");
/// assert_eq!(&frame[1..], b"hello");
/// buffer.consume(1 + length);
/// assert_eq!(buffer.len(), "and some more".len());
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct RingBuf {
    memory: Box<[u8]>,
    /// Where the first stored byte is; always below the capacity (zero when the capacity is zero).
    head: usize,
    /// How many bytes are stored.
    len: usize,
}

/// The result of [`RingBuf::fill_from`].
///
/// It distinguishes a full buffer from a closed stream. Both would otherwise be "zero bytes read",
/// and a program that confuses them hangs up on a peer that writes faster than it reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "`Closed` and `Full` ask for different things"]
pub enum Fill {
    /// This number of bytes was read; never zero.
    Bytes(usize),
    /// Nothing has arrived yet: wait for readable.
    WouldBlock,
    /// There is no free space, nothing was read: consume something first.
    Full,
    /// The peer has closed its writing half; nothing follows the stored bytes.
    Closed,
}

impl RingBuf {
    /// Makes an empty buffer for `capacity` bytes. One of zero bytes is always empty and full.
    ///
    /// # Panics
    /// As any allocation of `capacity` bytes.
    pub fn new(capacity: usize) -> RingBuf {
        RingBuf { memory: vec![0; capacity].into_boxed_slice(), head: 0, len: 0 }
    }

    /// How many bytes fit.
    pub fn capacity(&self) -> usize {
        self.memory.len()
    }

    /// How many bytes are stored.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing is stored.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether there is no free space.
    pub fn is_full(&self) -> bool {
        self.len == self.capacity()
    }

    /// How many more bytes fit.
    pub fn free(&self) -> usize {
        self.capacity() - self.len
    }

    /// Discards the stored bytes. They stay in memory until they are overwritten.
    pub fn clear(&mut self) {
        self.head = 0;
        self.len = 0;
    }

    /// The stored bytes, oldest first. The second slice continues the first and is empty unless the
    /// bytes wrap around.
    pub fn as_slices(&self) -> (&[u8], &[u8]) {
        let (before, from_head) = self.memory.split_at(self.head);
        let first_len = self.len.min(from_head.len());
        (&from_head[..first_len], &before[..self.len - first_len])
    }

    /// The free space, in the order in which it will be filled. Write into it, then
    /// [`commit`](RingBuf::commit) what was written.
    pub fn free_slices_mut(&mut self) -> (&mut [u8], &mut [u8]) {
        let free = self.free();
        let tail = self.wrap(self.head + self.len);
        let (before, from_tail) = self.memory.split_at_mut(tail);
        let first_len = free.min(from_tail.len());
        (&mut from_tail[..first_len], &mut before[..free - first_len])
    }

    /// Marks the first `count` bytes of the free space as stored. Returns their number: `count`, or
    /// all the free space if `count` is more.
    pub fn commit(&mut self, count: usize) -> usize {
        let count = count.min(self.free());
        self.len += count;
        count
    }

    /// Removes the oldest `count` bytes. Returns their number: `count`, or all that are stored if
    /// `count` is more.
    pub fn consume(&mut self, count: usize) -> usize {
        let count = count.min(self.len);
        self.len -= count;
        // An empty buffer starts over, so that small messages never straddle the end of the memory.
        self.head = if self.len == 0 { 0 } else { self.wrap(self.head + count) };
        count
    }

    /// The oldest `count` bytes in one piece, without consuming them; `None` while fewer are
    /// stored.
    ///
    /// Bytes that wrap around are first rotated into one piece, in place: time linear in the
    /// capacity, at most once per lap of the ring. [`as_slices`](RingBuf::as_slices) gives two
    /// pieces at no cost.
    pub fn peek(&mut self, count: usize) -> Option<&[u8]> {
        if count > self.len {
            return None;
        }
        if count > self.capacity() - self.head {
            self.make_contiguous();
        }
        Some(&self.memory[self.head..self.head + count])
    }

    /// Copies the oldest bytes into `target` without consuming them. Returns their number: the
    /// target's length, or all that are stored.
    pub fn peek_into(&self, target: &mut [u8]) -> usize {
        let (first, second) = self.as_slices();
        let from_first = first.len().min(target.len());
        let (head, rest) = target.split_at_mut(from_first);
        head.copy_from_slice(&first[..from_first]);
        let from_second = second.len().min(rest.len());
        rest[..from_second].copy_from_slice(&second[..from_second]);
        from_first + from_second
    }

    /// All stored bytes in one piece; see [`peek`](RingBuf::peek) for the cost.
    pub fn make_contiguous(&mut self) -> &mut [u8] {
        if self.len > self.capacity() - self.head {
            self.memory.rotate_left(self.head);
            self.head = 0;
        }
        &mut self.memory[self.head..self.head + self.len]
    }

    /// Reads once from `source` into the free space, with one vectored call.
    ///
    /// If [`Fill::Bytes`] is less than the free space was, a stream socket is most likely empty:
    /// with a level-triggered source a second call is not needed.
    ///
    /// # Errors
    /// Whatever [`Read::read_vectored`] reports, except `WouldBlock` (it is [`Fill::WouldBlock`])
    /// and `Interrupted` (it is repeated). The buffer is then as it was.
    pub fn fill_from<R: Read + ?Sized>(&mut self, source: &mut R) -> io::Result<Fill> {
        if self.is_full() {
            return Ok(Fill::Full);
        }
        let (first, second) = self.free_slices_mut();
        let read = if second.is_empty() {
            not_ready_is_none(|| source.read(first))?
        } else {
            let mut slices = [IoSliceMut::new(first), IoSliceMut::new(second)];
            not_ready_is_none(|| source.read_vectored(&mut slices))?
        };
        Ok(match read {
            None => Fill::WouldBlock,
            Some(0) => Fill::Closed,
            Some(count) => Fill::Bytes(self.commit(count)),
        })
    }

    /// Writes the stored bytes to `sink` once, with one vectored call, and consumes those written.
    ///
    /// `Ok(Some(n))`: `n` bytes were written (zero only if the buffer was empty). `Ok(None)`: the
    /// sink accepts nothing now, wait for writable. If bytes remain, the kernel's buffer is most
    /// likely full.
    ///
    /// # Errors
    /// Whatever [`Write::write_vectored`] reports, except `WouldBlock` (it is `Ok(None)`) and
    /// `Interrupted` (it is repeated); kind `WriteZero` if the sink accepts no byte. The
    /// buffer is then as it was.
    pub fn drain_to<W: Write + ?Sized>(&mut self, sink: &mut W) -> io::Result<Option<usize>> {
        let written = match self.as_slices() {
            ([], _) => return Ok(Some(0)),
            (first, []) => not_ready_is_none(|| sink.write(first))?,
            (first, second) => {
                let slices = [IoSlice::new(first), IoSlice::new(second)];
                not_ready_is_none(|| sink.write_vectored(&slices))?
            }
        };
        match written {
            Some(0) => Err(io::Error::new(
                io::ErrorKind::WriteZero,
                "the sink takes no more of the buffered bytes",
            )),
            Some(count) => Ok(Some(self.consume(count))),
            None => Ok(None),
        }
    }

    /// A view that takes bytes out: [`Read`] and [`BufRead`].
    pub fn reader(&mut self) -> Reader<'_> {
        Reader { ring: self }
    }

    /// A view that puts bytes in: [`Write`].
    pub fn writer(&mut self) -> Writer<'_> {
        Writer { ring: self }
    }

    /// Wraps an index that is past the end of the memory. The sum of two positions is at most twice
    /// the capacity, so one subtraction is enough.
    fn wrap(&self, index: usize) -> usize {
        if index >= self.capacity() { index - self.capacity() } else { index }
    }
}

impl fmt::Debug for RingBuf {
    /// Shows the sizes, not the bytes, which may be secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RingBuf")
            .field("len", &self.len)
            .field("capacity", &self.capacity())
            .finish_non_exhaustive()
    }
}

/// Takes bytes out of a [`RingBuf`]; from [`RingBuf::reader`].
///
/// A read of zero bytes means that the buffer is empty now: more bytes may be stored later.
#[derive(Debug)]
pub struct Reader<'ring> {
    ring: &'ring mut RingBuf,
}

impl Read for Reader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.ring.peek_into(buffer);
        Ok(self.ring.consume(count))
    }
}

impl BufRead for Reader<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        Ok(self.ring.as_slices().0)
    }

    fn consume(&mut self, count: usize) {
        self.ring.consume(count);
    }
}

/// Puts bytes into a [`RingBuf`]; from [`RingBuf::writer`].
///
/// Writes as much as fits and returns how much that was, zero when full. [`Write::write_all`]
/// reports that as an error of kind `WriteZero`, after it has stored what fits: check
/// [`RingBuf::free`] first to write all or nothing.
#[derive(Debug)]
pub struct Writer<'ring> {
    ring: &'ring mut RingBuf,
}

impl Write for Writer<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let (first, second) = self.ring.free_slices_mut();
        let into_first = first.len().min(bytes.len());
        let (head, rest) = bytes.split_at(into_first);
        first[..into_first].copy_from_slice(head);
        let into_second = second.len().min(rest.len());
        second[..into_second].copy_from_slice(&rest[..into_second]);
        Ok(self.ring.commit(into_first + into_second))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
