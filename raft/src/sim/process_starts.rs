//! A process starts, from what its disk holds.

use std::time::Duration;

use super::checks::{Verdict, Violation, check};
use super::disk::SimDisk;
use super::event::SimEvent;
use super::fault_counters::FaultCounter;
use super::options::REQUEST_BYTES;
use super::process::{OwnLife, Running};
use super::world::{World, name};
use crate::core;
use crate::replica::peer_records::PeerRecords;
use crate::replica::{Replica, ReplicaConfig};
use crate::storage::{Log, LogOptions, StorageError, Worker};
use crate::types::{ClusterId, DiskId, Entry, GroupId, Identity, Index, Life, Saved, Term};

/// A log, what it says of itself, and its entries.
type Opened = (Log<SimDisk>, Saved, Vec<Entry>);

/// What one log must have in common with another that holds the same, wherever the two begin.
fn promises(saved: &Saved) -> impl PartialEq + use<> {
    let snapshot = saved.snapshot.clone();
    let from = snapshot.as_ref().map_or(Index(0), |snapshot| snapshot.index);
    let terms: Vec<Option<Term>> = (from.0..=saved.terms.last_index().0)
        .map(|index| saved.terms.term_at(Index(index)))
        .collect();
    (saved.hard_state, snapshot, terms, saved.configuration().clone())
}

impl World {
    /// A process starts from what its disk holds; sometimes it dies on the way.
    pub(super) fn boot(&mut self, node: usize) -> Verdict {
        if self.processes[node].running.is_some() || self.processes[node].is_lost {
            return Ok(());
        }
        self.processes[node].life += 1;
        self.process_starts += 1;
        let dies = !self.calm
            && !self.is_quiet()
            && self.processes[node].life > 1
            && self.random.chance(1_000);
        if dies {
            let calls = self.random.below(30);
            self.processes[node].disk.fail_after(calls);
        }
        self.processes[node].disk.has_failed();
        // Told before anything is written, which might cover it.
        let looks_torn = self.processes[node].disk.is_last_batch_damaged();
        let opened = self.open_log(node);
        let process = &self.processes[node];
        if looks_torn {
            // Damage that the log takes for a torn tail: its documented limit. The simulator knows
            // better, and whoever dies while the log is opened may have cut it already.
            process.disk.fail_not();
            return self.lose(node, "its last batch is damaged");
        }
        if dies && opened.is_err() {
            process.disk.fail_not();
            if self.random.chance(7_000) {
                process.disk.lose_power(&mut self.random);
            }
            self.count_fault(FaultCounter::DiedOpening);
            self.after(Duration::from_millis(1), SimEvent::Start { node });
            return Ok(());
        }
        process.disk.fail_not();
        process.disk.forget_tags();
        let (log, saved, entries) = match opened {
            Ok(opened) => opened,
            Err(
                error @ (StorageError::Corrupt { .. }
                | StorageError::EndLost { .. }
                | StorageError::Poisoned { .. }),
            ) if process.disk.is_damaged() => {
                return self.lose(node, &error.to_string());
            }
            Err(error) if process.disk.has_failed() => {
                // A disk that refuses something while the log is opened: the process ends and is
                // started again.
                self.trace
                    .record(self.now, &node, || format!("node {} cannot start: {error}", node + 1));
                let pause = Duration::from_millis(self.random.pick(&[20, 300]));
                self.after(pause, SimEvent::Start { node });
                return Ok(());
            }
            Err(error) => {
                let details = format!("node {} finds on its disk: {error}", node + 1);
                return Err(Violation { invariant: "a node can start again", details });
            }
        };
        let is_damaged = process.disk.is_damaged();
        self.is_durable(node, &saved)?;
        if self.opened_after_put_back(node) {
            self.checks.forgot(node, &saved, &entries);
        }
        self.checks.recovered(node, &saved, &entries, is_damaged)?;
        self.start(node, log, saved)
    }

    /// What the node has promised is gone, so it must never start again. It is one of a minority.
    fn lose(&mut self, node: usize, why: &str) -> Verdict {
        self.trace.record(self.now, &node, || format!("node {} is lost: {why}", node + 1));
        self.processes[node].is_lost = true;
        self.count_fault(FaultCounter::LostDisk);
        Ok(())
    }

    fn start(&mut self, node: usize, log: Log<SimDisk>, mut saved: Saved) -> Verdict {
        let mut config = core::Config::new(name(node));
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
        self.tune_machine(&mut config);
        config.lease = self.lease(node);
        if let Some(churn) = &self.plan.churn {
            config.promotion_lag = churn.promotion_lag;
        }
        let (request_timeout, limits) = (self.plan.request_timeout, self.machine_limits());
        let config = ReplicaConfig { core: config, request_timeout, limits };
        let life = Life { count: saved.life, nonce: self.processes[node].life };
        let own = OwnLife { life, position: (saved.life > 0).then_some(saved.position) };
        let peer_records = PeerRecords::new(std::mem::take(&mut saved.peer_records));
        let replica = Replica::new(config, saved, self.clock(node)).map_err(|error| Violation {
            invariant: "a node can start again",
            details: format!("node {} refuses its own log: {error}", node + 1),
        })?;
        self.processes[node].wrong_since = None;
        self.processes[node].running =
            Some(Running::new(replica, Worker::new(log), own, peer_records));
        for peer in (0..self.plan.nodes).filter(|&peer| peer != node) {
            let delay = Duration::from_micros(self.random.below(2_000));
            self.after(delay, SimEvent::LinkTries { a: node, b: peer });
        }
        self.input(node, |_, _| {})
    }

    pub(super) fn log_options(&self) -> LogOptions {
        LogOptions { segment_bytes: self.plan.segment_bytes, tail_bytes: self.plan.tail_bytes }
    }

    fn open_log(&self, node: usize) -> Result<Opened, StorageError> {
        let (mut log, recovered) =
            Log::open_or_create(self.processes[node].disk.clone(), self.log_options(), || {
                let id = name(node);
                let disk = DiskId(u128::from(id.0));
                let identity =
                    Identity { cluster: ClusterId(1), group: GroupId(1), node: id, disk };
                (identity, self.initial_configuration(node))
            })?;
        // A snapshot that cannot be opened at all is noticed before the node has a part in
        // anything.
        log.snapshot_reader()?;
        let terms = &recovered.saved.terms;
        let (mut next, last) = (terms.base().next(), terms.last_index());
        let mut entries = Vec::new();
        while next <= last {
            let more =
                log.read(&core::Fetch { id: 0, from: next, to: last, limit_bytes: usize::MAX })?;
            assert!(!more.is_empty(), "the log holds what it says it holds");
            next = Index(next.0 + more.len() as u64);
            entries.extend(more);
        }
        Ok((log, recovered.saved, entries))
    }

    /// What a node starts with must survive if the power goes right now. Entries that were
    /// compacted may come back.
    fn is_durable(&self, node: usize, saved: &Saved) -> Verdict {
        if self.mutant.is_some() || self.processes[node].disk.is_damaged() {
            return Ok(());
        }
        let copy = self.processes[node].disk.durable_copy();
        let found = Log::open(copy, self.log_options()).map(|(_, recovered)| recovered.saved);
        let is_same = found.as_ref().is_ok_and(|found| promises(found) == promises(saved));
        check(is_same, "what a node starts with is durable", || {
            format!("node {} starts with {saved:?}; its platter holds {found:?}", node + 1)
        })
    }
}
