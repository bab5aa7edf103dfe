//! Leadership transfer (§3.10), also to the voter with the highest priority.
//!
//! ```text
//!  leader   transfer to 3, no proposals    sends entries until matched = last    TimeoutNow
//!  node 3   Appended, durable              -------------------------------->     campaigns
//!  leader   hears of term + 1: steps down
//! ```
//!
//! The leader asks a target to campaign only when everything is on the target's disk: it wins then
//! if a majority hears it, without an election timeout. While the target catches up the leader
//! takes no proposals, so that this ends. After one election timeout without a new leader the
//! transfer has failed, and proposals are taken again. A target that was asked may still campaign
//! later: that is as safe as any election, but the leader's lease is over.

use std::cmp::Reverse;
use std::time::Duration;

use thiserror::Error;

use crate::types::{Body, NodeId, Now, Time, ask_leader};

use super::mutants::{Mutant, planted};
use super::{Core, Event, RoleState};

/// Why leadership is not transferred. Nothing has happened then.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum TransferError {
    /// Only a leader can transfer leadership.
    #[error("this node does not lead; {}", ask_leader(*leader))]
    NotLeader {
        /// The leader, as far as this node knows.
        leader: Option<NodeId>,
    },
    /// There is no such member.
    #[error("node {node} is not a member; look at the list of members")]
    UnknownNode {
        /// The target.
        node: NodeId,
    },
    /// A node that does not vote, or is about to lose its vote, cannot lead.
    #[error("node {node} is a learner or is leaving; promote it first, or choose another")]
    NotVoter {
        /// The target.
        node: NodeId,
    },
    /// This node leads already.
    #[error("node {node} leads already")]
    Itself {
        /// This node.
        node: NodeId,
    },
    /// No other voter exists that could lead.
    #[error("there is no other voter; promote another member first")]
    NoOtherVoter,
}

/// A transfer under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Transfer {
    to: NodeId,
    deadline: Time,
    /// `TimeoutNow` has left since the last heartbeat.
    is_asked: bool,
}

impl Transfer {
    pub(super) fn to(&self) -> NodeId {
        self.to
    }

    pub(super) fn deadline(&self) -> Time {
        self.deadline
    }
}

/// Attempts after which the wait for the next one grows no more.
const HAND_OVERS_MAX: u32 = 9;

/// How often leadership was handed to a voter with a higher priority that did not keep it for long.
/// Counted across terms: each attempt that fails costs a term.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct PriorityHandOvers {
    to: NodeId,
    attempts: u32,
    last: Time,
}

impl PriorityHandOvers {
    /// The wait between the last attempt and the next: two of the longer election timeouts, and
    /// twice as long after each further attempt, up to 256 times.
    fn wait(&self, timeout: Duration) -> Duration {
        timeout.saturating_mul(1 << self.attempts.clamp(1, HAND_OVERS_MAX))
    }

    fn may_try(&self, to: NodeId, now: Time, timeout: Duration) -> bool {
        self.to != to || self.attempts == 0 || self.last.after(self.wait(timeout)) <= now
    }

    fn note_attempt(&mut self, to: NodeId, now: Time, timeout: Duration) {
        // After four times the wait without an attempt the last one is taken to have gone well.
        let is_new = self.to != to || self.last.after(self.wait(timeout).saturating_mul(4)) <= now;
        let attempts = if is_new { 1 } else { (self.attempts + 1).min(HAND_OVERS_MAX) };
        *self = PriorityHandOvers { to, attempts, last: now };
    }
}

/// Whether this node may lead, as its driver reports: a node whose state machine has failed answers
/// no request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) enum Fitness {
    #[default]
    MayLead,
    /// It hands over, to one voter after the other: it does not know which of them can lead.
    Unfit {
        handed_to: Option<NodeId>,
        /// It has refused a candidate for a shorter log, and heard no leader since: no other node
        /// can lead before it has given its entries away.
        has_refused_shorter: bool,
    },
}

impl Fitness {
    pub(super) fn may_lead(self) -> bool {
        self == Fitness::MayLead
    }

    /// Whether it may campaign all the same, to give its entries away.
    pub(super) fn is_needed(self) -> bool {
        matches!(self, Fitness::Unfit { has_refused_shorter: true, .. })
            && !planted(Mutant::UnfitNeverCampaigns)
    }

    /// A candidate was refused for a shorter log.
    fn note_refused_shorter(&mut self) {
        if let Fitness::Unfit { has_refused_shorter, .. } = self {
            *has_refused_shorter = true;
        }
    }

    /// A leader was heard.
    fn clear_refused_shorter(&mut self) {
        if let Fitness::Unfit { has_refused_shorter, .. } = self {
            *has_refused_shorter = false;
        }
    }
}

impl Core {
    /// From now on this node must not lead: its state machine cannot answer.
    ///
    /// It goes on voting and acknowledging. If it leads, it hands over, and leads on until another
    /// voter has taken over, which may need its entries first. It does not campaign, with one
    /// exception: it has refused a candidate for a shorter log, and no leader has been heard since.
    /// Then it is elected, gives its entries away, and hands over.
    ///
    /// ```text
    ///  node 1   1 2 3     its state machine has failed; the only one with entry 3
    ///  node 2   1 2       a candidate that node 1 refuses
    ///  node 3   down
    /// ```
    pub fn forbid_leading(&mut self, now: Now) {
        self.begin(now);
        if !self.fitness.may_lead() {
            return;
        }
        self.fitness = Fitness::Unfit { handed_to: None, has_refused_shorter: false };
        if matches!(self.state, RoleState::PreCandidate(_) | RoleState::Candidate(_))
            && !planted(Mutant::UnfitCampaigns)
        {
            self.become_follower(None);
        }
        self.hand_over_if_unfit();
    }

    /// This node may lead again: what [`Core::forbid_leading`] forbade is over.
    pub fn allow_leading(&mut self, now: Now) {
        self.begin(now);
        self.fitness = Fitness::MayLead;
    }

    /// At a heartbeat: a leader that may not lead begins another transfer, if none is under way.
    pub(super) fn hand_over_if_unfit(&mut self) {
        let (Fitness::Unfit { handed_to, .. }, RoleState::Leader(leading)) =
            (self.fitness, &self.state)
        else {
            return;
        };
        if leading.transfer.is_some() {
            return;
        }
        let timeout = self.config.election_timeout.max;
        let voters = self.log.configuration().voters.iter().copied();
        // Of those that have answered in this term: another one may be down.
        let is_heard = |node: &NodeId| {
            let progress =
                leading.progress.get(node).filter(|progress| progress.forgetting.is_none());
            progress.is_some_and(|progress| {
                progress.round > 0 && progress.heard.after(timeout) > self.now
            })
        };
        let mut heard: Vec<NodeId> = voters.filter(is_heard).collect();
        // One that restores a snapshot answers as little as this node.
        let answers = |node: &NodeId| {
            leading.progress.get(node).is_some_and(|p| !self.reports_loading(p.applied))
        };
        if heard.iter().any(answers) {
            heard.retain(answers);
        }
        let next = heard.iter().find(|&&node| Some(node) > handed_to).or(heard.first());
        if let Some(&to) = next {
            if let Fitness::Unfit { handed_to, .. } = &mut self.fitness {
                *handed_to = Some(to);
            }
            self.begin_transfer(to);
        }
    }

    /// A candidate of a later term is refused because its log is shorter than this node's.
    pub(super) fn note_refused_shorter(&mut self) {
        self.fitness.note_refused_shorter();
        self.loading.stop_deferring();
    }

    /// There is a leader: this node is not needed as one.
    pub(super) fn note_leader(&mut self) {
        self.fitness.clear_refused_shorter();
        self.loading.reset_deferral();
    }

    /// Whether this node may not lead, but campaigns to give its entries away.
    #[must_use]
    pub fn campaigns_to_hand_over(&self) -> bool {
        self.fitness.is_needed()
    }

    /// Hands leadership to `to`, or to the best voter there is: of those that are heard, and
    /// restore no snapshot, the one with the highest priority, and of several the one that lacks
    /// least. Until that has happened or failed ([`Event::TransferFailed`]) proposals are refused
    /// with [`ProposeError::Transferring`](super::ProposeError::Transferring). Another target takes
    /// the place of an earlier one.
    ///
    /// # Errors
    /// Says why not; then nothing has changed, and an earlier transfer goes on.
    pub fn transfer_leadership(
        &mut self,
        now: Now,
        to: Option<NodeId>,
    ) -> Result<(), TransferError> {
        self.begin(now);
        if !self.is_leader() {
            return Err(TransferError::NotLeader { leader: self.leader });
        }
        let configuration = self.log.configuration();
        let to = match to {
            Some(node) if node == self.config.id => return Err(TransferError::Itself { node }),
            Some(node) if !configuration.members.contains_key(&node) => {
                return Err(TransferError::UnknownNode { node });
            }
            Some(node) if !configuration.voters.contains(&node) => {
                return Err(TransferError::NotVoter { node });
            }
            Some(node) => node,
            None => self.successor().ok_or(TransferError::NoOtherVoter)?,
        };
        self.begin_transfer(to);
        Ok(())
    }

    /// The voter that should lead next.
    fn successor(&self) -> Option<NodeId> {
        let RoleState::Leader(leading) = &self.state else { return None };
        let configuration = self.log.configuration();
        let timeout = self.config.election_timeout.min;
        let voters = configuration
            .voters
            .iter()
            .filter_map(|node| Some((*node, leading.progress.get(node)?)));
        let best = voters.filter(|(_, progress)| progress.forgetting.is_none()).max_by_key(
            |(node, progress)| {
                let is_heard = progress.heard.after(timeout) > self.now;
                let answers = !self.reports_loading(progress.applied);
                (is_heard, answers, configuration.priority(*node), progress.matched, Reverse(*node))
            },
        );
        best.map(|(node, _)| node)
    }

    pub(super) fn begin_transfer(&mut self, to: NodeId) {
        let deadline = self.now.after(self.config.election_timeout.max);
        if let RoleState::Leader(leading) = &mut self.state {
            leading.transfer = Some(Transfer { to, deadline, is_asked: false });
        }
    }

    /// A leader whose removal is committed hands over, and then steps down.
    pub(super) fn hand_over(&mut self) {
        match self.successor() {
            Some(to) => self.begin_transfer(to),
            None => self.step_down_to_successor(),
        }
    }

    /// This leader has no vote, and that is committed.
    fn is_leaving(&self) -> bool {
        let is_committed = self.log.configuration_index() <= self.log.commit();
        is_committed && !self.log.configuration().is_voter(self.config.id)
    }

    fn step_down_to_successor(&mut self) {
        let term = self.term;
        self.step_down(Event::NoLongerVoter { term });
    }

    /// Tells the target to campaign, as soon as it lacks nothing; a leader that leaves waits until
    /// nothing of its own is open, too.
    pub(super) fn advance_transfer(&mut self) {
        if self.transfer_target().is_none() {
            return;
        }
        let (last, is_leaving) = (self.log.last_index(), self.is_leaving());
        // A member that leaves does not learn what becomes of its entries.
        let is_settled = !is_leaving || self.log.commit() == last;
        let RoleState::Leader(leading) = &mut self.state else { return };
        let Some(transfer) = &mut leading.transfer else { return };
        let matched = leading.progress.get(&transfer.to).map(|progress| progress.counted());
        let is_ready = matched == Some(last) || planted(Mutant::TransferBeforeFlushed);
        if transfer.is_asked || !is_ready || !is_settled {
            return;
        }
        transfer.is_asked = true;
        leading.has_sent_timeout_now = true;
        let to = transfer.to;
        self.send(to, Body::TimeoutNow);
        if is_leaving {
            self.step_down_to_successor();
        }
    }

    /// At a heartbeat: `TimeoutNow` may have been lost, so it is sent again.
    pub(super) fn repeat_timeout_now(&mut self) {
        if let RoleState::Leader(leading) = &mut self.state
            && let Some(transfer) = &mut leading.transfer
        {
            transfer.is_asked = false;
        }
    }

    /// A transfer that takes too long has failed.
    pub(super) fn transfer_timeout(&mut self) {
        let RoleState::Leader(leading) = &mut self.state else { return };
        let Some(transfer) = &leading.transfer else { return };
        if transfer.deadline > self.now || planted(Mutant::TransferNeverTimesOut) {
            return;
        }
        let to = transfer.to;
        leading.transfer = None;
        self.actions.push_back(super::Action::Event(Event::TransferFailed { to }));
        if self.is_leaving() {
            self.step_down_to_successor();
        }
    }

    /// At a heartbeat: when no other transfer or change is under way, leadership goes to a voter
    /// with a higher priority that has all committed entries. If it does not take it, the next
    /// attempt follows after twice the longer election timeout, and each further one after twice
    /// the wait.
    pub(super) fn hand_over_to_priority(&mut self) {
        let RoleState::Leader(leading) = &self.state else { return };
        let (configuration, commit) = (self.log.configuration(), self.log.commit());
        let is_calm = leading.transfer.is_none()
            && leading.hand_over_after <= self.now
            && commit >= leading.first_index
            && commit >= self.log.configuration_index()
            && !configuration.is_joint();
        if !is_calm {
            return;
        }
        let own = configuration.priority(self.config.id);
        let better =
            configuration.voters.iter().copied().filter(|&node| configuration.priority(node) > own);
        let timeout = self.config.election_timeout.min;
        let is_ready = |node: &NodeId| {
            let progress = leading.progress.get(node);
            progress.is_some_and(|p| {
                let is_heard = p.round > 0 && p.heard.after(timeout) > self.now;
                let answers = !self.reports_backlog(p.applied) && !self.reports_loading(p.applied);
                p.forgetting.is_none() && p.matched >= commit && is_heard && answers
            })
        };
        let Some(to) = better
            .filter(is_ready)
            .max_by_key(|&node| (configuration.priority(node), Reverse(node)))
        else {
            return;
        };
        let timeout = self.config.election_timeout.max;
        if self.priority_hand_overs.may_try(to, self.now, timeout) {
            self.priority_hand_overs.note_attempt(to, self.now, timeout);
            self.begin_transfer(to);
        }
    }

    /// The leader asks this node to take over.
    pub(super) fn handle_timeout_now(&mut self, from: NodeId) {
        if self.leader != Some(from) || !self.log.configuration().is_voter(self.config.id) {
            return self.ignore();
        }
        // A node that may not campaign, or cannot now, leaves the leader in place; it asks again at
        // the next heartbeat.
        if self.log.last_stamp().is_none() {
            return self.fetch_last();
        }
        if self.may_campaign() {
            self.start_transfer_election();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_between_hand_overs_saturates() {
        let (mut attempted, now) = (PriorityHandOvers::default(), Time(7));
        for attempts in 1..=HAND_OVERS_MAX {
            assert!(attempts > 1 || attempted.may_try(NodeId(2), now, Duration::MAX), "the first");
            attempted.note_attempt(NodeId(2), now, Duration::MAX);
            assert_eq!(attempted.attempts, attempts);
            assert!(!attempted.may_try(NodeId(2), now, Duration::MAX));
        }
    }

    #[test]
    fn hand_overs_are_counted_for_one_target_until_one_lasts() {
        let timeout = Duration::from_nanos(10);
        let mut attempted = PriorityHandOvers::default();
        attempted.note_attempt(NodeId(2), Time(100), timeout);
        assert!(attempted.may_try(NodeId(3), Time(100), timeout), "another target");
        assert!(!attempted.may_try(NodeId(2), Time(119), timeout));
        assert!(attempted.may_try(NodeId(2), Time(120), timeout));
        attempted.note_attempt(NodeId(2), Time(120), timeout);
        assert_eq!(attempted.attempts, 2);
        let mut next = attempted;
        next.note_attempt(NodeId(2), Time(120 + 4 * 40 - 1), timeout);
        assert_eq!(next.attempts, 3);
        let mut next = attempted;
        next.note_attempt(NodeId(2), Time(120 + 4 * 40), timeout);
        assert_eq!(next.attempts, 1, "the last one went well");
        let mut next = attempted;
        next.note_attempt(NodeId(3), Time(121), timeout);
        assert_eq!((next.to, next.attempts), (NodeId(3), 1));
    }
}
