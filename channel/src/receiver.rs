//! The loop's end.

use std::fmt;
use std::sync::{Arc, Weak};

use crate::sync::{AtomicBool, Ordering};
use crate::{Bell, TryRecvError};

/// Receives what the [`Sender`](crate::Sender)s send, one message at a time, without ever waiting for one.
///
/// Dropping it closes the channel: what is queued is dropped, waiting senders get their message back, and so does every
/// later send. A send that races with the drop either hands its message back or has it dropped, exactly once.
pub struct Receiver<M> {
    pub(crate) inner: Arc<Inner<M>>,
}

/// Behind a reference count so that a [`Probe`] can look without keeping the channel open.
pub(crate) struct Inner<M> {
    pub(crate) queue: crossbeam_channel::Receiver<M>,
    /// Set by the last sender after it closed the queue. The queue alone cannot be asked whether it is closed without
    /// taking a message out of it.
    pub(crate) senders_gone: Arc<AtomicBool>,
    /// The receiving side co-owns the waker: when the last sender wakes the loop and goes, the descriptor it wrote to must
    /// not close under the kernel's event.
    pub(crate) _bell: Bell,
}

impl<M> Receiver<M> {
    /// The oldest message, if one waits.
    ///
    /// # Errors
    ///
    /// [`TryRecvError::Empty`] if none waits; [`TryRecvError::Closed`] if none waits and none will ever come.
    pub fn try_recv(&self) -> Result<M, TryRecvError> {
        self.inner.queue.try_recv().map_err(|error| match error {
            crossbeam_channel::TryRecvError::Empty => TryRecvError::Empty,
            crossbeam_channel::TryRecvError::Disconnected => TryRecvError::Closed,
        })
    }

    /// Whether [`try_recv`](Receiver::try_recv) has something to tell: a message, or that the channel is closed.
    ///
    /// This is what a loop asks between [`Bell::arm`] and its sleep. [`is_empty`](Receiver::is_empty) will not do there: the
    /// last sender may have gone while the loop was awake, without a wake, and a closed channel is empty. (A loop that has
    /// seen `Closed` stops asking: the answer stays `true`.)
    pub fn is_ready(&self) -> bool {
        self.inner.is_ready()
    }

    /// How many messages wait.
    pub fn len(&self) -> usize {
        self.inner.queue.len()
    }

    /// Whether no message waits. Before a sleep ask [`is_ready`](Receiver::is_ready) instead.
    pub fn is_empty(&self) -> bool {
        self.inner.queue.is_empty()
    }

    /// How many messages can wait at most; `None` if there is no bound.
    pub fn capacity(&self) -> Option<usize> {
        self.inner.queue.capacity()
    }
}

impl<M: Send + 'static> Receiver<M> {
    /// A handle of no particular message type with which a loop can watch this channel while somebody else owns the receiver.
    ///
    /// Allocates nothing.
    pub fn probe(&self) -> Probe {
        let inner: Weak<Inner<M>> = Arc::downgrade(&self.inner);
        Probe { inner }
    }
}

impl<M> fmt::Debug for Receiver<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receiver").field("len", &self.len()).field("capacity", &self.capacity()).finish_non_exhaustive()
    }
}

/// Sees whether a channel has something for its receiver; holds neither end open.
///
/// Loops keep one for each channel whose [`Receiver`] their user owns.
#[derive(Clone)]
pub struct Probe {
    inner: Weak<dyn Ready>,
}

impl Probe {
    /// [`Receiver::is_ready`]; `false` once the receiver was dropped.
    pub fn is_ready(&self) -> bool {
        self.inner.upgrade().is_some_and(|inner| inner.is_ready())
    }

    /// Whether the receiver was dropped: there is nothing left to watch.
    pub fn is_gone(&self) -> bool {
        self.inner.strong_count() == 0
    }
}

impl fmt::Debug for Probe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Probe").field("is_ready", &self.is_ready()).field("is_gone", &self.is_gone()).finish()
    }
}

/// The one question that does not depend on the message's type.
trait Ready: Send + Sync {
    fn is_ready(&self) -> bool;
}

impl<M: Send> Ready for Inner<M> {
    fn is_ready(&self) -> bool {
        Inner::is_ready(self)
    }
}

impl<M> Inner<M> {
    fn is_ready(&self) -> bool {
        !self.queue.is_empty() || self.senders_gone.load(Ordering::Acquire)
    }
}
