//! Corrupted states, which digests must detect.
//!
//! Half of the runs take digests often. In some of those the state of one machine is corrupted
//! where no client looks. Its digest must show that within an interval, and the node must restore
//! another state. In all other cases no node may report that states differ.

use super::checks::{CheckResult, check};
use super::event::SimEvent;
use super::fault_counters::FaultCounter;
use super::kv::Kv;
use super::options::{FaultKind, Plan};
use super::random::{DurationRange, Random};
use super::world::World;
use crate::core::Event;
use crate::replica::MachineRunner;
use crate::types::Index;

/// How a state is corrupted in a run.
#[derive(Clone, Debug)]
pub(super) struct StateFaultPlan {
    interval: DurationRange,
}

impl StateFaultPlan {
    /// Sets the interval of digests. Draws from its own random source, so that the rest of a run
    /// does not depend on it.
    pub(super) fn draw(seed: u64, plan: &mut Plan) -> Option<StateFaultPlan> {
        let mut random = Random::new(seed ^ 0x6469_6765_7374_7321);
        plan.limits.digest_interval = random.pick(&[0, 0, 0, 0, 1, 3, 10, 50]);
        // The other nodes must remain a majority.
        let takes_nodes = |kind: &FaultKind| matches!(kind, FaultKind::Rot | FaultKind::Misdirect);
        let is_sure =
            plan.nodes >= 3 && plan.operator.is_none() && !plan.faults.iter().any(takes_nodes);
        let is_on = plan.limits.digest_interval > 0 && plan.feature_level.is_above_base();
        let timeout = plan.election_timeout.max;
        let draw = StateFaultPlan { interval: DurationRange::new(timeout / 2, timeout * 20) };
        (is_sure && is_on && random.chance(6_000)).then_some(draw)
    }
}

impl World {
    pub(super) fn schedule_state_faults(&mut self) {
        if let Some(plan) = &self.plan.digests {
            let pause = self.machine_random.duration_in(plan.interval);
            self.schedule_after(pause, SimEvent::StateFault);
        }
    }

    /// Corrupts the state of one machine, unless one is corrupted already.
    pub(super) fn inject_state_fault(&mut self) {
        let Some(plan) = self.plan.digests.clone().filter(|_| !self.faults_ended) else { return };
        let pause = self.machine_random.duration_in(plan.interval);
        self.schedule_after(pause, SimEvent::StateFault);
        // Always the same node, so that the others are a majority.
        let drawn = self.machine_random.below(self.plan.nodes as u64) as usize;
        let node = *self.corrupted_node.get_or_insert(drawn);
        let process = &mut self.processes[node];
        let may_corrupt = process.corrupted_since.is_none() && !self.has_spread;
        let Some(running) = process.running.as_mut().filter(|_| may_corrupt) else { return };
        // A restore would replace the state before its digest is compared.
        let is_well = running.replica.status().machine_failure.is_none()
            && running.replica.loading_progress().is_none();
        if !is_well || running.machine.has_failed() {
            return;
        }
        running.machine.machine_mut().corrupt_state();
        process.corrupted_since = Some(running.machine.applied());
        self.count_fault(FaultCounter::StateCorrupted);
    }

    /// Whether a node knows that its state differs from a majority's.
    pub(super) fn is_diverged(&self, node: usize) -> bool {
        let running = self.processes[node].running.as_ref();
        running.is_some_and(|running| running.replica.core().divergence().is_some())
    }

    /// A state machine was restored from a snapshot.
    ///
    /// A corrupted state that a snapshot carries to other nodes may become a majority's, and stays
    /// then.
    pub(super) fn on_state_restored(&mut self, node: usize, index: Index, is_corrupt: bool) {
        self.processes[node].corrupted_since = is_corrupt.then_some(index);
        if is_corrupt && self.corrupted_node != Some(node) {
            self.has_spread = true;
            self.count_fault(FaultCounter::StateSpread);
        }
    }

    /// A node reports that states differ.
    pub(super) fn on_states_differ(&self, node: usize, event: Event) -> CheckResult {
        let has_been_corrupted = self.fault_counters().count_of(FaultCounter::StateCorrupted) > 0;
        check(
            has_been_corrupted || self.mutant.is_some(),
            "states are reported to differ only if they do",
            || format!("node {} says {event:?}", node + 1),
        )
    }

    /// A node has stopped because its state differs from a majority's. In some runs its operator
    /// restarts it before it has restored another state.
    pub(super) fn on_state_diverged(&mut self, node: usize) -> CheckResult {
        let is_corrupt = self.processes[node].corrupted_since.is_some();
        check(
            is_corrupt || self.has_spread || self.mutant.is_some(),
            "only a corrupted state is stopped",
            || format!("node {} has stopped", node + 1),
        )?;
        self.count_fault(FaultCounter::StateFound);
        if self.machine_random.chance(3_000) {
            let pause = self.plan.election_timeout.max * self.machine_random.pick(&[1, 6]);
            let life = self.processes[node].life;
            self.schedule_after(pause, SimEvent::Restart { node, life });
        }
        Ok(())
    }

    /// Whether enough nodes with a correct state have taken a digest, as late as this node's last
    /// one, to outvote it. A node that restored a later snapshot has taken none.
    fn is_outvoted(&self, node: usize) -> bool {
        let latest = |node: usize| {
            let running = self.processes[node].running.as_ref()?;
            Some(running.replica.core().status().digests.latest?.index)
        };
        let is_right = |other: &usize| self.processes[*other].corrupted_since.is_none();
        let others = (0..self.plan.nodes).filter(|other| *other != node && is_right(other));
        let later =
            others.filter(|&other| latest(other).is_some_and(|index| Some(index) >= latest(node)));
        later.count() > self.plan.nodes / 2
    }

    /// Whether a machine has the state that the committed commands give.
    ///
    /// A corrupted one need not have it before it and a majority have taken the next digest.
    pub(super) fn has_expected_state(&self, node: usize, machine: &MachineRunner<Kv>) -> bool {
        let interval = self.plan.limits.digest_interval.max(1);
        let is_unseen = |since: Index| since.0 / interval == machine.applied().0 / interval;
        let corrupted_since = self.processes[node].corrupted_since;
        let is_undecided =
            corrupted_since.is_some_and(|since| is_unseen(since) || !self.is_outvoted(node));
        let may_be_wrong = self.has_spread || is_undecided;
        match may_be_wrong && !machine.has_failed() {
            true => self.checks.is_corrected_reference(machine),
            false => self.checks.is_reference(machine),
        }
    }
}
