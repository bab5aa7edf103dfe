//! The operator: changes members, votes and leaders, and wipes disks, while other faults occur.
//!
//! Nodes beyond the initial members start with an empty configuration and wait until the operator
//! adds them as learners. The id of a removed node is never used again: the operator requests it
//! anyway, and must be refused. A wiped machine never starts again; a spare node replaces it.

use std::time::Duration;

use super::checks::{CheckResult, Violation, check};
use super::event::SimEvent;
use super::fault_counters::FaultCounter;
use super::faults::CrashCause;
use super::operator_requests::OperatorRequest;
use super::options::{FaultKind, OperatorPlan, Plan};
use super::random::{DurationRange, Random};
use super::world::{World, node_id};
use crate::core::Core;
use crate::replica::{AdminRequest, Outcome, Request, RequestId};
use crate::types::{Configuration, DiskId, FeatureLevel, Member, MemberChange, NodeId};
use crate::wire::Version;

/// One run in this number has an operator.
const RUNS_PER_OPERATOR: u64 = 4;

impl OperatorPlan {
    /// Draws from its own random source, so that runs without an operator do not depend on it.
    pub(super) fn draw(seed: u64, plan: &mut Plan) -> Option<OperatorPlan> {
        let mut random = Random::new(seed ^ 0x6f70_6572_6174_6f72);
        if random.below(RUNS_PER_OPERATOR) > 0 {
            return None;
        }
        let initial_members = plan.nodes.min(5);
        plan.nodes = initial_members + random.between(1, 4) as usize;
        // The operator wipes disks, and keeps within what the votes tolerate. Other damage would
        // exceed that.
        plan.faults.retain(|kind| !matches!(kind, FaultKind::Rot | FaultKind::Misdirect));
        let high = random.pick(&[30, 100, 300]);
        Some(OperatorPlan {
            initial_members,
            interval: DurationRange::new(Duration::from_millis(1), Duration::from_millis(high)),
            transfers: random.pick(&[0, 2_000, 7_000]),
            wipes: random.chance(3_000),
            promotion_lag: random.pick(&[3, 1_000]),
            shrinks_to_one_vote: random.chance(5_000),
        })
    }
}

fn learner(node: NodeId) -> MemberChange {
    let (disk, address) = (DiskId(node.0.into()), format!("place-{node}"));
    let member = Member { disk, address, priority: 0, feature_level: FeatureLevel::CURRENT };
    MemberChange::AddLearner { node, member }
}

impl World {
    /// The configuration with which a node is created.
    pub(super) fn initial_configuration(&self, node: usize) -> Configuration {
        let initial_members = self
            .plan
            .operator
            .as_ref()
            .map_or(self.plan.nodes, |operator| operator.initial_members);
        let members = if node < initial_members { initial_members } else { 0 };
        let initial_members = (0..members).map(|place| (node_id(place), Member::default()));
        Configuration::of_voters(initial_members).at_feature_level(self.plan.feature_level)
    }

    pub(super) fn schedule_operator(&mut self) {
        if let Some(operator) = &self.plan.operator {
            let first = operator.interval.max * 2;
            self.schedule_after(first, SimEvent::OperatorActs);
        }
    }

    fn core(&self, place: usize) -> Option<&Core> {
        self.processes[place].running.as_ref().map(|running| running.replica.core())
    }

    /// The leader of the highest term, among the nodes that run.
    pub(super) fn latest_leader(&self) -> Option<usize> {
        let leaders = (0..self.plan.nodes).filter(|&place| self.processes[place].is_awake());
        let leaders = leaders
            .filter_map(|place| Some((self.core(place)?, place)))
            .filter(|(core, _)| core.is_leader());
        leaders.max_by_key(|(core, _)| core.term()).map(|(_, place)| place)
    }

    /// Whether a node must have converged at the end: the leader counts it as a member, and its
    /// disk and state machine are not lost.
    pub(super) fn must_be_healthy(&self, place: usize) -> bool {
        let is_member = || {
            let leader = self.latest_leader().and_then(|leader| self.core(leader));
            leader.is_some_and(|core| core.configuration().members.contains_key(&node_id(place)))
        };
        !self.processes[place].is_lost
            && !self.has_lost_machine(place)
            && (self.plan.operator.is_none() || is_member())
    }

    /// Whether no membership change is in progress and no wiped node is left to remove.
    pub(super) fn is_membership_settled(&self) -> bool {
        let leader = self.latest_leader().and_then(|leader| self.core(leader));
        let is_settled = |core: &Core| {
            !core.configuration().is_joint() && core.configuration_index() <= core.commit()
        };
        self.plan.operator.is_none()
            || (self.operator.wiped.is_none() && leader.is_some_and(is_settled))
    }

    /// The operator acts, and its next action is scheduled.
    pub(super) fn run_operator(&mut self) -> CheckResult {
        let Some(plan) = self.plan.operator.clone() else { return Ok(()) };
        if self.faults_ended && self.operator.wiped.is_none() {
            return Ok(());
        }
        let pause = self.random.duration_in(plan.interval);
        self.schedule_after(pause, SimEvent::OperatorActs);
        // Often one request at a time: a request that waits for another may be out of date when it
        // is carried out.
        if !self.operator.is_idle() && self.operator.wiped.is_none() && self.random.chance(5_000) {
            return Ok(());
        }
        let Some(leader) = self.latest_leader() else { return Ok(()) };
        let Some(configuration) = self.core(leader).map(|core| core.configuration().clone()) else {
            return Ok(());
        };
        if let Some(wiped) = self.operator.wiped {
            let is_gone =
                !configuration.members.contains_key(&node_id(wiped)) && self.is_change_done(leader);
            if is_gone {
                self.operator.wiped = None;
                return Ok(());
            }
            return self.ask_for_change(leader, vec![MemberChange::Remove(node_id(wiped))]);
        }
        if self.random.chance(plan.transfers) {
            let to = self
                .random
                .chance(7_000)
                .then(|| node_id(self.random.below(self.plan.nodes as u64) as usize));
            self.trace.record(self.now, &(leader, to), || {
                format!("operator: {} hands over to {to:?}", leader + 1)
            });
            return self.submit_admin(leader, AdminRequest::TransferLeadership(to), false);
        }
        if plan.wipes && self.random.chance(2_000) && self.may_wipe(leader, &configuration) {
            return self.wipe(&configuration);
        }
        if plan.shrinks_to_one_vote && self.random.chance(5_000) {
            return self.shrink_to_one_vote(leader, &configuration);
        }
        let changes = self.draw_changes(&configuration);
        self.ask_for_change(leader, changes)
    }

    /// Demotes all voters but one, which is not the leader, and promotes the leader again at once.
    ///
    /// For a moment these two nodes use different configurations.
    fn shrink_to_one_vote(&mut self, leader: usize, configuration: &Configuration) -> CheckResult {
        let own = node_id(leader);
        let others: Vec<NodeId> =
            configuration.voters.iter().copied().filter(|&voter| voter != own).collect();
        if others.is_empty() {
            let changes = self.draw_changes(configuration);
            return self.ask_for_change(leader, changes);
        }
        let stays = self.random.pick(&others);
        let demoted = configuration.voters.iter().copied().filter(|&voter| voter != stays);
        self.ask_for_change(leader, demoted.map(MemberChange::Demote).collect())?;
        self.ask_for_change(leader, vec![MemberChange::Promote(own)])
    }

    /// Checks a node's configuration when all its effects are carried out.
    pub(super) fn check_members_in_force(&self, node: usize) -> CheckResult {
        let core = self.core(node).filter(|_| !self.amnesia.is_beyond_tolerance);
        core.map_or(Ok(()), |core| self.checks.members.check_in_force(node, core))
    }

    fn is_change_done(&self, leader: usize) -> bool {
        self.core(leader).is_some_and(|core| core.configuration_index() <= core.commit())
    }

    /// Whether a disk may be wiped: only while no change is pending anywhere.
    ///
    /// If only the wiped node and a former leader had a configuration, that leader could never
    /// commit or lose it.
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
            !self.operator.is_idle() || running.any(|running| running.replica.has_admin_requests());
        has_spare_vote
            && !is_open
            && self.is_change_done(leader)
            && configuration.members.keys().all(agrees)
    }

    /// Wipes the disk of a member, with the operator's knowledge.
    fn wipe(&mut self, configuration: &Configuration) -> CheckResult {
        let members: Vec<NodeId> = configuration.members.keys().copied().collect();
        let place = self.random.pick(&members).0 as usize - 1;
        self.trace
            .record(self.now, &place, || format!("operator: the disk of {} is wiped", place + 1));
        self.processes[place].is_lost = true;
        self.operator.wiped = Some(place);
        self.count_fault(FaultCounter::Wiped);
        self.crash(place, CrashCause::PowerLoss);
        Ok(())
    }

    fn ask_for_change(&mut self, leader: usize, changes: Vec<MemberChange>) -> CheckResult {
        if changes.is_empty() {
            return Ok(());
        }
        let ids: Vec<NodeId> = changes.iter().filter_map(MemberChange::node).collect();
        self.trace.record(self.now, &(leader, ids), || {
            format!("operator: asks {} for {changes:?}", leader + 1)
        });
        let highest_id =
            self.core(leader).map(|core| core.configuration().highest_id).unwrap_or_default();
        // An id that only an uncommitted change has used may be free again when this request is
        // carried out.
        let is_used = |change: &MemberChange| match change {
            MemberChange::AddLearner { node, .. } => *node <= highest_id,
            _ => false,
        };
        let is_reuse = self.is_change_done(leader) && changes.iter().any(is_used);
        self.submit_admin(leader, AdminRequest::ChangeMembership(changes), is_reuse)
    }

    /// Submits an admin request to a node, like an operator's tool.
    ///
    /// The node forwards it if it does not lead, and retries it while an obstacle may pass.
    fn submit_admin(&mut self, node: usize, admin: AdminRequest, is_reuse: bool) -> CheckResult {
        if self.processes[node].running.is_none() {
            return Ok(()); // The previous request killed it.
        }
        let id = self.clients.next_request();
        let is_transfer = matches!(admin, AdminRequest::TransferLeadership(_));
        self.operator.open.insert(id.0, OperatorRequest { node, is_transfer, is_reuse });
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

    /// Counts a configuration that has come into force at a node.
    pub(super) fn count_change(&mut self, node: usize, is_joint: bool) {
        let was_joint = std::mem::replace(&mut self.processes[node].was_joint, is_joint);
        self.fail_sole_voter(node);
        let Some(core) = self.core(node).filter(|core| core.is_leader()) else { return };
        let votes = core.configuration().is_voter(core.id());
        let is_raised = core.configuration().feature_level > self.plan.feature_level;
        if is_raised && !std::mem::replace(&mut self.operator.is_raised, true) {
            self.count_fault(FaultCounter::FeaturesEnabled);
        }
        if !was_joint {
            self.count_fault(FaultCounter::MembersChanged);
        }
        if is_joint {
            self.count_fault(FaultCounter::JointBegun);
        }
        if !votes {
            self.count_fault(FaultCounter::LeaderDemoted);
        }
    }

    /// Restarts or pauses a sole voter: it may have promised something to a leader with a larger
    /// configuration.
    fn fail_sole_voter(&mut self, node: usize) {
        let is_enabled =
            self.plan.operator.as_ref().is_some_and(|operator| operator.shrinks_to_one_vote)
                && !self.faults_ended;
        let is_sole_voter = |core: &Core| {
            let configuration = core.configuration();
            !core.is_leader()
                && configuration.outgoing.is_empty()
                && configuration.voters == [core.id()].into()
        };
        if is_enabled && self.core(node).is_some_and(is_sole_voter) {
            let pause = self.random.duration(Duration::ZERO, self.plan.election_timeout.min);
            self.schedule_after(pause, SimEvent::LastFollowerFails { node });
        }
    }

    /// Whether a transfer may begin at any time: one was requested from a node that has not
    /// forwarded it.
    pub(super) fn may_transfer(&self) -> bool {
        let has_begun = |order: &OperatorRequest| {
            self.core(order.node).is_some_and(|core| core.transfer_target().is_some())
        };
        self.operator.open.values().any(|order| order.is_transfer && !has_begun(order))
    }

    /// Records this outcome if it is one of the operator's requests; false if it is not.
    pub(super) fn operator_reply(
        &mut self,
        node: usize,
        id: RequestId,
        outcome: &Outcome,
    ) -> Result<bool, Violation> {
        let Some(order) = self.operator.open.remove(&id.0) else { return Ok(false) };
        check(order.node == node, "a request has one outcome", || {
            format!("node {} answers {id:?}, which is not open there: {outcome:?}", node + 1)
        })?;
        let is_done = matches!(outcome, Outcome::Answer(_));
        check(!is_done || !order.is_reuse, "an id is never used again", || {
            format!("node {} has carried out {order:?}", node + 1)
        })?;
        if order.is_reuse && matches!(outcome, Outcome::Refused(_)) {
            self.count_fault(FaultCounter::UsedIdRequested);
        }
        Ok(true)
    }

    /// Counts a joint change that is interrupted because this process dies.
    pub(super) fn count_interrupted_change(&mut self, node: usize) {
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
