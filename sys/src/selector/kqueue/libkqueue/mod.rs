//! kqueue on Linux, by libkqueue: a library that translates kqueue's calls into epoll, which makes
//! the backend for the BSDs and macOS testable on Linux (`--cfg kodiak_kqueue`). It is for that,
//! not for production; `epoll.rs` is both quicker and truer.
//!
//! # How to run it
//!
//! ```text
//! LIBKQUEUE=/folder/of/the/library LD_LIBRARY_PATH=/folder/of/the/library RUSTFLAGS="--cfg kodiak_kqueue" \
//!     cargo test -p kodiak-sys -p kodiak-reactor -p kodiak-net
//! ```
//! `LIBKQUEUE` is for the linker (`build.rs`) and may be left out if the library lies where that
//! looks by itself. `.ci/run libkqueue` does the same, and reports it if it finds no library. 2.4
//! or later is needed.
//!
//! # Where it differs from a kernel's kqueue, and how the contract is met all the same
//!
//! - A wait holds the queue's lock in 2.4 to 2.6: a change or a user event from another thread
//!   would block until the wait ends by itself, and every other kqueue of the process with it.
//!   `gate.rs` lets no thread wait in there while another wants to change something.
//! - It never learns that a descriptor was closed (a known defect of it). What is worse,
//!   a change to a number that belongs to another file by then makes 2.6 follow a dangling pointer.
//!   So it is given duplicates that belong to the selector, and the selector finds out itself
//!   whether the number still means the same file: `stand_ins.rs`. The price: a source that is
//!   closed without being removed stays open until its selector notices, at the next event or
//!   change, or is dropped.
//! - Both filters of one descriptor share one epoll registration, in which an edge trigger or the
//!   peer's half-close can get lost, and events that do not fit are dropped. So each filter has a
//!   duplicate of its own.
//! - It takes a socket's pending error away (`SO_ERROR`) to report it in `fflags`:
//!   `taken_errors.rs` keeps it for [`socket::take_error`](crate::socket::take_error). A read or
//!   write that would have failed with that error no longer does.
//! - It takes a stream socket without readable bytes for one at its end, also before out-of-band
//!   data, and a datagram socket with an error for one that has hung up: an event with EV_EOF is
//!   checked.
//! - Disabling a filter twice trips an assertion: the backend disables only those that did not
//!   fire.
//! - What a kqueue is on Linux, the writing end of a pipe, never becomes readable: selectors do not
//!   nest, and say `Unsupported`. So [`ChildExit`](crate::ChildExit) is a pidfd here, too, not a
//!   kqueue with an EVFILT_PROC.
//! - There is no filter for out-of-band data: priority interest is `Unsupported`.
//! - One wait brings at most 512 events. A failed registration says `EFAULT` whatever the reason.
//! - A thread of its own frees a queue's descriptors some time after it was closed; counts of open
//!   descriptors lag behind.

mod gate;
mod stand_ins;
pub(crate) mod taken_errors;

pub(super) use gate::Gate;
pub(super) use stand_ins::Idents;

use crate::fd::check;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::{Mutex, PoisonError};

/// What a file is, whatever descriptor it is reached by: device and inode.
type FileId = (libc::dev_t, libc::ino_t);

/// The queues that are open, each entered and taken out by the one [`Gate`] that belongs to it.
static QUEUES: Mutex<Vec<FileId>> = Mutex::new(Vec::new());

fn queues(change: impl FnOnce(&mut Vec<FileId>)) {
    change(&mut QUEUES.lock().unwrap_or_else(PoisonError::into_inner));
}

fn file_id(fd: BorrowedFd<'_>) -> io::Result<FileId> {
    // SAFETY: the struct consists of integers, for all of which zero is a value.
    let mut file: libc::stat = unsafe { std::mem::zeroed() };
    // SAFETY: the descriptor is borrowed for the whole call, which fills the struct.
    check(unsafe { libc::fstat(fd.as_raw_fd(), &mut file) })?;
    Ok((file.st_dev, file.st_ino))
}

/// Refuses a source that could not be watched, though the kqueue would take it without a word:
/// another kqueue.
pub(super) fn refuse_unwatchable(source: BorrowedFd<'_>) -> io::Result<()> {
    let (id, mut nested) = (file_id(source)?, false);
    queues(|queues| nested = queues.contains(&id));
    if nested {
        let text = "libkqueue's queues never become readable: a selector cannot watch another one";
        return Err(io::Error::new(io::ErrorKind::Unsupported, text));
    }
    Ok(())
}

/// The error behind a change that failed.
pub(super) fn reason(error: io::Error) -> io::Error {
    if error.raw_os_error() == Some(libc::EFAULT) {
        return io::Error::other("libkqueue cannot watch this descriptor (it does not say why)");
    }
    error
}
