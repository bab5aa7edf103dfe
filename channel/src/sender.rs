//! The sending end, one handle for each thread that sends.

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use crossbeam_channel::{Select, TrySendError};

use crate::SendError;
use crate::channel::Link;
use crate::sync::pushed;

/// Sends messages to a loop and wakes it if it sleeps. Clone it for every thread that sends.
///
/// Messages of one sender arrive in the order in which they were sent; those of different senders
/// in the order in which they entered the queue. When the last clone is dropped, the loop is woken
/// too, and once everything has been received, [`Receiver::try_recv`](crate::Receiver::try_recv)
/// returns [`Closed`](crate::TryRecvError::Closed).
///
/// # `Ok` means queued
///
/// `Ok` means that the message is in the queue, once: the receiver gets it, or drops it when it is
/// itself dropped. It does not mean that the loop has received it. A message that is sent while the
/// receiver is being dropped may be queued and dropped with the rest.
///
/// A send whose wake failed is still `Ok`, because after an error the caller would send the message
/// twice. Every later send tries the wake again, even one that finds the channel full. The error is
/// kept for [`Notifier::take_wake_error`](crate::Notifier::take_wake_error).
///
/// # A limit
///
/// The queue is crossbeam's. A sender that the scheduler preempts in the middle of a push keeps its
/// place in the queue, and the receiver waits for it (spins, and yields) when it reaches that place
/// (crossbeam issue 997). Nothing is lost, but the loop is late. `kodiak-bench stalled-sender`
/// measures how often that happens.
pub struct Sender<M> {
    // The fields are dropped in this order: the queue must be closed before the link notifies.
    pub(crate) queue: crossbeam_channel::Sender<M>,
    pub(crate) link: Arc<Link<M>>,
}

impl<M> Sender<M> {
    /// Queues `message` and wakes the loop if it sleeps. Never blocks.
    ///
    /// # Errors
    ///
    /// Both return the message, which was not sent. [`SendError::Full`]: the channel is bounded and
    /// holds its capacity. [`SendError::Closed`]: the receiver was dropped.
    #[inline]
    pub fn send(&self, message: M) -> Result<(), SendError<M>> {
        if self.link.shared.is_receiver_gone() {
            return Err(SendError::Closed(message));
        }
        match self.queue.try_send(message) {
            Ok(()) => {
                self.finish_push();
                Ok(())
            }
            Err(TrySendError::Full(message)) => {
                // If the wake has failed, only this can repeat it: no send into a full queue
                // succeeds.
                self.link.notifier.notify_after_push();
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
    /// [`SendError::Closed`] if the receiver was dropped, or is dropped during the wait.
    pub fn send_blocking(&self, message: M) -> Result<(), SendError<M>> {
        match self.send(message) {
            Err(SendError::Full(message)) => self.send_when_room(message, None),
            done => done,
        }
    }

    /// Queues `message`, waiting for room until `deadline` at most, and wakes the loop if it
    /// sleeps.
    ///
    /// For threads that may wait; see [`send_blocking`](Sender::send_blocking). With a deadline in
    /// the past this is [`send`](Sender::send).
    ///
    /// # Errors
    ///
    /// [`SendError::Full`] if there was no room before the deadline; [`SendError::Closed`] if the
    /// receiver was dropped, or is dropped during the wait.
    pub fn send_deadline(&self, message: M, deadline: Instant) -> Result<(), SendError<M>> {
        match self.send(message) {
            Err(SendError::Full(message)) => self.send_when_room(message, Some(deadline)),
            done => done,
        }
    }

    /// Waits for room, for the receiver's drop, or for the deadline. A dropped receiver is checked
    /// before room.
    fn send_when_room(&self, message: M, deadline: Option<Instant>) -> Result<(), SendError<M>> {
        let mut select = Select::new_biased();
        let closed = select.recv(&self.link.shared.closed);
        select.send(&self.queue);
        let operation = match deadline {
            None => select.select(),
            Some(deadline) => match select.select_deadline(deadline) {
                Ok(operation) => operation,
                Err(_timeout) => return Err(SendError::Full(message)),
            },
        };
        if operation.index() == closed {
            // A selected operation must be completed; this one only reports the disconnection.
            let _disconnected = operation.recv(&self.link.shared.closed);
            return Err(SendError::Closed(message));
        }
        operation
            .send(&self.queue, message)
            .map_err(|error| SendError::Closed(error.into_inner()))?;
        self.finish_push();
        Ok(())
    }

    /// Wakes the loop after a push, or drops the message if the receiver was dropped.
    #[inline]
    fn finish_push(&self) {
        pushed();
        self.link.notifier.notify_after_push();
        if self.link.shared.is_receiver_gone() {
            self.link.shared.drain();
        }
    }

    /// The number of queued messages, which may change at any time.
    pub fn len(&self) -> usize {
        self.queue.len()
    }

    /// Whether no message is queued, which may change at any time.
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// The greatest number of queued messages; `None` if there is no bound.
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
        f.debug_struct("Sender")
            .field("len", &self.len())
            .field("capacity", &self.capacity())
            .finish_non_exhaustive()
    }
}
