//! The log on a disk: a write-ahead log of preallocated segments over a [`Disk`], snapshots that
//! stand for its beginning, and the [`Worker`] that runs both.
//!
//! Bytes are described in `raft/FORMAT.md`. What the room promises:
//!
//! - What [`Log::sync`] has returned `Ok` for is found again by [`Log::open`], or opening fails as
//!   [`StorageError::Corrupt`] or [`StorageError::EndLost`]: never is it silently missing, within
//!   the bounds that `raft/FORMAT.md` states ("What this cannot see").
//! - A [`Write`](crate::types::Write) is found whole or not at all.
//! - A snapshot is found whole or not at all, and the log lets go of nothing that the newest one
//!   does not include.
//! - What `open` hands over is durable, even where the kernel showed bytes of a sync that had
//!   failed.
//!
//! Every call here may block on the disk. They belong on a storage thread.

// A folder of the operating system, and the tools that look into one, are for systems on which they
// are tested. Elsewhere the log runs on a `Disk` of its user's.
#![cfg_attr(not(unix), allow(dead_code, unused_imports))]

mod body;
mod bounds;
pub mod codec;
mod compaction;
mod contents;
#[cfg(unix)]
mod disaster_recovery;
mod disk;
mod diverged;
mod error;
mod frame;
#[cfg(unix)]
pub mod inspect;
mod job;
mod loaded;
mod locator;
mod log;
mod next_segment;
mod options;
mod reader;
#[cfg(unix)]
mod real_disk;
mod recovery;
mod replay;
mod segment;
mod segment_pool;
mod snapshot;
mod snapshot_jobs;
mod source;
#[cfg(unix)]
mod special_file;
#[cfg(unix)]
mod survivors;
mod synced;
#[cfg(test)]
mod test_disk;
#[cfg(test)]
pub(crate) mod tests;
mod worker;

#[cfg(unix)]
pub use disaster_recovery::{DisasterRecovery, DisasterRecoveryError, RecoveredCluster};
pub use disk::{Disk, DiskFile};
pub use diverged::DivergedMark;
pub use error::StorageError;
pub use frame::MAX_FRAME_BYTES;
pub use job::{Completion, Job};
pub use log::Log;
pub use options::LogOptions;
#[cfg(unix)]
pub use real_disk::{RealDisk, RealFile, open_snapshot};
pub use recovery::{DamagedSegment, Recovered, TornTail};
pub use snapshot::{DamagedSnapshot, SnapshotReader};
pub use source::{SNAPSHOT_PIECE_BYTES, SnapshotSource};
#[cfg(unix)]
pub use survivors::DataLoss;
pub use synced::SyncedMark;
pub use worker::Worker;
