//! An operator who changes the cluster while all else goes wrong: members come and go, votes move,
//! leaders are told to hand over, disks are wiped.
//!
//! Places beyond the founders wait, born with nobody, until the operator adds them as learners.
//! Each place is one node id, and an id that is gone stays gone: the operator asks for it all the
//! same, and must be refused. A wiped machine never starts again; a spare place takes its part.

use std::time::Duration;

use super::checks::{Verdict, Violation, check};
use super::event::SimEvent;
use super::fault_counters::FaultCounter;
use super::operator_requests::OperatorRequest;
use super::options::{ChurnPlan, FaultKind, Plan};
use super::random::Random;
use super::world::{World, name};
use crate::core::Core;
use crate::replica::{AdminRequest, Outcome, Request, RequestId};
use crate::types::{Configuration, DiskId, FeatureLevel, Member, MemberChange, NodeId};
use crate::wire::Version;

/// One run in so many has an operator.
const ONE_IN: u64 = 4;

impl ChurnPlan {
    /// Decides by itself, so that runs without an operator are what they would be.
    pub(super) fn draw(seed: u64, plan: &mut Plan) -> Option<ChurnPlan> {
        let mut random = Random::new(seed ^ 0x6f70_6572_6174_6f72);
        if random.below(ONE_IN) > 0 {
            return None;
        }
        let founders = plan.nodes.min(5);
        plan.nodes = founders + random.between(1, 4) as usize;
        // Disks are wiped by the operator, who knows how many may be missing: fewer votes stand
        // less.
        plan.faults.retain(|kind| !matches!(kind, FaultKind::Rot | FaultKind::Misdirect));
        let high = random.pick(&[30, 100, 300]);
        Some(ChurnPlan {
            founders,
            interval: (Duration::from_millis(1), Duration::from_millis(high)),
            transfers: random.pick(&[0, 2_000, 7_000]),
            wipes: random.chance(3_000),
            promotion_lag: random.pick(&[3, 1_000]),
            shrinks: random.chance(5_000),
        })
    }
}

fn learner(node: NodeId) -> MemberChange {
    let (disk, address) = (DiskId(node.0.into()), format!("place-{node}"));
    let member = Member { disk, address, priority: 0, feature_level: FeatureLevel::CURRENT };
    MemberChange::AddLearner { node, member }
}

impl World {
    /// What the node at a place is born with.
    pub(super) fn initial_configuration(&self, node: usize) -> Configuration {
        let founders = self.plan.churn.as_ref().map_or(self.plan.nodes, |churn| churn.founders);
        let members = if node < founders { founders } else { 0 };
        let founders = (0..members).map(|place| (name(place), Member::default()));
        Configuration::of_voters(founders).at_feature_level(self.plan.feature_level)
    }

    pub(super) fn begin_churn(&mut self) {
        if let Some(churn) = &self.plan.churn {
            let first = churn.interval.1 * 2;
            self.after(first, SimEvent::Churn);
        }
    }

    fn core(&self, place: usize) -> Option<&Core> {
        self.processes[place].running.as_ref().map(|running| running.replica.core())
    }

    /// Who leads the highest term that anybody leads.
    pub(super) fn latest_leader(&self) -> Option<usize> {
        let leaders = (0..self.plan.nodes).filter(|&place| self.processes[place].is_awake());
        let leaders = leaders
            .filter_map(|place| Some((self.core(place)?, place)))
            .filter(|(core, _)| core.is_leader());
        leaders.max_by_key(|(core, _)| core.term()).map(|(_, place)| place)
    }

    /// Whether a node must be well in the end: it is a member, as far as the leader knows, and its
    /// disk is whole.
    pub(super) fn must_be_healthy(&self, place: usize) -> bool {
        let is_member = || {
            let leader = self.latest_leader().and_then(|leader| self.core(leader));
            leader.is_some_and(|core| core.configuration().members.contains_key(&name(place)))
        };
        !self.processes[place].is_lost
            && !self.has_lost_machine(place)
            && (self.plan.churn.is_none() || is_member())
    }

    /// Whether the operator has nothing to finish, and nobody is on the way in or out.
    pub(super) fn is_membership_settled(&self) -> bool {
        let leader = self.latest_leader().and_then(|leader| self.core(leader));
        let is_settled = |core: &Core| {
            !core.configuration().is_joint() && core.configuration_index() <= core.commit()
        };
        self.plan.churn.is_none() || (self.churn.wiped.is_none() && leader.is_some_and(is_settled))
    }

    /// The operator does something.
    pub(super) fn churn(&mut self) -> Verdict {
        let Some(plan) = self.plan.churn.clone() else { return Ok(()) };
        if self.calm && self.churn.wiped.is_none() {
            return Ok(());
        }
        let pause = self.random.duration(plan.interval);
        self.after(pause, SimEvent::Churn);
        // Rather one thing at a time: what waits for another may be out of date when its turn
        // comes.
        if !self.churn.is_idle() && self.churn.wiped.is_none() && self.random.chance(5_000) {
            return Ok(());
        }
        let Some(leader) = self.latest_leader() else { return Ok(()) };
        let Some(configuration) = self.core(leader).map(|core| core.configuration().clone()) else {
            return Ok(());
        };
        if let Some(wiped) = self.churn.wiped {
            let is_gone =
                !configuration.members.contains_key(&name(wiped)) && self.is_change_done(leader);
            if is_gone {
                self.churn.wiped = None;
                return Ok(());
            }
            return self.ask_for(leader, vec![MemberChange::Remove(name(wiped))]);
        }
        if self.random.chance(plan.transfers) {
            let to = self
                .random
                .chance(7_000)
                .then(|| name(self.random.below(self.plan.nodes as u64) as usize));
            self.trace.record(self.now, &(leader, to), || {
                format!("operator: {} hands over to {to:?}", leader + 1)
            });
            return self.order(leader, AdminRequest::TransferLeadership(to), false);
        }
        if plan.wipes && self.random.chance(2_000) && self.may_wipe(leader, &configuration) {
            return self.wipe(&configuration);
        }
        if plan.shrinks && self.random.chance(5_000) {
            return self.shrink(leader, &configuration);
        }
        let changes = self.draw_changes(&configuration);
        self.ask_for(leader, changes)
    }

    /// Leaves one vote, another node's than the leader's, and gives the leader its own back as soon
    /// as that is possible: for a moment the two count by different configurations.
    fn shrink(&mut self, leader: usize, configuration: &Configuration) -> Verdict {
        let own = name(leader);
        let others: Vec<NodeId> =
            configuration.voters.iter().copied().filter(|&voter| voter != own).collect();
        if others.is_empty() {
            let changes = self.draw_changes(configuration);
            return self.ask_for(leader, changes);
        }
        let stays = self.random.pick(&others);
        let demoted = configuration.voters.iter().copied().filter(|&voter| voter != stays);
        self.ask_for(leader, demoted.map(MemberChange::Demote).collect())?;
        self.ask_for(leader, vec![MemberChange::Promote(own)])
    }

    /// A node has carried out all that it wanted.
    pub(super) fn members_settled(&self, node: usize) -> Verdict {
        let core = self.core(node).filter(|_| !self.forgetting.is_worse);
        core.map_or(Ok(()), |core| self.checks.members.check_in_force(node, core))
    }

    fn is_change_done(&self, leader: usize) -> bool {
        self.core(leader).is_some_and(|core| core.configuration_index() <= core.commit())
    }

    /// A disk may be wiped only while no change is open anywhere: a configuration that only the
    /// wiped one and a former leader have would be needed by that leader for ever.
    fn may_wipe(&self, leader: usize, configuration: &Configuration) -> bool {
        let agrees = |node: &NodeId| {
            let core = self.core(node.0 as usize - 1);
            core.is_some_and(|core| {
                core.configuration() == configuration && core.configuration_index() <= core.commit()
            })
        };
        let has_spare_vote = configuration.voters.len() >= 3 && !configuration.is_joint();
        let mut running = self.processes.iter().filter_map(|process| process.running.as_ref());
        let is_open =
            !self.churn.is_idle() || running.any(|running| running.replica.has_admin_requests());
        has_spare_vote
            && !is_open
            && self.is_change_done(leader)
            && configuration.members.keys().all(agrees)
    }

    /// What a machine had on its disk is gone, and the operator knows it.
    fn wipe(&mut self, configuration: &Configuration) -> Verdict {
        let members: Vec<NodeId> = configuration.members.keys().copied().collect();
        let place = self.random.pick(&members).0 as usize - 1;
        self.trace
            .record(self.now, &place, || format!("operator: the disk of {} is wiped", place + 1));
        self.processes[place].is_lost = true;
        self.churn.wiped = Some(place);
        self.count_fault(FaultCounter::Wiped);
        self.crash(place, true);
        Ok(())
    }

    fn ask_for(&mut self, leader: usize, changes: Vec<MemberChange>) -> Verdict {
        if changes.is_empty() {
            return Ok(());
        }
        let ids: Vec<NodeId> = changes.iter().filter_map(MemberChange::node).collect();
        self.trace.record(self.now, &(leader, ids), || {
            format!("operator: asks {} for {changes:?}", leader + 1)
        });
        let highest_id =
            self.core(leader).map(|core| core.configuration().highest_id).unwrap_or_default();
        // An id that only a change which is not committed has used may be free again by the time
        // that this is tried.
        let is_reuse = self.is_change_done(leader)
            && changes
                .iter()
                .any(|change| matches!(change, MemberChange::AddLearner { node, .. } if *node <= highest_id));
        self.order(leader, AdminRequest::ChangeMembership(changes), is_reuse)
    }

    /// Asks a node as an operator's tool does: the node hands it on if it does not lead, and tries
    /// again what cannot be done yet.
    fn order(&mut self, node: usize, admin: AdminRequest, is_reuse: bool) -> Verdict {
        if self.processes[node].running.is_none() {
            return Ok(()); // It died of what the operator asked before.
        }
        let id = self.clients.next_request();
        let is_transfer = matches!(admin, AdminRequest::TransferLeadership(_));
        self.churn.open.insert(id.0, OperatorRequest { node, is_transfer, is_reuse });
        if is_transfer {
            self.checks.members.operator_transfers();
        }
        let before = self.core(node).and_then(Core::transfer_target);
        self.input(node, |running, now| running.replica.submit(now, id, Request::Admin(admin)))?;
        let after = self.core(node).and_then(Core::transfer_target);
        if after.is_some() && after != before {
            self.count_fault(FaultCounter::TransferBegun);
        }
        Ok(())
    }

    /// A configuration has come into force at a node.
    pub(super) fn count_change(&mut self, node: usize, is_joint: bool) {
        let was_joint = std::mem::replace(&mut self.processes[node].was_joint, is_joint);
        self.lonely_voter_falls(node);
        let Some(core) = self.core(node).filter(|core| core.is_leader()) else { return };
        let votes = core.configuration().is_voter(core.id());
        let is_raised = core.configuration().feature_level > self.plan.feature_level;
        if is_raised && !std::mem::replace(&mut self.churn.is_raised, true) {
            self.count_fault(FaultCounter::FeaturesEnabled);
        }
        if !was_joint {
            self.count_fault(FaultCounter::MembersChanged);
        }
        if is_joint {
            self.count_fault(FaultCounter::JointBegun);
        }
        if !votes {
            self.count_fault(FaultCounter::LeaderUnvoted);
        }
    }

    /// The only voter by its own log may have promised something to a leader that knows others.
    fn lonely_voter_falls(&mut self, node: usize) {
        let is_tried = self.plan.churn.as_ref().is_some_and(|churn| churn.shrinks) && !self.calm;
        let is_lonely = |core: &Core| {
            let configuration = core.configuration();
            !core.is_leader()
                && configuration.outgoing.is_empty()
                && configuration.voters == [core.id()].into()
        };
        if is_tried && self.core(node).is_some_and(is_lonely) {
            let pause = self.random.duration((Duration::ZERO, self.plan.election_timeout.min));
            self.after(pause, SimEvent::LastFollowerFails { node });
        }
    }

    /// Whether a transfer may begin at any time: one was asked for, through a node that has not
    /// handed it on.
    pub(super) fn may_transfer(&self) -> bool {
        let has_begun = |order: &OperatorRequest| {
            self.core(order.node).is_some_and(|core| core.transfer_target().is_some())
        };
        self.churn.open.values().any(|order| order.is_transfer && !has_begun(order))
    }

    /// If this is what became of something that the operator has asked for: takes note of it.
    pub(super) fn operator_reply(
        &mut self,
        node: usize,
        id: RequestId,
        outcome: &Outcome,
    ) -> Result<bool, Violation> {
        let Some(order) = self.churn.open.remove(&id.0) else { return Ok(false) };
        check(order.node == node, "a request has one outcome", || {
            format!("node {} answers {id:?}, which is not open there: {outcome:?}", node + 1)
        })?;
        let is_done = matches!(outcome, Outcome::Answer(_));
        check(!is_done || !order.is_reuse, "an id is never used again", || {
            format!("node {} has carried out {order:?}", node + 1)
        })?;
        if order.is_reuse && matches!(outcome, Outcome::Refused(_)) {
            self.count_fault(FaultCounter::IdAskedAgain);
        }
        Ok(true)
    }

    /// A process is about to die.
    pub(super) fn interrupts_change(&mut self, node: usize) {
        if self.core(node).is_some_and(|core| core.is_leader() && core.configuration().is_joint()) {
            self.count_fault(FaultCounter::JointInterrupted);
        }
    }

    fn draw_changes(&mut self, configuration: &Configuration) -> Vec<MemberChange> {
        let voters: Vec<NodeId> = configuration.voters.iter().copied().collect();
        let learners: Vec<NodeId> = configuration.learners.iter().copied().collect();
        let members: Vec<NodeId> = configuration.members.keys().copied().collect();
        if members.is_empty() {
            return Vec::new();
        }
        let next = NodeId(configuration.highest_id.0 + 1 + u64::from(self.random.chance(1_000)));
        let spare = Some(next).filter(|next| next.0 as usize <= self.plan.nodes).map(learner);
        let voter = self.random.pick(&voters);
        let promotion =
            (!learners.is_empty()).then(|| MemberChange::Promote(self.random.pick(&learners)));
        let mut changes = Vec::new();
        match self.random.below(12) {
            0..=2 => changes.extend(spare),
            3 | 4 => changes.extend(promotion),
            5 => changes.push(MemberChange::Remove(self.random.pick(&members))),
            6 => changes.push(MemberChange::Demote(voter)),
            7 => changes.extend(promotion.into_iter().chain([MemberChange::Remove(voter)])),
            8 => changes.extend(promotion.into_iter().chain([MemberChange::Demote(voter)])),
            9 => changes.extend(learners.iter().map(|&node| MemberChange::Promote(node))),
            10 => {
                let gone = NodeId(self.random.between(1, configuration.highest_id.0));
                changes.push(learner(gone));
            }
            _ => {
                let (node, priority) =
                    (self.random.pick(&members), Some(self.random.below(3) as u8));
                let may_rise = !configuration.feature_level.is_above_base()
                    && self.plan.wire == Version::NEWEST;
                if may_rise && priority != Some(0) {
                    return vec![MemberChange::EnableFeatures(FeatureLevel::CURRENT)];
                }
                changes.push(MemberChange::Update {
                    node,
                    disk: None,
                    address: None,
                    priority,
                    feature_level: None,
                });
            }
        }
        changes
    }
}
