//! Followers whose disks forgot what they had acknowledged, and committed entries that a leader
//! contradicts.
//!
//! A disk that loses synced writes, or a folder that is put back to an older copy, breaks what Raft
//! rests on: what was acknowledged counts towards commitment, and a vote is given once. The leader
//! of the term is the one that can prove it:
//!
//! ```text
//!  leader      matched[3] = 20, acknowledged while round 7 was the latest (`matched_round`)
//!  node 3      ... restarts with a log up to entry 5
//!  leader      round 8: heartbeat after entry 20
//!  node 3      rejected in round 8: nothing of mine is beyond entry 5
//!  leader      has proof: 8 > 7, and 5 < 20
//! ```
//!
//! An equal round proves nothing: messages of round 7 may have left before the acknowledgement
//! arrived, and messages are repeated and overtaken. So a rejection that looks like proof and is of
//! an old round starts the next round at once.
//!
//! From then on nothing that the node acknowledged counts, before or after; the size of a majority
//! stays as it is. The leader informs the node ([`Body::Forgot`]), which writes a durable mark and
//! neither votes nor campaigns. The way back is a *fence*, a configuration in which the node is a
//! learner: it commits by a majority of the others, which has a member in common with every
//! majority that used what was forgotten. Once the node holds the fence, durably and committed, it
//! drops the mark, and is promoted like any learner. (Recovery of a replica that lost its disk is
//! known to be subtle: Michael et al., "Recovering Shared Objects Without Stable Storage", DISC
//! 2017.)

use crate::types::{
    Body, DiskId, FollowerReport, Index, MemberChange, NodeId, Now, PeerRecord, Term,
};

use super::mutants::{Mutant, planted};
use super::progress::Mode;
use super::{Action, Core, Event, RoleState};

/// What a leader knows of a follower that forgot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Forgetting {
    /// The leader's last index when it learnt of it: the fence must come after.
    at: Index,
    /// The leader's round when it learnt of it: reports of that round or an earlier one may have
    /// left before.
    round: u64,
    /// Whether the follower has said that its mark is durable.
    is_confirmed: bool,
}

impl Core {
    /// Whether this node's disk forgot what it had acknowledged, and no fence has been passed
    /// since.
    #[must_use]
    pub fn has_forgotten(&self) -> bool {
        self.forgot.is_some()
    }

    /// The entry at which a leader contradicted what is committed here. From then on this node
    /// takes part in nothing.
    #[must_use]
    pub fn committed_conflict(&self) -> Option<Index> {
        self.committed_conflict
    }

    /// The latest round of a leader.
    #[cfg(test)]
    pub(super) fn latest_round(&self) -> Option<u64> {
        if let RoleState::Leader(leading) = &self.state { Some(leading.round) } else { None }
    }

    /// How far this node's log is durable, for the leaders that it answers: the number of its last
    /// durable frame.
    pub fn note_durable_sequence(&mut self, sequence: u64) {
        self.durable_sequence = Some(sequence);
    }

    /// Something was learnt about another node's disk: this node's disk records it with the next
    /// write.
    pub fn record_peer(&mut self, disk: DiskId, record: PeerRecord) {
        self.writes.record_peer(disk, record);
    }

    /// The driver has proof that a peer's disk forgot what it had acknowledged: it compares how far
    /// each disk says that it is durable with how far it was. Until the peer has passed a fence its
    /// votes do not count here, and if this node comes to lead, nothing else does.
    pub fn handle_peer_forgot(&mut self, now: Now, peer: NodeId) {
        self.begin(now);
        if self.is_leader() {
            return self.discount_peer(peer, None);
        }
        let is_voter = self.log.configuration().is_voter(peer);
        if is_voter && self.record_forgetful(peer) {
            self.actions.push_back(Action::Event(Event::PeerForgot {
                node: peer,
                matched: None,
                is_voter,
            }));
        }
    }

    /// Remembers, across changes of leadership, that a disk forgot. True if that is new.
    fn record_forgetful(&mut self, peer: NodeId) -> bool {
        let last = self.log.last_index();
        peer != self.config.id && self.forgetful.insert(peer, last).is_none()
    }

    /// Whether a vote of this node counts here.
    pub(super) fn counts_vote(&self, voter: NodeId) -> bool {
        !self.forgetful.contains_key(&voter) || planted(Mutant::ForgottenVoteCounts)
    }

    /// A new leader goes on with what it knew of others' disks before.
    pub(super) fn discount_forgetful_peers(&mut self) {
        for peer in self.forgetful.keys().copied().collect::<Vec<_>>() {
            self.discount_peer(peer, None);
        }
    }

    /// Lets go of those that a committed configuration has fenced off since.
    fn drop_fenced(&mut self) {
        let log = &self.log;
        self.forgetful.retain(|&peer, at| !log.is_without_vote_after(peer, *at));
    }

    /// The hint of a rejection is below what its sender had acknowledged.
    pub(super) fn check_rejection(&mut self, from: NodeId, hint: Index, report: &FollowerReport) {
        let RoleState::Leader(leading) = &mut self.state else { return };
        let Some(progress) = leading.progress.get(&from) else { return };
        if hint >= progress.matched {
            return;
        }
        let is_equal_enough =
            planted(Mutant::EqualRoundIsProof) && report.round == progress.matched_round;
        if report.round > progress.matched_round || is_equal_enough {
            self.discount_peer(from, Some(hint));
        } else {
            // Proof, or none, comes with the answer to the next round.
            leading.start_round(self.now.after(self.config.heartbeat_interval));
            self.lease.sent(leading.round, self.now, &self.config);
        }
    }

    /// What the follower's answer says of its disk. An answer that others have overtaken says
    /// nothing: it may be from before the mark, or from before the fence.
    pub(super) fn note_forgetting_report(&mut self, from: NodeId, report: &FollowerReport) {
        let RoleState::Leader(leading) = &self.state else { return };
        let Some(progress) = leading.progress.get(&from) else { return };
        let is_overtaken = progress.fenced_round.is_some_and(|fenced| report.round <= fenced);
        if report.has_forgotten && (!is_overtaken || planted(Mutant::OvertakenMarkCounts)) {
            self.discount_peer(from, None);
        }
        let (fence, commit) = (self.log.configuration_index(), self.log.commit());
        let is_fenced = !self.log.configuration().is_voter(from) && fence <= commit;
        let RoleState::Leader(leading) = &mut self.state else { return };
        let Some(progress) = leading.progress.get_mut(&from) else { return };
        let Some(forgetting) = &mut progress.forgetting else { return };
        let holds_fence = is_fenced && progress.matched >= fence && fence > forgetting.at;
        if report.has_forgotten {
            // A follower that keeps its mark behind the fence has it from a leader whose log was
            // longer: this leader sends it where the fence must be.
            forgetting.is_confirmed = !holds_fence || planted(Mutant::MarkNeverLowered);
        } else if report.round <= forgetting.round {
            // It left before the follower could know.
        } else if holds_fence {
            // It holds the fence, and is a learner like any other.
            progress.forgetting = None;
            progress.fenced_round = Some(report.round);
        } else {
            // `Forgot` has not reached it, or its disk forgot the mark, too.
            forgetting.is_confirmed = false;
        }
    }

    /// Nothing that the follower acknowledged counts any longer. `hint` is where its log may agree
    /// with the leader's.
    fn discount_peer(&mut self, peer: NodeId, hint: Option<Index>) {
        let (last, is_voter) = (self.log.last_index(), self.log.configuration().is_voter(peer));
        let RoleState::Leader(leading) = &mut self.state else { return };
        let Some(progress) = leading.progress.get_mut(&peer) else { return };
        if progress.forgetting.is_some() && hint.is_none() {
            return;
        }
        let matched = std::mem::take(&mut progress.matched);
        progress.matched_round = leading.round;
        if !matches!(progress.mode, Mode::Snapshot(_)) {
            progress.probe_after(hint.unwrap_or(matched).min(last));
        }
        if progress.forgetting.is_some() {
            return;
        }
        if is_voter {
            (progress.round, progress.bound_until) = (0, crate::types::Time(0));
            progress.forgetting =
                Some(Forgetting { at: last, round: leading.round, is_confirmed: false });
            // `Forgot` leaves with this round, before the follower votes.
            leading.start_round(self.now.after(self.config.heartbeat_interval));
            self.lease.sent(leading.round, self.now, &self.config);
        }
        if is_voter {
            self.record_forgetful(peer);
        }
        let matched = Some(matched);
        self.actions.push_back(Action::Event(Event::PeerForgot { node: peer, matched, is_voter }));
        self.void_lease();
        self.count_answered_rounds();
        self.abandon_transfer_to(peer);
    }

    fn abandon_transfer_to(&mut self, peer: NodeId) {
        if let RoleState::Leader(leading) = &mut self.state
            && leading.transfer.is_some_and(|transfer| transfer.to() == peer)
        {
            leading.transfer = None;
            self.actions.push_back(Action::Event(Event::TransferFailed { to: peer }));
        }
    }

    /// With each heartbeat, until the follower has confirmed.
    pub(super) fn send_forgot(&mut self) {
        let RoleState::Leader(leading) = &self.state else { return };
        let unconfirmed = leading.progress.iter().filter_map(|(&to, progress)| {
            let forgetting = progress.forgetting.filter(|forgetting| !forgetting.is_confirmed)?;
            Some((to, Body::Forgot { last_index: forgetting.at }))
        });
        let messages: Vec<(NodeId, Body)> = unconfirmed.collect();
        for (to, body) in messages {
            self.send(to, body);
        }
    }

    /// The leader of this term has proof that this node's disk forgot what it had acknowledged.
    pub(super) fn handle_forgot(&mut self, from: NodeId, last_index: Index) {
        if self.leader != Some(from) || self.is_leader() || last_index == Index(0) {
            return self.ignore();
        }
        let is_settled = match self.forgot {
            Some(mark) => mark <= last_index,
            None => self.log.is_without_vote_after(self.config.id, last_index),
        };
        if is_settled || planted(Mutant::ForgotKnownToLeaderOnly) {
            return;
        }
        // What was committed before this leader's election is in its log, so a lower mark of its
        // own will do: entries up to the higher one may never come.
        self.forgot = Some(last_index);
        if !planted(Mutant::MarkOnlyInMemory) {
            self.writes.set_hard_state(self.own_hard_state());
        }
        self.state = RoleState::Follower;
        self.following.require_acknowledgement();
        self.actions.push_back(Action::Event(Event::Forgot { mark: last_index }));
    }

    /// Drops the mark once this node's log holds the fence, durably and committed.
    pub(super) fn pass_fence(&mut self) {
        self.drop_fenced();
        let Some(mark) = self.forgot else { return };
        let is_caught_up = planted(Mutant::MarkDroppedAtCatchUp) && self.log.durable() >= mark;
        if self.is_fenced_after(mark) || is_caught_up {
            let index = self.log.configuration_index();
            self.forgot = None;
            self.writes.set_hard_state(self.own_hard_state());
            self.following.require_acknowledgement();
            self.actions.push_back(Action::Event(Event::PassedFence { index }));
        }
    }

    /// Whether this node's log holds, durably and committed, a configuration after `mark` in which
    /// it is a learner.
    fn is_fenced_after(&self, mark: Index) -> bool {
        let (index, id) = (self.log.configuration_index(), self.config.id);
        let is_held = index <= self.log.commit() && index <= self.log.durable();
        let configuration = self.log.configuration();
        is_held
            && index > mark
            && configuration.learners.contains(&id)
            && !configuration.is_voter(id)
    }

    /// Brings one voter that forgot behind a fence, and back when it has caught up. A second one is
    /// the operator's to demote: with two, acknowledged entries may be gone. True if a change was
    /// appended.
    pub(super) fn fence_forgetful(&mut self) -> bool {
        let RoleState::Leader(leading) = &self.state else { return false };
        let has_forgetful = leading.progress.values().any(|progress| progress.forgetting.is_some());
        if leading.returning.is_none() && !has_forgetful {
            return false;
        }
        let configuration = self.log.configuration();
        let (returning, change) = match leading.returning {
            Some(node) if configuration.learners.contains(&node) => {
                let has_passed = leading
                    .progress
                    .get(&node)
                    .is_some_and(|progress| progress.forgetting.is_none());
                if !has_passed || self.check_promotion(node).is_err() {
                    return false;
                }
                (None, MemberChange::Promote(node))
            }
            _ => {
                let forgetful = |node: &&NodeId| {
                    leading.progress.get(node).is_some_and(|progress| progress.forgetting.is_some())
                };
                let mut forgetful = configuration.voters.iter().filter(forgetful);
                let (Some(&node), None) = (forgetful.next(), forgetful.next()) else {
                    return false;
                };
                (Some(node), MemberChange::Demote(node))
            }
        };
        let Ok(next) = configuration.changed(&[change]) else { return false };
        if self.check_quorum_of(&next).is_err() {
            return false;
        }
        self.append_configuration(next);
        if let RoleState::Leader(leading) = &mut self.state {
            leading.returning = returning;
        }
        true
    }

    /// A leader's entries contradict what is committed here: acknowledged data was lost elsewhere,
    /// and this may be the only copy. This node writes and acknowledges nothing from here on.
    pub(super) fn stop_at_conflict(&mut self, leader: NodeId, index: Index) {
        self.committed_conflict = Some(index);
        self.actions.push_back(Action::Event(Event::CommittedConflict { index, leader }));
        self.answer_conflict(leader);
    }

    /// What a node that has stopped at a conflict answers to a leader.
    pub(super) fn answer_conflict(&mut self, leader: NodeId) {
        let Some(index) = self.committed_conflict else { return };
        let log_term = self.log.terms().term_at(index).unwrap_or_default();
        self.send(leader, Body::CommittedConflict { index, log_term });
    }

    /// A follower has stopped at a conflict. It no longer counts for anything; its answers to
    /// rounds have ended.
    pub(super) fn handle_committed_conflict(&mut self, from: NodeId, index: Index, log_term: Term) {
        let RoleState::Leader(leading) = &mut self.state else { return self.ignore() };
        let Some(progress) = leading.progress.get_mut(&from) else { return self.ignore() };
        if progress.conflict.replace(index) != Some(index) {
            self.actions.push_back(Action::Event(Event::PeerConflict {
                node: from,
                index,
                log_term,
            }));
        }
    }
}
