//! What goes wrong: crashes, restarts, pauses, partitions, disks and clocks.

use std::time::Duration;

use super::checks::{Verdict, Violation};
use super::happening::Happening;
use super::kv::Kv;
use super::options::FaultKind;
use super::process::Running;
use super::world::{World, name};
use crate::core;
use crate::replica::{Replica, ReplicaConfig};
use crate::storage::{Log, LogOptions, StorageError, Worker};
use crate::types::{ClusterId, Configuration, DiskId, Entry, GroupId, Identity, Index, Member, Saved};

impl World {
    /// One of the faults of this run, and the time of the next.
    pub(super) fn fault(&mut self) {
        if self.calm || self.plan.faults.is_empty() {
            return;
        }
        let pause = self.random.duration(self.plan.fault_interval);
        self.after(pause, Happening::Fault);
        let kind = self.random.pick(&self.plan.faults);
        let node = self.victim();
        let down = Duration::from_millis(self.random.pick(&[1, 30, 300, 1_500]));
        self.trace.record(self.now, &(node, down), || format!("fault: {kind:?} at {} for {down:?}", node + 1));
        match kind {
            FaultKind::Partition | FaultKind::CutLinks | FaultKind::Deaf => {
                self.cut_links(kind, node);
                self.after(down * 2, Happening::Heal);
            }
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
            FaultKind::Pause => self.pause(node, down),
            FaultKind::SyncFails => self.processes[node].disk.fail_next_sync(true),
            FaultKind::ClockJump => {
                self.processes[node].clock.wall_offset = 1_600_000_000_000 + self.random.below(1 << 38)
            }
        }
    }

    /// Half of the time a node that takes itself for the leader: what happens to leaders matters most.
    fn victim(&mut self) -> usize {
        let anybody = self.random.below(self.plan.nodes as u64) as usize;
        let leads = |node: &usize| {
            self.processes[*node].running.as_ref().is_some_and(|running| running.replica.core().is_leader())
        };
        let leaders: Vec<usize> = (0..self.plan.nodes).filter(leads).collect();
        if leaders.is_empty() || self.random.chance(5_000) { anybody } else { self.random.pick(&leaders) }
    }

    fn cut_links(&mut self, kind: FaultKind, node: usize) {
        let nodes = self.plan.nodes;
        let side: Vec<bool> = (0..nodes).map(|_| self.random.chance(5_000)).collect();
        let deaf = self.random.chance(5_000);
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

    fn pause(&mut self, node: usize, down: Duration) {
        let process = &mut self.processes[node];
        if process.is_awake() {
            process.paused = Some(Vec::new());
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
        let process = &mut self.processes[node];
        process.paused = None;
        process.effects_left = None;
        process.timer_at = None;
        let Some(mut running) = process.running.take() else { return };
        if !running.taken.is_empty() {
            process.disk.fail_after(self.random.below(6));
            running.worker.run(&mut running.taken, &mut |_| {});
            process.disk.fail_not();
        }
        drop(running);
        if loses_power {
            process.disk.lose_power(&mut self.random);
        }
        self.trace.record(self.now, &(node, loses_power), || {
            format!("node {} {}", node + 1, if loses_power { "loses power" } else { "is killed" })
        });
        self.clients.forget_node(node);
        for peer in 0..self.plan.nodes {
            self.break_link(node, peer);
        }
        let high = self.random.pick(&[5, 50, 1_000]);
        let down = Duration::from_millis(if self.calm { 1 } else { self.random.between(1, high) });
        self.after(down, Happening::Boot { node });
    }

    /// A process starts from what its disk holds; sometimes it dies on the way.
    pub(super) fn boot(&mut self, node: usize) -> Verdict {
        if self.processes[node].running.is_some() {
            return Ok(());
        }
        self.processes[node].life += 1;
        self.boots += 1;
        let dies = !self.calm && self.processes[node].life > 1 && self.random.chance(1_000);
        if dies {
            let calls = self.random.below(30);
            self.processes[node].disk.fail_after(calls);
        }
        self.processes[node].disk.sync_has_failed();
        let opened = self.open_log(node);
        let process = &self.processes[node];
        if dies && opened.is_err() {
            process.disk.lose_power(&mut self.random);
            self.after(Duration::from_millis(1), Happening::Boot { node });
            return Ok(());
        }
        process.disk.fail_not();
        process.disk.forget_tags();
        let (log, saved, entries) = match opened {
            Ok(opened) => opened,
            Err(error) if process.disk.sync_has_failed() => {
                // A disk that refuses to sync while the log is opened: the process ends and is started again.
                self.trace.record(self.now, &node, || format!("node {} cannot start: {error}", node + 1));
                self.after(Duration::from_millis(1), Happening::Boot { node });
                return Ok(());
            }
            Err(error) => {
                let details = format!("node {} finds on its disk: {error}", node + 1);
                return Err(Violation { invariant: "a node can start again", details });
            }
        };
        self.is_durable(node, &saved)?;
        self.checks.recovered(node, &saved, &entries)?;
        self.start(node, log, saved)
    }

    fn start(&mut self, node: usize, log: Log<super::disk::SimDisk>, saved: Saved) -> Verdict {
        let mut config = core::Config::new(name(node));
        config.seed = self.random.next();
        config.election_timeout = self.plan.election_timeout;
        config.heartbeat_interval = self.plan.heartbeat_interval;
        config.tail_bytes = self.plan.tail_bytes;
        config.message_bytes = self.plan.message_bytes;
        config.in_flight_messages = self.plan.in_flight_messages;
        let config = ReplicaConfig { request_timeout: self.plan.request_timeout, ..ReplicaConfig::new(config) };
        let replica = Replica::new(config, saved, self.clock(node)).map_err(|error| Violation {
            invariant: "a node can start again",
            details: format!("node {} refuses its own log: {error}", node + 1),
        })?;
        self.processes[node].running = Some(Running::new(replica, Worker::new(log)));
        for peer in (0..self.plan.nodes).filter(|&peer| peer != node) {
            let delay = Duration::from_micros(self.random.below(2_000));
            self.after(delay, Happening::LinkTries { a: node, b: peer });
        }
        self.input(node, |_, _| {})
    }

    fn log_options(&self) -> LogOptions {
        LogOptions { segment_bytes: self.plan.segment_bytes, tail_bytes: self.plan.tail_bytes }
    }

    fn open_log(&self, node: usize) -> Result<(Log<super::disk::SimDisk>, Saved, Vec<Entry>), StorageError> {
        let nodes = self.plan.nodes;
        let (mut log, recovered) = Log::open_or_create(self.processes[node].disk.clone(), self.log_options(), || {
            let id = name(node);
            let disk = DiskId(u128::from(id.0));
            let identity = Identity { cluster: ClusterId(1), group: GroupId(1), node: id, disk };
            let members = (0..nodes).map(|place| (name(place), Member::default()));
            (identity, Configuration::of_voters(members))
        })?;
        let last = recovered.saved.terms.last_index();
        let mut entries = Vec::new();
        while (entries.len() as u64) < last.0 {
            let from = Index(entries.len() as u64 + 1);
            let fetch = core::Fetch { id: 0, from, to: last, limit_bytes: usize::MAX };
            let more = log.read(&fetch)?;
            assert!(!more.is_empty(), "the log holds what it says it holds");
            entries.extend(more);
        }
        Ok((log, recovered.saved, entries))
    }

    /// What a node starts with must survive if the power goes right now.
    fn is_durable(&self, node: usize, saved: &Saved) -> Verdict {
        if self.mutant.is_some() {
            return Ok(());
        }
        let copy = self.processes[node].disk.durable_copy();
        let found = Log::open(copy, self.log_options()).map(|(_, recovered)| recovered.saved);
        super::checks::check(found.as_ref() == Ok(saved), "what a node starts with is durable", || {
            format!("node {} starts with {saved:?}; its platter holds {found:?}", node + 1)
        })
    }

    /// Whether all state machines are the same, and what the committed commands make.
    pub(super) fn all_alike(&self) -> bool {
        let machines: Option<Vec<&Kv>> =
            self.processes.iter().map(|process| Some(process.running.as_ref()?.machine.machine())).collect();
        machines.is_some_and(|machines| machines.into_iter().all(|machine| self.checks.is_reference(machine)))
    }
}
