//! Unix datagram sockets.

use std::io;
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::SocketAddr;
use std::path::Path;

use kodiak_reactor::Io;

use super::descriptor_passing::impl_descriptor_passing;
use crate::error::{BindError, unix_address};
use crate::options::impl_common_options;
use crate::socket_macros::{impl_batches, impl_source_and_conversions};
use crate::try_io::{TryRecv, not_ready_is_none};

/// A Unix datagram socket, non-blocking.
///
/// Unlike UDP it is reliable: a full receiver makes the sender wait.
///
/// Batches ([`recv_batch`](UnixDatagram::recv_batch), [`send_batch`](UnixDatagram::send_batch)) go
/// to and come from the connected peer. Their addresses are IP addresses, so each datagram is
/// pushed with `None` and received with `None`.
///
/// ```
/// use kodiak_net::{TryRecv, UnixDatagram};
///
/// let (left, right) = UnixDatagram::pair()?;
/// left.send(b"one")?;
/// left.send(b"two")?;
/// let mut buffer = [0; 8];
/// assert_eq!(right.try_recv(&mut buffer)?, Some(3));
/// assert_eq!(right.try_recv(&mut buffer)?, Some(3));
/// assert_eq!(right.try_recv(&mut buffer)?, None);
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct UnixDatagram {
    io: Io<std::os::unix::net::UnixDatagram>,
}

impl UnixDatagram {
    /// Binds to a path.
    ///
    /// # Errors
    /// An error that names the path: it exists already (`AddrInUse`), is too long or holds a zero
    /// byte (`InvalidInput`), or its folder is missing or not accessible.
    pub fn bind(path: impl AsRef<Path>) -> io::Result<UnixDatagram> {
        Ok(UnixDatagram::bind_addr(&unix_address(path.as_ref())?)?)
    }

    /// Binds to an address, which may be abstract.
    ///
    /// # Errors
    /// As [`bind`](UnixDatagram::bind).
    pub fn bind_addr(address: &SocketAddr) -> Result<UnixDatagram, BindError> {
        std::os::unix::net::UnixDatagram::bind_addr(address)
            .and_then(UnixDatagram::from_std)
            .map_err(|source| BindError { address: address.clone().into(), source })
    }

    /// A socket without an address: it can send, but cannot be answered.
    ///
    /// # Errors
    /// No descriptor is free.
    pub fn unbound() -> io::Result<UnixDatagram> {
        UnixDatagram::from_std(std::os::unix::net::UnixDatagram::unbound()?)
    }

    /// Two sockets that are connected to each other.
    ///
    /// # Errors
    /// No descriptor is free (two are needed).
    pub fn pair() -> io::Result<(UnixDatagram, UnixDatagram)> {
        let (left, right) = std::os::unix::net::UnixDatagram::pair()?;
        Ok((UnixDatagram::from_std(left)?, UnixDatagram::from_std(right)?))
    }

    /// Takes over a std socket and makes it non-blocking.
    ///
    /// # Errors
    /// See the [crate](crate#errors).
    pub fn from_std(socket: std::os::unix::net::UnixDatagram) -> io::Result<UnixDatagram> {
        socket.set_nonblocking(true)?;
        Ok(UnixDatagram { io: Io::new(socket) })
    }

    /// Returns the socket, deregistered and still non-blocking.
    pub fn into_std(self) -> std::os::unix::net::UnixDatagram {
        self.io.into_inner()
    }

    /// The address it is bound to.
    ///
    /// # Errors
    /// See the [crate](crate#errors).
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.io.get_ref().local_addr()
    }

    /// The address it is connected to.
    ///
    /// # Errors
    /// Kind `NotConnected` if it is not.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.io.get_ref().peer_addr()
    }

    /// Sets the peer, at once.
    ///
    /// # Errors
    /// An error that names the path: no such path (`NotFound`), or no socket is bound there
    /// (`ConnectionRefused`).
    pub fn connect(&self, path: impl AsRef<Path>) -> io::Result<()> {
        self.connect_addr(&unix_address(path.as_ref())?)
    }

    /// Sets the peer by its address, which may be abstract.
    ///
    /// # Errors
    /// As [`connect`](UnixDatagram::connect).
    pub fn connect_addr(&self, peer: &SocketAddr) -> io::Result<()> {
        self.io.get_ref().connect_addr(peer).map_err(|source| {
            crate::error::ConnectError { address: peer.clone().into(), source }.into()
        })
    }

    /// Receives one datagram and its sender's address. What does not fit into `buffer` is lost.
    ///
    /// # Errors
    /// Kind `WouldBlock` when none waits; else the kernel's.
    pub fn recv_from(&self, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        self.io.get_ref().recv_from(buffer)
    }

    /// Receives one datagram.
    ///
    /// # Errors
    /// As [`recv_from`](UnixDatagram::recv_from).
    pub fn recv(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.io.get_ref().recv(buffer)
    }

    /// Sends one datagram to a path and returns its size: a datagram goes whole or not at all.
    ///
    /// # Errors
    /// Kind `WouldBlock` when the receiver's queue is full; else the kernel's:
    /// `NotFound`, `ConnectionRefused`, or a datagram that is too long.
    pub fn send_to(&self, bytes: &[u8], path: impl AsRef<Path>) -> io::Result<usize> {
        self.io.get_ref().send_to(bytes, path)
    }

    /// Sends one datagram to an address, which may be abstract.
    ///
    /// # Errors
    /// As [`send_to`](UnixDatagram::send_to).
    pub fn send_to_addr(&self, bytes: &[u8], target: &SocketAddr) -> io::Result<usize> {
        self.io.get_ref().send_to_addr(bytes, target)
    }

    /// Sends one datagram to the connected peer.
    ///
    /// # Errors
    /// As [`send_to`](UnixDatagram::send_to).
    pub fn send(&self, bytes: &[u8]) -> io::Result<usize> {
        self.io.get_ref().send(bytes)
    }

    /// As [`send`](UnixDatagram::send); `Ok(None)` when the receiver's queue is full.
    ///
    /// # Errors
    /// The kernel's, except `WouldBlock` and `Interrupted` (it is repeated).
    pub fn try_send(&self, bytes: &[u8]) -> io::Result<Option<usize>> {
        not_ready_is_none(|| self.send(bytes))
    }

    /// As [`try_send`](UnixDatagram::try_send), to a path.
    ///
    /// # Errors
    /// As [`send_to`](UnixDatagram::send_to), except `WouldBlock` and `Interrupted` (it is
    /// repeated).
    pub fn try_send_to(&self, bytes: &[u8], path: impl AsRef<Path>) -> io::Result<Option<usize>> {
        let path = path.as_ref();
        not_ready_is_none(|| self.send_to(bytes, path))
    }

    /// As [`try_send`](UnixDatagram::try_send), to an address, which may be abstract.
    ///
    /// # Errors
    /// As [`send_to`](UnixDatagram::send_to), except `WouldBlock` and `Interrupted` (it is
    /// repeated).
    pub fn try_send_to_addr(&self, bytes: &[u8], target: &SocketAddr) -> io::Result<Option<usize>> {
        not_ready_is_none(|| self.send_to_addr(bytes, target))
    }

    /// As [`send_with_descriptors`](UnixDatagram::send_with_descriptors), to an address, which may
    /// be abstract.
    ///
    /// # Errors
    /// As there, and as [`send_to`](UnixDatagram::send_to).
    pub fn send_with_descriptors_to(
        &self,
        bytes: &[u8],
        descriptors: &[BorrowedFd<'_>],
        target: &SocketAddr,
    ) -> io::Result<usize> {
        kodiak_sys::socket::send_with_descriptors(self.io.as_fd(), bytes, descriptors, Some(target))
    }

    /// Ends one direction or both.
    ///
    /// # Errors
    /// See the [crate](crate#errors).
    pub fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        self.io.get_ref().shutdown(how)
    }
}

impl TryRecv for UnixDatagram {
    type Address = SocketAddr;

    fn try_recv_from(&self, buffer: &mut [u8]) -> io::Result<Option<(usize, SocketAddr)>> {
        not_ready_is_none(|| self.recv_from(buffer))
    }

    fn try_recv(&self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        not_ready_is_none(|| self.recv(buffer))
    }
}

impl_batches!(UnixDatagram);
impl_descriptor_passing!(UnixDatagram);
impl_common_options!(UnixDatagram);
impl_source_and_conversions!(UnixDatagram, std::os::unix::net::UnixDatagram);
