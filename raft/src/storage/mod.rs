//! The log on a disk: a write-ahead log of segments, with snapshots.
//!
//! A [`Log`] lies on a [`Disk`], and a [`Worker`] carries out jobs on both the log and its
//! snapshots. `raft/FORMAT.md` describes every byte. The module promises:
//!
//! - What [`Log::sync`] has made durable, [`Log::open`] finds again, or it fails with
//!   [`StorageError::Corrupt`] or [`StorageError::EndLost`]. Nothing is silently missing, within
//!   the bounds that `raft/FORMAT.md` states in "What this cannot see".
//! - A [`Write`](crate::types::Write) is found whole or not at all.
//! - A snapshot is found whole or not at all, and the log removes no entry that the newest one does
//!   not include.
//! - What `open` returns is durable, even where the kernel showed bytes of a sync that had failed.
//!
//! Every call may block on the disk, so make them on a storage thread.

// `RealDisk` and the tools that read a data folder exist only on systems on which they are tested.
// Elsewhere the log runs on a `Disk` of its user.
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
mod loaded_segment;
mod log;
mod next_segment;
mod options;
mod reader;
#[cfg(unix)]
mod real_disk;
#[cfg(unix)]
mod recoverable_log;
mod recovery;
mod replay;
mod segment;
mod segment_pool;
mod snapshot;
mod snapshot_jobs;
mod snapshot_source;
mod sparse_index;
#[cfg(unix)]
mod special_file;
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
pub use error::{IoError, StorageError};
pub use frame::MAX_FRAME_BYTES;
pub use job::{Completion, Job};
pub use log::Log;
pub use options::LogOptions;
#[cfg(unix)]
pub use real_disk::{RealDisk, RealFile, open_snapshot};
#[cfg(unix)]
pub use recoverable_log::{DamagedFile, DataLoss};
pub use recovery::{DamagedSegment, Recovered, TornTail};
pub use snapshot::{DamagedSnapshot, SnapshotReader};
pub use snapshot_source::{SNAPSHOT_PIECE_BYTES, SnapshotSource};
pub use synced::SyncedMark;
pub use worker::Worker;
