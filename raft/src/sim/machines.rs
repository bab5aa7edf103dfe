//! A node's state machine: on the loop, or on a thread of its own; sometimes slow, sometimes sick.
//!
//! What goes wrong with state machines draws from a source of chance of its own, so that the rest
//! of a run is what it would be without.

use std::io::{self, Read};
use std::time::Duration;

use super::checks::{Verdict, check};
use super::disk::SimDisk;
use super::event::SimEvent;
use super::fault_counters::FaultCounter;
use super::kv::Kv;
use super::options::Plan;
use super::random::Random;
use super::world::World;
use crate::core::{Config, ElectionTimeout, Role};
use crate::replica::{
    Limits, MachineCallback, MachineDone, MachineFailure, MachineHost, MachineJob, UnappliedLogFull,
};
use crate::storage::Log;
use crate::types::{Index, SnapshotMeta, Stamp};

/// What may go wrong with state machines in a run.
#[derive(Clone, Debug)]
pub(super) struct MachinePlan {
    /// Whether the machine is done with one job at a time, instead of all that wait.
    is_stepwise: bool,
    /// A machine may take longer than an election for each job, for a while.
    has_slow: bool,
    /// A machine may refuse an entry, or panic at it.
    has_sick: bool,
    interval: (Duration, Duration),
    /// The bound on a leader's backlog, in bytes.
    backlog_bytes: usize,
    /// How long it may be exceeded.
    backlog_timeout: Duration,
    /// A sick node's quota for log that it cannot apply, in bytes.
    unapplied_log_bytes: Option<u64>,
}

impl MachinePlan {
    /// In one of three runs something may go wrong.
    pub(super) fn draw(seed: u64, plan: &Plan) -> Option<MachinePlan> {
        let mut random = Random::new(seed ^ 0x6d61_6368_696e_6573);
        let timeout = plan.election_timeout.max;
        (random.below(3) == 0).then(|| MachinePlan {
            is_stepwise: random.chance(5_000),
            has_slow: random.chance(7_000),
            has_sick: random.chance(5_000),
            interval: (timeout / 2, timeout * 10),
            backlog_bytes: random.pick(&[1, 300, 2_000, 1 << 20]),
            backlog_timeout: timeout * random.pick(&[1, 4]),
            unapplied_log_bytes: random.pick(&[None, None, Some(3_000)]),
        })
    }
}

/// What a machine needs of its node.
struct SimHost<'a> {
    log: &'a mut Log<SimDisk>,
    wall: Stamp,
    /// Whether each entry is told as soon as it is applied.
    is_telling: bool,
}

impl MachineHost for SimHost<'_> {
    fn open_snapshot(&mut self, meta: &SnapshotMeta) -> io::Result<Box<dyn Read + '_>> {
        let content = self.log.snapshot_reader().map_err(io::Error::other)?;
        let content = content.filter(|content| content.meta().index == meta.index);
        Ok(Box::new(content.ok_or(io::ErrorKind::NotFound)?))
    }

    fn should_report(&mut self) -> bool {
        self.is_telling
    }

    fn wall_clock(&self) -> Stamp {
        self.wall
    }
}

impl World {
    pub(super) fn begin_machines(&mut self) {
        if let Some(plan) = &self.plan.machines {
            let pause = self.machine_random.duration(plan.interval);
            self.after(pause, SimEvent::MachineFault);
        }
    }

    /// Something goes wrong with a state machine.
    pub(super) fn machine_fault(&mut self) {
        let Some(plan) = self.plan.machines.clone().filter(|_| !self.calm) else { return };
        let pause = self.machine_random.duration(plan.interval);
        self.after(pause, SimEvent::MachineFault);
        let node = self.machine_random.below(self.plan.nodes as u64) as usize;
        let is_failing = self.machine_random.chance(5_000);
        let longer = self.plan.election_timeout.max;
        let slow_for = longer * self.machine_random.pick(&[1, 4, 12]);
        let process = &mut self.processes[node];
        let Some(running) = &mut process.running else { return };
        if is_failing && plan.has_sick {
            running.machine.machine_mut().start_failing(self.machine_random.chance(5_000));
        } else if !is_failing && plan.has_slow {
            process.machine_slow_until = self.now.after(slow_for);
            self.count_fault(FaultCounter::MachineSlow);
        }
    }

    /// How long the next job takes, if it takes any time.
    fn machine_delay(&mut self, node: usize) -> Option<Duration> {
        if self.processes[node].machine_slow_until > self.now && !self.calm {
            let ElectionTimeout { min: shorter, max: longer } = self.plan.election_timeout;
            return Some(self.machine_random.duration((shorter / 2, longer * 2)));
        }
        let delay = self.plan.apply_delay?;
        Some(self.random.duration(delay))
    }

    pub(super) fn hand_to_machine(&mut self, node: usize, job: MachineJob) -> Verdict {
        match &job {
            MachineJob::Apply(entries) => {
                entries.iter().for_each(|entry| self.behaviour.applies(self.now, node, entry));
                self.checks.applied(node, entries)?;
            }
            MachineJob::Restore(meta) => {
                let replaces_wrong = self.is_diverged(node);
                if replaces_wrong {
                    self.count_fault(FaultCounter::StateReplaced);
                }
                self.checks.restored(node, meta, replaces_wrong)?;
            }
            MachineJob::Query { .. }
            | MachineJob::TakeSnapshot(_)
            | MachineJob::TakeDigest(_)
            | MachineJob::Stop(_) => {}
        }
        let Some(running) = &mut self.processes[node].running else { return Ok(()) };
        running.to_apply.push_back(job);
        if running.is_machine_busy { Ok(()) } else { self.go_on(node) }
    }

    /// The machine does what waits for it: now, or after a while.
    fn go_on(&mut self, node: usize) -> Verdict {
        let life = self.processes[node].life;
        let Some(delay) = self.machine_delay(node) else {
            return self.run_machine(node, usize::MAX);
        };
        let Some(running) = &mut self.processes[node].running else { return Ok(()) };
        running.is_machine_busy = true;
        self.after(delay, SimEvent::Apply { node, life });
        Ok(())
    }

    pub(super) fn apply(&mut self, node: usize) -> Verdict {
        if let Some(running) = &mut self.processes[node].running {
            running.is_machine_busy = false;
        }
        let is_slow = self.processes[node].machine_slow_until > self.now;
        let is_stepwise = self.plan.machines.as_ref().is_some_and(|plan| plan.is_stepwise);
        self.run_machine(node, if is_slow || is_stepwise { 1 } else { usize::MAX })?;
        if self.processes[node].running.as_ref().is_some_and(|running| !running.to_apply.is_empty())
        {
            self.go_on(node)?;
        }
        self.drain(node)
    }

    /// The state machine does so many of the jobs that it was given.
    fn run_machine(&mut self, node: usize, jobs: usize) -> Verdict {
        let now = self.clock(node);
        let is_telling = self.plan.machines.is_some() && self.machine_random.chance(3_000);
        for _ in 0..jobs {
            let Some(running) = &mut self.processes[node].running else { return Ok(()) };
            let Some(job) = running.to_apply.pop_front() else { return Ok(()) };
            if let MachineJob::TakeSnapshot(meta) = &job
                && !running.machine.has_failed()
                && !running.machine.machine().is_corrupt()
            {
                self.checks.is_state_of(node, meta, &running.machine)?;
            }
            let mut host = SimHost { log: running.worker.log_mut(), wall: now.wall, is_telling };
            let mut restored = None;
            running.machine.run(job, &mut host, &mut |done| {
                if let MachineDone::Restored(meta) = &done {
                    restored = Some(meta.clone());
                }
                running.replica.handle_machine_done(now, done);
            });
            if let Some(meta) = restored {
                let is_corrupt = running.machine.machine().is_corrupt();
                if !is_corrupt {
                    self.checks.is_state_of(node, &meta, &running.machine)?;
                }
                self.state_restored(node, meta.index, is_corrupt);
            }
            if self.processes[node].disk.is_dark() {
                self.count_fault(FaultCounter::PowerLostAmidCalls);
                self.crash(node, true);
                return Ok(());
            }
        }
        Ok(())
    }

    /// A node says that its state machine has failed. The operator starts it again after a while.
    pub(super) fn machine_failed(&mut self, node: usize, failure: &MachineFailure) -> Verdict {
        if failure.callback == MachineCallback::Digest && !failure.has_panicked {
            return self.state_found(node);
        }
        let process = &self.processes[node];
        let is_restore = failure.callback == MachineCallback::Restore;
        let machine = process.running.as_ref().map(|running| running.machine.machine());
        let has_cause = match is_restore {
            // A state that went wrong between its digest and its snapshot of the same entry is
            // found by that digest.
            true => {
                process.disk.has_failed()
                    || process.disk.is_damaged()
                    || machine.is_some_and(Kv::is_corrupt)
            }
            false => machine.is_some_and(Kv::is_failing),
        };
        check(
            has_cause || self.mutant.is_some(),
            "a state machine fails only if it is sick",
            || format!("node {}: {failure}", node + 1),
        )?;
        self.count_fault(FaultCounter::MachineFailing);
        let pause = self.plan.election_timeout.max * self.machine_random.pick(&[1, 6, 30]);
        let life = self.processes[node].life;
        self.after(pause, SimEvent::Restart { node, life });
        Ok(())
    }

    /// A node has stopped by name: its state machine has failed, and its quota is full. It has
    /// promised nothing that its log does not hold; the operator starts it again.
    pub(super) fn unapplied_log_full(&mut self, node: usize, full: &UnappliedLogFull) -> Verdict {
        let is_real =
            full.bytes > full.limit_bytes && self.machine_limits().unapplied_log_bytes.is_some();
        check(
            is_real || self.mutant.is_some(),
            "a node stops for its quota only if it has one",
            || format!("node {}: {full}", node + 1),
        )?;
        self.count_fault(FaultCounter::UnappliedFull);
        Ok(())
    }

    /// A node says that its snapshot cannot be read, and asks for another one.
    pub(super) fn snapshot_damaged(&mut self, node: usize, index: Index) -> Verdict {
        let process = &self.processes[node];
        let disk = &process.disk;
        let has_cause = disk.has_failed()
            || disk.is_dark()
            || disk.is_damaged()
            || process
                .running
                .as_ref()
                .is_some_and(|running| running.machine.machine().is_corrupt());
        check(
            has_cause || self.mutant.is_some(),
            "a snapshot cannot be read only if its disk is damaged",
            || format!("node {} cannot read its snapshot of {index}", node + 1),
        )?;
        // What was handed to its state machine is lost with it.
        self.checks.state_lost(node);
        self.count_fault(FaultCounter::SnapshotAsked);
        Ok(())
    }

    pub(super) fn tune_machine(&self, config: &mut Config) {
        if let Some(plan) = &self.plan.machines {
            (config.backlog_bytes, config.backlog_timeout) =
                (plan.backlog_bytes, plan.backlog_timeout);
        }
    }

    pub(super) fn machine_limits(&self) -> Limits {
        // A node whose state is wrong waits for another one: with a quota it stops, and nobody
        // starts it again.
        let machines = self.plan.machines.as_ref().filter(|_| self.plan.digests.is_none());
        let unapplied_log_bytes = machines.and_then(|plan| plan.unapplied_log_bytes);
        Limits { unapplied_log_bytes, ..self.plan.limits }
    }

    /// A newer version of the program is started.
    pub(super) fn restart_process(&mut self, node: usize) {
        if !self.processes[node].disk.is_damaged() {
            self.crash(node, false);
        }
    }

    /// Whether a node's state machine has failed, and will fail again: its snapshot is damaged.
    pub(super) fn has_lost_machine(&self, node: usize) -> bool {
        let process = &self.processes[node];
        let has_failed =
            process.running.as_ref().is_some_and(|running| running.machine.has_failed());
        has_failed && process.disk.is_damaged()
    }

    /// A node whose state machine has failed asks for no votes, unless nobody else can be elected.
    pub(super) fn check_unfit_do_not_campaign(&self, node: usize) -> Verdict {
        let Some(running) = &self.processes[node].running else { return Ok(()) };
        let is_unfit = running.replica.status().machine_failure.is_some();
        let role = running.replica.core().role();
        let campaigns = matches!(role, Role::PreCandidate | Role::Candidate);
        let is_needed = running.replica.core().campaigns_to_hand_over();
        check(
            !(is_unfit && campaigns && !is_needed),
            "a node whose state machine has failed does not campaign",
            || format!("node {} is a {role:?}", node + 1),
        )
    }
}
