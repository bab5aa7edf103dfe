//! An event loop with callbacks: I/O, timers, messages and signals on one thread, without an async
//! runtime.
//!
//! ```
//! use kodiak_reactor::{EventLoop, Handler};
//!
//! struct Hello;
//!
//! impl Handler<(), &'static str> for Hello {
//!     fn notify(&mut self, event_loop: &mut EventLoop<(), &'static str>, message: &'static str) {
//!         println!("{message:?}");
//!         event_loop.shutdown();
//!     }
//! }
//!
//! let mut event_loop = EventLoop::new()?;
//! let sender = event_loop.channel();
//! sender.send("Hello")?;
//! event_loop.run(&mut Hello)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! - [`EventLoop`] waits and calls; [`Handler`] is what you write.
//! - [`Source`] is what it can watch: `kodiak-net`'s sockets, and any descriptor inside [`Io`].
//!   Drop a source and it is out of the loop; no event of it is delivered afterwards.
//! - [`EventLoop::timeout`] and [`EventLoop::interval`] set timers, never early, microseconds fine.
//! - [`EventLoop::channel`] gives senders for other threads (and for before the loop runs);
//!   [`EventLoop::add_channel`] gives channels of further types.
//! - [`EventLoop::watch_signals`] turns Unix signals into a callback, [`EventLoop::watch_child`]
//!   the end of a child process.
//! - [`Remote`] stops or wakes the loop from anywhere; [`EventLoop::start`] runs it on a thread of
//!   its own.
//!
//! # What is promised
//!
//! - **Idle means asleep.** No timer, no work: the loop blocks in the kernel until something
//!   happens.
//! - **Safe to drop.** A dropped source's descriptor leaves the kernel before it closes, and its
//!   pending events are dropped with it.
//! - **Fair.** Events, timers, messages and signals have budgets a turn ([`Builder`]); what is left
//!   over runs in the next turn, before the loop sleeps. So does a source for which the handler
//!   says [`again`](EventLoop::again).
//! - **No allocation.** Once it has seen its largest numbers of sources and timers at one time, a
//!   turn allocates nothing: nor does registering, dropping, setting timeouts, sending and
//!   delivering.
//! - **Errors, not panics.** Registering twice, changing what another loop owns, running inside a
//!   callback: a `Result` says what happened and what to do, in release too.
#![forbid(unsafe_code)]

mod batch;
mod builder;
mod channels;
mod children;
mod error;
mod event_loop;
mod handler;
mod loop_flags;
mod loops;
mod registration;
mod registry;
mod remote;
mod running;
mod stats;
mod suspension;
mod thread;
mod timers;
mod turn;
mod waiting;

pub use builder::Builder;
pub use channels::Receiver;
pub use children::{ChildHandle, WatchChildError};
pub use error::{BuildError, RegisterError, RunError, TimerError};
pub use event_loop::EventLoop;
pub use handler::{Handler, ReadHint};
pub use kodiak_channel::{SendError, Sender, TryRecvError};
pub use kodiak_sys::{Interest, Readiness, SigInfo, Signal, Trigger};
pub use registration::{Io, Registration, Source};
pub use remote::Remote;
pub use stats::Stats;
pub use thread::{JoinError, LoopThread, StartError};
pub use timers::Timeout;
