//! Why a node that ran has stopped, each reason with its exit code.

use kodiak_raft::{
    replica::UnappliedLogFull,
    types::{Index, NodeId},
};

/// The log has failed while the node ran. A supervisor may start the process again.
#[derive(Debug, thiserror::Error)]
#[error(
    "the log of node {node} has failed, and the process ends with exit code {}, so that its \
     supervisor starts it again: {reason}",
    StorageFailed::EXIT_CODE
)]
pub(crate) struct StorageFailed {
    pub(super) node: NodeId,
    pub(super) reason: String,
}

impl StorageFailed {
    /// The exit code of `raft serve`.
    pub(crate) const EXIT_CODE: u8 = 3;
}

/// A leader contradicts what is committed on this node. Inspect it before you start it again.
#[derive(Debug, thiserror::Error)]
#[error(
    "a leader contradicts what is committed on node {node} from entry {index} on, and the process \
     ends with exit code {}: acknowledged writes were lost elsewhere. Do not wipe this node, it \
     may hold the only copy; see `raft inspect` and `raft recover`",
    CommittedConflict::EXIT_CODE
)]
pub(crate) struct CommittedConflict {
    pub(super) node: NodeId,
    pub(super) index: Index,
}

impl CommittedConflict {
    /// The exit code of `raft serve`.
    pub(crate) const EXIT_CODE: u8 = 4;
}

/// The state machine has failed, and the log that it cannot apply exceeds its bound. Starting the
/// process again does not help before something has changed.
#[derive(Debug, thiserror::Error)]
#[error(
    "node {node} has stopped, with exit code {} (--max-unapplied-log)",
    UnappliedLog::EXIT_CODE
)]
pub(crate) struct UnappliedLog {
    pub(super) node: NodeId,
    #[source]
    pub(super) full: UnappliedLogFull,
}

impl UnappliedLog {
    /// The exit code of `raft serve`.
    pub(crate) const EXIT_CODE: u8 = 5;
}
