//! Elections: campaigns, votes and terms (§3.4, §3.6.1), pre-vote (§9.6), leader stickiness
//! (§4.2.3).
//!
//! ```text
//!            timeout            a majority would         a majority does
//!  follower ---------> pre-candidate -------> candidate -------> leader
//!     ^  ^                |    ^   term as it was   |  term + 1     |
//!     |  '-- refused, or a leader is heard ---------'               |
//!     '----- a higher term, no majority heard, a write stalled -----'
//! ```

use std::collections::BTreeMap;

use crate::types::{Append, Body, Index, Message, NodeId, Term};

use super::follower::Following;
use super::mutants::{Mutant, planted};
use super::quorum::{Tally, tally};
use super::{Action, Core, Event, RoleState};

/// Why a node campaigns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ElectionCause {
    /// It has heard no leader for an election timeout.
    Timeout,
    /// Its leader has asked it to (§3.10), so promises to that leader do not forbid votes.
    Transfer,
}

impl ElectionCause {
    pub(super) fn of_request(is_transfer: bool) -> ElectionCause {
        if is_transfer { ElectionCause::Transfer } else { ElectionCause::Timeout }
    }
}

/// The answers to a campaign.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Ballot {
    votes: BTreeMap<NodeId, bool>,
    /// The write that makes the candidate's own vote durable; until it is done that vote does not
    /// count.
    own_write: u64,
}

impl Ballot {
    /// Notes an answer. A refusal may be followed by a grant (the voter heard of a leader then, and
    /// does not now), but a grant stands.
    fn cast(&mut self, voter: NodeId, granted: bool) {
        let vote = self.votes.entry(voter).or_insert(granted);
        *vote |= granted;
    }
}

impl Core {
    /// The election timeout has passed without a message from a leader.
    pub(super) fn election_timeout(&mut self) {
        self.reset_election_timer();
        if self.log.last_stamp().is_none() {
            self.fetch_last();
        }
        if self.may_campaign() && !self.defer_campaign() {
            self.start_pre_vote();
        }
    }

    /// Whether this node may campaign. Voters may, and a node that lost its vote in a configuration
    /// that is not known to be committed (§4.2.2). These may not:
    ///
    /// - a node whose disk is stuck, because it could not keep a promise;
    /// - one that may have given a promise before its restart, or does not know the last entry's
    ///   stamp yet;
    /// - one whose log a snapshot is about to replace;
    /// - an initial member that waits for the bootstrap;
    /// - one whose state machine has failed, unless no other node can be elected
    ///   ([`Core::forbid_leading`]).
    pub(super) fn may_campaign(&self) -> bool {
        // The term comes first: there must be one after it.
        self.term.0 < u64::MAX - 2
            && self.log.may_vote(self.config.id)
            && !self.has_forgotten()
            && self.committed_conflict.is_none()
            && self.log.last_stamp().is_some()
            && !self.is_in_restart_wait()
            && !self.is_write_stalled()
            && (!self.snapshots.is_installing() || planted(Mutant::CampaignDuringInstall))
            && self.has_next_term()
            && !self.awaits_bootstrap_of(self.term.next())
            && (self.fitness.may_lead()
                || self.fitness.is_needed()
                || planted(Mutant::UnfitCampaigns))
    }

    /// Whether the election of `term` would bootstrap the cluster, and this node waits for that
    /// ([`Core::set_bootstrap`]). A candidate of a later term knows one, so its cluster
    /// exists.
    pub(super) fn awaits_bootstrap_of(&self, term: Term) -> bool {
        self.awaits_bootstrap && self.term == Term(0) && term == Term(1)
    }

    /// Whether a write has been outstanding for longer than an election timeout.
    pub(super) fn is_write_stalled(&self) -> bool {
        self.writes
            .oldest_since()
            .is_some_and(|since| since.after(self.config.election_timeout.max) <= self.now)
    }

    /// Waits for a leader for another random time (§3.4).
    pub(super) fn reset_election_timer(&mut self) {
        self.randomized_timeout = self.jitter.between(self.config.election_timeout.bounds());
        self.election_deadline = self.now.after(self.randomized_timeout);
    }

    /// Asks every voter whether it would vote for this node. No term changes, not even this node's.
    fn start_pre_vote(&mut self) {
        self.leader = None;
        self.fail_reads();
        let mut ballot = Ballot::default();
        ballot.cast(self.config.id, true);
        self.state = RoleState::PreCandidate(ballot);
        let (last_index, last_term) = (self.log.last_index(), self.log.last_term());
        self.ask_voters(|core, to| {
            let body = Body::RequestPreVote { last_index, last_term };
            let message = Message { from: core.config.id, to, term: core.term.next(), body };
            core.actions.push_back(Action::Send(message));
        });
        self.count_votes();
    }

    /// Starts an election: a new term, and this node's own vote. The requests leave once both are
    /// durable.
    fn start_election(&mut self, cause: ElectionCause) {
        let is_transfer = cause == ElectionCause::Transfer;
        self.set_term(self.term.next(), Some(self.config.id));
        let own_write = self.writes.hard_state_sequence();
        self.state = RoleState::Candidate(Ballot { votes: BTreeMap::new(), own_write });
        self.reset_election_timer();
        let (last_index, last_term) = (self.log.last_index(), self.log.last_term());
        self.ask_voters(|core, to| {
            let body = Body::RequestVote { last_index, last_term, is_transfer };
            let message = Message { from: core.config.id, to, term: core.term, body };
            core.writes.withhold(own_write, message);
        });
    }

    /// Starts an election because the leader asked for it: at once, and with the votes of nodes
    /// that have just heard that leader (§3.10).
    pub(super) fn start_transfer_election(&mut self) {
        self.fail_reads();
        self.start_election(match planted(Mutant::TransferWithoutMark) {
            true => ElectionCause::Timeout,
            false => ElectionCause::Transfer,
        });
    }

    fn ask_voters(&mut self, mut ask: impl FnMut(&mut Core, NodeId)) {
        let configuration = self.log.configuration();
        let voters: Vec<NodeId> =
            configuration.voters.union(&configuration.outgoing).copied().collect();
        for voter in voters {
            if voter != self.config.id {
                ask(self, voter);
            }
        }
    }

    /// A candidate's vote for itself counts like any other: when it is durable.
    pub(super) fn count_own_vote(&mut self) {
        if let RoleState::Candidate(ballot) = &mut self.state
            && self.writes.is_done(ballot.own_write)
            && !ballot.votes.contains_key(&self.config.id)
        {
            ballot.cast(self.config.id, true);
            self.count_votes();
        }
    }

    fn count_votes(&mut self) {
        let (RoleState::PreCandidate(ballot) | RoleState::Candidate(ballot)) = &self.state else {
            return;
        };
        match (
            tally(self.log.configuration(), |node| ballot.votes.get(&node).copied()),
            &self.state,
        ) {
            (Tally::Won, RoleState::PreCandidate(_)) => self.start_election(ElectionCause::Timeout),
            (Tally::Won, _) => self.become_leader(),
            (Tally::Lost, _) => self.state = RoleState::Follower,
            (Tally::Open, _) => {}
        }
    }

    /// Whether a leader, of whatever term, has been heard within the shorter election timeout. A
    /// later term does not take back the promise that this node gave.
    pub(super) fn has_recent_leader(&self) -> bool {
        if planted(Mutant::PromiseForgottenWithTerm) && self.leader.is_none() {
            return false;
        }
        let fresh_until =
            self.leader_heard.map(|heard| heard.after(self.config.election_timeout.min));
        self.is_leader() || fresh_until.is_some_and(|until| self.now < until)
    }

    pub(super) fn handle_request_pre_vote(
        &mut self,
        from: NodeId,
        term: Term,
        last_index: Index,
        last_term: Term,
    ) {
        // Our own configuration is not asked: the candidate may know a newer one than we do.
        let is_free = !self.is_bound(ElectionCause::Timeout)
            && !self.awaits_bootstrap_of(term)
            && !self.has_forgotten();
        let is_good = self.log.is_up_to_date(last_term, last_index);
        let granted = term > self.term && is_free && is_good;
        if term > self.term && is_free && !is_good {
            self.note_refused_shorter();
        }
        // The answer is of our own term: a candidate with a longer log and a lower term catches up
        // and asks again.
        let is_mute = planted(Mutant::PreVoteRejectionWithoutTerm) && !granted;
        let own_term = if is_mute { Term(term.0.saturating_sub(1)) } else { self.term };
        let body = Body::PreVote { campaign_term: term, granted };
        self.actions.push_back(Action::Send(Message {
            from: self.config.id,
            to: from,
            term: own_term,
            body,
        }));
    }

    pub(super) fn handle_pre_vote(&mut self, from: NodeId, campaign_term: Term, granted: bool) {
        let is_asked = campaign_term == self.term.saturating_add(1);
        let counts = self.counts_vote(from);
        if let RoleState::PreCandidate(ballot) = &mut self.state
            && is_asked
        {
            if !self.log.configuration().is_voter(from) {
                return self.ignore();
            }
            ballot.cast(from, granted && counts);
            self.count_votes();
        }
    }

    pub(super) fn handle_request_vote(
        &mut self,
        from: NodeId,
        last_index: Index,
        last_term: Term,
        cause: ElectionCause,
    ) {
        if self.term == Term(0) {
            return self.ignore(); // No node can campaign in the term before the first.
        }
        let is_free = self.vote.is_none_or(|vote| vote == from)
            && self.leader.is_none_or(|leader| leader == from);
        let is_free = is_free || planted(Mutant::VoteTwice);
        let is_good =
            self.log.is_up_to_date(last_term, last_index) || planted(Mutant::VoteForShorterLog);
        // A repeated grant promises nothing new.
        let is_bound = self.is_bound(cause) && self.vote != Some(from);
        if !is_free || !is_good || is_bound || self.has_forgotten() || self.is_out_of_terms() {
            return self.send(from, Body::Vote { granted: false });
        }
        if self.vote.is_none() {
            self.set_term(self.term, Some(from));
            self.state = RoleState::Follower; // A pre-candidate that has helped another gives way.
        }
        self.election_deadline = self.now.after(self.randomized_timeout);
        let message = Message {
            from: self.config.id,
            to: from,
            term: self.term,
            body: Body::Vote { granted: true },
        };
        if self.writes.is_hard_state_durable() || planted(Mutant::VoteBeforeDurable) {
            self.actions.push_back(Action::Send(message));
        } else {
            self.writes.withhold(self.writes.hard_state_sequence(), message);
        }
    }

    pub(super) fn handle_vote(&mut self, from: NodeId, granted: bool) {
        let counts = self.counts_vote(from);
        if let RoleState::Candidate(ballot) = &mut self.state {
            // No request left before our own vote was durable.
            if !self.log.configuration().is_voter(from) || !self.writes.is_done(ballot.own_write) {
                return self.ignore();
            }
            ballot.cast(from, (granted && counts) || planted(Mutant::SeenVoteIsGranted));
            self.count_votes();
        }
    }

    /// A message of a later term has arrived.
    pub(super) fn adopt_term(&mut self, term: Term) {
        assert!(term > self.term, "terms only rise, but {term} follows {}", self.term);
        if self.is_leader() {
            self.reset_election_timer();
        }
        self.set_term(term, None);
        self.become_follower(None);
    }

    /// Follows `leader`, or waits for one, in the current term.
    pub(super) fn become_follower(&mut self, leader: Option<NodeId>) {
        self.fail_reads();
        self.fetches.forget_sends();
        self.end_lease();
        self.state = RoleState::Follower;
        self.leader = leader;
    }

    /// Steps down in the current term.
    pub(super) fn step_down(&mut self, why: Event) {
        self.actions.push_back(Action::Event(why));
        self.become_follower(None);
        self.reset_election_timer();
    }

    /// Changes term and vote, in memory now and on disk with the next write.
    fn set_term(&mut self, term: Term, vote: Option<NodeId>) {
        assert!(term >= self.term, "terms only rise, but {term} follows {}", self.term);
        if term > self.term {
            self.writes.forget_withheld();
            self.following = Following::default();
            (self.leader, self.term_leader) = (None, None);
        } else {
            assert!(
                self.vote.is_none(),
                "node {} has its vote in term {term} already",
                self.vote.unwrap_or_default()
            );
        }
        (self.term, self.vote) = (term, vote);
        self.drop_old_promise();
        self.writes.set_hard_state(self.own_hard_state());
    }

    /// Answers a message of an earlier term, so that its sender learns of ours.
    pub(super) fn answer_stale(&mut self, from: NodeId, body: &Body) {
        match *body {
            Body::RequestVote { .. } => self.send(from, Body::Vote { granted: false }),
            Body::AppendEntries(Append { previous_index, .. }) => {
                let (hint_index, hint_term) = (Index(0), Term(0));
                let report = self.report_without_round();
                self.send(from, Body::Rejected { previous_index, hint_index, hint_term, report });
            }
            Body::InstallSnapshot { ref meta, .. } => {
                let (index, received_bytes) = (meta.index, 0);
                let report = self.report_without_round();
                self.send(from, Body::SnapshotProgress { index, received_bytes, report });
            }
            Body::RequestReadIndex { request, .. } => {
                self.send(from, Body::ReadIndex { request, index: None })
            }
            _ => {}
        }
    }
}
