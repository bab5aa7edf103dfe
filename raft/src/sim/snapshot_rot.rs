//! Bit rot in a snapshot that a node needs.
//!
//! In some runs a bit flips in the content of one node's newest snapshot, after the log before it
//! was compacted, and the node restarts. It must start, vote and acknowledge, and receive another
//! snapshot. General bit rot (`FaultKind::Rot`) causes this in only one of some thousand runs. This
//! fault draws from its own random source, so that other runs do not depend on it.

use std::time::Duration;

use super::event::SimEvent;
use super::faults::CrashCause;
use super::options::Plan;
use super::random::Random;
use super::world::World;

/// The schedule of this fault.
#[derive(Debug)]
pub(super) struct SnapshotRot {
    random: Random,
    is_over: bool,
}

impl SnapshotRot {
    pub(super) fn new(seed: u64) -> SnapshotRot {
        SnapshotRot { random: Random::new(seed ^ 0x726f_7474_656e_2e73), is_over: false }
    }

    /// Draws whether this run has the fault: one run in [`RUNS_PER_FAULT`] of those without
    /// conflicting faults.
    ///
    /// Corrupted states and membership changes need the other nodes as a majority, put-back folders
    /// have unknown contents, and a failing state machine would hide the effect.
    fn draw_enabled(&mut self, plan: &Plan) -> bool {
        let takes_snapshots = plan.limits.snapshot_every_bytes < 1 << 20;
        let is_calm = plan.operator.is_none() && plan.machines.is_none() && plan.digests.is_none();
        let may_have_it = plan.nodes >= 3 && takes_snapshots && is_calm && plan.amnesia.is_none();
        self.random.below(RUNS_PER_FAULT) == 0 && may_have_it
    }

    fn pause(&mut self, plan: &Plan) -> Duration {
        self.random.duration(plan.election_timeout.max, plan.election_timeout.max * 10)
    }
}

const RUNS_PER_FAULT: u64 = 4;

impl World {
    pub(super) fn schedule_snapshot_rot(&mut self) {
        if self.snapshot_rot.draw_enabled(&self.plan) {
            let pause = self.snapshot_rot.pause(&self.plan);
            self.schedule_after(pause, SimEvent::SnapshotRots);
        }
    }

    /// Damages the snapshot of a node whose log is compacted and whose disk may be damaged, if
    /// there is one, and otherwise tries again later.
    pub(super) fn inject_snapshot_rot(&mut self) {
        if self.faults_ended || self.snapshot_rot.is_over {
            return;
        }
        let pause = self.snapshot_rot.pause(&self.plan);
        self.schedule_after(pause, SimEvent::SnapshotRots);
        let needs_snapshot = |node: &usize| {
            let process = &self.processes[*node];
            let running = process.running.as_ref().filter(|_| process.is_awake());
            running.is_some_and(|running| running.replica.core().terms().base().0 > 0)
                && self.may_damage(*node)
        };
        let nodes: Vec<usize> = (0..self.plan.nodes).filter(needs_snapshot).collect();
        if nodes.is_empty() {
            return;
        }
        let node = self.snapshot_rot.random.pick(&nodes);
        if self.processes[node].disk.rot_snapshot() {
            self.processes[node].is_damaged = true;
            self.snapshot_rot.is_over = true;
            self.trace
                .record(self.now, &node, || format!("fault: a snapshot of node {} rots", node + 1));
            self.crash(node, CrashCause::Kill);
        }
    }
}
