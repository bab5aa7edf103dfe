//! How clients access the state machine: sessions, kinds of reads, and the clocks behind leases.
//!
//! Each kind of read is checked against its own promise. Lease reads are linearizable while the
//! clocks keep the stated bound. In some runs they do not: a lease read may then return an old
//! state, but one that existed; reads confirmed by a majority, and writes, must still be
//! linearizable.

use std::time::Duration;

use super::checks::CheckResult;
use super::checks::leases::{LeaseState, check_exclusive};
use super::clock::WIDE_DRIFT;
use super::mutant::Mutant;
use super::options::{ClientAccessPlan, Plan};
use super::random::Random;
use super::world::World;
use crate::core::{ElectionTimeout, Lease};
use crate::types::{Now, Time};

/// The ratio of the longest to the shortest election timeout, where nodes have different ones.
const TIMEOUT_FACTOR_MAX: u32 = 4;

impl ClientAccessPlan {
    /// Draws from its own random source, so that the rest of a run does not depend on it.
    pub(super) fn draw(seed: u64, plan: &mut Plan) -> ClientAccessPlan {
        let mut random = Random::new(seed ^ 0x6163_6365_7373);
        let kind = random.below(6);
        // Shrinking to one vote tests leases, on clocks that keep the bound.
        let shrinks_to_one_vote =
            plan.operator.as_ref().is_some_and(|operator| operator.shrinks_to_one_vote);
        let kind = if shrinks_to_one_vote { 3 + kind % 2 } else { kind };
        let has_worst_clocks = kind >= 3 && random.chance(5_000);
        if has_worst_clocks {
            plan.drift = WIDE_DRIFT;
        }
        // Leases matter when another leader is elected as early as possible, unnoticed by the old
        // one.
        if kind >= 3 && random.chance(5_000) {
            let shorter = plan.election_timeout.min;
            plan.election_timeout.max = shorter + shorter / 8;
            plan.leader_fails_within = Some(shorter);
        }
        let mut other = Random::new(seed ^ 0x0075_6e65_7175_616c);
        let exceeds_drift_bound = kind == 5 && plan.drift > 0;
        let drift_ppm = if exceeds_drift_bound { 0 } else { plan.drift as u32 };
        ClientAccessPlan {
            lease: (kind >= 3).then_some(Lease::with_drift_ppm(drift_ppm)),
            exceeds_drift_bound,
            unequal_timeouts: (kind >= 3 && other.chance(5_000)).then_some(seed),
            mixed_leases: (kind >= 3 && other.chance(3_000)).then_some(seed),
            has_worst_clocks,
            stale_reads: random.pick(&[0, 0, 3_000]),
            lease_reads: if kind >= 3 { 7_000 } else { random.pick(&[0, 0, 3_000]) },
            clients_with_sessions: random.pick(&[0, 0, 1, 4]),
            ttl_ms: random.pick(&[100, 400, 5_000, 60_000]),
            early_retries: random.pick(&[0, 500, 3_000]),
            closes: random.pick(&[0, 0, 100]),
        }
    }
}

impl World {
    /// The election timeouts of this start of a node.
    pub(super) fn election_timeout(&self, node: usize) -> ElectionTimeout {
        let ElectionTimeout { min: shorter, max: longer } = self.plan.election_timeout;
        let Some(salt) = self.plan.access.unequal_timeouts else {
            return self.plan.election_timeout;
        };
        let life = (node as u64) << 32 ^ self.processes[node].life;
        let times = Random::new(salt.rotate_left(16) ^ life).pick(&[1, 1, 2, TIMEOUT_FACTOR_MAX]);
        ElectionTimeout::new(shorter * times, longer * times)
    }

    /// The lease setting of this start of a node.
    pub(super) fn lease(&self, node: usize) -> Option<Lease> {
        let Some(salt) = self.plan.access.mixed_leases else { return self.plan.access.lease };
        let life = (node as u64) << 32 ^ self.processes[node].life;
        self.plan.access.lease.filter(|_| Random::new(salt.rotate_left(24) ^ life).chance(5_000))
    }

    /// The longest time that any node waits before it campaigns.
    pub(super) fn longest_election_timeout(&self) -> Duration {
        let times =
            if self.plan.access.unequal_timeouts.is_some() { TIMEOUT_FACTOR_MAX } else { 1 };
        self.plan.election_timeout.max * times
    }

    /// Checks that no node has a lease while another leads a later term, if clocks keep the bound.
    pub(super) fn check_leases_exclusive(&self, node: usize) -> CheckResult {
        if self.plan.access.lease.is_none()
            || self.plan.access.exceeds_drift_bound
            || self.amnesia.is_beyond_tolerance
        {
            return Ok(());
        }
        let holder = |place: usize| {
            let running = self.processes[place].running.as_ref()?;
            Some(LeaseState::of(running.replica.core(), self.clock(place)))
        };
        let Some(this) = holder(node) else { return Ok(()) };
        (0..self.plan.nodes)
            .filter_map(holder)
            .filter(|other| other.id != this.id)
            .try_for_each(|other| check_exclusive(this, other))
    }

    /// An old reading of a node's clock, if [`Mutant::StaleClock`] makes the driver use one.
    pub(super) fn stale_clock(&self, node: usize) -> Option<Now> {
        if self.mutant != Some(Mutant::StaleClock) || self.faults_ended {
            return None;
        }
        let earlier =
            self.now.0.saturating_sub(self.plan.election_timeout.min.as_nanos() as u64 / 3);
        Some(self.processes[node].clock.now(Time(earlier)))
    }
}
