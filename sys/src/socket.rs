//! Socket calls that neither the standard library nor `socket2` offers in one step, and the errors that only `errno` tells
//! apart.
//!
//! Every descriptor that comes from here is non-blocking and close-on-exec from birth where the kernel can do that, and
//! raises no `SIGPIPE` where that is a socket's own property (Apple's systems). For options, other constructors and
//! addresses there is `socket2`.
//!
//! ```
//! use kodiak_sys::{Events, Interest, Selector, Trigger, socket};
//! use std::net::TcpListener;
//! use std::os::fd::AsFd;
//!
//! let listener = TcpListener::bind("127.0.0.1:0")?;
//! let (client, _progress) = socket::connect_tcp(listener.local_addr()?)?;
//!
//! // Whatever the progress: once the socket is writable, its error tells how the attempt ended.
//! let selector = Selector::new()?;
//! selector.add(client.as_fd(), 0, Interest::WRITABLE, Trigger::Level)?;
//! selector.wait(&mut Events::with_capacity(1), None)?;
//! assert!(socket::take_error(client.as_fd())?.is_none());
//!
//! let (server, peer) = socket::accept_tcp(listener.as_fd())?;
//! assert!(peer.ip().is_loopback());
//! assert_eq!(socket::bytes_readable(server.as_fd())?, 0);
//! # Ok::<(), std::io::Error>(())
//! ```

use crate::fd::{check, retry};
use std::io;
use std::mem::offset_of;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// How far a connection attempt got in the call that began it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Progress {
    /// It is connected already (the rule for Unix sockets).
    Connected,
    /// It goes on: the socket becomes writable when it has ended, and [`take_error`] tells how.
    Pending,
}

/// What an error from `accept` is about, and so what to do next.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum AcceptFailure {
    /// No connection waits.
    WouldBlock,
    /// One connection failed before it was accepted, or the call was interrupted: accept the next.
    Connection,
    /// Process or machine are out of descriptors or memory. The connection still waits, and a level-triggered listener
    /// stays ready: free something or pause, or this repeats at once.
    Exhausted,
    /// The listener itself is broken, or is none.
    Listener,
}

/// How many bytes can be read without blocking (`FIONREAD`). On Linux a datagram socket answers with the length of its next
/// datagram.
///
/// # Errors
/// What the kernel says, for instance that the descriptor is of a kind that cannot tell.
pub fn bytes_readable(source: BorrowedFd<'_>) -> io::Result<usize> {
    bytes_readable_raw(source.as_raw_fd())
}

pub(crate) fn bytes_readable_raw(source: RawFd) -> io::Result<usize> {
    let mut bytes: libc::c_int = 0;
    // SAFETY: this request writes one int and does nothing to the file; of a number that is not open the kernel says so.
    check(unsafe { libc::ioctl(source, libc::FIONREAD, &mut bytes) })?;
    Ok(usize::try_from(bytes).unwrap_or(0))
}

/// Takes the error that waits on a socket (`SO_ERROR`): how a connection attempt ended, or why a connection broke. The next
/// call answers `None`.
///
/// # Errors
/// What the kernel says about the question itself, for instance that the descriptor is no socket.
pub fn take_error(socket: BorrowedFd<'_>) -> io::Result<Option<io::Error>> {
    let mut error: libc::c_int = 0;
    let mut len = size_of::<libc::c_int>() as libc::socklen_t;
    let raw = socket.as_raw_fd();
    let place = (&raw mut error).cast();
    // SAFETY: the descriptor is borrowed for the whole call, and `len` is the size of `error`.
    check(unsafe { libc::getsockopt(raw, libc::SOL_SOCKET, libc::SO_ERROR, place, &mut len) })?;
    Ok((error != 0).then(|| io::Error::from_raw_os_error(error)))
}

/// Opens a TCP socket and begins to connect it to `address`.
///
/// # Errors
/// What the kernel says at once: no descriptors left, no route, or (on loopback) nobody listening.
pub fn connect_tcp(address: SocketAddr) -> io::Result<(OwnedFd, Progress)> {
    let (family, address, len) = match address {
        SocketAddr::V4(address) => (libc::AF_INET, Address { v4: encode_v4(address) }, size_of::<libc::sockaddr_in>()),
        SocketAddr::V6(address) => {
            (libc::AF_INET6, Address { v6: encode_v6(address) }, size_of::<libc::sockaddr_in6>())
        }
    };
    connect(family, &address, len)
}

/// Opens a Unix stream socket and begins to connect it to the one that listens at `path`.
///
/// # Errors
/// - [`InvalidInput`](io::ErrorKind::InvalidInput): the path is empty, too long for the kernel's address (some 100 bytes), or has
///   a zero byte in it.
/// - [`WouldBlock`](io::ErrorKind::WouldBlock): the listener's queue is full. Nothing has begun, nothing will be reported: try
///   again later.
/// - whatever else the kernel says, for instance that nobody listens.
pub fn connect_unix(path: &Path) -> io::Result<(OwnedFd, Progress)> {
    let unix = encode_unix(path)?;
    let len = offset_of!(libc::sockaddr_un, sun_path) + path.as_os_str().len() + 1;
    connect(libc::AF_UNIX, &Address { unix }, len)
}

/// Accepts a TCP connection, and says where it comes from.
///
/// # Errors
/// What the kernel says; [`accept_failure`] sorts it.
pub fn accept_tcp(listener: BorrowedFd<'_>) -> io::Result<(OwnedFd, SocketAddr)> {
    let mut address = Address::blank();
    let socket = accept(listener, &mut address)?;
    Ok((socket, address.decode()?))
}

/// Accepts a Unix connection. Peers of a Unix stream seldom have a name; the standard library's `peer_addr` tells it.
///
/// # Errors
/// What the kernel says; [`accept_failure`] sorts it.
pub fn accept_unix(listener: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    accept(listener, &mut Address::blank())
}

/// Sorts an error from [`accept_tcp`], [`accept_unix`] or any other `accept` by what to do next.
pub fn accept_failure(error: &io::Error) -> AcceptFailure {
    match error.raw_os_error() {
        _ if error.kind() == io::ErrorKind::WouldBlock => AcceptFailure::WouldBlock,
        Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM) => AcceptFailure::Exhausted,
        // Linux hands on what the network said about the connection, and a firewall's refusal.
        Some(
            libc::ECONNABORTED
            | libc::ECONNRESET
            | libc::EINTR
            | libc::EPROTO
            | libc::EPERM
            | libc::ENETDOWN
            | libc::ENETUNREACH
            | libc::EHOSTDOWN
            | libc::EHOSTUNREACH
            | libc::ENOPROTOOPT
            | libc::ETIMEDOUT,
        ) => AcceptFailure::Connection,
        _ => AcceptFailure::Listener,
    }
}

/// Whether the process (`EMFILE`) or the machine (`ENFILE`) has no descriptor left.
pub fn is_out_of_descriptors(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE))
}

/// Whether this error of a non-blocking `connect` (such as `socket2`'s) means that the attempt goes on.
pub fn is_in_progress(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EINPROGRESS | libc::EINTR))
}

/// Every kind of address these calls deal in, in the same place.
#[repr(C)]
union Address {
    v4: libc::sockaddr_in,
    v6: libc::sockaddr_in6,
    unix: libc::sockaddr_un,
    any: libc::sockaddr_storage,
}

impl Address {
    fn blank() -> Address {
        // SAFETY: all variants consist of integers, for which zero is a value.
        unsafe { std::mem::zeroed() }
    }

    fn decode(&self) -> io::Result<SocketAddr> {
        // SAFETY: integers, all initialised: any variant may be looked at. The family is in the same place in all of them.
        let family = unsafe { self.any.ss_family };
        match libc::c_int::from(family) {
            libc::AF_INET => {
                // SAFETY: as above, and the family says that this is the one that was written.
                let v4 = unsafe { self.v4 };
                let ip = Ipv4Addr::from(v4.sin_addr.s_addr.to_ne_bytes());
                Ok(SocketAddrV4::new(ip, u16::from_be(v4.sin_port)).into())
            }
            libc::AF_INET6 => {
                // SAFETY: as above, and the family says that this is the one that was written.
                let v6 = unsafe { self.v6 };
                let ip = Ipv6Addr::from(v6.sin6_addr.s6_addr);
                Ok(SocketAddrV6::new(ip, u16::from_be(v6.sin6_port), v6.sin6_flowinfo, v6.sin6_scope_id).into())
            }
            _ => Err(io::Error::new(io::ErrorKind::InvalidInput, "this listener does not listen on TCP")),
        }
    }
}

// The structs' own length members, which the BSDs have, are filled in by their kernels.

fn encode_v4(address: SocketAddrV4) -> libc::sockaddr_in {
    // SAFETY: integers, for which zero is a value.
    let mut v4: libc::sockaddr_in = unsafe { std::mem::zeroed() };
    v4.sin_family = libc::AF_INET as libc::sa_family_t;
    v4.sin_port = address.port().to_be();
    v4.sin_addr.s_addr = u32::from_ne_bytes(address.ip().octets());
    v4
}

fn encode_v6(address: SocketAddrV6) -> libc::sockaddr_in6 {
    // SAFETY: integers, for which zero is a value.
    let mut v6: libc::sockaddr_in6 = unsafe { std::mem::zeroed() };
    v6.sin6_family = libc::AF_INET6 as libc::sa_family_t;
    v6.sin6_port = address.port().to_be();
    v6.sin6_addr.s6_addr = address.ip().octets();
    v6.sin6_flowinfo = address.flowinfo();
    v6.sin6_scope_id = address.scope_id();
    v6
}

fn encode_unix(path: &Path) -> io::Result<libc::sockaddr_un> {
    let bytes = path.as_os_str().as_bytes();
    // SAFETY: integers, for which zero is a value.
    let mut unix: libc::sockaddr_un = unsafe { std::mem::zeroed() };
    unix.sun_family = libc::AF_UNIX as libc::sa_family_t;
    let room = unix.sun_path.len() - 1; // for the zero byte at the end
    if bytes.is_empty() || bytes.len() > room || bytes.contains(&0) {
        let text =
            format!("a Unix socket's path has 1 to {room} bytes, none of them zero; this one has {}", bytes.len());
        return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
    }
    for (place, byte) in unix.sun_path.iter_mut().zip(bytes) {
        *place = *byte as libc::c_char;
    }
    Ok(unix)
}

fn connect(family: libc::c_int, address: &Address, len: usize) -> io::Result<(OwnedFd, Progress)> {
    let socket = stream_socket(family)?;
    let (raw, address, len) = (socket.as_raw_fd(), std::ptr::from_ref(address).cast(), len as libc::socklen_t);
    // SAFETY: the descriptor is ours, and `address` points to `len` initialised bytes.
    match check(unsafe { libc::connect(raw, address, len) }) {
        Ok(_) => Ok((socket, Progress::Connected)),
        // Interrupted, a connection attempt goes on like one that was never waited for (POSIX, connect).
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
    // SAFETY: `raw` was just opened and nobody else knows it.
    let socket = unsafe { OwnedFd::from_raw_fd(raw) };
    finish(socket.as_fd())?;
    Ok(socket)
}

fn accept(listener: BorrowedFd<'_>, address: &mut Address) -> io::Result<OwnedFd> {
    let raw = retry(|| {
        let mut len = size_of::<Address>() as libc::socklen_t;
        accept_raw(listener, address, &mut len)
    })?;
    // SAFETY: `raw` was just opened and nobody else knows it.
    let socket = unsafe { OwnedFd::from_raw_fd(raw) };
    finish(socket.as_fd())?;
    Ok(socket)
}

#[cfg(not(target_vendor = "apple"))]
fn accept_raw(listener: BorrowedFd<'_>, address: &mut Address, len: &mut libc::socklen_t) -> io::Result<libc::c_int> {
    let (raw, place, flags) =
        (listener.as_raw_fd(), std::ptr::from_mut(address).cast(), libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK);
    // SAFETY: the descriptor is borrowed for the whole call, and `place` has room for `len` bytes.
    check(unsafe { libc::accept4(raw, place, len, flags) })
}

#[cfg(target_vendor = "apple")]
fn accept_raw(listener: BorrowedFd<'_>, address: &mut Address, len: &mut libc::socklen_t) -> io::Result<libc::c_int> {
    let (raw, place) = (listener.as_raw_fd(), std::ptr::from_mut(address).cast());
    // SAFETY: the descriptor is borrowed for the whole call, and `place` has room for `len` bytes.
    check(unsafe { libc::accept(raw, place, len) })
}

/// Does to a new socket what its birth could not.
#[cfg(not(target_vendor = "apple"))]
fn finish(_socket: BorrowedFd<'_>) -> io::Result<()> {
    Ok(())
}

#[cfg(target_vendor = "apple")]
fn finish(socket: BorrowedFd<'_>) -> io::Result<()> {
    crate::fd::set_cloexec(socket)?;
    crate::fd::set_nonblocking(socket)?;
    let (raw, yes, len) = (socket.as_raw_fd(), 1_i32, size_of::<libc::c_int>() as libc::socklen_t);
    let place = (&raw const yes).cast();
    // SAFETY: the descriptor is borrowed for the whole call, and `len` is the size of `yes`.
    check(unsafe { libc::setsockopt(raw, libc::SOL_SOCKET, libc::SO_NOSIGPIPE, place, len) }).map(drop)
}
