//! One datagram at a time. The standard library has these calls too; its way from and to the
//! kernel's addresses takes twice the instructions.

use super::address::InetAddress;
use super::message::NO_SIGNAL;
use crate::fd::check_len;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, BorrowedFd};

/// Receives one datagram of an IP socket, and says how long it is (as far as it fits into `buffer`;
/// the rest is lost) and who sent it.
///
/// # Errors
/// [`WouldBlock`](io::ErrorKind::WouldBlock) when none waits;
/// [`InvalidInput`](io::ErrorKind::InvalidInput) when it does not come from an IP address, as
/// everything on a socket of another kind, and it is lost; otherwise what the kernel says.
#[inline]
pub fn recv_from(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
    receive(socket, buffer, 0)
}

/// As [`recv_from`], and the datagram stays where it is.
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
    let (mut address, mut len) = (InetAddress::blank(), InetAddress::ROOM);
    let (raw, place) = (socket.as_raw_fd(), buffer.as_mut_ptr().cast());
    let name = (&raw mut address).cast();
    // SAFETY: the descriptor is borrowed for the whole call, and the kernel writes at most
    // `buffer.len()` bytes into the one and `len` into the other.
    let received =
        check_len(unsafe { libc::recvfrom(raw, place, buffer.len(), flags, name, &mut len) })?;
    match address.get() {
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

/// Sends one datagram to `target`, whole or not at all, and says how long it is.
///
/// # Errors
/// [`WouldBlock`](io::ErrorKind::WouldBlock) when the kernel has no room for it; otherwise what the
/// kernel says.
#[inline]
pub fn send_to(socket: BorrowedFd<'_>, bytes: &[u8], target: SocketAddr) -> io::Result<usize> {
    let (address, len) = InetAddress::new(target);
    let (raw, place) = (socket.as_raw_fd(), bytes.as_ptr().cast());
    let name = (&raw const address).cast();
    // SAFETY: the descriptor is borrowed for the whole call, and `address` has `len` initialised
    // bytes.
    check_len(unsafe { libc::sendto(raw, place, bytes.len(), NO_SIGNAL, name, len) })
}
