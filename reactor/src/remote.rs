//! [`Remote`]: stopping and waking the loop from any thread.

use std::fmt;
use std::io;

use kodiak_channel::Notifier;

use crate::loop_flags::{SHUTDOWN, WAKE};

/// Stops or wakes an [`EventLoop`](crate::EventLoop) from any thread. From
/// [`EventLoop::remote`](crate::EventLoop::remote).
///
/// It may outlive the loop; then it does nothing.
///
/// # Errors
///
/// Both methods fail if the kernel refuses the wake. The request is kept, and the loop serves it
/// when something else wakes it.
#[derive(Clone)]
pub struct Remote {
    wake: Notifier,
    shutdown: Notifier,
}

impl Remote {
    pub(crate) fn new(notifier: &Notifier) -> Remote {
        Remote { wake: notifier.on(WAKE), shutdown: notifier.on(SHUTDOWN) }
    }

    /// Lets [`run`](crate::EventLoop::run) return. The loop first runs a whole turn, so every
    /// message sent before this call, up to the turn's budget, is delivered. A request made before
    /// `run` starts ends that `run`.
    ///
    /// # Errors
    ///
    /// [The kernel refused the wake](Remote#errors).
    pub fn shutdown(&self) -> io::Result<()> {
        self.shutdown.notify()
    }

    /// Makes the loop run a turn that begins after this call, and so call
    /// [`turn_end`](crate::Handler::turn_end). Several wakes before that turn count as one.
    ///
    /// # Errors
    ///
    /// [The kernel refused the wake](Remote#errors).
    pub fn wake(&self) -> io::Result<()> {
        self.wake.notify()
    }
}

impl fmt::Debug for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Remote").finish_non_exhaustive()
    }
}
