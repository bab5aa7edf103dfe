//! Changes of membership and transfers of leadership: handed to the leader, tried again while what
//! stands in their way passes by itself, and answered when they are done.
//!
//! ```text
//! submit(Change)   -> waiting -> leads?   in the log -> committed -> joint? left, and that committed -> Answer
//!                                                    -> a later term is committed instead: Refused
//!                             -> follows? handed on  -> the leader's outcome; link broken: Unknown
//! submit(Transfer) -> waiting -> leads?   under way  -> the target leads: Answer
//!                                                    -> given up, replaced, or somebody else leads: Refused
//! ```

use super::requests::{Key, Origin, Stage};
use super::{Answer, Doubt, Effect, Outcome, PeerMessage, Refusal, Replica};
use crate::core;
use crate::types::{
    ChangeError, Entries, Entry, Index, MemberChange, NodeId, Payload, SnapshotMeta, Term,
};

/// What the cluster may be asked to do about itself.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Admin {
    /// Change who belongs to the cluster: all of these together, in one step or in one joint
    /// change. Answered, with no bytes, when the new configuration is committed and, if it was a
    /// joint one, left.
    Change(Vec<MemberChange>),
    /// Hand leadership to this voter, or to the one that suits best. Answered, with no bytes, when
    /// that node leads.
    Transfer(Option<NodeId>),
}

impl Admin {
    /// What it counts for in limits, in bytes.
    #[must_use]
    pub fn size_bytes(&self) -> usize {
        match self {
            Admin::Change(changes) => changes.iter().map(change_bytes).sum(),
            Admin::Transfer(_) => 8,
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

/// How far one has come.
#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    /// Nobody has taken it yet; this is why the leader would not the last time.
    Waiting { why: Option<Refusal> },
    /// The leader was told of it.
    Forwarded { to: NodeId },
    /// The new configuration is in this node's log.
    Changing { index: Index, term: Term, is_committed: bool },
    /// This node, which led in that term, is handing over.
    Transferring { term: Term, to: NodeId },
}

#[derive(Debug)]
struct Pending {
    key: Key,
    admin: Admin,
    state: State,
}

/// Those without an outcome, in the order in which they came. There are few, if any.
#[derive(Debug, Default)]
pub(super) struct Admins {
    pending: Vec<Pending>,
    /// Whether anything has happened since they were last tried.
    may_try: bool,
}

impl Admins {
    pub(super) fn add(&mut self, key: Key, admin: Admin) {
        self.pending.push(Pending { key, admin, state: State::Waiting { why: None } });
        self.may_try = true;
    }

    /// Something has happened: the core may say yes now.
    pub(super) fn wake(&mut self) {
        self.may_try = !self.pending.is_empty();
    }

    pub(super) fn is_empty(&self) -> bool {
        self.pending.is_empty()
    }

    pub(super) fn forget(&mut self, key: Key) {
        self.pending.retain(|pending| pending.key != key);
    }

    /// What it means for one of them to end now, before its time.
    pub(super) fn end_of(&self, key: Key, refusal: Refusal, doubt: Doubt) -> Outcome {
        match self.pending.iter().find(|pending| pending.key == key).map(|pending| &pending.state) {
            Some(State::Waiting { why }) => Outcome::Refused(why.clone().unwrap_or(refusal)),
            Some(State::Forwarded { .. } | State::Changing { .. } | State::Transferring { .. }) => {
                Outcome::Unknown(doubt)
            }
            None => Outcome::Refused(refusal),
        }
    }

    /// Those that nobody has taken yet.
    pub(super) fn waiting(&self) -> Vec<Key> {
        self.that_are(|state| matches!(state, State::Waiting { .. }))
    }

    /// Those that this node was told of.
    pub(super) fn forwarded_to(&self, node: NodeId) -> Vec<Key> {
        self.that_are(|state| *state == State::Forwarded { to: node })
    }

    fn that_are(&self, is_like: impl Fn(&State) -> bool) -> Vec<Key> {
        self.pending
            .iter()
            .filter(|pending| is_like(&pending.state))
            .map(|pending| pending.key)
            .collect()
    }
}

/// What becomes of one that is tried.
enum Tried {
    /// It is under way.
    Goes(State),
    /// Not now.
    Waits(Option<Refusal>),
    Ends(Outcome),
}

impl Replica {
    /// Tries those that wait, if anything has happened since the last time.
    pub(super) fn hand_on_admins(&mut self) {
        if !std::mem::take(&mut self.admins.may_try) {
            return;
        }
        for key in self.admins.waiting() {
            let Some(at) = self.admins.pending.iter().position(|pending| pending.key == key) else {
                continue;
            };
            let Some(origin) = self.requests.get(key).map(|pending| pending.origin) else {
                continue;
            };
            let state = match self.try_admin(at, key, origin) {
                Tried::Goes(state) => state,
                Tried::Waits(why) => State::Waiting { why },
                Tried::Ends(outcome) => {
                    self.finish(key, outcome);
                    continue;
                }
            };
            // Others may have ended by it.
            if let Some(pending) = self.admins.pending.iter_mut().find(|pending| pending.key == key)
            {
                pending.state = state;
            }
        }
    }

    fn try_admin(&mut self, at: usize, key: Key, origin: Origin) -> Tried {
        let admin = self.admins.pending[at].admin.clone();
        let leader = self.core.leader();
        match (origin, leader, admin) {
            (_, _, Admin::Change(changes)) if self.core.is_leader() => self.try_change(&changes),
            (_, _, Admin::Transfer(to)) if self.core.is_leader() => self.try_transfer(key, to),
            (Origin::Peer { .. }, ..) => {
                Tried::Ends(Outcome::Refused(Refusal::NotLeader { leader }))
            }
            (Origin::Local(_), Some(leader), admin) if self.links.contains(&leader) => {
                let message = PeerMessage::ForwardAdmin { request: self.number_of(key), admin };
                self.effects.push_back(Effect::Send { to: leader, message });
                Tried::Goes(State::Forwarded { to: leader })
            }
            (Origin::Local(_), ..) => Tried::Waits(None),
        }
    }

    fn try_change(&mut self, changes: &[MemberChange]) -> Tried {
        let changes = match self.with_feature_levels(changes) {
            Ok(changes) => changes,
            Err(unknown) => return Tried::Waits(Some(unknown)),
        };
        match self.core.change_membership(self.now, &changes) {
            Ok(place) => Tried::Goes(State::Changing {
                index: place.last,
                term: place.term,
                is_committed: false,
            }),
            Err(error) => {
                let is_final = !passes_by_itself(&error);
                let declined = Refusal::Declined { reason: error.to_string(), is_final };
                if is_final {
                    Tried::Ends(Outcome::Refused(declined))
                } else {
                    Tried::Waits(Some(declined))
                }
            }
        }
    }

    fn try_transfer(&mut self, key: Key, to: Option<NodeId>) -> Tried {
        let term = self.core.term();
        match self.core.transfer_leadership(self.now, to) {
            Ok(()) => {
                let to = self.core.transferring().expect("a transfer is under way");
                let reason = format!("the transfer was replaced by one to node {to}");
                self.end_transfers(
                    key,
                    &Outcome::Refused(Refusal::Declined { reason, is_final: true }),
                );
                Tried::Goes(State::Transferring { term, to })
            }
            Err(error) => {
                let is_final = !matches!(error, core::TransferError::NotLeader { .. });
                let declined = Refusal::Declined { reason: error.to_string(), is_final };
                Tried::Ends(Outcome::Refused(declined))
            }
        }
    }

    /// Ends all transfers under way but `except`.
    fn end_transfers(&mut self, except: Key, outcome: &Outcome) {
        let under_way = self.admins.that_are(|state| matches!(state, State::Transferring { .. }));
        for key in under_way.into_iter().filter(|&key| key != except) {
            self.finish(key, outcome.clone());
        }
    }

    /// These are committed: changes that they complete are answered.
    pub(super) fn admins_committed(&mut self, entries: &Entries) {
        if self.admins.pending.is_empty() {
            return;
        }
        for entry in entries {
            let ended = self.admins.pending.iter_mut().filter_map(|pending| {
                let outcome = committed(&mut pending.state, entry)?;
                Some((pending.key, outcome))
            });
            for (key, outcome) in ended.collect::<Vec<_>>() {
                self.finish(key, outcome);
            }
        }
    }

    /// A leader's snapshot stands for the log up to here.
    pub(super) fn admins_overtaken(&mut self, meta: &SnapshotMeta) {
        let is_joint = meta.configuration.is_joint();
        let ended =
            self.admins.pending.iter().filter_map(|Pending { key, state, .. }| match *state {
                State::Changing { index, is_committed: true, .. }
                    if index <= meta.index && !is_joint =>
                {
                    Some((*key, done_at(index)))
                }
                State::Changing { index, is_committed: false, .. } if index <= meta.index => {
                    Some((*key, Outcome::Unknown(Doubt::Overtaken)))
                }
                State::Changing { term, is_committed: false, .. } if term < meta.term => {
                    Some((*key, Outcome::Refused(Refusal::Superseded)))
                }
                _ => None,
            });
        for (key, outcome) in ended.collect::<Vec<_>>() {
            self.finish(key, outcome);
        }
    }

    /// The core has something to say that a transfer may wait for.
    pub(super) fn admins_hear(&mut self, event: &core::Event) {
        match *event {
            core::Event::Changed { leader: Some(leader), term, .. } => {
                let ended = self.admins.pending.iter().filter_map(|pending| match pending.state {
                    State::Transferring { term: begun, to } if term > begun => {
                        let reason = format!("node {leader} leads now, not node {to}");
                        let missed =
                            Outcome::Refused(Refusal::Declined { reason, is_final: false });
                        Some((pending.key, if leader == to { done_at(None) } else { missed }))
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
                for key in self.admins.that_are(|state| matches!(state, State::Transferring { .. }))
                {
                    self.finish(key, Outcome::Refused(declined.clone()));
                }
            }
            _ => {}
        }
    }

    /// The leader has answered.
    pub(super) fn admin_answered(&mut self, from: NodeId, key: Key, outcome: Outcome) {
        let is_its = |pending: &Pending| {
            pending.key == key && pending.state == State::Forwarded { to: from }
        };
        if self.requests.get(key).is_some_and(|pending| pending.stage == Stage::Administering)
            && self.admins.pending.iter().any(is_its)
        {
            self.finish(key, outcome);
        }
    }
}

/// It is done, by the configuration at this index if it is a change of members.
fn done_at(index: impl Into<Option<Index>>) -> Outcome {
    Outcome::Answer(Answer::new("", index))
}

/// What it means for a change that this entry is committed.
fn committed(state: &mut State, entry: &Entry) -> Option<Outcome> {
    let State::Changing { index, term, is_committed } = state else { return None };
    if !*is_committed && entry.term > *term {
        // Terms never fall along a log: what was proposed in an earlier one can never be committed
        // after this.
        return Some(Outcome::Refused(Refusal::Superseded));
    }
    *is_committed |= (entry.index, entry.term) == (*index, *term);
    let Payload::Configuration(configuration) = &entry.payload else { return None };
    (*is_committed && entry.index >= *index && !configuration.is_joint())
        .then(|| done_at(entry.index))
}

/// Whether what stands in the way goes away without anybody's doing.
fn passes_by_itself(error: &ChangeError) -> bool {
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
