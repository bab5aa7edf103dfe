//! Events of a replica, for operators.

use std::time::Duration;

use super::{MachineFailure, UnappliedLogFull};
use crate::core;
use crate::types::Index;

/// An event that an operator may want to know of.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ReplicaEvent {
    /// An event of the core.
    Core(core::Event),
    /// A snapshot could not be written. Another attempt follows; until then the log grows.
    SnapshotFailed {
        /// The error of the disk or the state machine.
        reason: String,
        /// The time until the next attempt.
        pause: Duration,
    },
    /// The state machine has failed: this replica votes and acknowledges, but neither leads nor
    /// answers.
    MachineFailed(MachineFailure),
    /// The state machine cannot be restored from the newest snapshot, whose file is unreadable. The
    /// leader is asked for another one.
    SnapshotDamaged {
        /// The last entry that the snapshot includes.
        index: Index,
    },
    /// The log that the failed state machine cannot apply exceeds its quota: this replica has
    /// stopped.
    UnappliedLogFull(UnappliedLogFull),
    /// The disk has failed: this replica has stopped.
    StorageFailed {
        /// The disk's error.
        reason: String,
    },
}
