//! What the user replicates.

use bytes::Bytes;

use crate::types::{Index, Stamp, Term};

/// A committed command, as the state machine sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Committed<'a> {
    /// Its position in the log. Rises from command to command; indexes between belong to Raft's own entries.
    pub index: Index,
    /// The term of the leader that made it.
    pub term: Term,
    /// The log's time: the same on every replica, so what expires may be decided by it.
    pub stamp: Stamp,
    /// The command.
    pub command: &'a [u8],
}

/// The state that is replicated: the same commands in the same order on every node.
///
/// `apply` must be deterministic: no clock (the entry carries a stamp), no random source, no iteration order that
/// differs between processes. Otherwise replicas drift apart and nothing can notice in time.
///
/// ```
/// use bytes::Bytes;
/// use kodiak_raft::replica::{Committed, StateMachine};
///
/// /// Adds up numbers.
/// #[derive(Default)]
/// struct Sum(u64);
///
/// impl StateMachine for Sum {
///     fn apply(&mut self, entry: &Committed<'_>) -> Bytes {
///         let number = entry.command.try_into().map_or(0, u64::from_le_bytes);
///         self.0 = self.0.wrapping_add(number);
///         Bytes::copy_from_slice(&self.0.to_le_bytes())
///     }
///     fn query(&self, _query: &[u8]) -> Bytes {
///         Bytes::copy_from_slice(&self.0.to_le_bytes())
///     }
/// }
/// ```
pub trait StateMachine {
    /// Applies a committed command and says what its author is told. Every command is applied once per life of the
    /// node, in the log's order; after a restart the log is applied again from its beginning.
    fn apply(&mut self, entry: &Committed<'_>) -> Bytes;

    /// Answers a query from the state as it is.
    fn query(&self, query: &[u8]) -> Bytes;
}
