//! Writes: proposed in batches by the leader, forwarded by followers, answered when applied.

use std::collections::{BTreeMap, VecDeque};

use super::requests::{Origin, RequestKey, RequestPayload, RequestStage};
use super::{Bound, Doubt, Effect, Outcome, PeerMessage, Refusal, Replica};
use crate::core::{Done, ProposeError, Proposed};
use crate::types::{Entries, Index, NodeId, Now, SnapshotMeta, Term};

/// The outcomes reported by the state machine do not fit the entries that it was given.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "up to index {index}, the state machine had {proposals} proposals to apply, but reported \
     {outcomes} outcomes"
)]
pub(super) struct OutcomeCountError {
    /// The index reported as applied.
    index: Index,
    /// The number of proposals up to that index.
    proposals: usize,
    /// The number of outcomes reported.
    outcomes: usize,
}

/// Commands without an outcome.
#[derive(Debug, Default)]
pub(super) struct Writes {
    /// Commands neither proposed nor forwarded, in order. Keys of expired requests are skipped at
    /// the front.
    pub(super) waiting: VecDeque<RequestKey>,
    /// Commands that this node proposed as the leader of that term.
    proposed: BTreeMap<(Index, Term), RequestKey>,
    /// Entries that the state machine has received and not applied.
    applying: VecDeque<ApplyingEntry>,
    /// The highest term of an applied entry.
    applied_term: Term,
    /// The core accepts no proposal until the next commit or change of leader.
    blocked: bool,
    /// The number of commands forwarded to the leader.
    pub(super) forwarded: usize,
    /// The keys of the batch being assembled; kept for its memory.
    batch: Vec<RequestKey>,
}

#[derive(Clone, Copy, Debug)]
struct ApplyingEntry {
    index: Index,
    term: Term,
    is_proposal: bool,
}

impl Writes {
    /// An entry was committed, or the leader changed: the core may accept proposals again.
    pub(super) fn unblock(&mut self) {
        self.blocked = false;
    }

    /// The state machine was restored from this snapshot, in place of the entries it includes.
    pub(super) fn record_restore(&mut self, meta: &SnapshotMeta) {
        let next = self.applying.front().map(|applying| applying.index);
        assert!(
            next.is_none_or(|next| next > meta.index),
            "{next:?} was to be applied before {}",
            meta.index
        );
        self.applied_term = self.applied_term.max(meta.term);
    }

    /// Drops the entries that a failed state machine will not apply: those before `restored`, or
    /// all.
    pub(super) fn discard_applying(&mut self, restored: Option<Index>) {
        let is_after =
            |applying: &ApplyingEntry| restored.is_some_and(|restored| applying.index > restored);
        self.applying.retain(is_after);
    }

    /// The pending commands that this node proposed at indexes up to `index`.
    pub(super) fn proposed_up_to(&self, index: Index) -> impl Iterator<Item = RequestKey> {
        self.proposed.range(..=(index, Term(u64::MAX))).map(|(_, &key)| key)
    }

    pub(super) fn forget(&mut self, stage: RequestStage) {
        match stage {
            RequestStage::Proposed { index, term } => {
                self.proposed.remove(&(index, term));
            }
            RequestStage::Forwarded { .. } => self.forwarded -= 1,
            RequestStage::Waiting
            | RequestStage::Reading
            | RequestStage::Querying
            | RequestStage::Snapshotting
            | RequestStage::Administering => {}
        }
    }
}

impl Replica {
    /// Proposes or forwards the waiting commands, if there is a leader to take them.
    pub(super) fn dispatch_writes(&mut self) {
        while let Some(&key) = self.writes.waiting.front() {
            let Some(pending) = self.requests.get(key) else {
                self.writes.waiting.pop_front();
                continue;
            };
            let origin = pending.origin;
            if self.core.is_leader() {
                if self.writes.blocked || self.core.awaits_clocks() {
                    return;
                }
                self.propose_batch();
                continue;
            }
            let leader = self.core.leader();
            match (origin, leader) {
                (Origin::Peer { .. }, _) => {
                    self.writes.waiting.pop_front();
                    self.finish(key, Outcome::Refused(Refusal::NotLeader { leader }));
                }
                (Origin::Local(_), Some(leader)) if self.links.contains(&leader) => {
                    self.writes.waiting.pop_front();
                    self.forward(key, leader);
                }
                (Origin::Local(_), _) => return,
            }
        }
    }

    /// Proposes the commands at the front of the queue together. They wait if the core accepts none
    /// now.
    fn propose_batch(&mut self) {
        let mut batch = std::mem::take(&mut self.writes.batch);
        batch.clear();
        let mut size_bytes = 0;
        for &key in &self.writes.waiting {
            let Some(pending) = self.requests.get(key) else { continue };
            let RequestPayload::Proposal(proposal) = &pending.payload else { continue };
            let entry_bytes = proposal.entry_bytes();
            if !batch.is_empty() && size_bytes + entry_bytes > self.batch_bytes {
                break;
            }
            size_bytes += entry_bytes;
            batch.push(key);
        }
        let requests = &self.requests;
        let proposals = batch.iter().filter_map(|&key| {
            match requests.get(key).map(|pending| &pending.payload) {
                Some(RequestPayload::Proposal(proposal)) => Some(proposal.clone()),
                _ => None,
            }
        });
        let proposed = self.core.propose(self.now, proposals);
        match proposed {
            Ok(place) => self.record_proposed(&batch, place),
            Err(ProposeError::BacklogFull { limit_bytes, .. }) => {
                self.refuse_backlog(&batch, limit_bytes)
            }
            Err(_) => self.writes.blocked = true,
        }
        self.writes.batch = batch;
    }

    /// Records that the batch is in the log, from `place.first` on.
    fn record_proposed(&mut self, batch: &[RequestKey], place: Proposed) {
        let mut index = place.first;
        for &key in batch {
            let Some(pending) = self.requests.get_mut(key) else { continue };
            pending.stage = RequestStage::Proposed { index, term: place.term };
            pending.payload = RequestPayload::Empty;
            self.writes.proposed.insert((index, place.term), key);
            index = index.next();
        }
        assert!(index == place.last.next(), "each command of a batch has a place in the log");
        while let Some(front) = self.writes.waiting.pop_front() {
            if Some(&front) == batch.last() {
                break;
            }
        }
    }

    /// Refuses the batch because the leader's state machine is too far behind. Waiting would only
    /// move the backlog here.
    fn refuse_backlog(&mut self, batch: &[RequestKey], limit_bytes: usize) {
        let refusal = Refusal::Full { bound: Bound::Backlog, limit: limit_bytes as u64 };
        for &key in batch {
            self.finish(key, Outcome::Refused(refusal.clone()));
        }
    }

    fn forward(&mut self, key: RequestKey, leader: NodeId) {
        if self.writes.forwarded >= self.limits.forwarded_requests {
            let limit = self.limits.forwarded_requests as u64;
            let refusal = Refusal::Full { bound: Bound::ForwardedRequests, limit };
            return self.finish(key, Outcome::Refused(refusal));
        }
        let Some(pending) = self.requests.get_mut(key) else { return };
        pending.stage = RequestStage::Forwarded { to: leader };
        let payload = std::mem::replace(&mut pending.payload, RequestPayload::Empty);
        self.writes.forwarded += 1;
        let request = self.number_of(key);
        if let RequestPayload::Proposal(proposal) = payload {
            self.effects.push_back(Effect::Send {
                to: leader,
                message: PeerMessage::Forward { request, proposal },
            });
        }
    }

    /// Refuses the commands that other nodes forwarded here and that this former leader has not
    /// proposed.
    pub(super) fn refuse_forwarded(&mut self) {
        let leader = self.core.leader();
        for place in 0..self.writes.waiting.len() {
            let key = self.writes.waiting[place];
            let is_of_peer = self
                .requests
                .get(key)
                .is_some_and(|pending| matches!(pending.origin, Origin::Peer { .. }));
            if is_of_peer {
                self.finish(key, Outcome::Refused(Refusal::NotLeader { leader }));
            }
        }
    }

    /// The leader has answered a forwarded command or admin request.
    pub(super) fn handle_forwarded(&mut self, from: NodeId, request: u64, outcome: Outcome) {
        let key = self.key_of(request);
        if self
            .requests
            .get(key)
            .is_some_and(|pending| pending.stage == RequestStage::Forwarded { to: from })
        {
            self.finish(key, outcome);
        } else {
            self.handle_forwarded_admin(from, key, outcome);
        }
    }

    /// The link to `peer` broke: ends the requests forwarded to it, and drops those it forwarded.
    ///
    /// The outcome of the former is unknown. The latter keep their place in the log, but there is
    /// no link over which to answer.
    pub(super) fn handle_broken_link(&mut self, peer: NodeId) {
        let broken: Vec<RequestKey> = self
            .requests
            .iter()
            .filter_map(|(key, pending)| match pending.stage {
                RequestStage::Forwarded { to } if to == peer => Some(key),
                _ => None,
            })
            .chain(self.admin_requests.forwarded_to(peer))
            .collect();
        for key in broken {
            self.finish(key, Outcome::Unknown(Doubt::LinkBroken));
        }
        let orphans: Vec<RequestKey> = self
            .requests
            .iter()
            .filter_map(|(key, pending)| match pending.origin {
                Origin::Peer { node, .. } if node == peer => Some(key),
                _ => None,
            })
            .collect();
        for key in orphans {
            self.drop_request(key);
        }
    }

    /// Gives committed entries to the state machine.
    pub(super) fn apply(&mut self, entries: Entries) {
        self.writes.unblock();
        if self.machine.has_stopped() {
            // The log keeps them; the core emits no more than its window.
            self.complete_admin_requests(&entries);
            return;
        }
        self.writes.applying.extend(entries.iter().map(|entry| ApplyingEntry {
            index: entry.index,
            term: entry.term,
            is_proposal: entry.payload.is_proposal(),
        }));
        self.complete_admin_requests(&entries);
        self.apply_with_digests(entries.clone());
        self.count_for_snapshot(&entries);
    }

    /// The state machine has applied everything up to `index`.
    ///
    /// `outcomes` has the outcome of each *proposal*
    /// ([`Payload::is_proposal`](crate::types::Payload::is_proposal)) among the entries since the
    /// last call, in order, as [`Sessions::apply`](super::Sessions) returned it. It is drained, so
    /// the caller can reuse its memory.
    ///
    /// # Errors
    /// The number of outcomes is not the number of proposals, or `index` is not one that the state
    /// machine had to apply. Nothing is changed then: answers would go to the wrong authors.
    pub(super) fn handle_applied(
        &mut self,
        now: Now,
        index: Index,
        outcomes: &mut Vec<Outcome>,
    ) -> Result<(), OutcomeCountError> {
        let covered = self.writes.applying.partition_point(|applying| applying.index <= index);
        let proposals =
            self.writes.applying.range(..covered).filter(|applying| applying.is_proposal).count();
        let fits = covered > 0 && self.writes.applying[covered - 1].index == index;
        if !fits || proposals != outcomes.len() {
            return Err(OutcomeCountError { index, proposals, outcomes: outcomes.len() });
        }
        self.now = self.now.then(now);
        let mut outcomes = outcomes.drain(..);
        for _ in 0..covered {
            let Some(applied) = self.writes.applying.pop_front() else { break };
            let outcome = if applied.is_proposal { outcomes.next() } else { None };
            self.finish_applied(applied, outcome);
        }
        self.applied = index;
        if self.failed.is_none() {
            self.core.handle_done(now, Done::Applied { index });
            self.release_reads();
            self.reads.wake();
        }
        Ok(())
    }

    fn finish_applied(&mut self, applied: ApplyingEntry, outcome: Option<Outcome>) {
        if applied.term > self.writes.applied_term {
            self.writes.applied_term = applied.term;
            self.refuse_superseded(applied.term);
        }
        let Some(key) = self.writes.proposed.remove(&(applied.index, applied.term)) else { return };
        match outcome {
            Some(outcome) => self.finish(key, outcome),
            None => log_matching_violated(applied),
        }
    }

    /// An entry of `term` is committed: refuses this node's pending proposals of earlier terms.
    ///
    /// Terms never decrease along a log, so no entry of an earlier term can be committed after it.
    ///
    /// ```text
    /// index      4 5 6 7
    /// proposed   1 1 1 1     by this node in term 1; 4 is committed, then leadership is lost
    /// committed  1 2         5 of term 2 is applied: 5, 6 and 7 of term 1 never can be
    /// ```
    pub(super) fn refuse_superseded(&mut self, term: Term) {
        if self.writes.proposed.keys().all(|&(_, proposed)| proposed >= term) {
            return;
        }
        let lost: Vec<RequestKey> = self
            .writes
            .proposed
            .iter()
            .filter_map(|(&(_, proposed), &key)| (proposed < term).then_some(key))
            .collect();
        for key in lost {
            self.finish(key, Outcome::Refused(Refusal::Superseded));
        }
    }
}

/// Another entry was committed with the index and term of this node's proposal: a bug.
fn log_matching_violated(applied: ApplyingEntry) -> ! {
    panic!("index {} and term {} name one entry, by log matching", applied.index, applied.term)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{Configuration, Stamp};

    fn applying(index: u64) -> ApplyingEntry {
        ApplyingEntry { index: Index(index), term: Term(1), is_proposal: true }
    }

    fn writes() -> Writes {
        Writes { applying: (2..=4).map(applying).collect(), ..Writes::default() }
    }

    fn snapshot(index: u64) -> SnapshotMeta {
        let (configuration, digest) = (Configuration::of_voters([]), None);
        let (index, term, stamp) = (Index(index), Term(3), Stamp(0));
        SnapshotMeta { index, term, stamp, configuration, digest }
    }

    #[test]
    fn a_failed_machine_applies_only_what_follows_a_restore() {
        for (restored, left) in [(None, 0), (Some(Index(2)), 2), (Some(Index(4)), 0)] {
            let mut writes = writes();
            writes.discard_applying(restored);
            assert_eq!(writes.applying.len(), left, "{restored:?}");
        }
    }

    #[test]
    fn a_restored_state_has_its_snapshots_term() {
        let mut writes = writes();
        writes.record_restore(&snapshot(1));
        assert_eq!(writes.applied_term, Term(3));
    }

    #[test]
    #[should_panic(expected = "was to be applied before")]
    fn a_restore_skips_nothing_that_is_to_be_applied() {
        writes().record_restore(&snapshot(2));
    }
}
