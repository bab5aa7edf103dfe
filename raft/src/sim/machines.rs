//! A node's state machine, on the loop or on its own thread, and its faults.
//!
//! These faults draw from their own random source, so that the rest of a run does not depend on
//! them.

use std::io::{self, Read};
use std::time::Duration;

use super::checks::{CheckResult, check};
use super::disk::SimDisk;
use super::event::SimEvent;
use super::fault_counters::FaultCounter;
use super::faults::CrashCause;
use super::kv::{FailureMode, Kv};
use super::options::Plan;
use super::random::{DurationRange, Random};
use super::world::World;
use crate::core::{Config, ElectionTimeout, Role};
use crate::error_chain::error_chain;
use crate::replica::{
    Limits, MachineCallback, MachineDone, MachineFailure, MachineHost, MachineJob, UnappliedLogFull,
};
use crate::storage::Log;
use crate::types::{Index, SnapshotMeta, Stamp};

/// The faults of state machines in a run.
#[derive(Clone, Debug)]
pub(super) struct MachinePlan {
    /// Whether the machine does one waiting job at a time, instead of all.
    is_stepwise: bool,
    /// For a while a machine may take longer than an election for each job.
    may_be_slow: bool,
    /// A machine may return an error or panic.
    may_fail: bool,
    interval: DurationRange,
    /// The bound on a leader's backlog, in bytes.
    backlog_bytes: usize,
    /// The longest time for which it may be exceeded.
    backlog_timeout: Duration,
    /// The quota of log that a failed state machine may leave unapplied, in bytes.
    unapplied_log_bytes: Option<u64>,
}

impl MachinePlan {
    /// One run in three has such faults.
    pub(super) fn draw(seed: u64, plan: &Plan) -> Option<MachinePlan> {
        let mut random = Random::new(seed ^ 0x6d61_6368_696e_6573);
        let timeout = plan.election_timeout.max;
        (random.below(3) == 0).then(|| MachinePlan {
            is_stepwise: random.chance(5_000),
            may_be_slow: random.chance(7_000),
            may_fail: random.chance(5_000),
            interval: DurationRange::new(timeout / 2, timeout * 10),
            backlog_bytes: random.pick(&[1, 300, 2_000, 1 << 20]),
            backlog_timeout: timeout * random.pick(&[1, 4]),
            unapplied_log_bytes: random.pick(&[None, None, Some(3_000)]),
        })
    }
}

/// The host of a simulated machine.
struct SimHost<'a> {
    log: &'a mut Log<SimDisk>,
    wall: Stamp,
    /// Whether each entry is reported as soon as it is applied.
    reports_each_entry: bool,
}

impl MachineHost for SimHost<'_> {
    fn open_snapshot(&mut self, meta: &SnapshotMeta) -> io::Result<Box<dyn Read + '_>> {
        let content = self.log.snapshot_reader().map_err(io::Error::other)?;
        let content = content.filter(|content| content.meta().index == meta.index);
        Ok(Box::new(content.ok_or(io::ErrorKind::NotFound)?))
    }

    fn should_report(&mut self) -> bool {
        self.reports_each_entry
    }

    fn wall_clock(&self) -> Stamp {
        self.wall
    }
}

impl World {
    pub(super) fn schedule_machine_faults(&mut self) {
        if let Some(plan) = &self.plan.machines {
            let pause = self.machine_random.duration_in(plan.interval);
            self.schedule_after(pause, SimEvent::MachineFault);
        }
    }

    /// Makes a state machine slow or failing, and schedules the next time.
    pub(super) fn inject_machine_fault(&mut self) {
        let Some(plan) = self.plan.machines.clone().filter(|_| !self.faults_ended) else { return };
        let pause = self.machine_random.duration_in(plan.interval);
        self.schedule_after(pause, SimEvent::MachineFault);
        let node = self.machine_random.below(self.plan.nodes as u64) as usize;
        let is_failing = self.machine_random.chance(5_000);
        let longer = self.plan.election_timeout.max;
        let slow_for = longer * self.machine_random.pick(&[1, 4, 12]);
        let process = &mut self.processes[node];
        let Some(running) = &mut process.running else { return };
        if is_failing && plan.may_fail {
            let panics = self.machine_random.chance(5_000);
            let mode = if panics { FailureMode::Panics } else { FailureMode::Refuses };
            running.machine.machine_mut().start_failing(mode);
        } else if !is_failing && plan.may_be_slow {
            process.machine_slow_until = self.now.after(slow_for);
            self.count_fault(FaultCounter::MachineSlow);
        }
    }

    /// The duration of the next job, if it takes any time.
    fn machine_delay(&mut self, node: usize) -> Option<Duration> {
        if self.processes[node].machine_slow_until > self.now && !self.faults_ended {
            let ElectionTimeout { min: shorter, max: longer } = self.plan.election_timeout;
            return Some(self.machine_random.duration(shorter / 2, longer * 2));
        }
        let delay = self.plan.apply_delay?;
        Some(self.random.duration_in(delay))
    }

    pub(super) fn queue_machine_job(&mut self, node: usize, job: MachineJob) -> CheckResult {
        match &job {
            MachineJob::Apply(entries) => {
                entries.iter().for_each(|entry| self.behaviour.applies(self.now, node, entry));
                self.checks.applied(node, entries)?;
            }
            MachineJob::Restore(meta) => {
                let replaces_diverged = self.is_diverged(node);
                if replaces_diverged {
                    self.count_fault(FaultCounter::StateReplaced);
                }
                self.checks.restored(node, meta, replaces_diverged)?;
            }
            MachineJob::Query { .. }
            | MachineJob::TakeSnapshot(_)
            | MachineJob::TakeDigest(_)
            | MachineJob::Stop(_) => {}
        }
        let Some(running) = &mut self.processes[node].running else { return Ok(()) };
        running.to_apply.push_back(job);
        if running.is_machine_busy { Ok(()) } else { self.schedule_machine(node) }
    }

    /// Lets the machine do its waiting jobs, now or after a delay.
    fn schedule_machine(&mut self, node: usize) -> CheckResult {
        let life = self.processes[node].life;
        let Some(delay) = self.machine_delay(node) else {
            return self.run_machine(node, usize::MAX);
        };
        let Some(running) = &mut self.processes[node].running else { return Ok(()) };
        running.is_machine_busy = true;
        self.schedule_after(delay, SimEvent::Apply { node, life });
        Ok(())
    }

    pub(super) fn run_machine_jobs(&mut self, node: usize) -> CheckResult {
        if let Some(running) = &mut self.processes[node].running {
            running.is_machine_busy = false;
        }
        let is_slow = self.processes[node].machine_slow_until > self.now;
        let is_stepwise = self.plan.machines.as_ref().is_some_and(|plan| plan.is_stepwise);
        self.run_machine(node, if is_slow || is_stepwise { 1 } else { usize::MAX })?;
        if self.processes[node].running.as_ref().is_some_and(|running| !running.to_apply.is_empty())
        {
            self.schedule_machine(node)?;
        }
        self.drain(node)
    }

    /// The state machine does up to `jobs` of its waiting jobs.
    fn run_machine(&mut self, node: usize, jobs: usize) -> CheckResult {
        let now = self.clock(node);
        let reports_each_entry = self.plan.machines.is_some() && self.machine_random.chance(3_000);
        for _ in 0..jobs {
            let Some(running) = &mut self.processes[node].running else { return Ok(()) };
            let Some(job) = running.to_apply.pop_front() else { return Ok(()) };
            if let MachineJob::TakeSnapshot(meta) = &job
                && !running.machine.has_failed()
                && !running.machine.machine().is_corrupt()
            {
                self.checks.check_state_of(node, meta, &running.machine)?;
            }
            let mut host =
                SimHost { log: running.worker.log_mut(), wall: now.wall, reports_each_entry };
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
                    self.checks.check_state_of(node, &meta, &running.machine)?;
                }
                self.on_state_restored(node, meta.index, is_corrupt);
            }
            if self.processes[node].disk.is_powered_off() {
                self.count_fault(FaultCounter::PowerLostAmidCalls);
                self.crash(node, CrashCause::PowerLoss);
                return Ok(());
            }
        }
        Ok(())
    }

    /// A node reports that its state machine has failed. The operator restarts it after a while.
    pub(super) fn on_machine_failed(
        &mut self,
        node: usize,
        failure: &MachineFailure,
    ) -> CheckResult {
        if failure.callback == MachineCallback::Digest && !failure.has_panicked {
            return self.on_state_diverged(node);
        }
        let process = &self.processes[node];
        let is_restore = failure.callback == MachineCallback::Restore;
        let machine = process.running.as_ref().map(|running| running.machine.machine());
        let has_cause = match is_restore {
            // A state that was corrupted between its digest and its snapshot of the same entry is
            // found by that digest.
            true => {
                process.disk.take_failure()
                    || process.disk.is_damaged()
                    || machine.is_some_and(Kv::is_corrupt)
            }
            false => machine.is_some_and(Kv::is_failing),
        };
        check(
            has_cause || self.mutant.is_some(),
            "a state machine fails only with a cause",
            || format!("node {}: {failure}", node + 1),
        )?;
        self.count_fault(FaultCounter::MachineFailed);
        let pause = self.plan.election_timeout.max * self.machine_random.pick(&[1, 6, 30]);
        let life = self.processes[node].life;
        self.schedule_after(pause, SimEvent::Restart { node, life });
        Ok(())
    }

    /// A node has stopped because its state machine has failed and its quota is full.
    pub(super) fn on_unapplied_log_full(
        &mut self,
        node: usize,
        full: &UnappliedLogFull,
    ) -> CheckResult {
        let is_real =
            full.bytes > full.limit_bytes && self.machine_limits().unapplied_log_bytes.is_some();
        check(
            is_real || self.mutant.is_some(),
            "a node stops for its quota only if it has one",
            || format!("node {}: {}", node + 1, error_chain(full)),
        )?;
        self.count_fault(FaultCounter::UnappliedFull);
        Ok(())
    }

    /// A node reports that its snapshot is unreadable, and requests another one.
    pub(super) fn on_snapshot_damaged(&mut self, node: usize, index: Index) -> CheckResult {
        let process = &self.processes[node];
        let disk = &process.disk;
        let has_cause = disk.take_failure()
            || disk.is_powered_off()
            || disk.is_damaged()
            || process
                .running
                .as_ref()
                .is_some_and(|running| running.machine.machine().is_corrupt());
        check(
            has_cause || self.mutant.is_some(),
            "a snapshot is unreadable only if its disk is damaged",
            || format!("node {} cannot read its snapshot of {index}", node + 1),
        )?;
        // The entries that the state machine had applied are lost with it.
        self.checks.state_lost(node);
        self.count_fault(FaultCounter::SnapshotRequested);
        Ok(())
    }

    pub(super) fn set_machine_options(&self, config: &mut Config) {
        if let Some(plan) = &self.plan.machines {
            (config.backlog_bytes, config.backlog_timeout) =
                (plan.backlog_bytes, plan.backlog_timeout);
        }
    }

    pub(super) fn machine_limits(&self) -> Limits {
        // A node with a corrupted state waits for a snapshot. With a quota it would stop, and no
        // operator would restart it.
        let machines = self.plan.machines.as_ref().filter(|_| self.plan.digests.is_none());
        let unapplied_log_bytes = machines.and_then(|plan| plan.unapplied_log_bytes);
        Limits { unapplied_log_bytes, ..self.plan.limits }
    }

    /// The operator restarts a process, as with a newer version of the program.
    pub(super) fn restart_process(&mut self, node: usize) {
        if !self.processes[node].disk.is_damaged() {
            self.crash(node, CrashCause::Kill);
        }
    }

    /// Whether a node's state machine has failed permanently, because its snapshot is damaged.
    pub(super) fn has_lost_machine(&self, node: usize) -> bool {
        let process = &self.processes[node];
        let has_failed =
            process.running.as_ref().is_some_and(|running| running.machine.has_failed());
        has_failed && process.disk.is_damaged()
    }

    /// Checks that a node whose state machine has failed asks for no votes, unless no other node
    /// can be elected.
    pub(super) fn check_unfit_do_not_campaign(&self, node: usize) -> CheckResult {
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
