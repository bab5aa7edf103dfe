//! Wall clocks that are a day wrong, and their effect on log time.
//!
//! In some runs a minority of the clocks is a day ahead or behind, for three seconds or to the end.
//! The others are right, apart from drift. While a majority of the voters of every configuration so
//! far has clocks that were always right, stamps must stay between the readings of right clocks.
//! Drift, and delays below, are tolerated.

use std::time::Duration;

use super::checks::{CheckResult, check};
use super::clock::WallError;
use super::fault_counters::{FaultCounter, FaultCounters};
use super::mutant::Mutant;
use super::options::{FaultKind, Plan};
use super::process::Process;
use super::random::Random;
use super::world::World;
use crate::types::{NodeId, Payload, Write};
use crate::wire::Version;

const DAY_MS: i64 = 86_400_000;

/// The largest initial difference between right clocks in such a run, in milliseconds.
const SKEW_MS: u64 = 100;

/// The most that log time may be late, in milliseconds.
///
/// Messages that are delayed by elections, and paused leaders, delay it, and it takes as long again
/// to catch up.
const LATE_MS: u64 = 15_000;

/// Makes clocks wrong in half of the runs in which none jumps.
pub(super) fn draw_errors(seed: u64, plan: &Plan, processes: &mut [Process]) {
    let mut random = Random::new(seed ^ 0x0077_616c_6c73);
    if plan.faults.contains(&FaultKind::ClockJump) || random.chance(5_000) {
        return;
    }
    for process in &mut *processes {
        let clock = &mut process.clock;
        clock.true_offset = 1_700_000_000_000 + clock.true_offset % SKEW_MS;
        clock.wall_offset = clock.true_offset;
    }
    let most = (processes.len() - 1) / 2;
    for _ in 0..most {
        let place = random.below(processes.len() as u64) as usize;
        let from =
            crate::types::Time(0).after(random.duration(Duration::ZERO, Duration::from_secs(3)));
        let lasts = if random.chance(5_000) { Duration::from_secs(3) } else { Duration::MAX };
        let by_ms = if random.chance(5_000) { DAY_MS } else { -DAY_MS };
        processes[place].clock.wall_error =
            Some(WallError { from, until: from.after(lasts), by_ms });
    }
}

/// The clocks that count as right.
#[derive(Clone, Copy, PartialEq, Eq)]
enum ClockSet {
    All,
    /// Those that the leader knows.
    Known,
}

impl World {
    /// Counts the clocks that have been a day wrong.
    pub(super) fn count_wall_errors(&self, fault_counters: &mut FaultCounters) {
        let wrong = |process: &&Process| {
            process.clock.wall_error.is_some_and(|error| error.from <= self.now)
        };
        (0..self.processes.iter().filter(wrong).count())
            .for_each(|_| fault_counters.count(FaultCounter::ClockWrong));
    }

    /// Whether most voters of this leader's configuration have clocks that were always right.
    ///
    /// With [`ClockSet::Known`] only clocks that the leader knows count as right.
    fn are_most_clocks_right(&self, node: usize, set: ClockSet) -> bool {
        let Some(running) = &self.processes[node].running else { return false };
        let core = running.replica.core();
        let (configuration, status) = (core.configuration(), core.status());
        let is_known = |id: NodeId| {
            id == core.id() || status.peers.iter().any(|peer| peer.id == id && peer.wall.is_some())
        };
        let is_right = |id: &NodeId| {
            let process = self.processes.get((id.0 as usize).wrapping_sub(1));
            let was_right = process.is_some_and(|process| !process.clock.was_wrong_by(self.now));
            was_right && (set == ClockSet::All || is_known(*id))
        };
        let is_most = |half: &std::collections::BTreeSet<NodeId>| {
            half.is_empty() || half.iter().filter(|&id| is_right(id)).count() * 2 > half.len()
        };
        // Nodes of an older version do not report their clocks, so the leader knows only its own.
        let is_blind = self.plan.wire < Version::NEWEST && self.plan.nodes > 1;
        let any_wrong = self.processes.iter().any(|process| process.clock.was_wrong_by(self.now));
        is_most(&configuration.voters)
            && is_most(&configuration.outgoing)
            && !(is_blind && any_wrong)
    }

    /// Checks that a leader's stamps are close to the readings of right clocks.
    pub(super) fn check_log_time(&mut self, node: usize, write: &Write) -> CheckResult {
        let Some(running) = &self.processes[node].running else { return Ok(()) };
        let core = running.replica.core();
        let made =
            write.entries.last().filter(|entry| core.is_leader() && entry.term == core.term());
        let Some(stamp) = made.map(|entry| entry.stamp.0) else { return Ok(()) };
        let has_target = core.status().log_time.is_some_and(|status| status.target.is_some());
        self.has_wrong_majority |= !self.are_most_clocks_right(node, ClockSet::All);
        // The check of leases detects a driver that reads its clocks too early.
        if self.has_wrong_majority || self.mutant == Some(Mutant::StaleClock) {
            return Ok(());
        }
        let walls = self.processes.iter().map(|process| process.clock.true_wall(self.now));
        let (least, greatest) =
            walls.fold((u64::MAX, 0), |(least, most), wall| (least.min(wall), most.max(wall)));
        // One clock may be too fast and another too slow.
        let drift = self.now.0 / 1_000_000 * self.plan.drift * 3 / 1_000_000 + 10;
        let is_late = has_target && stamp + LATE_MS + drift < least;
        // While some voters are silent, a wrong clock may be half of the known ones. The voters of
        // the previous configuration have stamped an entry that brings a configuration.
        let brings_configuration =
            write.entries.iter().any(|entry| matches!(entry.payload, Payload::Configuration(_)));
        self.has_unknown_clocks |=
            is_late && (brings_configuration || !self.are_most_clocks_right(node, ClockSet::Known));
        let is_late = is_late && !self.has_unknown_clocks;
        check(
            stamp <= greatest + drift && !is_late,
            "log time follows most of the wall clocks",
            || {
                format!(
                    "node {} stamps {stamp}; right clocks show {least} to {greatest}, +- {drift}",
                    node + 1
                )
            },
        )
    }
}
