//! The end of a child by pidfd (Linux 5.3), a descriptor of the process itself.

use crate::fd::check_long;
use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};

/// `pidfd_open`, through `syscall` because older C libraries lack it. It also takes a process that
/// has ended, as long as it has not been reaped.
pub(super) fn open(pid: u32) -> io::Result<OwnedFd> {
    let pid = libc::pid_t::try_from(pid).map_err(|_| io::ErrorKind::InvalidInput)?;
    let no_flags: libc::c_uint = 0;
    // SAFETY: no pointers; the answer is a new descriptor, closed on exec, or -1.
    let raw = check_long(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, no_flags) })?;
    // SAFETY: `raw` was just opened and it has no other owner. Descriptors are ints.
    Ok(unsafe { OwnedFd::from_raw_fd(raw as RawFd) })
}
