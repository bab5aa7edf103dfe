//! Unix signals as something to wait for.
mod signal;

pub use signal::Signal;

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// A signal that arrived, and who sent it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct SigInfo {
    /// Which signal.
    pub signal: Signal,
    /// The sender's process, or for [`Signal::CHLD`] the child. `None`: the kernel made it.
    pub pid: Option<u32>,
    /// The real user of that process. `None`: the kernel made it.
    pub uid: Option<u32>,
}

/// Receives signals.
#[derive(Debug)]
pub struct Signals {
    pipe: OwnedFd,
}

impl Signals {
    /// Starts to receive `signals`.
    pub fn new(signals: &[Signal]) -> io::Result<Signals> {
        let _ = signals;
        Err(io::ErrorKind::Unsupported.into())
    }

    /// The next signal that waits, or `None`.
    pub fn receive(&self) -> io::Result<Option<SigInfo>> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pipe.as_fd()
    }
}
