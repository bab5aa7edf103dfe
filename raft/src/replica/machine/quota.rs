//! A state machine that has failed applies nothing, so nothing of the log can be compacted: the
//! node goes on acknowledging until its quota for that is full, and then stops by name.

use super::MachineFailure;
use crate::replica::{Replica, ReplicaEvent};

/// The log that a failed state machine cannot apply takes more than its quota.
#[derive(Clone, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[error(
    "the log that the state machine cannot apply takes {bytes} bytes, more than Limits::unapplied_log_bytes \
     ({limit_bytes}), and nothing of it can be compacted: {failure}. Start a version of the program that can go on \
     there, or raise the quota; the log is whole, and other nodes go on while a majority of the voters is there"
)]
pub struct UnappliedLogFull {
    /// What is committed and cannot be applied.
    pub bytes: u64,
    /// The quota.
    pub limit_bytes: u64,
    /// Why it cannot be applied.
    pub failure: MachineFailure,
}

impl Replica {
    /// Why this replica has stopped, if the log that its failed state machine cannot apply exceeds
    /// [`Limits::unapplied_log_bytes`](crate::replica::Limits).
    #[must_use]
    pub fn unapplied_log_full(&self) -> Option<&UnappliedLogFull> {
        self.machine.unapplied_full.as_ref()
    }

    /// To be called when more may be committed.
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
        self.stop(full.to_string(), ReplicaEvent::UnappliedLogFull(full));
    }
}
