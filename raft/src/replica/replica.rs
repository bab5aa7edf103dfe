//! The replica: inputs, the order of effects, and the requests' ends.

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
    pub(super) admin_requests: AdminRequests,
    pub(super) levels: PeerLevels,
    pub(super) snapshot_requests: SnapshotRequests,
    pub(super) snapshots: SnapshotPolicy,
    pub(super) links: BTreeSet<NodeId>,
    pub(super) effects: VecDeque<Effect>,
    /// Mixed into the numbers that other nodes see, so that an answer meant for an earlier life
    /// names nothing.
    request_mask: u64,
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
pub struct ReplicaStatus {
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
    pub loading_progress: Option<LoadingProgress>,
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

    /// See [`Core::wait_for_bootstrap`].
    pub fn wait_for_bootstrap(&mut self, waits: bool) {
        self.core.wait_for_bootstrap(waits);
    }

    /// A message from `from` arrived; where there are leases `now` must be what the clock said
    /// after it did. One that is not addressed to this node, or says it is from another, is
    /// dropped.
    pub fn handle_message(&mut self, now: Now, from: NodeId, message: PeerMessage) {
        self.begin_input(now);
        if self.failed.is_some() {
            // Whoever forwards need not wait until it times out: nothing is proposed here any more.
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

    /// Whether a leader carries out what `from` hands on: a member may hand on anything, a node
    /// that joins its own addition alone. If not, it is refused.
    fn check_forwarder(
        &mut self,
        origin: Origin,
        from: NodeId,
        admin: Option<&AdminRequest>,
    ) -> bool {
        let configuration = self.core.configuration();
        let is_own_addition = |change: &MemberChange| matches!(change, MemberChange::AddLearner { node, .. } if *node == from);
        let joins = matches!(admin, Some(AdminRequest::ChangeMembership(changes)) if changes.iter().all(is_own_addition));
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

    /// The time that [`poll_timeout`](Replica::poll_timeout) named has come. Harmless when it has
    /// not.
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

    /// See [`Core::peer_forgot`].
    pub fn peer_forgot(&mut self, now: Now, peer: NodeId) {
        self.begin_input(now);
        self.core.peer_forgot(now, peer);
    }

    /// The storage thread has done a job.
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

    /// The disk has failed. Terminal: what the disk holds is not known any more, so this replica
    /// neither votes nor acknowledges nor answers until it is made again from what its disk is
    /// found to hold.
    pub fn handle_storage_failure(&mut self, now: Now, error: &StorageError) {
        self.begin_input(now);
        if self.failed.is_some() {
            return;
        }
        let reason = error.to_string();
        // What was to be sent may rest on what is not durable.
        self.effects.retain(|effect| matches!(effect, Effect::Reply { .. } | Effect::Event(_)));
        self.stop(reason.clone(), ReplicaEvent::StorageFailed { reason });
    }

    /// Ends all requests, says why, and takes part in nothing more.
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

    /// Another node knows for certain that this one was removed from the cluster. It may have
    /// missed that itself: whoever is removed is told no more than once.
    pub fn handle_removed(&mut self, now: Now) {
        self.begin_input(now);
        self.become_removed();
    }

    /// This node is no member any more, and answers nothing any more. What it has put into its log,
    /// and what the leader was told of, may yet come to be.
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

    /// There is a link to `peer` now.
    pub fn handle_connected(&mut self, now: Now, peer: NodeId) {
        self.begin_input(now);
        self.links.insert(peer);
    }

    /// The link to `peer` broke. What was forwarded over it has an unknown outcome.
    pub fn handle_disconnected(&mut self, now: Now, peer: NodeId) {
        self.begin_input(now);
        self.links.remove(&peer);
        self.handle_broken_link(peer);
    }

    /// A client asks. The outcome comes as [`Effect::Reply`] with the same `id`, exactly once,
    /// within `ReplicaConfig::request_timeout`. Writes submitted to one node keep their order; a
    /// read sees every write that was *answered* before the read was submitted, not those still
    /// pending; for a [`Request::LeaseRead`] `now` must be what the clock said after it arrived
    /// ([`Core::lease_read`]); what a [`Request::StaleRead`] sees it says itself.
    pub fn submit(&mut self, now: Now, id: RequestId, request: Request) {
        self.begin_input(now);
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
                if matches!(event, core::Event::Changed { role, .. } if role != Role::Leader) {
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

    /// Whether anything is open here that was asked about the cluster itself ([`Request::Admin`]).
    #[must_use]
    pub fn has_admin_requests(&self) -> bool {
        !self.admin_requests.is_empty()
    }

    /// The core, to look at.
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

    /// Whether this node leads; tells whoever takes it for the leader if it does not.
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

    /// Notes a request, or refuses it.
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
        // What is asked about the cluster itself needs no state machine.
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

    /// Ends every request whose deadline has come.
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

    /// Ends a request.
    pub(super) fn finish(&mut self, key: RequestKey, outcome: Outcome) {
        if let Some(origin) = self.drop_request(key) {
            self.reply(origin, outcome);
        }
    }

    /// Forgets a request without a word to its author.
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

    /// The number by which other nodes know a request of this one.
    pub(super) fn number_of(&self, key: RequestKey) -> u64 {
        key.to_number() ^ self.request_mask
    }

    pub(super) fn key_of(&self, number: u64) -> RequestKey {
        RequestKey::from_number(number ^ self.request_mask)
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
