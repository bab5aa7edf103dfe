//! The flag that makes a burst of sends cost one wake.
//!
//! # The protocol
//!
//! One flag, `pending`, says "nobody needs to wake the loop": either the loop is awake, or somebody has already taken it
//! upon himself to wake it. There is one bell per loop, shared by all of its channels and by everything else that
//! publishes something the loop has to see (a request to shut down, say).
//!
//! ```text
//!   sender                                loop
//!   ------                                ----
//!   publish (push, close, set a flag)     work until nothing is left
//!   fence(SeqCst)               F1        pending = false              arm
//!   if pending { return }       L         fence(SeqCst)            F2  arm
//!   if !pending.swap(true)      X         recheck everything       R   nothing there? only then: block
//!       { wake() }                        pending.swap(true)           hush, unless it is true already
//! ```
//!
//! **No wake-up is lost.** Take one publication and one sleep. Fences that are sequentially consistent stand in one
//! order, so one of two holds:
//!
//! - F1 before F2. Then what was published before F1 is visible after F2: R finds it, and the loop does not block.
//! - F2 before F1. Then L reads what this sleep's arming wrote, or something later in the flag's history, and X
//!   likewise. If X finds `false`, this sender wakes. If L or X finds `true`, then the first `true` after this sleep's
//!   `false` was written by another sender's X that had found `false`, who wakes, and after the arming, so that it ends
//!   this sleep; or by the `hush` after this sleep, which then is over.
//!
//! The argument never asks *what* was published where, so any number of channels and flags can share the bell, provided
//! that R looks at all of them. And it needs both fences: without F1 (a relaxed first read and nothing before it) the
//! read may pass the push, and both sides see the past.
//!
//! **A send has no fence of its own.** A second fully ordered instruction after the push would cost as much as half the push.
//! The push is one already, and F1 is inside it: see `Order of a push` in `channel.rs`. L is sequentially consistent for
//! its sake (a plain load on x86, `ldar` on ARM).
//!
//! **At most one wake per sleep.** Only an X that reads `false` wakes, it leaves `true` behind, and only `arm` writes
//! `false`. So there are never more wakes than armings. (With a plain store in the place of X, two senders who both read
//! `false` would both wake.)
//!
//! `arm` and `hush` are plain stores. That is enough, because an exchange reads what stands just before its own write in the
//! flag's history: an X either comes before a store, or has seen it.
//!
//! Both claims, and that the broken variants break, are checked by `tests/loom.rs` on this very file, and, with the real
//! queue, by running `tests/orders.rs` under Miri.

use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use crate::Wake;
use crate::sync::{AtomicBool, Ordering, fence, set};

/// The flag and the waker of one loop, shared by everybody who sends to it.
///
/// Cloning is cheap (a reference count) and gives another handle to the same bell. The loop makes **one**, hands it to
/// [`bounded`](crate::bounded) and [`unbounded`](crate::unbounded) for each of its channels, and brackets its sleep with
/// [`arm`](Bell::arm) and [`hush`](Bell::hush), or uses [`sleep_unless`](Bell::sleep_unless), which cannot be held wrong.
///
/// Senders never touch the bell themselves. Others who publish something that the loop must see, such as a request to shut
/// down, publish first, then [`ring`](Bell::ring); the loop has to look at what they publish between `arm` and its sleep.
///
/// # Example
///
/// A loop without any event library: the thread parks, a send unparks it.
///
/// ```
/// use std::thread;
/// use kodiak_channel::{Bell, TryRecvError, bounded};
///
/// let bell = Bell::new(thread::current());
/// let (sender, receiver) = bounded::<u32>(16, &bell);
/// let producer = thread::spawn(move || {
///     for n in 1..=10 {
///         sender.send(n).expect("room for sixteen");
///     }
/// });
///
/// let mut total = 0;
/// 'running: loop {
///     loop {
///         match receiver.try_recv() {
///             Ok(n) => total += n,
///             Err(TryRecvError::Empty) => break,
///             Err(TryRecvError::Closed) => break 'running,
///         }
///     }
///     bell.sleep_unless(|| receiver.is_ready(), thread::park);
/// }
/// assert_eq!(total, 55);
/// producer.join().unwrap();
/// ```
#[derive(Clone)]
pub struct Bell {
    shared: Arc<Shared>,
}

/// Alone on its cache lines (two: processors fetch them in pairs), so that the flag is read from the sender's own cache for as
/// long as the loop is busy, whatever is allocated beside it.
#[repr(align(128))]
struct Shared {
    /// True: nobody needs to wake the loop. See the head of this file.
    pending: AtomicBool,
    /// The first error of a wake on behalf of a sender, until the loop takes it.
    error: Mutex<Option<io::Error>>,
    /// Boxed so that the flag lies at a known distance: behind an `Arc<dyn ..>` every send would have to look it up.
    wake: Box<dyn Wake>,
}

impl Bell {
    /// A bell that ends the sleep of whoever `wake` wakes.
    ///
    /// It starts hushed: the loop is awake, and must [`arm`](Bell::arm) before its first sleep like before any other.
    pub fn new(wake: impl Wake + 'static) -> Bell {
        let (pending, error) = (AtomicBool::new(true), Mutex::new(None));
        Bell { shared: Arc::new(Shared { pending, error, wake: Box::new(wake) }) }
    }

    /// Wakes the loop if it sleeps, or is about to, and nobody has rung yet. Publish first, then ring.
    ///
    /// Costs a fence and a load when the loop is awake or already rung for; else the one call of [`Wake::wake`].
    ///
    /// # Errors
    ///
    /// What [`Wake::wake`] failed with. What was published stays published, and the flag is down again, so that the next
    /// ring tries to wake once more; until then the loop may sleep on, also over what others published meanwhile and left
    /// to this ring. For the wakers of this workspace that takes a kernel that refuses eight bytes to a descriptor which
    /// the bell itself keeps open.
    pub fn ring(&self) -> io::Result<()> {
        fence(Ordering::SeqCst);
        if self.is_pending() { Ok(()) } else { self.strike() }
    }

    /// Whether nobody needs to wake the loop. Asked after a fence, or after a push, which orders as much as one.
    #[inline]
    pub(crate) fn is_pending(&self) -> bool {
        self.shared.pending.load(Ordering::SeqCst)
    }

    /// Wakes the loop, unless somebody else is just about to.
    fn strike(&self) -> io::Result<()> {
        if self.shared.pending.swap(true, Ordering::AcqRel) {
            return Ok(());
        }
        let undo = Lower(&self.shared.pending);
        loop {
            match self.shared.wake.wake() {
                Ok(()) => break,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        std::mem::forget(undo);
        Ok(())
    }

    /// The loop's first step towards sleep: from here on a publication rings.
    ///
    /// After it the loop **must look again** at everything that rings this bell — each channel's
    /// [`Receiver::is_ready`](crate::Receiver::is_ready), each flag — and block only if there is nothing. What was published
    /// before `arm` may not have rung.
    pub fn arm(&self) {
        set(&self.shared.pending, false);
        fence(Ordering::SeqCst);
    }

    /// The loop is awake again: nobody needs to wake it until it next [`arm`](Bell::arm)s.
    pub fn hush(&self) {
        // If a sender's ring has ended the sleep, the flag is up, and its cache line stays with the senders.
        if !self.shared.pending.load(Ordering::Relaxed) {
            set(&self.shared.pending, true);
        }
    }

    /// One sleep, done right: arms, asks `ready` whether there is something to do after all, blocks if not, and hushes.
    ///
    /// `ready` must look at everything that rings this bell. Gives what `block` returned, or `None` if it was not called.
    pub fn sleep_unless<R>(&self, ready: impl FnOnce() -> bool, block: impl FnOnce() -> R) -> Option<R> {
        self.arm();
        let slept = if ready() { None } else { Some(block()) };
        self.hush();
        slept
    }

    /// The first error with which a sender's wake failed since this was last asked.
    ///
    /// [`Sender::send`](crate::Sender::send) does not report it: the message is in the queue, and an error would make the
    /// caller send it twice. The error waits here for the one who can do something about it, the loop.
    pub fn take_wake_error(&self) -> Option<io::Error> {
        self.shared.error.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// [`ring`](Bell::ring) for those who have nobody to tell: keeps the first error for the loop.
    pub(crate) fn ring_or_note(&self) {
        fence(Ordering::SeqCst);
        self.ring_or_note_ordered();
    }

    /// The same after a fence, or after a push, which orders as much as one.
    #[inline]
    pub(crate) fn ring_or_note_ordered(&self) {
        if !self.is_pending() {
            self.strike_or_note();
        }
    }

    #[cold]
    fn strike_or_note(&self) {
        if let Err(error) = self.strike() {
            self.shared.error.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
        }
    }
}

/// Puts the flag down when a wake fails or panics, so that the next ring tries again.
///
/// `false` is the safe value: at worst somebody wakes a loop that is awake.
struct Lower<'a>(&'a AtomicBool);

impl Drop for Lower<'_> {
    fn drop(&mut self) {
        self.0.swap(false, Ordering::AcqRel);
    }
}

impl fmt::Debug for Bell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bell").finish_non_exhaustive()
    }
}
