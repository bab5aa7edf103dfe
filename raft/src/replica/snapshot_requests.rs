//! Snapshots on request, for a backup or before an upgrade.
//!
//! ```text
//! submit(Snapshot)
//!   -> the newest on disk includes all that the machine has received -> Answer
//!   -> one is being written -> waits -> includes enough? Answer; else another one is taken
//!   -> none -> one is taken -> Answer; could not be written: Refused
//! ```

use super::requests::{Origin, RequestKey, RequestPayload, RequestStage};
use super::{Answer, Outcome, Refusal, Replica};
use crate::types::Index;

/// Pending requests for snapshots.
#[derive(Debug, Default)]
pub(super) struct SnapshotRequests {
    /// Each with the last entry that its snapshot must include.
    waiting: Vec<(Index, RequestKey)>,
}

impl SnapshotRequests {
    pub(super) fn forget(&mut self, key: RequestKey) {
        self.waiting.retain(|&(_, waiting)| waiting != key);
    }
}

impl Replica {
    pub(super) fn accept_snapshot_request(&mut self, origin: Origin) {
        if let Some(key) = self.admit(origin, RequestStage::Snapshotting, RequestPayload::Empty, 0)
        {
            let index = self.snapshots.last_given();
            self.snapshot_requests.waiting.push((index, key));
            self.serve_snapshot_requests();
        }
    }

    /// Answers the requests that the newest snapshot on disk satisfies.
    ///
    /// Takes another snapshot for the rest, unless one is being written. Called when a snapshot is
    /// on disk.
    pub(super) fn serve_snapshot_requests(&mut self) {
        if self.snapshot_requests.waiting.is_empty() {
            return;
        }
        let on_disk = self.core.snapshot().map_or(Index(0), |meta| meta.index);
        let waiting = &self.snapshot_requests.waiting;
        let done: Vec<RequestKey> =
            waiting.iter().filter(|(index, _)| *index <= on_disk).map(|&(_, key)| key).collect();
        for key in done {
            self.finish(key, Outcome::Answer(Answer::new("", on_disk)));
        }
        if !self.snapshot_requests.waiting.is_empty() {
            self.start_snapshot();
        }
    }

    /// The snapshot could not be written: refuses all requests.
    pub(super) fn refuse_snapshot_requests(&mut self, why: &str) {
        let keys: Vec<RequestKey> =
            self.snapshot_requests.waiting.iter().map(|&(_, key)| key).collect();
        for key in keys {
            let reason = format!("the snapshot could not be written: {why}");
            self.finish(key, Outcome::Refused(Refusal::Declined { reason, is_final: false }));
        }
    }
}
