//! Digests of the state: taken often in half of the runs. In a part of those the state of one
//! machine goes wrong, where no client looks; its digest must show that within an interval, and the
//! node must get another state. Nowhere else may a node say that states differ.

use std::time::Duration;

use super::checks::{Verdict, check};
use super::event::SimEvent;
use super::fault_counters::FaultCounter;
use super::kv::Kv;
use super::options::{FaultKind, Plan};
use super::random::Random;
use super::world::World;
use crate::core::Event;
use crate::replica::MachineRunner;
use crate::types::Index;

/// How a state goes wrong in a run.
#[derive(Clone, Debug)]
pub(super) struct DigestPlan {
    interval: (Duration, Duration),
}

impl DigestPlan {
    /// Sets how often digests are taken. Draws from a source of chance of its own, so that the rest
    /// of a run is what it would be without.
    pub(super) fn draw(seed: u64, plan: &mut Plan) -> Option<DigestPlan> {
        let mut random = Random::new(seed ^ 0x6469_6765_7374_7321);
        plan.limits.digest_interval = random.pick(&[0, 0, 0, 0, 1, 3, 10, 50]);
        // The others must be a majority that stays.
        let takes_nodes = |kind: &FaultKind| matches!(kind, FaultKind::Rot | FaultKind::Misdirect);
        let is_sure =
            plan.nodes >= 3 && plan.churn.is_none() && !plan.faults.iter().any(takes_nodes);
        let is_on = plan.limits.digest_interval > 0 && plan.feature_level.is_above_base();
        let timeout = plan.election_timeout.max;
        let draw = DigestPlan { interval: (timeout / 2, timeout * 20) };
        (is_sure && is_on && random.chance(6_000)).then_some(draw)
    }
}

impl World {
    pub(super) fn begin_state_faults(&mut self) {
        if let Some(plan) = &self.plan.digests {
            let pause = self.machine_random.duration(plan.interval);
            self.after(pause, SimEvent::StateFault);
        }
    }

    /// The state of one machine goes wrong, unless one is wrong already.
    pub(super) fn state_fault(&mut self) {
        let Some(plan) = self.plan.digests.clone().filter(|_| !self.calm) else { return };
        let pause = self.machine_random.duration(plan.interval);
        self.after(pause, SimEvent::StateFault);
        // Always the same one, so that the others are a majority.
        let drawn = self.machine_random.below(self.plan.nodes as u64) as usize;
        let node = *self.wrong_node.get_or_insert(drawn);
        let process = &mut self.processes[node];
        let may_go_wrong = process.wrong_since.is_none() && !self.has_spread;
        let Some(running) = process.running.as_mut().filter(|_| may_go_wrong) else { return };
        // What is restored would take its place before anybody sees it.
        let is_well = running.replica.status().machine_failure.is_none()
            && running.replica.loading_progress().is_none();
        if !is_well || running.machine.has_failed() {
            return;
        }
        running.machine.machine_mut().corrupt_state();
        process.wrong_since = Some(running.machine.applied());
        self.count_fault(FaultCounter::StateWrong);
    }

    /// Whether a node knows that its state is not that of a majority.
    pub(super) fn is_diverged(&self, node: usize) -> bool {
        let running = self.processes[node].running.as_ref();
        running.is_some_and(|running| running.replica.core().divergence().is_some())
    }

    /// A state machine has the state of a snapshot. A wrong one that a snapshot has carried to
    /// another node may be that of a majority: then it stays.
    pub(super) fn state_restored(&mut self, node: usize, index: Index, is_corrupt: bool) {
        self.processes[node].wrong_since = is_corrupt.then_some(index);
        if is_corrupt && self.wrong_node != Some(node) {
            self.has_spread = true;
            self.count_fault(FaultCounter::StateSpread);
        }
    }

    /// A node says that states differ.
    pub(super) fn states_differ(&self, node: usize, event: Event) -> Verdict {
        let has_gone_wrong = self.fault_counters().count_of(FaultCounter::StateWrong) > 0;
        check(
            has_gone_wrong || self.mutant.is_some(),
            "states are not said to differ that do not",
            || format!("node {} says {event:?}", node + 1),
        )
    }

    /// A node has stopped because its state is not that of a majority. In some runs its operator
    /// starts it again before it has got another state.
    pub(super) fn state_found(&mut self, node: usize) -> Verdict {
        let is_corrupt = self.processes[node].wrong_since.is_some();
        check(
            is_corrupt || self.has_spread || self.mutant.is_some(),
            "only a wrong state is stopped",
            || format!("node {} has stopped", node + 1),
        )?;
        self.count_fault(FaultCounter::StateFound);
        if self.machine_random.chance(3_000) {
            let pause = self.plan.election_timeout.max * self.machine_random.pick(&[1, 6]);
            let life = self.processes[node].life;
            self.after(pause, SimEvent::Restart { node, life });
        }
        Ok(())
    }

    /// Whether so many nodes whose state is right have taken a digest as late as this node's last
    /// one that they outvote it. One that restored a later snapshot has taken none.
    fn is_outvoted(&self, node: usize) -> bool {
        let latest = |node: usize| {
            let running = self.processes[node].running.as_ref()?;
            Some(running.replica.core().status().digests.latest?.index)
        };
        let is_right = |other: &usize| self.processes[*other].wrong_since.is_none();
        let others = (0..self.plan.nodes).filter(|other| *other != node && is_right(other));
        let later =
            others.filter(|&other| latest(other).is_some_and(|index| Some(index) >= latest(node)));
        later.count() > self.plan.nodes / 2
    }

    /// Whether a machine is what the committed commands make. One whose state is wrong need not be
    /// before it has come to the next digest, and a majority has.
    pub(super) fn is_as_it_should_be(&self, node: usize, machine: &MachineRunner<Kv>) -> bool {
        let interval = self.plan.limits.digest_interval.max(1);
        let is_unseen = |since: Index| since.0 / interval == machine.applied().0 / interval;
        let wrong_since = self.processes[node].wrong_since;
        let is_undecided =
            wrong_since.is_some_and(|since| is_unseen(since) || !self.is_outvoted(node));
        let may_be_wrong = self.has_spread || is_undecided;
        match may_be_wrong && !machine.has_failed() {
            true => self.checks.is_corrected_reference(machine),
            false => self.checks.is_reference(machine),
        }
    }
}
