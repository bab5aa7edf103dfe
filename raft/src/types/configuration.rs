//! Who belongs to the cluster, and in what capacity.

use std::collections::{BTreeMap, BTreeSet};

use super::{DiskId, NodeId};

/// What the cluster knows of a member besides its number.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub struct Member {
    /// The member's disk; 0 while it is not known (at the cluster's birth).
    pub disk: DiskId,
    /// Where its peers reach it, `host:port`.
    pub address: String,
}

/// A configuration of the cluster. While `outgoing` is not empty, it is a joint one (§4.3): decisions need a majority of
/// `voters` and a majority of `outgoing`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub struct Configuration {
    /// Members whose acknowledgements and votes count.
    pub voters: BTreeSet<NodeId>,
    /// The voters of the configuration that is being left; empty unless joint.
    pub outgoing: BTreeSet<NodeId>,
    /// Members that receive the log and do not count.
    pub learners: BTreeSet<NodeId>,
    /// What is known of each member.
    pub members: BTreeMap<NodeId, Member>,
}

impl Configuration {
    /// A configuration of voters only.
    #[must_use]
    pub fn of_voters(members: impl IntoIterator<Item = (NodeId, Member)>) -> Configuration {
        let members: BTreeMap<NodeId, Member> = members.into_iter().collect();
        Configuration { voters: members.keys().copied().collect(), members, ..Configuration::default() }
    }

    /// Whether `node` votes in this configuration, in either half of a joint one.
    #[must_use]
    pub fn is_voter(&self, node: NodeId) -> bool {
        self.voters.contains(&node) || self.outgoing.contains(&node)
    }

    /// Everybody who receives the log: voters, outgoing voters and learners, each once, in order.
    pub fn replicas(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.members.keys().copied().filter(|&node| self.is_voter(node) || self.learners.contains(&node))
    }

    /// The size that limits in bytes count for this configuration.
    #[must_use]
    pub fn size_bytes(&self) -> usize {
        8 * (self.voters.len() + self.outgoing.len() + self.learners.len())
            + self.members.values().map(|member| 28 + member.address.len()).sum::<usize>()
    }
}
