//! Injects faults: crashes, pauses, partitions, disks and clocks.

use std::time::Duration;

use super::checks::CheckResult;
use super::disk::{DiskFull, FailingCall};
use super::event::SimEvent;
use super::fault_counters::FaultCounter;
use super::options::FaultKind;
use super::process::Process;
use super::world::World;

/// The cause of a crash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CrashCause {
    /// The process is killed; the kernel keeps its writes.
    Kill,
    /// The machine loses power, and with it some unsynced writes.
    PowerLoss,
}

impl CrashCause {
    pub(super) fn power_loss_if(loses_power: bool) -> CrashCause {
        if loses_power { CrashCause::PowerLoss } else { CrashCause::Kill }
    }
}

impl World {
    /// Injects one of the faults of this run, and schedules the next.
    pub(super) fn inject_fault(&mut self) -> CheckResult {
        if self.faults_ended || self.plan.faults.is_empty() {
            return Ok(());
        }
        let pause = self.random.duration_in(self.plan.fault_interval);
        self.schedule_after(pause, SimEvent::Fault);
        if self.is_quiet() {
            return Ok(());
        }
        let kind = self.random.pick(&self.plan.faults);
        let node = self.draw_target();
        let down = Duration::from_millis(self.random.pick(&[1, 30, 300, 1_500]));
        self.trace.record(self.now, &(node, down), || {
            format!("fault: {kind:?} at {} for {down:?}", node + 1)
        });
        match kind {
            FaultKind::Partition | FaultKind::CutLinks | FaultKind::OneWayCut => {
                self.cut_links(kind, node);
                self.schedule_after(down * 2, SimEvent::Heal);
            }
            FaultKind::DelayedNode => {
                self.delay_incoming(node);
                self.schedule_after(self.plan.election_timeout.max * 2 + down, SimEvent::Heal);
            }
            FaultKind::Isolated => return self.isolate(node),
            FaultKind::BreakLink => {
                let other = self.random.below(self.plan.nodes as u64) as usize;
                if other != node {
                    self.break_link(node, other);
                }
            }
            FaultKind::Kill => self.crash(node, CrashCause::Kill),
            FaultKind::PowerLoss => self.crash(node, CrashCause::PowerLoss),
            FaultKind::Blackout => {
                (0..self.plan.nodes).for_each(|node| self.crash(node, CrashCause::PowerLoss))
            }
            FaultKind::PowerLossAmidEffects => {
                let effects = self.random.below(40);
                self.processes[node].effects_left = Some(effects);
            }
            FaultKind::PowerLossAmidCalls if self.processes[node].running.is_some() => {
                self.processes[node].disk.cut_power_after(self.random.below(12));
            }
            FaultKind::PowerLossAmidCalls => {}
            FaultKind::Pause => self.pause(node, down),
            FaultKind::SyncFails => self.processes[node].disk.fail_next(FailingCall::Sync),
            FaultKind::CallFails => {
                let call = self.random.pick(&[FailingCall::Read, FailingCall::Write]);
                self.processes[node].disk.fail_next(call);
            }
            FaultKind::DiskFull => {
                let full = if self.random.chance(5_000) {
                    DiskFull::Everything
                } else {
                    DiskFull::Snapshots
                };
                self.processes[node].disk.set_full(full);
                self.schedule_after(down, SimEvent::RoomOnDisk { node });
            }
            FaultKind::Rot | FaultKind::Misdirect => self.damage(kind, node),
            FaultKind::ClockJump => {
                self.count_fault(FaultCounter::ClockJumped);
                self.processes[node].clock.wall_offset =
                    1_600_000_000_000 + self.random.below(1 << 38)
            }
        }
        Ok(())
    }

    /// Isolates a node for some elections and sends it many writes first: if it led, its log
    /// grows beyond what the others will have.
    fn isolate(&mut self, node: usize) -> CheckResult {
        for other in (0..self.plan.nodes).filter(|&other| other != node) {
            self.network.cut_link(node, other);
            self.network.cut_link(other, node);
        }
        let elections = self.random.pick(&[3, 6, 12]);
        self.schedule_after(self.plan.election_timeout.max * elections, SimEvent::Heal);
        self.count_fault(FaultCounter::Isolated);
        let writes = self.random.between(1, 12);
        (0..writes).try_for_each(|_| self.submit_extra_write(node))
    }

    /// The node of the next fault: half of the time a leader, because faults of leaders find most.
    fn draw_target(&mut self) -> usize {
        let any_node = self.random.below(self.plan.nodes as u64) as usize;
        let leads = |node: &usize| {
            self.processes[*node]
                .running
                .as_ref()
                .is_some_and(|running| running.replica.core().is_leader())
        };
        let leaders: Vec<usize> = (0..self.plan.nodes).filter(leads).collect();
        if leaders.is_empty() || self.random.chance(5_000) {
            any_node
        } else {
            self.random.pick(&leaders)
        }
    }

    fn cut_links(&mut self, kind: FaultKind, node: usize) {
        let nodes = self.plan.nodes;
        let side: Vec<bool> = (0..nodes).map(|_| self.random.chance(5_000)).collect();
        let cuts_incoming = self.random.chance(5_000);
        self.count_fault(match kind {
            FaultKind::Partition => FaultCounter::Partitioned,
            FaultKind::CutLinks => FaultCounter::LinksCut,
            _ if cuts_incoming => FaultCounter::ReceivesNothing,
            _ => FaultCounter::SendsNothing,
        });
        for from in 0..nodes {
            for to in 0..nodes {
                let cut = match kind {
                    FaultKind::Partition => side[from] != side[to],
                    FaultKind::CutLinks => self.random.chance(3_000),
                    _ => {
                        if cuts_incoming {
                            to == node
                        } else {
                            from == node
                        }
                    }
                };
                if cut && from != to {
                    self.network.cut_link(from, to);
                }
            }
        }
    }

    /// Delays messages to a node by about an election, and soon cuts its outgoing links.
    fn delay_incoming(&mut self, node: usize) {
        let delay = self.random.duration_in(self.plan.election_timeout.into());
        for other in (0..self.plan.nodes).filter(|&other| other != node) {
            self.network.delay_link(other, node, delay);
        }
        let until = self.random.duration(Duration::ZERO, self.plan.heartbeat_interval * 2);
        self.schedule_after(until, SimEvent::CutDelayedLinks { node });
        self.count_fault(FaultCounter::DelayedNode);
    }

    pub(super) fn cut_delayed_links(&mut self, node: usize) {
        if self.is_quiet() {
            return;
        }
        // If the network has healed meanwhile, no link is delayed.
        for other in (0..self.plan.nodes).filter(|&other| other != node) {
            let is_late = self.network.is_delayed(other, node);
            self.network.set_cut(node, other, is_late);
        }
    }

    /// A newly elected leader crashes, pauses, or loses its links to all but at most one node.
    pub(super) fn fail_new_leader(&mut self, node: usize) {
        if self.faults_ended || self.is_quiet() {
            return;
        }
        let down = self.random.duration_in(self.plan.election_timeout.into())
            * self.random.pick(&[1, 2, 4]);
        self.trace.record(self.now, &(node, down), || {
            format!("fault: the new leader {} fails for {down:?}", node + 1)
        });
        self.count_fault(FaultCounter::LeaderFailed);
        match self.random.below(4) {
            0 => self.crash(node, CrashCause::Kill),
            1 => self.pause(node, down),
            _ => {
                let kept = self.random.below(self.plan.nodes as u64) as usize;
                if self.plan.access.lease.is_some() && kept != node {
                    let pause = self.random.duration_in(self.plan.election_timeout.into())
                        * self.random.pick(&[1, 2]);
                    self.schedule_after(pause, SimEvent::LastFollowerFails { node: kept });
                }
                for other in (0..self.plan.nodes).filter(|&other| other != node && other != kept) {
                    self.network.cut_link(node, other);
                    self.network.cut_link(other, node);
                }
                self.schedule_after(down, SimEvent::Heal);
            }
        }
    }

    /// The last follower of a leader forgets its promises in a restart, or makes them late.
    pub(super) fn fail_last_follower(&mut self, node: usize) {
        if self.faults_ended || self.is_quiet() {
            return;
        }
        if self.random.chance(5_000) {
            self.crash(node, CrashCause::Kill);
        } else {
            let down = self
                .random
                .duration(self.plan.election_timeout.min / 4, self.plan.election_timeout.min);
            self.pause(node, down);
        }
    }

    /// Damages a disk, unless as many are damaged already as a cluster can lose.
    fn damage(&mut self, kind: FaultKind, node: usize) {
        if !self.may_damage(node) {
            return;
        }
        self.processes[node].is_damaged = true;
        match kind {
            FaultKind::Rot => self.processes[node].disk.rot(&mut self.random),
            _ => self.processes[node].disk.misdirect_next(),
        }
    }

    /// Whether this disk is damaged already, or fewer are than a cluster can lose.
    pub(super) fn may_damage(&self, node: usize) -> bool {
        let is_damaged = |process: &Process| process.is_lost || process.is_damaged;
        let damaged = self.processes.iter().filter(|process| is_damaged(process)).count();
        is_damaged(&self.processes[node]) || damaged < (self.plan.nodes - 1) / 2
    }

    fn pause(&mut self, node: usize, down: Duration) {
        let process = &mut self.processes[node];
        if process.is_awake() {
            process.paused = Some(Vec::new());
            self.count_fault(FaultCounter::Paused);
            self.schedule_after(down, SimEvent::Resume { node });
        }
    }

    pub(super) fn resume(&mut self, node: usize) {
        for held in self.processes[node].paused.take().unwrap_or_default() {
            self.schedule_after(Duration::ZERO, held);
        }
    }

    /// A process dies; its storage thread may be in the middle of a batch.
    pub(super) fn crash(&mut self, node: usize, cause: CrashCause) {
        let loses_power = cause == CrashCause::PowerLoss;
        self.count_interrupted_change(node);
        let process = &mut self.processes[node];
        process.paused = None;
        process.effects_left = None;
        process.timer_at = None;
        let Some(mut running) = process.running.take() else {
            // A machine can lose power while no process runs: what the last process did not sync
            // may be lost then.
            if loses_power {
                process.disk.lose_power(&mut self.random);
                self.count_fault(FaultCounter::PowerLostDown);
            }
            return;
        };
        let is_in_batch = !running.taken.is_empty() || running.is_taking;
        if is_in_batch {
            process.disk.cut_power_after(self.random.below(12));
            running.worker.run(&mut running.taken, &mut |_| {});
        }
        process.disk.restore_power();
        drop(running);
        if loses_power {
            process.disk.lose_power(&mut self.random);
        }
        self.count_fault(if loses_power { FaultCounter::PowerLost } else { FaultCounter::Killed });
        if is_in_batch {
            self.count_fault(FaultCounter::DiedInBatch);
        }
        self.trace.record(self.now, &(node, loses_power), || {
            format!("node {} {}", node + 1, if loses_power { "loses power" } else { "is killed" })
        });
        self.forget_evidence(node);
        self.clients.forget_node(node);
        self.session_clients.forget_node(node);
        self.operator.forget_node(node);
        for peer in 0..self.plan.nodes {
            self.break_link(node, peer);
        }
        let high = self.random.pick(&[5, 50, 1_000]);
        let down =
            Duration::from_millis(if self.faults_ended { 1 } else { self.random.between(1, high) });
        self.schedule_after(down, SimEvent::Start { node });
    }
}
