//! The few descriptor calls that several mechanisms share.

use std::io;
use std::os::fd::RawFd;

/// A C library's answer, where -1 means "look at `errno`".
pub(crate) fn check(answer: libc::c_int) -> io::Result<libc::c_int> {
    if answer == -1 { Err(io::Error::last_os_error()) } else { Ok(answer) }
}

/// The same for calls that answer with a length.
pub(crate) fn check_len(answer: libc::ssize_t) -> io::Result<usize> {
    usize::try_from(answer).map_err(|_| io::Error::last_os_error())
}

/// Calls again for as long as a signal interrupts: for calls that do not wait, where an interruption means nothing.
pub(crate) fn retry<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            answer => return answer,
        }
    }
}

/// Reads into `buffer`; `Ok(0)` is the end of the stream.
pub(crate) fn read(fd: std::os::fd::BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<usize> {
    let raw: RawFd = std::os::fd::AsRawFd::as_raw_fd(&fd);
    // SAFETY: the descriptor is borrowed for the whole call, and the kernel writes at most `buffer.len()` bytes into it.
    check_len(unsafe { libc::read(raw, buffer.as_mut_ptr().cast(), buffer.len()) })
}

/// Writes from `bytes`; may write fewer.
pub(crate) fn write(fd: std::os::fd::BorrowedFd<'_>, bytes: &[u8]) -> io::Result<usize> {
    let raw: RawFd = std::os::fd::AsRawFd::as_raw_fd(&fd);
    // SAFETY: the descriptor is borrowed for the whole call, and the kernel only reads `bytes`.
    check_len(unsafe { libc::write(raw, bytes.as_ptr().cast(), bytes.len()) })
}
