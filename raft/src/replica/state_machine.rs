//! What the user replicates.

use std::io::{self, Read};

use bytes::Bytes;

use super::{MachineError, Query};
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
/// use std::io::{self, Read};
///
/// use bytes::Bytes;
/// use kodiak_raft::replica::{Committed, MachineError, Query, StateMachine};
///
/// /// Adds up numbers.
/// #[derive(Default)]
/// struct Sum(u64);
///
/// impl StateMachine for Sum {
///     fn apply(&mut self, entry: &Committed<'_>) -> Result<Bytes, MachineError> {
///         let number = entry.command.try_into().map_or(0, u64::from_le_bytes);
///         self.0 = self.0.wrapping_add(number);
///         Ok(Bytes::copy_from_slice(&self.0.to_le_bytes()))
///     }
///     fn query(&self, _query: &Query<'_>) -> Bytes {
///         Bytes::copy_from_slice(&self.0.to_le_bytes())
///     }
///     fn snapshot(&self) -> Box<dyn Read + Send> {
///         Box::new(io::Cursor::new(self.0.to_le_bytes()))
///     }
///     fn restore(&mut self, snapshot: &mut dyn Read) -> io::Result<()> {
///         let mut number = [0; 8];
///         snapshot.read_exact(&mut number)?;
///         self.0 = u64::from_le_bytes(number);
///         Ok(())
///     }
/// }
/// ```
pub trait StateMachine {
    /// Applies a committed command and says what its author is told. Commands come in the log's
    /// order, each once in a life of the node, except that a snapshot may stand for some; after a
    /// restart those that follow the newest snapshot come again.
    ///
    /// # Errors
    /// If the machine cannot go on: it knows the command not, or its own storage is full. The node
    /// then leads no more, answers no reads or writes and takes no snapshots, and says so; it goes
    /// on voting and acknowledging. The entry stays in the log, and every node comes to it: an
    /// error that all nodes return stops all of them, until a version of the program is started
    /// that can apply it. A panic counts as an error.
    fn apply(&mut self, entry: &Committed<'_>) -> Result<Bytes, MachineError>;

    /// Answers a query from the state as it is. If it panics, that query is refused and the
    /// machine goes on.
    fn query(&self, query: &Query<'_>) -> Bytes;

    /// The state as it is, to be read on another thread while this one goes on: a cheap copy (of a
    /// persistent map, or of what is behind an `Arc`) that turns itself into bytes as it is read.
    /// Called between commands, whenever [`Limits::snapshot_every_bytes`](super::Limits) of log
    /// have been applied. While it runs, commands and queries wait, but no heartbeat does.
    fn snapshot(&self) -> Box<dyn Read + Send>;

    /// Forgets the state and takes the one that `snapshot` wrote, on this node or another. Called
    /// at the node's start, and when this node is so far behind that the leader sends its
    /// snapshot.
    ///
    /// # Errors
    /// What reading says, or that the bytes make no sense. It is called again, up to
    /// [`RESTORE_ATTEMPTS`](super::RESTORE_ATTEMPTS) times; then it is as for an error of `apply`.
    fn restore(&mut self, snapshot: &mut dyn Read) -> io::Result<()>;
}
