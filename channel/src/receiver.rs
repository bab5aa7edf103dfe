//! The receiving end, which belongs to the loop.

use std::convert::Infallible;
use std::fmt;
use std::sync::Arc;

use crate::TryRecvError;
use crate::channel::Shared;

/// Receives what the [`Sender`](crate::Sender)s send, one message at a time, without ever waiting
/// for one.
///
/// Dropping it closes the channel: queued messages are dropped, and senders that wait, or send
/// later, get their message back. A message that is sent during the drop is either returned or
/// dropped, exactly once.
pub struct Receiver<M> {
    pub(crate) shared: Arc<Shared<M>>,
    /// Dropped to unblock waiting senders. `Some` until then.
    pub(crate) open: Option<crossbeam_channel::Sender<Infallible>>,
}

impl<M> Receiver<M> {
    /// Takes the oldest message, if one is queued.
    ///
    /// # Errors
    ///
    /// [`TryRecvError::Empty`] if no message is queued; [`TryRecvError::Closed`] if no message is
    /// queued and all senders were dropped.
    pub fn try_recv(&self) -> Result<M, TryRecvError> {
        self.shared.queue.try_recv().map_err(|error| match error {
            crossbeam_channel::TryRecvError::Empty => TryRecvError::Empty,
            crossbeam_channel::TryRecvError::Disconnected => TryRecvError::Closed,
        })
    }

    /// Whether [`try_recv`](Receiver::try_recv) has something to return: a message, or that the
    /// channel is closed.
    ///
    /// A loop checks this between [`Notifier::arm`](crate::Notifier::arm) and its sleep.
    /// [`is_empty`](Receiver::is_empty) is not enough there: if the last sender was dropped while
    /// the loop was awake, there was no wake, and a closed channel is empty. A loop that has
    /// received `Closed` must stop checking, because the result stays `true`.
    pub fn is_ready(&self) -> bool {
        self.shared.is_ready()
    }

    /// The number of queued messages.
    pub fn len(&self) -> usize {
        self.shared.queue.len()
    }

    /// Whether no message is queued. Before a sleep check [`is_ready`](Receiver::is_ready) instead.
    pub fn is_empty(&self) -> bool {
        self.shared.queue.is_empty()
    }

    /// The greatest number of queued messages; `None` if there is no bound.
    pub fn capacity(&self) -> Option<usize> {
        self.shared.queue.capacity()
    }
}

impl<M: Send + 'static> Receiver<M> {
    /// A handle without the message type, for a loop that watches this channel but does not own the
    /// receiver.
    ///
    /// Allocates nothing.
    pub fn probe(&self) -> Probe {
        let channel: Arc<Shared<M>> = Arc::clone(&self.shared);
        Probe { channel }
    }
}

impl<M> Drop for Receiver<M> {
    fn drop(&mut self) {
        self.shared.close(self.open.take());
    }
}

impl<M> fmt::Debug for Receiver<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receiver")
            .field("len", &self.len())
            .field("capacity", &self.capacity())
            .finish_non_exhaustive()
    }
}

/// Checks whether a channel has something for its receiver. Keeps neither end open.
///
/// A loop keeps one for each channel whose [`Receiver`] the loop's user owns, until the probe
/// [`is_gone`](Probe::is_gone); until then it keeps the memory of the queue.
#[derive(Clone)]
pub struct Probe {
    channel: Arc<dyn Watched>,
}

impl Probe {
    /// [`Receiver::is_ready`]; `false` once the receiver was dropped.
    pub fn is_ready(&self) -> bool {
        !self.channel.is_receiver_gone() && self.channel.is_ready()
    }

    /// Whether the receiver was dropped, so that there is nothing left to watch.
    pub fn is_gone(&self) -> bool {
        self.channel.is_receiver_gone()
    }
}

impl fmt::Debug for Probe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Probe")
            .field("is_ready", &self.is_ready())
            .field("is_gone", &self.is_gone())
            .finish()
    }
}

/// The checks that do not depend on the message's type.
trait Watched: Send + Sync {
    fn is_ready(&self) -> bool;
    fn is_receiver_gone(&self) -> bool;
}

impl<M: Send> Watched for Shared<M> {
    fn is_ready(&self) -> bool {
        Shared::is_ready(self)
    }

    fn is_receiver_gone(&self) -> bool {
        Shared::is_receiver_gone(self)
    }
}
