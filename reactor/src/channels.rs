//! The loop's channels: its own for `M`, and further ones of any type, each with a token.
//!
//! A further channel's receiver belongs to the user, who drains it in `readable`. The loop keeps a view of it that does
//! not know the message's type and does not keep it open.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

use kodiak_channel::{Bell, Line, Sender, TryRecvError};

use crate::handler::ReadHint;
use crate::quirks::{MESSAGES, Quirks, further_line};

/// The receiving end of a further channel: see [`EventLoop::add_channel`](crate::EventLoop::add_channel).
///
/// Dropping it closes the channel, drops what is queued, and takes the channel out of the loop.
pub struct Receiver<N> {
    inbox: Arc<Inbox<N>>,
}

struct Inbox<N> {
    receiver: kodiak_channel::Receiver<N>,
    /// The owner has been told that no more will come; the loop need not say it again.
    told_closed: AtomicBool,
}

impl<N> Receiver<N> {
    /// The oldest message, if one waits. Never blocks.
    ///
    /// # Errors
    ///
    /// [`TryRecvError::Empty`]: nothing waits. [`TryRecvError::Closed`]: nothing waits and every sender is gone.
    pub fn try_recv(&self) -> Result<N, TryRecvError> {
        let received = self.inbox.receiver.try_recv();
        if matches!(received, Err(TryRecvError::Closed)) {
            self.inbox.told_closed.store(true, Ordering::Release);
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
        f.debug_struct("Receiver").field("len", &self.len()).field("capacity", &self.capacity()).finish()
    }
}

/// What the loop sees of a further channel, whatever its type.
trait View: Send + Sync {
    /// What there is to receive: messages, the news that no more will come, or nothing.
    fn hint(&self) -> ReadHint;
}

impl<N: Send> View for Inbox<N> {
    fn hint(&self) -> ReadHint {
        if !self.receiver.is_empty() {
            ReadHint::DATA
        } else if self.receiver.is_ready() && !self.told_closed.load(Ordering::Acquire) {
            ReadHint::HUP
        } else {
            ReadHint::NONE
        }
    }
}

struct Further<T> {
    token: T,
    /// What its senders ring on.
    line: Line,
    view: Weak<dyn View>,
}

/// All channels of one loop, on one bell.
pub(crate) struct Channels<T, M> {
    pub(crate) bell: Bell,
    pub(crate) sender: Sender<M>,
    pub(crate) receiver: kodiak_channel::Receiver<M>,
    further: Vec<Further<T>>,
    /// How many further channels there have been.
    count: u32,
}

impl<T: Copy, M> Channels<T, M> {
    pub(crate) fn new(bell: Bell, capacity: usize) -> Channels<T, M> {
        let (sender, receiver) = kodiak_channel::bounded(capacity, &bell.on(MESSAGES));
        Channels { bell, sender, receiver, further: Vec::new(), count: 0 }
    }

    pub(crate) fn add<N: Send + 'static>(&mut self, token: T, capacity: usize) -> (Sender<N>, Receiver<N>) {
        let line = further_line(self.count);
        self.count = self.count.wrapping_add(1);
        let (sender, receiver) = kodiak_channel::bounded(capacity, &self.bell.on(line));
        let inbox = Arc::new(Inbox { receiver, told_closed: AtomicBool::new(false) });
        let view: Weak<Inbox<N>> = Arc::downgrade(&inbox);
        self.further.push(Further { token, line, view });
        (sender, Receiver { inbox })
    }

    /// Those of the channels' lines in `rung` on which anything waits to be received.
    pub(crate) fn ready(&self, rung: Quirks) -> Quirks {
        let mut ready = Quirks::NONE;
        if rung.any(Quirks::MESSAGES) && self.receiver.is_ready() {
            ready.add(Quirks::MESSAGES);
        }
        if rung.any(Quirks::FURTHER) {
            let waiting = |channel: &&Further<T>| rung.has_line(channel.line) && channel.hint() != ReadHint::NONE;
            self.further.iter().filter(waiting).for_each(|channel| ready.add_line(channel.line));
        }
        ready
    }

    pub(crate) fn further_len(&self) -> usize {
        self.further.len()
    }

    /// The token and what there is to receive of the channel at `index`, if it is on a line in `rung`.
    pub(crate) fn further(&self, index: usize, rung: Quirks) -> Option<(T, ReadHint)> {
        let channel = self.further.get(index).filter(|channel| rung.has_line(channel.line))?;
        Some((channel.token, channel.hint()))
    }

    /// Forgets the channels whose receivers are gone.
    pub(crate) fn sweep(&mut self) {
        self.further.retain(|channel| channel.view.strong_count() > 0);
    }
}

impl<T> Further<T> {
    fn hint(&self) -> ReadHint {
        self.view.upgrade().map_or(ReadHint::NONE, |view| view.hint())
    }
}
