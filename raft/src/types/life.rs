//! What tells one life of a node, and one copy of its folder, from another.

use super::{Index, Term};

/// A life of a node: from one opening of its log to the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct Life {
    /// How often the log has been opened. Raised on disk before the node's first message in that
    /// life. 0 if unknown: a node below feature level 2 does not count.
    pub count: u64,
    /// Drawn at random at each start: two copies of one folder that are started have the same
    /// count, and not this.
    pub nonce: u64,
}

/// How far a log is durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct LogPosition {
    /// The last durable frame's number. It rises with every write over all lives of a log, so a
    /// lower one than before means that the disk has forgotten something.
    pub sequence: u64,
    /// The term of the last entry.
    pub term: Term,
    /// The index of the last entry.
    pub index: Index,
}

/// What a node remembers of another node's disk: its latest life, and how far that was durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct PeerRecord {
    /// The latest life.
    pub life: Life,
    /// The greatest durable position that was reported.
    pub position: LogPosition,
}

/// A node's state that differs from that of a majority of the voters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Divergence {
    /// This node's digest.
    pub digest: Digest,
    /// The value that a majority of the voters reported.
    pub majority: u64,
    /// The last entry after which this node's digest was that of a majority in the same life; 0 if
    /// none was. Snapshots that this node took later may hold the wrong state.
    pub agreed: Index,
}

/// A digest of the replicated state after one entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Digest {
    /// The entry.
    pub index: Index,
    /// The version of the state machine that made it. Digests of different versions are not
    /// compared.
    pub version: u32,
    /// The digest.
    pub value: u64,
}
