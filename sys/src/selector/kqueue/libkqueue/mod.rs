//! kqueue on Linux, by libkqueue: a library that translates kqueue's calls into epoll, which makes
//! the backend for the BSDs and macOS testable on Linux (`--cfg kodiak_kqueue`). It is for tests,
//! not for production: `epoll.rs` is faster and more accurate.
//!
//! # How to run it
//!
//! ```text
//! export LIBKQUEUE=/folder/of/the/library LD_LIBRARY_PATH=/folder/of/the/library
//! RUSTFLAGS="--cfg kodiak_kqueue" cargo test -p kodiak-sys -p kodiak-reactor -p kodiak-net
//! ```
//! `LIBKQUEUE` is for the linker (`build.rs`) and may be left out if the linker finds the library
//! by itself. `.ci/run libkqueue` does the same, and is skipped if there is no library. Version 2.4
//! or later is needed.
//!
//! # Where it differs from a kernel's kqueue, and how the contract is met
//!
//! - A wait holds the queue's lock in 2.4 to 2.6: a change or a user event from another thread
//!   would block until the wait ends by itself, and every other kqueue of the process with it.
//!   `call_lock.rs` interrupts the wait first.
//! - It never learns that a descriptor was closed (a known defect of it). What is worse, a change
//!   to a number that belongs to another file by then makes 2.6 follow a dangling pointer. So it is
//!   given duplicates that belong to the selector, and the selector finds out itself whether the
//!   number still means the same file: `duplicates.rs`. The price: a source that is closed without
//!   being removed stays open until its selector notices at the next event or change, or is
//!   dropped.
//! - Both filters of one descriptor share one epoll registration, in which an edge trigger or the
//!   peer's half-close can get lost, and events that do not fit are dropped. So each filter has a
//!   duplicate of its own.
//! - It consumes a socket's pending error (`SO_ERROR`) to report it in `fflags`: `saved_errors.rs`
//!   keeps it for [`socket::take_error`](crate::socket::take_error). A read or write that would
//!   have failed with that error no longer does.
//! - It reports EV_EOF for a stream socket without readable bytes, also before out-of-band data,
//!   and for a datagram socket with an error. So every EV_EOF is checked.
//! - Disabling a filter twice trips an assertion: the backend disables only those that did not
//!   fire.
//! - On Linux a kqueue is the writing end of a pipe, which never becomes readable. So selectors do
//!   not nest (`Unsupported`), and [`ChildExit`](crate::ChildExit) is a pidfd here, too, not a
//!   kqueue with an EVFILT_PROC.
//! - There is no filter for out-of-band data: priority interest is `Unsupported`.
//! - One wait brings at most 512 events. A failed registration is `EFAULT`, whatever the reason.
//! - A thread of its own frees a queue's descriptors some time after the queue was closed, so
//!   counts of open descriptors lag behind.

mod call_lock;
mod duplicates;
pub(crate) mod saved_errors;

pub(super) use call_lock::CallLock;
pub(super) use duplicates::Idents;

use crate::fd::check;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::{Mutex, PoisonError};

/// What a file is, whatever descriptor it is reached by: device and inode.
type FileId = (libc::dev_t, libc::ino_t);

/// The queues that are open, each added and removed by its [`CallLock`].
static OPEN_QUEUES: Mutex<Vec<FileId>> = Mutex::new(Vec::new());

fn with_open_queues<T>(f: impl FnOnce(&mut Vec<FileId>) -> T) -> T {
    f(&mut OPEN_QUEUES.lock().unwrap_or_else(PoisonError::into_inner))
}

fn file_id(fd: BorrowedFd<'_>) -> io::Result<FileId> {
    // SAFETY: the struct consists of integers, for all of which zero is a value.
    let mut file: libc::stat = unsafe { std::mem::zeroed() };
    // SAFETY: the descriptor is borrowed for the whole call, which fills the struct.
    check(unsafe { libc::fstat(fd.as_raw_fd(), &mut file) })?;
    Ok((file.st_dev, file.st_ino))
}

/// Refuses a source that could not be watched although the kqueue would accept it: another kqueue.
pub(super) fn refuse_unwatchable(source: BorrowedFd<'_>) -> io::Result<()> {
    let id = file_id(source)?;
    if with_open_queues(|queues| queues.contains(&id)) {
        let text = "libkqueue's queues never become readable: a selector cannot watch another one";
        return Err(io::Error::new(io::ErrorKind::Unsupported, text));
    }
    Ok(())
}

/// Explains the error of a change that failed.
pub(super) fn explain(error: io::Error) -> io::Error {
    if error.raw_os_error() == Some(libc::EFAULT) {
        return io::Error::other("libkqueue cannot watch this descriptor, and gives no reason");
    }
    error
}
