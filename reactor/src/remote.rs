//! Stopping and waking the loop from anywhere.

use std::fmt;
use std::io;

use kodiak_channel::Bell;

use crate::quirks::{SHUTDOWN, WAKE};

/// Stops or wakes an [`EventLoop`](crate::EventLoop) from any thread. From [`EventLoop::remote`](crate::EventLoop::remote).
///
/// It may outlive the loop; then it does nothing.
///
/// A request is a ring on a line of its own, which says all there is to say.
#[derive(Clone)]
pub struct Remote {
    wake: Bell,
    shutdown: Bell,
}

impl Remote {
    pub(crate) fn new(bell: &Bell) -> Remote {
        Remote { wake: bell.on(WAKE), shutdown: bell.on(SHUTDOWN) }
    }

    /// Lets [`run`](crate::EventLoop::run) return. The loop first runs a whole turn, so every message sent before this
    /// call, up to the turn's budget, is delivered. Asked before `run` starts, it counts for that `run`.
    ///
    /// # Errors
    ///
    /// The kernel refused the wake. The request stands: the loop obeys it when something else wakes it.
    pub fn shutdown(&self) -> io::Result<()> {
        self.shutdown.ring()
    }

    /// Makes the loop run a turn (that is: call [`turn_end`](crate::Handler::turn_end)) that begins after this call.
    /// Several wakes before that turn are one.
    ///
    /// # Errors
    ///
    /// The kernel refused the wake. The request stands: the loop obeys it when something else wakes it.
    pub fn wake(&self) -> io::Result<()> {
        self.wake.ring()
    }
}

impl fmt::Debug for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Remote").finish_non_exhaustive()
    }
}
