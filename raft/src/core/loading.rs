//! Loading: a state machine restores a snapshot, or applies again what the log held at the start.
//!
//! Such a node commits and answers nothing. So it lets others campaign first, and if it leads for
//! [`Config::backlog_timeout`](super::Config::backlog_timeout), it hands over to a voter that has
//! applied what it has yet to load:
//!
//! ```text
//!  leader   snapshot 400, restoring      commit 900     answers nothing
//!  node 2   reports 900, matched 900                    answers: leadership goes there
//!  node 3   reports 0, matched 900                      restores its own snapshot
//! ```
//!
//! It campaigns later, though not never: where all nodes load, or the only node with an entry that
//! may be committed does, one of them has to lead (`core/tests/loading.rs`).

use crate::types::{Index, NodeId};

use super::mutants::{Mutant, planted};
use super::{Action, Core, Event};

/// Election timeouts that a node lets pass while it loads: the others campaign within one, and once
/// more if the votes are split.
const DEFERRED_MAX: u32 = 2;

/// What this node's state machine has to catch up with, and how long the node has left elections to
/// others for that.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Loading {
    /// The last index of the log that this life began with.
    last_at_start: Index,
    /// Election timeouts that have passed since a leader was heard.
    deferred: u32,
}

impl Loading {
    pub(super) fn new(last_at_start: Index) -> Loading {
        Loading { last_at_start, deferred: 0 }
    }

    /// A leader was heard.
    pub(super) fn reset_deferral(&mut self) {
        self.deferred = 0;
    }

    /// No other node can lead before this one has given its entries away.
    pub(super) fn stop_deferring(&mut self) {
        self.deferred = DEFERRED_MAX;
    }
}

impl Core {
    /// What has to be applied before this node answers.
    fn loading_target(&self) -> Index {
        self.log.snapshot_index().max(self.log.commit().min(self.loading.last_at_start))
    }

    /// Whether the state machine takes the state of a snapshot, or applies again what the log held
    /// at the start.
    #[must_use]
    pub fn is_loading(&self) -> bool {
        self.log.applied() < self.loading_target()
    }

    /// Whether this node has the only vote, by the configuration in force.
    fn is_sole_voter(&self) -> bool {
        let configuration = self.log.configuration();
        let is_alone = configuration.voters.len() == 1 && configuration.outgoing.is_empty();
        is_alone && configuration.voters.contains(&self.config.id)
    }

    /// At an election timeout: leaves the election to others for now if this node loads, and has
    /// not done so too often. Returns whether it does.
    pub(super) fn defer_campaign(&mut self) -> bool {
        if !self.is_loading() || self.is_sole_voter() || planted(Mutant::LoadingCampaigns) {
            return false;
        }
        let may_defer = self.loading.deferred < DEFERRED_MAX;
        self.loading.deferred = (self.loading.deferred + 1).min(DEFERRED_MAX);
        may_defer || planted(Mutant::LoadingNeverCampaigns)
    }

    /// Whether it is known that a node with this report would answer for a loading leader.
    pub(super) fn reaches_loading_target(&self, applied: Option<Index>) -> bool {
        !self.is_loading() || applied.is_some_and(|applied| applied >= self.loading_target())
    }

    /// Whether a node's report says that it is restoring a snapshot: it reports nothing of it
    /// before that is done. A voter that lags by more than this leader's newest snapshot looks the
    /// same, and is of no more use as a leader.
    pub(super) fn reports_loading(&self, applied: Option<Index>) -> bool {
        applied.is_some_and(|applied| applied < self.log.snapshot_index())
    }

    /// Reports that this leader has been over the bound, or loading, for too long.
    pub(super) fn report_backlogged(&mut self, to: Option<NodeId>) {
        let event = match (self.is_loading(), self.backlog_bytes()) {
            (true, _) => Event::LeaderLoading { to },
            (false, backlog_bytes) => Event::Backlogged { backlog_bytes, to },
        };
        self.actions.push_back(Action::Event(event));
    }
}
