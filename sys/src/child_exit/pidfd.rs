//! A child's end by pidfd (Linux 5.3): a descriptor that stands for the process itself, not for its
//! number.

use crate::fd::check_long;
use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};

/// `pidfd_open`, which the C library may be too old to know: hence through `syscall`. It takes a
/// process that has ended, too, as long as nobody has reaped it.
pub(super) fn open(pid: u32) -> io::Result<OwnedFd> {
    let pid = libc::pid_t::try_from(pid).map_err(|_| io::ErrorKind::InvalidInput)?;
    let no_flags: libc::c_uint = 0;
    // SAFETY: no pointers; the answer is a new descriptor, closed on exec, or -1.
    let raw = check_long(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, no_flags) })?;
    // SAFETY: `raw` was just opened and nobody else knows it. Descriptors are ints.
    Ok(unsafe { OwnedFd::from_raw_fd(raw as RawFd) })
}
