//! A loading state machine: it restores a snapshot, or replays the log after one.
//!
//! ```text
//!  start    restored          applied = last index at the start, as far as that is committed
//!    |--------|-----------------------|
//!    | waits  | requests are refused with `Loading`
//!    '-- LOADING_GRACE
//! ```

use std::fmt;
use std::time::Duration;

use crate::replica::requests::RequestStage;
use crate::replica::{Outcome, Refusal, Replica};
use crate::types::{Index, Time};

/// The time for which requests wait for a loading state machine before they are refused.
///
/// Most starts take less, and a client that waits longer would take the node for dead.
pub const LOADING_GRACE: Duration = Duration::from_millis(500);

/// How far a loading state machine has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LoadingProgress {
    /// It restores a snapshot.
    Restoring {
        /// The last entry that the snapshot includes.
        index: Index,
    },
    /// It replays the entries that this node's log held at the start.
    Replaying {
        /// The last index applied.
        applied: Index,
        /// The last index to be applied.
        until: Index,
    },
    /// Its snapshot is unreadable and the log before it is compacted: it waits for the leader's
    /// snapshot.
    AwaitingSnapshot {
        /// The last entry that the damaged snapshot includes.
        index: Index,
    },
}

impl fmt::Display for LoadingProgress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LoadingProgress::Restoring { index } => {
                write!(f, "restoring the snapshot of entry {index}")
            }
            LoadingProgress::Replaying { applied, until } => {
                write!(f, "applied {applied} of {until} entries")
            }
            LoadingProgress::AwaitingSnapshot { index } => {
                write!(
                    f,
                    "the snapshot of entry {index} is damaged, waiting for another one from the \
                     leader"
                )
            }
        }
    }
}

/// Whether requests wait for the state machine, or are refused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::replica) enum LoadingPhase {
    #[default]
    Ready,
    /// It is loading, and requests wait until this time.
    Grace { until: Time },
    /// It is loading, and requests are refused.
    Refusing,
}

impl Replica {
    /// How far the state machine has come, if it is loading and cannot answer yet.
    #[must_use]
    pub fn loading_progress(&self) -> Option<LoadingProgress> {
        if self.machine.failure.is_some() {
            return self.reload_progress();
        }
        if let Some(index) = self.machine.restoring {
            return Some(LoadingProgress::Restoring { index });
        }
        let (applied, until) = (self.applied, self.core.commit().min(self.last_at_start));
        (applied < until).then_some(LoadingProgress::Replaying { applied, until })
    }

    /// How far a failed state machine has come, if it will recover without a newer version of the
    /// program: its snapshot was damaged, and another one is awaited or being restored.
    pub(in crate::replica) fn reload_progress(&self) -> Option<LoadingProgress> {
        self.machine.failure.as_ref()?;
        if let Some(index) = self.machine.restoring {
            return Some(LoadingProgress::Restoring { index });
        }
        let index = self.core.snapshot()?.index;
        self.core.awaits_readable_snapshot().then_some(LoadingProgress::AwaitingSnapshot { index })
    }

    /// Starts and ends the grace time. Called with every input.
    pub(in crate::replica) fn update_loading(&mut self) {
        match (self.loading_progress(), self.machine.loading) {
            (None, _) => self.machine.loading = LoadingPhase::Ready,
            (Some(_), LoadingPhase::Ready) => {
                let until = self.now.monotonic.after(LOADING_GRACE);
                self.machine.loading = LoadingPhase::Grace { until };
            }
            (Some(loading), LoadingPhase::Grace { until }) if until <= self.now.monotonic => {
                self.machine.loading = LoadingPhase::Refusing;
                self.refuse_loading(loading);
            }
            (Some(_), LoadingPhase::Grace { .. } | LoadingPhase::Refusing) => {}
        }
    }

    /// The time at which waiting requests are refused.
    pub(in crate::replica) fn loading_deadline(&self) -> Option<Time> {
        match self.machine.loading {
            LoadingPhase::Grace { until } => Some(until),
            LoadingPhase::Ready | LoadingPhase::Refusing => None,
        }
    }

    /// Why a new request is refused, if the state machine has been loading for too long.
    pub(in crate::replica) fn loading_refusal(&self) -> Option<Refusal> {
        if self.machine.loading != LoadingPhase::Refusing {
            return None;
        }
        self.loading_progress().map(|progress| Refusal::Loading { progress })
    }

    fn refuse_loading(&mut self, progress: LoadingProgress) {
        let is_idle = |stage| {
            matches!(stage, RequestStage::Waiting | RequestStage::Reading | RequestStage::Querying)
        };
        let idle = self.requests.iter().filter(|(_, pending)| is_idle(pending.stage));
        for key in idle.map(|(key, _)| key).collect::<Vec<_>>() {
            self.finish(key, Outcome::Refused(Refusal::Loading { progress }));
        }
        self.reads.clear();
    }
}
