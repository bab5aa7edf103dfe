//! The members of the cluster: voters and learners.

use std::collections::{BTreeMap, BTreeSet};

use super::{DiskId, FeatureLevel, NodeId};

/// The most members of a cluster, voters and learners together.
pub const MEMBERS_MAX: usize = 127;

/// The longest address of a member, in bytes.
pub const ADDRESS_BYTES_MAX: usize = 255;

/// What the cluster knows of a member besides its id.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub struct Member {
    /// The member's disk; 0 while it is not known (when the cluster is bootstrapped).
    pub disk: DiskId,
    /// Where its peers reach it, `host:port`; at most [`ADDRESS_BYTES_MAX`].
    pub address: String,
    /// How much it should lead: a leader hands over to a voter that has a higher one and lacks
    /// nothing. 0 unless chosen.
    pub priority: u8,
    /// What the member supports; recorded only in a cluster above the base level.
    pub feature_level: FeatureLevel,
}

/// A configuration of the cluster. While `outgoing` is not empty, it is a joint one (§4.3):
/// decisions need a majority of `voters` and a majority of `outgoing`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub struct Configuration {
    /// Members whose acknowledgements and votes count.
    pub voters: BTreeSet<NodeId>,
    /// The voters of the configuration that is being left; empty unless joint.
    pub outgoing: BTreeSet<NodeId>,
    /// Members that receive the log and do not count. One that is being demoted is in `outgoing`,
    /// too, until the joint configuration is left, and counts there.
    pub learners: BTreeSet<NodeId>,
    /// What is known of each member.
    pub members: BTreeMap<NodeId, Member>,
    /// The highest id that any member ever had. A new member's is above it, so no id is ever used
    /// again, and no list of former ids is needed.
    pub highest_id: NodeId,
    /// What the cluster as a whole may use: no more than each member supports.
    pub feature_level: FeatureLevel,
}

impl Configuration {
    /// A configuration of voters only.
    #[must_use]
    pub fn of_voters(members: impl IntoIterator<Item = (NodeId, Member)>) -> Configuration {
        let members: BTreeMap<NodeId, Member> = members.into_iter().collect();
        let highest_id = members.keys().next_back().copied().unwrap_or_default();
        Configuration {
            voters: members.keys().copied().collect(),
            members,
            highest_id,
            ..Configuration::default()
        }
    }

    /// The same configuration in a cluster whose active feature level is `level`, which all of its
    /// members support: for the first configuration of a new cluster.
    #[must_use]
    pub fn at_feature_level(mut self, level: FeatureLevel) -> Configuration {
        self.feature_level = level;
        self.members.values_mut().for_each(|member| member.feature_level = level);
        self
    }

    /// Whether `node` votes in this configuration, in either half of a joint one.
    #[must_use]
    pub fn is_voter(&self, node: NodeId) -> bool {
        self.voters.contains(&node) || self.outgoing.contains(&node)
    }

    /// Whether two majorities are needed.
    #[must_use]
    pub fn is_joint(&self) -> bool {
        !self.outgoing.is_empty()
    }

    /// All that receive the log: voters, outgoing voters and learners, each once, in order.
    pub fn replicas(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.members
            .keys()
            .copied()
            .filter(|&node| self.is_voter(node) || self.learners.contains(&node))
    }

    /// Whether `node` is no member and never can be: its id was used, or passed over.
    #[must_use]
    pub fn has_removed(&self, node: NodeId) -> bool {
        node <= self.highest_id && !self.members.contains_key(&node)
    }

    /// How much `node` should lead; 0 if it is not a member.
    #[must_use]
    pub fn priority(&self, node: NodeId) -> u8 {
        self.members.get(&node).map_or(0, |member| member.priority)
    }

    /// The configuration that follows a joint one: its outgoing voters no longer count, and those
    /// that have no other capacity are gone (§4.3).
    #[must_use]
    pub fn left(&self) -> Configuration {
        let mut next = Configuration { outgoing: BTreeSet::new(), ..self.clone() };
        next.members.retain(|node, _| self.voters.contains(node) || self.learners.contains(node));
        next
    }

    /// The size that limits in bytes count for this configuration.
    #[must_use]
    pub fn size_bytes(&self) -> usize {
        2 + 8 * (1 + self.voters.len() + self.outgoing.len() + self.learners.len())
            + self.members.values().map(|member| 31 + member.address.len()).sum::<usize>()
    }
}
