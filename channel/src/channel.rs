//! The two constructors, and what the ends of one channel share beside the queue.

use std::convert::Infallible;
use std::sync::Arc;

use crate::sync::{AtomicBool, Ordering, fence};
use crate::{Notifier, Receiver, Sender};

/// A channel that holds at most `capacity` messages and allocates nothing after this call.
///
/// All memory is taken here: `capacity` times the message's size and one word. A `capacity` of 0 is
/// taken as 1: a loop that never waits inside the channel cannot meet a sender there.
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
/// assert_eq!(sender.send("c"), Err(SendError::Full("c"))); // handed back
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
/// It holds a receiving handle of the queue for as long as either end exists, so crossbeam never
/// sees the receiver go: a bounded crossbeam channel would keep what is queued until the last
/// *sender* goes, and a message that holds a sender would never be dropped. `receiver_gone` is what
/// closes the channel instead. Nothing is stranded:
///
/// ```text
///   sender                           receiver's drop
///   if receiver_gone: hand it back
///   push                  P          receiver_gone = true
///   if receiver_gone: drain          fence(SeqCst)
///                                    drain
/// ```
///
/// Either P or the fence comes first: the receiver's drain finds the push, or the sender finds the
/// mark.
///
/// # Order of a push
///
/// P (see also `notifier.rs`) is the sequentially consistent exchange with which a push into
/// crossbeam's queue moves the queue's tail, in both flavours. What the loop asks before it sleeps,
/// `is_empty`, reads the tail with the same order, and `try_recv` reads it after such a fence. All
/// of these stand in one order, so what holds of a fence after the push holds of the exchange
/// within it: if the loop does not see the tail moved, the sender sees the flag that the loop wrote
/// before it looked. What is read after a push has to be read sequentially consistent for that.
///
/// It is no promise of crossbeam's documentation, but its own blocking receive stands on it: a
/// receiver registers, looks at the tail, sleeps; a sender pushes and, with no fence between, looks
/// whether one is registered. `tests/orders.rs` tries it on the machine and under Miri. (A fence of
/// our own would cost 8 ns of 27: `bench/README.md`.)
pub(crate) struct Shared<M> {
    pub(crate) queue: crossbeam_channel::Receiver<M>,
    /// Carries nothing; disconnected by the receiver's drop, to end the wait of senders that block.
    pub(crate) closed: crossbeam_channel::Receiver<Infallible>,
    receiver_gone: AtomicBool,
    /// Set by the last sender after it closed the queue. The queue alone cannot be asked whether it
    /// is closed without taking a message out of it.
    senders_gone: AtomicBool,
    /// The receiving side co-owns the waker: when the last sender wakes the loop and goes, the
    /// descriptor it wrote to must not close under the kernel's event.
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

    /// Drops what is queued. Any number of threads may; each message falls to one of them.
    #[cold]
    pub(crate) fn drain(&self) {
        while let Ok(message) = self.queue.try_recv() {
            drop(message);
        }
    }
}

/// What all senders of one channel share. Its drop, with the last sender, notifies the loop.
///
/// Every sender lets go of the queue before it lets go of this, so when this drops, the queue is
/// closed already: publish first, then notify.
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
