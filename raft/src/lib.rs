//! Raft on an event loop.
//!
//! Rooms, each built on the one before: [`types`] (the words all rooms share), [`core`] (the algorithm, sans-IO),
//! [`storage`] (the log on a disk), [`replica`] (core, order of application and forwarding: all that decides, still
//! without I/O), `wire` (frames between nodes), [`node`] (a replica on the reactor) and, behind the feature `sim`,
//! `sim` (replicas in a deterministic simulator).
#![forbid(unsafe_code)]

pub mod core;
pub mod node;
pub mod replica;
#[cfg(any(test, feature = "sim"))]
pub mod sim;
pub mod storage;
pub mod types;
pub mod wire;
