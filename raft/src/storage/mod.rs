//! The log on a disk: a write-ahead log of preallocated segments over a [`Disk`], and the [`Worker`] that runs it.
//!
//! Bytes are described in `raft/FORMAT.md`. What the room promises:
//!
//! - What [`Log::sync`] has returned `Ok` for is found again by [`Log::open`], or opening fails as
//!   [`StorageError::Corrupt`]: never is it silently missing.
//! - A [`Write`](crate::types::Write) is found whole or not at all.
//! - What `open` hands over is durable, even where the kernel showed bytes of a sync that had failed.
//!
//! Every call here may block on the disk. They belong on a storage thread.

pub mod codec;
mod disk;
mod error;
mod log;
mod options;
mod real_disk;
mod worker;

pub use disk::{Disk, DiskFile};
pub use error::StorageError;
pub use log::{Log, Recovered};
pub use options::LogOptions;
pub use real_disk::{RealDisk, RealFile};
pub use worker::{Completion, Job, Worker};
