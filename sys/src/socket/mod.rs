//! Socket calls that neither the standard library nor `socket2` offers in one step.
//!
//! - [`connect_tcp`], [`connect_unix`], [`accept_tcp`], [`accept_unix`]: non-blocking streams
//! - [`connect_progress`]: how far a connection attempt has come
//! - [`recv_from`], [`send_to`], [`peek_from`]: one datagram
//! - [`RecvBatch`], [`SendBatch`]: many datagrams in one call (`recvmmsg`, `sendmmsg`)
//! - [`send_with_descriptors`], [`recv_with_descriptors`]: descriptors for another process
//!   (`SCM_RIGHTS`)
//! - [`peer_credentials`]: the process at the other end of a Unix socket
//! - [`bytes_readable`], [`take_error`]: the state of a socket
//! - [`accept_failure`], [`is_in_progress`], [`is_out_of_descriptors`]: what an error means
//!
//! Every descriptor made here is non-blocking and close-on-exec; the call that opens it sets both
//! where the kernel supports that. On Apple's systems `SO_NOSIGPIPE` is set, too. For options,
//! other constructors and addresses use `socket2`.
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
//! assert_eq!(socket::connect_progress(client.as_fd())?, socket::ConnectProgress::Connected);
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
    ConnectProgress, accept_tcp, accept_unix, connect_progress, connect_tcp, connect_unix,
    connect_unix_addr,
};

use crate::fd::{check, is_would_block};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};

/// The kinds of errors of `accept`, by what to do next.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum AcceptFailure {
    /// No connection is in the queue.
    WouldBlock,
    /// One connection failed before it was accepted, or the call was interrupted: accept the next.
    Connection,
    /// The process or the machine is out of descriptors or memory. The connection stays in the
    /// queue, and a level-triggered listener stays ready: free something or pause, or the error
    /// repeats at once.
    Exhausted,
    /// The listener has failed, or the descriptor is not a listener.
    Listener,
}

/// The number of bytes that can be read without blocking (`FIONREAD`). On Linux, for a datagram
/// socket, the length of its next datagram.
///
/// # Errors
/// The [kernel's error](crate#errors), for instance that the descriptor's type does not support it.
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

/// Takes a socket's pending error (`SO_ERROR`), such as the reason why a connection broke.
///
/// The next call returns `None`. For a connection attempt, use [`connect_progress`].
///
/// # Errors
/// The [kernel's error](crate#errors) if the call itself fails, for instance because the descriptor
/// is not a socket.
pub fn take_error(socket: BorrowedFd<'_>) -> io::Result<Option<io::Error>> {
    let mut error: libc::c_int = 0;
    let mut len = size_of::<libc::c_int>() as libc::socklen_t;
    let raw = socket.as_raw_fd();
    let value = (&raw mut error).cast();
    // SAFETY: the descriptor is borrowed for the whole call, and `len` is the size of `error`.
    check(unsafe { libc::getsockopt(raw, libc::SOL_SOCKET, libc::SO_ERROR, value, &mut len) })?;
    if error != 0 {
        return Ok(Some(io::Error::from_raw_os_error(error)));
    }
    cfg_select! {
        all(target_os = "linux", kodiak_kqueue) => {
            Ok(crate::selector::kqueue::libkqueue::saved_errors::take(socket))
        }
        _ => { Ok(None) }
    }
}

/// Classifies an error of [`accept_tcp`], [`accept_unix`] or any other `accept`.
pub fn accept_failure(error: &io::Error) -> AcceptFailure {
    match error.raw_os_error() {
        _ if is_would_block(error) => AcceptFailure::WouldBlock,
        Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM) => {
            AcceptFailure::Exhausted
        }
        // Linux returns pending network errors of the connection, and a firewall's refusal.
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

/// Whether an error means that the process (`EMFILE`) or the machine (`ENFILE`) has no descriptor
/// left.
pub fn is_out_of_descriptors(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE))
}

/// Whether this error of a non-blocking `connect` (such as `socket2`'s) means that the attempt is
/// still in progress.
pub fn is_in_progress(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EINPROGRESS | libc::EINTR))
}
