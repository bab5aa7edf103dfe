//! What goes wrong: crashes, pauses, partitions, disks and clocks.

use std::time::Duration;

use super::checks::Verdict;
use super::disk::{BadCall, Full};
use super::happening::Happening;
use super::harms::Harm;
use super::options::FaultKind;
use super::process::Process;
use super::world::World;

impl World {
    /// One of the faults of this run, and the time of the next.
    pub(super) fn fault(&mut self) -> Verdict {
        if self.calm || self.plan.faults.is_empty() {
            return Ok(());
        }
        let pause = self.random.duration(self.plan.fault_interval);
        self.after(pause, Happening::Fault);
        if self.is_quiet() {
            return Ok(());
        }
        let kind = self.random.pick(&self.plan.faults);
        let node = self.victim();
        let down = Duration::from_millis(self.random.pick(&[1, 30, 300, 1_500]));
        self.trace.record(self.now, &(node, down), || {
            format!("fault: {kind:?} at {} for {down:?}", node + 1)
        });
        match kind {
            FaultKind::Partition | FaultKind::CutLinks | FaultKind::Deaf => {
                self.cut_links(kind, node);
                self.after(down * 2, Happening::Heal);
            }
            FaultKind::Late => {
                self.comes_late(node);
                self.after(self.plan.election_timeout.max * 2 + down, Happening::Heal);
            }
            FaultKind::Alone => return self.is_alone(node),
            FaultKind::BreakLink => {
                let other = self.random.below(self.plan.nodes as u64) as usize;
                if other != node {
                    self.break_link(node, other);
                }
            }
            FaultKind::Kill => self.crash(node, false),
            FaultKind::PowerLoss => self.crash(node, true),
            FaultKind::Blackout => (0..self.plan.nodes).for_each(|node| self.crash(node, true)),
            FaultKind::PowerLossAmidEffects => {
                let effects = self.random.below(40);
                self.processes[node].effects_left = Some(effects);
            }
            FaultKind::PowerLossAmidCalls if self.processes[node].running.is_some() => {
                self.processes[node].disk.fail_after(self.random.below(12));
            }
            FaultKind::PowerLossAmidCalls => {}
            FaultKind::Pause => self.pause(node, down),
            FaultKind::SyncFails => self.processes[node].disk.fail_next(BadCall::Sync),
            FaultKind::CallFails => {
                let call = self.random.pick(&[BadCall::Read, BadCall::Write]);
                self.processes[node].disk.fail_next(call);
            }
            FaultKind::DiskFull => {
                let full =
                    if self.random.chance(5_000) { Full::Everything } else { Full::Snapshots };
                self.processes[node].disk.set_full(full);
                self.after(down, Happening::RoomOnDisk { node });
            }
            FaultKind::Rot | FaultKind::Misdirect => self.damage(kind, node),
            FaultKind::ClockJump => {
                self.harm(Harm::ClockJumped);
                self.processes[node].clock.wall_offset =
                    1_600_000_000_000 + self.random.below(1 << 38)
            }
        }
        Ok(())
    }

    /// A node is alone for some elections, and is asked for many writes at first: if it led, its
    /// log grows beyond what the others will have.
    fn is_alone(&mut self, node: usize) -> Verdict {
        for other in (0..self.plan.nodes).filter(|&other| other != node) {
            self.network.set_cut(node, other, true);
            self.network.set_cut(other, node, true);
        }
        let elections = self.random.pick(&[3, 6, 12]);
        self.after(self.plan.election_timeout.max * elections, Happening::Heal);
        self.harm(Harm::Alone);
        let writes = self.random.between(1, 12);
        (0..writes).try_for_each(|_| self.unasked_write(node))
    }

    /// Half of the time a node that takes itself for the leader: what happens to leaders matters
    /// most.
    fn victim(&mut self) -> usize {
        let anybody = self.random.below(self.plan.nodes as u64) as usize;
        let leads = |node: &usize| {
            self.processes[*node]
                .running
                .as_ref()
                .is_some_and(|running| running.replica.core().is_leader())
        };
        let leaders: Vec<usize> = (0..self.plan.nodes).filter(leads).collect();
        if leaders.is_empty() || self.random.chance(5_000) {
            anybody
        } else {
            self.random.pick(&leaders)
        }
    }

    fn cut_links(&mut self, kind: FaultKind, node: usize) {
        let nodes = self.plan.nodes;
        let side: Vec<bool> = (0..nodes).map(|_| self.random.chance(5_000)).collect();
        let deaf = self.random.chance(5_000);
        self.harm(match kind {
            FaultKind::Partition => Harm::Partitioned,
            FaultKind::CutLinks => Harm::PartlyCut,
            _ if deaf => Harm::Deaf,
            _ => Harm::Mute,
        });
        for from in 0..nodes {
            for to in 0..nodes {
                let cut = match kind {
                    FaultKind::Partition => side[from] != side[to],
                    FaultKind::CutLinks => self.random.chance(3_000),
                    _ => {
                        if deaf {
                            to == node
                        } else {
                            from == node
                        }
                    }
                };
                if cut && from != to {
                    self.network.set_cut(from, to, true);
                }
            }
        }
    }

    /// A node hears what is said to it from now on about an election later, and is soon not heard
    /// any more.
    fn comes_late(&mut self, node: usize) {
        let delay = self.random.duration(self.plan.election_timeout.bounds());
        for other in (0..self.plan.nodes).filter(|&other| other != node) {
            self.network.hold_up(other, node, delay);
        }
        let until = self.random.duration((Duration::ZERO, self.plan.heartbeat_interval * 2));
        self.after(until, Happening::FallsSilent { node });
        self.harm(Harm::Late);
    }

    pub(super) fn falls_silent(&mut self, node: usize) {
        if self.is_quiet() {
            return;
        }
        // Unless all has been healed meanwhile.
        for other in (0..self.plan.nodes).filter(|&other| other != node) {
            let is_late = self.network.is_held_up(other, node);
            self.network.set_cut(node, other, is_late);
        }
    }

    /// A new leader dies, or loses all others but perhaps one.
    pub(super) fn leader_falls(&mut self, node: usize) {
        if self.calm || self.is_quiet() {
            return;
        }
        let down = self.random.duration(self.plan.election_timeout.bounds())
            * self.random.pick(&[1, 2, 4]);
        self.trace.record(self.now, &(node, down), || {
            format!("fault: the new leader {} falls for {down:?}", node + 1)
        });
        self.harm(Harm::Felled);
        match self.random.below(4) {
            0 => self.crash(node, false),
            1 => self.pause(node, down),
            _ => {
                let friend = self.random.below(self.plan.nodes as u64) as usize;
                if self.plan.access.lease.is_some() && friend != node {
                    let pause = self.random.duration(self.plan.election_timeout.bounds())
                        * self.random.pick(&[1, 2]);
                    self.after(pause, Happening::FriendFalls { node: friend });
                }
                for other in (0..self.plan.nodes).filter(|&other| other != node && other != friend)
                {
                    self.network.set_cut(node, other, true);
                    self.network.set_cut(other, node, true);
                }
                self.after(down, Happening::Heal);
            }
        }
    }

    /// Whoever keeps a leader in office forgets its promises, or makes them late.
    pub(super) fn friend_falls(&mut self, node: usize) {
        if self.calm || self.is_quiet() {
            return;
        }
        if self.random.chance(5_000) {
            self.crash(node, false);
        } else {
            let down = self
                .random
                .duration((self.plan.election_timeout.min / 4, self.plan.election_timeout.min));
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
            self.harm(Harm::Paused);
            self.after(down, Happening::Resume { node });
        }
    }

    pub(super) fn resume(&mut self, node: usize) {
        for held in self.processes[node].paused.take().unwrap_or_default() {
            self.after(Duration::ZERO, held);
        }
    }

    /// A process dies, wherever its storage thread was.
    pub(super) fn crash(&mut self, node: usize, loses_power: bool) {
        self.interrupts_change(node);
        let process = &mut self.processes[node];
        process.paused = None;
        process.effects_left = None;
        process.timer_at = None;
        let Some(mut running) = process.running.take() else {
            // A machine can lose power while nothing runs on it: what the last process had not
            // synced goes then.
            if loses_power {
                process.disk.lose_power(&mut self.random);
                self.harm(Harm::PowerLostDown);
            }
            return;
        };
        let is_in_batch = !running.taken.is_empty() || running.is_taking;
        if is_in_batch {
            process.disk.fail_after(self.random.below(12));
            running.worker.run(&mut running.taken, &mut |_| {});
        }
        process.disk.fail_not();
        drop(running);
        if loses_power {
            process.disk.lose_power(&mut self.random);
        }
        self.harm(if loses_power { Harm::PowerLost } else { Harm::Killed });
        if is_in_batch {
            self.harm(Harm::DiedInBatch);
        }
        self.trace.record(self.now, &(node, loses_power), || {
            format!("node {} {}", node + 1, if loses_power { "loses power" } else { "is killed" })
        });
        self.evidence_dies(node);
        self.clients.forget_node(node);
        self.session_clients.forget_node(node);
        self.churn.forget_node(node);
        for peer in 0..self.plan.nodes {
            self.break_link(node, peer);
        }
        let high = self.random.pick(&[5, 50, 1_000]);
        let down = Duration::from_millis(if self.calm { 1 } else { self.random.between(1, high) });
        self.after(down, Happening::Boot { node });
    }
}
