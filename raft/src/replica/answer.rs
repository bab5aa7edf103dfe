//! What the state machine says, with its place in the log.

use bytes::Bytes;

use crate::types::Index;

/// What became of a request that was carried out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Answer {
    /// What the state machine said. Empty where it is not asked: for sessions that are closed, and
    /// for changes of the cluster.
    pub bytes: Bytes,
    /// The place in the log that the answer belongs to.
    ///
    /// - Of a command: the index at which it was applied. A command of a session that was applied
    ///   before has the index at which it was asked for again, which is a later one.
    /// - Of a query: the last index that the state machine had applied when it answered.
    /// - Of a change of members: the index of the configuration.
    ///
    /// A node whose applied index is at least this has all of the effect: so a client that moves
    /// to another node knows what to wait for. `None` for a transfer of leadership, and where the
    /// leader runs a version that does not say.
    pub index: Option<Index>,
}

impl Answer {
    /// What the state machine said, and where.
    #[must_use]
    pub fn new(bytes: impl Into<Bytes>, index: impl Into<Option<Index>>) -> Answer {
        Answer { bytes: bytes.into(), index: index.into() }
    }
}

/// A query, as the state machine sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Query<'a> {
    /// The last index that has been applied. It may be of one of Raft's own entries.
    pub applied: Index,
    /// The query.
    pub bytes: &'a [u8],
}
