//! Raft on an event loop: a program's state machine, the same on several nodes.
//!
//! The program implements [`replica::StateMachine`]. A node replicates its commands:
//!
#![cfg_attr(feature = "node", doc = "```")]
#![cfg_attr(not(feature = "node"), doc = "```ignore")]
//! use std::io::{self, Cursor, Read};
//!
//! use bytes::Bytes;
//! use kodiak_raft::{
//!     node::{Options, start},
//!     replica::{Committed, MachineError, Query, StateMachine},
//!     types::NodeId,
//! };
//!
//! /// Keeps the last command.
//! struct Last(Bytes);
//!
//! impl StateMachine for Last {
//!     fn apply(&mut self, entry: &Committed<'_>) -> Result<Bytes, MachineError> {
//!         Ok(std::mem::replace(&mut self.0, Bytes::copy_from_slice(entry.command)))
//!     }
//!     fn query(&self, _query: &Query<'_>) -> Bytes {
//!         self.0.clone()
//!     }
//!     fn snapshot(&self) -> Box<dyn Read + Send> {
//!         Box::new(Cursor::new(self.0.clone()))
//!     }
//!     fn restore(&mut self, snapshot: &mut dyn Read) -> io::Result<()> {
//!         let mut bytes = Vec::new();
//!         snapshot.read_to_end(&mut bytes)?;
//!         self.0 = bytes.into();
//!         Ok(())
//!     }
//! }
//!
//! let folder = tempfile::tempdir()?;
//! // A cluster of one node. `Options::peers` names the others of a larger one.
//! let options = Options::new(NodeId(1), folder.path(), "127.0.0.1:0".parse()?);
//! let node = start(&options, Last(Bytes::new()))?;
//! node.handle().write("hello")?; // replicated, synced, applied
//! assert_eq!(node.handle().read("")?.bytes, "hello"); // linearizable
//! node.stop()?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! - [`node::start`] runs a node on a thread of its own; [`node::Node`] runs it on your event loop.
//! - [`node::Handle`] asks a node: from threads, or as futures for any executor
//!   ([`node::Handle::to_async`]).
//! - [`node::Handle::subscribe`] reports changes of leader and members.
//! - [`node::start_listening`] starts a whole cluster in one process, on ports that the kernel
//!   chooses.
//!
//! # Modules
//!
//! In the order in which they build on each other:
//!
//! - [`types`]: the types that all modules share.
//! - [`core`]: the algorithm, without I/O, clocks or threads.
//! - [`storage`]: the log on a disk.
//! - [`replica`]: core, order of application, and forwarding. It decides everything, without I/O.
//! - [`wire`]: frames between nodes.
//! - [`node`]: a replica on the event loop.
//! - `sim`, behind the feature of that name: replicas in a deterministic simulator.
//!
//! # Features
//!
//! - `node` (default): the node, and with it the crates of the event loop. The other modules need
//!   only bytes, crc32c, slab, thiserror and tracing, and also build on systems other than Unix;
//!   there the program implements [`storage::Disk`].
//! - `sim`: the deterministic simulator, to test your own state machine.
//! - `mutants`: planted faults, which show that the tests detect a broken rule.
#![forbid(unsafe_code)]

pub mod core;
mod error_chain;
#[cfg(feature = "node")]
pub mod node;
mod panic_message;
pub mod replica;
mod setters;
#[cfg(any(test, feature = "sim"))]
pub mod sim;
pub mod storage;
pub mod types;
pub mod wire;

pub use error_chain::error_chain;
