//! What a storage worker is asked to do, and what it answers.

use super::{SnapshotSource, StorageError};
use crate::core::{Done, Fetch, InstallSnapshot, ReadChunk, WriteChunk};
use crate::types::{Divergence, Index, LogPosition, SnapshotMeta, Write};

/// Something to do with the log and its snapshots.
#[derive(Debug, PartialEq, Eq, Hash)]
pub enum Job {
    /// Make this durable; then [`Done::Written`].
    Write(Write),
    /// Note that entries up to here are committed, with a frame that is not synced and comes after
    /// what else there is to do ([`Worker::wants_mark`](super::Worker::wants_mark)). It has no
    /// completion unless it fails. It costs one write of 56 bytes, and none if a frame says so
    /// already.
    MarkCommit {
        /// The commit index.
        commit: Index,
    },
    /// Read these entries; then [`Done::Fetched`].
    Fetch(Fetch),
    /// Write a snapshot of the state machine, in slices between other jobs; then
    /// [`Done::SnapshotTaken`], or [`Completion::SnapshotFailed`]. One asked for while another is
    /// being written waits for it.
    TakeSnapshot {
        /// What it stands for. Everything up to its index must be committed.
        meta: SnapshotMeta,
        /// The state machine's own bytes.
        source: SnapshotSource,
    },
    /// Note durably that this node's state is not that of a majority of the voters, and that
    /// snapshots taken after `agreed` may hold it; then [`Done::DivergenceMarked`]. The next
    /// snapshot installed ends that.
    MarkDiverged(Divergence),
    /// Let go of entries below `first`, as far as the newest snapshot includes them; then
    /// [`Done::Compacted`]. Whole segments go, so some of them stay.
    Compact {
        /// The first entry that must stay.
        first: Index,
    },
    /// Read a piece of a snapshot; then [`Done::ChunkRead`]. The piece has at least one byte, and
    /// is shorter than asked for only at the file's end.
    ReadChunk(ReadChunk),
    /// Write a piece of another node's snapshot; then [`Done::ChunkWritten`]. A piece that does
    /// not begin where the last one ended is dropped. The first piece of another snapshot discards
    /// what has been received of this one.
    WriteChunk(WriteChunk),
    /// Make the received snapshot this node's own, and let the log continue after it; then
    /// [`Done::SnapshotInstalled`]. Entries that follow it are kept if the log holds its last entry
    /// with the same term; otherwise the log becomes empty. Writes before this job are done before
    /// it, and those after it after it.
    InstallSnapshot(InstallSnapshot),
}

/// What became of a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Completion {
    /// It is done, as the job's description says.
    Done(Done),
    /// The log is durable up to here ([`Worker::take_synced`](super::Worker::take_synced)).
    Synced {
        /// How far.
        position: LogPosition,
    },
    /// The snapshot that [`Job::TakeSnapshot`] asked for is not written: the disk is full, say, or
    /// the state machine could not be read. What was written of it is gone, and everything else is
    /// as it was.
    SnapshotFailed {
        /// What it was to include.
        index: Index,
        /// Why not.
        error: StorageError,
    },
    /// It is not done, and nothing will be any more: the node must stop, and may start again from
    /// what is on disk.
    Failed(StorageError),
}
