//! Whom this node talks to: what the two halves of a handshake must agree on, and what the
//! cluster's configuration says of whoever comes.
//!
//! | who comes | what becomes of them |
//! |---|---|
//! | a member with its disk | let in |
//! | a member with another disk | turned away: with the disk it lost its promises |
//! | a founder whose disk the configuration does not know yet | let in, and held to that disk |
//! | whoever was a member and is none any more | turned away, once that is committed, and told so |
//! | anybody else of this cluster | let in: a new member or its leader, whom this node has not heard of yet |

use std::collections::BTreeMap;

use super::founding::Founding;
use crate::{
    replica::lives::Lives,
    types::{Configuration, DiskId, FeatureLevel, Index, MemberChange, NodeId, PeerRecord},
    wire::Hello,
};

/// Who belongs to the cluster, as far as this node knows, and the disks that founders have come
/// with.
#[derive(Debug, Default)]
pub(super) struct Acquaintances {
    configuration: Configuration,
    /// The entry that brought it.
    configuration_index: Index,
    /// Whether the configuration is committed, so that who is not in it is not needed for anything
    /// any more.
    is_settled: bool,
    /// Of members whose disks the configuration does not say.
    disks: BTreeMap<NodeId, DiskId>,
    /// Of the disks of all nodes.
    pub(super) lives: Lives,
    /// What the versions of nodes that were let in support; the node takes it from here.
    pub(super) feature_levels: BTreeMap<NodeId, FeatureLevel>,
    /// Whom this node waits for before it founds the cluster.
    pub(super) founding: Founding,
}

/// Why somebody is turned away, and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TurnedAway {
    pub(super) reason: String,
    /// Because it was a member and is none any more.
    pub(super) is_removed: bool,
    /// The entry of the committed configuration that shows that.
    pub(super) removed_at: Index,
}

impl From<String> for TurnedAway {
    fn from(reason: String) -> TurnedAway {
        TurnedAway { reason, is_removed: false, removed_at: Index(0) }
    }
}

impl Acquaintances {
    /// With what the log remembers of other nodes' disks.
    pub(super) fn new(records: BTreeMap<DiskId, PeerRecord>) -> Acquaintances {
        Acquaintances { lives: Lives::new(records), ..Acquaintances::default() }
    }

    /// The cluster's configuration is this one now.
    pub(super) fn follow(&mut self, configuration: &Configuration) {
        self.configuration.clone_from(configuration);
        self.is_settled = false;
        let members = &self.configuration.members;
        self.disks.retain(|id, _| members.get(id).is_some_and(|member| member.disk == DiskId(0)));
    }

    /// The configuration in force is this one, and committed or not. Told at every judgement: it
    /// may have changed since the last `follow`, by a truncation for one, and a removal that was
    /// undone must turn nobody away.
    pub(super) fn settle(&mut self, configuration: &Configuration, index: Index, is_settled: bool) {
        self.configuration_index = index;
        if self.configuration != *configuration {
            self.follow(configuration);
        }
        self.is_settled = is_settled;
    }

    /// Whether a peer that says this node was removed, by a configuration of this entry, can know
    /// that: it must be later than the configuration that this node knows, or that configuration.
    /// Anything else is false, and only logged.
    pub(super) fn is_news_of_removal(&self, us: NodeId, removed_at: Index) -> bool {
        // This node may hold the very entry, and not know that it is committed.
        let is_known_here =
            removed_at == self.configuration_index && self.configuration.has_removed(us);
        removed_at > self.configuration_index || is_known_here
    }

    /// Whether this node was a member and is none any more, for certain.
    pub(super) fn is_removed(&self, id: NodeId) -> bool {
        self.is_settled
            && id <= self.configuration.highest_id
            && !self.configuration.members.contains_key(&id)
    }

    /// Compares the other side's half of a handshake with this side's, and with the configuration.
    /// `expected` is whom this node called, if it called. Whoever passes has been met
    /// ([`Founding`]).
    pub(super) fn check(
        &mut self,
        ours: &Hello,
        theirs: &Hello,
        expected: Option<NodeId>,
    ) -> Result<(), TurnedAway> {
        let id = theirs.node;
        if theirs.cluster != ours.cluster {
            return Err(TurnedAway::from(format!(
                "node {id} belongs to cluster {}, this is cluster {}: give all founders the same --cluster and the same \
                 founding members, and let others join",
                theirs.cluster, ours.cluster
            )));
        }
        if theirs.group != ours.group {
            let reason = format!(
                "node {id} speaks for group {}, this is group {}",
                theirs.group, ours.group
            );
            return Err(TurnedAway::from(reason));
        }
        if let Some(expected) = expected.filter(|&expected| expected != id) {
            let reason =
                format!("node {expected} was called and node {id} answered: correct the addresses");
            return Err(TurnedAway::from(reason));
        }
        if id == ours.node {
            let reason = format!(
                "another node says that it is node {id} too: give each node a number of its own"
            );
            return Err(TurnedAway::from(reason));
        }
        let level = self.configuration.feature_level;
        if theirs.feature_level < level {
            let reason = format!(
                "node {id} supports feature level {}, and the cluster uses level {level}: run a newer version on it",
                theirs.feature_level
            );
            return Err(TurnedAway::from(reason));
        }
        self.check_member(theirs)?;
        self.lives.meet(theirs).map_err(|error| TurnedAway::from(error.to_string()))?;
        self.founding.meet(theirs);
        self.feature_levels.insert(id, theirs.feature_level);
        Ok(())
    }

    fn check_member(&mut self, theirs: &Hello) -> Result<(), TurnedAway> {
        let id = theirs.node;
        let Some(member) = self.configuration.members.get(&id) else {
            if self.is_removed(id) {
                let reason = format!(
                    "node {id} was removed from the cluster: stop it; if its machine shall serve again, let it join with \
                     an empty data folder and an id above {}",
                    self.configuration.highest_id
                );
                return Err(TurnedAway {
                    reason,
                    is_removed: true,
                    removed_at: self.configuration_index,
                });
            }
            return Ok(());
        };
        let known = Some(member.disk)
            .filter(|&disk| disk != DiskId(0))
            .or_else(|| self.disks.get(&id).copied());
        match known {
            Some(known) if known != theirs.disk => Err(TurnedAway::from(format!(
                "node {id} had disk {known} and comes with disk {}: its promises are lost with its old disk, so its \
                 machine must join as a new node with a new number (above {}), and node {id} be removed",
                theirs.disk, self.configuration.highest_id
            ))),
            Some(_) => Ok(()),
            None => {
                self.disks.insert(id, theirs.disk);
                Ok(())
            }
        }
    }

    /// The disks that the configuration does not say and this node has learnt, its own included.
    pub(super) fn news(&self, ours: &Hello) -> Vec<MemberChange> {
        let unknown =
            self.configuration.members.iter().filter(|(_, member)| member.disk == DiskId(0));
        let learnt = unknown.filter_map(|(&id, _)| {
            let disk = if id == ours.node { Some(ours.disk) } else { self.disks.get(&id).copied() };
            disk.map(|disk| (id, disk))
        });
        learnt
            .map(|(node, disk)| MemberChange::Update {
                node,
                disk: Some(disk),
                address: None,
                priority: None,
                feature_level: None,
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::types::{ClusterId, FeatureLevel, GroupId, Life, Member};
    use crate::wire::Version;

    fn hello(node: u64, disk: u128) -> Hello {
        Hello {
            cluster: ClusterId(7),
            group: GroupId(0),
            node: NodeId(node),
            disk: DiskId(disk),
            life: Life { count: 1, nonce: 1 },
            versions: Version::OLDEST..=Version::NEWEST,
            feature_level: FeatureLevel::CURRENT,
            position: None,
            has_forgotten: false,
            is_blank: false,
            address: String::new(),
            metadata: Bytes::new(),
        }
    }

    fn founders() -> Configuration {
        Configuration::of_voters([1, 2, 3].map(|id| (NodeId(id), Member::default())))
    }

    fn knowing(configuration: &Configuration) -> Acquaintances {
        let mut acquaintances = Acquaintances::default();
        acquaintances.follow(configuration);
        acquaintances.settle(configuration, Index(1), true);
        acquaintances
    }

    #[test]
    fn strangers_are_turned_away_with_a_reason() {
        let ours = hello(1, 10);
        let mut acquaintances = knowing(&founders());
        assert_eq!(acquaintances.check(&ours, &hello(2, 20), Some(NodeId(2))), Ok(()));
        assert_eq!(acquaintances.check(&ours, &hello(2, 20), None), Ok(()));
        let mut other_cluster = hello(2, 20);
        other_cluster.cluster = ClusterId(8);
        let mut other_group = hello(2, 20);
        other_group.group = GroupId(1);
        for (theirs, expected, reason) in [
            (other_cluster, None, "--cluster"),
            (other_group, None, "group"),
            (hello(3, 30), Some(NodeId(2)), "node 2 was called and node 3 answered"),
            (hello(1, 11), None, "node 1 too"),
            (hello(2, 21), None, "new number (above 3)"),
        ] {
            let error = acquaintances.check(&ours, &theirs, expected).unwrap_err();
            assert!(error.reason.contains(reason) && !error.is_removed, "{error:?}");
        }
    }

    #[test]
    fn a_notice_of_removal_must_be_later_than_what_is_known() {
        let mut acquaintances = Acquaintances::default();
        acquaintances.settle(&founders(), Index(7), true);
        assert!(acquaintances.is_news_of_removal(NodeId(2), Index(8)));
        assert!(
            !acquaintances.is_news_of_removal(NodeId(2), Index(7)),
            "it is a member by entry 7"
        );
        let mut without = founders();
        without.voters.remove(&NodeId(2));
        without.members.remove(&NodeId(2));
        acquaintances.settle(&without, Index(7), false);
        assert!(
            acquaintances.is_news_of_removal(NodeId(2), Index(7)),
            "the entry is here, not known to be committed"
        );
    }

    #[test]
    fn a_node_below_the_active_level_is_turned_away() {
        let ours = hello(1, 10);
        let mut acquaintances = knowing(&founders().at_feature_level(FeatureLevel(2)));
        let older = Hello { feature_level: FeatureLevel::BASE, ..hello(4, 40) };
        let error = acquaintances.check(&ours, &older, None).unwrap_err();
        assert!(
            error.reason.contains("supports feature level 1, and the cluster uses level 2"),
            "{error:?}"
        );
        assert_eq!(knowing(&founders()).check(&ours, &older, None), Ok(()));
    }

    #[test]
    fn the_configuration_decides_who_is_who() {
        let ours = hello(1, 10);
        let mut configuration = founders();
        configuration.members.get_mut(&NodeId(2)).unwrap().disk = DiskId(20);
        configuration.voters.remove(&NodeId(3));
        configuration.members.remove(&NodeId(3));
        let mut acquaintances = knowing(&configuration);
        assert_eq!(acquaintances.check(&ours, &hello(2, 20), None), Ok(()));
        let wiped = acquaintances.check(&ours, &hello(2, 21), None).unwrap_err();
        assert!(wiped.reason.contains("new number") && !wiped.is_removed, "{wiped:?}");
        let removed = acquaintances.check(&ours, &hello(3, 30), None).unwrap_err();
        assert!(removed.is_removed && removed.reason.contains("an id above 3"), "{removed:?}");
        assert_eq!(
            acquaintances.check(&ours, &hello(4, 40), None),
            Ok(()),
            "a member that is not known here yet"
        );
        // A removal that is not committed may yet not be: the node may be needed.
        acquaintances.settle(&configuration, Index(1), false);
        assert_eq!(acquaintances.check(&ours, &hello(3, 30), None), Ok(()));
        // One that was truncated away is none, even where nobody has told of that yet.
        acquaintances.settle(&founders(), Index(1), true);
        assert_eq!(acquaintances.check(&ours, &hello(3, 30), None), Ok(()));
    }

    #[test]
    fn disks_of_founders_are_learnt_until_the_configuration_says_them() {
        let ours = hello(1, 10);
        let update = |node, disk| MemberChange::Update {
            node: NodeId(node),
            disk: Some(DiskId(disk)),
            address: None,
            priority: None,
            feature_level: None,
        };
        let mut acquaintances = knowing(&founders());
        assert_eq!(acquaintances.news(&ours), [update(1, 10)]);
        acquaintances.check(&ours, &hello(3, 30), None).unwrap();
        assert_eq!(acquaintances.news(&ours), [update(1, 10), update(3, 30)]);
        let next = founders().changed(&acquaintances.news(&ours)).unwrap();
        acquaintances.follow(&next);
        assert_eq!(acquaintances.news(&ours), []);
        assert!(acquaintances.check(&ours, &hello(3, 31), None).is_err());
        acquaintances.check(&ours, &hello(2, 20), None).unwrap();
        assert_eq!(acquaintances.news(&ours), [update(2, 20)]);
    }
}
