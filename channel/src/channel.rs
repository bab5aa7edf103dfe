//! The two constructors, and the state that both ends of a channel share.

use std::convert::Infallible;
use std::sync::Arc;

use crate::sync::{AtomicBool, Ordering, fence};
use crate::{Notifier, Receiver, Sender};

/// A channel that holds at most `capacity` messages and allocates nothing after this call.
///
/// All memory is allocated here: `capacity` times the message's size and one word. A `capacity` of
/// 0 counts as 1, because the loop never waits inside the channel for a sender.
///
/// # Panics
///
/// Like `Vec::with_capacity`, if `capacity` messages do not fit into the address space.
///
/// # Example
///
/// ```
/// use kodiak_channel::{Notifier, SendError, TryRecvError, bounded};
///
/// let notifier = Notifier::new(std::thread::current());
/// let (sender, receiver) = bounded(2, &notifier);
/// sender.send("a")?;
/// sender.send("b")?;
/// assert_eq!(sender.send("c"), Err(SendError::Full("c"))); // returns the message
/// assert_eq!(receiver.try_recv(), Ok("a"));
/// assert_eq!(receiver.try_recv(), Ok("b"));
/// assert_eq!(receiver.try_recv(), Err(TryRecvError::Empty));
/// # Ok::<(), SendError<&str>>(())
/// ```
pub fn bounded<M>(capacity: usize, notifier: &Notifier) -> (Sender<M>, Receiver<M>) {
    join(crossbeam_channel::bounded(capacity.max(1)), notifier)
}

/// A channel that grows with what is queued: one allocation for every 31 messages.
///
/// Nothing limits it but the machine's memory. Prefer [`bounded`] wherever the sending code can
/// handle [`SendError::Full`](crate::SendError::Full). This is for senders whose number of messages
/// is bounded by something else.
pub fn unbounded<M>(notifier: &Notifier) -> (Sender<M>, Receiver<M>) {
    join(crossbeam_channel::unbounded(), notifier)
}

fn join<M>(
    (sender, receiver): (crossbeam_channel::Sender<M>, crossbeam_channel::Receiver<M>),
    notifier: &Notifier,
) -> (Sender<M>, Receiver<M>) {
    let (open, closed) = crossbeam_channel::bounded(0);
    let shared = Arc::new(Shared {
        queue: receiver,
        closed,
        receiver_gone: AtomicBool::new(false),
        senders_gone: AtomicBool::new(false),
        notifier: notifier.clone(),
    });
    let link = Arc::new(Link { notifier: notifier.clone(), shared: Arc::clone(&shared) });
    (Sender { queue: sender, link }, Receiver { shared, open: Some(open) })
}

/// What both ends of a channel share.
///
/// It has a receiving handle of the queue for as long as either end exists, so crossbeam's channel
/// never loses its receiver. Otherwise a bounded crossbeam channel would keep queued messages until
/// the last *sender* is dropped, and a message that contains a sender would never be dropped.
/// `receiver_gone` closes the channel instead. No message stays in the queue:
///
/// ```text
///   sender                           receiver's drop
///   if receiver_gone: return it
///   push                  P          receiver_gone = true
///   if receiver_gone: drain          fence(SeqCst)
///                                    drain
/// ```
///
/// Either P or the fence comes first: the receiver's drain sees the push, or the sender sees
/// `receiver_gone`.
///
/// # Order of a push
///
/// P (see also `notifier.rs`) is the sequentially consistent exchange with which a push into
/// crossbeam's queue, bounded or not, moves the queue's tail. Before the loop sleeps, `is_empty`
/// reads the tail with the same order, and `try_recv` reads it after such a fence. All of these are
/// in one total order. So the exchange does what a fence after the push would do: if the loop does
/// not see the moved tail, the sender sees the flag that the loop wrote before it read the tail.
/// For that, a load after a push must be sequentially consistent.
///
/// Crossbeam's documentation does not promise this, but its own blocking receive relies on it: a
/// receiver registers, reads the tail, and sleeps; a sender pushes and then, without a fence, reads
/// whether a receiver is registered. `tests/orders.rs` checks it on the machine and under Miri. A
/// fence here would be safe without this argument, at the cost of one fence for each message.
pub(crate) struct Shared<M> {
    pub(crate) queue: crossbeam_channel::Receiver<M>,
    /// Never carries a message. The receiver's drop disconnects it, to end the wait of senders.
    pub(crate) closed: crossbeam_channel::Receiver<Infallible>,
    receiver_gone: AtomicBool,
    /// Set by the last sender after it closed the queue, because only a receive reports that the
    /// queue is closed.
    senders_gone: AtomicBool,
    /// Keeps the waker open for the receiver: its descriptor must not be closed when the last
    /// sender wakes the loop and is dropped, before the kernel has reported the wake.
    #[expect(dead_code, reason = "held, never used")]
    notifier: Notifier,
}

impl<M> Shared<M> {
    /// Whether a receive returns something: a message, or that the channel is closed.
    pub(crate) fn is_ready(&self) -> bool {
        !self.queue.is_empty() || self.senders_gone.load(Ordering::Acquire)
    }

    #[inline]
    pub(crate) fn is_receiver_gone(&self) -> bool {
        // Sequentially consistent, as a load after a push has to be (`Order of a push` above).
        self.receiver_gone.load(Ordering::SeqCst)
    }

    /// The receiver's part of closing; `open` ends the wait of blocked senders.
    pub(crate) fn close(&self, open: Option<crossbeam_channel::Sender<Infallible>>) {
        self.receiver_gone.store(true, Ordering::Release);
        fence(Ordering::SeqCst);
        drop(open);
        self.drain();
    }

    /// Drops the queued messages. Several threads may do so at once.
    #[cold]
    pub(crate) fn drain(&self) {
        while let Ok(message) = self.queue.try_recv() {
            drop(message);
        }
    }
}

/// What all senders of one channel share. Its drop, with the last sender, notifies the loop.
///
/// Every sender drops its handle of the queue first, so the queue is closed when this is dropped:
/// publish first, then notify.
pub(crate) struct Link<M> {
    pub(crate) notifier: Notifier,
    pub(crate) shared: Arc<Shared<M>>,
}

impl<M> Drop for Link<M> {
    fn drop(&mut self) {
        self.shared.senders_gone.store(true, Ordering::Release);
        self.notifier.notify_or_keep_error();
    }
}
