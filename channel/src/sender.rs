//! The many threads' end.

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use crossbeam_channel::{SendTimeoutError, TrySendError};

use crate::SendError;
use crate::channel::Link;

/// Sends messages to a loop and wakes it if it sleeps. Clone it for every thread that sends.
///
/// Messages of one sender arrive in the order in which they were sent; those of different senders in the order in which
/// they entered the queue. When the last clone is dropped, the loop is woken too, and once everything has been received,
/// [`Receiver::try_recv`](crate::Receiver::try_recv) says [`Closed`](crate::TryRecvError::Closed).
///
/// # `Ok` means queued
///
/// `Ok` means that the message is in the queue, once: the receiver gets it, or drops it when it is itself dropped. It does
/// not mean that the loop has seen it. If the queue took the message but the wake failed, that is still `Ok` (an error
/// would make callers send it twice); every later send tries the wake again, even one that finds the channel full, and
/// the error waits in [`Bell::take_wake_error`](crate::Bell::take_wake_error).
///
/// # A limit
///
/// The queue is crossbeam's. A sender that the scheduler freezes in the middle of a push holds its place in the queue, and
/// the receiver waits for it (spins, and yields) when it gets there (crossbeam issue 997). Bounded channels are rarely hit,
/// unbounded ones often when there are more busy threads than processors. Nothing is lost; the loop is late.
pub struct Sender<M> {
    // The order of these fields matters: they drop in it, and the queue has to be closed before the link rings.
    pub(crate) queue: crossbeam_channel::Sender<M>,
    pub(crate) link: Arc<Link>,
}

impl<M> Sender<M> {
    /// Queues `message` and wakes the loop if it sleeps. Never blocks.
    ///
    /// # Errors
    ///
    /// Both hand the message back, which then was not sent. [`SendError::Full`]: the channel is bounded and holds its
    /// capacity. [`SendError::Closed`]: the receiver is gone.
    pub fn send(&self, message: M) -> Result<(), SendError<M>> {
        match self.queue.try_send(message) {
            Ok(()) => {
                self.link.bell.ring_or_note();
                Ok(())
            }
            Err(TrySendError::Full(message)) => {
                // A full queue whose wake once failed would otherwise stay full for ever: nobody's send gets as far as the ring.
                self.link.bell.ring_or_note();
                Err(SendError::Full(message))
            }
            Err(TrySendError::Disconnected(message)) => Err(SendError::Closed(message)),
        }
    }

    /// Queues `message`, waiting for room as long as it takes, and wakes the loop if it sleeps.
    ///
    /// For threads that may wait. The loop's own thread may not: it would wait for itself.
    ///
    /// # Errors
    ///
    /// [`SendError::Closed`] if the receiver is gone, or goes while this waits.
    pub fn send_blocking(&self, message: M) -> Result<(), SendError<M>> {
        match self.send(message) {
            Err(SendError::Full(message)) => match self.queue.send(message) {
                Ok(()) => {
                    self.link.bell.ring_or_note();
                    Ok(())
                }
                Err(crossbeam_channel::SendError(message)) => Err(SendError::Closed(message)),
            },
            done => done,
        }
    }

    /// Queues `message`, waiting for room until `deadline` at most, and wakes the loop if it sleeps.
    ///
    /// For threads that may wait; see [`send_blocking`](Sender::send_blocking). With a deadline in the past this is
    /// [`send`](Sender::send).
    ///
    /// # Errors
    ///
    /// [`SendError::Full`] if there was no room before the deadline; [`SendError::Closed`] if the receiver is gone, or goes
    /// while this waits.
    pub fn send_deadline(&self, message: M, deadline: Instant) -> Result<(), SendError<M>> {
        match self.send(message) {
            Err(SendError::Full(message)) => match self.queue.send_deadline(message, deadline) {
                Ok(()) => {
                    self.link.bell.ring_or_note();
                    Ok(())
                }
                Err(SendTimeoutError::Timeout(message)) => Err(SendError::Full(message)),
                Err(SendTimeoutError::Disconnected(message)) => Err(SendError::Closed(message)),
            },
            done => done,
        }
    }

    /// How many messages wait. By the time the caller looks at it, it may have changed.
    pub fn len(&self) -> usize {
        self.queue.len()
    }

    /// Whether no message waits, at the moment of asking.
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// How many messages can wait at most; `None` if there is no bound.
    pub fn capacity(&self) -> Option<usize> {
        self.queue.capacity()
    }
}

impl<M> Clone for Sender<M> {
    fn clone(&self) -> Self {
        Sender { queue: self.queue.clone(), link: Arc::clone(&self.link) }
    }
}

impl<M> fmt::Debug for Sender<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender").field("len", &self.len()).field("capacity", &self.capacity()).finish_non_exhaustive()
    }
}
