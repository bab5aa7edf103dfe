//! Socket calls that neither the standard library nor `socket2` offers in one step, and the errors
//! that only `errno` tells apart.
//!
//! - [`connect_tcp`], [`connect_unix`], [`accept_tcp`], [`accept_unix`]: non-blocking streams, in
//!   one step; [`connect_progress`]: what became of it
//! - [`recv_from`], [`send_to`], [`peek_from`]: one datagram; [`RecvBatch`], [`SendBatch`]: many in
//!   one call (`recvmmsg`, `sendmmsg`)
//! - [`send_with_descriptors`], [`recv_with_descriptors`]: open files for another process
//!   (`SCM_RIGHTS`)
//! - [`peer_credentials`]: who is at the other end of a Unix socket
//! - [`bytes_readable`], [`take_error`]: the small questions
//!
//! Every descriptor that comes from here is non-blocking and close-on-exec from birth where the
//! kernel can do that, and raises no `SIGPIPE` where that is a socket's own property (Apple's
//! systems). For options, other constructors and addresses there is `socket2`.
//!
//! ```
//! use kodiak_sys::{Events, Interest, Selector, Trigger, socket};
//! use std::net::TcpListener;
//! use std::os::fd::AsFd;
//!
//! let listener = TcpListener::bind("127.0.0.1:0")?;
//! let (client, _progress) = socket::connect_tcp(listener.local_addr()?)?;
//!
//! // Whatever the progress: once the socket is writable, the attempt has ended.
//! let selector = Selector::new()?;
//! selector.add(client.as_fd(), 0, Interest::WRITABLE, Trigger::Level)?;
//! selector.wait(&mut Events::with_capacity(1), None)?;
//! assert_eq!(socket::connect_progress(client.as_fd())?, socket::Progress::Connected);
//!
//! let (server, peer) = socket::accept_tcp(listener.as_fd())?;
//! assert!(peer.ip().is_loopback());
//! assert_eq!(socket::bytes_readable(server.as_fd())?, 0);
//! # Ok::<(), std::io::Error>(())
//! ```

mod address;
mod batch;
mod credentials;
mod datagram;
mod descriptors;
mod message;
mod stream;

pub use batch::{Datagram, PushError, RecvBatch, SendBatch};
pub use credentials::{PeerCredentials, peer_credentials};
pub use datagram::{peek_from, recv_from, send_to};
pub use descriptors::{MAX_DESCRIPTORS, Received, recv_with_descriptors, send_with_descriptors};
pub use stream::{
    Progress, accept_tcp, accept_unix, connect_progress, connect_tcp, connect_unix,
    connect_unix_addr,
};

use crate::fd::{check, is_would_block};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};

/// What an error from `accept` is about, and so what to do next.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum AcceptFailure {
    /// No connection waits.
    WouldBlock,
    /// One connection failed before it was accepted, or the call was interrupted: accept the next.
    Connection,
    /// Process or machine are out of descriptors or memory. The connection still waits, and a
    /// level-triggered listener stays ready: free something or pause, or this repeats at once.
    Exhausted,
    /// The listener itself is broken, or is none.
    Listener,
}

/// How many bytes can be read without blocking (`FIONREAD`). On Linux a datagram socket answers
/// with the length of its next datagram.
///
/// # Errors
/// What the kernel says, for instance that the descriptor is of a kind that cannot tell.
pub fn bytes_readable(source: BorrowedFd<'_>) -> io::Result<usize> {
    bytes_readable_raw(source.as_raw_fd())
}

pub(crate) fn bytes_readable_raw(source: RawFd) -> io::Result<usize> {
    let mut bytes: libc::c_int = 0;
    // SAFETY: this request writes one int and does nothing to the file; a number that is not
    // open is an error.
    check(unsafe { libc::ioctl(source, libc::FIONREAD, &mut bytes) })?;
    Ok(usize::try_from(bytes).unwrap_or(0))
}

/// Takes the error that waits on a socket (`SO_ERROR`): why a connection broke. The next call
/// answers `None`. How an attempt to connect ended [`connect_progress`] tells.
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
    if error != 0 {
        return Ok(Some(io::Error::from_raw_os_error(error)));
    }
    cfg_select! {
        all(target_os = "linux", kodiak_kqueue) => { Ok(crate::selector::kqueue::libkqueue::taken_errors::take(socket)) }
        _ => { Ok(None) }
    }
}

/// Sorts an error from [`accept_tcp`], [`accept_unix`] or any other `accept` by what to do next.
pub fn accept_failure(error: &io::Error) -> AcceptFailure {
    match error.raw_os_error() {
        _ if is_would_block(error) => AcceptFailure::WouldBlock,
        Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM) => {
            AcceptFailure::Exhausted
        }
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

/// Whether this error of a non-blocking `connect` (such as `socket2`'s) means that the attempt goes
/// on.
pub fn is_in_progress(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EINPROGRESS | libc::EINTR))
}
