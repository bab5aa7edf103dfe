//! Linearizable reads without a log entry: ReadIndex (§6.4).
//!
//! A read that arrives at a leader waits until (1) an entry of the leader's own term is committed,
//! so that its commit index is the cluster's, and (2) a majority has answered a round that began
//! after the read arrived, so that no other leader can have committed anything meanwhile. Rounds
//! are numbers of the leader's own, counted within its term, sent with every AppendEntries and
//! repeated by every answer: an answer to an earlier round never counts for a later one.
//!
//! ```text
//!  reads            a  b        c
//!  leader  ---------+--+-round 8+--round 9-----------------------
//!                         \   \ ^      \ ^ late answer to 8: a, b
//!  followers ---------------\---'--------\-----------------------
//! ```
//!
//! A follower asks its leader and then waits until it has itself applied that much. Reads for which
//! a lease is enough (`lease`) travel by requests of their own.

use std::collections::{BTreeMap, VecDeque};
use std::mem;

use crate::types::{Body, Index, Message, NodeId, Time};

use super::mutants::{Mutant, planted};
use super::quorum::agreed;
use super::{Action, Core, ReadError, ReadId, RoleState};

/// What vouches for a read's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Certainty {
    /// A majority has answered a round that began after the read arrived.
    Majority,
    /// The leader's lease, or a majority if the leader holds none.
    Lease,
}

/// Where a read came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum ReadOrigin {
    Own(ReadId),
    Peer { node: NodeId, request: u64 },
}

/// A read whose round is under way.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct ConfirmingRead {
    round: u64,
    index: Index,
    origin: ReadOrigin,
}

/// A leader's reads, its own and its followers'.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct LeaderReads {
    /// Without a round yet.
    fresh: Vec<ReadOrigin>,
    confirming: VecDeque<ConfirmingRead>,
}

impl LeaderReads {
    fn len(&self) -> usize {
        self.fresh.len() + self.confirming.len()
    }
}

/// A request to the leader, for all reads of its kind that arrived in one step.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct ReadRequest {
    reads: Vec<ReadId>,
    may_lease: bool,
    asked: Time,
}

/// A follower's reads.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct ReadRequests {
    fresh: Vec<ReadId>,
    /// Those for which a lease is enough.
    fresh_lease: Vec<ReadId>,
    asked: BTreeMap<u64, ReadRequest>,
    waiting: usize,
    next_request: u64,
}

impl ReadRequests {
    pub(super) fn new(next_request: u64) -> ReadRequests {
        let (fresh, fresh_lease) = (Vec::new(), Vec::new());
        ReadRequests { fresh, fresh_lease, asked: BTreeMap::new(), waiting: 0, next_request }
    }
}

impl Core {
    pub(super) fn request_read_index(
        &mut self,
        id: ReadId,
        certainty: Certainty,
    ) -> Result<(), ReadError> {
        let limit = self.config.pending_reads;
        if let RoleState::Leader(leading) = &mut self.state {
            if leading.reads.len() >= limit {
                return Err(ReadError::TooMany { limit });
            }
            leading.reads.fresh.push(ReadOrigin::Own(id));
            return Ok(());
        }
        if self.leader.is_none() {
            return Err(ReadError::NoLeader);
        }
        if self.read_requests.waiting >= limit {
            return Err(ReadError::TooMany { limit });
        }
        self.read_requests.waiting += 1;
        match certainty {
            Certainty::Majority => self.read_requests.fresh.push(id),
            Certainty::Lease => self.read_requests.fresh_lease.push(id),
        }
        Ok(())
    }

    pub(super) fn handle_request_read_index(
        &mut self,
        from: NodeId,
        request: u64,
        may_lease: bool,
    ) {
        if !self.may_request_read_index(from) {
            self.ignore();
            return self.send(from, Body::ReadIndex { request, index: None });
        }
        if may_lease && self.holds_lease() {
            return self.answer_read(ReadOrigin::Peer { node: from, request }, self.log.commit());
        }
        if let RoleState::Leader(leading) = &mut self.state
            && leading.reads.len() < self.config.pending_reads
        {
            return leading.reads.fresh.push(ReadOrigin::Peer { node: from, request });
        }
        self.send(from, Body::ReadIndex { request, index: None });
    }

    pub(super) fn handle_read_index(&mut self, from: NodeId, request: u64, index: Option<Index>) {
        if self.leader != Some(from) {
            return;
        }
        let Some(answered) = self.read_requests.asked.remove(&request) else { return };
        self.read_requests.waiting -= answered.reads.len();
        for id in answered.reads {
            self.actions.push_back(match index {
                Some(index) => Action::ReadReady { id, index },
                None => Action::ReadFailed { id },
            });
        }
    }

    /// Gives the reads that have none a round, if the leader may already answer reads at all.
    pub(super) fn start_round_for_reads(&mut self) {
        let RoleState::Leader(leading) = &mut self.state else { return };
        let is_known =
            self.log.commit() >= leading.first_index || planted(Mutant::ReadBeforeTermCommit);
        if leading.reads.fresh.is_empty() || !is_known {
            return;
        }
        leading.start_round(self.now.after(self.config.heartbeat_interval));
        self.lease.sent(leading.round, self.now, &self.config);
        let (round, index) = (leading.round, self.log.commit());
        let LeaderReads { fresh, confirming } = &mut leading.reads;
        confirming.extend(fresh.drain(..).map(|origin| ConfirmingRead { round, index, origin }));
        self.count_answered_rounds(); // A majority of one needs no answers.
    }

    /// Looks which rounds a majority has answered: the reads of these are answered, and the lease
    /// runs from them.
    pub(super) fn count_answered_rounds(&mut self) {
        let RoleState::Leader(leading) = &mut self.state else { return };
        if leading.reads.confirming.is_empty() && self.config.lease.is_none() {
            return;
        }
        let own = (self.config.id, leading.round);
        let round_of = |node| {
            if node == own.0 { own.1 } else { leading.progress.get(&node).map_or(0, |p| p.round) }
        };
        let Some(confirmed) = agreed(self.log.configuration(), round_of) else { return };
        self.renew_lease(confirmed);
        while let RoleState::Leader(leading) = &mut self.state
            && let Some(read) =
                leading.reads.confirming.pop_front_if(|read| read.round <= confirmed)
        {
            self.answer_read(read.origin, read.index);
        }
    }

    /// Sends the answer to the origin.
    pub(super) fn answer_read(&mut self, origin: ReadOrigin, index: Index) {
        match origin {
            ReadOrigin::Own(id) => self.actions.push_back(Action::ReadReady { id, index }),
            ReadOrigin::Peer { node, request } => {
                self.send(node, Body::ReadIndex { request, index: Some(index) })
            }
        }
    }

    /// Asks the leader for all reads of this step at once, with one request for each kind.
    pub(super) fn send_read_requests(&mut self) {
        let Some(leader) = self.leader.filter(|&leader| leader != self.config.id) else { return };
        for may_lease in [false, true] {
            let read_requests = &mut self.read_requests;
            let fresh =
                if may_lease { &mut read_requests.fresh_lease } else { &mut read_requests.fresh };
            if fresh.is_empty() {
                continue;
            }
            let reads = mem::take(fresh);
            let request = read_requests.next_request;
            read_requests.next_request = request.wrapping_add(1);
            read_requests.asked.insert(request, ReadRequest { reads, may_lease, asked: self.now });
            self.send(leader, Body::RequestReadIndex { request, may_lease });
        }
    }

    /// Repeats requests without an answer for a heartbeat interval: request or answer may be lost.
    /// Called when the leader is heard with a new round, so that this needs no timer of its own.
    pub(super) fn repeat_read_requests(&mut self, round: u64) {
        let Some(leader) = self.leader else { return };
        if self.read_requests.asked.is_empty() || !self.following.is_new_round(round) {
            return;
        }
        let (now, interval, from, term) =
            (self.now, self.config.heartbeat_interval, self.config.id, self.term);
        for (&request, unanswered) in &mut self.read_requests.asked {
            if unanswered.asked.after(interval) <= now {
                unanswered.asked = now;
                let body = Body::RequestReadIndex { request, may_lease: unanswered.may_lease };
                self.actions.push_back(Action::Send(Message { from, to: leader, term, body }));
            }
        }
    }

    /// Fails all reads: their leader is gone, or this node no longer leads.
    pub(super) fn fail_reads(&mut self) {
        let ReadRequests { fresh, fresh_lease, asked, waiting, .. } = &mut self.read_requests;
        *waiting = 0;
        let asked = mem::take(asked).into_values().flat_map(|unanswered| unanswered.reads);
        self.actions.extend(
            asked
                .chain(fresh.drain(..))
                .chain(fresh_lease.drain(..))
                .map(|id| Action::ReadFailed { id }),
        );
        if let RoleState::Leader(leading) = &mut self.state {
            let LeaderReads { fresh, confirming } = mem::take(&mut leading.reads);
            for origin in confirming.into_iter().map(|read| read.origin).chain(fresh) {
                match origin {
                    ReadOrigin::Own(id) => self.actions.push_back(Action::ReadFailed { id }),
                    ReadOrigin::Peer { node, request } => {
                        self.send(node, Body::ReadIndex { request, index: None })
                    }
                }
            }
        }
    }
}
