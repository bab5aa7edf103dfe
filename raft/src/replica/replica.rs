//! The replica: its inputs, the order of its effects, and the end of each request.

use std::collections::{BTreeSet, VecDeque};

use bytes::Bytes;

use super::admin::AdminRequests;
use super::divergence::divergence_failure;
use super::feature_levels::PeerLevels;
use super::machine::MachineState;
use super::reads::{ReadMode, Reads};
use super::requests::{Origin, PendingRequest, RequestKey, RequestPayload, RequestStage, Requests};
use super::snapshot::SnapshotPolicy;
use super::snapshot_requests::SnapshotRequests;
use super::writes::Writes;
use super::{
    AdminRequest, Bound, Doubt, Effect, Limits, LoadingProgress, MachineFailure, Outcome,
    PeerMessage, Refusal, ReplicaConfig, ReplicaConfigError, ReplicaEvent, Request, RequestId,
};
use crate::core::{self, Action, BootstrapPhase, Core, Done, Role};
use crate::error_chain::error_chain;
use crate::storage::{Job, StorageError};
use crate::types::{DiskId, Index, MemberChange, NodeId, Now, PeerRecord, Proposal, Saved, Time};

/// One node's replica of a group: all its decisions, without I/O, clocks or threads.
///
/// The driver feeds it inputs (`handle_*`, [`submit`](Replica::submit)) and calls
/// [`poll`](Replica::poll) until it returns `None`, carrying out each [`Effect`]. Then it waits for
/// the next input or until [`poll_timeout`](Replica::poll_timeout). Commands submitted between two
/// rounds of `poll` become one proposal.
#[derive(Debug)]
pub struct Replica {
    pub(super) core: Core,
    id: NodeId,
    pub(super) limits: Limits,
    /// The most bytes of entries in one proposal.
    pub(super) batch_bytes: usize,
    request_timeout: std::time::Duration,
    /// The time of the last input.
    pub(super) now: Now,
    /// The last index that the state machine has applied.
    pub(super) applied: Index,
    pub(super) requests: Requests,
    pub(super) writes: Writes,
    pub(super) reads: Reads,
    pub(super) admin_requests: AdminRequests,
    pub(super) levels: PeerLevels,
    pub(super) snapshot_requests: SnapshotRequests,
    pub(super) snapshots: SnapshotPolicy,
    pub(super) links: BTreeSet<NodeId>,
    pub(super) effects: VecDeque<Effect>,
    /// Mixed into the request numbers that other nodes see, so that an answer to a request of an
    /// earlier start names no request.
    request_mask: u64,
    /// The number of session salts drawn. With the mask it determines the next one.
    salts: u64,
    pub(super) failed: Option<String>,
    pub(super) machine: MachineState,
    /// The last index of the log at the start.
    pub(super) last_at_start: Index,
    /// Whether this node was removed from the cluster.
    is_removed: bool,
}

/// A replica's state, for monitoring.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ReplicaStatus {
    /// The core's status.
    pub core: core::Status,
    /// The last index that the state machine has applied.
    pub applied: Index,
    /// Unanswered requests.
    pub pending_requests: usize,
    /// Their bytes.
    pub pending_bytes: usize,
    /// Why the last snapshot failed, if none has been written since. The log grows meanwhile.
    pub snapshot_failure: Option<String>,
    /// Why the replica has stopped, if its disk has failed.
    pub failed: Option<String>,
    /// Why the state machine has stopped, if it has failed.
    pub machine_failure: Option<MachineFailure>,
    /// How far the state machine has come, if it is loading and cannot answer yet.
    pub loading_progress: Option<LoadingProgress>,
    /// Whether this node was removed from the cluster; if so, it answers no requests.
    pub is_removed: bool,
}

impl Replica {
    /// Starts a replica from the state that its disk held.
    ///
    /// The state machine must be in its initial state: the first
    /// [`MachineJob`](super::MachineJob) restores the newest snapshot, if there is one, and the
    /// log after it is applied again. Meanwhile the replica votes and acknowledges.
    ///
    /// # Errors
    /// A setting is out of its range.
    pub fn new(
        config: ReplicaConfig,
        saved: Saved,
        now: Now,
    ) -> Result<Replica, ReplicaConfigError> {
        config.validate()?;
        let id = config.core.id;
        let request_mask =
            scramble(scramble(scramble(config.core.seed) ^ now.wall.0) ^ now.monotonic.0);
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
            admin_requests: AdminRequests::default(),
            levels: PeerLevels::default(),
            snapshot_requests: SnapshotRequests::default(),
            snapshots: SnapshotPolicy::new(
                config.limits.snapshot_every_bytes,
                config.limits.snapshot_bytes,
            ),
            links: BTreeSet::new(),
            effects: VecDeque::new(),
            request_mask,
            salts: 0,
            failed: None,
            machine: MachineState::default(),
            last_at_start,
            is_removed: false,
        };
        if let Some(divergence) = divergence {
            replica.stop_answering(divergence_failure(divergence));
        }
        Ok(replica)
    }

    /// See [`Core::set_bootstrap`].
    pub fn set_bootstrap(&mut self, bootstrap: BootstrapPhase) {
        self.core.set_bootstrap(bootstrap);
    }

    /// A message from `from` has arrived.
    ///
    /// With leases, `now` must be read after the arrival. A message that is not addressed to this
    /// node, or names another sender, is dropped.
    pub fn handle_message(&mut self, now: Now, from: NodeId, message: PeerMessage) {
        self.begin_input(now);
        if self.failed.is_some() {
            // The forwarding node need not wait for its timeout: nothing is proposed here.
            if let PeerMessage::Forward { request, .. }
            | PeerMessage::ForwardAdmin { request, .. } = message
            {
                self.reply(
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
                if self.check_forwarder(origin, from, None) && self.check_leadership(origin) {
                    self.accept_proposal(origin, proposal);
                }
            }
            PeerMessage::ForwardAdmin { request, admin } => {
                let origin = Origin::Peer { node: from, request };
                if self.check_forwarder(origin, from, Some(&admin)) && self.check_leadership(origin)
                {
                    self.accept(origin, Request::Admin(admin));
                }
            }
            PeerMessage::Forwarded { request, outcome } => {
                self.handle_forwarded(from, request, outcome)
            }
        }
    }

    /// Checks that `from` may forward this to a leader, and refuses the request otherwise.
    ///
    /// A member may forward anything; a node that joins, only its own addition.
    fn check_forwarder(
        &mut self,
        origin: Origin,
        from: NodeId,
        admin: Option<&AdminRequest>,
    ) -> bool {
        let configuration = self.core.configuration();
        let is_own_addition = |change: &MemberChange| match change {
            MemberChange::AddLearner { node, .. } => *node == from,
            _ => false,
        };
        let joins = match admin {
            Some(AdminRequest::ChangeMembership(changes)) => changes.iter().all(is_own_addition),
            _ => false,
        };
        if !self.core.is_leader() || configuration.members.contains_key(&from) || joins {
            return true;
        }
        let refusal = if configuration.has_removed(from) {
            Refusal::Removed
        } else {
            let reason = format!("node {from} is not a member of the cluster: let it join first");
            Refusal::Declined { reason, is_final: false }
        };
        self.reply(origin, Outcome::Refused(refusal));
        false
    }

    /// The time of [`poll_timeout`](Replica::poll_timeout) has come. Harmless if called earlier.
    pub fn handle_timeout(&mut self, now: Now) {
        self.begin_input(now);
        if self.failed.is_some() {
            return;
        }
        if self.core.poll_timeout().is_some_and(|deadline| deadline <= now.monotonic) {
            self.core.handle_timeout(now);
        }
        self.expire_requests();
    }

    /// See [`Core::note_durable_sequence`].
    pub fn note_durable_sequence(&mut self, sequence: u64) {
        self.core.note_durable_sequence(sequence);
    }

    /// See [`Core::record_peer`].
    pub fn record_peer(&mut self, disk: DiskId, record: PeerRecord) {
        self.core.record_peer(disk, record);
    }

    /// See [`Core::handle_peer_forgot`].
    pub fn handle_peer_forgot(&mut self, now: Now, peer: NodeId) {
        self.begin_input(now);
        self.core.handle_peer_forgot(now, peer);
    }

    /// The storage thread has completed a job.
    pub fn handle_done(&mut self, now: Now, done: Done) {
        self.begin_input(now);
        let is_on_disk =
            matches!(done, Done::SnapshotTaken { .. } | Done::SnapshotInstalled { .. });
        if matches!(done, Done::SnapshotTaken { .. }) {
            self.snapshots.record_written();
        }
        if self.failed.is_none() {
            self.core.handle_done(now, done);
            if is_on_disk {
                self.serve_snapshot_requests();
            }
        }
    }

    /// The disk has failed. Terminal: the content of the disk is no longer known.
    ///
    /// This replica neither votes, acknowledges nor answers. A new one must be created from the
    /// disk's content.
    pub fn handle_storage_failure(&mut self, now: Now, error: &StorageError) {
        self.begin_input(now);
        if self.failed.is_some() {
            return;
        }
        let reason = error_chain(error);
        // Unsent messages may depend on writes that are not durable.
        self.effects.retain(|effect| matches!(effect, Effect::Reply { .. } | Effect::Event(_)));
        self.stop(reason.clone(), ReplicaEvent::StorageFailed { reason });
    }

    /// Reports the event, ends all requests, and ignores all further inputs.
    pub(super) fn stop(&mut self, reason: String, event: ReplicaEvent) {
        self.effects.push_back(Effect::Event(event));
        while let Some((key, pending)) = self.requests.oldest() {
            let outcome = match pending.stage {
                RequestStage::Proposed { .. } | RequestStage::Forwarded { .. } => {
                    Outcome::Unknown(Doubt::StorageFailed)
                }
                RequestStage::Waiting
                | RequestStage::Reading
                | RequestStage::Querying
                | RequestStage::Snapshotting => Outcome::Refused(Refusal::StorageFailed),
                RequestStage::Administering => self.admin_requests.interrupted_outcome(
                    key,
                    Refusal::StorageFailed,
                    Doubt::StorageFailed,
                ),
            };
            self.finish(key, outcome);
        }
        self.reads.clear();
        self.failed = Some(reason);
    }

    /// Another node has proof that this one was removed from the cluster.
    ///
    /// This node may have missed its removal, because the leader announces it at most once.
    pub fn handle_removed(&mut self, now: Now) {
        self.begin_input(now);
        self.become_removed();
    }

    /// Refuses the waiting requests, now and in future. Proposed and forwarded ones may still take
    /// effect.
    fn become_removed(&mut self) {
        if std::mem::replace(&mut self.is_removed, true) {
            return;
        }
        let is_idle = |stage| matches!(stage, RequestStage::Waiting | RequestStage::Reading);
        let idle =
            self.requests.iter().filter(|(_, pending)| is_idle(pending.stage)).map(|(key, _)| key);
        for key in idle.chain(self.admin_requests.waiting()).collect::<Vec<_>>() {
            self.finish(key, Outcome::Refused(Refusal::Removed));
        }
        self.reads.clear();
    }

    /// A link to `peer` is up.
    pub fn handle_connected(&mut self, now: Now, peer: NodeId) {
        self.begin_input(now);
        self.links.insert(peer);
    }

    /// The link to `peer` broke. Requests forwarded over it have an unknown outcome.
    pub fn handle_disconnected(&mut self, now: Now, peer: NodeId) {
        self.begin_input(now);
        self.links.remove(&peer);
        self.handle_broken_link(peer);
    }

    /// Submits a client's request.
    ///
    /// Exactly one outcome follows as [`Effect::Reply`] with the same `id`, within
    /// `ReplicaConfig::request_timeout`. Writes submitted to one node keep their order. A read sees
    /// every write that was *answered* before the read was submitted, not those still pending. For
    /// a [`Request::LeaseRead`], `now` must be read after the request arrived
    /// ([`Core::lease_read`]). [`Request::StaleRead`] documents its own weaker promise.
    pub fn submit(&mut self, now: Now, id: RequestId, request: Request) {
        self.begin_input(now);
        self.accept(Origin::Local(id), request);
    }

    /// The next effect. Call it after every input or batch of inputs, until it returns `None`.
    pub fn poll(&mut self) -> Option<Effect> {
        loop {
            if let Some(effect) = self.effects.pop_front() {
                return Some(effect);
            }
            if self.failed.is_some() {
                return None;
            }
            self.dispatch_writes();
            self.dispatch_admin_requests();
            self.dispatch_reads();
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
                self.start_restore(*meta);
                None
            }
            Action::Compact { first } => Some(Effect::Storage(Job::Compact { first })),
            Action::ReadChunk(read) => Some(Effect::Storage(Job::ReadChunk(read))),
            Action::WriteChunk(write) => Some(Effect::Storage(Job::WriteChunk(write))),
            Action::InstallSnapshot(install) => {
                Some(Effect::Storage(Job::InstallSnapshot(install)))
            }
            Action::ReadReady { id, index } => {
                self.handle_read_ready(id, index);
                None
            }
            Action::ReadFailed { id } => {
                self.handle_read_failed(id);
                None
            }
            Action::Event(event) => {
                self.writes.unblock();
                if let core::Event::LeadershipChanged { role, .. } = event
                    && role != Role::Leader
                {
                    self.refuse_forwarded();
                }
                self.update_transfers(&event);
                if let core::Event::StateDiverged(divergence) = event {
                    self.handle_divergence(divergence);
                }
                if matches!(event, core::Event::Removed { .. }) {
                    self.become_removed();
                }
                Some(Effect::Event(ReplicaEvent::Core(event)))
            }
        }
    }

    /// The time to call [`handle_timeout`](Replica::handle_timeout). Any input may change it.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Time> {
        if self.failed.is_some() {
            return None;
        }
        let request = self.requests.oldest().map(|(_, pending)| pending.deadline);
        [self.core.poll_timeout(), request, self.loading_deadline()].into_iter().flatten().min()
    }

    /// Why the replica has stopped, if its disk has failed.
    #[must_use]
    pub fn failure(&self) -> Option<&str> {
        self.failed.as_deref()
    }

    /// The replica's state, for monitoring.
    #[must_use]
    pub fn status(&self) -> ReplicaStatus {
        ReplicaStatus {
            core: self.core.status(),
            applied: self.applied,
            pending_requests: self.requests.len(),
            pending_bytes: self.requests.size_bytes(),
            snapshot_failure: self.snapshots.failure().map(str::to_owned),
            failed: self.failed.clone(),
            machine_failure: self.machine.failure.clone(),
            loading_progress: self.loading_progress(),
            is_removed: self.is_removed,
        }
    }

    /// Whether any [`Request::Admin`] is pending here.
    #[must_use]
    pub fn has_admin_requests(&self) -> bool {
        !self.admin_requests.is_empty()
    }

    /// The core.
    #[must_use]
    pub fn core(&self) -> &Core {
        &self.core
    }

    fn begin_input(&mut self, now: Now) {
        self.now = self.now.then(now);
        self.reads.wake();
        self.admin_requests.wake();
        self.update_loading();
        self.check_unapplied_log();
    }

    /// Checks that this node leads, and refuses the request otherwise.
    fn check_leadership(&mut self, origin: Origin) -> bool {
        let leads = self.core.is_leader();
        if !leads {
            let leader = self.core.leader();
            self.reply(origin, Outcome::Refused(Refusal::NotLeader { leader }));
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
                let salt = scramble(scramble(self.request_mask) ^ scramble(self.salts));
                self.accept_proposal(origin, Proposal::OpenSession { ttl_ms, salt });
            }
            Request::CloseSession { session } => {
                self.accept_proposal(origin, Proposal::CloseSession { session })
            }
            Request::Read(query) => self.accept_read(origin, query, ReadMode::Quorum),
            Request::LeaseRead(query) => self.accept_read(origin, query, ReadMode::Lease),
            Request::StaleRead(query) => {
                let size_bytes = query.len();
                if let Some(key) = self.admit(
                    origin,
                    RequestStage::Querying,
                    RequestPayload::Query(query),
                    size_bytes,
                ) {
                    self.query(key);
                }
            }
            Request::Snapshot => self.accept_snapshot_request(origin),
            Request::Admin(admin) => {
                let size_bytes = admin.size_bytes();
                if let Some(key) = self.admit(
                    origin,
                    RequestStage::Administering,
                    RequestPayload::Empty,
                    size_bytes,
                ) {
                    self.admin_requests.add(key, admin);
                }
            }
        }
    }

    fn accept_read(&mut self, origin: Origin, query: Bytes, mode: ReadMode) {
        let size_bytes = query.len();
        if let Some(key) =
            self.admit(origin, RequestStage::Reading, RequestPayload::Query(query), size_bytes)
        {
            self.reads.add(key, mode);
        }
    }

    fn accept_proposal(&mut self, origin: Origin, proposal: Proposal) {
        let size_bytes = proposal.command_bytes();
        if let Some(key) = self.admit(
            origin,
            RequestStage::Waiting,
            RequestPayload::Proposal(proposal),
            size_bytes,
        ) {
            self.writes.waiting.push_back(key);
        }
    }

    /// Adds a request to the table, or refuses it.
    pub(super) fn admit(
        &mut self,
        origin: Origin,
        stage: RequestStage,
        payload: RequestPayload,
        size_bytes: usize,
    ) -> Option<RequestKey> {
        if let Some(refusal) = self.refusal_for(stage, size_bytes) {
            self.reply(origin, Outcome::Refused(refusal));
            return None;
        }
        let deadline = self.now.monotonic.after(self.request_timeout);
        Some(self.requests.insert(PendingRequest { origin, stage, deadline, payload, size_bytes }))
    }

    fn refusal_for(&self, stage: RequestStage, size_bytes: usize) -> Option<Refusal> {
        let limits = &self.limits;
        // Admin requests need no state machine.
        let failure =
            self.machine.failure.as_ref().filter(|_| stage != RequestStage::Administering);
        let full = |bound, limit: usize| Some(Refusal::Full { bound, limit: limit as u64 });
        if let Some(full) = &self.machine.unapplied_full {
            Some(Refusal::MachineFailed { index: full.failure.index })
        } else if self.failed.is_some() {
            Some(Refusal::StorageFailed)
        } else if self.is_removed {
            Some(Refusal::Removed)
        } else if let Some(progress) = failure.and_then(|_| self.reload_progress()) {
            Some(Refusal::Loading { progress })
        } else if let Some(failure) = failure {
            Some(Refusal::MachineFailed { index: failure.index })
        } else if let Some(refusal) =
            self.loading_refusal().filter(|_| stage != RequestStage::Administering)
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

    /// Ends every request whose deadline has passed.
    fn expire_requests(&mut self) {
        let mut any = false;
        while let Some((key, pending)) = self.requests.oldest() {
            if pending.deadline > self.now.monotonic {
                break;
            }
            any = true;
            let outcome = match pending.stage {
                RequestStage::Proposed { .. }
                | RequestStage::Forwarded { .. }
                | RequestStage::Snapshotting => Outcome::Unknown(Doubt::TimedOut),
                RequestStage::Waiting | RequestStage::Reading if self.core.leader().is_none() => {
                    Outcome::Refused(Refusal::NoLeader)
                }
                RequestStage::Waiting | RequestStage::Reading | RequestStage::Querying => {
                    Outcome::Refused(Refusal::TimedOut)
                }
                RequestStage::Administering => {
                    let refusal = if self.core.leader().is_none() {
                        Refusal::NoLeader
                    } else {
                        Refusal::TimedOut
                    };
                    self.admin_requests.interrupted_outcome(key, refusal, Doubt::TimedOut)
                }
            };
            self.finish(key, outcome);
        }
        if any {
            let requests = &self.requests;
            self.reads.retain_pending(|key| requests.get(key).is_some());
        }
    }

    /// Ends a request with this outcome.
    pub(super) fn finish(&mut self, key: RequestKey, outcome: Outcome) {
        if let Some(origin) = self.drop_request(key) {
            self.reply(origin, outcome);
        }
    }

    /// Removes a request without a reply to its author.
    pub(super) fn drop_request(&mut self, key: RequestKey) -> Option<Origin> {
        let pending = self.requests.remove(key)?;
        self.writes.forget(pending.stage);
        if pending.stage == RequestStage::Administering {
            self.admin_requests.forget(key);
        }
        self.snapshot_requests.forget(key);
        Some(pending.origin)
    }

    fn reply(&mut self, origin: Origin, outcome: Outcome) {
        self.effects.push_back(match origin {
            Origin::Local(id) => Effect::Reply { id, outcome },
            Origin::Peer { node, request } => {
                let outcome = outcome.for_peer();
                Effect::Send { to: node, message: PeerMessage::Forwarded { request, outcome } }
            }
        });
    }

    /// The number of a request in messages to other nodes.
    pub(super) fn number_of(&self, key: RequestKey) -> u64 {
        key.to_number() ^ self.request_mask
    }

    pub(super) fn key_of(&self, number: u64) -> RequestKey {
        RequestKey::from_number(number ^ self.request_mask)
    }
}

/// SplitMix64's finalizer (Steele, Lea, Flood, "Fast splittable pseudorandom number generators",
/// 2014): spreads a difference in a few bits over all 64.
fn scramble(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}
