//! The jobs of the state machine, their results, and its failures.
//!
//! ```text
//! Replica --- Effect::Machine(MachineJob) ---> MachineRunner, on any thread, in order
//!         <-- handle_machine_done(MachineDone) -----
//! ```
//!
//! A replica never waits for its machine: it votes, acknowledges and leads while a job takes
//! seconds. Its only requirement is that jobs are done in the order in which it gave them.

mod completions;
mod failure;
mod loading;
mod quota;
mod reader;
mod runner;

use bytes::Bytes;

pub(super) use completions::MachineState;
pub use failure::{MachineCallback, MachineError, MachineFailure};
pub use loading::{LOADING_GRACE, LoadingProgress};
pub use quota::UnappliedLogFull;
pub(super) use reader::MachineReader;
pub use runner::{MachineHost, MachineRunner, RESTORE_ATTEMPTS};

use super::{Answer, Outcome, QueryId};
use crate::storage::SnapshotSource;
use crate::types::{Digest, Entries, Index, SnapshotMeta};

/// A job for the state machine. Jobs are done in the order in which they are given.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum MachineJob {
    /// Apply these entries, in this order; completed by [`MachineDone::Applied`].
    Apply(Entries),
    /// Answer a query; completed by [`MachineDone::Queried`].
    ///
    /// Everything that the query must see is applied before.
    Query {
        /// The number to return with the answer.
        id: QueryId,
        /// The query.
        query: Bytes,
    },
    /// Take the digest of the state as of this entry, the last one applied; completed by
    /// [`MachineDone::DigestTaken`].
    TakeDigest(Index),
    /// Take a cheap copy of the state as of the last entry applied; completed by
    /// [`MachineDone::SnapshotReady`].
    TakeSnapshot(SnapshotMeta),
    /// Restore the newest snapshot on disk, which is this one; completed by
    /// [`MachineDone::Restored`].
    Restore(SnapshotMeta),
    /// Ignore all jobs until the next [`MachineJob::Restore`], because the state differs from a
    /// majority's; completed by [`MachineDone::Failed`] with this failure.
    Stop(MachineFailure),
}

/// The result of a [`MachineJob`].
///
/// Give it to [`Replica::handle_machine_done`](super::Replica::handle_machine_done), in order.
#[derive(Debug)]
#[non_exhaustive]
pub enum MachineDone {
    /// All entries up to `last` are applied.
    Applied {
        /// The last index applied.
        last: Index,
        /// The outcome of each *proposal* among the entries since the last `Applied`, in order
        /// ([`Payload::is_proposal`](crate::types::Payload::is_proposal)).
        outcomes: Vec<Outcome>,
    },
    /// A query is answered.
    Queried {
        /// The number of the query.
        id: QueryId,
        /// The answer; `None` if the state machine panicked. It continues with the next job.
        answer: Option<Answer>,
    },
    /// The digest of the state, sessions included; `None` if the machine takes none.
    DigestTaken(Option<Digest>),
    /// A copy of the state was taken. It is to be read on another thread.
    SnapshotReady {
        /// The snapshot's index, term and configuration.
        meta: SnapshotMeta,
        /// The snapshot's content.
        content: SnapshotSource,
    },
    /// The state machine was restored from this snapshot.
    Restored(SnapshotMeta),
    /// The file of this snapshot, the newest on disk, is unreadable. [`MachineDone::Failed`]
    /// follows.
    SnapshotDamaged(SnapshotMeta),
    /// The restored state does not have this snapshot's digest, although the file is intact.
    /// [`MachineDone::Failed`] follows.
    ///
    /// Either the state was wrong when the snapshot was taken, or restoring is at fault.
    SnapshotMismatch(SnapshotMeta),
    /// The machine returned an error or panicked. Until a later [`MachineJob::Restore`] succeeds
    /// it ignores all jobs, without a result.
    Failed(MachineFailure),
}
