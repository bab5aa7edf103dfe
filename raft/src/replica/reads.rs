//! Reads: confirm an index with the core, wait until it is applied, query the state machine (§6.4).
//!
//! One request to the core confirms all reads of a mode that arrived between two polls. A stale
//! read queries the state machine at once. A read changes nothing, so after a change of leader it
//! is repeated, until its deadline.

use std::collections::VecDeque;
use std::mem;

use super::requests::{RequestKey, RequestPayload, RequestStage};
use super::{Answer, MachineJob, Outcome, QueryId, Refusal, Replica};
use crate::core::ReadId;
use crate::types::{Index, Now};

/// How the core confirms that this read sees the latest commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ReadMode {
    /// A majority confirms that no other node leads.
    Quorum,
    /// The leader's lease confirms it, if there is one.
    Lease,
}

/// Reads that have not reached the state machine.
#[derive(Debug, Default)]
pub(super) struct Reads {
    /// Reads for which the core has not been asked.
    queued: Vec<RequestKey>,
    /// The same, for reads that a lease may confirm.
    queued_lease: Vec<RequestKey>,
    /// Reads for which the core has been asked. The ids increase.
    asked: VecDeque<(ReadId, ReadMode, Vec<RequestKey>)>,
    /// Reads whose index the core has confirmed: they wait until it is applied.
    confirmed: Vec<(Index, Vec<RequestKey>)>,
    /// Empty lists, for reuse.
    spare: Vec<Vec<RequestKey>>,
    last_id: u64,
    /// Whether any input has arrived since the core last refused.
    may_retry: bool,
}

impl Reads {
    pub(super) fn add(&mut self, key: RequestKey, mode: ReadMode) {
        self.queue_of(mode).push(key);
        self.may_retry = true;
    }

    fn queue_of(&mut self, mode: ReadMode) -> &mut Vec<RequestKey> {
        match mode {
            ReadMode::Quorum => &mut self.queued,
            ReadMode::Lease => &mut self.queued_lease,
        }
    }

    /// An input has arrived: the core may accept now what it refused before.
    pub(super) fn wake(&mut self) {
        self.may_retry = true;
    }

    fn next_id(&mut self) -> Option<(ReadId, ReadMode)> {
        let mode = match (self.queued.is_empty(), self.queued_lease.is_empty()) {
            _ if !self.may_retry => return None,
            (true, true) => return None,
            (false, _) => ReadMode::Quorum,
            (true, false) => ReadMode::Lease,
        };
        self.last_id += 1;
        Some((ReadId(self.last_id), mode))
    }

    fn record_asked(&mut self, id: ReadId, mode: ReadMode) {
        let spare = self.spare.pop().unwrap_or_default();
        let keys = mem::replace(self.queue_of(mode), spare);
        self.asked.push_back((id, mode, keys));
    }

    fn take(&mut self, id: ReadId) -> Option<(ReadMode, Vec<RequestKey>)> {
        let at = self.asked.binary_search_by_key(&id, |&(asked, _, _)| asked).ok()?;
        self.asked.remove(at).map(|(_, mode, keys)| (mode, keys))
    }

    fn requeue(&mut self, id: ReadId) {
        if let Some((mode, mut keys)) = self.take(id) {
            self.queue_of(mode).append(&mut keys);
            self.recycle(keys);
            self.may_retry = false;
        }
    }

    fn recycle(&mut self, mut keys: Vec<RequestKey>) {
        keys.clear();
        if self.spare.len() < 64 {
            self.spare.push(keys);
        }
    }

    /// Drops reads that are no longer pending.
    pub(super) fn retain_pending(&mut self, is_pending: impl Fn(RequestKey) -> bool) {
        self.queued.retain(|&key| is_pending(key));
        self.queued_lease.retain(|&key| is_pending(key));
        while let Some((_, _, keys)) =
            self.asked.pop_front_if(|(_, _, keys)| !keys.iter().any(|&key| is_pending(key)))
        {
            self.recycle(keys);
        }
        while let Some(at) =
            self.confirmed.iter().position(|(_, keys)| !keys.iter().any(|&key| is_pending(key)))
        {
            let (_, keys) = self.confirmed.swap_remove(at);
            self.recycle(keys);
        }
    }

    pub(super) fn clear(&mut self) {
        self.queued.clear();
        self.queued_lease.clear();
        self.asked.clear();
        self.confirmed.clear();
    }
}

impl Replica {
    /// Asks the core for one index for all queued reads of each mode.
    ///
    /// The time is that of the latest input, so no read arrived later.
    pub(super) fn dispatch_reads(&mut self) {
        while let Some((id, mode)) = self.reads.next_id() {
            let result = match mode {
                ReadMode::Quorum => self.core.read_index(self.now, id),
                ReadMode::Lease => self.core.lease_read(self.now, id),
            };
            match result {
                Ok(()) => self.reads.record_asked(id, mode),
                Err(_) => self.reads.may_retry = false,
            }
        }
    }

    pub(super) fn handle_read_ready(&mut self, id: ReadId, index: Index) {
        if let Some((_, keys)) = self.reads.take(id) {
            self.reads.confirmed.push((index, keys));
            self.release_reads();
        }
    }

    pub(super) fn handle_read_failed(&mut self, id: ReadId) {
        self.reads.requeue(id);
    }

    /// Gives the state machine every query whose index is applied.
    pub(super) fn release_reads(&mut self) {
        while let Some(at) =
            self.reads.confirmed.iter().position(|&(index, _)| index <= self.applied)
        {
            let (_, keys) = self.reads.confirmed.remove(at);
            for &key in &keys {
                self.query(key);
            }
            self.reads.recycle(keys);
        }
    }

    /// Gives the state machine a query, to be answered from its state at that time.
    pub(super) fn query(&mut self, key: RequestKey) {
        let Some(pending) = self.requests.get_mut(key) else { return };
        pending.stage = RequestStage::Querying;
        if let RequestPayload::Query(query) =
            mem::replace(&mut pending.payload, RequestPayload::Empty)
        {
            self.ask_machine(MachineJob::Query { id: QueryId(key.to_number()), query });
        }
    }

    /// The state machine has answered a query. Ignored if the request has expired.
    pub(super) fn handle_queried(&mut self, now: Now, id: QueryId, answer: Option<Answer>) {
        self.now = self.now.then(now);
        let key = RequestKey::from_number(id.0);
        if self.requests.get(key).is_some_and(|pending| pending.stage == RequestStage::Querying) {
            self.finish(
                key,
                answer.map_or(Outcome::Refused(Refusal::QueryPanicked), Outcome::Answer),
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reads() -> Reads {
        let mut reads = Reads::default();
        reads.add(RequestKey::from_number(1), ReadMode::Quorum);
        reads
    }

    #[test]
    fn a_read_may_be_asked_until_the_core_refuses() {
        let mut reads = reads();
        let (id, mode) = reads.next_id().unwrap();
        reads.record_asked(id, mode);
        assert_eq!(reads.next_id(), None, "nothing is queued");
        reads.requeue(id);
        assert_eq!(reads.next_id(), None, "nothing has happened since");
        reads.add(RequestKey::from_number(2), ReadMode::Quorum);
        let (id, mode) = reads.next_id().unwrap();
        reads.record_asked(id, mode);
        assert_eq!(
            reads.take(id).unwrap().1,
            [RequestKey::from_number(1), RequestKey::from_number(2)]
        );
    }

    #[test]
    fn the_core_is_not_asked_for_reads_that_are_gone() {
        for mode in [ReadMode::Quorum, ReadMode::Lease] {
            let mut reads = Reads::default();
            reads.add(RequestKey::from_number(1), mode);
            reads.retain_pending(|_| true);
            assert!(reads.next_id().is_some());
            reads.retain_pending(|_| false);
            assert_eq!(reads.next_id(), None);
        }
    }

    #[test]
    fn nothing_is_left_of_reads_that_are_cleared() {
        let mut reads = reads();
        let (id, mode) = reads.next_id().unwrap();
        reads.record_asked(id, mode);
        reads.confirmed.push((Index(1), vec![RequestKey::from_number(2)]));
        reads.add(RequestKey::from_number(3), ReadMode::Quorum);
        reads.add(RequestKey::from_number(4), ReadMode::Lease);
        reads.clear();
        assert_eq!(reads.next_id(), None);
        assert_eq!(reads.take(id), None);
        assert!(reads.confirmed.is_empty());
    }
}
