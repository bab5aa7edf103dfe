//! Raft on an event loop.
//!
//! Rooms, each built on the one before: [`types`] (the words all rooms share), [`core`] (the
//! algorithm, sans-IO), [`storage`] (the log on a disk), [`replica`] (core, order of application
//! and forwarding: all that decides, still without I/O), `wire` (frames between nodes), [`node`] (a
//! replica on the reactor) and, behind the feature `sim`, `sim` (replicas in a deterministic
//! simulator).
//!
//! [`node::start`] runs a node, [`node::Handle`] asks it: from threads, or as futures for any
//! executor ([`node::Handle::to_async`]). [`node::Handle::subscribe`] tells who leads and who
//! belongs, and [`node::start_listening`] starts a whole cluster on ports that the kernel chooses.
//!
//! # Features
//!
//! - `node` (default): the node, and with it the crates of the event loop. Without it the rest
//!   builds with bytes, crc32c, slab, thiserror and tracing alone, and not only for unix; the log
//!   then runs on a [`storage::Disk`] of yours.
//! - `sim`: the deterministic simulator, for tests of your own state machine.
//! - `mutants`: faults that can be planted in the core, so that tests can show that they notice.
#![forbid(unsafe_code)]

pub mod core;
mod error_chain;
#[cfg(feature = "node")]
pub mod node;
pub mod replica;
mod setters;
#[cfg(any(test, feature = "sim"))]
pub mod sim;
pub mod storage;
pub mod types;
pub mod wire;

pub use error_chain::error_chain;
