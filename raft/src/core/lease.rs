//! Lease reads: a leader answers at once while no other can have been elected (§6.4.1).
//!
//! A voter that answers a round heard the leader when it was sent, or later. Its answer promises to
//! vote for no other candidate for its own shorter election timeout ([`Core::is_bound`]), and
//! states how long that is, because nodes may have different ones. While the promises of a quorum
//! last, a candidate needs the vote of one of those who made them. The leader counts from the
//! moment at which the round was *sent*, which is at or before the start of every promise, and
//! allows for clocks that run apart by the stated bound:
//!
//! ```text
//!  leader     sent 7        a quorum has answered 7              lease ends
//!  ----------|------------------|-------------------------------|--------------------
//!  voter 2     heard 7 |==============================================| free
//!  voter 3        heard 7 |=========================================================| free
//!             the promises: the voter's shorter election timeout, on a clock that may be fast
//! ```
//!
//! With every clock's speed between `1 - d` and `1 + d`: a promise of `T` lasts at least `T / (1 +
//! d)` of true time, and the leader counts on `T * (1 - d) / (1 + d)` of its own clock, which is at
//! most as long. Its lease lasts as long as a quorum is bound: of the ends of all voters' promises
//! it is the latest that a quorum reaches. The leader itself grants no vote while it leads.
//!
//! A lease ends when its leader steps down. A leader has none before it has committed an entry of
//! its own term, nor after it has asked another node to campaign, nor while it is no voter. What
//! binds a voter after a restart: `promise`.

use std::collections::VecDeque;
use std::time::Duration;

use crate::types::{FollowerReport, Time};

use super::mutants::{Mutant, planted};
use super::quorum::agreed;
use super::reads::{Certainty, ReadOrigin};
use super::{Config, Core, ReadError, ReadId, RoleState};

/// The most rounds whose times are kept.
const ROUNDS_MAX: usize = 64;

/// A round and the time at which it was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct SentRound {
    round: u64,
    sent: Time,
}

/// What a leader knows of its lease.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct LeaderLease {
    /// When rounds were sent, in their order: of those that a quorum has answered only the latest.
    rounds: VecDeque<SentRound>,
    /// It holds before this.
    until: Time,
}

impl LeaderLease {
    /// A round is about to be sent.
    pub(super) fn sent(&mut self, round: u64, now: Time, config: &Config) {
        if config.lease.is_none() {
            return;
        }
        if self.rounds.len() == ROUNDS_MAX {
            // Every second one is dropped: an answer to it counts from when the one before was
            // sent.
            let mut place = 0;
            self.rounds.retain(|_| {
                place += 1;
                place % 2 == 1
            });
        }
        self.rounds.push_back(SentRound { round, sent: now });
    }

    /// Until when the sender of this report votes for no other candidate, as far as this leader may
    /// rely on it.
    pub(super) fn bound_until(&self, report: &FollowerReport, now: Time, config: &Config) -> Time {
        let sent = self.rounds.iter().rev().find(|sent| sent.round <= report.round);
        let promise = if planted(Mutant::LeaseIgnoresPromise) {
            config.election_timeout.min
        } else {
            report.promise
        };
        match (sent, counted(promise, config)) {
            (Some(_), Some(length)) if planted(Mutant::LeaseFromAcknowledgementTime) => {
                now.after(length)
            }
            (Some(&SentRound { sent, .. }), Some(length)) => sent.after(length),
            _ => Time(0),
        }
    }

    /// A quorum has answered this round, or a later one: the times of earlier rounds no longer
    /// matter.
    fn forget_before(&mut self, round: u64) {
        while self.rounds.get(1).is_some_and(|next| next.round <= round) {
            self.rounds.pop_front();
        }
    }
}

/// How much of a promise a leader may count on, by its own clock; `None` if there are no leases.
fn counted(promise: Duration, config: &Config) -> Option<Duration> {
    let drift_ppm = u128::from(config.lease?.drift_ppm);
    if planted(Mutant::LeaseIgnoresDrift) {
        return Some(promise);
    }
    let nanos =
        promise.as_nanos() * 1_000_000_u128.saturating_sub(drift_ppm) / (1_000_000 + drift_ppm);
    Some(Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX)))
}

impl Core {
    /// Whether this leader may answer reads from its own commit index, now.
    pub(super) fn holds_lease(&self) -> bool {
        let is_valid = self.now < self.lease.until;
        match &self.state {
            RoleState::Leader(leading) => {
                let is_known = self.log.commit() >= leading.first_index
                    || planted(Mutant::ReadBeforeTermCommit);
                let is_kept = !leading.has_sent_timeout_now || planted(Mutant::LeaseAfterTransfer);
                let is_voter = self.log.configuration().is_voter(self.config.id)
                    || planted(Mutant::LeaseOfNoVoter);
                is_valid && is_known && is_kept && is_voter
            }
            _ => is_valid && planted(Mutant::LeaseSurvivesStepDown),
        }
    }

    /// When the lease ends, if this node leads and has one now.
    #[must_use]
    pub fn lease_until(&self) -> Option<Time> {
        self.holds_lease().then_some(self.lease.until)
    }

    /// A quorum has answered this round, or a later one; its voters may have made promises.
    pub(super) fn renew_lease(&mut self, answered: u64) {
        let RoleState::Leader(leading) = &self.state else { return };
        let Some(own) = counted(self.config.election_timeout.min, &self.config) else { return };
        self.lease.forget_before(answered);
        let (id, own_until) = (self.config.id, self.now.after(own));
        let until = |node| match leading.progress.get(&node) {
            _ if node == id => own_until,
            Some(progress) => progress.bound_until,
            None => Time(0),
        };
        let until = agreed(self.log.configuration(), until).unwrap_or_default();
        let earlier =
            if planted(Mutant::LeaseSurvivesConfiguration) { self.lease.until } else { Time(0) };
        self.lease.until = until.max(earlier);
    }

    /// The configuration has changed: the voters whose promises made the lease need not be a quorum
    /// of it. A quorum of the new one makes another lease ([`Core::renew_lease`]).
    pub(super) fn void_lease(&mut self) {
        if !planted(Mutant::LeaseSurvivesConfiguration) {
            self.lease.until = Time(0);
        }
    }

    /// This node becomes leader or steps down.
    pub(super) fn end_lease(&mut self) {
        if !planted(Mutant::LeaseSurvivesStepDown) {
            self.lease = LeaderLease::default();
        }
    }

    pub(super) fn request_lease_read(&mut self, id: ReadId) -> Result<(), ReadError> {
        if self.holds_lease() {
            let index = self.log.commit();
            self.answer_read(ReadOrigin::Own(id), index);
            return Ok(());
        }
        self.request_read_index(id, Certainty::Lease)
    }
}
