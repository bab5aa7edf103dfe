//! The errors that libkqueue took from sockets (`SO_ERROR`) while it reported them: kept until
//! `take_error` asks.
//!
//! They are found by the socket's cookie, a number that the kernel never gives to another socket,
//! so what is never asked for can only be forgotten, not be taken for another's.

use crate::fd::check;
use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::{Mutex, PoisonError};

/// The number of errors that are kept, the latest ones.
const KEPT: usize = 1024;

static TAKEN: Mutex<VecDeque<(u64, i32)>> = Mutex::new(VecDeque::new());

/// Keeps what was the pending error of this socket. Of what is no socket there is nothing to keep.
pub(super) fn keep(socket: BorrowedFd<'_>, error: i32) {
    let Ok(cookie) = cookie(socket) else { return };
    let mut taken = TAKEN.lock().unwrap_or_else(PoisonError::into_inner);
    if taken.len() == KEPT {
        taken.pop_front();
    }
    taken.push_back((cookie, error));
}

/// Hands out what was kept for this socket.
pub(crate) fn take(socket: BorrowedFd<'_>) -> Option<io::Error> {
    let mut taken = TAKEN.lock().unwrap_or_else(PoisonError::into_inner);
    if taken.is_empty() {
        return None;
    }
    let cookie = cookie(socket).ok()?;
    let place = taken.iter().position(|(of, _)| *of == cookie)?;
    taken.remove(place).map(|(_, error)| io::Error::from_raw_os_error(error))
}

fn cookie(socket: BorrowedFd<'_>) -> io::Result<u64> {
    let mut cookie = 0_u64;
    let mut len = size_of::<u64>() as libc::socklen_t;
    let place = (&raw mut cookie).cast();
    // SAFETY: the descriptor is borrowed for the whole call, and `len` is the size of `cookie`.
    check(unsafe { libc::getsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, libc::SO_COOKIE, place, &mut len) })?;
    Ok(cookie)
}
