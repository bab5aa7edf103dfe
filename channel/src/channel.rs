//! The two constructors, and what the ends of one channel share beside the queue.

use std::fmt;
use std::sync::Arc;

use crate::receiver::Inner;
use crate::sync::{AtomicBool, Ordering};
use crate::{Bell, Receiver, Sender};

/// A channel that holds at most `capacity` messages and allocates nothing after this call.
///
/// All memory is taken here: `capacity` times the message's size and one word. A `capacity` of 0 is taken as 1: a loop that
/// never waits inside the channel cannot meet a sender there.
///
/// # Panics
///
/// Like `Vec::with_capacity`, if `capacity` messages do not fit into the address space.
///
/// # Example
///
/// ```
/// use kodiak_channel::{Bell, SendError, TryRecvError, bounded};
///
/// let bell = Bell::new(std::thread::current());
/// let (sender, receiver) = bounded(2, &bell);
/// sender.send("a")?;
/// sender.send("b")?;
/// assert_eq!(sender.send("c"), Err(SendError::Full("c"))); // handed back
/// assert_eq!(receiver.try_recv(), Ok("a"));
/// assert_eq!(receiver.try_recv(), Ok("b"));
/// assert_eq!(receiver.try_recv(), Err(TryRecvError::Empty));
/// # Ok::<(), SendError<&str>>(())
/// ```
pub fn bounded<M>(capacity: usize, bell: &Bell) -> (Sender<M>, Receiver<M>) {
    join(crossbeam_channel::bounded(capacity.max(1)), bell)
}

/// A channel that grows with what is queued: one allocation for every 31 messages.
///
/// The sender's only brake is the memory of the machine. Prefer [`bounded`] wherever the one who sends can be told "not
/// now"; this is for senders whose number of messages is bounded by something else.
pub fn unbounded<M>(bell: &Bell) -> (Sender<M>, Receiver<M>) {
    join(crossbeam_channel::unbounded(), bell)
}

fn join<M>(
    (sender, receiver): (crossbeam_channel::Sender<M>, crossbeam_channel::Receiver<M>),
    bell: &Bell,
) -> (Sender<M>, Receiver<M>) {
    let senders_gone = Arc::new(AtomicBool::new(false));
    let link = Link { bell: bell.clone(), senders_gone: Arc::clone(&senders_gone) };
    let inner = Inner { queue: receiver, senders_gone, _bell: bell.clone() };
    (Sender { queue: sender, link: Arc::new(link) }, Receiver { inner: Arc::new(inner) })
}

/// What all senders of one channel share. The last of them to go drops it, and so tells the loop.
///
/// Every sender lets go of the queue before it lets go of this, so when this drops, the queue is closed already: publish
/// first, then ring.
pub(crate) struct Link {
    pub(crate) bell: Bell,
    senders_gone: Arc<AtomicBool>,
}

impl Drop for Link {
    fn drop(&mut self) {
        self.senders_gone.store(true, Ordering::Release);
        self.bell.ring_or_note();
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").finish_non_exhaustive()
    }
}
