//! Descriptor calls that several modules share.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// Turns the result of a C call into a `Result`: -1 means that `errno` has the error.
#[inline]
pub(crate) fn check(answer: libc::c_int) -> io::Result<libc::c_int> {
    if answer == -1 { Err(io::Error::last_os_error()) } else { Ok(answer) }
}

/// The same for calls that return a length.
#[inline]
pub(crate) fn check_len(answer: libc::ssize_t) -> io::Result<usize> {
    usize::try_from(answer).map_err(|_| io::Error::last_os_error())
}

/// The same for calls that go through `syscall`.
#[cfg(any(target_os = "linux", target_os = "android"))]
pub(crate) fn check_long(answer: libc::c_long) -> io::Result<libc::c_long> {
    if answer == -1 { Err(io::Error::last_os_error()) } else { Ok(answer) }
}

/// Repeats a call while signals interrupt it. For calls that do not wait.
#[inline]
pub(crate) fn retry<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.raw_os_error() == Some(libc::EINTR) => {}
            answer => return answer,
        }
    }
}

/// Whether an error means that the call would have to wait.
///
/// The same as comparing [`io::Error::kind`] with `WouldBlock`, but faster: `kind` maps every
/// `errno` code.
#[inline]
pub fn is_would_block(error: &io::Error) -> bool {
    match error.raw_os_error() {
        Some(code) => code == libc::EWOULDBLOCK || code == libc::EAGAIN,
        None => error.kind() == io::ErrorKind::WouldBlock,
    }
}

/// Reads into `buffer`; `Ok(0)` is the end of the stream.
pub(crate) fn read(fd: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<usize> {
    let raw = fd.as_raw_fd();
    // SAFETY: the descriptor is borrowed for the whole call, and the kernel writes at most
    // `buffer.len()` bytes into it.
    check_len(unsafe { libc::read(raw, buffer.as_mut_ptr().cast(), buffer.len()) })
}

/// Writes from `bytes`; may write fewer.
pub(crate) fn write(fd: BorrowedFd<'_>, bytes: &[u8]) -> io::Result<usize> {
    let raw = fd.as_raw_fd();
    // SAFETY: the descriptor is borrowed for the whole call, and the kernel only reads `bytes`.
    check_len(unsafe { libc::write(raw, bytes.as_ptr().cast(), bytes.len()) })
}

/// A pipe as (reader, writer), both non-blocking and close-on-exec.
///
/// # Errors
/// The [kernel's error](crate#errors).
pub fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let mut ends = [-1; 2];
    new_pipe(&mut ends)?;
    // SAFETY: just opened, and it has no other owner.
    let reader = unsafe { OwnedFd::from_raw_fd(ends[0]) };
    // SAFETY: just opened, and it has no other owner.
    let writer = unsafe { OwnedFd::from_raw_fd(ends[1]) };
    if !PIPE_TAKES_FLAGS {
        for end in [&reader, &writer] {
            set_cloexec(end.as_fd())?;
            set_nonblocking(end.as_fd(), true)?;
        }
    }
    Ok((reader, writer))
}

/// Apple's kernel has neither `pipe2` nor `accept4` nor flags for `socket`, so it takes more calls.
#[cfg(target_vendor = "apple")]
const PIPE_TAKES_FLAGS: bool = false;
#[cfg(not(target_vendor = "apple"))]
const PIPE_TAKES_FLAGS: bool = true;

#[cfg(target_vendor = "apple")]
fn new_pipe(ends: &mut [RawFd; 2]) -> io::Result<()> {
    // SAFETY: the kernel writes two descriptors, and there is room for two.
    check(unsafe { libc::pipe(ends.as_mut_ptr()) }).map(drop)
}

#[cfg(not(target_vendor = "apple"))]
fn new_pipe(ends: &mut [RawFd; 2]) -> io::Result<()> {
    // SAFETY: the kernel writes two descriptors, and there is room for two.
    check(unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC | libc::O_NONBLOCK) }).map(drop)
}

/// Closes `fd` when another program is executed.
#[cfg_attr(
    all(any(target_os = "linux", target_os = "android"), not(kodiak_kqueue)),
    allow(dead_code)
)]
pub(crate) fn set_cloexec(fd: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: the descriptor is borrowed for the whole call; this command takes an int.
    check(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_SETFD, libc::FD_CLOEXEC) }).map(drop)
}

/// Sets (`on`) or clears `O_NONBLOCK`, as [`TcpStream::set_nonblocking`] does for TCP.
///
/// Other flags do not change. The flag belongs to the open file, so all duplicates of the
/// descriptor share it, also those in other processes.
///
/// [`TcpStream::set_nonblocking`]: std::net::TcpStream::set_nonblocking
///
/// # Errors
/// The [kernel's error](crate#errors).
pub fn set_nonblocking(fd: BorrowedFd<'_>, on: bool) -> io::Result<()> {
    // SAFETY: the descriptor is borrowed for the whole call; this command takes nothing.
    let flags = check(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_GETFL) })?;
    let wanted = if on { flags | libc::O_NONBLOCK } else { flags & !libc::O_NONBLOCK };
    if wanted == flags {
        return Ok(());
    }
    // SAFETY: the descriptor is borrowed for the whole call; this command takes an int.
    check(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_SETFL, wanted) }).map(drop)
}
