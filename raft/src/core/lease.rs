//! Lease reads: a leader answers at once while no other can have been elected (§6.4.1).
//!
//! Whoever answers a round has heard the leader when it was sent, or later, and promises by that to help nobody else into
//! office for the shorter election timeout ([`Core::is_bound`]). So, while the promises of a quorum last, whoever is elected
//! needs one of those who made them. The leader counts from the moment at which the round was *sent*, for that is all that
//! it knows of when the promises began, and allows for clocks that run apart by the stated bound:
//!
//! ```text
//!  leader     sent 7        a quorum has answered 7                    lease ends
//!  ----------|------------------|-------------------------------------|--------------------
//!  voter 2     heard 7 |==========================================================| free
//!  voter 3        heard 7 |==========================================================| free
//!             the promises: one shorter election timeout each, on a clock that may be too fast
//! ```
//!
//! With every clock's speed between `1 - d` and `1 + d`: a promise lasts at least `T / (1 + d)` of true time, and a lease of
//! `T * (1 - d) / (1 + d)` on the leader's clock at most as long.
//!
//! A lease ends with the office. A leader has none before it has committed an entry of its own term, nor after it has asked
//! another node to campaign, nor while it is no voter. A restarted voter does not know what it has promised, so it keeps
//! still for as long as a promise can last ([`Core::is_in_restart_wait`]).

use std::collections::VecDeque;
use std::time::Duration;

use crate::types::Time;

use super::mutants::{Mutant, planted};
use super::reads::Asker;
use super::{Config, Core, ReadError, ReadId, State};

/// The most rounds whose times are kept. A round that finds no room makes no lease; a later one will.
const ROUNDS_MAX: usize = 64;

/// What a leader knows of its lease.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct LeaderLease {
    /// The rounds that a quorum has not answered, and when each was sent.
    rounds: VecDeque<(u64, Time)>,
    /// It holds before this.
    until: Time,
}

impl LeaderLease {
    /// A round is about to be sent.
    pub(super) fn sent(&mut self, round: u64, now: Time, config: &Config) {
        let Some(length) = length(config) else { return };
        while self.rounds.pop_front_if(|&mut (_, sent)| sent.after(length) <= now).is_some() {}
        if self.rounds.len() < ROUNDS_MAX {
            self.rounds.push_back((round, now));
        }
    }

    /// A quorum has answered this round, or a later one.
    pub(super) fn answered(&mut self, round: u64, now: Time, config: &Config) {
        let Some(length) = length(config) else { return };
        while let Some((_, sent)) = self.rounds.pop_front_if(|&mut (number, _)| number <= round) {
            let from = if planted(Mutant::LeaseFromAcknowledgementTime) { now } else { sent };
            self.until = from.after(length);
        }
    }
}

/// How long a lease lasts; `None` if there are none.
fn length(config: &Config) -> Option<Duration> {
    let drift_ppm = u128::from(config.lease?.drift_ppm);
    let nanos = config.election_timeout.0.as_nanos();
    if planted(Mutant::LeaseIgnoresDrift) {
        return Some(config.election_timeout.0);
    }
    let nanos = nanos * 1_000_000_u128.saturating_sub(drift_ppm) / (1_000_000 + drift_ppm);
    Some(Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX)))
}

impl Core {
    /// Whether this leader may answer reads from its own commit index, now.
    pub(super) fn holds_lease(&self) -> bool {
        let is_valid = self.now < self.lease.until;
        match &self.state {
            State::Leader(leading) => {
                let is_known = self.log.commit() >= leading.first_index || planted(Mutant::ReadBeforeTermCommit);
                let is_kept = !leading.has_told || planted(Mutant::LeaseAfterTransfer);
                let is_voter = self.log.configuration().is_voter(self.config.id) || planted(Mutant::LeaseOfNoVoter);
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

    /// The configuration is another one: those whose promises made the lease need not be a quorum of it.
    pub(super) fn void_lease(&mut self) {
        if !planted(Mutant::LeaseSurvivesConfiguration) {
            self.lease.until = Time(0);
        }
    }

    /// The term of office begins or ends.
    pub(super) fn end_lease(&mut self) {
        if !planted(Mutant::LeaseSurvivesStepDown) {
            self.lease = LeaderLease::default();
        }
    }

    pub(super) fn ask_lease_read(&mut self, id: ReadId) -> Result<(), ReadError> {
        if self.holds_lease() {
            let index = self.log.commit();
            self.answer_read(Asker::Own(id), index);
            return Ok(());
        }
        self.ask_read_index(id, true)
    }

    /// Whether this node may not help anybody into office, because it has promised its leader so, or may have in an
    /// earlier life. What a leader asks for itself is an exception to the first (§3.10).
    pub(super) fn is_bound(&self, is_transfer: bool) -> bool {
        let is_deposing = self.hears_leader() && !is_transfer;
        is_deposing || self.is_in_restart_wait()
    }

    /// Whether this node has been awake for less than a promise of an earlier life can last.
    pub(super) fn is_in_restart_wait(&self) -> bool {
        self.now < self.restart_wait_until && !planted(Mutant::VoteRightAfterRestart)
    }
}
