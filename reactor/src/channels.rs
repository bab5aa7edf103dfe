//! The loop's channels: its own for `M`, and further ones of any type, each with a token.
//!
//! The user owns a further channel's receiver and drains it in `readable`. The loop keeps a weak
//! reference to it, without the message's type.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

use kodiak_channel::{Notifier, Sender, Topic, TryRecvError};

use crate::handler::ReadHint;
use crate::loop_flags::{LoopFlags, MESSAGES, further_topic};

/// The receiving end of a further channel: see
/// [`EventLoop::add_channel`](crate::EventLoop::add_channel).
///
/// Dropping it closes the channel, drops what is queued, and takes the channel out of the loop.
pub struct Receiver<N> {
    inbox: Arc<Inbox<N>>,
}

struct Inbox<N> {
    receiver: kodiak_channel::Receiver<N>,
    /// Whether `try_recv` has returned `Closed`; then the loop need not report it again.
    closed_reported: AtomicBool,
}

impl<N> Receiver<N> {
    /// The oldest message, if one waits. Never blocks.
    ///
    /// # Errors
    ///
    /// [`TryRecvError::Empty`]: nothing waits. [`TryRecvError::Closed`]: nothing waits and every
    /// sender is gone.
    pub fn try_recv(&self) -> Result<N, TryRecvError> {
        let received = self.inbox.receiver.try_recv();
        if matches!(received, Err(TryRecvError::Closed)) {
            self.inbox.closed_reported.store(true, Ordering::Release);
        }
        received
    }

    /// How many messages wait.
    pub fn len(&self) -> usize {
        self.inbox.receiver.len()
    }

    /// Whether no message waits.
    pub fn is_empty(&self) -> bool {
        self.inbox.receiver.is_empty()
    }

    /// How many messages can wait at most.
    pub fn capacity(&self) -> usize {
        self.inbox.receiver.capacity().unwrap_or(usize::MAX)
    }
}

impl<N> fmt::Debug for Receiver<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receiver")
            .field("len", &self.len())
            .field("capacity", &self.capacity())
            .finish()
    }
}

/// What the loop sees of a further channel of any message type.
trait InboxView: Send + Sync {
    /// What there is to receive: messages, the end of the channel, or nothing.
    fn hint(&self) -> ReadHint;
}

impl<N: Send> InboxView for Inbox<N> {
    fn hint(&self) -> ReadHint {
        if !self.receiver.is_empty() {
            ReadHint::DATA
        } else if self.receiver.is_ready() && !self.closed_reported.load(Ordering::Acquire) {
            ReadHint::HUP
        } else {
            ReadHint::NONE
        }
    }
}

struct Further<T> {
    token: T,
    /// The topic of its senders.
    topic: Topic,
    view: Weak<dyn InboxView>,
}

/// All channels of one loop, on one notifier.
pub(crate) struct Channels<T, M> {
    pub(crate) notifier: Notifier,
    pub(crate) sender: Sender<M>,
    pub(crate) receiver: kodiak_channel::Receiver<M>,
    further: Vec<Further<T>>,
    /// Number of further channels ever added.
    count: u32,
}

impl<T: Copy, M> Channels<T, M> {
    pub(crate) fn new(notifier: Notifier, capacity: usize) -> Channels<T, M> {
        let (sender, receiver) = kodiak_channel::bounded(capacity, &notifier.on(MESSAGES));
        Channels { notifier, sender, receiver, further: Vec::new(), count: 0 }
    }

    pub(crate) fn add<N: Send + 'static>(
        &mut self,
        token: T,
        capacity: usize,
    ) -> (Sender<N>, Receiver<N>) {
        let topic = further_topic(self.count);
        self.count = self.count.wrapping_add(1);
        let (sender, receiver) = kodiak_channel::bounded(capacity, &self.notifier.on(topic));
        let inbox = Arc::new(Inbox { receiver, closed_reported: AtomicBool::new(false) });
        let view: Weak<Inbox<N>> = Arc::downgrade(&inbox);
        self.further.push(Further { token, topic, view });
        (sender, Receiver { inbox })
    }

    /// Those of `topics` whose channels have something to receive.
    pub(crate) fn ready_topics(&self, topics: LoopFlags) -> LoopFlags {
        let mut ready = LoopFlags::NONE;
        if topics.any(LoopFlags::MESSAGES) && self.receiver.is_ready() {
            ready.add(LoopFlags::MESSAGES);
        }
        if topics.any(LoopFlags::FURTHER) {
            let waiting = |channel: &&Further<T>| {
                topics.has_topic(channel.topic) && channel.hint() != ReadHint::NONE
            };
            self.further.iter().filter(waiting).for_each(|channel| ready.add_topic(channel.topic));
        }
        ready
    }

    pub(crate) fn further_len(&self) -> usize {
        self.further.len()
    }

    /// The token and what there is to receive of the channel at `index`, if its topic is one of
    /// `topics`.
    pub(crate) fn further(&self, index: usize, topics: LoopFlags) -> Option<(T, ReadHint)> {
        let channel = self.further.get(index).filter(|channel| topics.has_topic(channel.topic))?;
        Some((channel.token, channel.hint()))
    }

    /// Forgets the channels whose receivers are gone.
    pub(crate) fn remove_closed(&mut self) {
        self.further.retain(|channel| channel.view.strong_count() > 0);
    }
}

impl<T> Further<T> {
    fn hint(&self) -> ReadHint {
        self.view.upgrade().map_or(ReadHint::NONE, |view| view.hint())
    }
}
