//! One datagram at a time.
//!
//! The standard library has these calls too, but takes twice the instructions to convert the
//! kernel's addresses.

use super::address::InetAddress;
use super::message::NO_SIGNAL;
use crate::fd::check_len;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, BorrowedFd};

/// Receives one datagram of an IP socket. Returns its length and its sender.
///
/// What does not fit into `buffer` is lost and not counted.
///
/// # Errors
/// - [`WouldBlock`](io::ErrorKind::WouldBlock): no datagram has arrived.
/// - [`InvalidInput`](io::ErrorKind::InvalidInput): the sender's address is not an IP address, as
///   on a socket of another kind. The datagram is lost.
/// - any other [kernel's error](crate#errors).
#[inline]
pub fn recv_from(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
    receive(socket, buffer, 0)
}

/// As [`recv_from`], but the datagram stays in the socket's queue.
///
/// # Errors
/// As [`recv_from`].
#[inline]
pub fn peek_from(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
    receive(socket, buffer, libc::MSG_PEEK)
}

#[inline]
fn receive(
    socket: BorrowedFd<'_>,
    buffer: &mut [u8],
    flags: libc::c_int,
) -> io::Result<(usize, SocketAddr)> {
    let (mut address, mut len) = (InetAddress::zeroed(), InetAddress::CAPACITY);
    let (raw, data) = (socket.as_raw_fd(), buffer.as_mut_ptr().cast());
    let name = (&raw mut address).cast();
    // SAFETY: the descriptor is borrowed for the whole call, and the kernel writes at most
    // `buffer.len()` bytes into the buffer and `len` into the address.
    let received =
        check_len(unsafe { libc::recvfrom(raw, data, buffer.len(), flags, name, &mut len) })?;
    match address.to_inet() {
        Some(sender) => Ok((received, sender)),
        None => Err(no_ip_address()),
    }
}

#[cold]
fn no_ip_address() -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidInput,
        "this datagram does not come from an IP address: is it an IP socket?",
    )
}

/// Sends one datagram to `target`, whole or not at all. Returns its length.
///
/// # Errors
/// [`WouldBlock`](io::ErrorKind::WouldBlock) if the kernel's buffer is full; otherwise the
/// [kernel's error](crate#errors).
#[inline]
pub fn send_to(socket: BorrowedFd<'_>, bytes: &[u8], target: SocketAddr) -> io::Result<usize> {
    let (address, len) = InetAddress::new(target);
    let (raw, data) = (socket.as_raw_fd(), bytes.as_ptr().cast());
    let name = (&raw const address).cast();
    // SAFETY: the descriptor is borrowed for the whole call, and `address` has `len` initialised
    // bytes.
    check_len(unsafe { libc::sendto(raw, data, bytes.len(), NO_SIGNAL, name, len) })
}
