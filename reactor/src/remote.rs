//! Stopping and waking the loop from anywhere.

use std::fmt;
use std::io;

use kodiak_channel::Notifier;

use crate::loop_flags::{SHUTDOWN, WAKE};

/// Stops or wakes an [`EventLoop`](crate::EventLoop) from any thread. From
/// [`EventLoop::remote`](crate::EventLoop::remote).
///
/// It may outlive the loop; then it does nothing.
///
/// A request is a notification on a topic of its own; it carries nothing else.
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
    /// message sent before this call, up to the turn's budget, is delivered. Asked before `run`
    /// starts, it counts for that `run`.
    ///
    /// # Errors
    ///
    /// The kernel refused the wake. The request stands: the loop obeys it when something else wakes
    /// it.
    pub fn shutdown(&self) -> io::Result<()> {
        self.shutdown.notify()
    }

    /// Makes the loop run a turn (that is: call [`turn_end`](crate::Handler::turn_end)) that begins
    /// after this call. Several wakes before that turn are one.
    ///
    /// # Errors
    ///
    /// The kernel refused the wake. The request stands: the loop obeys it when something else wakes
    /// it.
    pub fn wake(&self) -> io::Result<()> {
        self.wake.notify()
    }
}

impl fmt::Debug for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Remote").finish_non_exhaustive()
    }
}
