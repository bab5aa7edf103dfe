//! A channel from many threads into one event loop, which wakes the loop **once per sleep**.
//!
//! The queue is [crossbeam-channel]'s, the best there is. What this crate adds is the wake: a loop sleeps in the kernel,
//! not in a channel, so a sender has to write to an event descriptor, or a pipe, or unpark a thread — and that system
//! call costs more than the message. A [`Bell`] lets a burst of sends to a busy, or already woken, loop cost nothing of
//! the kind: a load each.
//!
//! - [`bounded`] (allocation-free, the default choice) and [`unbounded`] make a channel on a bell;
//! - [`Sender`] is `Clone + Send + Sync`; [`send`](Sender::send) never blocks and hands back what it could not queue;
//! - [`Receiver`] belongs to the loop, which drains it with [`try_recv`](Receiver::try_recv) to a budget of its choice;
//! - one [`Bell`] serves all channels of a loop, and everything else that has to wake it; a [`Line`] of it tells what rang;
//! - [`Wake`] is all that a loop must offer. Kodiak's reactor is one user; `thread::park` is another (see [`Bell`]).
//!
//! # The loop's duties
//!
//! A simple loop, before it blocks: [`arm`](Bell::arm), then look again at every channel ([`Receiver::is_ready`]) and at whatever else
//! rings the bell, and block only if there is nothing. After: [`hush`](Bell::hush). [`Bell::sleep_unless`] is those rules as a function.
//!
//! A loop that has more to do than to receive, after its wait: [`rouse`](Bell::rouse), and look at what was rung. Before the next one:
//! [`rest`](Bell::rest), and block only if that says `true`.
//!
//! While messages are left over because a budget was spent, either does not block at all. Why these rules
//! suffice is written down, and proved, at the head of `src/bell.rs`; `tests/loom.rs` lets loom try
//! every interleaving in which threads are interrupted twice at most.
//!
//! [crossbeam-channel]: https://docs.rs/crossbeam-channel
#![forbid(unsafe_code)]

mod bell;
mod channel;
mod error;
mod line;
mod receiver;
mod sender;
mod sync;
mod wake;

pub use bell::Bell;
pub use channel::{bounded, unbounded};
pub use error::{SendError, TryRecvError};
pub use line::{Line, Rung};
pub use receiver::{Probe, Receiver};
pub use sender::Sender;
pub use wake::Wake;
