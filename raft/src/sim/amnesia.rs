//! Amnesia: a node's folder is put back to an earlier durable state, once or repeatedly.
//!
//! An earlier copy is as intact as any other disk, its marks included, so its node starts and only
//! the other nodes can tell. There are two kinds of such seeds:
//!
//! - **In reach**: one voter's disk forgets while a leader that has recorded its acknowledgements
//!   runs and reaches it at once. All checks apply, and the disk must be reported within two
//!   election timeouts.
//! - **Beyond tolerance**: two disks, a leader's disk, a copy from an earlier start, a copy and its
//!   original in turn, or any disk at any moment. Raft promises nothing then. The other checks are
//!   suspended, and one replaces them: no loss is silent. When the faults stop, each acknowledged
//!   write is present, or some node has reported what happened. Silent losses are allowed where no
//!   remaining node could have known (`raft/README.md`, "A disk that forgets"), and are counted.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::checks::{CheckResult, check};
use super::disk::SimDisk;
use super::event::SimEvent;
use super::fault_counters::FaultCounter;
use super::faults::CrashCause;
use super::kv::Command;
use super::options::{ClientAccessPlan, FaultKind, NetworkPlan, Plan};
use super::random::{DurationRange, Random};
use super::world::{World, node_id};
use crate::core;
use crate::types::{NodeId, Time};

/// The most times that folders are put back in a run beyond tolerance.
const PUT_BACK_MAX: u32 = 4;

/// How folders are put back in a run.
#[derive(Clone, Debug)]
pub(super) struct AmnesiaPlan {
    /// `None`: one voter, in reach of its leader.
    beyond: Option<BeyondTolerance>,
    interval: DurationRange,
}

/// The cases beyond what Raft tolerates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum BeyondTolerance {
    AnyNode,
    TwoNodes,
    Leader,
    /// A copy and the original run in turn.
    Alternating,
    /// A copy from an earlier start of the node.
    OlderLife,
}

impl AmnesiaPlan {
    /// Draws from its own random source, so that all other runs do not depend on it.
    pub(super) fn draw(seed: u64, plan: &mut Plan) -> Option<AmnesiaPlan> {
        let mut random = Random::new(seed ^ 0x666f_7267_6574);
        let beyond = match seed % 16 {
            5 => None,
            13 => {
                let kinds = [
                    BeyondTolerance::AnyNode,
                    BeyondTolerance::TwoNodes,
                    BeyondTolerance::Leader,
                    BeyondTolerance::Alternating,
                    BeyondTolerance::OlderLife,
                ];
                Some(random.pick(&kinds))
            }
            _ => return None,
        };
        plan.nodes = random.pick(&[3, 3, 4, 5]);
        (plan.operator, plan.machines) = (None, None);
        plan.faults.retain(|kind| !matches!(kind, FaultKind::Rot | FaultKind::Misdirect));
        if beyond.is_some() {
            // Losses are found by reading the logs, so logs are not compacted and sessions are not
            // used. States may differ where a log was lost.
            plan.limits.snapshot_every_bytes = 1 << 30;
            plan.limits.digest_interval = 0;
            plan.access = ClientAccessPlan { clients_with_sessions: 0, ..plan.access.clone() };
        }
        let high = random.pick(&[30, 100, 300]);
        Some(AmnesiaPlan {
            beyond,
            interval: DurationRange::new(Duration::from_millis(5), Duration::from_millis(high)),
        })
    }
}

/// An earlier state of a disk.
#[derive(Debug)]
struct FolderCopy {
    disk: SimDisk,
    /// The node's life at that time.
    life: u64,
}

/// A disk that forgot in reach of its leader.
#[derive(Debug)]
struct FencedNode {
    node: usize,
    leader: usize,
    /// The time by which it must be reported; set when the node has restarted.
    deadline: Option<Time>,
    is_reported: bool,
    /// No other fault happens until then: the node has been informed and has recorded it.
    quiet_until: Option<Time>,
    /// The plan of the network after that.
    network: NetworkPlan,
}

/// The folders that were put back, and the nodes' reports.
#[derive(Debug, Default)]
pub(super) struct Amnesia {
    copies: BTreeMap<usize, FolderCopy>,
    fenced: Option<FencedNode>,
    /// Disks that were put back and have not been opened since.
    unopened: BTreeSet<usize>,
    times: u32,
    /// Disks that were put back at any time.
    forgetful: BTreeSet<usize>,
    /// The other checks are suspended.
    pub(super) is_beyond_tolerance: bool,
    /// Writes that were acknowledged to clients.
    pub(super) acknowledged: BTreeSet<u64>,
    /// The last frame that the first node has reported to the second as durable, since the second
    /// started.
    evidence: BTreeMap<(usize, usize), u64>,
    /// Nodes whose amnesia another node could prove, so it must report it.
    pub(super) reports_owed: BTreeSet<usize>,
    /// Nodes that were named in a report since their disks forgot.
    pub(super) reported: BTreeSet<usize>,
    /// Whether anything was reported.
    pub(super) has_reports: bool,
    pub(super) rejected_copies: BTreeSet<usize>,
}

impl World {
    pub(super) fn schedule_amnesia(&mut self) {
        if let Some(plan) = &self.plan.amnesia {
            let first = plan.interval.max + self.plan.election_timeout.max;
            self.schedule_after(first, SimEvent::AmnesiaFault);
        }
    }

    /// Whether no other fault may happen now: a disk has forgotten and its node is not informed
    /// yet.
    pub(super) fn is_quiet(&self) -> bool {
        let fenced = self.amnesia.fenced.as_ref();
        fenced.is_some_and(|fenced| fenced.quiet_until.is_none_or(|until| self.now < until))
    }

    /// Copies a folder or puts one back, and schedules the next time.
    pub(super) fn inject_amnesia(&mut self) -> CheckResult {
        let Some(plan) = self.plan.amnesia.clone().filter(|_| !self.faults_ended) else {
            return Ok(());
        };
        let pause = self.random.duration_in(plan.interval);
        self.schedule_after(pause, SimEvent::AmnesiaFault);
        match plan.beyond {
            None => self.put_back_in_reach(),
            Some(beyond) => {
                if self.amnesia.times < PUT_BACK_MAX {
                    self.put_back_beyond_tolerance(beyond);
                }
            }
        }
        Ok(())
    }

    fn copy_disk(&mut self, node: usize) {
        let process = &self.processes[node];
        let copy = FolderCopy { disk: process.disk.durable_copy(), life: process.life };
        self.trace.record(self.now, &node, || format!("the folder of node {} is copied", node + 1));
        self.amnesia.copies.insert(node, copy);
    }

    /// Replaces a node's folder by the copy.
    fn put_back(&mut self, node: usize, copy: &FolderCopy) {
        let loses_power = self.random.chance(5_000);
        self.crash(node, CrashCause::power_loss_if(loses_power));
        self.trace.record(self.now, &(node, copy.life), || {
            format!(
                "the folder of node {} is put back to what it was in life {}",
                node + 1,
                copy.life
            )
        });
        self.processes[node].disk.put_back(&copy.disk);
        let amnesia = &mut self.amnesia;
        amnesia.times += 1;
        amnesia.unopened.insert(node);
        amnesia.forgetful.insert(node);
        // A node that was reported and not fenced since is not reported again.
        amnesia.reports_owed.remove(&node);
    }

    fn put_back_in_reach(&mut self) {
        self.end_fenced();
        if self.amnesia.fenced.is_some() {
            return;
        }
        let Some((&node, copy)) = self.amnesia.copies.first_key_value() else {
            let node = self.random.below(self.plan.nodes as u64) as usize;
            if self.processes[node].is_awake() {
                self.copy_disk(node);
            }
            return;
        };
        if copy.life != self.processes[node].life {
            self.amnesia.copies.clear();
            return;
        }
        let Some(leader) = self.leader_in_reach(node) else { return };
        let Some(copy) = self.amnesia.copies.remove(&node) else { return };
        let sequence = self.frame_of(&copy);
        let known = self.amnesia.evidence.get(&(node, leader)).copied().unwrap_or(0);
        if sequence.is_none_or(|sequence| known <= sequence) {
            return; // Every acknowledged frame is in the copy.
        }
        let network = std::mem::replace(&mut self.network.plan, NetworkPlan::without_faults());
        self.network.heal();
        let fenced = FencedNode {
            node,
            leader,
            deadline: None,
            is_reported: false,
            quiet_until: None,
            network,
        };
        self.amnesia.fenced = Some(fenced);
        for place in 0..self.plan.nodes {
            self.processes[place].effects_left = None;
            self.processes[place].disk.clear_faults();
        }
        self.put_back(node, &copy);
        self.count_fault(FaultCounter::ForgotInReach);
    }

    /// The leader that all nodes follow, if it is stable and not `node`.
    fn leader_in_reach(&self, node: usize) -> Option<usize> {
        let leader = self.latest_leader().filter(|&leader| leader != node)?;
        let term = self.processes[leader].running.as_ref()?.replica.core().term();
        let is_well = |place: usize| {
            let process = &self.processes[place];
            process.is_awake()
                && process.running.as_ref().is_some_and(|running| {
                    let core = running.replica.core();
                    let is_voter = core.configuration().is_voter(node_id(place));
                    let follows = core.term() == term && core.leader() == Some(node_id(leader));
                    follows
                        && is_voter
                        && !core.has_forgotten()
                        && running.replica.failure().is_none()
                })
        };
        let core = self.processes[leader].running.as_ref()?.replica.core();
        let is_free =
            core.commit() >= core.configuration_index() && core.transfer_target().is_none();
        (is_free && (0..self.plan.nodes).all(is_well)).then_some(leader)
    }

    /// The sequence of the last frame of a copy.
    fn frame_of(&self, copy: &FolderCopy) -> Option<u64> {
        let (_, recovered) =
            crate::storage::Log::open(copy.disk.durable_copy(), self.log_options()).ok()?;
        Some(recovered.saved.position.sequence)
    }

    /// Ends the case once the node that forgot is an ordinary voter again.
    fn end_fenced(&mut self) {
        let Some(fenced) = &self.amnesia.fenced else { return };
        let is_back = |place: usize| {
            let running = self.processes[place].running.as_ref()?;
            let core = running.replica.core();
            Some(core.configuration().is_voter(node_id(fenced.node)) && !core.has_forgotten())
        };
        let is_back = (0..self.plan.nodes).all(|place| is_back(place) == Some(true));
        if is_back && fenced.is_reported && !self.is_quiet() {
            self.amnesia.fenced = None;
        }
    }

    fn put_back_beyond_tolerance(&mut self, beyond: BeyondTolerance) {
        let nodes = self.plan.nodes as u64;
        let wanted = if beyond == BeyondTolerance::TwoNodes { 2 } else { 1 };
        let fits =
            |copy: &FolderCopy, life: u64| beyond != BeyondTolerance::OlderLife || copy.life < life;
        let ready: Vec<usize> = {
            let copies = self.amnesia.copies.iter();
            let fits = copies.filter(|(node, copy)| fits(copy, self.processes[**node].life));
            fits.map(|(&node, _)| node).collect()
        };
        if self.amnesia.copies.len() < wanted || self.random.chance(3_000) {
            let leader = self.latest_leader().filter(|_| beyond == BeyondTolerance::Leader);
            let node = leader.unwrap_or(self.random.below(nodes) as usize);
            return self.copy_disk(node);
        }
        if ready.len() < wanted || self.random.chance(3_000) {
            return;
        }
        let chosen: Vec<usize> = match beyond {
            BeyondTolerance::TwoNodes => ready.into_iter().take(2).collect(),
            BeyondTolerance::Leader => {
                ready.into_iter().filter(|&node| self.latest_leader() == Some(node)).collect()
            }
            _ => vec![self.random.pick(&ready)],
        };
        for node in chosen {
            let Some(copy) = self.amnesia.copies.remove(&node) else { continue };
            if beyond == BeyondTolerance::Alternating {
                self.copy_disk(node);
            }
            self.amnesia.is_beyond_tolerance = true;
            self.checks.suspend();
            self.put_back(node, &copy);
            self.count_fault(FaultCounter::ForgotBeyondTolerance);
        }
    }

    /// Whether the disk that was just opened was put back: its content is older than what was
    /// durable.
    pub(super) fn opened_after_put_back(&mut self, node: usize) -> bool {
        if !self.amnesia.unopened.remove(&node) {
            return false;
        }
        let timeout = self.longest_election_timeout() * 2;
        if let Some(fenced) = self.amnesia.fenced.as_mut().filter(|fenced| fenced.node == node) {
            fenced.deadline = Some(self.now.after(timeout));
        }
        true
    }

    /// A node reports that a disk forgot, or that acknowledged writes are lost.
    pub(super) fn on_disk_report(&mut self, node: usize, event: core::Event) -> CheckResult {
        let named = match event {
            core::Event::PeerForgot { node: peer, .. } => vec![peer],
            core::Event::Forgot { .. } => vec![node_id(node)],
            core::Event::CommittedConflict { leader, .. } => vec![node_id(node), leader],
            core::Event::PeerConflict { node: peer, .. } => vec![node_id(node), peer],
            _ => return Ok(()),
        };
        let places: Vec<usize> = named.into_iter().map(place_of).collect();
        let is_conflict = matches!(
            event,
            core::Event::CommittedConflict { .. } | core::Event::PeerConflict { .. }
        );
        let amnesia = &self.amnesia;
        let is_true = amnesia.is_beyond_tolerance
            || (!is_conflict && places.iter().all(|p| amnesia.forgetful.contains(p)));
        let is_excused =
            self.mutant.is_some() || self.processes.iter().any(|process| process.is_damaged);
        check(is_true || is_excused, "no disk is reported as forgetful without cause", || {
            format!("node {} says {event:?}", node + 1)
        })?;
        self.amnesia.reported.extend(&places);
        self.amnesia.has_reports = true;
        let leads = self.processes[node]
            .running
            .as_ref()
            .is_some_and(|running| running.replica.core().is_leader());
        let Some(fenced) =
            self.amnesia.fenced.as_mut().filter(|fenced| places.contains(&fenced.node))
        else {
            return Ok(());
        };
        fenced.is_reported = true;
        // A leader that has not learnt of it still counts what the disk had acknowledged.
        if !leads {
            return Ok(());
        }
        self.checks.on_amnesia_proved(fenced.node);
        Ok(())
    }

    /// A copy of a folder was rejected, and its node reported to the operator.
    pub(super) fn on_copy_rejected(
        &mut self,
        at: usize,
        place: usize,
        reason: &str,
    ) -> CheckResult {
        self.trace.record(self.now, &(at, place), || {
            format!("node {} rejects node {}: {reason}", at + 1, place + 1)
        });
        let is_true = self.amnesia.is_beyond_tolerance && self.amnesia.forgetful.contains(&place);
        check(is_true, "only a copy of a folder is rejected", || {
            format!("node {} says: {reason}", at + 1)
        })?;
        if self.amnesia.rejected_copies.insert(place) {
            self.count_fault(FaultCounter::CopyRejected);
        }
        self.amnesia.reported.insert(place);
        self.amnesia.has_reports = true;
        Ok(())
    }

    /// Records, at a handshake, how far the peer's disk is durable.
    ///
    /// Returns whether that newly proves to node `at` that the peer's disk forgot, so that it must
    /// report it.
    pub(super) fn record_evidence(&mut self, at: usize, place: usize, sequence: u64) -> bool {
        let known = self.amnesia.evidence.get(&(place, at)).copied().unwrap_or(0);
        let running = self.processes[at].running.as_ref();
        // A learner was never counted, so only a leader reports it.
        let can_tell = running.is_some_and(|running| {
            let is_voter = running.replica.core().configuration().is_voter(node_id(place));
            is_voter && running.replica.failure().is_none()
        });
        self.amnesia.evidence.insert((place, at), sequence);
        can_tell
            && known > sequence
            && self.amnesia.forgetful.contains(&place)
            && self.amnesia.reports_owed.insert(place)
    }

    /// A node has reported to another how far its disk is durable.
    pub(super) fn record_durable_report(&mut self, node: usize, at: usize, sequence: u64) {
        let known = self.amnesia.evidence.entry((node, at)).or_default();
        *known = sequence.max(*known);
    }

    /// A process has died, and what it knew of others' disks is lost.
    pub(super) fn forget_evidence(&mut self, at: usize) {
        self.amnesia.evidence.retain(|&(_, other), _| other != at);
    }

    pub(super) fn record_acknowledged(&mut self, command: Command) {
        if self.plan.amnesia.is_some() {
            self.amnesia.acknowledged.insert(command.id());
        }
    }

    /// Checks that a disk that forgot in reach of its leader is reported in time.
    pub(super) fn check_forgetting_reported(&mut self) -> CheckResult {
        let Some(fenced) = &self.amnesia.fenced else { return Ok(()) };
        let (leader, node) = (fenced.leader, fenced.node);
        if fenced.is_reported {
            self.end_quiet();
            return Ok(());
        }
        let leads = |place: usize| {
            self.processes[place].running.as_ref().is_some_and(|r| r.replica.core().is_leader())
        };
        if !leads(leader) {
            // The leader is gone, so the disk was out of its reach.
            let network = fenced.network.clone();
            if !self.faults_ended {
                self.network.plan = network;
            }
            self.amnesia.fenced = None;
            self.amnesia.is_beyond_tolerance = true;
            self.checks.suspend();
            self.count_fault(FaultCounter::ForgotOutOfReach);
            return Ok(());
        }
        let is_late = fenced.deadline.is_some_and(|deadline| deadline < self.now);
        check(!is_late, "a disk that forgot is reported within two election timeouts", || {
            format!("node {} forgot, and no node has reported it: {}", node + 1, self.describe())
        })
    }

    /// Allows other faults again once the node that forgot has a mark or is fenced.
    fn end_quiet(&mut self) {
        let (now, until) = (self.now, self.now.after(self.plan.election_timeout.min / 2));
        let Some(fenced) =
            self.amnesia.fenced.as_mut().filter(|fenced| fenced.quiet_until.is_none())
        else {
            return;
        };
        let Some(running) = &self.processes[fenced.node].running else { return };
        let core = running.replica.core();
        let is_held = core.configuration_index() <= core.commit().min(core.durable());
        let is_fenced = is_held && !core.configuration().is_voter(core.id());
        if core.has_forgotten() || is_fenced {
            fenced.quiet_until = Some(if is_fenced { now } else { until });
            if !self.faults_ended {
                self.network.plan = fenced.network.clone();
            }
        }
    }
}

fn place_of(node: NodeId) -> usize {
    node.0 as usize - 1
}
