//! The follower's side of replication. (For a leader's snapshot see `snapshot`.)

mod append;

use crate::types::{Body, Index};

use super::Core;
use super::mutants::{Mutant, planted};

/// What a follower knows of its leader's log, and what it has acknowledged. Starts over with every
/// term.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Following {
    /// Our log equals this leader's up to here. What follows may be anything, so it is neither
    /// acknowledged nor committed, however far the leader's commit index goes.
    verified: Index,
    /// The leader's latest round that has arrived.
    round: u64,
    /// The leader wants promises with the answers to its rounds.
    pub(super) wants_promise: bool,
    /// What the last acknowledgement said.
    acknowledged: Index,
    acknowledged_round: u64,
    /// Entries arrived that have not been acknowledged, perhaps for the second time.
    must_acknowledge: bool,
}

impl Following {
    /// A message of this round has arrived.
    pub(super) fn note_round(&mut self, round: u64) {
        self.round = self.round.max(round);
    }

    /// The latest round that has arrived.
    pub(super) fn round(&self) -> u64 {
        self.round
    }

    /// Our log equals the leader's up to `index`.
    pub(super) fn verified_to(&mut self, index: Index) {
        self.verified = self.verified.max(index);
    }

    /// An acknowledgement must leave, even if it says nothing new.
    pub(super) fn require_acknowledgement(&mut self) {
        self.must_acknowledge = true;
    }

    /// Whether this round, or a later one, has been answered.
    pub(super) fn is_acknowledged(&self, round: u64) -> bool {
        self.acknowledged_round >= round
    }

    /// Whether no message of this round, or a later one, has arrived yet.
    pub(super) fn is_new_round(&self, round: u64) -> bool {
        round > self.round
    }
}

impl Core {
    /// Tells the leader how far the log is durable: at once when a round is new to us, and again
    /// when a write is done.
    ///
    /// One acknowledgement answers everything before it, and nothing is said before term and log
    /// are on disk. A notice of commitment alone needs no answer.
    pub(super) fn acknowledge(&mut self) {
        let Some(leader) = self.leader.filter(|&leader| leader != self.config.id) else { return };
        if !self.writes.is_hard_state_durable() {
            return;
        }
        let durable = if planted(Mutant::AckBeforeDurable) {
            self.log.last_index()
        } else {
            self.log.durable()
        };
        let matched = self.following.verified.min(durable);
        let following = &mut self.following;
        let is_all_durable = matched == following.verified;
        let is_news =
            following.round > following.acknowledged_round || matched > following.acknowledged;
        let is_owed = following.must_acknowledge && is_all_durable;
        if !is_news && !is_owed {
            return;
        }
        following.must_acknowledge &= !is_all_durable;
        following.acknowledged = matched;
        following.acknowledged_round = following.round;
        let report = self.follower_report(self.following.round);
        self.send(leader, Body::Appended { matched, report });
    }
}
