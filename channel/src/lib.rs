//! A channel from many threads into one event loop, which wakes the loop **once per sleep**.
//!
//! The queue is [crossbeam-channel]'s. This crate adds the wake. A loop sleeps in the kernel, not
//! in a channel, so a sender has to write to an event descriptor or a pipe, or unpark a thread.
//! That system call costs more than the message. With a [`Notifier`], a burst of sends to a loop
//! that is awake, or has already been woken, costs one atomic load a message.
//!
//! ```
//! use std::thread;
//! use kodiak_channel::{Notifier, TryRecvError, bounded};
//!
//! let notifier = Notifier::new(thread::current()); // wakes this thread, which is the loop
//! let (sender, receiver) = bounded(16, &notifier);
//! let producer = thread::spawn(move || sender.send("hello").unwrap());
//!
//! loop {
//!     match receiver.try_recv() {
//!         Ok(message) => assert_eq!(message, "hello"),
//!         Err(TryRecvError::Empty) => {
//!             notifier.sleep_unless(|| receiver.is_ready(), thread::park);
//!         }
//!         Err(_closed) => break,
//!     }
//! }
//! producer.join().unwrap();
//! ```
//!
//! - [`bounded`] (allocates nothing while it runs) and [`unbounded`] make a channel on a notifier.
//! - [`Sender`] is `Clone + Send + Sync`. [`send`](Sender::send) never blocks; it returns the
//!   message if it could not be queued.
//! - [`Receiver`] belongs to the loop, which calls [`try_recv`](Receiver::try_recv) as often as its
//!   budget allows.
//! - One [`Notifier`] serves all channels of a loop, and everything else that has to wake it. Its
//!   [`Topic`]s tell the loop what to look at.
//! - [`Wake`] is all that a loop must provide. Kodiak's reactor is one user; `thread::park` is
//!   another (see [`Notifier`]).
//!
//! # How a loop sleeps
//!
//! A loop that only receives calls [`arm`](Notifier::arm) before it blocks, then looks again at
//! every channel ([`Receiver::is_ready`]) and at everything else that notifies it, and blocks only
//! if there is nothing. Afterwards it calls [`stay_awake`](Notifier::stay_awake).
//! [`Notifier::sleep_unless`] does all of that.
//!
//! A loop that has more to do calls [`take_ready`](Notifier::take_ready) after its wait and looks
//! at the topics that it returns. Before the next wait it calls
//! [`prepare_sleep`](Notifier::prepare_sleep), and blocks only if that returns `true`.
//!
//! A loop that has left messages in a channel, because its budget was spent, does not block.
//!
//! `src/notifier.rs` proves that these rules lose no wake. `tests/loom.rs` checks every
//! interleaving with at most two preemptions.
//!
//! [crossbeam-channel]: https://docs.rs/crossbeam-channel
#![forbid(unsafe_code)]

mod channel;
mod error;
mod notifier;
mod receiver;
mod sender;
mod sync;
mod topic;
mod wake;

pub use channel::{bounded, unbounded};
pub use error::{SendError, TryRecvError};
pub use notifier::Notifier;
pub use receiver::{Probe, Receiver};
pub use sender::Sender;
pub use topic::{Ready, Topic};
pub use wake::Wake;
