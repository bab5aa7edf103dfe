//! The start of a process from the content of its disk.

use std::time::Duration;

use super::checks::{CheckResult, Violation, check};
use super::disk::SimDisk;
use super::event::SimEvent;
use super::fault_counters::FaultCounter;
use super::options::REQUEST_BYTES;
use super::process::{OwnLife, Running};
use super::world::{World, node_id};
use crate::core;
use crate::error_chain::error_chain;
use crate::replica::peer_records::PeerRecords;
use crate::replica::{Replica, ReplicaConfig};
use crate::storage::{Log, LogOptions, StorageError, Worker};
use crate::types::{ClusterId, DiskId, Entry, GroupId, Identity, Index, Life, Saved, Term};

/// An opened log, its saved state, and its entries.
type OpenedLog = (Log<SimDisk>, Saved, Vec<Entry>);

/// The part of the saved state that two logs with the same content share, wherever they begin.
fn comparable(saved: &Saved) -> impl PartialEq + use<> {
    let snapshot = saved.snapshot.clone();
    let from = snapshot.as_ref().map_or(Index(0), |snapshot| snapshot.index);
    let terms: Vec<Option<Term>> = (from.0..=saved.terms.last_index().0)
        .map(|index| saved.terms.term_at(Index(index)))
        .collect();
    (saved.hard_state, snapshot, terms, saved.configuration().clone())
}

impl World {
    /// Starts a process from the content of its disk; sometimes it dies while it starts.
    pub(super) fn start_process(&mut self, node: usize) -> CheckResult {
        if self.processes[node].running.is_some() || self.processes[node].is_lost {
            return Ok(());
        }
        self.processes[node].life += 1;
        self.process_starts += 1;
        let dies = !self.faults_ended
            && !self.is_quiet()
            && self.processes[node].life > 1
            && self.random.chance(1_000);
        if dies {
            let calls = self.random.below(30);
            self.processes[node].disk.cut_power_after(calls);
        }
        self.processes[node].disk.take_failure();
        // Checked before anything is written, which could hide the damage.
        let looks_torn = self.processes[node].disk.is_last_batch_damaged();
        let opened = self.open_log(node);
        let process = &self.processes[node];
        if looks_torn {
            // The log takes this damage for a torn tail, which is its documented limit. The
            // simulator knows better, and an opening that died may have cut the tail already.
            process.disk.restore_power();
            return self.lose_node(node, "its last batch is damaged");
        }
        if dies && opened.is_err() {
            process.disk.restore_power();
            if self.random.chance(7_000) {
                process.disk.lose_power(&mut self.random);
            }
            self.count_fault(FaultCounter::DiedOpening);
            self.schedule_after(Duration::from_millis(1), SimEvent::Start { node });
            return Ok(());
        }
        process.disk.restore_power();
        process.disk.clear_tags();
        let (log, saved, entries) = match opened {
            Ok(opened) => opened,
            Err(
                error @ (StorageError::Corrupt { .. }
                | StorageError::EndLost { .. }
                | StorageError::Poisoned { .. }),
            ) if process.disk.is_damaged() => {
                return self.lose_node(node, &error_chain(&error));
            }
            Err(error) if process.disk.take_failure() => {
                // A call of the disk failed while the log was opened: the process exits and is
                // restarted.
                self.trace.record(self.now, &node, || {
                    format!("node {} cannot start: {}", node + 1, error_chain(&error))
                });
                let pause = Duration::from_millis(self.random.pick(&[20, 300]));
                self.schedule_after(pause, SimEvent::Start { node });
                return Ok(());
            }
            Err(error) => {
                let details =
                    format!("node {} cannot open its log: {}", node + 1, error_chain(&error));
                return Err(Violation { invariant: "a node can start again", details });
            }
        };
        let is_damaged = process.disk.is_damaged();
        self.check_durable(node, &saved)?;
        if self.opened_after_put_back(node) {
            self.checks.on_put_back(node, &saved, &entries);
        }
        self.checks.recovered(node, &saved, &entries, is_damaged)?;
        self.start(node, log, saved)
    }

    /// The disk of a node is lost, so the node must never start again. At most a minority is lost.
    fn lose_node(&mut self, node: usize, why: &str) -> CheckResult {
        self.trace.record(self.now, &node, || format!("node {} is lost: {why}", node + 1));
        self.processes[node].is_lost = true;
        self.count_fault(FaultCounter::LostDisk);
        Ok(())
    }

    fn start(&mut self, node: usize, log: Log<SimDisk>, mut saved: Saved) -> CheckResult {
        let mut config = core::Config::new(node_id(node));
        config.seed = self.random.next();
        config.election_timeout = self.election_timeout(node);
        config.heartbeat_interval = self.plan.heartbeat_interval;
        config.tail_bytes = self.plan.tail_bytes;
        config.message_bytes = self.plan.message_bytes;
        config.in_flight_messages = self.plan.in_flight_messages;
        config.in_flight_bytes = self.plan.in_flight_bytes;
        config.uncommitted_bytes = self.plan.uncommitted_bytes;
        config.command_bytes = REQUEST_BYTES + self.plan.padding;
        config.snapshot_chunk_bytes = self.plan.snapshot_chunk_bytes;
        config.snapshot_chunks = self.plan.snapshot_chunks;
        config.retained_snapshots = self.plan.retained_snapshots;
        config.applying_bytes = self.plan.applying_bytes;
        config.pending_reads = self.plan.pending_reads;
        self.set_machine_options(&mut config);
        config.lease = self.lease(node);
        if let Some(operator) = &self.plan.operator {
            config.promotion_lag = operator.promotion_lag;
        }
        let (request_timeout, limits) = (self.plan.request_timeout, self.machine_limits());
        let config = ReplicaConfig { core: config, request_timeout, limits };
        let life = Life { count: saved.life, nonce: self.processes[node].life };
        let own = OwnLife { life, position: (saved.life > 0).then_some(saved.position) };
        let peer_records = PeerRecords::new(std::mem::take(&mut saved.peer_records));
        let replica = Replica::new(config, saved, self.clock(node)).map_err(|error| Violation {
            invariant: "a node can start again",
            details: format!("node {} refuses its own log: {}", node + 1, error_chain(&error)),
        })?;
        self.processes[node].corrupted_since = None;
        self.processes[node].running =
            Some(Running::new(replica, Worker::new(log), own, peer_records));
        for peer in (0..self.plan.nodes).filter(|&peer| peer != node) {
            let delay = Duration::from_micros(self.random.below(2_000));
            self.schedule_after(delay, SimEvent::LinkTries { a: node, b: peer });
        }
        self.input(node, |_, _| {})
    }

    pub(super) fn log_options(&self) -> LogOptions {
        LogOptions { segment_bytes: self.plan.segment_bytes, tail_bytes: self.plan.tail_bytes }
    }

    fn open_log(&self, node: usize) -> Result<OpenedLog, StorageError> {
        let (mut log, recovered) =
            Log::open_or_create(self.processes[node].disk.clone(), self.log_options(), || {
                let id = node_id(node);
                let disk = DiskId(u128::from(id.0));
                let identity =
                    Identity { cluster: ClusterId(1), group: GroupId(1), node: id, disk };
                (identity, self.initial_configuration(node))
            })?;
        // A snapshot that cannot be opened is noticed before the node takes part in anything.
        log.snapshot_reader()?;
        let terms = &recovered.saved.terms;
        let (mut next, last) = (terms.base().next(), terms.last_index());
        let mut entries = Vec::new();
        while next <= last {
            let more =
                log.read(&core::Fetch { id: 0, from: next, to: last, limit_bytes: usize::MAX })?;
            assert!(!more.is_empty(), "the log has every entry that it announces");
            next = Index(next.0 + more.len() as u64);
            entries.extend(more);
        }
        Ok((log, recovered.saved, entries))
    }

    /// Checks that the state with which a node starts is durable. Compacted entries may reappear.
    fn check_durable(&self, node: usize, saved: &Saved) -> CheckResult {
        if self.mutant.is_some() || self.processes[node].disk.is_damaged() {
            return Ok(());
        }
        let copy = self.processes[node].disk.durable_copy();
        let found = Log::open(copy, self.log_options()).map(|(_, recovered)| recovered.saved);
        let is_same = found.as_ref().is_ok_and(|found| comparable(found) == comparable(saved));
        check(is_same, "what a node starts with is durable", || {
            format!("node {} starts with {saved:?}; its platter holds {found:?}", node + 1)
        })
    }
}
