//! Membership of the cluster, and its changes (§4).
//!
//! A configuration is an entry of the log, in force at a node as soon as it is in that node's log,
//! committed or not (§4.1). Every node counts by the latest it has, and a truncation restores the
//! one before.
//!
//! ```text
//!  index      3        4        5        6
//!  entry      no-op    {1 2 3}&{1 2 4}   {1 2 4}      a joint configuration (4) replaces node 3 by
//!                      '-- committed --->'             node 4 in one step; once it is committed,
//!                                                      its leader appends the one that leaves it
//! ```
//!
//! A leader changes the membership only when nothing of an earlier change is open: an entry of its
//! own term is committed (else two leaders could each commit by majorities that have no node in
//! common; Ongaro, "bug in single-server membership changes", raft-dev, 2015), the latest
//! configuration is committed, and it is not joint. So whatever configurations two nodes count by,
//! they are equal or neighbours, and their quorums overlap.
//!
//! A removed member receives entries until its removal is committed, and then one message that says
//! so; usually it learns of its removal. A removed leader does not count itself; when the removal
//! is committed it hands over and steps down (§4.2.2).

use crate::types::{ChangeError, Configuration, Index, MemberChange, NodeId, Now, Payload};

use super::mutants::{Mutant, planted};
use super::progress::Progress;
use super::quorum::agreed;
use super::{Action, Core, Event, Proposed, RoleState};

impl Core {
    /// Changes who belongs to the cluster, and in what capacity: all of `changes` in one step of
    /// the log, through a joint configuration if more than one vote changes. The change is made
    /// when the entry returned is committed (and, after a joint configuration, the one that leaves
    /// it, which the leader appends by itself).
    ///
    /// # Errors
    /// Says what must happen first, or what is impossible; then nothing was appended.
    pub fn change_membership(
        &mut self,
        now: Now,
        changes: &[MemberChange],
    ) -> Result<Proposed, ChangeError> {
        self.begin(now);
        let RoleState::Leader(leading) = &self.state else {
            return Err(ChangeError::NotLeader { leader: self.leader });
        };
        if let Some(transfer) = &leading.transfer {
            return Err(ChangeError::Transferring { to: transfer.to() });
        }
        if self.log.commit() < leading.first_index && !planted(Mutant::ChangeBeforeOwnTermCommit) {
            return Err(ChangeError::TermNotCommitted);
        }
        let index = self.log.configuration_index();
        if index > self.log.commit() && !planted(Mutant::ChangeWhilePending) {
            return Err(ChangeError::Pending { index });
        }
        let current = self.log.configuration();
        if current.is_joint() && !planted(Mutant::ChangeWhilePending) {
            return Err(ChangeError::Joint { index });
        }
        let next = if planted(Mutant::IdReused) {
            let highest_id = current.members.keys().next_back().copied().unwrap_or_default();
            Configuration { highest_id, ..current.clone() }.changed(changes)?
        } else {
            current.changed(changes)?
        };
        for &node in next.voters.iter().filter(|node| !current.is_voter(**node)) {
            self.check_promotion(node)?;
        }
        self.check_quorum_of(&next)?;
        let index = self.append_configuration(next);
        Ok(Proposed { term: self.term, first: index, last: index })
    }

    /// A learner may vote once it has nearly everything: a voter that lacks much makes the cluster
    /// wait (§4.2.1).
    pub(super) fn check_promotion(&self, node: NodeId) -> Result<(), ChangeError> {
        let RoleState::Leader(leading) = &self.state else { return Ok(()) };
        if node == self.config.id || planted(Mutant::PromoteUnseen) {
            return Ok(());
        }
        let (timeout, limit) = (self.config.election_timeout.max, self.config.promotion_lag);
        // One that is added in the same step has not been sent anything yet.
        let progress = leading.progress.get(&node).ok_or(ChangeError::LearnerSilent { node })?;
        if progress.forgetting.is_some()
            || progress.round == 0
            || progress.heard.after(timeout) <= self.now
        {
            return Err(ChangeError::LearnerSilent { node });
        }
        let lag = self.log.last_index().0 - progress.matched.0;
        if lag > limit { Err(ChangeError::LearnerBehind { node, lag, limit }) } else { Ok(()) }
    }

    /// A configuration whose voters do not answer could commit nothing, neither itself nor a way
    /// back: the leader would step down, and no other could be elected.
    pub(super) fn check_quorum_of(&self, next: &Configuration) -> Result<(), ChangeError> {
        let RoleState::Leader(leading) = &self.state else { return Ok(()) };
        let (id, now, timeout) = (self.config.id, self.now, self.config.election_timeout.max);
        let answers = |node: NodeId| {
            let is_heard = |progress: &Progress| {
                progress.forgetting.is_none()
                    && progress.round > 0
                    && progress.heard.after(timeout) > now
            };
            node == id || leading.progress.get(&node).is_some_and(is_heard)
        };
        if agreed(next, answers) == Some(true) || planted(Mutant::ChangeToTheSilent) {
            return Ok(());
        }
        let voters = next.voters.union(&next.outgoing).copied();
        Err(ChangeError::NoQuorum { silent: voters.filter(|&node| !answers(node)).collect() })
    }

    /// The new configuration is in force from here on (§4.1).
    pub(super) fn append_configuration(&mut self, configuration: Configuration) -> Index {
        let index = self.log.last_index().next();
        let log_time = self.stamping_time();
        let entry =
            self.new_entry(log_time, index, Payload::Configuration(Box::new(configuration)));
        self.append_own(entry.into(), log_time);
        self.follow_configuration(index);
        index
    }

    /// From now on the leader sends to all members of the configuration at `index`. It stops
    /// sending to the others once that is committed.
    fn follow_configuration(&mut self, index: Index) {
        self.void_lease();
        let RoleState::Leader(leading) = &mut self.state else { return };
        let (id, previous, now) = (self.config.id, index.previous(), self.now);
        // The quorum has changed: whether it is heard must be checked again.
        leading.quorum_deadline = now;
        let configuration = self.log.configuration();
        for node in configuration.replicas().filter(|&node| node != id) {
            leading.progress.entry(node).or_insert_with(|| Progress::new(previous, now));
        }
        for (node, progress) in &mut leading.progress {
            if !configuration.members.contains_key(node) {
                progress.removed_at.get_or_insert(index);
            }
        }
        // The quorum may be smaller now, and the answers so far enough. If no other member is left,
        // no other answer will come.
        self.count_answered_rounds();
    }

    /// Does what follows from a committed configuration: a joint one is left, whichever leader made
    /// it; a leader without a vote hands over.
    pub(super) fn advance_membership(&mut self) {
        let RoleState::Leader(leading) = &self.state else { return };
        let commit = self.log.commit();
        if commit < leading.first_index
            || commit < self.log.configuration_index()
            || leading.transfer.is_some()
        {
            return;
        }
        let configuration = self.log.configuration();
        if configuration.is_joint() {
            if !planted(Mutant::JointIsNeverLeft) {
                let next = configuration.left();
                self.append_configuration(next);
            }
        } else if !configuration.voters.contains(&self.config.id)
            && !planted(Mutant::RemovedLeaderStays)
        {
            self.hand_over();
        } else {
            self.fence_forgetful();
        }
    }

    /// Drops members whose removal is committed: the message that says so has just left.
    pub(super) fn drop_removed_peers(&mut self) {
        let commit = self.log.commit();
        if let RoleState::Leader(leading) = &mut self.state {
            leading
                .progress
                .retain(|_, progress| progress.removed_at.is_none_or(|index| index > commit));
        }
    }

    /// Reports a configuration that has come into force, and this node's removal once it is
    /// committed.
    pub(super) fn report_membership(&mut self) {
        let index = self.log.configuration_index();
        if self.log.take_configuration_change() {
            let is_joint = self.log.configuration().is_joint();
            self.actions.push_back(Action::Event(Event::MembershipChanged { index, is_joint }));
            // A node that has just become a voter begins to wait for a leader.
            if !self.is_leader() {
                self.election_deadline =
                    self.election_deadline.max(self.now.after(self.randomized_timeout));
            }
        }
        if !self.is_removed
            && index <= self.log.commit()
            && self.log.configuration().has_removed(self.config.id)
        {
            self.is_removed = true;
            self.actions.push_back(Action::Event(Event::Removed { index }));
        }
    }

    /// The configuration by which a leader counts.
    pub(super) fn counted_configuration(&self) -> std::borrow::Cow<'_, Configuration> {
        let configuration = self.log.configuration();
        if planted(Mutant::RemovedLeaderCounts) && !configuration.is_voter(self.config.id) {
            let mut with_leader = configuration.clone();
            with_leader.voters.insert(self.config.id);
            return std::borrow::Cow::Owned(with_leader);
        }
        std::borrow::Cow::Borrowed(configuration)
    }
}
