//! The leader's side: rounds, entries, commitment (§3.5, §3.6.2), and when it must give up (§6.2).

use std::collections::BTreeMap;

use crate::types::{
    Append, Body, Echo, Entries, Entry, FollowerReport, Index, Message, NodeId, Payload, Proposal,
    Term, Time,
};

use super::log_time::Reading;
use super::mutants::{Mutant, planted};
use super::progress::{Mode, Progress, Windows};
use super::quorum::agreed;
use super::reads::LeaderReads;
use super::transfer::Transfer;
use super::{Action, Core, Event, ProposeError, Proposed, RoleState};

/// What a leader knows (figure 3.1, "volatile state on leaders").
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Leading {
    /// What is known of each other node that receives the log.
    pub(super) progress: BTreeMap<NodeId, Progress>,
    /// The no-op with which this term began.
    pub(super) first_index: Index,
    /// The latest round of AppendEntries; counts from 1 in each term.
    pub(super) round: u64,
    /// The round is new: it must be sent to all, with entries or without.
    is_round_due: bool,
    heartbeat_deadline: Time,
    pub(super) quorum_deadline: Time,
    /// Bytes of this term's entries that are not committed.
    uncommitted_bytes: usize,
    pub(super) reads: LeaderReads,
    /// Leadership is on its way to another node.
    pub(super) transfer: Option<Transfer>,
    /// A node was asked to campaign in this term. It may do so at any time, whatever its voters
    /// have promised.
    pub(super) has_sent_timeout_now: bool,
    /// A voter with a higher priority is not looked for before.
    pub(super) hand_over_after: Time,
    /// A voter that forgot was made a learner, and comes back when it has caught up.
    pub(super) returning: Option<NodeId>,
}

impl Leading {
    /// Begins a round, which is as good as a heartbeat.
    pub(super) fn start_round(&mut self, next_heartbeat: Time) {
        self.round += 1;
        self.is_round_due = true;
        self.heartbeat_deadline = next_heartbeat;
    }
}

impl Core {
    /// The election is won: a no-op opens the term, for only by an entry of its own term can a
    /// leader commit (§3.6.2).
    pub(super) fn become_leader(&mut self) {
        assert!(self.leader.is_none(), "term {} already has a leader", self.term);
        assert!(
            self.vote == Some(self.config.id) && self.writes.is_hard_state_durable(),
            "our own vote is not durable"
        );
        let (id, last, now) = (self.config.id, self.log.last_index(), self.now);
        let others = self.log.configuration().replicas().filter(|&node| node != id);
        self.state = RoleState::Leader(Leading {
            progress: others.map(|node| (node, Progress::new(last, now))).collect(),
            first_index: last.next(),
            round: 1,
            is_round_due: true,
            heartbeat_deadline: now.after(self.config.heartbeat_interval),
            quorum_deadline: now.after(self.config.election_timeout.max),
            uncommitted_bytes: 0,
            reads: LeaderReads::default(),
            transfer: None,
            has_sent_timeout_now: false,
            hand_over_after: now.after(self.config.election_timeout.max),
            returning: None,
        });
        self.leader = Some(id);
        self.term_leader = Some(id);
        self.reset_backlog_watch();
        self.end_lease();
        self.lease.sent(1, now, &self.config);
        // The cap on uncommitted bytes counts this term's entries, so it can never keep its no-op
        // out.
        if planted(Mutant::CapBlocksNoop) && self.exceeds_cap_uncommitted() {
            return;
        }
        self.begin_log_time();
        let log_time = self.stamping_time();
        let noop = self.new_entry(log_time, last.next(), Payload::Noop);
        self.append_own(noop.into(), log_time);
        self.begin_digests();
        self.discount_forgetful_peers();
    }

    /// What [`Mutant::CapBlocksNoop`] looks at.
    fn exceeds_cap_uncommitted(&self) -> bool {
        let from = self.log.commit().next().max(self.log.first_in_tail());
        self.log.bytes_of(from, self.log.last_index()) > self.config.uncommitted_bytes
    }

    /// An entry that is made now, at this log time.
    pub(super) fn new_entry(&self, log_time: Reading, index: Index, payload: Payload) -> Entry {
        let stamp = if planted(Mutant::StampRunsBackwards) { self.wall } else { log_time.stamp() };
        Entry { index, term: self.term, stamp, payload }
    }

    pub(super) fn append_proposals(
        &mut self,
        proposals: impl Iterator<Item = Proposal>,
    ) -> Result<Proposed, ProposeError> {
        let RoleState::Leader(leading) = &self.state else {
            return Err(ProposeError::NotLeader { leader: self.leader });
        };
        if let Some(transfer) = &leading.transfer
            && !planted(Mutant::ProposeDuringTransfer)
        {
            return Err(ProposeError::Transferring { to: transfer.to() });
        }
        if let Some(refusal) = self.backlog_refusal() {
            return Err(refusal);
        }
        let (command_limit, uncommitted_limit) =
            (self.config.command_bytes, self.config.uncommitted_bytes);
        let first = self.log.last_index().next();
        let log_time = self.stamping_time();
        let template = self.new_entry(log_time, first, Payload::Noop);
        let mut uncommitted = leading.uncommitted_bytes;
        let entries = (first.0..).zip(proposals).map(|(index, proposal)| {
            let bytes = proposal.command_bytes();
            if bytes > command_limit {
                return Err(ProposeError::TooLarge { bytes, limit_bytes: command_limit });
            }
            let entry = Entry { index: Index(index), payload: proposal.into(), ..template };
            uncommitted += entry.size_bytes();
            if uncommitted > uncommitted_limit {
                return Err(ProposeError::UncommittedFull { limit_bytes: uncommitted_limit });
            }
            Ok(entry)
        });
        let entries: Entries = entries.collect::<Result<_, _>>()?;
        let Some(last) = entries.last().map(|entry| entry.index) else {
            return Err(ProposeError::Empty);
        };
        self.append_own(entries, log_time);
        Ok(Proposed { term: self.term, first, last })
    }

    /// Appends entries that were made at this log time to the leader's own log. The write runs
    /// beside the sends (§10.2.1); it counts only when it is done.
    pub(super) fn append_own(&mut self, entries: Entries, log_time: Reading) {
        self.note_stamped(log_time);
        let RoleState::Leader(leading) = &mut self.state else {
            unreachable!("only a leader makes entries")
        };
        leading.uncommitted_bytes += entries.size_bytes();
        self.log.append(&entries);
        self.writes.append(entries);
    }

    /// Sends what each follower may have and does not: entries, a new round, a commit index.
    pub(super) fn replicate(&mut self) {
        let RoleState::Leader(leading) = &mut self.state else { return };
        let windows = Windows {
            messages: self.config.in_flight_messages,
            bytes: self.config.in_flight_bytes,
        };
        let (limit_bytes, last, commit) =
            (self.config.message_bytes, self.log.last_index(), self.log.commit());
        let (from, term, round) = (self.config.id, self.term, leading.round);
        let outbox = Outbox { from, term, commit, echo: self.config.echo(round) };
        let is_round_due = std::mem::take(&mut leading.is_round_due);
        if is_round_due {
            self.send_forgot();
        }
        self.send_snapshots(is_round_due);
        let RoleState::Leader(leading) = &mut self.state else { return };
        for (&to, progress) in &mut leading.progress {
            let mut is_sent = false;
            while progress.next <= last && progress.may_send(windows) {
                if progress.next < self.log.first_in_tail() {
                    if planted(Mutant::CompactedIsSkipped) && progress.next <= self.log.base() {
                        progress.next = self.log.base().next();
                        continue;
                    }
                    if progress.fetch.is_none() {
                        let to_index = self.log.first_in_tail().previous();
                        let fetch =
                            self.fetches.start_to_send(to, progress.next, to_index, limit_bytes);
                        progress.fetch = Some(fetch.id);
                        self.actions.push_back(Action::Fetch(fetch));
                    }
                    break;
                }
                let entries = self.log.entries(progress.next, last, limit_bytes);
                let previous = self.log.terms().term_at(progress.next.previous());
                self.actions.push_back(outbox.append_entries(to, progress, previous, entries));
                is_sent = true;
            }
            // What a follower that still has to catch up may commit, it commits when the entries
            // come.
            let is_commit_news = progress.mode == Mode::Replicate
                && commit.min(progress.next.previous()) > progress.commit_sent;
            if is_sent || !(is_round_due || is_commit_news) {
                continue;
            }
            if matches!(progress.mode, Mode::Snapshot(_)) {
                self.actions.push_back(outbox.heartbeat_beside_snapshot(to));
            } else {
                let previous = self.log.terms().term_at(progress.next.previous());
                self.actions.push_back(outbox.append_entries(
                    to,
                    progress,
                    previous,
                    Entries::new(),
                ));
            }
        }
    }

    /// Sends entries that had to be fetched.
    pub(super) fn send_entries(&mut self, to: NodeId, entries: Entries) {
        let RoleState::Leader(leading) = &mut self.state else { return };
        let Some(progress) = leading.progress.get_mut(&to) else { return };
        let (from, term, commit, round) =
            (self.config.id, self.term, self.log.commit(), leading.round);
        let outbox = Outbox { from, term, commit, echo: self.config.echo(round) };
        let previous = self.log.terms().term_at(progress.next.previous());
        self.actions.push_back(outbox.append_entries(to, progress, previous, entries));
    }

    pub(super) fn handle_appended(
        &mut self,
        from: NodeId,
        matched: Index,
        report: &FollowerReport,
    ) {
        let (last_index, base) = (self.log.last_index(), self.log.base());
        let Some(progress) = self.note_answer(from, report) else { return };
        if matched > last_index {
            return self.ignore();
        }
        if progress.acknowledged(matched, base, report.round) {
            if let RoleState::Leader(leading) = &mut self.state
                && let Some(progress) = leading.progress.get_mut(&from)
            {
                progress.matched_round = leading.round;
            }
            self.advance_commit();
        }
        self.count_answered_rounds();
    }

    /// The follower's log is not what the leader thought. Its hint says which terms it has; ours
    /// may skip further:
    ///
    /// ```text
    ///  index    1 2 3 4 5 6 7 8 9
    ///  follower 1 1 1 5 5 5            hint for previous index 9 of term 6: index 6, term 5
    ///  leader   1 1 1 2 2 2 2 6 6      our last entry of at most term 5 and at most index 6 is 6,
    ///                                  of term 2: ask there; the next hint is index 3, term 1,
    ///                                  and there they agree
    /// ```
    pub(super) fn handle_rejected(
        &mut self,
        from: NodeId,
        previous: Index,
        hint_index: Index,
        hint_term: Term,
        report: &FollowerReport,
    ) {
        let guess = self.log.terms().last_at_or_before(hint_index, hint_term);
        if self.note_answer(from, report).is_none() {
            return;
        }
        self.check_rejection(from, hint_index, report);
        let Some(progress) = self.note_answer(from, report) else { return };
        progress.rejected(previous, guess);
        self.count_answered_rounds();
    }

    /// The follower that has just answered; `None` if we do not lead, do not know it, or the round
    /// is none of ours.
    pub(super) fn note_answer(
        &mut self,
        from: NodeId,
        report: &FollowerReport,
    ) -> Option<&mut Progress> {
        self.note_forgetting_report(from, report);
        let RoleState::Leader(leading) = &mut self.state else { return None };
        match leading.progress.get_mut(&from) {
            Some(progress) if report.round <= leading.round => {
                progress.clock.note(report, self.now);
                let round =
                    if planted(Mutant::StaleReadRound) { leading.round } else { report.round };
                if progress.forgetting.is_some() {
                    return Some(progress); // Its answers are no contact, and promise nothing.
                }
                let bound_until = self.lease.bound_until(
                    &FollowerReport { round, ..*report },
                    self.now,
                    &self.config,
                );
                progress.round = progress.round.max(round);
                progress.bound_until = progress.bound_until.max(bound_until);
                progress.heard = self.now;
                progress.applied = report.applied.or(progress.applied);
                Some(progress)
            }
            _ => {
                self.ignored_messages = self.ignored_messages.saturating_add(1);
                None
            }
        }
    }

    /// What a quorum has on disk.
    fn agreed_match(&self) -> Option<Index> {
        let RoleState::Leader(leading) = &self.state else { return None };
        let matched = |node| match leading.progress.get(&node) {
            Some(progress) => progress.counted(),
            None if node == self.config.id => self.log.durable(),
            None => Index(0),
        };
        agreed(&self.counted_configuration(), matched)
    }

    /// Commits what a quorum has on disk, if it is of the leader's own term: an older entry, even
    /// on a majority, may still be replaced (figure 3.7); it is committed with the first of ours
    /// that follows it.
    pub(super) fn advance_commit(&mut self) {
        if self.log.commit() == self.log.last_index() {
            return; // As when the last of three acknowledges what two have committed.
        }
        let agreed = self.agreed_match();
        let RoleState::Leader(leading) = &mut self.state else { return };
        let (durable, commit) = (self.log.durable(), self.log.commit());
        let agreed = if planted(Mutant::CommitWithoutQuorum) { Some(durable) } else { agreed };
        let Some(index) = agreed else { return };
        let may_be_old = planted(Mutant::CommitOldTerm);
        if index <= commit || (index < leading.first_index && !may_be_old) {
            return;
        }
        assert!(
            self.log.terms().term_at(index) == Some(self.term) || may_be_old,
            "{index} is not of the leader's term {}",
            self.term
        );
        leading.uncommitted_bytes -=
            self.log.bytes_of(commit.next().max(leading.first_index), index);
        self.log.commit_to(index);
    }

    /// The first of: the next heartbeat, the next look at who has answered, the end of a transfer,
    /// our own write being too late.
    pub(super) fn leader_deadline(&self, leading: &Leading) -> Option<Time> {
        let ends = leading.transfer.filter(|_| !planted(Mutant::TransferNeverTimesOut));
        let transfer = ends.map_or(leading.heartbeat_deadline, |transfer| transfer.deadline());
        let peers = [leading.heartbeat_deadline, leading.quorum_deadline, transfer];
        let peers = peers.into_iter().filter(|_| !leading.progress.is_empty());
        let oldest = self.writes.oldest_since().filter(|_| !self.may_sit_out_stalls());
        let stall = oldest.map(|since| since.after(self.config.effective_stall_timeout()));
        peers.chain(stall).min()
    }

    /// Whether this leader goes on leading in spite of a slow write: it is the only voter by the
    /// configuration in force, so no other node could lead. Learners do not matter; an addition
    /// that is appended ends this.
    fn may_sit_out_stalls(&self) -> bool {
        let configuration = self.log.configuration();
        let mut voters = configuration.voters.iter();
        let is_own =
            |voter: &NodeId| *voter == self.config.id || planted(Mutant::NonVoterSitsOutStall);
        let is_alone = voters.len() == 1 && voters.all(is_own) && configuration.outgoing.is_empty();
        is_alone && !planted(Mutant::SoleVoterStepsDown)
    }

    /// Whether a write of this leader's has been outstanding for longer than it may be.
    fn must_step_down_on_stall(&self) -> bool {
        let ends = |since: Time| since.after(self.config.effective_stall_timeout());
        let is_late = self.writes.oldest_since().is_some_and(|since| ends(since) <= self.now);
        is_late && !self.may_sit_out_stalls() && !planted(Mutant::NoStepDownOnStall)
    }

    pub(super) fn leader_timeout(&mut self) {
        let stalled = self.must_step_down_on_stall();
        let term = self.term;
        let RoleState::Leader(leading) = &mut self.state else { return };
        if stalled {
            // It could lead on the others' disks, but a node with a dead disk would stay leader.
            return self.step_down(Event::StalledWrite { term });
        }
        if leading.quorum_deadline <= self.now {
            let (id, now) = (self.config.id, self.now);
            let heard = |node| {
                if node == id {
                    now
                } else {
                    leading.progress.get(&node).map_or(Time(0), |p| p.heard)
                }
            };
            let heard = agreed(self.log.configuration(), heard).unwrap_or(now);
            leading.quorum_deadline = heard.after(self.config.election_timeout.max);
            if leading.quorum_deadline <= now && planted(Mutant::NoStepDownWithoutQuorum) {
                leading.quorum_deadline = now.after(self.config.election_timeout.max);
            } else if leading.quorum_deadline <= now {
                return self.step_down(Event::LostQuorum { term });
            }
        }
        if leading.heartbeat_deadline <= self.now {
            leading.start_round(self.now.after(self.config.heartbeat_interval));
            self.lease.sent(leading.round, self.now, &self.config);
            self.repeat_timeout_now();
            self.hand_over_if_unfit();
            self.repeat_digests();
            self.hand_over_if_backlogged();
            self.hand_over_to_priority();
        }
        self.transfer_timeout();
    }
}

/// What all AppendEntries of one step have in common.
#[derive(Clone, Copy)]
struct Outbox {
    from: NodeId,
    term: Term,
    commit: Index,
    echo: Echo,
}

impl Outbox {
    /// A heartbeat that claims nothing of the follower's log: it follows the beginning of all logs.
    fn heartbeat_beside_snapshot(self, to: NodeId) -> Action {
        let (previous_index, previous_term, entries) = (Index(0), Term(0), Entries::new());
        let Outbox { commit, echo, .. } = self;
        let body =
            Body::AppendEntries(Append { previous_index, previous_term, entries, commit, echo });
        Action::Send(Message { from: self.from, to, term: self.term, body })
    }

    /// The message with `entries`, which start at `progress.next`; `previous_term` is the term
    /// before them.
    fn append_entries(
        self,
        to: NodeId,
        progress: &mut Progress,
        previous_term: Option<Term>,
        entries: Entries,
    ) -> Action {
        let previous_index = progress.next.previous();
        let previous_term = previous_term.expect("what precedes the next entry is in the log");
        let last = entries.last().map_or(previous_index, |entry| entry.index);
        if !entries.is_empty() {
            progress.sent(last, entries.size_bytes(), self.echo.round);
        }
        progress.commit_sent = progress.commit_sent.max(self.commit.min(last));
        let Outbox { commit, echo, .. } = self;
        let body =
            Body::AppendEntries(Append { previous_index, previous_term, entries, commit, echo });
        Action::Send(Message { from: self.from, to, term: self.term, body })
    }
}
