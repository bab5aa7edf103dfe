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
/// Dropping it detaches the thread: the loop keeps running.
pub struct LoopThread<H> {
    remote: Remote,
    thread: JoinHandle<(H, thread::Result<Result<(), RunError>>)>,
}

/// The system could not start a thread for [`EventLoop::start`]. Nothing was run.
#[derive(thiserror::Error)]
#[error("cannot start the event loop's thread")]
#[non_exhaustive]
pub struct StartError<T, M, H> {
    /// The loop, as it was handed in.
    pub event_loop: EventLoop<T, M>,
    /// The handler, as it was handed in.
    pub handler: H,
    /// The system's answer.
    pub source: io::Error,
}

impl<T, M, H> From<Box<StartError<T, M, H>>> for io::Error {
    fn from(error: Box<StartError<T, M, H>>) -> io::Error {
        error.source
    }
}

impl<T, M, H> fmt::Debug for StartError<T, M, H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StartError").field("source", &self.source).finish_non_exhaustive()
    }
}

/// The loop's thread ended without a shutdown.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum JoinError<H> {
    /// The loop stopped with an error.
    #[error("the event loop's thread stopped")]
    Run {
        /// The handler, as it was when the loop stopped.
        handler: H,
        /// Why it stopped.
        source: RunError,
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
        // Sent after the thread has started: a thread that fails to start would drop them.
        let (send, receive) = mpsc::sync_channel::<(EventLoop<T, M>, H)>(1);
        let spawned = thread::Builder::new().name("event loop".into()).spawn(move || {
            let (mut event_loop, mut handler) =
                receive.recv().expect("they are sent once this thread has started");
            // After a panic only the caller of `join` sees the handler, and the loop is dropped.
            let result = panic::catch_unwind(AssertUnwindSafe(|| event_loop.run(&mut handler)));
            (handler, result)
        });
        match spawned {
            Ok(thread) => {
                assert!(send.send((event_loop, handler)).is_ok(), "the thread waits for them");
                Ok(LoopThread { remote, thread })
            }
            Err(source) => Err(Box::new(StartError { event_loop, handler, source })),
        }
    }

    /// Stops or wakes the loop from any thread.
    pub fn remote(&self) -> Remote {
        self.remote.clone()
    }

    /// Whether the thread has ended, so that [`join`](LoopThread::join) would not wait.
    pub fn is_finished(&self) -> bool {
        self.thread.is_finished()
    }

    /// Waits until the loop has ended and returns the handler. It does not stop the loop: see
    /// [`Remote::shutdown`].
    ///
    /// # Errors
    ///
    /// The loop ended with an error, or a callback panicked; both give the handler back.
    ///
    /// # Panics
    ///
    /// If dropping the loop panicked, because the drop of a queued message did.
    pub fn join(self) -> Result<H, JoinError<H>> {
        match self.thread.join() {
            Ok((handler, Ok(Ok(())))) => Ok(handler),
            Ok((handler, Ok(Err(source)))) => Err(JoinError::Run { handler, source }),
            Ok((handler, Err(payload))) => Err(JoinError::Panicked { handler, payload }),
            // Dropping the loop, with its queued messages, panicked.
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

/// Without the handler, which need not be `Debug`.
impl<H> fmt::Debug for JoinError<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            JoinError::Run { source, .. } => {
                f.debug_struct("Run").field("source", source).finish_non_exhaustive()
            }
            JoinError::Panicked { .. } => f.debug_struct("Panicked").finish_non_exhaustive(),
        }
    }
}
