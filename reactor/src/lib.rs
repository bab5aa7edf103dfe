//! An event loop with callbacks, for programs without an async runtime.
//!
//! One thread handles I/O, timers, messages, signals and child processes.
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
//! - [`EventLoop`] waits for events and calls your [`Handler`].
//! - A [`Source`] is something the loop can watch: `kodiak-net`'s sockets, and any descriptor
//!   inside [`Io`]. Dropping a source removes it from the loop; no event of it is delivered
//!   afterwards.
//! - [`EventLoop::timeout`] and [`EventLoop::interval`] set timers with microsecond resolution,
//!   which never fire early.
//! - [`EventLoop::channel`] returns a sender of messages, for any thread;
//!   [`EventLoop::add_channel`] adds channels for other types of messages.
//! - [`EventLoop::watch_signals`] delivers Unix signals, and [`EventLoop::watch_child`] the end of
//!   a child process.
//! - [`Remote`] stops or wakes the loop from any thread; [`EventLoop::start`] runs the loop on a
//!   thread of its own.
//!
//! # Guarantees
//!
//! - **Idle means asleep.** Without work and timers that are due, the loop blocks in the kernel.
//! - **Safe to drop.** A dropped source is removed from the kernel before its descriptor closes,
//!   and its pending events are discarded.
//! - **Fair.** Events, timers, messages and signals have a budget per turn ([`Builder`]). The rest
//!   runs in the next turn, before the loop sleeps, as does a source for which the handler calls
//!   [`again`](EventLoop::again).
//! - **No allocation.** Registering, dropping, setting timeouts, sending and delivering allocate
//!   only when the number of sources or timers reaches a new maximum.
//! - **Errors, not panics.** Registering a source twice, changing a source of another loop, or
//!   running the loop inside a callback returns an error that says what to do, in every build
//!   profile.
#![forbid(unsafe_code)]

mod batch;
mod builder;
mod channels;
mod children;
mod error;
mod event_loop;
mod handler;
mod hang_up_filter;
mod loop_flags;
mod loop_table;
mod registration;
mod registry;
mod remote;
mod running;
mod stats;
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
