//! The socket errors that libkqueue consumed (`SO_ERROR`) to report them in an event.
//!
//! Each is saved until `take_error` asks for it. The key is the socket's cookie (`SO_COOKIE`),
//! which the kernel never gives to another socket. So an error that is never asked for may be
//! forgotten, but is never reported for another socket.

use crate::fd::check;
use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::{Mutex, PoisonError};

/// The number of errors that are kept, the latest ones.
const KEPT: usize = 1024;

/// Cookies and `errno` codes, oldest first.
static SAVED: Mutex<VecDeque<(u64, i32)>> = Mutex::new(VecDeque::new());

/// Saves the pending error of this socket. Does nothing for a descriptor that is not a socket.
pub(super) fn save(socket: BorrowedFd<'_>, error: i32) {
    let Ok(cookie) = cookie(socket) else { return };
    let mut saved = SAVED.lock().unwrap_or_else(PoisonError::into_inner);
    if saved.len() == KEPT {
        saved.pop_front();
    }
    saved.push_back((cookie, error));
}

/// Takes the oldest error that was saved for this socket.
pub(crate) fn take(socket: BorrowedFd<'_>) -> Option<io::Error> {
    let mut saved = SAVED.lock().unwrap_or_else(PoisonError::into_inner);
    if saved.is_empty() {
        return None;
    }
    let cookie = cookie(socket).ok()?;
    let index = saved.iter().position(|(owner, _)| *owner == cookie)?;
    saved.remove(index).map(|(_, error)| io::Error::from_raw_os_error(error))
}

fn cookie(socket: BorrowedFd<'_>) -> io::Result<u64> {
    let mut cookie = 0_u64;
    let mut len = size_of::<u64>() as libc::socklen_t;
    let (raw, value) = (socket.as_raw_fd(), (&raw mut cookie).cast());
    // SAFETY: the descriptor is borrowed for the whole call, and `len` is the size of `cookie`.
    check(unsafe { libc::getsockopt(raw, libc::SOL_SOCKET, libc::SO_COOKIE, value, &mut len) })?;
    Ok(cookie)
}
