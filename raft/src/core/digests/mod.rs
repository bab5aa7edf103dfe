//! Digests of the replicated state: whether all members have made the same of the same entries.
//!
//! Every node takes a digest of its state after the same entries. Followers report theirs to the
//! leader, the leader tells all members all values, and each node judges itself:
//!
//! ```text
//!  node 1   leader, digest 7 after 100 ----> StateDigests { 1: 7, 2: 7, 3: 9 } ---> agreed
//!  node 2   StateDigest 7 -------^                          '---> node 2: agreed
//!  node 3   StateDigest 9 -------^                          '---> node 3: outvoted, it stops
//! ```
//!
//! A node stops only if a majority of the voters reported one equal value of its own version, and
//! its own differs. Differing values without a majority are reported at every node, and stop none.
//!
//! A follower repeats what the leader has not confirmed, with each round that it answers; a leader
//! repeats differing values with each round that it begins. So a lost message, or a new leader,
//! delays the comparison by a heartbeat. What is kept is the last [`DIGESTS_KEPT`] digests.

mod comparison;
mod seeding;

use std::collections::{BTreeMap, BTreeSet};

use crate::types::{Body, Digest, Divergence, Index, NodeId, Now, Term};

use super::{Action, Core, Event, RoleState};
pub use comparison::DigestConflict;
use comparison::{Reported, conflict, majority, may_resolve, outvoted, outvoted_by};
pub(super) use seeding::Seeding;

/// The number of digests kept, of the latest entries: nodes apply at different paces.
const DIGESTS_KEPT: usize = 2;

/// What a core knows of digests.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Digests {
    /// This node's.
    own: BTreeMap<Index, Digest>,
    /// Of these the leader of `leader_term` has not said that it has them.
    unconfirmed: BTreeSet<Index>,
    leader_term: Term,
    /// The latest round with which the unconfirmed ones were sent; 0 if they are to be sent now.
    sent_round: u64,
    /// A leader's: what the members have reported.
    reported: BTreeMap<Index, Reported>,
    /// What the leader said last.
    last_table: Reported,
    /// A majority has this node's digest of this entry.
    agreed: Option<Digest>,
    /// Members differ after this entry, and no majority says which of them is wrong.
    conflict: Option<(Index, DigestConflict)>,
    /// A leader's: members that a majority outvoted, with their digests.
    outvoted: BTreeMap<NodeId, Digest>,
    /// A majority has outvoted this node.
    pub(super) divergence: Option<Divergence>,
    /// It waits for a leader's snapshot to take the place of its state.
    pub(super) seeding: Seeding,
}

/// What a member's digest brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Recorded {
    New,
    Known,
    /// It is older than the digests that are kept.
    TooOld,
}

/// Whether the same values were compared before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Repetition {
    First,
    Repeated,
}

/// What a node knows of the digests of the replicated state.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct DigestStatus {
    /// This node's latest digest.
    pub latest: Option<Digest>,
    /// This node's latest digest that a majority of the voters has, too.
    pub agreed: Option<Digest>,
    /// Members differ, and no majority says which of them is wrong.
    pub conflict: Option<DigestConflict>,
    /// A majority of the voters differs from this node.
    pub divergence: Option<Divergence>,
    /// What a leader knows of others: members that differ from a majority, with their digests.
    pub outvoted: BTreeMap<NodeId, Digest>,
}

impl Digests {
    pub(super) fn status(&self) -> DigestStatus {
        DigestStatus {
            latest: self.own.values().next_back().copied(),
            agreed: self.agreed,
            conflict: self.conflict.map(|(_, conflict)| conflict),
            divergence: self.divergence,
            outvoted: self.outvoted.clone(),
        }
    }

    /// Takes note of a member's digest.
    fn record(&mut self, from: NodeId, digest: Digest) -> Recorded {
        let before = self.reported.entry(digest.index).or_default().insert(from, digest);
        while self.reported.len() > DIGESTS_KEPT {
            self.reported.pop_first();
        }
        match self.reported.contains_key(&digest.index) {
            false => Recorded::TooOld,
            true if before == Some(digest) => Recorded::Known,
            true => Recorded::New,
        }
    }

    fn agree(&mut self, digest: Digest) {
        if self.agreed.is_none_or(|agreed| agreed.index <= digest.index) {
            self.agreed = Some(digest);
        }
    }
}

impl Core {
    /// The state machine has taken a digest. All nodes must take them after the same entries. Below
    /// feature level 2 nothing is said: other members may not know the message.
    pub fn note_digest(&mut self, now: Now, digest: Digest) {
        self.begin(now);
        if !self.log.configuration().feature_level.is_above_base() || digest.index == Index(0) {
            return;
        }
        let digests = &mut self.digests;
        digests.own.insert(digest.index, digest);
        digests.unconfirmed.insert(digest.index);
        digests.sent_round = 0;
        while digests.own.len() > DIGESTS_KEPT {
            digests.own.pop_first();
        }
        if self.is_leader() {
            self.record_digest(self.config.id, digest);
        }
    }

    /// A leader begins with its own digests; the members repeat theirs.
    pub(super) fn begin_digests(&mut self) {
        self.digests.reported.clear();
        self.digests.outvoted.clear();
        for digest in self.digests.own.values().copied().collect::<Vec<_>>() {
            self.digests.record(self.config.id, digest);
        }
    }

    /// With an answer to a round, or as soon as a digest was taken: what the leader may not have.
    pub(super) fn send_digests(&mut self) {
        let digests = &mut self.digests;
        let Some(leader) = self.leader.filter(|&leader| leader != self.config.id) else { return };
        if digests.leader_term != self.term {
            (digests.leader_term, digests.sent_round) = (self.term, 0);
            digests.unconfirmed = digests.own.keys().copied().collect();
        }
        let round = self.following.round();
        if digests.unconfirmed.is_empty() || round <= digests.sent_round {
            return;
        }
        digests.sent_round = round;
        let unconfirmed: Vec<Digest> = digests
            .own
            .values()
            .filter(|own| digests.unconfirmed.contains(&own.index))
            .copied()
            .collect();
        for digest in unconfirmed {
            self.send(leader, Body::StateDigest(digest));
        }
    }

    /// A member reports its digest.
    pub(super) fn handle_state_digest(&mut self, from: NodeId, digest: Digest) {
        let RoleState::Leader(leading) = &self.state else { return self.ignore() };
        let is_possible = digest.index > Index(0) && digest.index <= self.log.last_index();
        if !leading.progress.contains_key(&from) || !is_possible {
            return self.ignore();
        }
        self.note_reseeded(from, digest);
        if self.record_digest(from, digest) {
            return;
        }
        // Its sender learns that it has arrived.
        let reported = self.digests.reported.get(&digest.index).cloned();
        let reported = reported.unwrap_or_else(|| [(from, digest)].into());
        self.send(from, Body::StateDigests(Box::new(reported)));
    }

    /// Takes in a digest at the leader: of a member, or its own. Returns whether all values were
    /// sent to all members.
    fn record_digest(&mut self, from: NodeId, digest: Digest) -> bool {
        if self.digests.record(from, digest) != Recorded::New {
            return false;
        }
        let Some(reported) = self.digests.reported.get(&digest.index).cloned() else {
            return false;
        };
        let RoleState::Leader(leading) = &self.state else { return false };
        let is_complete = leading.progress.keys().all(|node| reported.contains_key(node));
        let configuration = self.log.configuration();
        let has_majority = majority(configuration, &reported, digest.version).is_some();
        self.compare_reported(&reported, Repetition::First);
        // Also while values differ: the next report may decide between them.
        let is_sent = is_complete || has_majority || self.has_difference(&reported);
        if is_sent {
            self.send_digest_table(digest.index);
        }
        is_sent
    }

    fn has_difference(&self, reported: &Reported) -> bool {
        let configuration = self.log.configuration();
        !outvoted(configuration, reported).is_empty() || conflict(configuration, reported).is_some()
    }

    /// With each round of a leader, while values differ.
    pub(super) fn repeat_digests(&mut self) {
        let differing =
            self.digests.reported.iter().filter(|(_, reported)| self.has_difference(reported));
        for (index, reported) in
            differing.map(|(&index, reported)| (index, reported.clone())).collect::<Vec<_>>()
        {
            self.compare_reported(&reported, Repetition::Repeated);
            self.send_digest_table(index);
        }
    }

    /// Sends every member all values after this entry.
    fn send_digest_table(&mut self, index: Index) {
        let RoleState::Leader(leading) = &self.state else { return };
        let Some(reported) = self.digests.reported.get(&index) else { return };
        let (reported, members) = (Box::new(reported.clone()), leading.progress.keys().copied());
        for to in members.collect::<Vec<_>>() {
            self.send(to, Body::StateDigests(reported.clone()));
        }
    }

    /// The leader has sent all values after one entry.
    pub(super) fn handle_state_digests(&mut self, from: NodeId, reported: Reported) {
        let Some(index) = reported.values().next().map(|digest| digest.index) else {
            return self.ignore();
        };
        let is_of_one_entry = reported.values().all(|digest| digest.index == index);
        if self.leader != Some(from) || self.is_leader() || !is_of_one_entry || index == Index(0) {
            return self.ignore();
        }
        let digests = &mut self.digests;
        let own = digests.own.get(&index);
        if own.is_some() && own == reported.get(&self.config.id) && digests.leader_term == self.term
        {
            digests.unconfirmed.remove(&index);
        }
        let repetition = match digests.last_table == reported {
            true => Repetition::Repeated,
            false => Repetition::First,
        };
        digests.last_table = reported.clone();
        self.compare_reported(&reported, repetition);
    }

    /// Judges what is reported after one entry. A difference that other voters may still decide is
    /// reported once their answers have had the time of a heartbeat.
    fn compare_reported(&mut self, reported: &Reported, repetition: Repetition) {
        let Some(index) = reported.values().next().map(|digest| digest.index) else { return };
        let configuration = self.log.configuration().clone();
        if self.is_leader() {
            self.compare_others(reported);
        }
        self.compare_own(index, reported);
        match conflict(&configuration, reported) {
            Some(conflict) => {
                let is_said = self.digests.conflict.is_some_and(|(said, _)| said >= index);
                let may_resolve = may_resolve(&configuration, reported, conflict.digest.version);
                if !is_said && (repetition == Repetition::Repeated || !may_resolve) {
                    self.digests.conflict = Some((index, conflict));
                    self.actions.push_back(Action::Event(Event::StatesDiffer(conflict)));
                }
            }
            None => {
                let has_majority = reported
                    .values()
                    .any(|d| majority(&configuration, reported, d.version).is_some());
                self.digests.conflict.take_if(|(said, _)| has_majority && *said <= index);
            }
        }
    }

    /// Whether a majority has what this node has. A state that is on its way out is not judged: the
    /// state machine restores a snapshot.
    fn compare_own(&mut self, index: Index, reported: &Reported) {
        let Some(&own) = self.digests.own.get(&index) else { return };
        let is_restoring = self.log.applied() < self.log.snapshot_index();
        if is_restoring || self.digests.divergence.is_some() {
            return;
        }
        let configuration = self.log.configuration();
        if let Some(majority) = outvoted_by(configuration, reported, own) {
            let agreed = self.digests.agreed.map_or(Index(0), |agreed| agreed.index);
            let divergence = Divergence { digest: own, majority, agreed };
            self.digests.divergence = Some(divergence);
            self.actions.push_back(Action::Event(Event::StateDiverged(divergence)));
        } else if majority(configuration, reported, own.version) == Some(own.value) {
            self.digests.agree(own);
        }
    }

    /// Which of the others a majority outvotes now, and which it no longer outvotes.
    fn compare_others(&mut self, reported: &Reported) {
        let configuration = self.log.configuration();
        for (&node, &digest) in reported.iter().filter(|(node, _)| **node != self.config.id) {
            let known = self.digests.outvoted.get(&node).copied();
            match outvoted_by(configuration, reported, digest) {
                Some(majority) if known.is_none_or(|known| known.index < digest.index) => {
                    self.digests.outvoted.insert(node, digest);
                    if known.is_none() {
                        let event = Event::PeerDiverged { node, digest, majority };
                        self.actions.push_back(Action::Event(event));
                    }
                }
                Some(_) => {}
                None if majority(configuration, reported, digest.version).is_some() => {
                    self.digests
                        .outvoted
                        .retain(|other, known| *other != node || known.index > digest.index);
                }
                None => {}
            }
        }
    }

    /// A majority of the voters differs from this node's state, and nothing has taken its place.
    #[must_use]
    pub fn divergence(&self) -> Option<Divergence> {
        self.digests.divergence
    }

    /// The state machine has the state of a snapshot now: what was found of the one before is over.
    pub fn end_divergence(&mut self, now: Now) {
        self.begin(now);
        self.digests.divergence = None;
        self.digests.seeding = Seeding::default();
    }
}
