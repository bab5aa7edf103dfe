//! What the state machine is asked to do, what it answers, and how it can fail.
//!
//! ```text
//! Replica --- Effect::Machine(MachineJob) ---> MachineRunner, on any thread, in order
//!         <-- handle_machine_done(MachineDone) -----
//! ```
//!
//! A replica never waits for its machine: it goes on voting, acknowledging and leading while a
//! job takes seconds. All it needs is that jobs are done in the order in which they came out.

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

/// Something for the state machine to do. Jobs are done in the order in which they were given.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum MachineJob {
    /// Apply these, in this order; then [`MachineDone::Applied`].
    Apply(Entries),
    /// Answer this; then [`MachineDone::Queried`]. What the query must see has been applied.
    Query {
        /// To be given back.
        id: QueryId,
        /// The query.
        query: Bytes,
    },
    /// Take the digest of the state, which is that after everything applied so far, up to this
    /// entry; then [`MachineDone::DigestTaken`].
    TakeDigest(Index),
    /// Take a cheap copy of the state, which is that after everything applied so far; then
    /// [`MachineDone::SnapshotReady`].
    TakeSnapshot(SnapshotMeta),
    /// Take the state of the newest snapshot on disk, which stands for this; then
    /// [`MachineDone::Restored`].
    Restore(SnapshotMeta),
    /// Do nothing more until the next [`MachineJob::Restore`]: the state is not that of a majority;
    /// then [`MachineDone::Failed`] with this.
    Stop(MachineFailure),
}

/// What became of a [`MachineJob`]; to be given to
/// [`Replica::handle_machine_done`](super::Replica::handle_machine_done), in order.
#[derive(Debug)]
pub enum MachineDone {
    /// Everything up to `last` is applied.
    Applied {
        /// The last index applied.
        last: Index,
        /// What became of each *proposal* among the entries since the last `Applied`, in order
        /// ([`Payload::is_proposal`](crate::types::Payload::is_proposal)).
        outcomes: Vec<Outcome>,
    },
    /// A query is answered.
    Queried {
        /// Which.
        id: QueryId,
        /// The answer; `None` if the state machine panicked. It goes on with the next job.
        answer: Option<Answer>,
    },
    /// The digest of the state, sessions included; `None` if the machine takes none.
    DigestTaken(Option<Digest>),
    /// A copy of the state is there, to be read on another thread.
    SnapshotReady {
        /// What it stands for.
        meta: SnapshotMeta,
        /// Its content.
        content: SnapshotSource,
    },
    /// The state is that of this snapshot.
    Restored(SnapshotMeta),
    /// The file of this snapshot, the newest on disk, cannot be read. [`MachineDone::Failed`]
    /// follows.
    SnapshotDamaged(SnapshotMeta),
    /// The file of this snapshot is whole, and the state that was restored from it is not the one
    /// of its digest: the state went wrong before it was copied, or restoring is at fault.
    /// [`MachineDone::Failed`] follows.
    SnapshotMismatch(SnapshotMeta),
    /// The machine refused to go on, or panicked. It does nothing more until a later
    /// [`MachineJob::Restore`] succeeds; jobs before that have no answer.
    Failed(MachineFailure),
}
