//! A voter's promises: after its answer to a round it votes for no other candidate for a while.
//! Leases rest on that (`lease`).
//!
//! In memory a promise is the time at which the leader was last heard. A restart forgets that, so
//! the length of the longest promise that may still bind is on the disk, with term and vote, before
//! an answer promises anything; until then answers say "0". A restarted voter waits for exactly
//! that long, whatever its configuration says: a node that votes alone by its own log may have
//! promised something to a leader whose log is longer.
//!
//! ```text
//!  round heard   length durable   answered: 250 ms   killed    started again      may vote
//! ------|--------------|----------------|---------------|-------------|----------------|-----
//!                                       |<-------- 250 ms ------->|   |<--- 250 ms --->|
//! ```
//!
//! A node without a leader has nothing to save, and what an earlier life has saved goes with the
//! next change of term once it is over. So a cluster of one never waits.
//!
//! Apart from promises, a restarted node whose configuration has other voters neither votes nor
//! campaigns for two heartbeat intervals, so that a leader can reach it before.

use std::time::Duration;

use crate::types::{FollowerReport, HardState, NodeId, Time};

use super::election::ElectionCause;
use super::log::Log;
use super::mutants::{Mutant, planted};
use super::{Config, Core};

/// What a node has promised, in this life and in earlier ones.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Promises {
    /// The length that the hard state has, which may not be durable yet.
    saved: Duration,
    /// The length that an earlier life saved, and when it has certainly ended.
    earlier: Duration,
    earlier_until: Time,
    /// From then on a leader has had the time to reach this node after its restart.
    reachable_until: Time,
    /// A leader of this life was promised something.
    has_promised: bool,
}

impl Promises {
    /// What a life begins with. `is_new`: this node has never known a term, nor an entry.
    pub(super) fn after_restart(
        hard_state: &HardState,
        log: &Log,
        config: &Config,
        now: Time,
    ) -> Promises {
        let is_new = hard_state.term.0 == 0 && log.last_index().0 == 0;
        let own = config.election_timeout.min;
        let is_forgetful = planted(Mutant::RestartForgetsPromise);
        let earlier = if is_forgetful { hard_state.promise.min(own) } else { hard_state.promise };
        let is_exempt = planted(Mutant::AloneSkipsRestartWait) && !has_other_voters(log, config.id);
        let wait = if is_exempt { Duration::ZERO } else { earlier };
        let is_reachable = is_new || !has_other_voters(log, config.id);
        let reach = config.heartbeat_interval.saturating_mul(2);
        let is_hasty = is_reachable || planted(Mutant::VoteBeforeReachable);
        Promises {
            saved: hard_state.promise,
            earlier,
            earlier_until: now.after(wait),
            reachable_until: if is_hasty { now } else { now.after(reach) },
            has_promised: false,
        }
    }

    /// When no promise from before the restart binds this node.
    pub(super) fn wait_until(&self) -> Time {
        self.earlier_until.max(self.reachable_until)
    }

    /// The length to be saved, at `now`, for promises of `own` length.
    fn length_to_save(&self, own: Duration, now: Time) -> Duration {
        let made = if self.has_promised { own } else { Duration::ZERO };
        let binds = now < self.earlier_until && !planted(Mutant::EarlierPromiseOverwritten);
        if binds { made.max(self.earlier) } else { made }
    }
}

/// Whether another node than `id` votes by this log.
fn has_other_voters(log: &Log, id: NodeId) -> bool {
    let configuration = log.configuration();
    configuration.voters.union(&configuration.outgoing).any(|&voter| voter != id)
}

impl Core {
    /// Whether this node must grant no vote: it has promised so to its leader, or may have in an
    /// earlier life. An election that the leader asked for is an exception to the first (§3.10).
    pub(super) fn is_bound(&self, cause: ElectionCause) -> bool {
        let is_deposing = self.has_recent_leader() && cause == ElectionCause::Timeout;
        is_deposing || self.is_in_restart_wait()
    }

    /// Whether this node has been awake for less than a promise of an earlier life can last, or
    /// than a leader needs to reach it.
    pub(super) fn is_in_restart_wait(&self) -> bool {
        self.now < self.promises.wait_until() && !planted(Mutant::VoteRightAfterRestart)
    }

    /// What this node writes down before it acts on it.
    pub(super) fn own_hard_state(&self) -> HardState {
        HardState {
            term: self.term,
            vote: self.vote,
            promise: self.promises.saved,
            forgot: self.forgot,
        }
    }

    /// Term or vote are about to be written: a promise that is over need not be written again.
    pub(super) fn drop_old_promise(&mut self) {
        self.promises.saved =
            self.promises.length_to_save(self.config.election_timeout.min, self.now);
    }

    /// A leader was heard. If it wants promises, what is promised to it is saved, unless as much is
    /// already. A leader that wants none is promised nothing: there is nothing to save.
    pub(super) fn save_promise(&mut self, wants_promise: bool) {
        self.following.wants_promise = wants_promise || planted(Mutant::PromiseUnasked);
        if !self.following.wants_promise {
            return;
        }
        self.promises.has_promised = true;
        let length = self.promises.length_to_save(self.config.election_timeout.min, self.now);
        if length > self.promises.saved {
            self.promises.saved = length;
            self.writes.set_promise(self.own_hard_state());
        }
    }

    /// What an answer says of the round that it answers. A voter whose term is not durable yet
    /// could be restarted as if it had never heard of the leader, so it does not even confirm the
    /// round; one whose promise's length is not durable promises nothing yet.
    pub(super) fn follower_report(&self, round: u64) -> FollowerReport {
        let is_hasty = planted(Mutant::PromiseBeforeDurable);
        if !self.writes.is_hard_state_durable() && !is_hasty {
            return self.report_without_round();
        }
        let is_saved = self.writes.is_promise_durable() || is_hasty;
        let is_promised = is_saved && self.following.wants_promise;
        let promise = if is_promised { self.config.election_timeout.min } else { Duration::ZERO };
        FollowerReport { round, promise, ..self.report_without_round() }
    }

    /// What an answer says that answers no round.
    pub(super) fn report_without_round(&self) -> FollowerReport {
        FollowerReport {
            round: 0,
            promise: Duration::ZERO,
            wall: Some(self.wall),
            applied: Some(self.log.applied()),
            durable_sequence: self.durable_sequence,
            has_forgotten: self.forgot.is_some(),
        }
    }
}
