//! Answers of the state machine, with their index in the log.

use bytes::Bytes;

use crate::types::Index;

/// The result of a request that was carried out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Answer {
    /// The state machine's answer. Empty for requests that do not reach it: a closed session, a
    /// change of the cluster.
    pub bytes: Bytes,
    /// The index in the log to which the answer belongs.
    ///
    /// - Of a command: the index at which it was applied. A repeated command of a session has the
    ///   later index of its repetition.
    /// - Of a query: the last index that the state machine had applied when it answered.
    /// - Of a membership change: the index of the configuration.
    ///
    /// A node that has applied this index shows the effect of the request, so a client that moves
    /// to another node knows what to wait for. `None` for a leadership transfer, and if the
    /// leader's version does not report it.
    pub index: Option<Index>,
}

impl Answer {
    /// An answer with these bytes and this index.
    #[must_use]
    pub fn new(bytes: impl Into<Bytes>, index: impl Into<Option<Index>>) -> Answer {
        Answer { bytes: bytes.into(), index: index.into() }
    }
}

/// A query, as the state machine receives it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Query<'a> {
    /// The last applied index. The entry there may be one of Raft's own.
    pub applied: Index,
    /// The query.
    pub bytes: &'a [u8],
}
