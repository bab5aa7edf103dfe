//! Beginning a connection, and accepting one.

use super::address::{Address, InetAddress, Sized};
use super::{is_in_progress, take_error};
use crate::fd::{check, retry};
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::net::SocketAddr as UnixSocketAddr;
use std::path::Path;

/// How far a connection attempt got in the call that began it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Progress {
    /// It is connected already (the rule for Unix sockets).
    Connected,
    /// It goes on: the socket becomes writable when it has ended, and [`connect_progress`] tells
    /// how.
    Pending,
}

/// Opens a TCP socket and begins to connect it to `address`.
///
/// # Errors
/// What the kernel says at once: no descriptors left, no route, or (on loopback) nobody listening.
pub fn connect_tcp(address: SocketAddr) -> io::Result<(OwnedFd, Progress)> {
    connect(Address::inet(address))
}

/// Opens a Unix stream socket and begins to connect it to the one that listens at `path`.
///
/// # Errors
/// - [`InvalidInput`](io::ErrorKind::InvalidInput): the path is empty, too long for the kernel's
///   address (some 100 bytes), or has a zero byte in it.
/// - [`WouldBlock`](io::ErrorKind::WouldBlock): the listener's queue is full. Nothing has begun,
///   nothing will be reported: try again later.
/// - whatever else the kernel says, for instance that nobody listens.
pub fn connect_unix(path: &Path) -> io::Result<(OwnedFd, Progress)> {
    connect(Address::unix_path(path)?)
}

/// As [`connect_unix`], by an address, which on Linux may be an abstract name
/// (`std::os::linux::net::SocketAddrExt::from_abstract_name`).
///
/// # Errors
/// As [`connect_unix`]; [`InvalidInput`](io::ErrorKind::InvalidInput) for the address of an unnamed
/// socket, too.
pub fn connect_unix_addr(address: &UnixSocketAddr) -> io::Result<(OwnedFd, Progress)> {
    connect(Address::unix(address)?)
}

/// How far a connection attempt has come. May be called at any time.
///
/// # Errors
/// Why the attempt failed. [`NotConnected`](io::ErrorKind::NotConnected) if it failed and another
/// call of [`take_error`] has taken the reason. Otherwise the [kernel's error](crate#errors), for
/// instance that the descriptor is not a socket.
pub fn connect_progress(socket: BorrowedFd<'_>) -> io::Result<Progress> {
    // The order matters: first the error (reading it clears it), then whether there is a peer.
    // Without either the attempt goes on, or failed just now, or its error is gone: a socket that
    // waits for its peer has not hung up.
    if let Some(error) = take_error(socket)? {
        return Err(error);
    }
    match ask_for_peer(socket) {
        Ok(()) => Ok(Progress::Connected),
        Err(error) if error.kind() != io::ErrorKind::NotConnected => Err(error),
        Err(_) if !has_hung_up(socket)? => Ok(Progress::Pending),
        Err(_) => Err(take_error(socket)?.unwrap_or_else(|| {
            let text = "the connection attempt has failed, and another call of take_error has taken \
                        the reason";
            io::Error::new(io::ErrorKind::NotConnected, text)
        })),
    }
}

/// [`NotConnected`](io::ErrorKind::NotConnected) if there is no peer.
fn ask_for_peer(socket: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: the struct consists of integers, for all of which zero is a value.
    let mut address: libc::sockaddr_storage = unsafe { std::mem::zeroed() };
    let mut len = size_of::<libc::sockaddr_storage>() as libc::socklen_t;
    let place = (&raw mut address).cast();
    // SAFETY: the descriptor is borrowed for the whole call, and `len` is the size of `address`.
    check(unsafe { libc::getpeername(socket.as_raw_fd(), place, &mut len) }).map(drop)
}

/// Whether the connection is over in both directions, or was never begun.
fn has_hung_up(socket: BorrowedFd<'_>) -> io::Result<bool> {
    let mut asked = libc::pollfd { fd: socket.as_raw_fd(), events: 0, revents: 0 };
    // SAFETY: one entry, which the kernel writes to, and no waiting.
    retry(|| check(unsafe { libc::poll(&mut asked, 1, 0) }))?;
    Ok(asked.revents & (libc::POLLHUP | libc::POLLERR) != 0)
}

/// Accepts a TCP connection, and says where it comes from.
///
/// # Errors
/// What the kernel says; [`accept_failure`](super::accept_failure) sorts it.
#[inline]
pub fn accept_tcp(listener: BorrowedFd<'_>) -> io::Result<(OwnedFd, SocketAddr)> {
    let mut address = InetAddress::blank();
    let socket = accept(listener, Some(&mut address))?;
    match address.get() {
        Some(peer) => Ok((socket, peer)),
        None => Err(not_tcp()),
    }
}

#[cold]
fn not_tcp() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, "this listener does not listen on TCP")
}

/// Accepts a Unix connection. Peers of a Unix stream seldom have a name; the standard library's
/// `peer_addr` tells it.
///
/// # Errors
/// What the kernel says; [`accept_failure`](super::accept_failure) sorts it.
pub fn accept_unix(listener: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    accept(listener, None)
}

fn connect((address, len): Sized) -> io::Result<(OwnedFd, Progress)> {
    let socket = stream_socket(address.family())?;
    let (raw, address) = (socket.as_raw_fd(), std::ptr::from_ref(&address).cast());
    // SAFETY: the descriptor is ours, and `address` points to `len` initialised bytes.
    match check(unsafe { libc::connect(raw, address, len) }) {
        Ok(_) => Ok((socket, Progress::Connected)),
        // Interrupted, a connection attempt goes on like one that was never waited for (POSIX,
        // connect).
        Err(error) if is_in_progress(&error) => Ok((socket, Progress::Pending)),
        Err(error) => Err(error),
    }
}

fn stream_socket(family: libc::c_int) -> io::Result<OwnedFd> {
    #[cfg(not(target_vendor = "apple"))]
    const KIND: libc::c_int = libc::SOCK_STREAM | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    #[cfg(target_vendor = "apple")]
    const KIND: libc::c_int = libc::SOCK_STREAM;
    // SAFETY: no pointers; the answer is a new descriptor or -1.
    let raw = check(unsafe { libc::socket(family, KIND, 0) })?;
    // SAFETY: `raw` was just opened and has no other owner.
    let socket = unsafe { OwnedFd::from_raw_fd(raw) };
    finish(socket.as_fd())?;
    Ok(socket)
}

#[inline]
fn accept(listener: BorrowedFd<'_>, mut peer: Option<&mut InetAddress>) -> io::Result<OwnedFd> {
    let raw = retry(|| accept_raw(listener, peer.as_deref_mut()))?;
    // SAFETY: `raw` was just opened and has no other owner.
    let socket = unsafe { OwnedFd::from_raw_fd(raw) };
    finish(socket.as_fd())?;
    Ok(socket)
}

#[inline]
fn accept_raw(listener: BorrowedFd<'_>, peer: Option<&mut InetAddress>) -> io::Result<libc::c_int> {
    let (raw, mut len) = (listener.as_raw_fd(), InetAddress::ROOM);
    let place: *mut libc::sockaddr =
        peer.map_or(std::ptr::null_mut(), |peer| std::ptr::from_mut(peer).cast());
    let len = if place.is_null() { std::ptr::null_mut() } else { &raw mut len };
    #[cfg(not(target_vendor = "apple"))]
    // SAFETY: the descriptor is borrowed for the whole call, and `place` has room for `len` bytes,
    // or both are null.
    let answer =
        unsafe { libc::accept4(raw, place, len, libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK) };
    #[cfg(target_vendor = "apple")]
    // SAFETY: as above.
    let answer = unsafe { libc::accept(raw, place, len) };
    check(answer)
}

/// Sets what the call that made the socket could not set.
#[cfg(not(target_vendor = "apple"))]
#[inline]
fn finish(_socket: BorrowedFd<'_>) -> io::Result<()> {
    Ok(())
}

#[cfg(target_vendor = "apple")]
fn finish(socket: BorrowedFd<'_>) -> io::Result<()> {
    crate::fd::set_cloexec(socket)?;
    crate::fd::set_nonblocking(socket, true)?;
    let (raw, yes, len) = (socket.as_raw_fd(), 1_i32, size_of::<libc::c_int>() as libc::socklen_t);
    let place = (&raw const yes).cast();
    // SAFETY: the descriptor is borrowed for the whole call, and `len` is the size of `yes`.
    check(unsafe { libc::setsockopt(raw, libc::SOL_SOCKET, libc::SO_NOSIGPIPE, place, len) })
        .map(drop)
}
