//! A loop on a thread of its own.

use std::any::Any;
use std::fmt;
use std::io;
use std::thread::{self, JoinHandle};

use crate::{EventLoop, Handler, Remote, RunError};

/// A running [`EventLoop`] and its handler, on a thread of their own: from [`EventLoop::start`].
///
/// Dropping it lets the loop run on.
pub struct LoopThread<H> {
    remote: Remote,
    thread: JoinHandle<(H, Result<(), RunError>)>,
}

/// The loop's thread ended otherwise than by a shutdown.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum JoinError<H> {
    /// The loop stopped with an error.
    #[error("the event loop's thread stopped: {error}")]
    Run {
        /// The handler, as it was when the loop stopped.
        handler: H,
        /// Why it stopped.
        #[source]
        error: RunError,
    },
    /// A callback panicked; the handler went with it.
    #[error("a callback of the event loop's thread panicked")]
    Panicked(Box<dyn Any + Send>),
}

impl<H> LoopThread<H> {
    pub(crate) fn spawn<T, M>(mut event_loop: EventLoop<T, M>, mut handler: H) -> io::Result<LoopThread<H>>
    where
        T: Copy + Send + 'static,
        M: Send + 'static,
        H: Handler<T, M> + Send + 'static,
    {
        let remote = event_loop.remote();
        let thread = thread::Builder::new().name("event loop".into()).spawn(move || {
            let result = event_loop.run(&mut handler);
            (handler, result)
        })?;
        Ok(LoopThread { remote, thread })
    }

    /// Stops or wakes the loop from anywhere.
    pub fn remote(&self) -> Remote {
        self.remote.clone()
    }

    /// Whether the thread has ended, so that [`join`](LoopThread::join) would not wait.
    pub fn is_finished(&self) -> bool {
        self.thread.is_finished()
    }

    /// Waits until the loop has ended and gives the handler back. Does not ask the loop to end: see [`Remote::shutdown`].
    ///
    /// # Errors
    ///
    /// The loop ended with an error, or a callback panicked.
    pub fn join(self) -> Result<H, JoinError<H>> {
        match self.thread.join() {
            Ok((handler, Ok(()))) => Ok(handler),
            Ok((handler, Err(error))) => Err(JoinError::Run { handler, error }),
            Err(payload) => Err(JoinError::Panicked(payload)),
        }
    }
}

impl<H> fmt::Debug for LoopThread<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LoopThread").field("is_finished", &self.is_finished()).finish_non_exhaustive()
    }
}

/// Leaves the handler out, which need not be `Debug`.
impl<H> fmt::Debug for JoinError<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            JoinError::Run { error, .. } => f.debug_struct("Run").field("error", error).finish_non_exhaustive(),
            JoinError::Panicked(_) => f.write_str("Panicked(..)"),
        }
    }
}
