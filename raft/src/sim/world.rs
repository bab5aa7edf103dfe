//! The simulated world: its event queue, and the handling of events.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::time::Duration;

use bytes::BytesMut;

use super::amnesia::{Amnesia, AmnesiaPlan};
use super::behaviour::Behaviour;
use super::checks::{CheckResult, Checks, Violation, check};
use super::clients::Clients;
use super::clock::Clock;
use super::disk::{DiskFull, SimDisk, SyncMutants};
use super::event::SimEvent;
use super::fault_counters::{FaultCounter, FaultCounters};
use super::faults::CrashCause;
use super::machines::MachinePlan;
use super::mutant::Mutant;
use super::network::Network;
use super::operator_requests::Operator;
use super::options::{ClientAccessPlan, NetworkPlan, OperatorPlan, Options, Plan};
use super::process::{Process, Running};
use super::random::Random;
use super::session_state::SessionClients;
use super::snapshot_rot::SnapshotRot;
use super::state_faults::StateFaultPlan;
use super::trace::{Trace, TraceDetail, brief};
use super::wall_clocks;
use crate::core::{self, Done};
use crate::replica::{Effect, PeerMessage, ReplicaEvent};
use crate::types::{FeatureLevel, NodeId, Now, Time};
use crate::wire::Version;

#[derive(Debug, PartialEq, Eq)]
struct Scheduled {
    at: Time,
    /// Among events at the same time, the one scheduled first happens first.
    order: u64,
    what: SimEvent,
}

impl Ord for Scheduled {
    /// Reversed: the heap returns the greatest first, and the earliest is wanted.
    fn cmp(&self, other: &Scheduled) -> Ordering {
        (other.at, other.order).cmp(&(self.at, self.order))
    }
}

impl PartialOrd for Scheduled {
    fn partial_cmp(&self, other: &Scheduled) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// The simulated world.
#[derive(Debug)]
pub(super) struct World {
    pub(super) now: Time,
    pub(super) random: Random,
    /// The random source of state machine faults.
    pub(super) machine_random: Random,
    pub(super) snapshot_rot: SnapshotRot,
    pub(super) plan: Plan,
    pub(super) mutant: Option<Mutant>,
    queue: BinaryHeap<Scheduled>,
    scheduled: u64,
    pub(super) processes: Vec<Process>,
    pub(super) network: Network,
    /// A buffer in which messages are encoded.
    pub(super) frames: BytesMut,
    /// The bytes of the last message.
    pub(super) sent_frame: Vec<u8>,
    pub(super) clients: Clients,
    pub(super) session_clients: SessionClients,
    pub(super) checks: Checks,
    pub(super) operator: Operator,
    pub(super) amnesia: Amnesia,
    pub(super) trace: Trace,
    /// The node whose state is corrupted.
    pub(super) corrupted_node: Option<usize>,
    /// A snapshot has carried a corrupted state to another node.
    pub(super) has_spread: bool,
    pub(super) behaviour: Behaviour,
    /// The faults are over.
    pub(super) faults_ended: bool,
    pub(super) steps: u64,
    pub(super) process_starts: u64,
    fault_counters: FaultCounters,
    /// Too many wall clocks were wrong for log time to be right.
    pub(super) has_wrong_majority: bool,
    /// Log time was late because the leader did not know the right clocks.
    pub(super) has_unknown_clocks: bool,
    /// After the faults, a write has succeeded and all nodes have the same state.
    pub(super) converged: bool,
}

impl World {
    pub(super) fn new(seed: u64, options: &Options, words: TraceDetail) -> World {
        let mut random = Random::new(seed);
        let mut plan = Plan::draw(&mut random);
        if seed.is_multiple_of(8) {
            // Half of these clusters run new versions at the old feature level, and may raise it.
            plan.feature_level = FeatureLevel::BASE;
            plan.wire = if seed.is_multiple_of(16) { Version::NEWEST } else { Version::OLDEST };
        }
        plan.operator = OperatorPlan::draw(seed, &mut plan);
        plan.access = ClientAccessPlan::draw(seed, &mut plan);
        plan.machines = MachinePlan::draw(seed, &plan);
        plan.digests = StateFaultPlan::draw(seed, &mut plan);
        plan.amnesia = AmnesiaPlan::draw(seed, &mut plan);
        if plan.amnesia.is_some() {
            plan.digests = None;
        }
        let sync_mutants = SyncMutants {
            sync: options.mutant == Some(Mutant::SyncDoesNothing),
            sync_directory: options.mutant == Some(Mutant::DirectorySyncDoesNothing),
            failed_sync: options.mutant == Some(Mutant::FailedSyncIgnored),
        };
        let processes = (0..plan.nodes).map(|_| {
            let (drift, offset) = (plan.drift, random.below(2 * plan.drift + 1));
            let offset = if plan.access.has_worst_clocks {
                offset / (drift + 1) * 2 * drift
            } else {
                offset
            };
            let (monotonic_offset, wall_offset) =
                (random.below(1 << 40), 1_700_000_000_000 + random.below(60_000));
            let clock = Clock {
                monotonic_offset,
                wall_offset,
                true_offset: wall_offset,
                wall_error: None,
                speed: 1_000_000 + drift - offset,
            };
            Process::new(SimDisk::new(sync_mutants), clock)
        });
        let mut processes: Vec<Process> = processes.collect();
        wall_clocks::draw_errors(seed, &plan, &mut processes);
        let mut world = World {
            now: Time(0),
            queue: BinaryHeap::new(),
            scheduled: 0,
            processes,
            frames: BytesMut::new(),
            sent_frame: Vec::new(),
            network: Network::new(plan.nodes, plan.network.clone()),
            clients: Clients::new(plan.clients, plan.nodes),
            session_clients: SessionClients::default(),
            checks: Checks::new(plan.nodes, options.checks_disks),
            operator: Operator::default(),
            amnesia: Amnesia::default(),
            trace: Trace::new(words),
            corrupted_node: None,
            has_spread: false,
            behaviour: Behaviour::default(),
            faults_ended: false,
            steps: 0,
            process_starts: 0,
            fault_counters: FaultCounters::default(),
            has_wrong_majority: false,
            has_unknown_clocks: false,
            converged: false,
            mutant: options.mutant,
            random,
            machine_random: Random::new(!seed),
            snapshot_rot: SnapshotRot::new(seed),
            plan,
        };
        let drifting =
            world.processes.iter().filter(|process| process.clock.speed != 1_000_000).count();
        (0..drifting).for_each(|_| world.fault_counters.count(FaultCounter::Drifting));
        let initial_configuration =
            (0..world.plan.nodes).map(|node| world.initial_configuration(node)).collect();
        world.checks.set_initial_configurations(initial_configuration);
        world.begin();
        world.schedule_operator();
        world.schedule_machine_faults();
        world.schedule_amnesia();
        world.schedule_state_faults();
        world.schedule_term_out_of_range(seed);
        world.schedule_snapshot_rot();
        world
    }

    fn begin(&mut self) {
        for node in 0..self.plan.nodes {
            let delay = Duration::from_micros(self.random.below(20_000));
            self.schedule_after(delay, SimEvent::Start { node });
        }
        for client in 0..self.plan.clients {
            self.schedule_after(Duration::from_millis(1), SimEvent::Client { client });
        }
        if !self.plan.faults.is_empty() {
            self.schedule_after(self.plan.fault_interval.max, SimEvent::Fault);
        }
    }

    /// Counts a fault.
    pub(super) fn count_fault(&mut self, counter: FaultCounter) {
        self.fault_counters.count(counter);
    }

    /// All fault counters, summed.
    pub(super) fn fault_counters(&self) -> FaultCounters {
        let mut fault_counters = self.fault_counters;
        self.count_wall_errors(&mut fault_counters);
        fault_counters.add(&self.network.fault_counters);
        self.processes
            .iter()
            .for_each(|process| fault_counters.add(&process.disk.fault_counters()));
        fault_counters
    }

    /// The digest of sent messages, disk calls and applied entries.
    pub(super) fn behaviour(&self) -> u64 {
        let mut behaviour = self.behaviour.clone();
        self.processes.iter().for_each(|process| behaviour.add(&process.disk.behaviour()));
        behaviour.digest()
    }

    pub(super) fn schedule_at(&mut self, at: Time, what: SimEvent) {
        self.scheduled += 1;
        self.queue.push(Scheduled { at, order: self.scheduled, what });
    }

    pub(super) fn schedule_after(&mut self, delay: Duration, what: SimEvent) {
        self.schedule_at(self.now.after(delay), what);
    }

    /// The readings of a node's clocks.
    pub(super) fn clock(&self, node: usize) -> Now {
        self.processes[node].clock.now(self.now)
    }

    /// Handles the next event. Returns false if there is none.
    pub(super) fn step(&mut self) -> Result<bool, Violation> {
        let Some(Scheduled { at, what, .. }) = self.queue.pop() else { return Ok(false) };
        self.now = self.now.max(at);
        self.steps += 1;
        if let Some(node) = what.process() {
            let process = &mut self.processes[node];
            if process.running.is_none() || what.life().is_some_and(|life| life != process.life) {
                return Ok(true);
            }
            if let Some(held) = &mut process.paused {
                held.push(what);
                return Ok(true);
            }
        }
        self.trace.record(self.now, &what, || what.describe());
        self.handle_event(what)?;
        self.check_forgetting_reported()?;
        Ok(true)
    }

    fn handle_event(&mut self, what: SimEvent) -> CheckResult {
        match what {
            SimEvent::Datagram { to, life, message } => {
                let from = message.from;
                if !self.may_arrive(to, life, &message) {
                    return Ok(());
                }
                if let Some(running) = &self.processes[to].running {
                    self.checks.observe_received(to, running.replica.core(), &message);
                }
                let stale = self.stale_clock(to);
                self.input(to, |running, now| {
                    running.replica.handle_message(
                        stale.unwrap_or(now),
                        from,
                        PeerMessage::Raft(message),
                    );
                })
            }
            SimEvent::OnConnection { from, to, connection, message } => {
                if self.network.connection(from, to) != connection || !self.network.is_up(from, to)
                {
                    return Ok(());
                }
                if matches!(message, PeerMessage::ForwardAdmin { .. }) {
                    self.checks.members.operator_transfers();
                }
                self.input(to, |running, now| {
                    running.replica.handle_message(now, node_id(from), message)
                })
            }
            SimEvent::LinkUp { node, peer, connection } => {
                if self.network.connection(node, peer) != connection {
                    return Ok(());
                }
                self.input(node, |running, now| {
                    running.replica.handle_disconnected(now, node_id(peer));
                    running.replica.handle_connected(now, node_id(peer));
                    running.replica.note_feature_level(node_id(peer), FeatureLevel::CURRENT);
                })
            }
            SimEvent::LinkDown { node, peer, connection } => {
                if self.network.connection(node, peer) != connection
                    || self.network.is_up(node, peer)
                {
                    return Ok(());
                }
                self.input(node, |running, now| {
                    running.replica.handle_disconnected(now, node_id(peer))
                })
            }
            SimEvent::LinkBreaks { a, b, connection } => {
                if self.network.connection(a, b) == connection {
                    self.break_link(a, b);
                }
                Ok(())
            }
            SimEvent::LinkTries { a, b } => self.try_link(a, b),
            SimEvent::Timer { node, .. } => self.handle_timer(node),
            SimEvent::StorageBegins { node, .. } => {
                self.begin_storage_batch(node);
                Ok(())
            }
            SimEvent::StorageEnds { node, .. } => self.end_storage_batch(node),
            SimEvent::StorageIdles { node, .. } => self.handle_idle_storage(node),
            SimEvent::FalselyDurable { node, sequence, .. } => {
                self.checks.write_reported(node, sequence)?;
                self.input(node, |running, now| {
                    running.replica.handle_done(now, Done::Written { sequence })
                })
            }
            SimEvent::Apply { node, .. } => self.run_machine_jobs(node),
            SimEvent::Exit { node, .. } => {
                let loses_power =
                    self.processes[node].disk.is_powered_off() || self.random.chance(5_000);
                self.crash(node, CrashCause::power_loss_if(loses_power));
                Ok(())
            }
            SimEvent::Start { node } => self.start_process(node),
            SimEvent::Resume { node } => {
                self.resume(node);
                Ok(())
            }
            SimEvent::Client { client } => self.run_client(client),
            SimEvent::Fault => self.inject_fault(),
            SimEvent::RoomOnDisk { node } => {
                self.processes[node].disk.set_full(DiskFull::Nothing);
                Ok(())
            }
            SimEvent::NewLeaderFails { node, .. } => {
                self.fail_new_leader(node);
                Ok(())
            }
            SimEvent::CutDelayedLinks { node } => {
                self.cut_delayed_links(node);
                Ok(())
            }
            SimEvent::LastFollowerFails { node } => {
                self.fail_last_follower(node);
                Ok(())
            }
            SimEvent::Heal => {
                self.network.heal();
                Ok(())
            }
            SimEvent::OperatorActs => self.run_operator(),
            SimEvent::AmnesiaFault => self.inject_amnesia(),
            SimEvent::TermOutOfRange => self.send_term_out_of_range(),
            SimEvent::Probe => self.probe(),
            SimEvent::MachineFault => {
                self.inject_machine_fault();
                Ok(())
            }
            SimEvent::SnapshotRots => {
                self.inject_snapshot_rot();
                Ok(())
            }
            SimEvent::StateFault => {
                self.inject_state_fault();
                Ok(())
            }
            SimEvent::Restart { node, .. } => {
                self.restart_process(node);
                Ok(())
            }
        }
    }

    /// Gives a process an input, carries out the effects, and checks the result.
    pub(super) fn input(
        &mut self,
        node: usize,
        input: impl FnOnce(&mut Running, Now),
    ) -> CheckResult {
        let now = self.clock(node);
        let Some(running) = &mut self.processes[node].running else { return Ok(()) };
        input(running, now);
        self.observe(node)?;
        self.drain(node)
    }

    fn observe(&mut self, node: usize) -> CheckResult {
        let process = &self.processes[node];
        let Some(running) = &process.running else { return Ok(()) };
        let core = running.replica.core();
        self.checks.observe(node, process.life, core)?;
        self.check_leases_exclusive(node)?;
        self.check_unfit_do_not_campaign(node)?;
        let process = &self.processes[node];
        let Some(running) = &process.running else { return Ok(()) };
        let core = running.replica.core();
        if core.is_leader() && process.last_led < core.term() {
            self.processes[node].last_led = core.term();
            self.on_elected(node);
        }
        Ok(())
    }

    /// In some runs leaders fail soon after their election: many short terms cause the hard cases.
    fn on_elected(&mut self, node: usize) {
        let Some(delay) = self.plan.leader_fails_within.filter(|_| !self.faults_ended) else {
            return;
        };
        if self.random.chance(7_000) {
            let delay = self.random.duration(Duration::ZERO, delay);
            let life = self.processes[node].life;
            self.schedule_after(delay, SimEvent::NewLeaderFails { node, life });
        }
    }

    /// Carries out all effects of a replica.
    pub(super) fn drain(&mut self, node: usize) -> CheckResult {
        loop {
            let process = &mut self.processes[node];
            let Some(running) = &mut process.running else { return Ok(()) };
            self.checks.members.observe_transfer(node, running.replica.core());
            let Some(effect) = running.replica.poll() else { break };
            if let Some(left) = &mut process.effects_left {
                if *left == 0 {
                    self.fault_counters.count(FaultCounter::PowerLostAmidEffects);
                    self.crash(node, CrashCause::PowerLoss);
                    return Ok(());
                }
                *left -= 1;
            }
            self.trace.record(self.now, &(node, &effect), || {
                format!("  {}: {}", node + 1, brief(&effect))
            });
            self.carry_out(node, effect)?;
        }
        self.observe(node)?;
        self.check_members_in_force(node)?;
        self.schedule_timer(node);
        Ok(())
    }

    fn carry_out(&mut self, node: usize, effect: Effect) -> CheckResult {
        match effect {
            Effect::Send { to, message } => self.send(node, to, message),
            Effect::Storage(job) => self.queue_storage_job(node, job),
            Effect::Machine(job) => self.queue_machine_job(node, job),
            Effect::Reply { id, outcome } => self.reply(node, id, &outcome),
            Effect::Event(ReplicaEvent::StorageFailed { reason }) => {
                let disk = &self.processes[node].disk;
                let has_cause = disk.take_failure() || disk.is_powered_off() || disk.is_damaged();
                check(
                    has_cause || self.mutant.is_some(),
                    "a log fails only with its disk",
                    || {
                        format!(
                            "node {} stops, though no call of its disk failed: {reason}",
                            node + 1
                        )
                    },
                )?;
                let delay = Duration::from_micros(self.random.below(200_000));
                let life = self.processes[node].life;
                self.schedule_after(delay, SimEvent::Exit { node, life });
                Ok(())
            }
            Effect::Event(ReplicaEvent::Core(core::Event::MembershipChanged {
                is_joint, ..
            })) => {
                self.count_change(node, is_joint);
                Ok(())
            }
            Effect::Event(ReplicaEvent::SnapshotFailed { reason, .. }) => {
                let disk = &self.processes[node].disk;
                let has_cause = disk.take_failure() || disk.is_powered_off() || disk.is_damaged();
                check(
                    has_cause || self.mutant.is_some(),
                    "a snapshot fails only with its disk",
                    || {
                        format!(
                            "node {} fails a snapshot, though no call of its disk failed: {reason}",
                            node + 1
                        )
                    },
                )
            }
            Effect::Event(ReplicaEvent::SnapshotDamaged { index }) => {
                self.on_snapshot_damaged(node, index)
            }
            Effect::Event(ReplicaEvent::UnappliedLogFull(full)) => {
                self.on_unapplied_log_full(node, &full)
            }
            Effect::Event(ReplicaEvent::Core(core::Event::LeaderLoading { to })) => {
                self.count_fault(if to.is_some() {
                    FaultCounter::HandedOverLoading
                } else {
                    FaultCounter::LeaderLoading
                });
                Ok(())
            }
            Effect::Event(ReplicaEvent::Core(core::Event::Backlogged { to, .. })) => {
                self.count_fault(if to.is_some() {
                    FaultCounter::HandedOverBacklog
                } else {
                    FaultCounter::Backlogged
                });
                Ok(())
            }
            Effect::Event(ReplicaEvent::MachineFailed(failure)) => {
                self.on_machine_failed(node, &failure)
            }
            Effect::Event(ReplicaEvent::Core(
                event @ (core::Event::StateDiverged(_)
                | core::Event::PeerDiverged { .. }
                | core::Event::StatesDiffer(_)),
            )) => self.on_states_differ(node, event),
            Effect::Event(ReplicaEvent::Core(event)) => self.on_disk_report(node, event),
        }
    }

    /// Schedules a timer for the replica's deadline, unless an earlier one is pending.
    fn schedule_timer(&mut self, node: usize) {
        let process = &mut self.processes[node];
        let Some(running) = &process.running else { return };
        let Some(deadline) = running.replica.poll_timeout() else { return };
        let deadline = process.clock.to_virtual(deadline).max(self.now);
        if process.timer_at.is_some_and(|armed| armed <= deadline) {
            return;
        }
        process.timer_at = Some(deadline);
        let life = process.life;
        let late = if self.faults_ended { Duration::ZERO } else { self.plan.timer_delay };
        let late = self.random.duration(Duration::ZERO, late);
        if late > Duration::from_millis(1) {
            self.fault_counters.count(FaultCounter::TimerLate);
        }
        self.schedule_at(deadline.after(late), SimEvent::Timer { node, life });
    }

    fn handle_timer(&mut self, node: usize) -> CheckResult {
        self.processes[node].timer_at = None;
        let due = {
            let process = &self.processes[node];
            let deadline =
                process.running.as_ref().and_then(|running| running.replica.poll_timeout());
            deadline.is_some_and(|deadline| process.clock.to_virtual(deadline) <= self.now)
        };
        if !due {
            self.schedule_timer(node);
            return Ok(());
        }
        self.input(node, |running, now| {
            running.replica.handle_timeout(now);
            running.peer_records.report_to(&mut running.replica, now);
        })?;
        if self.may_transfer() {
            self.checks.members.operator_transfers();
        }
        let Some(running) = &self.processes[node].running else { return Ok(()) };
        self.checks.timer_fired(node, running.replica.core(), self.clock(node))
    }

    /// Repairs all faults and injects no more.
    pub(super) fn end_faults(&mut self) {
        self.faults_ended = true;
        self.plan.faults.clear();
        self.network.heal();
        self.network.plan = NetworkPlan::without_faults();
        for node in 0..self.plan.nodes {
            let process = &mut self.processes[node];
            process.effects_left = None;
            process.disk.clear_faults();
            self.resume(node);
            let is_failing = |running: &mut Running| {
                running.machine.machine_mut().stop_failing();
                running.machine.has_failed()
            };
            if self.processes[node].running.as_mut().is_some_and(is_failing) {
                self.restart_process(node);
            }
        }
        self.schedule_after(Duration::from_millis(1), SimEvent::Probe);
    }
}

/// The id of a node.
pub(super) fn node_id(place: usize) -> NodeId {
    NodeId(place as u64 + 1)
}
