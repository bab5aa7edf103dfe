//! Requests about the cluster itself: membership changes and leadership transfers.
//!
//! They go to the leader, are retried while an obstacle passes by itself, and are answered when
//! they are complete.
//!
//! ```text
//! submit(ChangeMembership)
//!   -> waiting -> leads?    logged -> committed -> if joint: left, and that committed -> Answer
//!                                  -> a later term is committed instead: Refused
//!              -> follows?  forwarded -> the leader's outcome; link broken: Unknown
//! submit(TransferLeadership)
//!   -> waiting -> leads?    started -> the target leads: Answer
//!                                   -> timed out, replaced, or another node leads: Refused
//! ```

use super::requests::{Origin, RequestKey, RequestStage};
use super::{Answer, Doubt, Effect, Outcome, PeerMessage, Refusal, Replica};
use crate::core;
use crate::types::{
    ChangeError, Entries, Entry, Index, MemberChange, NodeId, Payload, SnapshotMeta, Term,
};

/// A request about the cluster itself.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum AdminRequest {
    /// Make all of these changes together, in one step or in one joint change.
    ///
    /// Answered, with no bytes, when the new configuration is committed and, if it was a joint
    /// one, left.
    ChangeMembership(Vec<MemberChange>),
    /// Transfer leadership to this voter, or to the most suitable one.
    ///
    /// Answered, with no bytes, when that node leads.
    TransferLeadership(Option<NodeId>),
}

impl AdminRequest {
    /// The bytes that it counts for in [`Limits::pending_bytes`](super::Limits).
    #[must_use]
    pub fn size_bytes(&self) -> usize {
        match self {
            AdminRequest::ChangeMembership(changes) => changes.iter().map(change_bytes).sum(),
            AdminRequest::TransferLeadership(_) => 8,
        }
    }
}

fn change_bytes(change: &MemberChange) -> usize {
    match change {
        MemberChange::AddLearner { member, .. } => 64 + member.address.len(),
        MemberChange::Update { address, .. } => 64 + address.as_ref().map_or(0, String::len),
        MemberChange::Promote(_) | MemberChange::Demote(_) | MemberChange::Remove(_) => 16,
        MemberChange::EnableFeatures(_) => 16,
    }
}

/// The progress of an admin request.
#[derive(Clone, Debug, PartialEq, Eq)]
enum AdminStage {
    /// No leader has accepted it; why the last attempt failed, if there was one.
    Waiting { obstacle: Option<Refusal> },
    /// The leader has received it.
    Forwarded { to: NodeId },
    /// The new configuration is in this node's log.
    Changing { index: Index, term: Term, is_committed: bool },
    /// This node, the leader of that term, transfers leadership.
    Transferring { term: Term, to: NodeId },
}

#[derive(Debug)]
struct PendingAdmin {
    key: RequestKey,
    admin: AdminRequest,
    stage: AdminStage,
}

/// The admin requests without an outcome, oldest first. There are few, if any.
#[derive(Debug, Default)]
pub(super) struct AdminRequests {
    pending: Vec<PendingAdmin>,
    /// Whether any input has arrived since the waiting ones were last attempted.
    may_retry: bool,
}

impl AdminRequests {
    pub(super) fn add(&mut self, key: RequestKey, admin: AdminRequest) {
        self.pending.push(PendingAdmin {
            key,
            admin,
            stage: AdminStage::Waiting { obstacle: None },
        });
        self.may_retry = true;
    }

    /// An input has arrived: the core may accept now what it declined before.
    pub(super) fn wake(&mut self) {
        self.may_retry = !self.pending.is_empty();
    }

    pub(super) fn is_empty(&self) -> bool {
        self.pending.is_empty()
    }

    pub(super) fn forget(&mut self, key: RequestKey) {
        self.pending.retain(|pending| pending.key != key);
    }

    /// The outcome of one that ends before it is complete.
    pub(super) fn interrupted_outcome(
        &self,
        key: RequestKey,
        refusal: Refusal,
        doubt: Doubt,
    ) -> Outcome {
        match self.pending.iter().find(|pending| pending.key == key).map(|pending| &pending.stage) {
            Some(AdminStage::Waiting { obstacle }) => {
                Outcome::Refused(obstacle.clone().unwrap_or(refusal))
            }
            Some(
                AdminStage::Forwarded { .. }
                | AdminStage::Changing { .. }
                | AdminStage::Transferring { .. },
            ) => Outcome::Unknown(doubt),
            None => Outcome::Refused(refusal),
        }
    }

    /// Those that no leader has accepted yet.
    pub(super) fn waiting(&self) -> Vec<RequestKey> {
        self.keys_where(|stage| matches!(stage, AdminStage::Waiting { .. }))
    }

    /// Those that were forwarded to `node`.
    pub(super) fn forwarded_to(&self, node: NodeId) -> Vec<RequestKey> {
        self.keys_where(|stage| *stage == AdminStage::Forwarded { to: node })
    }

    fn keys_where(&self, matches: impl Fn(&AdminStage) -> bool) -> Vec<RequestKey> {
        self.pending
            .iter()
            .filter(|pending| matches(&pending.stage))
            .map(|pending| pending.key)
            .collect()
    }
}

/// The result of one attempt to carry out an admin request.
enum AdminAttempt {
    Started(AdminStage),
    /// To be retried after the next input.
    Deferred {
        obstacle: Option<Refusal>,
    },
    Ended(Outcome),
}

impl Replica {
    /// Attempts every waiting request, if an input has arrived since the last attempt.
    pub(super) fn dispatch_admin_requests(&mut self) {
        if !std::mem::take(&mut self.admin_requests.may_retry) {
            return;
        }
        for key in self.admin_requests.waiting() {
            let Some(at) =
                self.admin_requests.pending.iter().position(|pending| pending.key == key)
            else {
                continue;
            };
            let Some(origin) = self.requests.get(key).map(|pending| pending.origin) else {
                continue;
            };
            let stage = match self.try_admin(at, key, origin) {
                AdminAttempt::Started(stage) => stage,
                AdminAttempt::Deferred { obstacle } => AdminStage::Waiting { obstacle },
                AdminAttempt::Ended(outcome) => {
                    self.finish(key, outcome);
                    continue;
                }
            };
            // The attempt may have ended other requests, so positions may have changed.
            if let Some(pending) =
                self.admin_requests.pending.iter_mut().find(|pending| pending.key == key)
            {
                pending.stage = stage;
            }
        }
    }

    fn try_admin(&mut self, at: usize, key: RequestKey, origin: Origin) -> AdminAttempt {
        let admin = self.admin_requests.pending[at].admin.clone();
        let leader = self.core.leader();
        match (origin, leader, admin) {
            (_, _, AdminRequest::ChangeMembership(changes)) if self.core.is_leader() => {
                self.try_change(&changes)
            }
            (_, _, AdminRequest::TransferLeadership(to)) if self.core.is_leader() => {
                self.try_transfer(key, to)
            }
            (Origin::Peer { .. }, ..) => {
                AdminAttempt::Ended(Outcome::Refused(Refusal::NotLeader { leader }))
            }
            (Origin::Local(_), Some(leader), admin) if self.links.contains(&leader) => {
                let message = PeerMessage::ForwardAdmin { request: self.number_of(key), admin };
                self.effects.push_back(Effect::Send { to: leader, message });
                AdminAttempt::Started(AdminStage::Forwarded { to: leader })
            }
            (Origin::Local(_), ..) => AdminAttempt::Deferred { obstacle: None },
        }
    }

    fn try_change(&mut self, changes: &[MemberChange]) -> AdminAttempt {
        let changes = match self.with_feature_levels(changes) {
            Ok(changes) => changes,
            Err(unknown) => return AdminAttempt::Deferred { obstacle: Some(unknown) },
        };
        match self.core.change_membership(self.now, &changes) {
            Ok(place) => AdminAttempt::Started(AdminStage::Changing {
                index: place.last,
                term: place.term,
                is_committed: false,
            }),
            Err(error) => {
                let is_final = !is_transient(&error);
                let declined = Refusal::Declined { reason: error.to_string(), is_final };
                if is_final {
                    AdminAttempt::Ended(Outcome::Refused(declined))
                } else {
                    AdminAttempt::Deferred { obstacle: Some(declined) }
                }
            }
        }
    }

    fn try_transfer(&mut self, key: RequestKey, to: Option<NodeId>) -> AdminAttempt {
        let term = self.core.term();
        match self.core.transfer_leadership(self.now, to) {
            Ok(()) => {
                let to = self.core.transfer_target().expect("a transfer is in progress");
                let reason = format!("the transfer was replaced by one to node {to}");
                self.end_transfers(
                    key,
                    &Outcome::Refused(Refusal::Declined { reason, is_final: true }),
                );
                AdminAttempt::Started(AdminStage::Transferring { term, to })
            }
            Err(error) => {
                let is_final = !matches!(error, core::TransferError::NotLeader { .. });
                let declined = Refusal::Declined { reason: error.to_string(), is_final };
                AdminAttempt::Ended(Outcome::Refused(declined))
            }
        }
    }

    /// Ends all transfers in progress except `except`.
    fn end_transfers(&mut self, except: RequestKey, outcome: &Outcome) {
        let in_progress = self
            .admin_requests
            .keys_where(|stage| matches!(stage, AdminStage::Transferring { .. }));
        for key in in_progress.into_iter().filter(|&key| key != except) {
            self.finish(key, outcome.clone());
        }
    }

    /// Answers the changes that these committed entries complete.
    pub(super) fn complete_admin_requests(&mut self, entries: &Entries) {
        if self.admin_requests.pending.is_empty() {
            return;
        }
        for entry in entries {
            let ended = self.admin_requests.pending.iter_mut().filter_map(|pending| {
                let outcome = outcome_if_committed(&mut pending.stage, entry)?;
                Some((pending.key, outcome))
            });
            for (key, outcome) in ended.collect::<Vec<_>>() {
                self.finish(key, outcome);
            }
        }
    }

    /// Resolves changes whose part of the log was replaced by a leader's snapshot.
    pub(super) fn resolve_admin_requests(&mut self, meta: &SnapshotMeta) {
        let is_joint = meta.configuration.is_joint();
        let ended =
            self.admin_requests.pending.iter().filter_map(|PendingAdmin { key, stage, .. }| {
                match *stage {
                    AdminStage::Changing { index, is_committed: true, .. }
                        if index <= meta.index && !is_joint =>
                    {
                        Some((*key, completed_at(index)))
                    }
                    AdminStage::Changing { index, is_committed: false, .. }
                        if index <= meta.index =>
                    {
                        Some((*key, Outcome::Unknown(Doubt::LogReplaced)))
                    }
                    AdminStage::Changing { term, is_committed: false, .. } if term < meta.term => {
                        Some((*key, Outcome::Refused(Refusal::Superseded)))
                    }
                    _ => None,
                }
            });
        for (key, outcome) in ended.collect::<Vec<_>>() {
            self.finish(key, outcome);
        }
    }

    /// Ends transfers by this event of the core: a new leader, or a failed transfer.
    pub(super) fn update_transfers(&mut self, event: &core::Event) {
        match *event {
            core::Event::LeadershipChanged { leader: Some(leader), term, .. } => {
                let ended = self.admin_requests.pending.iter().filter_map(|pending| match pending
                    .stage
                {
                    AdminStage::Transferring { term: begun, to } if term > begun => {
                        let reason = format!("node {leader} leads now, not node {to}");
                        let missed =
                            Outcome::Refused(Refusal::Declined { reason, is_final: false });
                        Some((pending.key, if leader == to { completed_at(None) } else { missed }))
                    }
                    _ => None,
                });
                for (key, outcome) in ended.collect::<Vec<_>>() {
                    self.finish(key, outcome);
                }
            }
            core::Event::TransferFailed { to } => {
                let reason = format!("node {to} has not taken over in time; this node leads on");
                let declined = Refusal::Declined { reason, is_final: false };
                for key in self
                    .admin_requests
                    .keys_where(|stage| matches!(stage, AdminStage::Transferring { .. }))
                {
                    self.finish(key, Outcome::Refused(declined.clone()));
                }
            }
            _ => {}
        }
    }

    /// The leader has answered a forwarded admin request.
    pub(super) fn handle_forwarded_admin(
        &mut self,
        from: NodeId,
        key: RequestKey,
        outcome: Outcome,
    ) {
        let is_same = |pending: &PendingAdmin| {
            pending.key == key && pending.stage == AdminStage::Forwarded { to: from }
        };
        if self
            .requests
            .get(key)
            .is_some_and(|pending| pending.stage == RequestStage::Administering)
            && self.admin_requests.pending.iter().any(is_same)
        {
            self.finish(key, outcome);
        }
    }
}

/// The answer to a complete request; a membership change has the index of its configuration.
fn completed_at(index: impl Into<Option<Index>>) -> Outcome {
    Outcome::Answer(Answer::new("", index))
}

/// The outcome of a membership change, if this committed entry decides it.
fn outcome_if_committed(stage: &mut AdminStage, entry: &Entry) -> Option<Outcome> {
    let AdminStage::Changing { index, term, is_committed } = stage else { return None };
    if !*is_committed && entry.term > *term {
        // Terms never decrease along a log, so an entry of an earlier term can no longer be
        // committed.
        return Some(Outcome::Refused(Refusal::Superseded));
    }
    *is_committed |= (entry.index, entry.term) == (*index, *term);
    let Payload::Configuration(configuration) = &entry.payload else { return None };
    (*is_committed && entry.index >= *index && !configuration.is_joint())
        .then(|| completed_at(entry.index))
}

/// Whether the obstacle passes without an operator.
fn is_transient(error: &ChangeError) -> bool {
    matches!(
        error,
        ChangeError::NotLeader { .. }
            | ChangeError::TermNotCommitted
            | ChangeError::Pending { .. }
            | ChangeError::Joint { .. }
            | ChangeError::Transferring { .. }
            | ChangeError::LearnerBehind { .. }
            | ChangeError::LearnerSilent { .. }
            | ChangeError::NoQuorum { .. }
    )
}
