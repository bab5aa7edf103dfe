//! A snapshot that a node needs rots: in a part of the runs bits turn over in the content of one
//! node's newest snapshot, once the log before it is gone, and the node is started again.
//!
//! Bits that rot anywhere (`FaultKind::Rot`) hit such a place at such a time in one of some
//! thousand runs. The node must start, vote and acknowledge, and be sent another snapshot. It draws
//! from a source of chance of its own, so that other runs are what they would be without.

use std::time::Duration;

use super::event::SimEvent;
use super::options::Plan;
use super::random::Random;
use super::world::World;

/// When a snapshot rots.
#[derive(Debug)]
pub(super) struct SnapshotRot {
    random: Random,
    is_over: bool,
}

impl SnapshotRot {
    pub(super) fn new(seed: u64) -> SnapshotRot {
        SnapshotRot { random: Random::new(seed ^ 0x726f_7474_656e_2e73), is_over: false }
    }

    /// In one of so many runs that may have it. Where states go wrong the others must be a majority
    /// that stays, so must they be where members change, and where disks are put back what a disk
    /// holds is not known. A state machine that is sick would fail beside.
    fn is_on(&mut self, plan: &Plan) -> bool {
        let takes_snapshots = plan.limits.snapshot_every_bytes < 1 << 20;
        let is_calm = plan.churn.is_none() && plan.machines.is_none() && plan.digests.is_none();
        let may_have_it =
            plan.nodes >= 3 && takes_snapshots && is_calm && plan.forgetting.is_none();
        self.random.below(RUNS) == 0 && may_have_it
    }

    fn pause(&mut self, plan: &Plan) -> Duration {
        self.random.duration((plan.election_timeout.max, plan.election_timeout.max * 10))
    }
}

const RUNS: u64 = 4;

impl World {
    pub(super) fn begin_snapshot_rot(&mut self) {
        if self.snapshot_rot.is_on(&self.plan) {
            let pause = self.snapshot_rot.pause(&self.plan);
            self.after(pause, SimEvent::SnapshotRots);
        }
    }

    /// A snapshot rots on one node, if there is one whose disk may be damaged and whose log begins
    /// after its birth; else another time.
    pub(super) fn snapshot_rots(&mut self) {
        if self.calm || self.snapshot_rot.is_over {
            return;
        }
        let pause = self.snapshot_rot.pause(&self.plan);
        self.after(pause, SimEvent::SnapshotRots);
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
            self.crash(node, false);
        }
    }
}
