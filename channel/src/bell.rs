//! The flag that makes a burst of sends cost one wake.
//!
//! # The protocol
//!
//! One flag says how things stand between those who send and the loop. There is one bell per loop, shared by all of its
//! channels and by everything else that publishes something the loop has to see (a request to shut down, say).
//!
//! ```text
//!   Armed    the loop sleeps, or is about to: whoever publishes has to wake it
//!   Awake    the loop is awake, and nobody has rung since it last looked at everything
//!   Rung     somebody has rung: whatever else is published needs no wake, the loop will look
//!   Failed   somebody has rung and could not wake the loop: the next one tries again
//!
//!   sender                                loop
//!   ------                                ----
//!   publish (push, close, set a flag)     work until nothing is left
//!   fence(SeqCst)               F1        flag = Armed                 arm
//!   if flag == Rung { return }  L         fence(SeqCst)            F2  arm
//!   match flag.swap(Rung) {     X         recheck everything       R   nothing there? only then: block
//!       Armed | Failed => wake(),         flag: Armed -> Awake         rouse: had somebody rung?
//!       Awake | Rung => {} }              ... a turn ...
//!                                         flag: Awake -> Armed         rest: if nobody has rung, block
//! ```
//!
//! **No wake-up is lost.** Take one publication and one sleep that began with `arm`. Fences that are sequentially consistent
//! stand in one order, so one of two holds:
//!
//! - F1 before F2. Then what was published before F1 is visible after F2: R finds it, and the loop does not block.
//! - F2 before F1. Then L reads what this sleep's arming wrote, or something later in the flag's history, and X
//!   likewise. If X finds `Armed` or `Failed`, this sender wakes. If L or X finds `Rung`, then the first `Rung` after this
//!   sleep's `Armed` was written by another sender's X. If that one found `Armed` it wakes, and ends this sleep; if
//!   it found `Awake` the sleep is over.
//!
//! And a sleep that began with `rest`? Between the last `arm` and it, the flag was never `Rung` or `Failed`: only `arm` and
//! `hush` leave those, since `rouse` and `rest` change nothing else than `Armed` to `Awake` and back. So each publication
//! after that `arm`'s F2 either comes later in the flag's history than this `rest` and finds `Armed`, or the argument above makes it
//! visible to R, which has found nothing. That is why a turn in which nobody rings needs neither fence nor recheck: two
//! exchanges, on a cache line that nobody else wants.
//!
//! The argument never asks *what* was published where, so any number of channels and flags can share the bell, provided
//! that R looks at all of them. And it needs both fences: without F1 (a relaxed first read and nothing before it) the
//! read may pass the push, and both sides see the past.
//!
//! **A send has no fence of its own.** A second fully ordered instruction after the push would cost as much as half the push.
//! The push is one already, and F1 is inside it: see `Order of a push` in `channel.rs`. For its sake L and X are themselves
//! sequentially consistent (L is a plain load on x86, `ldar` on ARM).
//!
//! **At most one wake per sleep.** Only an X that reads `Armed` (or `Failed`) wakes, it leaves `Rung` behind, and only `arm`
//! and `rest` write `Armed`. So there are never more wakes than armings. (With a plain store in the place of X, two senders
//! who both read `Armed` would both wake.) A loop that is awake is not woken at all.
//!
//! `arm` and `hush` are plain stores. That is enough, because an exchange reads what stands just before its own write in the
//! flag's history: an X either comes before a store, or has seen it.
//!
//! Both claims, and that the broken variants break, are checked by `tests/loom.rs` on this very file, and, with the real
//! queue, by `tests/orders.rs`, also under Miri.

use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use crate::Wake;
use crate::sync::{AtomicU8, Ordering, fence, set};

// The flag's values: see the head of this file. A loop has been rung for from `RUNG` on.
const ARMED: u8 = 0;
const AWAKE: u8 = 1;
const RUNG: u8 = 2;
const FAILED: u8 = 3;

/// The flag and the waker of one loop, shared by everybody who sends to it.
///
/// Cloning is cheap (a reference count) and gives another handle to the same bell. The loop makes **one**, hands it to
/// [`bounded`](crate::bounded) and [`unbounded`](crate::unbounded) for each of its channels, and brackets its sleep with
/// [`arm`](Bell::arm) and [`hush`](Bell::hush), or uses [`sleep_unless`](Bell::sleep_unless), which cannot be held wrong. A loop
/// whose sleeps are mostly ended by something else than messages spares most of its looks at the channels with
/// [`rouse`](Bell::rouse) and [`rest`](Bell::rest).
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
    /// See the head of this file.
    flag: AtomicU8,
    /// The first error of a wake on behalf of a sender, until the loop takes it.
    error: Mutex<Option<io::Error>>,
    /// In a box of its own, so that the flag lies where the compiler knows.
    wake: Box<dyn Wake>,
}

impl Bell {
    /// A bell that ends the sleep of whoever `wake` wakes.
    ///
    /// It starts hushed: the loop is awake, and must [`arm`](Bell::arm) before its first sleep like before any other.
    pub fn new(wake: impl Wake + 'static) -> Bell {
        Bell { shared: Arc::new(Shared { flag: AtomicU8::new(RUNG), error: Mutex::new(None), wake: Box::new(wake) }) }
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
        if self.needs_no_ring() { Ok(()) } else { self.strike() }
    }

    /// Whether somebody has rung already. Asked after a fence, or after a push, which orders as much as one.
    #[inline]
    fn needs_no_ring(&self) -> bool {
        self.shared.flag.load(Ordering::SeqCst) == RUNG
    }

    /// Wakes the loop if it sleeps, unless somebody else is just about to.
    fn strike(&self) -> io::Result<()> {
        let flag = &self.shared.flag;
        if matches!(flag.swap(RUNG, Ordering::SeqCst), AWAKE | RUNG) {
            return Ok(());
        }
        let undo = Lower(flag);
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
        set(&self.shared.flag, ARMED);
        fence(Ordering::SeqCst);
    }

    /// The loop is awake again, and will [`arm`](Bell::arm) before it next sleeps: nobody needs to wake it until then.
    pub fn hush(&self) {
        // If a sender's ring has ended the sleep, the flag is up, and its cache line stays with the senders.
        if self.shared.flag.load(Ordering::Relaxed) != RUNG {
            set(&self.shared.flag, RUNG);
        }
    }

    /// The loop is awake again, as after [`hush`](Bell::hush), and wants to know whether it has to look at its channels.
    ///
    /// `false`: nobody has rung since it last armed or rested. If it had then looked at everything, as it must, there is nothing new.
    /// `true`: somebody has, and until the loop next [`arm`](Bell::arm)s this says so again.
    #[inline]
    pub fn rouse(&self) -> bool {
        match self.shared.flag.compare_exchange(ARMED, AWAKE, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => false,
            Err(flag) => is_really_rung(flag),
        }
    }

    /// Whether somebody has rung since the loop last armed or rested.
    #[inline]
    pub fn is_rung(&self) -> bool {
        is_rung(self.shared.flag.load(Ordering::Acquire))
    }

    /// The other way towards sleep, for a loop that found nothing when it last looked at everything after it
    /// [`arm`](Bell::arm)ed: if nobody has rung since, the bell is armed again, and the loop may block without another look.
    ///
    /// `false`: somebody has. The loop has to `arm`, and look.
    #[inline]
    #[must_use = "after `false` the bell is not armed, and the loop must not sleep"]
    pub fn rest(&self) -> bool {
        match self.shared.flag.compare_exchange(AWAKE, ARMED, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => true,
            Err(flag) => !is_really_rung(flag),
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
        if !self.needs_no_ring() {
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

#[inline]
fn is_rung(flag: u8) -> bool {
    flag >= RUNG
}

/// For the way that is seldom taken: keeps the other one straight.
#[cold]
fn is_really_rung(flag: u8) -> bool {
    is_rung(flag)
}

/// Notes that a wake has failed or panicked, so that the next ring tries again, and the loop looks in its next turn.
struct Lower<'a>(&'a AtomicU8);

impl Drop for Lower<'_> {
    fn drop(&mut self) {
        self.0.swap(FAILED, Ordering::AcqRel);
    }
}

impl fmt::Debug for Bell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bell").finish_non_exhaustive()
    }
}
