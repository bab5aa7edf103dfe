//! Waiting for a child process as one waits for a socket. This file chooses the mechanism.
//!
//! # What every backend provides
//!
//! `open(pid)`, for a child of ours that nobody has reaped, ended or not: a close-on-exec
//! descriptor that is and stays readable, for any selector, once the child has ended.
//!
//! - `pidfd.rs`: Linux and Android, with libkqueue too, whose kqueues cannot be watched.
//! - `process_filter.rs`: kqueue's EVFILT_PROC in a kqueue of its own, which is itself a descriptor
//!   that can be watched.
//!
//! Neither involves SIGCHLD, of which several may merge into one, which any library's handler may
//! swallow, and which says nothing that `waitpid` of *everybody's* children would not have to find
//! out.

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

/// A descriptor that becomes readable when a child process ends, and stays so.
///
/// Watch it for readable; then ask the child itself: [`Child::try_wait`] reaps it and gives its
/// status. There is no race with a child that is quicker than its parent: for one that has ended
/// already, even one that has been waited for, the descriptor is readable from the start.
///
/// It neither keeps the child alive nor reaps it, and it may outlive the [`Child`] value. The one
/// thing that must not happen while it is being made is that another part of the program reaps the
/// child behind its owner's back (a `waitpid` for *any* child).
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
    /// Watches `child`, which is asked for first: that its process is not reaped yet is what makes
    /// its number its own.
    ///
    /// # Errors
    /// [`Unsupported`](io::ErrorKind::Unsupported) on Linux before 5.3; otherwise what the kernel
    /// says, usually that the limit of open descriptors is reached.
    pub fn of(child: &mut Child) -> io::Result<ChildExit> {
        let readable_at_end = match child.try_wait()? {
            Some(_) => ended()?,
            // Ended or not, it is ours until it is waited for, and whoever could do that is lending
            // it to us.
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

/// A descriptor that is readable at once, for a child that needs no watching any more.
///
/// The pipe holds a byte. Its end alone would not do: a process that another thread is starting has
/// a copy of the writer until it executes its program, and the pipe ends only then.
fn ended() -> io::Result<OwnedFd> {
    let (reader, writer) = crate::fd::pipe()?;
    crate::fd::write(writer.as_fd(), &[0])?;
    Ok(reader)
}
