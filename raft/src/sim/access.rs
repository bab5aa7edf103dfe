//! How clients reach the state machine in a run: with sessions or without, by which kinds of reads,
//! and how good the clocks are that lease reads rest on.
//!
//! Each kind of read is held to its own promise. Lease reads are linearizable as long as the clocks
//! keep the stated bound; in some runs they do not, and then a lease read may be old, though never
//! anything that was not, while reads by a majority's word, and writes, must hold as ever.

use std::time::Duration;

use super::checks::Verdict;
use super::checks::leases::{Holder, is_exclusive};
use super::clock::WIDE_DRIFT;
use super::mutant::Mutant;
use super::options::{AccessPlan, Plan};
use super::random::Random;
use super::world::World;
use crate::core::{ElectionTimeout, Lease};
use crate::types::{Now, Time};

/// Where election timeouts are unequal, the longest are so many times the shortest.
const TIMEOUT_FACTOR_MAX: u32 = 4;

impl AccessPlan {
    /// Decides by itself, so that everything else in a run is what it would be.
    pub(super) fn draw(seed: u64, plan: &mut Plan) -> AccessPlan {
        let mut random = Random::new(seed ^ 0x6163_6365_7373);
        let kind = random.below(6);
        // Where the votes shrink to one it is leases that are tried, on clocks that keep the bound.
        let shrinks = plan.churn.as_ref().is_some_and(|churn| churn.shrinks);
        let kind = if shrinks { 3 + kind % 2 } else { kind };
        let has_worst_clocks = kind >= 3 && random.chance(5_000);
        if has_worst_clocks {
            plan.drift = WIDE_DRIFT;
        }
        // Leases matter where another leader is elected as soon as may be, while the old one does
        // not know.
        if kind >= 3 && random.chance(5_000) {
            let shorter = plan.election_timeout.min;
            plan.election_timeout.max = shorter + shorter / 8;
            plan.falls_within = Some(shorter);
        }
        let mut other = Random::new(seed ^ 0x0075_6e65_7175_616c);
        let is_beyond = kind == 5 && plan.drift > 0;
        let drift_ppm = if is_beyond { 0 } else { plan.drift as u32 };
        AccessPlan {
            lease: (kind >= 3).then_some(Lease::with_drift_ppm(drift_ppm)),
            is_beyond,
            unequal_timeouts: (kind >= 3 && other.chance(5_000)).then_some(seed),
            mixed_leases: (kind >= 3 && other.chance(3_000)).then_some(seed),
            has_worst_clocks,
            stale_reads: random.pick(&[0, 0, 3_000]),
            lease_reads: if kind >= 3 { 7_000 } else { random.pick(&[0, 0, 3_000]) },
            with_sessions: random.pick(&[0, 0, 1, 4]),
            ttl_ms: random.pick(&[100, 400, 5_000, 60_000]),
            impatience: random.pick(&[0, 500, 3_000]),
            closes: random.pick(&[0, 0, 100]),
        }
    }
}

impl World {
    /// The election timeouts of a node in this life.
    pub(super) fn election_timeout(&self, node: usize) -> ElectionTimeout {
        let ElectionTimeout { min: shorter, max: longer } = self.plan.election_timeout;
        let Some(salt) = self.plan.access.unequal_timeouts else {
            return self.plan.election_timeout;
        };
        let life = (node as u64) << 32 ^ self.processes[node].life;
        let times = Random::new(salt.rotate_left(16) ^ life).pick(&[1, 1, 2, TIMEOUT_FACTOR_MAX]);
        ElectionTimeout::new(shorter * times, longer * times)
    }

    /// Whether, and with which bound on clocks, a node wants leases in this life.
    pub(super) fn lease(&self, node: usize) -> Option<Lease> {
        let Some(salt) = self.plan.access.mixed_leases else { return self.plan.access.lease };
        let life = (node as u64) << 32 ^ self.processes[node].life;
        self.plan.access.lease.filter(|_| Random::new(salt.rotate_left(24) ^ life).chance(5_000))
    }

    /// The longest that any node may wait before it campaigns.
    pub(super) fn longest_election_timeout(&self) -> Duration {
        let times =
            if self.plan.access.unequal_timeouts.is_some() { TIMEOUT_FACTOR_MAX } else { 1 };
        self.plan.election_timeout.max * times
    }

    /// Where the clocks keep the stated bound: nobody has a lease while another leads a later term.
    pub(super) fn check_leases_exclusive(&self, node: usize) -> Verdict {
        if self.plan.access.lease.is_none()
            || self.plan.access.is_beyond
            || self.forgetting.is_worse
        {
            return Ok(());
        }
        let holder = |place: usize| {
            let running = self.processes[place].running.as_ref()?;
            Some(Holder::of(running.replica.core(), self.clock(place)))
        };
        let Some(this) = holder(node) else { return Ok(()) };
        (0..self.plan.nodes)
            .filter_map(holder)
            .filter(|other| other.id != this.id)
            .try_for_each(|other| is_exclusive(this, other))
    }

    /// What a node's clock said a good while ago, if that is what the driver takes for the time
    /// ([`Mutant::StaleClock`]).
    pub(super) fn stale_clock(&self, node: usize) -> Option<Now> {
        if self.mutant != Some(Mutant::StaleClock) || self.calm {
            return None;
        }
        let earlier =
            self.now.0.saturating_sub(self.plan.election_timeout.min.as_nanos() as u64 / 3);
        Some(self.processes[node].clock.now(Time(earlier)))
    }
}
