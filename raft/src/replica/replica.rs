//! The replica: inputs, the order of effects, and the requests' ends.

use std::collections::{BTreeSet, VecDeque};

use bytes::Bytes;

use super::admin::Admins;
use super::digests::failure_of;
use super::features::PeerLevels;
use super::machine::MachineState;
use super::reads::{Certainty, Reads};
use super::requests::{Asked, Key, Origin, Pending, Requests, Stage};
use super::snapshot::SnapshotPolicy;
use super::snapshot_requests::SnapshotRequests;
use super::writes::Writes;
use super::{
    Admin, Bound, CatchUp, Doubt, Effect, Event, Limits, MachineFailure, Outcome, PeerMessage,
    Refusal, ReplicaConfig, ReplicaConfigError, Request, RequestId,
};
use crate::core::{self, Action, Core, Done, Role};
use crate::storage::{Job, StorageError};
use crate::types::{DiskId, Index, MemberChange, NodeId, Now, PeerRecord, Proposal, Saved, Time};

/// One node's replica of a group: everything that decides, and nothing that does I/O, reads a clock
/// or starts a thread.
///
/// Feed it inputs (`handle_*`, [`submit`](Replica::submit)), then call [`poll`](Replica::poll)
/// until it gives `None`, carrying out what it asks, then wait for the next input or until
/// [`poll_timeout`](Replica::poll_timeout). Commands submitted between two rounds of `poll` become
/// one proposal.
#[derive(Debug)]
pub struct Replica {
    pub(super) core: Core,
    id: NodeId,
    pub(super) limits: Limits,
    /// What a proposal may take, in bytes of entries.
    pub(super) batch_bytes: usize,
    request_timeout: std::time::Duration,
    /// What the last input said the time was.
    pub(super) now: Now,
    /// The last index that the state machine has applied.
    pub(super) applied: Index,
    pub(super) requests: Requests,
    pub(super) writes: Writes,
    pub(super) reads: Reads,
    pub(super) admins: Admins,
    pub(super) levels: PeerLevels,
    pub(super) snapshot_requests: SnapshotRequests,
    pub(super) snapshots: SnapshotPolicy,
    pub(super) links: BTreeSet<NodeId>,
    pub(super) effects: VecDeque<Effect>,
    /// Mixed into the numbers that other nodes see, so that an answer meant for an earlier life
    /// names nothing.
    mask: u64,
    /// How many salts of sessions were drawn: the mask, and this, decide what the next one is.
    salts: u64,
    pub(super) failed: Option<String>,
    pub(super) machine: MachineState,
    /// The last index of the log that this life began with.
    pub(super) last_at_start: Index,
    /// Whether this node was a member and is none any more.
    is_removed: bool,
}

/// What a replica says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// The core's status.
    pub core: core::Status,
    /// The last index that the state machine has applied.
    pub applied: Index,
    /// Requests not answered yet.
    pub pending_requests: usize,
    /// Their bytes.
    pub pending_bytes: usize,
    /// Why the last snapshot could not be written, if none has been since: the log grows until one
    /// is.
    pub snapshot_failure: Option<String>,
    /// Why the replica answers nothing any more, if its disk has failed.
    pub failed: Option<String>,
    /// Why the state machine does nothing more, if it has failed.
    pub machine_failure: Option<MachineFailure>,
    /// What the state machine has to catch up with before it answers.
    pub catching_up: Option<CatchUp>,
    /// Whether this node was removed from the cluster: it answers nothing any more.
    pub is_removed: bool,
}

impl Replica {
    /// A replica with what its disk held. Its state machine is in its initial state: the first
    /// [`MachineJob`](super::MachineJob) restores the newest snapshot, if there is one, and the
    /// log that follows is applied again. Meanwhile the replica votes and acknowledges.
    ///
    /// # Errors
    /// If a setting is out of its range.
    pub fn new(
        config: ReplicaConfig,
        saved: Saved,
        now: Now,
    ) -> Result<Replica, ReplicaConfigError> {
        config.validate()?;
        let id = config.core.id;
        let mask = scramble(scramble(scramble(config.core.seed) ^ now.wall.0) ^ now.monotonic.0);
        let batch_bytes = config.limits.batch_bytes.min(config.core.uncommitted_bytes);
        let mut core = Core::new(config.core, saved, now)?;
        core.restore_at_start();
        let last_at_start = core.last_index();
        let divergence = core.divergence();
        let mut replica = Replica {
            core,
            id,
            limits: config.limits,
            batch_bytes,
            request_timeout: config.request_timeout,
            now,
            applied: Index(0),
            requests: Requests::new(),
            writes: Writes::default(),
            reads: Reads::default(),
            admins: Admins::default(),
            levels: PeerLevels::default(),
            snapshot_requests: SnapshotRequests::default(),
            snapshots: SnapshotPolicy::new(
                config.limits.snapshot_every_bytes,
                config.limits.snapshot_bytes,
            ),
            links: BTreeSet::new(),
            effects: VecDeque::new(),
            mask,
            salts: 0,
            failed: None,
            machine: MachineState::default(),
            last_at_start,
            is_removed: false,
        };
        if let Some(divergence) = divergence {
            replica.stop_answering(failure_of(divergence));
        }
        Ok(replica)
    }

    /// See [`Core::wait_for_bootstrap`].
    pub fn wait_for_bootstrap(&mut self, waits: bool) {
        self.core.wait_for_bootstrap(waits);
    }

    /// A message from `from` arrived; where there are leases `now` must be what the clock said
    /// after it did. One that is not addressed to this node, or says it is from another, is
    /// dropped.
    pub fn handle_message(&mut self, now: Now, from: NodeId, message: PeerMessage) {
        self.input(now);
        if self.failed.is_some() {
            // Whoever forwards need not wait until it times out: nothing is proposed here any more.
            if let PeerMessage::Forward { request, .. }
            | PeerMessage::ForwardAdmin { request, .. } = message
            {
                self.answer(
                    Origin::Peer { node: from, request },
                    Outcome::Refused(Refusal::StorageFailed),
                );
            }
            return;
        }
        match message {
            PeerMessage::Raft(message) if message.from == from && message.to == self.id => {
                self.core.handle_message(now, message);
            }
            PeerMessage::Raft(_) => {}
            PeerMessage::Forward { request, proposal } => {
                let origin = Origin::Peer { node: from, request };
                if self.may_forward(origin, from, None) && self.leads_for(origin) {
                    self.accept_proposal(origin, proposal);
                }
            }
            PeerMessage::ForwardAdmin { request, admin } => {
                let origin = Origin::Peer { node: from, request };
                if self.may_forward(origin, from, Some(&admin)) && self.leads_for(origin) {
                    self.accept(origin, Request::Admin(admin));
                }
            }
            PeerMessage::Forwarded { request, outcome } => {
                self.forwarded_answered(from, request, outcome)
            }
        }
    }

    /// Whether a leader carries out what `from` hands on: a member may hand on anything, a node
    /// that joins its own addition alone. If not, it is refused.
    fn may_forward(&mut self, origin: Origin, from: NodeId, admin: Option<&Admin>) -> bool {
        let configuration = self.core.configuration();
        let is_own_addition = |change: &MemberChange| matches!(change, MemberChange::AddLearner { node, .. } if *node == from);
        let joins =
            matches!(admin, Some(Admin::Change(changes)) if changes.iter().all(is_own_addition));
        if !self.core.is_leader() || configuration.members.contains_key(&from) || joins {
            return true;
        }
        let refusal = if configuration.has_removed(from) {
            Refusal::Removed
        } else {
            let reason = format!("node {from} is not a member of the cluster: let it join first");
            Refusal::Declined { reason, is_final: false }
        };
        self.answer(origin, Outcome::Refused(refusal));
        false
    }

    /// The time that [`poll_timeout`](Replica::poll_timeout) named has come. Harmless when it has
    /// not.
    pub fn handle_timeout(&mut self, now: Now) {
        self.input(now);
        if self.failed.is_some() {
            return;
        }
        if self.core.poll_timeout().is_some_and(|deadline| deadline <= now.monotonic) {
            self.core.handle_timeout(now);
        }
        self.expire();
    }

    /// See [`Core::note_durable_sequence`].
    pub fn note_durable_sequence(&mut self, sequence: u64) {
        self.core.note_durable_sequence(sequence);
    }

    /// See [`Core::record_peer`].
    pub fn record_peer(&mut self, disk: DiskId, record: PeerRecord) {
        self.core.record_peer(disk, record);
    }

    /// See [`Core::peer_forgot`].
    pub fn peer_forgot(&mut self, now: Now, peer: NodeId) {
        self.input(now);
        self.core.peer_forgot(now, peer);
    }

    /// The storage thread has done a job.
    pub fn handle_done(&mut self, now: Now, done: Done) {
        self.input(now);
        let is_on_disk =
            matches!(done, Done::SnapshotTaken { .. } | Done::SnapshotInstalled { .. });
        if matches!(done, Done::SnapshotTaken { .. }) {
            self.snapshots.taken();
        }
        if self.failed.is_none() {
            self.core.handle_done(now, done);
            if is_on_disk {
                self.serve_snapshot_requests();
            }
        }
    }

    /// The disk has failed. Terminal: what the disk holds is not known any more, so this replica
    /// neither votes nor acknowledges nor answers until it is made again from what its disk is
    /// found to hold.
    pub fn handle_storage_failure(&mut self, now: Now, error: &StorageError) {
        self.input(now);
        if self.failed.is_some() {
            return;
        }
        let reason = error.to_string();
        // What was to be sent may rest on what is not durable.
        self.effects.retain(|effect| matches!(effect, Effect::Reply { .. } | Effect::Event(_)));
        self.stop(reason.clone(), Event::StorageFailed { reason });
    }

    /// Ends all requests, says why, and takes part in nothing more.
    pub(super) fn stop(&mut self, reason: String, event: Event) {
        self.effects.push_back(Effect::Event(event));
        while let Some((key, pending)) = self.requests.oldest() {
            let outcome = match pending.stage {
                Stage::Proposed { .. } | Stage::Forwarded { .. } => {
                    Outcome::Unknown(Doubt::StorageFailed)
                }
                Stage::Waiting | Stage::Reading | Stage::Querying | Stage::Snapshotting => {
                    Outcome::Refused(Refusal::StorageFailed)
                }
                Stage::Administering => {
                    self.admins.end_of(key, Refusal::StorageFailed, Doubt::StorageFailed)
                }
            };
            self.finish(key, outcome);
        }
        self.reads.clear();
        self.failed = Some(reason);
    }

    /// Another node knows for certain that this one was removed from the cluster. It may have
    /// missed that itself: whoever is removed is told no more than once.
    pub fn handle_removed(&mut self, now: Now) {
        self.input(now);
        self.remove();
    }

    /// This node is no member any more, and answers nothing any more. What it has put into its log,
    /// and what the leader was told of, may yet come to be.
    fn remove(&mut self) {
        if std::mem::replace(&mut self.is_removed, true) {
            return;
        }
        let is_idle = |stage| matches!(stage, Stage::Waiting | Stage::Reading);
        let idle =
            self.requests.iter().filter(|(_, pending)| is_idle(pending.stage)).map(|(key, _)| key);
        for key in idle.chain(self.admins.waiting()).collect::<Vec<_>>() {
            self.finish(key, Outcome::Refused(Refusal::Removed));
        }
        self.reads.clear();
    }

    /// There is a link to `peer` now.
    pub fn handle_connected(&mut self, now: Now, peer: NodeId) {
        self.input(now);
        self.links.insert(peer);
    }

    /// The link to `peer` broke. What was forwarded over it has an unknown outcome.
    pub fn handle_disconnected(&mut self, now: Now, peer: NodeId) {
        self.input(now);
        self.links.remove(&peer);
        self.link_broke(peer);
    }

    /// A client asks. The outcome comes as [`Effect::Reply`] with the same `id`, exactly once,
    /// within `ReplicaConfig::request_timeout`. Writes submitted to one node keep their order; a
    /// read sees every write that was *answered* before the read was submitted, not those still
    /// pending; for a [`Request::LeaseRead`] `now` must be what the clock said after it arrived
    /// ([`Core::lease_read`]); what a [`Request::StaleRead`] sees it says itself.
    pub fn submit(&mut self, now: Now, id: RequestId, request: Request) {
        self.input(now);
        self.accept(Origin::Local(id), request);
    }

    /// The next effect. Call it until it gives `None` after every input or batch of inputs.
    pub fn poll(&mut self) -> Option<Effect> {
        loop {
            if let Some(effect) = self.effects.pop_front() {
                return Some(effect);
            }
            if self.failed.is_some() {
                return None;
            }
            self.hand_on_writes();
            self.hand_on_admins();
            self.ask_for_reads();
            self.take_wanted_snapshot();
            if !self.effects.is_empty() {
                continue;
            }
            let action = self.core.poll()?;
            if let Some(effect) = self.translate(action) {
                return Some(effect);
            }
        }
    }

    fn translate(&mut self, action: Action) -> Option<Effect> {
        match action {
            Action::Send(message) => {
                Some(Effect::Send { to: message.to, message: PeerMessage::Raft(message) })
            }
            Action::Write(write) => Some(Effect::Storage(Job::Write(write))),
            Action::MarkCommit { commit } => Some(Effect::Storage(Job::MarkCommit { commit })),
            Action::Fetch(fetch) => Some(Effect::Storage(Job::Fetch(fetch))),
            Action::Apply(entries) => {
                self.apply(entries);
                None
            }
            Action::Restore(meta) => {
                self.restore(*meta);
                None
            }
            Action::Compact { first } => Some(Effect::Storage(Job::Compact { first })),
            Action::ReadChunk(read) => Some(Effect::Storage(Job::ReadChunk(read))),
            Action::WriteChunk(write) => Some(Effect::Storage(Job::WriteChunk(write))),
            Action::InstallSnapshot(install) => {
                Some(Effect::Storage(Job::InstallSnapshot(install)))
            }
            Action::ReadReady { id, index } => {
                self.read_ready(id, index);
                None
            }
            Action::ReadFailed { id } => {
                self.read_failed(id);
                None
            }
            Action::Event(event) => {
                self.writes.unblock();
                if matches!(event, core::Event::Changed { role, .. } if role != Role::Leader) {
                    self.refuse_forwarded_here();
                }
                self.admins_hear(&event);
                if let core::Event::StateDiverged(divergence) = event {
                    self.diverged(divergence);
                }
                if matches!(event, core::Event::Removed { .. }) {
                    self.remove();
                }
                Some(Effect::Event(Event::Core(event)))
            }
        }
    }

    /// When to call [`handle_timeout`](Replica::handle_timeout), unless an input changes it before.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Time> {
        if self.failed.is_some() {
            return None;
        }
        let request = self.requests.oldest().map(|(_, pending)| pending.deadline);
        [self.core.poll_timeout(), request, self.loading_deadline()].into_iter().flatten().min()
    }

    /// Why the replica answers nothing any more, if its disk has failed.
    #[must_use]
    pub fn failure(&self) -> Option<&str> {
        self.failed.as_deref()
    }

    /// What it says of itself.
    #[must_use]
    pub fn status(&self) -> Status {
        Status {
            core: self.core.status(),
            applied: self.applied,
            pending_requests: self.requests.len(),
            pending_bytes: self.requests.size_bytes(),
            snapshot_failure: self.snapshots.failure().map(str::to_owned),
            failed: self.failed.clone(),
            machine_failure: self.machine.failure.clone(),
            catching_up: self.catching_up(),
            is_removed: self.is_removed,
        }
    }

    /// Whether anything is open here that was asked about the cluster itself ([`Request::Admin`]).
    #[must_use]
    pub fn is_administering(&self) -> bool {
        !self.admins.is_empty()
    }

    /// The core, to look at.
    #[must_use]
    pub fn core(&self) -> &Core {
        &self.core
    }

    fn input(&mut self, now: Now) {
        self.now = self.now.then(now);
        self.reads.wake();
        self.admins.wake();
        self.watch_loading();
        self.watch_unapplied_log();
    }

    /// Whether this node leads; tells whoever takes it for the leader if it does not.
    fn leads_for(&mut self, origin: Origin) -> bool {
        let leads = self.core.is_leader();
        if !leads {
            let leader = self.core.leader();
            self.answer(origin, Outcome::Refused(Refusal::NotLeader { leader }));
        }
        leads
    }

    fn accept(&mut self, origin: Origin, request: Request) {
        match request {
            Request::Write(command) => self.accept_proposal(origin, Proposal::Command(command)),
            Request::SessionWrite(in_session) => {
                self.accept_proposal(origin, Proposal::SessionCommand(Box::new(in_session)));
            }
            Request::OpenSession { ttl_ms } => {
                self.salts = self.salts.wrapping_add(1);
                let salt = scramble(scramble(self.mask) ^ scramble(self.salts));
                self.accept_proposal(origin, Proposal::OpenSession { ttl_ms, salt });
            }
            Request::CloseSession { session } => {
                self.accept_proposal(origin, Proposal::CloseSession { session })
            }
            Request::Read(query) => self.accept_read(origin, query, Certainty::Majority),
            Request::LeaseRead(query) => self.accept_read(origin, query, Certainty::Lease),
            Request::StaleRead(query) => {
                let size_bytes = query.len();
                if let Some(key) =
                    self.take_in(origin, Stage::Querying, Asked::Query(query), size_bytes)
                {
                    self.query(key);
                }
            }
            Request::Snapshot => self.accept_snapshot_request(origin),
            Request::Admin(admin) => {
                let size_bytes = admin.size_bytes();
                if let Some(key) =
                    self.take_in(origin, Stage::Administering, Asked::Gone, size_bytes)
                {
                    self.admins.add(key, admin);
                }
            }
        }
    }

    fn accept_read(&mut self, origin: Origin, query: Bytes, certainty: Certainty) {
        let size_bytes = query.len();
        if let Some(key) = self.take_in(origin, Stage::Reading, Asked::Query(query), size_bytes) {
            self.reads.add(key, certainty);
        }
    }

    fn accept_proposal(&mut self, origin: Origin, proposal: Proposal) {
        let size_bytes = proposal.command_bytes();
        if let Some(key) =
            self.take_in(origin, Stage::Waiting, Asked::Proposal(proposal), size_bytes)
        {
            self.writes.waiting.push_back(key);
        }
    }

    /// Notes a request, or refuses it.
    pub(super) fn take_in(
        &mut self,
        origin: Origin,
        stage: Stage,
        payload: Asked,
        size_bytes: usize,
    ) -> Option<Key> {
        if let Some(refusal) = self.refusal(stage, size_bytes) {
            self.answer(origin, Outcome::Refused(refusal));
            return None;
        }
        let deadline = self.now.monotonic.after(self.request_timeout);
        Some(self.requests.insert(Pending { origin, stage, deadline, payload, size_bytes }))
    }

    fn refusal(&self, stage: Stage, size_bytes: usize) -> Option<Refusal> {
        let limits = &self.limits;
        // What is asked about the cluster itself needs no state machine.
        let failure = self.machine.failure.as_ref().filter(|_| stage != Stage::Administering);
        let full = |bound, limit: usize| Some(Refusal::Full { bound, limit: limit as u64 });
        if let Some(full) = &self.machine.unapplied_full {
            Some(Refusal::MachineFailed { index: full.failure.index })
        } else if self.failed.is_some() {
            Some(Refusal::StorageFailed)
        } else if self.is_removed {
            Some(Refusal::Removed)
        } else if let Some(progress) = failure.and_then(|_| self.recovering()) {
            Some(Refusal::Loading { progress })
        } else if let Some(failure) = failure {
            Some(Refusal::MachineFailed { index: failure.index })
        } else if let Some(refusal) =
            self.loading_refusal().filter(|_| stage != Stage::Administering)
        {
            Some(refusal)
        } else if size_bytes > limits.request_bytes {
            let limit_bytes = limits.request_bytes as u64;
            Some(Refusal::TooLarge { size_bytes: size_bytes as u64, limit_bytes })
        } else if self.requests.len() >= limits.pending_requests {
            full(Bound::PendingRequests, limits.pending_requests)
        } else if self.requests.size_bytes() + size_bytes > limits.pending_bytes {
            full(Bound::PendingBytes, limits.pending_bytes)
        } else {
            None
        }
    }

    /// Ends every request whose deadline has come.
    fn expire(&mut self) {
        let mut any = false;
        while let Some((key, pending)) = self.requests.oldest() {
            if pending.deadline > self.now.monotonic {
                break;
            }
            any = true;
            let outcome = match pending.stage {
                Stage::Proposed { .. } | Stage::Forwarded { .. } | Stage::Snapshotting => {
                    Outcome::Unknown(Doubt::TimedOut)
                }
                Stage::Waiting | Stage::Reading if self.core.leader().is_none() => {
                    Outcome::Refused(Refusal::NoLeader)
                }
                Stage::Waiting | Stage::Reading | Stage::Querying => {
                    Outcome::Refused(Refusal::TimedOut)
                }
                Stage::Administering => {
                    let refusal = if self.core.leader().is_none() {
                        Refusal::NoLeader
                    } else {
                        Refusal::TimedOut
                    };
                    self.admins.end_of(key, refusal, Doubt::TimedOut)
                }
            };
            self.finish(key, outcome);
        }
        if any {
            let requests = &self.requests;
            self.reads.forget_dead(|key| requests.get(key).is_some());
        }
    }

    /// Ends a request.
    pub(super) fn finish(&mut self, key: Key, outcome: Outcome) {
        if let Some(origin) = self.drop_request(key) {
            self.answer(origin, outcome);
        }
    }

    /// Forgets a request without a word to its author.
    pub(super) fn drop_request(&mut self, key: Key) -> Option<Origin> {
        let pending = self.requests.remove(key)?;
        self.writes.forget(pending.stage);
        if pending.stage == Stage::Administering {
            self.admins.forget(key);
        }
        self.snapshot_requests.forget(key);
        Some(pending.origin)
    }

    fn answer(&mut self, origin: Origin, outcome: Outcome) {
        self.effects.push_back(match origin {
            Origin::Local(id) => Effect::Reply { id, outcome },
            Origin::Peer { node, request } => {
                let outcome = outcome.for_peer();
                Effect::Send { to: node, message: PeerMessage::Forwarded { request, outcome } }
            }
        });
    }

    /// The number by which other nodes know a request of this one.
    pub(super) fn number_of(&self, key: Key) -> u64 {
        key.to_number() ^ self.mask
    }

    pub(super) fn key_of(&self, number: u64) -> Key {
        Key::from_number(number ^ self.mask)
    }
}

/// SplitMix64's finalizer (Steele, Lea, Flood, "Fast splittable pseudorandom number generators",
/// 2014): spreads what differs in a few bits over all 64.
fn scramble(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}
