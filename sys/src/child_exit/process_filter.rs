//! The end of a child by EVFILT_PROC, in a kqueue of its own.
//!
//! The event is left there unread, so that the kqueue stays readable.

use std::io;
use std::os::fd::OwnedFd;

pub(super) fn open(pid: u32) -> io::Result<OwnedFd> {
    match crate::selector::imp::watch_process(pid) {
        // Most of these kernels do not find a process that has ended and is not reaped yet.
        Err(error) if error.raw_os_error() == Some(libc::ESRCH) => super::readable_pipe(),
        answer => answer,
    }
}
