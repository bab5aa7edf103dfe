//! What stands for the part of the log that is gone (§5 of the dissertation).

use bytes::Bytes;

use super::{Configuration, Digest, Index, Stamp, Term};

/// What a snapshot stands for: the state machine after the entry at `index`, and what else must be
/// known of the log up to there.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SnapshotMeta {
    /// The last entry that the snapshot includes. Never 0.
    pub index: Index,
    /// Its term.
    pub term: Term,
    /// Its stamp: no later entry has a lower one.
    pub stamp: Stamp,
    /// The configuration in force as of `index`.
    pub configuration: Configuration,
    /// The digest of the state that the snapshot holds, if its writer took one.
    pub digest: Option<Digest>,
}

/// A piece of a snapshot on its way from one node to another. What travels is the snapshot's file
/// as it is, header and checksums included, so that the receiver checks what the writer wrote.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Chunk {
    /// Where in the file the piece begins, in bytes.
    pub offset: u64,
    /// The whole file's length in bytes: the last piece ends there.
    pub total_bytes: u64,
    /// The piece.
    pub data: Bytes,
}

impl Chunk {
    /// Where the piece ends, in bytes from the file's start; saturates, because a damaged message
    /// can claim anything.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.offset.saturating_add(self.data.len() as u64)
    }

    /// Whether the piece is the last one.
    #[must_use]
    pub fn is_last(&self) -> bool {
        self.end() >= self.total_bytes
    }
}
