//! The errors of sending and receiving.

use std::fmt;

use thiserror::Error;

/// A message that was not sent, and why.
///
/// [`into_inner`](SendError::into_inner) returns the message.
#[derive(Error, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum SendError<M> {
    /// The channel holds as many messages as its `capacity`. Try again later, send fewer, or give
    /// [`bounded`](crate::bounded) a greater `capacity`.
    #[error(
        "channel full: it holds as many messages as its `capacity`, the argument of `bounded`; \
         the message was not sent"
    )]
    Full(M),
    /// The receiver was dropped, with all queued messages. No later send can succeed.
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
#[non_exhaustive]
pub enum TryRecvError {
    /// No message is queued now; senders exist.
    #[error("channel empty: no message is queued")]
    Empty,
    /// No message is queued, and the last sender was dropped: no message will come.
    #[error("channel closed: its last sender was dropped and every message has been received")]
    Closed,
}
