//! A state machine that is not there yet: it restores a snapshot, or applies again what the log
//! holds after one.
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

/// How long requests wait for a state machine that restores or replays, before they are refused:
/// most starts are over by then, and to wait longer would look like silence.
pub const LOADING_GRACE: Duration = Duration::from_millis(500);

/// What a state machine has to catch up with before it answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LoadingProgress {
    /// It takes the state of the snapshot of this index.
    Restoring {
        /// What the snapshot includes.
        index: Index,
    },
    /// It applies again what this node's log held at its start.
    Replaying {
        /// It has applied this much.
        applied: Index,
        /// It is to apply this much.
        until: Index,
    },
    /// Its snapshot cannot be read, and the log before it is gone: it waits for another one from
    /// the leader.
    AwaitingSnapshot {
        /// What the damaged snapshot includes.
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
                    "the snapshot of entry {index} is damaged, waiting for another one from the leader"
                )
            }
        }
    }
}

/// How long the machine has not been there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::replica) enum LoadingPhase {
    #[default]
    Ready,
    /// Requests wait until then.
    Grace { until: Time },
    /// Requests are refused.
    Refusing,
}

impl Replica {
    /// What the state machine has to catch up with before it answers.
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

    /// What a state machine that has failed has to catch up with, if it will be back without a
    /// newer version of the program: its snapshot was damaged, and another one is awaited or there.
    pub(in crate::replica) fn reload_progress(&self) -> Option<LoadingProgress> {
        self.machine.failure.as_ref()?;
        if let Some(index) = self.machine.restoring {
            return Some(LoadingProgress::Restoring { index });
        }
        let index = self.core.snapshot()?.index;
        self.core.awaits_readable_snapshot().then_some(LoadingProgress::AwaitingSnapshot { index })
    }

    /// To be called with every input.
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

    /// When waiting requests are to be refused.
    pub(in crate::replica) fn loading_deadline(&self) -> Option<Time> {
        match self.machine.loading {
            LoadingPhase::Grace { until } => Some(until),
            LoadingPhase::Ready | LoadingPhase::Refusing => None,
        }
    }

    /// Why a request is not taken now.
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
