//! Stopping and waking the loop from anywhere.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use kodiak_channel::Bell;

/// Stops or wakes an [`EventLoop`](crate::EventLoop) from any thread. From [`EventLoop::remote`](crate::EventLoop::remote).
///
/// It may outlive the loop; then it does nothing.
#[derive(Clone)]
pub struct Remote {
    requests: Arc<Requests>,
    bell: Bell,
}

/// What remotes have asked for. Published before the bell rings, looked at after the loop has armed it.
#[derive(Debug, Default)]
pub(crate) struct Requests {
    shutdown: AtomicBool,
    wake: AtomicBool,
}

impl Remote {
    pub(crate) fn new(requests: &Arc<Requests>, bell: &Bell) -> Remote {
        Remote { requests: Arc::clone(requests), bell: bell.clone() }
    }

    /// Lets [`run`](crate::EventLoop::run) return. The loop first runs a whole turn, so every message sent before this
    /// call, up to the turn's budget, is delivered. Asked before `run` starts, it counts for that `run`.
    ///
    /// # Errors
    ///
    /// The kernel refused the wake. The request stands: the loop obeys it when something else wakes it.
    pub fn shutdown(&self) -> io::Result<()> {
        self.requests.shutdown.store(true, Ordering::Release);
        self.bell.ring()
    }

    /// Makes the loop run a turn (that is: call [`turn_end`](crate::Handler::turn_end)) that begins after this call.
    /// Several wakes before that turn are one.
    ///
    /// # Errors
    ///
    /// The kernel refused the wake. The request stands: the loop obeys it when something else wakes it.
    pub fn wake(&self) -> io::Result<()> {
        self.requests.wake.store(true, Ordering::Release);
        self.bell.ring()
    }
}

impl fmt::Debug for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Remote").field("requests", &self.requests).finish_non_exhaustive()
    }
}

impl Requests {
    /// Whether a remote wants a turn.
    pub(crate) fn any(&self) -> bool {
        self.shutdown.load(Ordering::Acquire) || self.wake.load(Ordering::Acquire)
    }

    pub(crate) fn shutdown(&self) -> bool {
        self.shutdown.load(Ordering::Acquire)
    }

    pub(crate) fn request_shutdown(&self) {
        self.shutdown.store(true, Ordering::Release);
    }

    /// The loop has obeyed: it may be run again.
    pub(crate) fn clear_shutdown(&self) {
        self.shutdown.store(false, Ordering::Release);
    }

    /// A turn begins: whatever asked for it before has it.
    pub(crate) fn clear_wake(&self) {
        // The load keeps the flag's cache line shared in the turns, nearly all, in which nobody asked.
        if self.wake.load(Ordering::Relaxed) {
            self.wake.swap(false, Ordering::AcqRel);
        }
    }
}
