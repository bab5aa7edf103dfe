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

use crate::replica::requests::Stage;
use crate::replica::{Outcome, Refusal, Replica};
use crate::types::{Index, Time};

/// How long requests wait for a state machine that restores or replays, before they are refused:
/// most starts are over by then, and to wait longer would look like silence.
pub const LOADING_GRACE: Duration = Duration::from_millis(500);

/// What a state machine has to catch up with before it answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CatchUp {
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

impl fmt::Display for CatchUp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CatchUp::Restoring { index } => write!(f, "restoring the snapshot of entry {index}"),
            CatchUp::Replaying { applied, until } => {
                write!(f, "applied {applied} of {until} entries")
            }
            CatchUp::AwaitingSnapshot { index } => {
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
pub(in crate::replica) enum Absence {
    #[default]
    None,
    /// Requests wait until then.
    Grace { until: Time },
    /// Requests are refused.
    Refusing,
}

impl Replica {
    /// What the state machine has to catch up with before it answers.
    #[must_use]
    pub fn catching_up(&self) -> Option<CatchUp> {
        if self.machine.failure.is_some() {
            return self.recovering();
        }
        if let Some(index) = self.machine.restoring {
            return Some(CatchUp::Restoring { index });
        }
        let (applied, until) = (self.applied, self.core.commit().min(self.last_at_start));
        (applied < until).then_some(CatchUp::Replaying { applied, until })
    }

    /// What a state machine that has failed has to catch up with, if it will be back without a
    /// newer version of the program: its snapshot was damaged, and another one is awaited or there.
    pub(in crate::replica) fn recovering(&self) -> Option<CatchUp> {
        self.machine.failure.as_ref()?;
        if let Some(index) = self.machine.restoring {
            return Some(CatchUp::Restoring { index });
        }
        let index = self.core.snapshot()?.index;
        self.core.awaits_readable_snapshot().then_some(CatchUp::AwaitingSnapshot { index })
    }

    /// To be called with every input.
    pub(in crate::replica) fn watch_loading(&mut self) {
        match (self.catching_up(), self.machine.absence) {
            (None, _) => self.machine.absence = Absence::None,
            (Some(_), Absence::None) => {
                let until = self.now.monotonic.after(LOADING_GRACE);
                self.machine.absence = Absence::Grace { until };
            }
            (Some(loading), Absence::Grace { until }) if until <= self.now.monotonic => {
                self.machine.absence = Absence::Refusing;
                self.refuse_loading(loading);
            }
            (Some(_), Absence::Grace { .. } | Absence::Refusing) => {}
        }
    }

    /// When waiting requests are to be refused.
    pub(in crate::replica) fn loading_deadline(&self) -> Option<Time> {
        match self.machine.absence {
            Absence::Grace { until } => Some(until),
            Absence::None | Absence::Refusing => None,
        }
    }

    /// Why a request is not taken now.
    pub(in crate::replica) fn loading_refusal(&self) -> Option<Refusal> {
        if self.machine.absence != Absence::Refusing {
            return None;
        }
        self.catching_up().map(|progress| Refusal::Loading { progress })
    }

    fn refuse_loading(&mut self, progress: CatchUp) {
        let is_idle = |stage| matches!(stage, Stage::Waiting | Stage::Reading | Stage::Querying);
        let idle = self.requests.iter().filter(|(_, pending)| is_idle(pending.stage));
        for key in idle.map(|(key, _)| key).collect::<Vec<_>>() {
            self.finish(key, Outcome::Refused(Refusal::Loading { progress }));
        }
        self.reads.clear();
    }
}
