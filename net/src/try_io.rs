//! Reading, writing and receiving where "would block" is `Ok(None)`, not an error.
//!
//! A non-blocking socket without data returns an error of kind [`io::ErrorKind::WouldBlock`]. In an
//! event loop that is the normal end of every callback, and matching on error kinds hides it among
//! real failures. These traits return `Ok(None)` instead, and repeat a call that a signal
//! interrupted.

use std::io::{self, IoSlice, IoSliceMut, Read, Write};

/// Turns "would block" into `None` and repeats what a signal interrupted.
pub(crate) fn not_ready_is_none<R>(
    mut operation: impl FnMut() -> io::Result<R>,
) -> io::Result<Option<R>> {
    loop {
        match operation() {
            Ok(value) => return Ok(Some(value)),
            Err(error) if kodiak_sys::is_would_block(&error) => return Ok(None),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Reading from a non-blocking source; every [`Read`] has it.
///
/// `Ok(None)`: nothing has arrived yet. `Ok(Some(0))`: the end of the stream (or an empty buffer).
/// `Ok(Some(n))`: `n` bytes are in the buffer. With a *blocking* source it blocks.
///
/// ```
/// use kodiak_net::{TryRead, UnixStream};
/// use std::io::Write;
///
/// let (mut left, mut right) = UnixStream::pair()?;
/// let mut buffer = [0; 16];
/// assert_eq!(right.try_read(&mut buffer)?, None);
/// left.write_all(b"paw")?;
/// assert_eq!(right.try_read(&mut buffer)?, Some(3));
/// # Ok::<(), std::io::Error>(())
/// ```
pub trait TryRead {
    /// Reads once into `buffer`.
    ///
    /// # Errors
    /// Whatever [`Read::read`] reports, except `WouldBlock` (it is `Ok(None)`) and `Interrupted`
    /// (it is repeated).
    fn try_read(&mut self, buffer: &mut [u8]) -> io::Result<Option<usize>>;

    /// Reads once into several buffers, filling them in order.
    ///
    /// # Errors
    /// As [`try_read`](TryRead::try_read).
    fn try_read_vectored(&mut self, buffers: &mut [IoSliceMut<'_>]) -> io::Result<Option<usize>>;
}

impl<R: Read + ?Sized> TryRead for R {
    fn try_read(&mut self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        not_ready_is_none(|| self.read(buffer))
    }

    fn try_read_vectored(&mut self, buffers: &mut [IoSliceMut<'_>]) -> io::Result<Option<usize>> {
        not_ready_is_none(|| self.read_vectored(buffers))
    }
}

/// Writing to a non-blocking sink; every [`Write`] has it.
///
/// `Ok(None)`: the kernel's buffer is full. Keep the bytes, register for writable, and continue
/// when the handler is called. `Ok(Some(n))`: the first `n` bytes were written, perhaps not all.
///
/// ```
/// use kodiak_net::{TryWrite, UnixStream};
///
/// let (mut left, _right) = UnixStream::pair()?;
/// let mut written = 0;
/// while let Some(count) = left.try_write(&[0; 4096])? {
///     written += count;
/// }
/// assert!(written > 0, "the kernel's buffer has room at first");
/// # Ok::<(), std::io::Error>(())
/// ```
pub trait TryWrite {
    /// Writes once from `bytes`.
    ///
    /// # Errors
    /// Whatever [`Write::write`] reports, except `WouldBlock` (it is `Ok(None)`) and `Interrupted`
    /// (it is repeated).
    fn try_write(&mut self, bytes: &[u8]) -> io::Result<Option<usize>>;

    /// Writes once from several buffers, in order.
    ///
    /// # Errors
    /// As [`try_write`](TryWrite::try_write).
    fn try_write_vectored(&mut self, buffers: &[IoSlice<'_>]) -> io::Result<Option<usize>>;
}

impl<W: Write + ?Sized> TryWrite for W {
    fn try_write(&mut self, bytes: &[u8]) -> io::Result<Option<usize>> {
        not_ready_is_none(|| self.write(bytes))
    }

    fn try_write_vectored(&mut self, buffers: &[IoSlice<'_>]) -> io::Result<Option<usize>> {
        not_ready_is_none(|| self.write_vectored(buffers))
    }
}

/// Receiving and sending datagrams without blocking: [`UdpSocket`](crate::UdpSocket) and
/// [`UnixDatagram`](crate::UnixDatagram).
///
/// ```
/// use kodiak_net::{TryRecv, UdpSocket};
///
/// let socket = UdpSocket::bind("127.0.0.1:0".parse()?)?;
/// assert_eq!(socket.try_recv_from(&mut [0; 32])?, None);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub trait TryRecv {
    /// The type of a sender's address.
    type Address;

    /// Receives one datagram and its sender's address; `Ok(None)` when none waits.
    ///
    /// A datagram longer than `buffer` is truncated; the rest is lost.
    ///
    /// # Errors
    /// The kernel's, except `WouldBlock` (it is `Ok(None)`) and `Interrupted` (it is
    /// repeated).
    fn try_recv_from(&self, buffer: &mut [u8]) -> io::Result<Option<(usize, Self::Address)>>;

    /// Receives one datagram on a connected socket; `Ok(None)` when none waits.
    ///
    /// # Errors
    /// As [`try_recv_from`](TryRecv::try_recv_from), and `ConnectionRefused` if an earlier datagram
    /// of ours was refused.
    fn try_recv(&self, buffer: &mut [u8]) -> io::Result<Option<usize>>;
}
