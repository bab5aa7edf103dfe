//! The table of pending requests.
//!
//! All requests have the same timeout, so they expire in the order of their arrival. A linked list
//! through the slots gives the next deadline and O(1) insertion and removal, with one timer for
//! all.

use bytes::Bytes;

use super::RequestId;
use crate::types::{Index, NodeId, Proposal, Term, Time};

/// Names a request. It becomes stale when the request is removed, even if its slot is reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RequestKey {
    slot: u32,
    generation: u32,
}

impl RequestKey {
    /// The key as one number, for other modules and nodes to return.
    pub(super) fn to_number(self) -> u64 {
        u64::from(self.generation) << 32 | u64::from(self.slot)
    }

    /// The inverse of `to_number`. Any number is allowed: one that names no request is stale.
    pub(super) fn from_number(number: u64) -> RequestKey {
        RequestKey {
            slot: (number & u64::from(u32::MAX)) as u32,
            generation: (number >> 32) as u32,
        }
    }
}

/// The source of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// This node's driver.
    Local(RequestId),
    /// Another node, on behalf of its own driver.
    Peer {
        node: NodeId,
        /// That node's number for it.
        request: u64,
    },
}

/// The progress of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RequestStage {
    /// A command that was neither proposed nor forwarded.
    Waiting,
    /// A command in this node's log.
    Proposed { index: Index, term: Term },
    /// A command that was forwarded to the leader.
    Forwarded { to: NodeId },
    /// A query that waits for its index.
    Reading,
    /// A query that the state machine has received.
    Querying,
    /// A snapshot that is not yet on disk.
    Snapshotting,
    /// An admin request; [`AdminRequests`](super::admin::AdminRequests) has its progress.
    Administering,
}

/// The content of a request.
#[derive(Clone, Debug)]
pub(super) enum RequestPayload {
    /// An entry for the log.
    Proposal(Proposal),
    /// A query of the state machine.
    Query(Bytes),
    /// There is none, or it has been handed on.
    Empty,
}

/// A request without an outcome.
#[derive(Debug)]
pub(super) struct PendingRequest {
    pub(super) origin: Origin,
    pub(super) stage: RequestStage,
    pub(super) deadline: Time,
    pub(super) payload: RequestPayload,
    /// The bytes that it counts for in `Limits::pending_bytes`.
    pub(super) size_bytes: usize,
}

const NONE: u32 = u32::MAX;

#[derive(Debug)]
struct Slot {
    generation: u32,
    /// The next younger request; in a free slot the next free one.
    next: u32,
    /// The next older request.
    previous: u32,
    pending: Option<PendingRequest>,
}

/// The pending requests. See the module.
#[derive(Debug)]
pub(super) struct Requests {
    slots: Vec<Slot>,
    free: u32,
    oldest: u32,
    youngest: u32,
    count: usize,
    size_bytes: usize,
}

impl Requests {
    pub(super) fn new() -> Requests {
        Requests {
            slots: Vec::new(),
            free: NONE,
            oldest: NONE,
            youngest: NONE,
            count: 0,
            size_bytes: 0,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.count
    }

    pub(super) fn size_bytes(&self) -> usize {
        self.size_bytes
    }

    /// Adds the youngest request.
    ///
    /// # Panics
    /// If its deadline lies before that of the youngest one: it would expire late.
    pub(super) fn insert(&mut self, pending: PendingRequest) -> RequestKey {
        if let Some(youngest) =
            self.slots.get(self.youngest as usize).and_then(|slot| slot.pending.as_ref())
        {
            assert!(pending.deadline >= youngest.deadline, "deadlines must come in order");
        }
        self.count += 1;
        self.size_bytes += pending.size_bytes;
        let slot = self.take_free();
        let youngest = self.youngest;
        let entry = &mut self.slots[slot as usize];
        entry.pending = Some(pending);
        entry.previous = youngest;
        entry.next = NONE;
        let key = RequestKey { slot, generation: entry.generation };
        match self.slots.get_mut(youngest as usize) {
            Some(before) => before.next = slot,
            None => self.oldest = slot,
        }
        self.youngest = slot;
        key
    }

    fn take_free(&mut self) -> u32 {
        if self.free != NONE {
            let slot = self.free;
            self.free = self.slots[slot as usize].next;
            return slot;
        }
        let slot = u32::try_from(self.slots.len()).expect("Limits::pending_requests fits 32 bits");
        assert!(slot < NONE, "Limits::pending_requests is below 2^32 - 1");
        self.slots.push(Slot { generation: 0, next: NONE, previous: NONE, pending: None });
        slot
    }

    pub(super) fn get_mut(&mut self, key: RequestKey) -> Option<&mut PendingRequest> {
        self.slots
            .get_mut(key.slot as usize)
            .filter(|slot| slot.generation == key.generation)
            .and_then(|slot| slot.pending.as_mut())
    }

    pub(super) fn get(&self, key: RequestKey) -> Option<&PendingRequest> {
        self.slots
            .get(key.slot as usize)
            .filter(|slot| slot.generation == key.generation)
            .and_then(|slot| slot.pending.as_ref())
    }

    /// Removes a request; `None` if it is gone already.
    pub(super) fn remove(&mut self, key: RequestKey) -> Option<PendingRequest> {
        let entry = self
            .slots
            .get_mut(key.slot as usize)
            .filter(|slot| slot.generation == key.generation)?;
        let pending = entry.pending.take()?;
        entry.generation = entry.generation.wrapping_add(1);
        let (next, previous) = (entry.next, entry.previous);
        entry.next = self.free;
        self.free = key.slot;
        match self.slots.get_mut(previous as usize) {
            Some(slot) => slot.next = next,
            None => self.oldest = next,
        }
        match self.slots.get_mut(next as usize) {
            Some(slot) => slot.previous = previous,
            None => self.youngest = previous,
        }
        self.count -= 1;
        self.size_bytes -= pending.size_bytes;
        Some(pending)
    }

    /// The request that expires first.
    pub(super) fn oldest(&self) -> Option<(RequestKey, &PendingRequest)> {
        self.at(self.oldest)
    }

    /// All of them, oldest first.
    pub(super) fn iter(&self) -> impl Iterator<Item = (RequestKey, &PendingRequest)> {
        let mut slot = self.oldest;
        std::iter::from_fn(move || {
            let found = self.at(slot)?;
            slot = self.slots[slot as usize].next;
            Some(found)
        })
    }

    fn at(&self, slot: u32) -> Option<(RequestKey, &PendingRequest)> {
        let entry = self.slots.get(slot as usize)?;
        let pending = entry.pending.as_ref()?;
        Some((RequestKey { slot, generation: entry.generation }, pending))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pending(id: u64, deadline: u64) -> PendingRequest {
        PendingRequest {
            origin: Origin::Local(RequestId(id)),
            stage: RequestStage::Waiting,
            deadline: Time(deadline),
            payload: RequestPayload::Empty,
            size_bytes: id as usize % 7,
        }
    }

    fn number(pending: &PendingRequest) -> u64 {
        match pending.origin {
            Origin::Local(RequestId(id)) => id,
            Origin::Peer { request, .. } => request,
        }
    }

    proptest! {
        #[test]
        fn agrees_with_a_list(
            steps in prop::collection::vec(prop::option::weighted(0.6, 0usize..8), 0..200),
        ) {
            let mut model: Vec<(u64, RequestKey)> = Vec::new();
            let mut gone: Vec<RequestKey> = Vec::new();
            let mut requests = Requests::new();
            for (at, step) in steps.into_iter().enumerate() {
                let at = at as u64;
                match step {
                    None => model.push((at, requests.insert(pending(at, at / 3)))),
                    Some(place) if place < model.len() => {
                        let (id, key) = model.remove(place);
                        prop_assert_eq!(requests.remove(key).map(|p| number(&p)), Some(id));
                        gone.push(key);
                    }
                    Some(_) => {}
                }
                prop_assert_eq!(requests.len(), model.len());
                let size_bytes = model.iter().map(|&(id, _)| id as usize % 7).sum::<usize>();
                prop_assert_eq!(requests.size_bytes(), size_bytes);
                let listed: Vec<(u64, RequestKey)> =
                    requests.iter().map(|(key, p)| (number(p), key)).collect();
                prop_assert_eq!(&listed, &model);
                let oldest = requests.oldest().map(|(key, _)| key);
                prop_assert_eq!(oldest, model.first().map(|&(_, key)| key));
                for &key in &gone {
                    prop_assert!(requests.get(key).is_none());
                    prop_assert_eq!(RequestKey::from_number(key.to_number()), key);
                }
            }
        }
    }

    #[test]
    fn a_number_that_names_nothing_is_stale() {
        let mut requests = Requests::new();
        let key = requests.insert(pending(1, 1));
        assert!(requests.get(RequestKey::from_number(u64::MAX)).is_none());
        assert!(
            requests.get(RequestKey { slot: key.slot, generation: key.generation + 1 }).is_none()
        );
        assert!(requests.remove(RequestKey { slot: 7, generation: 0 }).is_none());
        assert_eq!(requests.len(), 1);
    }
}
