//! The quota of log that a failed state machine may leave unapplied.
//!
//! Entries that are not applied cannot be compacted. The node acknowledges further entries until
//! its quota is full, and then stops with an error that names it.

use super::MachineFailure;
use crate::error_chain::error_chain;
use crate::replica::{Replica, ReplicaEvent};

/// The log that a failed state machine cannot apply exceeds its quota.
#[derive(Clone, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
#[error(
    "the log that the state machine cannot apply takes {bytes} bytes, more than \
     Limits::unapplied_log_bytes ({limit_bytes}), and none of it can be compacted; start a version \
     of the program that can apply it, or raise the quota; the log is intact, and the other nodes \
     continue while a majority of the voters is up"
)]
pub struct UnappliedLogFull {
    /// The bytes of log that are committed and not applied.
    pub bytes: u64,
    /// The quota.
    pub limit_bytes: u64,
    /// Why they cannot be applied.
    #[source]
    pub failure: MachineFailure,
}

impl Replica {
    /// The reason for a stop at [`Limits::unapplied_log_bytes`](crate::replica::Limits), if this
    /// replica has stopped for it.
    #[must_use]
    pub fn unapplied_log_full(&self) -> Option<&UnappliedLogFull> {
        self.machine.unapplied_full.as_ref()
    }

    /// Stops the replica if the quota is exceeded. Called when more may be committed.
    pub(in crate::replica) fn check_unapplied_log(&mut self) {
        let (Some(failure), Some(limit_bytes)) =
            (&self.machine.failure, self.limits.unapplied_log_bytes)
        else {
            return;
        };
        let bytes = self.core.backlog_bytes() as u64;
        if bytes <= limit_bytes || self.failed.is_some() || self.machine.restoring.is_some() {
            return;
        }
        let full = UnappliedLogFull { bytes, limit_bytes, failure: failure.clone() };
        self.machine.unapplied_full = Some(full.clone());
        self.stop(error_chain(&full), ReplicaEvent::UnappliedLogFull(full));
    }
}
