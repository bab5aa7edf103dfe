//! The word that makes a burst of sends cost one wake, and says what to look at.
//!
//! # The protocol
//!
//! There is one bell per loop, shared by all of its channels and by everything else that publishes something the loop has to
//! see (a request to shut down, say). Whoever publishes rings on a *line* of it; several may share a line. One word says how
//! things stand between them and the loop:
//!
//! ```text
//!   0         armed: the loop sleeps, or is about to: whoever publishes has to wake it
//!   AWAKE     the loop is awake
//!   FAILED    somebody could not wake the loop: the next one tries again
//!   a line    somebody has rung on it since the loop last took the lines: what else is published there needs no ring
//!
//!   sender                                      loop
//!   ------                                      ----
//!   publish (push, close)           P           lines = word.swap(AWAKE)              T   rouse
//!   if its line is rung { return }  L           look at what is on these lines        R
//!   before = word |= its line       X           ... work ...
//!   if before == 0 { wake }                     AWAKE -> 0, if the word is no more    C   rest
//!                                               than that; then block; else again from T
//! ```
//!
//! **No wake-up is lost.** Take one publication P.
//!
//! - Its sender comes to X. From X on its line is in the word, and only a T takes it out: C succeeds only if no line is rung. So
//!   the loop does not block before it has been to a T and to the R after it. If it blocks already, the word was 0 until somebody's X, and that
//!   one wakes it. And T, or an exchange that it follows on, has read what X wrote, so R sees P.
//! - Its sender finds its line rung at L, and returns. Let T be the exchange that takes the line out: what was said of X holds of
//!   whoever rang there, so the loop comes to T before it blocks. L has read what stood before T in the word's history. L, T, P
//!   and R are sequentially consistent, so P comes before L, L before T, T before R in the one order of all of these, and R
//!   sees P. That P is so is the push's doing: see `Order of a push` in `channel.rs`. Only a push is ever followed by an L; everybody else goes on to X.
//!
//! So there is no fence, on either side; a turn in which nobody rings needs no look at anything, and one that is rung for looks at
//! what was rung, once. The argument never asks *what* was published where, so any number of channels and flags can share a line,
//! provided that R looks at all of them.
//!
//! **At most one wake per sleep.** Only an X that finds 0 wakes, or one that takes `FAILED` out, and it leaves its line there. Only C and
//! `arm` bring the word to 0. So there are never more wakes than armings. (With a load and a store in the place of X, two senders
//! who both find 0 would both wake.) A loop that is awake is not woken at all.
//!
//! All writes to the word are exchanges of one kind or another, so that whoever reads one has also read, in the memory model's sense, those before it.
//!
//! **A loop that always looks at everything** before it sleeps need not care for lines: [`hush`](Bell::hush) has every line rung, so that a loop that is awake is
//! rung for by nobody, and [`arm`](Bell::arm) takes them all.
//!
//! All this, and that the broken variants break, is checked by `tests/loom.rs` on this very file, and, with the real
//! queue, by `tests/orders.rs`, also under Miri.

use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use crate::Wake;
use crate::line::{LINES, Line, Rung};
use crate::sync::{AtomicU32, Ordering, taken};

// The word's other values: see the head of this file.
const ARMED: u32 = 0;
const AWAKE: u32 = 1;
const FAILED: u32 = 2;
const _: () = assert!(LINES & (AWAKE | FAILED) == 0);

/// The word and the waker of one loop, shared by everybody who sends to it, and a [`Line`] to ring on.
///
/// Cloning is cheap (a reference count) and gives another handle to the same bell, on the same line; [`on`](Bell::on) gives one on another line. The
/// loop makes **one**, hands it to [`bounded`](crate::bounded) and [`unbounded`](crate::unbounded) for each of its channels, and sleeps
/// in one of two ways:
///
/// - [`sleep_unless`](Bell::sleep_unless), which looks at everything before it sleeps and cannot be held wrong, or its parts
///   [`arm`](Bell::arm) and [`hush`](Bell::hush);
/// - [`rouse`](Bell::rouse) and [`rest`](Bell::rest), for a loop whose sleeps are mostly ended by something else than messages, or which has
///   many things to look at: it looks at what was rung, and at nothing if nobody has rung.
///
/// Senders never touch the bell themselves. Others who publish something that the loop must see, such as a request to shut
/// down, publish first, then [`ring`](Bell::ring).
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
    line: Line,
}

/// Alone on its cache lines (two: processors fetch them in pairs), so that the word is read from the sender's own cache for as
/// long as nobody writes it, whatever is allocated beside it.
#[repr(align(128))]
struct Shared {
    /// See the head of this file.
    word: AtomicU32,
    /// The first error of a wake on behalf of a sender, until the loop takes it.
    error: Mutex<Option<io::Error>>,
    /// In a box of its own, so that the word lies where the compiler knows.
    wake: Box<dyn Wake>,
}

impl Bell {
    /// A bell that ends the sleep of whoever `wake` wakes. This handle rings on [`Line`] 0.
    ///
    /// It starts awake: the loop must [`arm`](Bell::arm) or [`rest`](Bell::rest) before its first sleep like before any other.
    pub fn new(wake: impl Wake + 'static) -> Bell {
        let shared = Shared { word: AtomicU32::new(AWAKE), error: Mutex::new(None), wake: Box::new(wake) };
        Bell { shared: Arc::new(shared), line: Line::new(0) }
    }

    /// Another handle to this bell, which rings on `line`.
    #[must_use]
    pub fn on(&self, line: Line) -> Bell {
        Bell { shared: Arc::clone(&self.shared), line }
    }

    /// The line that this handle rings on.
    pub fn line(&self) -> Line {
        self.line
    }

    /// Tells the loop that something was published on this handle's line: wakes the loop if it sleeps, or is about to, and nobody has rung yet.
    /// Publish first, then ring.
    ///
    /// Costs one exchange when the loop is awake or already rung for; else also the one call of [`Wake::wake`].
    ///
    /// # Errors
    ///
    /// What [`Wake::wake`] failed with. What was published stays published, the line stays rung, and the next
    /// ring tries to wake once more; until then the loop may sleep on, also over what others published meanwhile and left
    /// to this ring. For the wakers of this workspace that takes a kernel that refuses eight bytes to a descriptor which
    /// the bell itself keeps open.
    #[inline]
    pub fn ring(&self) -> io::Result<()> {
        let line = self.line.bit();
        match self.shared.word.compare_exchange(ARMED, line, Ordering::SeqCst, Ordering::Relaxed) {
            Ok(_) => self.strike(),
            Err(_) => self.ring_awake(),
        }
    }

    /// The loop was awake, or somebody has rung. Both may have changed.
    #[cold]
    fn ring_awake(&self) -> io::Result<()> {
        let word = &self.shared.word;
        let before = word.fetch_or(self.line.bit(), Ordering::SeqCst);
        // Of those who find a failure, one tries again.
        let retry = before & FAILED != 0 && word.fetch_and(!FAILED, Ordering::SeqCst) & FAILED != 0;
        if before == ARMED || retry { self.strike() } else { Ok(()) }
    }

    fn strike(&self) -> io::Result<()> {
        let undo = Fail(&self.shared.word);
        let woken = match self.shared.wake.wake() {
            Ok(()) => Ok(()),
            Err(error) => self.strike_again(error),
        };
        if woken.is_ok() {
            std::mem::forget(undo);
        }
        woken
    }

    #[cold]
    fn strike_again(&self, mut error: io::Error) -> io::Result<()> {
        loop {
            match error.kind() {
                io::ErrorKind::WouldBlock => return Ok(()),
                io::ErrorKind::Interrupted => {}
                _ => return Err(error),
            }
            match self.shared.wake.wake() {
                Ok(()) => return Ok(()),
                Err(again) => error = again,
            }
        }
    }

    /// The loop's first step towards sleep, for a loop that then looks at everything: from here on a publication rings. Gives the lines that were rung.
    ///
    /// After it the loop **must look again** at everything that rings this bell — each channel's
    /// [`Receiver::is_ready`](crate::Receiver::is_ready), each flag — and block only if there is nothing.
    pub fn arm(&self) -> Rung {
        self.take(ARMED)
    }

    /// The loop is awake again, and will [`arm`](Bell::arm), and look at everything, before it next sleeps: nobody needs to ring until then.
    pub fn hush(&self) {
        self.shared.word.swap(AWAKE | LINES, Ordering::SeqCst);
    }

    /// The loop is awake again, and takes the lines that were rung since it last took them: it **must look** at everything that rings on
    /// them, now or later, before it sleeps. What rings on no line in it has nothing new.
    ///
    /// What it looks at has to be read in sequentially consistent order if it was published by a queue's push; the
    /// [`Receiver`](crate::Receiver)'s methods are. What was published before a [`ring`](Bell::ring) is visible without that.
    #[inline]
    pub fn rouse(&self) -> Rung {
        self.take(AWAKE)
    }

    #[inline]
    fn take(&self, state: u32) -> Rung {
        let before = self.shared.word.swap(state, Ordering::SeqCst);
        taken();
        Rung::of(before)
    }

    /// Of a loop that is awake: whether somebody has rung since it last took the lines.
    #[inline]
    pub fn is_rung(&self) -> bool {
        self.shared.word.load(Ordering::Acquire) != AWAKE
    }

    /// The lines that are rung, without taking them.
    pub fn rung(&self) -> Rung {
        Rung::of(self.shared.word.load(Ordering::Acquire))
    }

    /// The last step towards sleep of a loop that has looked at everything on the lines that it took: if nobody has rung since, the
    /// bell is armed, and the loop may block without another look. If it was armed already, it still is.
    ///
    /// `false`: somebody has rung. The loop has to [`rouse`](Bell::rouse), and look.
    #[inline]
    #[must_use = "after `false` the bell is not armed, and the loop must not sleep"]
    pub fn rest(&self) -> bool {
        match self.shared.word.compare_exchange(AWAKE, ARMED, Ordering::SeqCst, Ordering::SeqCst) {
            Ok(_) => true,
            Err(word) => is_armed(word),
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
        self.note(self.ring());
    }

    /// The same after a push: spared if the line is rung already.
    #[inline]
    pub(crate) fn ring_after_push(&self) {
        let word = self.shared.word.load(Ordering::SeqCst);
        if word & (self.line.bit() | FAILED) != self.line.bit() {
            self.ring_or_note_having_read(word);
        }
    }

    #[cold]
    fn ring_or_note_having_read(&self, word: u32) {
        self.note(if word == ARMED { self.ring() } else { self.ring_awake() });
    }

    fn note(&self, rung: io::Result<()>) {
        if let Err(error) = rung {
            self.shared.error.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
        }
    }

    /// What a send does after its push, for a model of a queue that loom can see into.
    #[cfg(loom)]
    #[doc(hidden)]
    pub fn ring_after_a_model_push(&self) {
        crate::sync::pushed();
        self.ring_after_push();
    }
}

/// For the way that is seldom taken: keeps the other one straight.
#[cold]
fn is_armed(word: u32) -> bool {
    word == ARMED
}

/// Notes that a wake has failed or panicked, so that the next ring tries again.
struct Fail<'a>(&'a AtomicU32);

impl Drop for Fail<'_> {
    fn drop(&mut self) {
        self.0.fetch_or(FAILED, Ordering::SeqCst);
    }
}

impl fmt::Debug for Bell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bell").field("line", &self.line).finish_non_exhaustive()
    }
}
