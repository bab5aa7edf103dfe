//! How a notifier wakes a loop that sleeps.

use std::io;
use std::sync::Arc;
use std::thread::Thread;

/// Something that can end another thread's sleep.
///
/// A [`Notifier`](crate::Notifier) calls it at most once per sleep, from whichever thread sends.
/// An implementation must keep three promises:
///
/// - **It latches.** A wake that comes just before the loop blocks ends that sleep as soon as it
///   begins. Event descriptors, pipes and [`Thread::unpark`] do so; a bare condition variable does
///   not.
/// - **It does not block**, since [`Sender::send`](crate::Sender::send) never does.
/// - **It works for as long as it lives.** The notifier owns it, and every sender, every receiver
///   and the loop co-own the notifier, so no drop can free it during a wake.
///
/// # Errors
///
/// [`WouldBlock`](io::ErrorKind::WouldBlock) counts as success: a pipe returns it when it is full
/// of unread wakes, so the loop cannot sleep. [`Interrupted`](io::ErrorKind::Interrupted) is tried
/// again. For any other error see [`Notifier::notify`](crate::Notifier::notify).
///
/// # Example
///
/// ```
/// use std::io;
/// use std::sync::atomic::{AtomicU64, Ordering};
/// use kodiak_channel::Wake;
///
/// /// Counts how often it was called, on top of what it wraps.
/// struct Counting<W> { wakes: AtomicU64, inner: W }
///
/// impl<W: Wake> Wake for Counting<W> {
///     fn wake(&self) -> io::Result<()> {
///         self.wakes.fetch_add(1, Ordering::Relaxed);
///         self.inner.wake()
///     }
/// }
/// ```
pub trait Wake: Send + Sync {
    /// Ends the loop's sleep, or its next one if it is awake.
    fn wake(&self) -> io::Result<()>;
}

/// A loop that sleeps in [`std::thread::park`].
impl Wake for Thread {
    fn wake(&self) -> io::Result<()> {
        self.unpark();
        Ok(())
    }
}

impl<W: Wake + ?Sized> Wake for Arc<W> {
    fn wake(&self) -> io::Result<()> {
        (**self).wake()
    }
}

/// A loop that sleeps in [`kodiak_sys::Selector::wait`].
impl Wake for kodiak_sys::Waker {
    fn wake(&self) -> io::Result<()> {
        kodiak_sys::Waker::wake(self)
    }
}
