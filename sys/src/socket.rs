//! Socket calls that neither the standard library nor `socket2` offers, and the errors that only `errno` tells apart.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::Path;

/// How far a connection attempt got in the call that began it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Progress {
    /// It is connected already (usual for Unix sockets).
    Connected,
    /// It goes on: the socket becomes writable when it has ended, and [`take_error`] tells how.
    Pending,
}

/// How many bytes can be read without blocking (`FIONREAD`).
pub fn bytes_readable(source: BorrowedFd<'_>) -> io::Result<usize> {
    let _ = source;
    Err(io::ErrorKind::Unsupported.into())
}

/// Takes the error that waits on a socket (`SO_ERROR`).
pub fn take_error(socket: BorrowedFd<'_>) -> io::Result<Option<io::Error>> {
    let _ = socket;
    Err(io::ErrorKind::Unsupported.into())
}

/// Opens a non-blocking, close-on-exec TCP socket and begins to connect it.
pub fn connect_tcp(address: SocketAddr) -> io::Result<(OwnedFd, Progress)> {
    let _ = address;
    Err(io::ErrorKind::Unsupported.into())
}

/// Opens a non-blocking, close-on-exec Unix stream socket and begins to connect it.
pub fn connect_unix(path: &Path) -> io::Result<(OwnedFd, Progress)> {
    let _ = path;
    Err(io::ErrorKind::Unsupported.into())
}

/// Accepts a TCP connection; the new socket is non-blocking and close-on-exec.
pub fn accept_tcp(listener: BorrowedFd<'_>) -> io::Result<(OwnedFd, SocketAddr)> {
    let _ = listener;
    Err(io::ErrorKind::Unsupported.into())
}

/// Accepts a Unix connection; the new socket is non-blocking and close-on-exec.
pub fn accept_unix(listener: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let _ = listener;
    Err(io::ErrorKind::Unsupported.into())
}

/// Whether the process (`EMFILE`) or the machine (`ENFILE`) has no descriptor left.
pub fn is_out_of_descriptors(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE))
}

/// Whether a non-blocking `connect` (such as `socket2`'s) has begun and goes on.
pub fn is_in_progress(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::EINPROGRESS)
}
