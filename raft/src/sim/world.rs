//! The event queue, and what one event does.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::time::Duration;

use bytes::BytesMut;

use super::behaviour::Behaviour;
use super::checks::{Checks, Verdict, Violation, check};
use super::clients::Clients;
use super::clock::Clock;
use super::digests::DigestPlan;
use super::disk::{Full, Lies, SimDisk};
use super::forgetting::{Forgetting, ForgettingPlan};
use super::happening::Happening;
use super::harms::{Harm, Harms};
use super::machines::MachinePlan;
use super::mutant::Mutant;
use super::network::Network;
use super::options::{AccessPlan, ChurnPlan, NetworkPlan, Options, Plan};
use super::orders::Churn;
use super::process::{Process, Running};
use super::random::Random;
use super::session_books::SessionClients;
use super::snapshot_rot::SnapshotRot;
use super::trace::{Trace, Words, brief};
use super::wall_clocks;
use crate::core::{self, Done};
use crate::replica::{Effect, Event, PeerMessage};
use crate::types::{FeatureLevel, NodeId, Now, Time};
use crate::wire::Version;

#[derive(Debug, PartialEq, Eq)]
struct Scheduled {
    at: Time,
    /// What was scheduled first happens first.
    order: u64,
    what: Happening,
}

impl Ord for Scheduled {
    /// The heap gives the greatest first; ours is the earliest.
    fn cmp(&self, other: &Scheduled) -> Ordering {
        (other.at, other.order).cmp(&(self.at, self.order))
    }
}

impl PartialOrd for Scheduled {
    fn partial_cmp(&self, other: &Scheduled) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Everything there is.
#[derive(Debug)]
pub(super) struct World {
    pub(super) now: Time,
    pub(super) random: Random,
    /// For what goes wrong with state machines.
    pub(super) machine_random: Random,
    pub(super) snapshot_rot: SnapshotRot,
    pub(super) plan: Plan,
    pub(super) mutant: Option<Mutant>,
    queue: BinaryHeap<Scheduled>,
    scheduled: u64,
    pub(super) processes: Vec<Process>,
    pub(super) network: Network,
    /// Where messages are encoded.
    pub(super) frames: BytesMut,
    /// The bytes of the last one.
    pub(super) sent_frame: Vec<u8>,
    pub(super) clients: Clients,
    pub(super) session_clients: SessionClients,
    pub(super) checks: Checks,
    pub(super) churn: Churn,
    pub(super) forgetting: Forgetting,
    pub(super) trace: Trace,
    /// The node whose state goes wrong.
    pub(super) wrong_node: Option<usize>,
    /// More than one state machine has had a wrong state: a snapshot carried it.
    pub(super) has_spread: bool,
    pub(super) behaviour: Behaviour,
    /// The faults are over.
    pub(super) calm: bool,
    pub(super) steps: u64,
    pub(super) boots: u64,
    harms: Harms,
    /// Too many wall clocks were wrong for log time to be right.
    pub(super) clocks_misled: bool,
    /// Log time was late because the right clocks were not heard.
    pub(super) clocks_unheard: bool,
    /// After the faults, a write has succeeded and all nodes are alike.
    pub(super) converged: bool,
}

impl World {
    pub(super) fn new(seed: u64, options: &Options, words: Words) -> World {
        let mut random = Random::new(seed);
        let mut plan = Plan::draw(&mut random);
        if seed.is_multiple_of(8) {
            // Half of these clusters run new versions at the old level, and may be raised.
            plan.feature_level = FeatureLevel::BASE;
            plan.wire = if seed.is_multiple_of(16) { Version::NEWEST } else { Version::OLDEST };
        }
        plan.churn = ChurnPlan::draw(seed, &mut plan);
        plan.access = AccessPlan::draw(seed, &mut plan);
        plan.machines = MachinePlan::draw(seed, &plan);
        plan.digests = DigestPlan::draw(seed, &mut plan);
        plan.forgetting = ForgettingPlan::draw(seed, &mut plan);
        if plan.forgetting.is_some() {
            plan.digests = None;
        }
        let lies = Lies {
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
            Process::new(SimDisk::new(lies), clock)
        });
        let mut processes: Vec<Process> = processes.collect();
        wall_clocks::draw(seed, &plan, &mut processes);
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
            checks: Checks::new(plan.nodes, options.looks_at_disks),
            churn: Churn::default(),
            forgetting: Forgetting::default(),
            trace: Trace::new(words),
            wrong_node: None,
            has_spread: false,
            behaviour: Behaviour::default(),
            calm: false,
            steps: 0,
            boots: 0,
            harms: Harms::default(),
            clocks_misled: false,
            clocks_unheard: false,
            converged: false,
            mutant: options.mutant,
            random,
            machine_random: Random::new(!seed),
            snapshot_rot: SnapshotRot::new(seed),
            plan,
        };
        let drifting =
            world.processes.iter().filter(|process| process.clock.speed != 1_000_000).count();
        (0..drifting).for_each(|_| world.harms.count(Harm::Drifting));
        let born_with = (0..world.plan.nodes).map(|node| world.born_with(node)).collect();
        world.checks.born(born_with);
        world.begin();
        world.begin_churn();
        world.begin_machines();
        world.begin_forgetting();
        world.begin_state_faults();
        world.begin_wild_terms(seed);
        world.begin_snapshot_rot();
        world
    }

    fn begin(&mut self) {
        for node in 0..self.plan.nodes {
            let delay = Duration::from_micros(self.random.below(20_000));
            self.after(delay, Happening::Boot { node });
        }
        for client in 0..self.plan.clients {
            self.after(Duration::from_millis(1), Happening::Client { client });
        }
        if !self.plan.faults.is_empty() {
            self.after(self.plan.fault_interval.1, Happening::Fault);
        }
    }

    /// Takes note of what has gone wrong.
    pub(super) fn harm(&mut self, harm: Harm) {
        self.harms.count(harm);
    }

    /// All that has gone wrong.
    pub(super) fn harms(&self) -> Harms {
        let mut harms = self.harms;
        self.count_wall_errors(&mut harms);
        harms.add(&self.network.harms);
        self.processes.iter().for_each(|process| harms.add(&process.disk.harms()));
        harms
    }

    /// The digest of what nodes have sent, what their disks were asked to do, and what they
    /// applied.
    pub(super) fn behaviour(&self) -> u64 {
        let mut behaviour = self.behaviour.clone();
        self.processes.iter().for_each(|process| behaviour.add(&process.disk.behaviour()));
        behaviour.digest()
    }

    pub(super) fn at(&mut self, at: Time, what: Happening) {
        self.scheduled += 1;
        self.queue.push(Scheduled { at, order: self.scheduled, what });
    }

    pub(super) fn after(&mut self, delay: Duration, what: Happening) {
        self.at(self.now.after(delay), what);
    }

    /// What a node's clocks say.
    pub(super) fn clock(&self, node: usize) -> Now {
        self.processes[node].clock.now(self.now)
    }

    /// Lets the next thing happen. False if there is nothing any more.
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
        self.trace.record(self.now, &what, || what.words());
        self.happen(what)?;
        self.forgetting_is_told()?;
        Ok(true)
    }

    fn happen(&mut self, what: Happening) -> Verdict {
        match what {
            Happening::Datagram { to, life, message } => {
                let from = message.from;
                if !self.may_arrive(to, life, &message) {
                    return Ok(());
                }
                if let Some(running) = &self.processes[to].running {
                    self.checks.hears(to, running.replica.core(), &message);
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
            Happening::OnConnection { from, to, connection, message } => {
                if self.network.connection(from, to) != connection || !self.network.is_up(from, to)
                {
                    return Ok(());
                }
                if matches!(message, PeerMessage::ForwardAdmin { .. }) {
                    self.checks.members.operator_transfers();
                }
                self.input(to, |running, now| {
                    running.replica.handle_message(now, name(from), message)
                })
            }
            Happening::LinkUp { node, peer, connection } => {
                if self.network.connection(node, peer) != connection {
                    return Ok(());
                }
                self.input(node, |running, now| {
                    running.replica.handle_disconnected(now, name(peer));
                    running.replica.handle_connected(now, name(peer));
                    running.replica.note_feature_level(name(peer), FeatureLevel::CURRENT);
                })
            }
            Happening::LinkDown { node, peer, connection } => {
                if self.network.connection(node, peer) != connection
                    || self.network.is_up(node, peer)
                {
                    return Ok(());
                }
                self.input(node, |running, now| {
                    running.replica.handle_disconnected(now, name(peer))
                })
            }
            Happening::LinkBreaks { a, b, connection } => {
                if self.network.connection(a, b) == connection {
                    self.break_link(a, b);
                }
                Ok(())
            }
            Happening::LinkTries { a, b } => self.try_link(a, b),
            Happening::Timer { node, .. } => self.timer(node),
            Happening::StorageBegins { node, .. } => {
                self.storage_begins(node);
                Ok(())
            }
            Happening::StorageEnds { node, .. } => self.storage_ends(node),
            Happening::StorageIdles { node, .. } => self.storage_idles(node),
            Happening::SaidToBeWritten { node, sequence, .. } => {
                self.checks.write_reported(node, sequence)?;
                self.input(node, |running, now| {
                    running.replica.handle_done(now, Done::Written { sequence })
                })
            }
            Happening::Apply { node, .. } => self.apply(node),
            Happening::GivesUp { node, .. } => {
                let loses_power = self.processes[node].disk.is_dark() || self.random.chance(5_000);
                self.crash(node, loses_power);
                Ok(())
            }
            Happening::Boot { node } => self.boot(node),
            Happening::Resume { node } => {
                self.resume(node);
                Ok(())
            }
            Happening::Client { client } => self.client(client),
            Happening::Fault => self.fault(),
            Happening::RoomOnDisk { node } => {
                self.processes[node].disk.set_full(Full::Nothing);
                Ok(())
            }
            Happening::LeaderFalls { node, .. } => {
                self.leader_falls(node);
                Ok(())
            }
            Happening::FallsSilent { node } => {
                self.falls_silent(node);
                Ok(())
            }
            Happening::FriendFalls { node } => {
                self.friend_falls(node);
                Ok(())
            }
            Happening::Heal => {
                self.network.heal();
                Ok(())
            }
            Happening::Churn => self.churn(),
            Happening::Forgets => self.forgets(),
            Happening::WildTerm => self.wild_term(),
            Happening::Probe => self.probe(),
            Happening::MachineFault => {
                self.machine_fault();
                Ok(())
            }
            Happening::SnapshotRots => {
                self.snapshot_rots();
                Ok(())
            }
            Happening::StateFault => {
                self.state_fault();
                Ok(())
            }
            Happening::StartedAgain { node, .. } => {
                self.start_again(node);
                Ok(())
            }
        }
    }

    /// Gives a process an input, carries out what it asks for, and looks at it.
    pub(super) fn input(&mut self, node: usize, input: impl FnOnce(&mut Running, Now)) -> Verdict {
        let now = self.clock(node);
        let Some(running) = &mut self.processes[node].running else { return Ok(()) };
        input(running, now);
        self.observe(node)?;
        self.drain(node)
    }

    fn observe(&mut self, node: usize) -> Verdict {
        let process = &self.processes[node];
        let Some(running) = &process.running else { return Ok(()) };
        let core = running.replica.core();
        self.checks.observe(node, process.life, core)?;
        self.leases_are_exclusive(node)?;
        self.unfit_nodes_do_not_campaign(node)?;
        let process = &self.processes[node];
        let Some(running) = &process.running else { return Ok(()) };
        let core = running.replica.core();
        if core.is_leader() && process.led < core.term() {
            self.processes[node].led = core.term();
            self.elected(node);
        }
        Ok(())
    }

    /// Leaders fall soon after their election in some runs: many short terms are what the hard
    /// cases are made of.
    fn elected(&mut self, node: usize) {
        let Some(delay) = self.plan.falls_within.filter(|_| !self.calm) else { return };
        if self.random.chance(7_000) {
            let delay = self.random.duration((Duration::ZERO, delay));
            let life = self.processes[node].life;
            self.after(delay, Happening::LeaderFalls { node, life });
        }
    }

    /// Carries out everything a replica asks for.
    pub(super) fn drain(&mut self, node: usize) -> Verdict {
        loop {
            let process = &mut self.processes[node];
            let Some(running) = &mut process.running else { return Ok(()) };
            let Some(effect) = running.replica.poll() else { break };
            if let Some(left) = &mut process.effects_left {
                if *left == 0 {
                    self.harms.count(Harm::PowerLostAmidEffects);
                    self.crash(node, true);
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
        self.members_settled(node)?;
        self.arm(node);
        Ok(())
    }

    fn carry_out(&mut self, node: usize, effect: Effect) -> Verdict {
        match effect {
            Effect::Send { to, message } => self.send(node, to, message),
            Effect::Storage(job) => self.store(node, job),
            Effect::Machine(job) => self.hand_to_machine(node, job),
            Effect::Reply { id, outcome } => self.reply(node, id, &outcome),
            Effect::Event(Event::StorageFailed { reason }) => {
                let disk = &self.processes[node].disk;
                let has_cause = disk.has_failed() || disk.is_dark() || disk.is_damaged();
                check(
                    has_cause || self.mutant.is_some(),
                    "a log fails only with its disk",
                    || {
                        format!(
                            "node {} gives up, though its disk did all that it was told: {reason}",
                            node + 1
                        )
                    },
                )?;
                let delay = Duration::from_micros(self.random.below(200_000));
                let life = self.processes[node].life;
                self.after(delay, Happening::GivesUp { node, life });
                Ok(())
            }
            Effect::Event(Event::Core(core::Event::Membership { is_joint, .. })) => {
                self.count_change(node, is_joint);
                Ok(())
            }
            Effect::Event(Event::SnapshotFailed { reason, .. }) => {
                let disk = &self.processes[node].disk;
                let has_cause = disk.has_failed() || disk.is_dark() || disk.is_damaged();
                check(
                    has_cause || self.mutant.is_some(),
                    "a snapshot fails only with its disk",
                    || {
                        format!(
                            "node {} gives up a snapshot, though its disk did all that it was told: {reason}",
                            node + 1
                        )
                    },
                )
            }
            Effect::Event(Event::SnapshotDamaged { index }) => self.snapshot_damaged(node, index),
            Effect::Event(Event::UnappliedLogFull(full)) => self.unapplied_log_full(node, &full),
            Effect::Event(Event::Core(core::Event::LeaderLoading { to })) => {
                self.harm(if to.is_some() { Harm::HandedOverLoading } else { Harm::LeaderLoading });
                Ok(())
            }
            Effect::Event(Event::Core(core::Event::Backlogged { to, .. })) => {
                self.harm(if to.is_some() { Harm::HandedOverBacklog } else { Harm::Backlogged });
                Ok(())
            }
            Effect::Event(Event::MachineFailed(failure)) => self.machine_failed(node, &failure),
            Effect::Event(Event::Core(
                event @ (core::Event::StateDiverged(_)
                | core::Event::PeerDiverged { .. }
                | core::Event::StatesDiffer(_)),
            )) => self.states_differ(node, event),
            Effect::Event(Event::Core(event)) => self.says_of_disks(node, event),
        }
    }

    /// Sees to it that a timer fires when the replica's deadline comes, and not in vain if it moves
    /// to a later time.
    fn arm(&mut self, node: usize) {
        let process = &mut self.processes[node];
        let Some(running) = &process.running else { return };
        let Some(deadline) = running.replica.poll_timeout() else { return };
        let deadline = process.clock.to_virtual(deadline).max(self.now);
        if process.timer_at.is_some_and(|armed| armed <= deadline) {
            return;
        }
        process.timer_at = Some(deadline);
        let life = process.life;
        let late = if self.calm { Duration::ZERO } else { self.plan.timer_delay };
        let late = self.random.duration((Duration::ZERO, late));
        if late > Duration::from_millis(1) {
            self.harms.count(Harm::TimerLate);
        }
        self.at(deadline.after(late), Happening::Timer { node, life });
    }

    fn timer(&mut self, node: usize) -> Verdict {
        self.processes[node].timer_at = None;
        let due = {
            let process = &self.processes[node];
            let deadline =
                process.running.as_ref().and_then(|running| running.replica.poll_timeout());
            deadline.is_some_and(|deadline| process.clock.to_virtual(deadline) <= self.now)
        };
        if !due {
            self.arm(node);
            return Ok(());
        }
        self.input(node, |running, now| {
            running.replica.handle_timeout(now);
            running.lives.tell(&mut running.replica, now);
        })?;
        if self.may_transfer() {
            self.checks.members.operator_transfers();
        }
        let Some(running) = &self.processes[node].running else { return Ok(()) };
        self.checks.timer_fired(node, running.replica.core(), self.clock(node))
    }

    /// The faults end: everything that is broken is mended, and nothing breaks any more.
    pub(super) fn calm_down(&mut self) {
        self.calm = true;
        self.plan.faults.clear();
        self.network.heal();
        self.network.plan = NetworkPlan::calm();
        for node in 0..self.plan.nodes {
            let process = &mut self.processes[node];
            process.effects_left = None;
            process.disk.mend();
            self.resume(node);
            let is_sick = |running: &mut Running| {
                running.machine.machine_mut().be_well();
                running.machine.has_failed()
            };
            if self.processes[node].running.as_mut().is_some_and(is_sick) {
                self.start_again(node);
            }
        }
        self.after(Duration::from_millis(1), Happening::Probe);
    }
}

/// The id of the node at a place.
pub(super) fn name(place: usize) -> NodeId {
    NodeId(place as u64 + 1)
}
