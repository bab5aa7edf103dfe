//! Waiting for a child process as for a socket. This file chooses the mechanism.
//!
//! # What every backend provides
//!
//! `open(pid)`, for a child of this process that has not been reaped, running or not. It returns a
//! close-on-exec descriptor that becomes readable when the child ends, and stays readable.
//!
//! - `pidfd.rs`: Linux and Android, also with libkqueue, whose kqueues cannot be watched.
//! - `process_filter.rs`: kqueue's EVFILT_PROC in a kqueue of its own, which is itself a descriptor
//!   that can be watched.
//!
//! Neither uses SIGCHLD. Several SIGCHLDs may merge into one, any library's handler may swallow it,
//! and it does not say which child ended: only a `waitpid` for *all* children would.

cfg_select! {
    any(target_os = "linux", target_os = "android") => {
        mod pidfd;
        use pidfd as imp;
    }
    _ => {
        mod process_filter;
        use process_filter as imp;
    }
}

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::Child;

/// A descriptor that becomes readable when a child process ends, and stays readable.
///
/// Watch it for readable, then call [`Child::try_wait`], which reaps the child and returns its
/// status. A child that ends early is not missed: if it has already ended, or was already waited
/// for, the descriptor is readable from the start.
///
/// It does not reap the child, and it may outlive the [`Child`] value. While [`of`](ChildExit::of)
/// runs, no other part of the program may reap the child (with a `waitpid` for *any* child).
///
/// ```
/// use kodiak_sys::{ChildExit, Events, Interest, Selector, Trigger};
/// use std::os::fd::AsFd;
/// use std::process::Command;
///
/// let mut child = Command::new("sh").args(["-c", "exit 3"]).spawn()?;
/// let exit = ChildExit::of(&mut child)?;
/// let selector = Selector::new()?;
/// selector.add(exit.as_fd(), 0, Interest::READABLE, Trigger::Level)?;
/// selector.wait(&mut Events::with_capacity(1), None)?;
/// let status = child.try_wait()?.expect("it has ended");
/// assert_eq!(status.code(), Some(3));
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct ChildExit {
    readable_at_end: OwnedFd,
}

impl ChildExit {
    /// Watches `child`. Calls [`Child::try_wait`] first: only a process that is not reaped yet is
    /// certain to have the child's process id.
    ///
    /// # Errors
    /// [`Unsupported`](io::ErrorKind::Unsupported) on Linux before 5.3; otherwise the
    /// [kernel's error](crate#errors).
    pub fn of(child: &mut Child) -> io::Result<ChildExit> {
        let readable_at_end = match child.try_wait()? {
            Some(_) => readable_pipe()?,
            // Running or not, the child keeps its process id until it is reaped, and only the
            // owner of `child`, which is borrowed here, may reap it.
            None => imp::open(child.id())?,
        };
        Ok(ChildExit { readable_at_end })
    }
}

impl AsFd for ChildExit {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.readable_at_end.as_fd()
    }
}

impl From<ChildExit> for OwnedFd {
    fn from(exit: ChildExit) -> OwnedFd {
        exit.readable_at_end
    }
}

/// A descriptor that is readable at once, for a child that has already ended.
///
/// The pipe holds a byte. Closing its writer would not be enough: a process that another thread is
/// starting has a copy of the writer until it executes its program, and the pipe ends only then.
fn readable_pipe() -> io::Result<OwnedFd> {
    let (reader, writer) = crate::fd::pipe()?;
    crate::fd::write(writer.as_fd(), &[0])?;
    Ok(reader)
}
