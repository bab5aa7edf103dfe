//! What sending and receiving can fail with.

use std::fmt;

use thiserror::Error;

/// A message that was not queued, and why. It is handed back: see
/// [`into_inner`](SendError::into_inner).
#[derive(Error, Clone, Copy, PartialEq, Eq)]
pub enum SendError<M> {
    /// The channel holds `capacity` messages. The loop is behind; try again later, send less, or
    /// raise the `capacity` given to [`bounded`](crate::bounded).
    #[error(
        "channel full: as many messages wait as its `capacity` (the argument of `bounded`) allows; \
         the message was not sent"
    )]
    Full(M),
    /// The receiver is gone, and with it everything that was queued. No later send can succeed.
    #[error("channel closed: its receiver was dropped; the message was not sent")]
    Closed(M),
}

impl<M> SendError<M> {
    /// The message that was not sent.
    pub fn into_inner(self) -> M {
        match self {
            SendError::Full(message) | SendError::Closed(message) => message,
        }
    }

    /// Whether a later try may succeed.
    pub fn is_full(&self) -> bool {
        matches!(self, SendError::Full(_))
    }

    /// Whether no later try can succeed.
    pub fn is_closed(&self) -> bool {
        matches!(self, SendError::Closed(_))
    }
}

/// Names the variant only, so that messages need not be `Debug` for `unwrap` and `?`.
impl<M> fmt::Debug for SendError<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            SendError::Full(_) => "Full(..)",
            SendError::Closed(_) => "Closed(..)",
        })
    }
}

/// Why there was no message to receive.
#[derive(Error, Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TryRecvError {
    /// Nothing is queued now; senders exist.
    #[error("channel empty: no message waits")]
    Empty,
    /// Nothing is queued and the last sender is gone: nothing will ever come.
    #[error("channel closed: its last sender was dropped and every message has been received")]
    Closed,
}
