//! How one configuration becomes another (§4.1, §4.3).
//!
//! ```text
//!  voters 1 2 3 -> 1 2 3 4      one voter more or less: any two majorities have a node in common,
//!                               so one step is enough
//!  voters 1 2 3 -> 1 2 4        more than that: 1 2 may decide here and 3 4 there. So a joint
//!                               configuration comes between, in which voters {1 2 4} and
//!                               outgoing {1 2 3} must both agree
//! ```

use std::collections::BTreeMap;

use thiserror::Error;

use super::{
    ADDRESS_BYTES_MAX, Configuration, DiskId, FeatureLevel, Index, MEMBERS_MAX, Member, NodeId,
};

/// A change to one member. Several make one change of configuration. They are checked in their
/// order: the removal of a member makes room for another at its address.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum MemberChange {
    /// A new node receives the log.
    AddLearner {
        /// Its id, higher than any that a member ever had.
        node: NodeId,
        /// Its disk, which must be known, its address and its priority.
        member: Member,
    },
    /// A learner votes from now on.
    Promote(NodeId),
    /// A voter becomes a learner.
    Demote(NodeId),
    /// A member leaves. Its id is never used again.
    Remove(NodeId),
    /// What is known of a member changes; `None` leaves it as it is.
    Update {
        /// Which member.
        node: NodeId,
        /// Its disk. One that is known never changes: a node with another disk has forgotten its
        /// promises.
        disk: Option<DiskId>,
        /// Its address.
        address: Option<String>,
        /// Its priority.
        priority: Option<u8>,
        /// The feature level that it supports.
        feature_level: Option<FeatureLevel>,
    },
    /// The cluster may use what this feature level brings; each member must support it.
    EnableFeatures(FeatureLevel),
}

impl MemberChange {
    /// The member that it is about; `None` if it is about the whole cluster.
    #[must_use]
    pub fn node(&self) -> Option<NodeId> {
        match *self {
            MemberChange::AddLearner { node, .. } | MemberChange::Update { node, .. } => Some(node),
            MemberChange::Promote(node)
            | MemberChange::Demote(node)
            | MemberChange::Remove(node) => Some(node),
            MemberChange::EnableFeatures(_) => None,
        }
    }
}

/// What to do where this node does not lead, for errors.
pub(crate) fn ask_leader(leader: Option<NodeId>) -> String {
    match leader {
        Some(node) => format!("ask node {node}, which does"),
        None => "no leader is known, try again after the election".to_owned(),
    }
}

/// Why the membership was not changed. Nothing has happened then.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ChangeError {
    /// Only a leader changes the membership.
    #[error("this node does not lead; {}", ask_leader(*leader))]
    NotLeader {
        /// The leader, as far as this node knows.
        leader: Option<NodeId>,
    },
    /// The leader has not committed an entry of its own term yet (Ongaro, "bug in single-server
    /// membership changes", 2015).
    #[error("the leader has not committed an entry of its own term yet; try again in a moment")]
    TermNotCommitted,
    /// One change at a time (§4.1).
    #[error("the change at entry {index} is not committed yet; try again when it is")]
    Pending {
        /// The entry that is waited for.
        index: Index,
    },
    /// A joint configuration has not been left yet (§4.3).
    #[error("the joint configuration at entry {index} is still being left; try again in a moment")]
    Joint {
        /// The entry that brought it; 0 if it was not asked for.
        index: Index,
    },
    /// Leadership is being transferred.
    #[error(
        "leadership is on its way to node {to}; try again when it leads, or when the transfer has \
        failed"
    )]
    Transferring {
        /// The next leader.
        to: NodeId,
    },
    /// No voter would be left.
    #[error("no voter would be left; promote another member first")]
    NoVoters,
    /// There is no such member.
    #[error("node {node} is not a member; look at the list of members")]
    UnknownNode {
        /// The node.
        node: NodeId,
    },
    /// The id was used before, or was passed over.
    #[error(
        "a new member's id must be above {highest_id}, the highest that any member ever had, but \
        {node} was chosen"
    )]
    IdUsed {
        /// The id that was chosen.
        node: NodeId,
        /// The highest that any member ever had.
        highest_id: NodeId,
    },
    /// The new member's disk is missing.
    #[error(
        "the disk of node {node} is 0, which means unknown; give the id that its data folder was \
        made with"
    )]
    DiskUnknown {
        /// The new member.
        node: NodeId,
    },
    /// The member has another disk, which never changes.
    #[error(
        "node {node} has disk {known}; a node on another disk has forgotten its promises: add it \
        with a new id, and \
         remove node {node}"
    )]
    DiskKnown {
        /// The member.
        node: NodeId,
        /// Its disk.
        known: DiskId,
    },
    /// Another member has this disk.
    #[error("disk {disk} is that of node {owner}; each member needs a data folder of its own")]
    DiskInUse {
        /// The disk.
        disk: DiskId,
        /// The member that has it.
        owner: NodeId,
    },
    /// Another member has this address.
    #[error(
        "address {address} is that of node {owner}; choose another, or remove or update node \
        {owner} first"
    )]
    AddressInUse {
        /// The address.
        address: String,
        /// The member that has it.
        owner: NodeId,
    },
    /// The address is too long.
    #[error("an address of {bytes} bytes exceeds ADDRESS_BYTES_MAX ({ADDRESS_BYTES_MAX})")]
    AddressTooLong {
        /// Its length.
        bytes: usize,
    },
    /// Too many members.
    #[error("{members} members would exceed MEMBERS_MAX ({MEMBERS_MAX}); remove one first")]
    TooManyMembers {
        /// How many there would be.
        members: usize,
    },
    /// The learner lacks too many entries: as a voter it would make the cluster wait (§4.2.1).
    #[error(
        "node {node} lacks {lag} entries, more than Config::promotion_lag ({limit}); try again \
        when it has caught up"
    )]
    LearnerBehind {
        /// The learner.
        node: NodeId,
        /// How many entries it lacks.
        lag: u64,
        /// How many it may lack.
        limit: u64,
    },
    /// The learner does not answer.
    #[error(
        "node {node} has not answered for an election timeout; start it, or look at its link, and \
        try again"
    )]
    LearnerSilent {
        /// The learner.
        node: NodeId,
    },
    /// The voters that would be left could not decide, not even to undo this change.
    #[error(
        "of the voters that this would leave, too few have answered within an election timeout: \
        {silent:?} are silent; start \
         them, or remove them first"
    )]
    NoQuorum {
        /// Those that would vote and do not answer.
        silent: Vec<NodeId>,
    },
    /// A member does not support the feature level.
    #[error(
        "node {node} supports feature level {supported}, and the cluster would use level {level}: \
        run a newer version \
         on node {node} first"
    )]
    FeatureLevelTooHigh {
        /// The member.
        node: NodeId,
        /// The feature level that it supports.
        supported: FeatureLevel,
        /// The level that the cluster uses, or would use.
        level: FeatureLevel,
    },
    /// The level asked for is below the active one, which never falls.
    #[error(
        "the cluster uses feature level {active} already, and levels are never lowered (asked \
        for: {level})"
    )]
    FeatureLevelLowered {
        /// The active level.
        active: FeatureLevel,
        /// The level asked for.
        level: FeatureLevel,
    },
    /// One of the changes would change nothing. (For example, promoting a voter while removing
    /// another would cost a vote.)
    #[error(
        "nothing would change, or not all of what is asked for: a part of it is so already; look \
        at the list of members"
    )]
    NothingChanges,
}

impl Configuration {
    /// The configuration that these changes, all at once, make of this one; a joint one if they
    /// change more than one vote. Each must change something.
    ///
    /// # Errors
    /// Says which change is not possible, and why; or that this configuration is joint, and must be
    /// left first.
    ///
    /// ```
    /// use kodiak_raft::types::{Configuration, DiskId, Member, MemberChange, NodeId};
    ///
    /// let initial_members = [1, 2, 3].map(|id| (NodeId(id), Member::default()));
    /// let member = Member { disk: DiskId(7), address: "host:4".into(), ..Member::default() };
    /// let add = MemberChange::AddLearner { node: NodeId(4), member };
    /// let with_learner = Configuration::of_voters(initial_members).changed(&[add])?;
    /// // Node 3 is replaced: two votes change, so both halves decide until the joint configuration
    /// // is left.
    /// let replace = [MemberChange::Promote(NodeId(4)), MemberChange::Remove(NodeId(3))];
    /// let joint = with_learner.changed(&replace)?;
    /// assert!(joint.is_joint() && !joint.left().is_joint());
    /// assert!(!joint.left().members.contains_key(&NodeId(3)));
    /// # Ok::<(), kodiak_raft::types::ChangeError>(())
    /// ```
    pub fn changed(&self, changes: &[MemberChange]) -> Result<Configuration, ChangeError> {
        if self.is_joint() {
            return Err(ChangeError::Joint { index: Index(0) });
        }
        let mut next = self.clone();
        for change in changes {
            let before = next.clone();
            next.change(change)?;
            if next == before {
                return Err(ChangeError::NothingChanges);
            }
        }
        if next == *self {
            return Err(ChangeError::NothingChanges);
        }
        if next.voters.is_empty() {
            return Err(ChangeError::NoVoters);
        }
        if next.voters.symmetric_difference(&self.voters).count() > 1 {
            next.outgoing = self.voters.clone();
            // A leaving member still has a vote, and so an address.
            for (&node, member) in
                self.members.iter().filter(|(node, _)| self.voters.contains(node))
            {
                next.members.entry(node).or_insert_with(|| member.clone());
            }
        }
        let members = next.members.len();
        if members > MEMBERS_MAX {
            return Err(ChangeError::TooManyMembers { members });
        }
        next.check_feature_levels()?;
        Ok(next)
    }

    fn change(&mut self, change: &MemberChange) -> Result<(), ChangeError> {
        let Some(node) = change.node() else { return self.change_cluster(change) };
        if !matches!(change, MemberChange::AddLearner { .. }) && !self.members.contains_key(&node) {
            return Err(ChangeError::UnknownNode { node });
        }
        match change {
            MemberChange::AddLearner { member, .. } => self.add_learner(node, member)?,
            MemberChange::Promote(_) => {
                self.learners.remove(&node);
                self.voters.insert(node);
            }
            MemberChange::Demote(_) => {
                self.voters.remove(&node);
                self.learners.insert(node);
            }
            MemberChange::Remove(_) => {
                self.voters.remove(&node);
                self.learners.remove(&node);
                self.members.remove(&node);
            }
            MemberChange::Update { disk, address, priority, feature_level, .. } => {
                let known = self.members[&node].disk;
                if known != DiskId(0) && disk.is_some_and(|disk| disk != known) {
                    return Err(ChangeError::DiskKnown { node, known });
                }
                let disk = disk.unwrap_or(known);
                self.check_disk(node, disk)?;
                if let Some(address) = address {
                    self.check_address(node, address)?;
                }
                let member = self.members.entry(node).or_default();
                member.disk = disk;
                member.priority = priority.unwrap_or(member.priority);
                member.feature_level = feature_level.unwrap_or(member.feature_level);
                if let Some(address) = address {
                    member.address.clone_from(address);
                }
            }
            MemberChange::EnableFeatures(_) => {}
        }
        Ok(())
    }

    fn change_cluster(&mut self, change: &MemberChange) -> Result<(), ChangeError> {
        if let &MemberChange::EnableFeatures(level) = change {
            let active = self.feature_level;
            if level < active {
                return Err(ChangeError::FeatureLevelLowered { active, level });
            }
            self.feature_level = level;
        }
        Ok(())
    }

    /// Checks that no member's level is below the active one, and that none is recorded while that
    /// is the base level: nodes of that level could not read it.
    fn check_feature_levels(&mut self) -> Result<(), ChangeError> {
        let level = self.feature_level;
        for (&node, member) in &mut self.members {
            let supported = member.feature_level;
            if supported < level {
                return Err(ChangeError::FeatureLevelTooHigh { node, supported, level });
            }
            if !level.is_above_base() {
                member.feature_level = FeatureLevel::BASE;
            }
        }
        Ok(())
    }

    fn add_learner(&mut self, node: NodeId, member: &Member) -> Result<(), ChangeError> {
        let highest_id = self.highest_id;
        if node <= highest_id {
            return Err(ChangeError::IdUsed { node, highest_id });
        }
        if member.disk == DiskId(0) {
            return Err(ChangeError::DiskUnknown { node });
        }
        self.check_disk(node, member.disk)?;
        self.check_address(node, &member.address)?;
        self.highest_id = node;
        self.learners.insert(node);
        self.members.insert(node, member.clone());
        Ok(())
    }

    fn other(&self, node: NodeId, is_like: impl Fn(&Member) -> bool) -> Option<NodeId> {
        others(&self.members, node).find(|(_, member)| is_like(member)).map(|(owner, _)| owner)
    }

    fn check_disk(&self, node: NodeId, disk: DiskId) -> Result<(), ChangeError> {
        match self.other(node, |member| disk != DiskId(0) && member.disk == disk) {
            Some(owner) => Err(ChangeError::DiskInUse { disk, owner }),
            None => Ok(()),
        }
    }

    /// Addresses may be empty where the driver needs none.
    fn check_address(&self, node: NodeId, address: &str) -> Result<(), ChangeError> {
        let bytes = address.len();
        if bytes > ADDRESS_BYTES_MAX {
            return Err(ChangeError::AddressTooLong { bytes });
        }
        match self.other(node, |member| !address.is_empty() && member.address == address) {
            Some(owner) => Err(ChangeError::AddressInUse { address: address.to_owned(), owner }),
            None => Ok(()),
        }
    }
}

fn others(
    members: &BTreeMap<NodeId, Member>,
    node: NodeId,
) -> impl Iterator<Item = (NodeId, &Member)> {
    members.iter().filter(move |&(&other, _)| other != node).map(|(&other, member)| (other, member))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn member(number: u64) -> Member {
        Member {
            disk: DiskId(number.into()),
            address: format!("host:{number}"),
            ..Member::default()
        }
    }

    fn initial_members(count: u64) -> Configuration {
        Configuration::of_voters((1..=count).map(|node| (NodeId(node), member(node))))
    }

    fn add(node: u64) -> MemberChange {
        MemberChange::AddLearner { node: NodeId(node), member: member(node) }
    }

    /// Every set of nodes out of 1 to 9 that can decide in this configuration, as bits.
    fn quorums(configuration: &Configuration) -> Vec<u32> {
        let bits = |set: &BTreeSet<NodeId>| set.iter().map(|node| 1u32 << node.0).sum::<u32>();
        let (voters, outgoing) = (bits(&configuration.voters), bits(&configuration.outgoing));
        let decides =
            |set: u32, half: u32| half == 0 || (set & half).count_ones() * 2 > half.count_ones();
        (0..1u32 << 10)
            .filter(|&set| {
                set & !(voters | outgoing) == 0 && decides(set, voters) && decides(set, outgoing)
            })
            .collect()
    }

    fn always_overlap(one: &Configuration, other: &Configuration) -> bool {
        let others = quorums(other);
        quorums(one).iter().all(|set| others.iter().all(|other| set & other != 0))
    }

    fn change() -> impl Strategy<Value = MemberChange> {
        let node = || (1u64..=9).prop_map(NodeId);
        prop_oneof![
            3 => (1u64..=9).prop_map(add),
            3 => node().prop_map(MemberChange::Promote),
            2 => node().prop_map(MemberChange::Demote),
            2 => node().prop_map(MemberChange::Remove),
            1 => (node(), any::<u8>()).prop_map(|(node, priority)| MemberChange::Update {
                node,
                disk: None,
                address: None,
                priority: Some(priority),
                feature_level: None,
            }),
        ]
    }

    proptest! {
        #[test]
        fn quorums_of_successive_configurations_always_overlap(
            count in 1u64..=5,
            lists in prop::collection::vec(prop::collection::vec(change(), 1..5), 1..8),
        ) {
            let mut configuration = initial_members(count);
            for changes in lists {
                let Ok(next) = configuration.changed(&changes) else { continue };
                prop_assert!(always_overlap(&configuration, &next), "{:?} and \
                    {:?}", configuration, next);
                prop_assert!(next.highest_id >= configuration.highest_id);
                let old = &configuration.members;
                let fresh = next.members.keys().filter(|node| !old.contains_key(node));
                prop_assert!(fresh.into_iter().all(|&node| node > configuration.highest_id));
                prop_assert!(next.replicas().eq(next.members.keys().copied()), "{:?}", next);
                prop_assert!(next.voters.is_disjoint(&next.learners));
                let left = next.left();
                prop_assert!(always_overlap(&next, &left), "{:?} and {:?}", next, left);
                prop_assert!(!left.is_joint() && !left.voters.is_empty());
                prop_assert!(left.replicas().eq(left.members.keys().copied()), "{:?}", left);
                prop_assert!(!next.is_joint() || next.changed(&[add(99)]).is_err(), "left first");
                configuration = left;
            }
        }
    }

    #[test]
    fn one_vote_is_one_step_and_more_are_joint() {
        let three = initial_members(3);
        let four = three.changed(&[add(4)]).unwrap();
        assert_eq!((four.is_joint(), four.learners.len(), four.highest_id), (false, 1, NodeId(4)));
        let promoted = four.changed(&[MemberChange::Promote(NodeId(4))]).unwrap();
        assert_eq!(
            (promoted.is_joint(), promoted.voters.len(), promoted.learners.len()),
            (false, 4, 0)
        );
        let replaced = four
            .changed(&[MemberChange::Promote(NodeId(4)), MemberChange::Remove(NodeId(3))])
            .unwrap();
        assert_eq!(replaced.outgoing, three.voters);
        assert!(replaced.members.contains_key(&NodeId(3)), "it is still asked for its vote");
        assert!(!replaced.left().members.contains_key(&NodeId(3)));
        let demoted = four
            .changed(&[MemberChange::Promote(NodeId(4)), MemberChange::Demote(NodeId(3))])
            .unwrap();
        assert!(demoted.outgoing.contains(&NodeId(3)) && demoted.learners.contains(&NodeId(3)));
        assert!(demoted.left().learners.contains(&NodeId(3)));
    }

    #[test]
    fn features_are_enabled_once_every_member_supports_them() {
        let level = FeatureLevel(2);
        let three = initial_members(3);
        let enable = MemberChange::EnableFeatures(level);
        let too_high = ChangeError::FeatureLevelTooHigh {
            node: NodeId(1),
            supported: FeatureLevel::BASE,
            level,
        };
        assert_eq!(three.changed(std::slice::from_ref(&enable)), Err(too_high));
        let supports = |node| MemberChange::Update {
            node: NodeId(node),
            disk: None,
            address: None,
            priority: None,
            feature_level: Some(level),
        };
        assert_eq!(
            three.changed(&[supports(2), MemberChange::Demote(NodeId(3))]).unwrap().members
                [&NodeId(2)]
                .feature_level,
            FeatureLevel::BASE,
            "not recorded at the base level"
        );
        let raised = three.changed(&[supports(1), supports(2), supports(3), enable]).unwrap();
        assert_eq!(raised, initial_members(3).at_feature_level(level));
        let lower = ChangeError::FeatureLevelLowered { active: level, level: FeatureLevel::BASE };
        assert_eq!(raised.changed(&[MemberChange::EnableFeatures(FeatureLevel::BASE)]), Err(lower));
        let joins_below = ChangeError::FeatureLevelTooHigh {
            node: NodeId(4),
            supported: FeatureLevel::BASE,
            level,
        };
        assert_eq!(raised.changed(&[add(4)]), Err(joins_below));
    }

    #[test]
    fn what_is_impossible_is_refused_by_name() {
        let three = initial_members(3);
        let refused = |changes: &[MemberChange]| three.changed(changes).unwrap_err();
        let of = |node, member| MemberChange::AddLearner { node: NodeId(node), member };
        let update = |node, disk, address: Option<&str>| MemberChange::Update {
            node: NodeId(node),
            disk,
            address: address.map(Into::into),
            priority: None,
            feature_level: None,
        };
        assert_eq!(refused(&[]), ChangeError::NothingChanges);
        assert_eq!(refused(&[MemberChange::Promote(NodeId(2))]), ChangeError::NothingChanges);
        let in_place_of =
            |new, old| [MemberChange::Promote(NodeId(new)), MemberChange::Remove(NodeId(old))];
        assert_eq!(
            refused(&in_place_of(3, 2)),
            ChangeError::NothingChanges,
            "it would cost a vote"
        );
        assert_eq!(refused(&in_place_of(2, 2)), ChangeError::NothingChanges);
        assert_eq!(
            refused(&[MemberChange::Remove(NodeId(4))]),
            ChangeError::UnknownNode { node: NodeId(4) }
        );
        assert_eq!(
            refused(&[add(3)]),
            ChangeError::IdUsed { node: NodeId(3), highest_id: NodeId(3) }
        );
        assert_eq!(
            refused(&[of(4, Member::default())]),
            ChangeError::DiskUnknown { node: NodeId(4) }
        );
        let on_used_disk = Member { disk: DiskId(2), ..member(4) };
        assert_eq!(
            refused(&[of(4, on_used_disk)]),
            ChangeError::DiskInUse { disk: DiskId(2), owner: NodeId(2) }
        );
        let at_used_address = Member { address: "host:2".into(), ..member(4) };
        let taken = ChangeError::AddressInUse { address: "host:2".into(), owner: NodeId(2) };
        assert_eq!(refused(&[of(4, at_used_address.clone())]), taken);
        three.changed(&[MemberChange::Remove(NodeId(2)), of(4, at_used_address)]).unwrap();
        assert_eq!(
            refused(&[update(1, Some(DiskId(9)), None)]),
            ChangeError::DiskKnown { node: NodeId(1), known: DiskId(1) }
        );
        assert_eq!(refused(&[update(1, None, Some("host:2"))]), taken);
        let long = "h".repeat(256);
        assert_eq!(
            refused(&[update(1, None, Some(&long))]),
            ChangeError::AddressTooLong { bytes: 256 }
        );
        let all: Vec<_> = (1..=3).map(|node| MemberChange::Remove(NodeId(node))).collect();
        assert_eq!(refused(&all), ChangeError::NoVoters);
        let many: Vec<_> = (4..=MEMBERS_MAX as u64 + 1).map(add).collect();
        assert_eq!(refused(&many), ChangeError::TooManyMembers { members: MEMBERS_MAX + 1 });
        three.changed(&many[1..]).unwrap();
        // A removed id stays used, by whichever change it left.
        let gone =
            three.changed(&[add(9)]).unwrap().changed(&[MemberChange::Remove(NodeId(9))]).unwrap();
        assert_eq!(
            gone.changed(&[add(9)]),
            Err(ChangeError::IdUsed { node: NodeId(9), highest_id: NodeId(9) })
        );
        // The initial members' disks become known once, and never change again.
        let unknown = Configuration::of_voters([(NodeId(1), Member::default())]);
        let known = unknown.changed(&[update(1, Some(DiskId(5)), None)]).unwrap();
        assert!(known.changed(&[update(1, Some(DiskId(6)), None)]).is_err());
    }
}
