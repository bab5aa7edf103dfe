//! One atomic word that makes a burst of sends cost one wake, and says what to look at.
//!
//! The structure is an *event count*: a waiter announces that it is about to sleep, looks once
//! more, and sleeps; a notifier wakes it only if it has announced that.
//!
//! # The protocol
//!
//! A loop has one notifier. All of its channels share it, and so does everything else that
//! publishes something for the loop (a request to shut down, for example). Each publication belongs
//! to a *topic*; several things may share one. The word says what holds between them and the loop:
//!
//! ```text
//!   0         armed: the loop sleeps or is about to; a notification has to wake it
//!   AWAKE     the loop is awake
//!   FAILED    a wake has failed: the next notification tries again
//!   a topic   a notification has set it since the loop last took the topics
//!
//!   sender                                 loop
//!   ------                                 ----
//!   publish (push, close)           P      topics = word.swap(AWAKE)            T  take_ready
//!   if its topic is set { return }  L      look at what belongs to them         R
//!   before = word |= its topic      X      ... work ...
//!   if before == 0 { wake }                if the word is AWAKE: set it to 0    C  prepare_sleep
//!                                          and block; else T again
//! ```
//!
//! **No wake is lost.** Take one publication P.
//!
//! - *Its sender reaches X.* From X on, its topic is in the word, and only a T removes it: C
//!   succeeds only if no topic is set. So the loop does not block before it has done a T and the R
//!   after it. If it blocks already, the word was 0 until the first X after that, and that X wakes
//!   the loop. T has read what X wrote, directly or through later exchanges, so R sees P.
//! - *Its sender finds its topic set at L, and returns.* Let T be the exchange that removes that
//!   topic. The sender that had set it reached X, so, as above, the loop does T before it blocks. L
//!   read a value from before T. L, T, P and R are sequentially consistent: in their single order P
//!   comes before L, L before T, T before R, so R sees P. That P takes part in that order is a
//!   property of the queue's push (see `Order of a push` in `channel.rs`). Only a push is followed
//!   by an L; all other publications go to X at once.
//!
//! Neither side needs a fence. A turn without notifications looks at nothing; a turn with some
//! looks at their topics, once. The argument does not depend on *what* is published, so any number
//! of channels and flags can share a topic, as long as R looks at all of them.
//!
//! **At most one wake per sleep.** Only an X that finds 0, or one that clears `FAILED`, wakes the
//! loop, and it leaves its topic in the word. Only C and `arm` set the word to 0. So there are at
//! most as many wakes as armings. (If X were a load and a store, two senders that both find 0 would
//! both wake the loop.) A loop that is awake is never woken.
//!
//! Every write to the word is a read-modify-write operation. So a thread that reads one of them
//! synchronizes with all earlier ones (release sequences).
//!
//! **A loop that looks at everything before it sleeps** needs no topics.
//! [`stay_awake`](Notifier::stay_awake) sets all of them, so that no sender notifies a loop that is
//! awake, and [`arm`](Notifier::arm) takes them all.
//!
//! `tests/loom.rs` checks this file and shows that the broken variants fail; `tests/orders.rs`
//! checks it with the real queue, also under Miri.

use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use crate::Wake;
use crate::sync::{AtomicU32, Ordering, taken};
use crate::topic::{Ready, TOPICS, Topic};

// The states without topics: see the head of this file.
const ARMED: u32 = 0;
const AWAKE: u32 = 1;
const FAILED: u32 = 2;
const _: () = assert!(TOPICS & (AWAKE | FAILED) == 0);

/// Wakes one loop, at most once per sleep, and tells it what to look at.
///
/// A handle notifies about one [`Topic`]. A clone is another handle with the same topic, and costs
/// a reference count; [`on`](Notifier::on) makes a handle with another topic. A loop makes **one**
/// notifier, passes it to [`bounded`](crate::bounded) and [`unbounded`](crate::unbounded) for each
/// of its channels, and sleeps in one of two ways:
///
/// - [`sleep_unless`](Notifier::sleep_unless) looks at everything before it sleeps, and cannot be
///   used wrongly; [`arm`](Notifier::arm) and [`stay_awake`](Notifier::stay_awake) are its parts.
/// - [`take_ready`](Notifier::take_ready) and [`prepare_sleep`](Notifier::prepare_sleep) are for a
///   loop that mostly wakes up for something else, or has many things to look at: it looks at the
///   topics with news, and at nothing if there are none.
///
/// [`Sender`](crate::Sender)s notify by themselves. Other code that publishes something for the
/// loop, such as a request to shut down, publishes first and then calls
/// [`notify`](Notifier::notify).
///
/// # Example
///
/// A loop without any event library: the thread parks, a send unparks it.
///
/// ```
/// use std::thread;
/// use kodiak_channel::{Notifier, TryRecvError, bounded};
///
/// let notifier = Notifier::new(thread::current());
/// let (sender, receiver) = bounded::<u32>(16, &notifier);
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
///             Err(_closed) => break 'running,
///         }
///     }
///     notifier.sleep_unless(|| receiver.is_ready(), thread::park);
/// }
/// assert_eq!(total, 55);
/// producer.join().unwrap();
/// ```
#[derive(Clone)]
pub struct Notifier {
    shared: Arc<Shared>,
    topic: Topic,
}

/// Alone on its cache lines (two: processors fetch them in pairs). While the word does not change,
/// senders read it from their own caches.
#[repr(align(128))]
struct Shared {
    /// See the head of this file.
    word: AtomicU32,
    /// The first error of a sender's wake, until the loop takes it.
    error: Mutex<Option<io::Error>>,
    /// In a box of its own, so that the word's offset is a constant.
    wake: Box<dyn Wake>,
}

impl Notifier {
    /// A notifier that wakes a loop with `wake`. This handle's topic is number 0.
    ///
    /// The notifier starts awake: before its first sleep, as before any other, the loop must call
    /// [`arm`](Notifier::arm) or [`prepare_sleep`](Notifier::prepare_sleep).
    pub fn new(wake: impl Wake + 'static) -> Notifier {
        let shared =
            Shared { word: AtomicU32::new(AWAKE), error: Mutex::new(None), wake: Box::new(wake) };
        Notifier { shared: Arc::new(shared), topic: Topic::new(0) }
    }

    /// Another handle to this notifier, for `topic`.
    #[must_use]
    pub fn on(&self, topic: Topic) -> Notifier {
        Notifier { shared: Arc::clone(&self.shared), topic }
    }

    /// This handle's topic.
    pub fn topic(&self) -> Topic {
        self.topic
    }

    /// Tells the loop that something was published on this handle's topic. Wakes the loop if it
    /// sleeps, or is about to, and has not been notified yet. Publish first, then notify.
    ///
    /// Costs one exchange if the loop is awake or has been notified, otherwise one call of
    /// [`Wake::wake`] as well.
    ///
    /// # Errors
    ///
    /// The error of [`Wake::wake`]. What was published stays published, the topic stays set, and
    /// the next notification tries to wake the loop again. Until then the loop may sleep on, also
    /// over what other threads published meanwhile. The wakers of this workspace fail only if the
    /// kernel refuses a write of eight bytes to a descriptor that the notifier keeps open.
    #[inline]
    pub fn notify(&self) -> io::Result<()> {
        let topic = self.topic.bit();
        match self.shared.word.compare_exchange(ARMED, topic, Ordering::SeqCst, Ordering::Relaxed) {
            Ok(_) => self.wake_loop(),
            Err(_) => self.notify_awake(),
        }
    }

    /// The loop was awake, or had been notified. Both may have changed since.
    #[cold]
    fn notify_awake(&self) -> io::Result<()> {
        let word = &self.shared.word;
        let before = word.fetch_or(self.topic.bit(), Ordering::SeqCst);
        // Of several threads that find a failure, one tries again.
        let retry = before & FAILED != 0 && word.fetch_and(!FAILED, Ordering::SeqCst) & FAILED != 0;
        if before == ARMED || retry { self.wake_loop() } else { Ok(()) }
    }

    fn wake_loop(&self) -> io::Result<()> {
        let undo = Fail(&self.shared.word);
        let woken = match self.shared.wake.wake() {
            Ok(()) => Ok(()),
            Err(error) => self.wake_again(error),
        };
        if woken.is_ok() {
            std::mem::forget(undo);
        }
        woken
    }

    #[cold]
    fn wake_again(&self, mut error: io::Error) -> io::Result<()> {
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

    /// The first step towards sleep, for a loop that then looks at everything: from here on a
    /// notification wakes it. Returns the topics that were set.
    ///
    /// Afterwards the loop **must look again** at everything that notifies it (each channel's
    /// [`Receiver::is_ready`](crate::Receiver::is_ready), each flag), and block only if there is
    /// nothing.
    pub fn arm(&self) -> Ready {
        self.take(ARMED)
    }

    /// Suppresses notifications until the next [`arm`](Notifier::arm). For a loop that is awake and
    /// will look at everything before its next sleep.
    pub fn stay_awake(&self) {
        self.shared.word.swap(AWAKE | TOPICS, Ordering::SeqCst);
    }

    /// The loop is awake: returns the topics that were set since it last took them. It **must
    /// look** at everything that belongs to them before it sleeps. Topics that are not returned
    /// have nothing new.
    ///
    /// What a queue's push has published must be read with sequentially consistent loads, as the
    /// methods of [`Receiver`](crate::Receiver) do. What was published before a call of
    /// [`notify`](Notifier::notify) is visible without that.
    #[inline]
    pub fn take_ready(&self) -> Ready {
        self.take(AWAKE)
    }

    #[inline]
    fn take(&self, state: u32) -> Ready {
        let before = self.shared.word.swap(state, Ordering::SeqCst);
        taken();
        Ready::of(before)
    }

    /// Whether a topic was set since the loop, which is awake, last took them.
    #[inline]
    pub fn has_ready(&self) -> bool {
        self.shared.word.load(Ordering::Acquire) != AWAKE
    }

    /// The topics that are set, without taking them.
    pub fn ready(&self) -> Ready {
        Ready::of(self.shared.word.load(Ordering::Acquire))
    }

    /// The last step towards sleep of a loop that has looked at everything on the topics that it
    /// took. `true`: no topic has been set since, the notifier is armed, and the loop may block
    /// without another look. It may call this again while it is armed.
    ///
    /// `false`: a topic was set. The loop has to [`take_ready`](Notifier::take_ready), and look.
    #[inline]
    #[must_use = "after `false` the notifier is not armed, and the loop must not sleep"]
    pub fn prepare_sleep(&self) -> bool {
        match self.shared.word.compare_exchange(AWAKE, ARMED, Ordering::SeqCst, Ordering::SeqCst) {
            Ok(_) => true,
            Err(word) => is_armed(word),
        }
    }

    /// One sleep: arms the notifier, calls `ready` to see whether there is something to do after
    /// all, calls `block` if not, and stays awake afterwards.
    ///
    /// `ready` must look at everything that notifies this loop. Returns what `block` returned, or
    /// `None` if it was not called.
    pub fn sleep_unless<R>(
        &self,
        ready: impl FnOnce() -> bool,
        block: impl FnOnce() -> R,
    ) -> Option<R> {
        self.arm();
        let slept = if ready() { None } else { Some(block()) };
        self.stay_awake();
        slept
    }

    /// The first error of a sender's wake since this was last called.
    ///
    /// [`Sender::send`](crate::Sender::send) does not return it: the message is in the queue, and a
    /// caller that got an error would send it twice. The loop can do something about it.
    pub fn take_wake_error(&self) -> Option<io::Error> {
        self.shared.error.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// [`notify`](Notifier::notify) for callers that cannot return an error: keeps the first one
    /// for the loop.
    pub(crate) fn notify_or_keep_error(&self) {
        self.keep_error(self.notify());
    }

    /// The same after a push, which need not notify if the topic is set already.
    #[inline]
    pub(crate) fn notify_after_push(&self) {
        let word = self.shared.word.load(Ordering::SeqCst);
        if word & (self.topic.bit() | FAILED) != self.topic.bit() {
            self.notify_after_read(word);
        }
    }

    #[cold]
    fn notify_after_read(&self, word: u32) {
        self.keep_error(if word == ARMED { self.notify() } else { self.notify_awake() });
    }

    fn keep_error(&self, notified: io::Result<()>) {
        if let Err(error) = notified {
            self.shared.error.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
        }
    }

    /// What a send does after its push, for a model of a queue that loom can look into.
    #[cfg(loom)]
    #[doc(hidden)]
    pub fn notify_after_a_model_push(&self) {
        crate::sync::pushed();
        self.notify_after_push();
    }
}

/// Marked cold to keep it out of the usual path.
#[cold]
fn is_armed(word: u32) -> bool {
    word == ARMED
}

/// Records that a wake has failed or panicked, so that the next notification tries again.
struct Fail<'a>(&'a AtomicU32);

impl Drop for Fail<'_> {
    fn drop(&mut self) {
        self.0.fetch_or(FAILED, Ordering::SeqCst);
    }
}

impl fmt::Debug for Notifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Notifier").field("topic", &self.topic).finish_non_exhaustive()
    }
}
