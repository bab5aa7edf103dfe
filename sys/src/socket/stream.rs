//! Connecting and accepting stream sockets.

use super::address::{Address, AddressAndLen, InetAddress};
use super::{is_in_progress, take_error};
use crate::fd::{check, retry};
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::net::SocketAddr as UnixSocketAddr;
use std::path::Path;

/// How far a connection attempt has come.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum ConnectProgress {
    /// It is connected (Unix sockets usually are at once).
    Connected,
    /// It is in progress: the socket becomes writable when the attempt has ended, and then
    /// [`connect_progress`] returns the result.
    InProgress,
}

/// Opens a TCP socket and begins to connect it to `address`.
///
/// # Errors
/// The [kernel's error](crate#errors), if the attempt fails at once: no route, or, on loopback, no
/// listener.
pub fn connect_tcp(address: SocketAddr) -> io::Result<(OwnedFd, ConnectProgress)> {
    connect(Address::inet(address))
}

/// Opens a Unix stream socket and begins to connect it to the one that listens at `path`.
///
/// # Errors
/// - [`InvalidInput`](io::ErrorKind::InvalidInput): the path is empty, too long for the kernel's
///   address (about 100 bytes), or contains a zero byte.
/// - [`WouldBlock`](io::ErrorKind::WouldBlock): the listener's queue is full. The attempt has not
///   begun and nothing will be reported: try again later.
/// - any other [kernel's error](crate#errors), for instance that there is no listener.
pub fn connect_unix(path: &Path) -> io::Result<(OwnedFd, ConnectProgress)> {
    connect(Address::unix_path(path)?)
}

/// As [`connect_unix`], by an address, which on Linux may be an abstract name
/// (`std::os::linux::net::SocketAddrExt::from_abstract_name`).
///
/// # Errors
/// As [`connect_unix`]; also [`InvalidInput`](io::ErrorKind::InvalidInput) for the address of an
/// unnamed socket.
pub fn connect_unix_addr(address: &UnixSocketAddr) -> io::Result<(OwnedFd, ConnectProgress)> {
    connect(Address::unix(address)?)
}

/// How far a connection attempt has come. May be called at any time.
///
/// # Errors
/// Why the attempt failed. [`NotConnected`](io::ErrorKind::NotConnected) if it failed and another
/// call of [`take_error`] has taken the reason. Otherwise the [kernel's error](crate#errors), for
/// instance that the descriptor is not a socket.
pub fn connect_progress(socket: BorrowedFd<'_>) -> io::Result<ConnectProgress> {
    // The order matters: first the error (reading it clears it), then whether there is a peer.
    // Without either, the attempt is in progress, or has just failed, or another call has taken its
    // error. Only in the first case the socket has not hung up.
    if let Some(error) = take_error(socket)? {
        return Err(error);
    }
    match check_peer(socket) {
        Ok(()) => Ok(ConnectProgress::Connected),
        Err(error) if error.kind() != io::ErrorKind::NotConnected => Err(error),
        Err(_) if !has_hung_up(socket)? => Ok(ConnectProgress::InProgress),
        Err(_) => Err(take_error(socket)?.unwrap_or_else(|| {
            let text = "the connection attempt has failed, and another call of take_error has \
                        taken the reason";
            io::Error::new(io::ErrorKind::NotConnected, text)
        })),
    }
}

/// [`NotConnected`](io::ErrorKind::NotConnected) if there is no peer.
fn check_peer(socket: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: the struct consists of integers, for all of which zero is a value.
    let mut address: libc::sockaddr_storage = unsafe { std::mem::zeroed() };
    let mut len = size_of::<libc::sockaddr_storage>() as libc::socklen_t;
    let name = (&raw mut address).cast();
    // SAFETY: the descriptor is borrowed for the whole call, and `len` is the size of `address`.
    check(unsafe { libc::getpeername(socket.as_raw_fd(), name, &mut len) }).map(drop)
}

/// Whether the connection has ended in both directions, or was never begun.
fn has_hung_up(socket: BorrowedFd<'_>) -> io::Result<bool> {
    let mut poll = libc::pollfd { fd: socket.as_raw_fd(), events: 0, revents: 0 };
    // SAFETY: one entry, which the kernel writes to, and no waiting.
    retry(|| check(unsafe { libc::poll(&mut poll, 1, 0) }))?;
    Ok(poll.revents & (libc::POLLHUP | libc::POLLERR) != 0)
}

/// Accepts a TCP connection. Returns its socket and the peer's address.
///
/// # Errors
/// The [kernel's error](crate#errors); [`accept_failure`](super::accept_failure) classifies it.
#[inline]
pub fn accept_tcp(listener: BorrowedFd<'_>) -> io::Result<(OwnedFd, SocketAddr)> {
    let mut address = InetAddress::zeroed();
    let socket = accept(listener, Some(&mut address))?;
    match address.to_inet() {
        Some(peer) => Ok((socket, peer)),
        None => Err(not_tcp()),
    }
}

#[cold]
fn not_tcp() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, "this listener is not a TCP listener")
}

/// Accepts a Unix connection. The peer rarely has an address; the standard library's `peer_addr`
/// returns it.
///
/// # Errors
/// The [kernel's error](crate#errors); [`accept_failure`](super::accept_failure) classifies it.
pub fn accept_unix(listener: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    accept(listener, None)
}

fn connect((address, len): AddressAndLen) -> io::Result<(OwnedFd, ConnectProgress)> {
    let socket = stream_socket(address.family())?;
    let (raw, address) = (socket.as_raw_fd(), std::ptr::from_ref(&address).cast());
    // SAFETY: the descriptor is ours, and `address` points to `len` initialised bytes.
    match check(unsafe { libc::connect(raw, address, len) }) {
        Ok(_) => Ok((socket, ConnectProgress::Connected)),
        // After an interruption the attempt goes on, as a non-blocking one does (POSIX, connect).
        Err(error) if is_in_progress(&error) => Ok((socket, ConnectProgress::InProgress)),
        Err(error) => Err(error),
    }
}

fn stream_socket(family: libc::c_int) -> io::Result<OwnedFd> {
    #[cfg(not(target_vendor = "apple"))]
    const SOCKET_TYPE: libc::c_int = libc::SOCK_STREAM | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    #[cfg(target_vendor = "apple")]
    const SOCKET_TYPE: libc::c_int = libc::SOCK_STREAM;
    // SAFETY: no pointers; the answer is a new descriptor or -1.
    let raw = check(unsafe { libc::socket(family, SOCKET_TYPE, 0) })?;
    // SAFETY: `raw` was just opened and has no other owner.
    let socket = unsafe { OwnedFd::from_raw_fd(raw) };
    set_flags(socket.as_fd())?;
    Ok(socket)
}

#[inline]
fn accept(listener: BorrowedFd<'_>, mut peer: Option<&mut InetAddress>) -> io::Result<OwnedFd> {
    let raw = retry(|| accept_raw(listener, peer.as_deref_mut()))?;
    // SAFETY: `raw` was just opened and has no other owner.
    let socket = unsafe { OwnedFd::from_raw_fd(raw) };
    set_flags(socket.as_fd())?;
    Ok(socket)
}

#[inline]
fn accept_raw(listener: BorrowedFd<'_>, peer: Option<&mut InetAddress>) -> io::Result<libc::c_int> {
    let (raw, mut len) = (listener.as_raw_fd(), InetAddress::CAPACITY);
    let name: *mut libc::sockaddr =
        peer.map_or(std::ptr::null_mut(), |peer| std::ptr::from_mut(peer).cast());
    let len = if name.is_null() { std::ptr::null_mut() } else { &raw mut len };
    #[cfg(not(target_vendor = "apple"))]
    // SAFETY: the descriptor is borrowed for the whole call, and `name` has room for `len` bytes,
    // or both are null.
    let answer = unsafe { libc::accept4(raw, name, len, libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK) };
    #[cfg(target_vendor = "apple")]
    // SAFETY: as above.
    let answer = unsafe { libc::accept(raw, name, len) };
    check(answer)
}

/// Sets the flags that the call that made the socket could not set.
#[cfg(not(target_vendor = "apple"))]
#[inline]
fn set_flags(_socket: BorrowedFd<'_>) -> io::Result<()> {
    Ok(())
}

#[cfg(target_vendor = "apple")]
fn set_flags(socket: BorrowedFd<'_>) -> io::Result<()> {
    crate::fd::set_cloexec(socket)?;
    crate::fd::set_nonblocking(socket, true)?;
    let (raw, yes, len) = (socket.as_raw_fd(), 1_i32, size_of::<libc::c_int>() as libc::socklen_t);
    let value = (&raw const yes).cast();
    // SAFETY: the descriptor is borrowed for the whole call, and `len` is the size of `yes`.
    check(unsafe { libc::setsockopt(raw, libc::SOL_SOCKET, libc::SO_NOSIGPIPE, value, len) })
        .map(drop)
}
