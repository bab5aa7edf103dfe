//! The jobs of the storage worker, and their completions.

use super::{SnapshotSource, StorageError};
use crate::core::{Done, Fetch, InstallSnapshot, ReadChunk, WriteChunk};
use crate::types::{Divergence, Index, LogPosition, SnapshotMeta, Write};

/// An operation on the log or its snapshots.
#[derive(Debug, PartialEq, Eq, Hash)]
pub enum Job {
    /// Make a write durable; then [`Done::Written`].
    Write(Write),
    /// Note that entries up to here are committed, with a mark that is not synced.
    ///
    /// The driver writes the mark after all other jobs
    /// ([`Worker::wants_mark`](super::Worker::wants_mark)). The job has no completion unless it
    /// fails. It costs one write of 56 bytes, and none if a frame has the commit index already.
    MarkCommit {
        /// The commit index.
        commit: Index,
    },
    /// Read entries; then [`Done::Fetched`].
    Fetch(Fetch),
    /// Write a snapshot of the state machine, block by block between other jobs; then
    /// [`Done::SnapshotTaken`] or [`Completion::SnapshotFailed`]. Snapshots are written one after
    /// the other.
    TakeSnapshot {
        /// What the snapshot includes. Everything up to its index must be committed.
        meta: SnapshotMeta,
        /// The state machine's bytes.
        source: SnapshotSource,
    },
    /// Note durably that this node's state differs from that of a majority of the voters, and that
    /// snapshots after `agreed` may hold that state; then [`Done::DivergenceMarked`]. Installing a
    /// snapshot removes the note.
    MarkDiverged(Divergence),
    /// Remove entries below `first` that the newest snapshot includes; then [`Done::Compacted`].
    /// Only whole segments are removed, so some of these entries remain.
    Compact {
        /// The first entry that must stay.
        first: Index,
    },
    /// Read a chunk of a snapshot; then [`Done::ChunkRead`]. The chunk has at least one byte, and
    /// is shorter than requested only at the file's end.
    ReadChunk(ReadChunk),
    /// Write a chunk of another node's snapshot; then [`Done::ChunkWritten`]. A chunk that does not
    /// begin where the last one ended is dropped. The first chunk of another snapshot discards what
    /// has been received of this one.
    WriteChunk(WriteChunk),
    /// Make the received snapshot this node's own, and let the log continue after it; then
    /// [`Done::SnapshotInstalled`]. Entries that follow it are kept if the log holds its last entry
    /// with the same term; otherwise the log becomes empty. Writes before this job are done before
    /// it, and those after it after it.
    InstallSnapshot(InstallSnapshot),
}

/// The result of a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Completion {
    /// The job is done.
    Done(Done),
    /// The log is durable up to here ([`Worker::take_synced`](super::Worker::take_synced)).
    Synced {
        /// How far.
        position: LogPosition,
    },
    /// The snapshot of a [`Job::TakeSnapshot`] could not be written, and what was written of it is
    /// removed. For example, the disk is full, or the state machine could not be read. The log goes
    /// on.
    SnapshotFailed {
        /// The last entry that the snapshot was to include.
        index: Index,
        /// Why not.
        error: StorageError,
    },
    /// The job is not done, and no later one will be. The node must stop; it can be started again
    /// from what is on disk.
    Failed(StorageError),
}
