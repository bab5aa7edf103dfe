//! A loop on a thread of its own.

use std::any::Any;
use std::fmt;
use std::io;
use std::panic::{self, AssertUnwindSafe};
use std::sync::mpsc;
use std::thread::{self, JoinHandle};

use crate::{EventLoop, Handler, Remote, RunError};

/// A running [`EventLoop`] and its handler, on a thread of their own: from [`EventLoop::start`].
///
/// Dropping it lets the loop run on.
pub struct LoopThread<H> {
    remote: Remote,
    thread: JoinHandle<(H, thread::Result<Result<(), RunError>>)>,
}

/// The system had no thread left for [`EventLoop::start`]. Nothing was run.
#[derive(thiserror::Error)]
#[error("cannot start the event loop's thread: {error}")]
pub struct StartError<T, M, H> {
    /// The loop, as it was handed in.
    pub event_loop: EventLoop<T, M>,
    /// The handler, as it was handed in.
    pub handler: H,
    /// What the system said.
    #[source]
    pub error: io::Error,
}

impl<T, M, H> From<Box<StartError<T, M, H>>> for io::Error {
    fn from(error: Box<StartError<T, M, H>>) -> io::Error {
        error.error
    }
}

impl<T, M, H> fmt::Debug for StartError<T, M, H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StartError").field("error", &self.error).finish_non_exhaustive()
    }
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
    /// A callback panicked.
    #[error("a callback of the event loop's thread panicked")]
    Panicked {
        /// The handler, as the callback left it.
        handler: H,
        /// What it panicked with: for [`std::panic::resume_unwind`].
        payload: Box<dyn Any + Send>,
    },
}

impl<H> LoopThread<H> {
    pub(crate) fn spawn<T, M>(
        event_loop: EventLoop<T, M>,
        handler: H,
    ) -> Result<LoopThread<H>, Box<StartError<T, M, H>>>
    where
        T: Copy + Send + 'static,
        M: Send + 'static,
        H: Handler<T, M> + Send + 'static,
    {
        let remote = event_loop.remote();
        // Sent after the thread has started: a thread that cannot start would take them with it.
        let (send, receive) = mpsc::sync_channel::<(EventLoop<T, M>, H)>(1);
        let spawned = thread::Builder::new().name("event loop".into()).spawn(move || {
            let (mut event_loop, mut handler) =
                receive.recv().expect("they are sent as soon as this thread has started");
            // The loop and the handler are looked at again only by whoever asks `JoinError` for the
            // handler.
            let result = panic::catch_unwind(AssertUnwindSafe(|| event_loop.run(&mut handler)));
            (handler, result)
        });
        match spawned {
            Ok(thread) => {
                assert!(send.send((event_loop, handler)).is_ok(), "the thread waits for them");
                Ok(LoopThread { remote, thread })
            }
            Err(error) => Err(Box::new(StartError { event_loop, handler, error })),
        }
    }

    /// Stops or wakes the loop from anywhere.
    pub fn remote(&self) -> Remote {
        self.remote.clone()
    }

    /// Whether the thread has ended, so that [`join`](LoopThread::join) would not wait.
    pub fn is_finished(&self) -> bool {
        self.thread.is_finished()
    }

    /// Waits until the loop has ended and gives the handler back. Does not ask the loop to end: see
    /// [`Remote::shutdown`].
    ///
    /// # Errors
    ///
    /// The loop ended with an error, or a callback panicked; both give the handler back.
    ///
    /// # Panics
    ///
    /// If dropping the loop panicked: a message's own drop did.
    pub fn join(self) -> Result<H, JoinError<H>> {
        match self.thread.join() {
            Ok((handler, Ok(Ok(())))) => Ok(handler),
            Ok((handler, Ok(Err(error)))) => Err(JoinError::Run { handler, error }),
            Ok((handler, Err(payload))) => Err(JoinError::Panicked { handler, payload }),
            // Not a callback's: dropping the loop, with its queued messages, panicked.
            Err(payload) => panic::resume_unwind(payload),
        }
    }
}

impl<H> fmt::Debug for LoopThread<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LoopThread")
            .field("is_finished", &self.is_finished())
            .finish_non_exhaustive()
    }
}

/// Leaves the handler out, which need not be `Debug`.
impl<H> fmt::Debug for JoinError<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            JoinError::Run { error, .. } => {
                f.debug_struct("Run").field("error", error).finish_non_exhaustive()
            }
            JoinError::Panicked { .. } => f.debug_struct("Panicked").finish_non_exhaustive(),
        }
    }
}
