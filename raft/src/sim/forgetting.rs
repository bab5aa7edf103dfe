//! Disks that forget: a folder that is put back to an earlier durable state, once or again and
//! again.
//!
//! An earlier copy is as sound as any other disk, its marks included: nothing on it says that it is
//! old. So its node starts, and only the others can tell. There are two kinds of such seeds:
//!
//! - **In reach**: one voter's disk forgets while a leader that has its acknowledgements on record
//!   lives and reaches it at once. Every check holds as ever, and the disk is reported within two
//!   election timeouts.
//! - **Worse**: two disks, a leader's disk, an older life's copy, a copy and its original in turn,
//!   or any disk at any moment. Raft promises nothing then. From the first one on the checks rest,
//!   and one takes their place: no loss is silent. When the faults stop each acknowledged write is
//!   there, or some node has reported what happened. Silent losses are allowed where no node was
//!   left that could have known (`README.md`, "What stays unprotected"), and counted.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::checks::{Verdict, check};
use super::disk::SimDisk;
use super::event::SimEvent;
use super::fault_counters::FaultCounter;
use super::kv::Command;
use super::options::{AccessPlan, FaultKind, NetworkPlan, Plan};
use super::random::Random;
use super::world::{World, name};
use crate::core;
use crate::types::{NodeId, Time};

/// How often disks are put back in a run of the worse kind, at most.
const PUT_BACK_MAX: u32 = 4;

/// How disks forget in a run.
#[derive(Clone, Debug)]
pub(super) struct ForgettingPlan {
    /// `None`: one voter, in reach of its leader.
    worse: Option<Worse>,
    interval: (Duration, Duration),
}

/// What is worse than one voter in reach of its leader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Worse {
    Anybody,
    Two,
    Leader,
    /// A copy runs, then the original, then the copy.
    InTurn,
    /// A copy of an earlier life.
    OlderLife,
}

impl ForgettingPlan {
    /// Decides by itself, so that all other runs are what they would be.
    pub(super) fn draw(seed: u64, plan: &mut Plan) -> Option<ForgettingPlan> {
        let mut random = Random::new(seed ^ 0x666f_7267_6574);
        let worse = match seed % 16 {
            5 => None,
            13 => {
                let kinds =
                    [Worse::Anybody, Worse::Two, Worse::Leader, Worse::InTurn, Worse::OlderLife];
                Some(random.pick(&kinds))
            }
            _ => return None,
        };
        plan.nodes = random.pick(&[3, 3, 4, 5]);
        (plan.churn, plan.machines) = (None, None);
        plan.faults.retain(|kind| !matches!(kind, FaultKind::Rot | FaultKind::Misdirect));
        if worse.is_some() {
            // What is lost is read off the logs, so nothing of them is compacted; nor are there
            // sessions.
            // States may differ where a log was lost.
            plan.limits.snapshot_every_bytes = 1 << 30;
            plan.limits.digest_interval = 0;
            plan.access = AccessPlan { with_sessions: 0, ..plan.access.clone() };
        }
        let high = random.pick(&[30, 100, 300]);
        Some(ForgettingPlan {
            worse,
            interval: (Duration::from_millis(5), Duration::from_millis(high)),
        })
    }
}

/// A disk as it was.
#[derive(Debug)]
struct Copy {
    disk: SimDisk,
    /// The node's life at that time.
    life: u64,
}

/// A disk that forgot in reach of its leader.
#[derive(Debug)]
struct Fenced {
    node: usize,
    leader: usize,
    /// When it must have been reported; known once it has started again.
    deadline: Option<Time>,
    is_reported: bool,
    /// Nothing else goes wrong until then: the node has been told, and has written it down.
    quiet_until: Option<Time>,
    /// What the network is like afterwards.
    network: NetworkPlan,
}

/// What has been put back, and what the nodes have said.
#[derive(Debug, Default)]
pub(super) struct Forgetting {
    copies: BTreeMap<usize, Copy>,
    fenced: Option<Fenced>,
    /// Disks that were put back and have not been opened since.
    unopened: BTreeSet<usize>,
    times: u32,
    /// Disks that were put back at some time.
    forgetful: BTreeSet<usize>,
    /// The checks rest.
    pub(super) is_worse: bool,
    /// Writes that clients know to be done.
    pub(super) acknowledged: BTreeSet<u64>,
    /// Up to which frame the first node has told the second, in this life of the second, that it is
    /// durable.
    evidence: BTreeMap<(usize, usize), u64>,
    /// Nodes that somebody who could prove that they forgot has met.
    pub(super) owed: BTreeSet<usize>,
    /// Nodes that were named in a report since their disks forgot.
    pub(super) reported: BTreeSet<usize>,
    /// Something was reported.
    pub(super) has_reports: bool,
    pub(super) turned_away: BTreeSet<usize>,
}

impl World {
    pub(super) fn begin_forgetting(&mut self) {
        if let Some(plan) = &self.plan.forgetting {
            let first = plan.interval.1 + self.plan.election_timeout.max;
            self.after(first, SimEvent::Forgets);
        }
    }

    /// Nothing else may go wrong now: a disk has forgotten, and its node is about to be told.
    pub(super) fn is_quiet(&self) -> bool {
        let fenced = self.forgetting.fenced.as_ref();
        fenced.is_some_and(|fenced| fenced.quiet_until.is_none_or(|until| self.now < until))
    }

    /// A disk is copied, or put back.
    pub(super) fn forgets(&mut self) -> Verdict {
        let Some(plan) = self.plan.forgetting.clone().filter(|_| !self.calm) else { return Ok(()) };
        let pause = self.random.duration(plan.interval);
        self.after(pause, SimEvent::Forgets);
        match plan.worse {
            None => self.forgets_in_reach(),
            Some(worse) => {
                if self.forgetting.times < PUT_BACK_MAX {
                    self.forgets_worse(worse);
                }
            }
        }
        Ok(())
    }

    fn copy_disk(&mut self, node: usize) {
        let process = &self.processes[node];
        let copy = Copy { disk: process.disk.durable_copy(), life: process.life };
        self.trace.record(self.now, &node, || format!("the folder of node {} is copied", node + 1));
        self.forgetting.copies.insert(node, copy);
    }

    /// The node's folder is what the copy is.
    fn put_back(&mut self, node: usize, copy: &Copy) {
        let loses_power = self.random.chance(5_000);
        self.crash(node, loses_power);
        self.trace.record(self.now, &(node, copy.life), || {
            format!(
                "the folder of node {} is put back to what it was in life {}",
                node + 1,
                copy.life
            )
        });
        self.processes[node].disk.put_back(&copy.disk);
        let forgetting = &mut self.forgetting;
        forgetting.times += 1;
        forgetting.unopened.insert(node);
        forgetting.forgetful.insert(node);
        // One that was named and has not been fenced off since is not named again.
        forgetting.owed.remove(&node);
    }

    fn forgets_in_reach(&mut self) {
        self.end_fenced();
        if self.forgetting.fenced.is_some() {
            return;
        }
        let Some((&node, copy)) = self.forgetting.copies.first_key_value() else {
            let node = self.random.below(self.plan.nodes as u64) as usize;
            if self.processes[node].is_awake() {
                self.copy_disk(node);
            }
            return;
        };
        if copy.life != self.processes[node].life {
            self.forgetting.copies.clear();
            return;
        }
        let Some(leader) = self.leader_in_reach(node) else { return };
        let Some(copy) = self.forgetting.copies.remove(&node) else { return };
        let sequence = self.frame_of(&copy);
        let known = self.forgetting.evidence.get(&(node, leader)).copied().unwrap_or(0);
        if sequence.is_none_or(|sequence| known <= sequence) {
            return; // Nothing that was acknowledged is missing.
        }
        let network = std::mem::replace(&mut self.network.plan, NetworkPlan::calm());
        self.network.heal();
        let fenced =
            Fenced { node, leader, deadline: None, is_reported: false, quiet_until: None, network };
        self.forgetting.fenced = Some(fenced);
        for place in 0..self.plan.nodes {
            self.processes[place].effects_left = None;
            self.processes[place].disk.mend();
        }
        self.put_back(node, &copy);
        self.count_fault(FaultCounter::ForgotInReach);
    }

    /// The leader that all nodes follow, if nothing is about to take it away, and `node` is another
    /// one.
    fn leader_in_reach(&self, node: usize) -> Option<usize> {
        let leader = self.latest_leader().filter(|&leader| leader != node)?;
        let term = self.processes[leader].running.as_ref()?.replica.core().term();
        let is_well = |place: usize| {
            let process = &self.processes[place];
            process.is_awake()
                && process.running.as_ref().is_some_and(|running| {
                    let core = running.replica.core();
                    let is_voter = core.configuration().is_voter(name(place));
                    let follows = core.term() == term && core.leader() == Some(name(leader));
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

    /// The number of the last frame of a copy.
    fn frame_of(&self, copy: &Copy) -> Option<u64> {
        let (_, recovered) =
            crate::storage::Log::open(copy.disk.durable_copy(), self.log_options()).ok()?;
        Some(recovered.saved.position.sequence)
    }

    /// The node that forgot may be a voter like any other again.
    fn end_fenced(&mut self) {
        let Some(fenced) = &self.forgetting.fenced else { return };
        let is_back = |place: usize| {
            let running = self.processes[place].running.as_ref()?;
            let core = running.replica.core();
            Some(core.configuration().is_voter(name(fenced.node)) && !core.has_forgotten())
        };
        let is_back = (0..self.plan.nodes).all(|place| is_back(place) == Some(true));
        if is_back && fenced.is_reported && !self.is_quiet() {
            self.forgetting.fenced = None;
        }
    }

    fn forgets_worse(&mut self, worse: Worse) {
        let nodes = self.plan.nodes as u64;
        let wanted = if worse == Worse::Two { 2 } else { 1 };
        let fits = |copy: &Copy, life: u64| worse != Worse::OlderLife || copy.life < life;
        let ready: Vec<usize> = {
            let copies = self.forgetting.copies.iter();
            let fits = copies.filter(|(node, copy)| fits(copy, self.processes[**node].life));
            fits.map(|(&node, _)| node).collect()
        };
        if self.forgetting.copies.len() < wanted || self.random.chance(3_000) {
            let leader = self.latest_leader().filter(|_| worse == Worse::Leader);
            let node = leader.unwrap_or(self.random.below(nodes) as usize);
            return self.copy_disk(node);
        }
        if ready.len() < wanted || self.random.chance(3_000) {
            return;
        }
        let chosen: Vec<usize> = match worse {
            Worse::Two => ready.into_iter().take(2).collect(),
            Worse::Leader => {
                ready.into_iter().filter(|&node| self.latest_leader() == Some(node)).collect()
            }
            _ => vec![self.random.pick(&ready)],
        };
        for node in chosen {
            let Some(copy) = self.forgetting.copies.remove(&node) else { continue };
            if worse == Worse::InTurn {
                self.copy_disk(node);
            }
            self.forgetting.is_worse = true;
            self.checks.rest();
            self.put_back(node, &copy);
            self.count_fault(FaultCounter::ForgotWorse);
        }
    }

    /// Whether the disk that was just opened is one that was put back: what it holds is older than
    /// what was made durable.
    pub(super) fn opened_after_put_back(&mut self, node: usize) -> bool {
        if !self.forgetting.unopened.remove(&node) {
            return false;
        }
        let timeout = self.longest_election_timeout() * 2;
        if let Some(fenced) = self.forgetting.fenced.as_mut().filter(|fenced| fenced.node == node) {
            fenced.deadline = Some(self.now.after(timeout));
        }
        true
    }

    /// A node says that a disk forgot, or that acknowledged writes are lost.
    pub(super) fn on_disk_report(&mut self, node: usize, event: core::Event) -> Verdict {
        let named = match event {
            core::Event::PeerForgot { node: peer, .. } => vec![peer],
            core::Event::Forgot { .. } => vec![name(node)],
            core::Event::CommittedConflict { leader, .. } => vec![name(node), leader],
            core::Event::PeerConflict { node: peer, .. } => vec![name(node), peer],
            _ => return Ok(()),
        };
        let places: Vec<usize> = named.into_iter().map(place_of).collect();
        let is_conflict = matches!(
            event,
            core::Event::CommittedConflict { .. } | core::Event::PeerConflict { .. }
        );
        let forgetting = &self.forgetting;
        let is_true = forgetting.is_worse
            || (!is_conflict && places.iter().all(|p| forgetting.forgetful.contains(p)));
        let is_excused =
            self.mutant.is_some() || self.processes.iter().any(|process| process.is_damaged);
        check(is_true || is_excused, "no disk is said to have forgotten that did not", || {
            format!("node {} says {event:?}", node + 1)
        })?;
        self.forgetting.reported.extend(&places);
        self.forgetting.has_reports = true;
        let leads = self.processes[node]
            .running
            .as_ref()
            .is_some_and(|running| running.replica.core().is_leader());
        let Some(fenced) =
            self.forgetting.fenced.as_mut().filter(|fenced| places.contains(&fenced.node))
        else {
            return Ok(());
        };
        fenced.is_reported = true;
        // A leader that has not learnt of it goes on counting what the disk had acknowledged.
        if !leads {
            return Ok(());
        }
        self.checks.proved(fenced.node);
        Ok(())
    }

    /// A copy of a folder was turned away: its node is named to the operator.
    pub(super) fn turned_away(&mut self, at: usize, place: usize, reason: &str) -> Verdict {
        self.trace.record(self.now, &(at, place), || {
            format!("node {} turns node {} away: {reason}", at + 1, place + 1)
        });
        let is_true = self.forgetting.is_worse && self.forgetting.forgetful.contains(&place);
        check(is_true, "no copy is turned away that is none", || {
            format!("node {} says: {reason}", at + 1)
        })?;
        if self.forgetting.turned_away.insert(place) {
            self.count_fault(FaultCounter::CopyTurnedAway);
        }
        self.forgetting.reported.insert(place);
        self.forgetting.has_reports = true;
        Ok(())
    }

    /// Two nodes meet. Records how far the other's disk is durable, and whether that proves to the
    /// first one that the disk forgot, which is known here without asking it. True if a report is
    /// owed from now on that was not before.
    pub(super) fn note_evidence(&mut self, at: usize, place: usize, sequence: u64) -> bool {
        let known = self.forgetting.evidence.get(&(place, at)).copied().unwrap_or(0);
        let running = self.processes[at].running.as_ref();
        // Of a learner, which was never counted, only a leader takes notice.
        let can_tell = running.is_some_and(|running| {
            let is_voter = running.replica.core().configuration().is_voter(name(place));
            is_voter && running.replica.failure().is_none()
        });
        self.forgetting.evidence.insert((place, at), sequence);
        can_tell
            && known > sequence
            && self.forgetting.forgetful.contains(&place)
            && self.forgetting.owed.insert(place)
    }

    /// A node has told another how far its disk is durable.
    pub(super) fn on_durable_reported(&mut self, node: usize, at: usize, sequence: u64) {
        let known = self.forgetting.evidence.entry((node, at)).or_default();
        *known = sequence.max(*known);
    }

    /// What a process knew is gone with it, as far as it is not on its disk.
    pub(super) fn forget_evidence(&mut self, at: usize) {
        self.forgetting.evidence.retain(|&(_, other), _| other != at);
    }

    pub(super) fn write_acknowledged(&mut self, command: Command) {
        if self.plan.forgetting.is_some() {
            self.forgetting.acknowledged.insert(command.id());
        }
    }

    /// After every step of a run in which one disk forgot in reach of its leader.
    pub(super) fn check_forgetting_reported(&mut self) -> Verdict {
        let Some(fenced) = &self.forgetting.fenced else { return Ok(()) };
        let (leader, node) = (fenced.leader, fenced.node);
        if fenced.is_reported {
            self.end_quiet();
            return Ok(());
        }
        let leads = |place: usize| {
            self.processes[place].running.as_ref().is_some_and(|r| r.replica.core().is_leader())
        };
        if !leads(leader) {
            // It was out of reach after all.
            let network = fenced.network.clone();
            if !self.calm {
                self.network.plan = network;
            }
            self.forgetting.fenced = None;
            self.forgetting.is_worse = true;
            self.checks.rest();
            self.count_fault(FaultCounter::ForgotOutOfReach);
            return Ok(());
        }
        let is_late = fenced.deadline.is_some_and(|deadline| deadline < self.now);
        check(!is_late, "a disk that forgot is reported within two election timeouts", || {
            format!("node {} forgot, and nobody has said so: {}", node + 1, self.describe())
        })
    }

    /// Once the node that forgot has a mark, or has passed the fence at once, other things may go
    /// wrong again.
    fn end_quiet(&mut self) {
        let (now, until) = (self.now, self.now.after(self.plan.election_timeout.min / 2));
        let Some(fenced) =
            self.forgetting.fenced.as_mut().filter(|fenced| fenced.quiet_until.is_none())
        else {
            return;
        };
        let Some(running) = &self.processes[fenced.node].running else { return };
        let core = running.replica.core();
        let is_held = core.configuration_index() <= core.commit().min(core.durable());
        let is_fenced = is_held && !core.configuration().is_voter(core.id());
        if core.has_forgotten() || is_fenced {
            fenced.quiet_until = Some(if is_fenced { now } else { until });
            if !self.calm {
                self.network.plan = fenced.network.clone();
            }
        }
    }
}

fn place_of(node: NodeId) -> usize {
    node.0 as usize - 1
}
