//! Reads: one question to the core for all of a kind that came between two polls, then wait until
//! the index is applied, then ask the state machine (§6.4). A stale read asks the state machine at
//! once.
//!
//! A read changes nothing, so it may be asked again as often as leaders change, until its deadline.

use std::collections::VecDeque;
use std::mem;

use super::requests::{Asked, Key, Stage};
use super::{Answer, MachineJob, Outcome, QueryId, Refusal, Replica};
use crate::core::ReadId;
use crate::types::{Index, Now};

/// What the core is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Certainty {
    /// A majority's word that nobody else leads.
    Majority,
    /// The leader's lease, if it has one.
    Lease,
}

/// The reads that have not reached the state machine.
#[derive(Debug, Default)]
pub(super) struct Reads {
    /// The core has not been asked for these.
    fresh: Vec<Key>,
    /// Nor for these, for which a lease is enough.
    fresh_lease: Vec<Key>,
    /// It has for these, and has not answered. Numbers rise.
    asked: VecDeque<(ReadId, Certainty, Vec<Key>)>,
    /// It has answered for these: they wait for the index to be applied.
    ready: Vec<(Index, Vec<Key>)>,
    /// Emptied lists, to be filled again.
    spare: Vec<Vec<Key>>,
    last_id: u64,
    /// Whether anything has happened since the core last refused.
    may_ask: bool,
}

impl Reads {
    pub(super) fn add(&mut self, key: Key, certainty: Certainty) {
        self.fresh(certainty).push(key);
        self.may_ask = true;
    }

    fn fresh(&mut self, certainty: Certainty) -> &mut Vec<Key> {
        match certainty {
            Certainty::Majority => &mut self.fresh,
            Certainty::Lease => &mut self.fresh_lease,
        }
    }

    /// Something has happened: the core may say yes now.
    pub(super) fn wake(&mut self) {
        self.may_ask = true;
    }

    fn next_id(&mut self) -> Option<(ReadId, Certainty)> {
        let certainty = match (self.fresh.is_empty(), self.fresh_lease.is_empty()) {
            _ if !self.may_ask => return None,
            (true, true) => return None,
            (false, _) => Certainty::Majority,
            (true, false) => Certainty::Lease,
        };
        self.last_id += 1;
        Some((ReadId(self.last_id), certainty))
    }

    fn asked(&mut self, id: ReadId, certainty: Certainty) {
        let spare = self.spare.pop().unwrap_or_default();
        let keys = mem::replace(self.fresh(certainty), spare);
        self.asked.push_back((id, certainty, keys));
    }

    fn take(&mut self, id: ReadId) -> Option<(Certainty, Vec<Key>)> {
        let place = self.asked.binary_search_by_key(&id, |&(asked, _, _)| asked).ok()?;
        self.asked.remove(place).map(|(_, certainty, keys)| (certainty, keys))
    }

    fn failed(&mut self, id: ReadId) {
        if let Some((certainty, mut keys)) = self.take(id) {
            self.fresh(certainty).append(&mut keys);
            self.recycle(keys);
            self.may_ask = false;
        }
    }

    fn recycle(&mut self, mut keys: Vec<Key>) {
        keys.clear();
        if self.spare.len() < 64 {
            self.spare.push(keys);
        }
    }

    /// Forgets lists whose requests are all gone.
    pub(super) fn forget_dead(&mut self, alive: impl Fn(Key) -> bool) {
        self.fresh.retain(|&key| alive(key));
        self.fresh_lease.retain(|&key| alive(key));
        while let Some((_, _, keys)) =
            self.asked.pop_front_if(|(_, _, keys)| !keys.iter().any(|&key| alive(key)))
        {
            self.recycle(keys);
        }
        while let Some(place) =
            self.ready.iter().position(|(_, keys)| !keys.iter().any(|&key| alive(key)))
        {
            let (_, keys) = self.ready.swap_remove(place);
            self.recycle(keys);
        }
    }

    pub(super) fn clear(&mut self) {
        self.fresh.clear();
        self.fresh_lease.clear();
        self.asked.clear();
        self.ready.clear();
    }
}

impl Replica {
    /// Asks the core for an index for all fresh reads of a kind together. The time is that of the
    /// latest input, and so not before any of the reads arrived.
    pub(super) fn ask_for_reads(&mut self) {
        while let Some((id, certainty)) = self.reads.next_id() {
            let asked = match certainty {
                Certainty::Majority => self.core.read_index(self.now, id),
                Certainty::Lease => self.core.lease_read(self.now, id),
            };
            match asked {
                Ok(()) => self.reads.asked(id, certainty),
                Err(_) => self.reads.may_ask = false,
            }
        }
    }

    pub(super) fn read_ready(&mut self, id: ReadId, index: Index) {
        if let Some((_, keys)) = self.reads.take(id) {
            self.reads.ready.push((index, keys));
            self.release_reads();
        }
    }

    pub(super) fn read_failed(&mut self, id: ReadId) {
        self.reads.failed(id);
    }

    /// Hands the state machine every query whose index it has applied.
    pub(super) fn release_reads(&mut self) {
        while let Some(place) =
            self.reads.ready.iter().position(|&(index, _)| index <= self.applied)
        {
            let (_, keys) = self.reads.ready.remove(place);
            for &key in &keys {
                self.query(key);
            }
            self.reads.recycle(keys);
        }
    }

    /// Hands the state machine a query, to be answered from its state as it is then.
    pub(super) fn query(&mut self, key: Key) {
        let Some(pending) = self.requests.get_mut(key) else { return };
        pending.stage = Stage::Querying;
        if let Asked::Query(query) = mem::replace(&mut pending.payload, Asked::Gone) {
            self.ask_machine(MachineJob::Query { id: QueryId(key.to_number()), query });
        }
    }

    /// The state machine has answered a query, in the state that the answer names. Nothing happens
    /// if the query's request has expired.
    pub(super) fn queried(&mut self, now: Now, id: QueryId, answer: Option<Answer>) {
        self.now = self.now.then(now);
        let key = Key::from_number(id.0);
        if self.requests.get(key).is_some_and(|pending| pending.stage == Stage::Querying) {
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
        reads.add(Key::from_number(1), Certainty::Majority);
        reads
    }

    #[test]
    fn a_read_may_be_asked_until_the_core_refuses() {
        let mut reads = reads();
        let (id, certainty) = reads.next_id().unwrap();
        reads.asked(id, certainty);
        assert_eq!(reads.next_id(), None, "nothing is fresh");
        reads.failed(id);
        assert_eq!(reads.next_id(), None, "nothing has happened since");
        reads.add(Key::from_number(2), Certainty::Majority);
        let (id, certainty) = reads.next_id().unwrap();
        reads.asked(id, certainty);
        assert_eq!(reads.take(id).unwrap().1, [Key::from_number(1), Key::from_number(2)]);
    }

    #[test]
    fn the_core_is_not_asked_for_reads_that_are_gone() {
        for certainty in [Certainty::Majority, Certainty::Lease] {
            let mut reads = Reads::default();
            reads.add(Key::from_number(1), certainty);
            reads.forget_dead(|_| true);
            assert!(reads.next_id().is_some());
            reads.forget_dead(|_| false);
            assert_eq!(reads.next_id(), None);
        }
    }

    #[test]
    fn nothing_is_left_of_reads_that_are_cleared() {
        let mut reads = reads();
        let (id, certainty) = reads.next_id().unwrap();
        reads.asked(id, certainty);
        reads.ready.push((Index(1), vec![Key::from_number(2)]));
        reads.add(Key::from_number(3), Certainty::Majority);
        reads.add(Key::from_number(4), Certainty::Lease);
        reads.clear();
        assert_eq!(reads.next_id(), None);
        assert_eq!(reads.take(id), None);
        assert!(reads.ready.is_empty());
    }
}
