//! A node's storage thread: it takes the queued jobs and completes them after a delay.

use std::time::Duration;

use super::checks::{CheckResult, check};
use super::event::SimEvent;
use super::fault_counters::FaultCounter;
use super::faults::CrashCause;
use super::mutant::Mutant;
use super::world::World;
use crate::core::Done;
use crate::storage::{Completion, Job};
use crate::types::SnapshotMeta;

impl World {
    pub(super) fn queue_storage_job(&mut self, node: usize, job: Job) -> CheckResult {
        if let Job::Write(write) = &job {
            self.check_log_time(node, write)?;
        }
        let life = self.processes[node].life;
        let Some(running) = &mut self.processes[node].running else { return Ok(()) };
        let mut early = None;
        let mut job = job;
        match &mut job {
            Job::Write(write) => {
                self.checks.write_issued(node, write)?;
                self.checks.members_written(node, write, running.replica.core())?;
                if self.mutant == Some(Mutant::VotesForgotten) {
                    write.hard_state = None;
                }
                early = (self.mutant == Some(Mutant::WrittenBeforeSync)).then_some(write.sequence);
            }
            Job::InstallSnapshot(install) => {
                self.checks.install_issued(node, &install.meta, install.sequence)?
            }
            _ => {}
        }
        running.queued.push_back(job);
        if !running.is_storage_busy {
            running.is_storage_busy = true;
            let delay = Duration::from_micros(self.random.below(50));
            self.schedule_after(delay, SimEvent::StorageBegins { node, life });
        }
        if let Some(sequence) = early {
            self.schedule_after(Duration::ZERO, SimEvent::FalselyDurable { node, life, sequence });
        }
        Ok(())
    }

    pub(super) fn begin_storage_batch(&mut self, node: usize) {
        let mut latency = self.random.duration_in(self.plan.disk_latency);
        if !self.faults_ended && !self.is_quiet() && self.random.chance(self.plan.disk_stall) {
            latency = self.plan.election_timeout.max * 3;
            self.count_fault(FaultCounter::Stalled);
        }
        let life = self.processes[node].life;
        let Some(running) = &mut self.processes[node].running else { return };
        std::mem::swap(&mut running.taken, &mut running.queued);
        self.schedule_after(latency, SimEvent::StorageEnds { node, life });
    }

    /// The worker carries out its batch, all at once at the end of the batch's time. If the process
    /// dies before that, `crash` carries out a part.
    pub(super) fn end_storage_batch(&mut self, node: usize) -> CheckResult {
        let process = &mut self.processes[node];
        let Some(running) = &mut process.running else { return Ok(()) };
        let changes = running.sequences_taken();
        process.disk.set_tag(changes.last().map_or(0, |(sequence, _)| *sequence));
        let mut completions = Vec::new();
        running.is_taking =
            running.worker.run(&mut running.taken, &mut |completion| completions.push(completion));
        completions
            .extend(running.worker.take_synced().map(|position| Completion::Synced { position }));
        running.is_storage_busy = running.is_taking || !running.queued.is_empty();
        let (life, is_busy) = (process.life, running.is_storage_busy);
        if process.disk.is_powered_off() {
            self.count_fault(FaultCounter::PowerLostAmidCalls);
            self.crash(node, CrashCause::PowerLoss);
            return Ok(());
        }
        self.report_durable(node, &changes, &completions);
        let wants_mark = self.processes[node]
            .running
            .as_ref()
            .is_some_and(|running| running.worker.wants_mark());
        if wants_mark {
            self.write_mark(node)?;
            if self.processes[node].running.is_none() {
                return Ok(());
            }
        }
        if is_busy {
            self.schedule_after(Duration::ZERO, SimEvent::StorageBegins { node, life });
        } else {
            let pause = self.random.duration(Duration::ZERO, self.plan.idle_pause);
            self.schedule_after(pause, SimEvent::StorageIdles { node, life });
        }
        for completion in completions {
            self.complete(node, completion)?;
        }
        Ok(())
    }

    /// Reports to the checks what has become durable. `changes` are the batch's writes and
    /// installations, which were carried out in order, perhaps not all.
    fn report_durable(
        &mut self,
        node: usize,
        changes: &[(u64, Option<SnapshotMeta>)],
        completions: &[Completion],
    ) {
        let mut installs =
            changes.iter().filter_map(|(sequence, meta)| Some((*sequence, meta.as_ref()?)));
        let mut last = None;
        for completion in completions {
            match completion {
                Completion::Done(Done::Written { sequence }) => last = last.max(Some(*sequence)),
                Completion::Done(Done::SnapshotInstalled { is_valid, .. }) => {
                    let Some((sequence, meta)) = installs.next() else { continue };
                    last = last.max(Some(sequence));
                    self.checks.installed(node, meta, sequence, *is_valid);
                }
                Completion::Done(Done::SnapshotTaken { index }) => {
                    self.checks.snapshot_durable(node, *index)
                }
                _ => {}
            }
        }
        if let Some(last) = last {
            let durable = self.processes[node].disk.durable_sequence(last);
            self.checks.write_durable(node, durable);
        }
    }

    /// An idle storage thread writes its mark.
    pub(super) fn handle_idle_storage(&mut self, node: usize) -> CheckResult {
        let running = self.processes[node].running.as_ref();
        if running.is_some_and(|running| !running.is_storage_busy) {
            self.write_mark(node)
        } else {
            Ok(())
        }
    }

    fn write_mark(&mut self, node: usize) -> CheckResult {
        let process = &mut self.processes[node];
        let Some(running) = &mut process.running else { return Ok(()) };
        process.disk.set_tag(0);
        let mut failure = None;
        running.worker.write_mark(&mut |completion| failure = Some(completion));
        if process.disk.is_powered_off() {
            self.count_fault(FaultCounter::PowerLostAmidCalls);
            self.crash(node, CrashCause::PowerLoss);
            return Ok(());
        }
        failure.map_or(Ok(()), |failure| self.complete(node, failure))
    }

    fn complete(&mut self, node: usize, completion: Completion) -> CheckResult {
        match completion {
            Completion::Done(Done::Written { .. })
                if self.mutant == Some(Mutant::WrittenBeforeSync) =>
            {
                Ok(())
            }
            Completion::Done(done) => {
                if let Done::Written { sequence } = done {
                    self.checks.write_reported(node, sequence)?;
                }
                if let Done::SnapshotInstalled { is_valid: false, .. } = done {
                    let is_excused = self.processes.iter().any(|process| process.is_damaged)
                        || self.mutant.is_some();
                    check(is_excused, "a received snapshot is intact", || {
                        format!(
                            "node {} has received a snapshot that is damaged, and no disk is",
                            node + 1
                        )
                    })?;
                }
                let is_installed = matches!(done, Done::SnapshotInstalled { .. });
                self.input(node, |running, now| running.replica.handle_done(now, done))?;
                match &self.processes[node].running {
                    Some(running) if is_installed => {
                        self.checks.check_log_as_written(node, running.replica.core())
                    }
                    _ => Ok(()),
                }
            }
            Completion::SnapshotFailed { index, error } => self.input(node, |running, now| {
                running.replica.handle_snapshot_failure(now, index, &error)
            }),
            Completion::Synced { position } => {
                if let Some(running) = &mut self.processes[node].running {
                    running.position = Some(position);
                    running.replica.note_durable_sequence(position.sequence);
                }
                Ok(())
            }
            Completion::Failed(error) => {
                self.input(node, |running, now| running.replica.handle_storage_failure(now, &error))
            }
        }
    }
}
