//! Admission of peers: which nodes may have a link with this one.
//!
//! Each half of a handshake is compared with this node's own and with the cluster's configuration.
//!
//! | the other node | decision |
//! |---|---|
//! | a member with its disk | admitted |
//! | a member with another disk | rejected: its promises were on the old disk |
//! | an initial member whose disk the configuration lacks | admitted, and held to that disk |
//! | a former member | rejected with that reason, once its removal is committed |
//! | any other node of this cluster | admitted: a new member or its leader, not known here yet |

use std::collections::BTreeMap;

use super::bootstrap::Bootstrap;
use crate::{
    replica::peer_records::PeerRecords,
    types::{Configuration, DiskId, FeatureLevel, Index, MemberChange, NodeId, PeerRecord},
    wire::Hello,
};

/// The members that this node knows, and the disks with which they came.
#[derive(Debug, Default)]
pub(super) struct Admission {
    configuration: Configuration,
    /// The entry that holds the configuration.
    configuration_index: Index,
    /// Whether the configuration is committed. Only then is a node without a place in it rejected.
    is_committed: bool,
    /// Disks of members that the configuration does not hold.
    disks: BTreeMap<NodeId, DiskId>,
    /// What is remembered of the lives of all disks.
    pub(super) peer_records: PeerRecords,
    /// Feature levels that admitted nodes support. The node takes them from here.
    pub(super) feature_levels: BTreeMap<NodeId, FeatureLevel>,
    /// The initial members that this node waits for.
    pub(super) bootstrap: Bootstrap,
}

/// Why a node is rejected, and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rejection {
    pub(super) reason: String,
    /// Whether the reason is that the node was removed from the cluster.
    pub(super) is_removed: bool,
    /// The entry of the committed configuration that shows the removal.
    pub(super) removed_at: Index,
}

impl From<String> for Rejection {
    fn from(reason: String) -> Rejection {
        Rejection { reason, is_removed: false, removed_at: Index(0) }
    }
}

impl Admission {
    /// Starts with the log's records of other nodes' disks.
    pub(super) fn new(records: BTreeMap<DiskId, PeerRecord>) -> Admission {
        Admission { peer_records: PeerRecords::new(records), ..Admission::default() }
    }

    /// Takes a new configuration, which counts as not committed.
    pub(super) fn apply(&mut self, configuration: &Configuration) {
        self.configuration.clone_from(configuration);
        self.is_committed = false;
        let members = &self.configuration.members;
        self.disks.retain(|id, _| members.get(id).is_some_and(|member| member.disk == DiskId(0)));
    }

    /// Takes the configuration in force, its entry, and whether it is committed.
    ///
    /// Called before every decision: a truncation may have changed the configuration without an
    /// event, and a removal that was undone must not reject a node.
    pub(super) fn set_configuration(
        &mut self,
        configuration: &Configuration,
        index: Index,
        is_committed: bool,
    ) {
        self.configuration_index = index;
        if self.configuration != *configuration {
            self.apply(configuration);
        }
        self.is_committed = is_committed;
    }

    /// Whether a peer can know that this node was removed by the configuration of entry
    /// `removed_at`.
    ///
    /// That entry must come after the configuration that this node knows, or be that
    /// configuration. Any other claim is false, and only logged.
    pub(super) fn is_credible_removal(&self, us: NodeId, removed_at: Index) -> bool {
        // This node may hold the very entry, and not know that it is committed.
        let is_known_here =
            removed_at == self.configuration_index && self.configuration.has_removed(us);
        removed_at > self.configuration_index || is_known_here
    }

    /// Whether this node's removal from the cluster is committed.
    pub(super) fn is_removed(&self, id: NodeId) -> bool {
        self.is_committed
            && id <= self.configuration.highest_id
            && !self.configuration.members.contains_key(&id)
    }

    /// Admits or rejects the sender of a half of a handshake, and remembers what it says.
    ///
    /// `expected` is the node that this node called, if it made the link.
    pub(super) fn admit(
        &mut self,
        ours: &Hello,
        theirs: &Hello,
        expected: Option<NodeId>,
    ) -> Result<(), Rejection> {
        let id = theirs.node;
        if theirs.cluster != ours.cluster {
            return Err(Rejection::from(format!(
                "node {id} belongs to cluster {}, this is cluster {}: give all initial members the \
                 same --cluster and the same --peer nodes, and let other nodes --join",
                theirs.cluster, ours.cluster
            )));
        }
        if theirs.group != ours.group {
            return Err(Rejection::from(format!(
                "node {id} speaks for group {}, this is group {}",
                theirs.group, ours.group
            )));
        }
        if let Some(expected) = expected.filter(|&expected| expected != id) {
            return Err(Rejection::from(format!(
                "node {expected} was called and node {id} answered: correct the addresses"
            )));
        }
        if id == ours.node {
            return Err(Rejection::from(format!(
                "another node has the id of this node, {id}: give each node an id of its own"
            )));
        }
        let level = self.configuration.feature_level;
        if theirs.feature_level < level {
            return Err(Rejection::from(format!(
                "node {id} supports feature level {}, and the cluster uses level {level}: run a \
                 newer version on it",
                theirs.feature_level
            )));
        }
        self.admit_member(theirs)?;
        self.peer_records
            .check_hello(theirs)
            .map_err(|error| Rejection::from(error.to_string()))?;
        self.bootstrap.meet(theirs);
        self.feature_levels.insert(id, theirs.feature_level);
        Ok(())
    }

    fn admit_member(&mut self, theirs: &Hello) -> Result<(), Rejection> {
        let id = theirs.node;
        let Some(member) = self.configuration.members.get(&id) else {
            if !self.is_removed(id) {
                return Ok(());
            }
            let reason = format!(
                "node {id} was removed from the cluster: stop it. To use its machine again, let it \
                 join with an empty data folder and an id above {}",
                self.configuration.highest_id
            );
            let removed_at = self.configuration_index;
            return Err(Rejection { reason, is_removed: true, removed_at });
        };
        let known = Some(member.disk)
            .filter(|&disk| disk != DiskId(0))
            .or_else(|| self.disks.get(&id).copied());
        match known {
            Some(known) if known != theirs.disk => Err(Rejection::from(format!(
                "node {id} had disk {known} and comes with disk {}: its promises were on the old \
                 disk. Remove node {id}, and let its machine join as a new node with a new id \
                 (above {})",
                theirs.disk, self.configuration.highest_id
            ))),
            Some(_) => Ok(()),
            None => {
                self.disks.insert(id, theirs.disk);
                Ok(())
            }
        }
    }

    /// Changes that record the disks which this node has learnt and the configuration lacks, its
    /// own included.
    pub(super) fn unrecorded_disks(&self, ours: &Hello) -> Vec<MemberChange> {
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

    fn initial_configuration() -> Configuration {
        Configuration::of_voters([1, 2, 3].map(|id| (NodeId(id), Member::default())))
    }

    fn admission_by(configuration: &Configuration) -> Admission {
        let mut admission = Admission::default();
        admission.apply(configuration);
        admission.set_configuration(configuration, Index(1), true);
        admission
    }

    #[test]
    fn nodes_that_do_not_fit_are_rejected_with_a_reason() {
        let ours = hello(1, 10);
        let mut admission = admission_by(&initial_configuration());
        assert_eq!(admission.admit(&ours, &hello(2, 20), Some(NodeId(2))), Ok(()));
        assert_eq!(admission.admit(&ours, &hello(2, 20), None), Ok(()));
        let mut other_cluster = hello(2, 20);
        other_cluster.cluster = ClusterId(8);
        let mut other_group = hello(2, 20);
        other_group.group = GroupId(1);
        for (theirs, expected, reason) in [
            (other_cluster, None, "--cluster"),
            (other_group, None, "group"),
            (hello(3, 30), Some(NodeId(2)), "node 2 was called and node 3 answered"),
            (hello(1, 11), None, "the id of this node, 1"),
            (hello(2, 21), None, "a new id (above 3)"),
        ] {
            let error = admission.admit(&ours, &theirs, expected).unwrap_err();
            assert!(error.reason.contains(reason) && !error.is_removed, "{error:?}");
        }
    }

    #[test]
    fn a_removal_is_credible_if_later_than_what_is_known() {
        let mut admission = Admission::default();
        admission.set_configuration(&initial_configuration(), Index(7), true);
        assert!(admission.is_credible_removal(NodeId(2), Index(8)));
        assert!(!admission.is_credible_removal(NodeId(2), Index(7)), "it is a member by entry 7");
        let mut without = initial_configuration();
        without.voters.remove(&NodeId(2));
        without.members.remove(&NodeId(2));
        admission.set_configuration(&without, Index(7), false);
        assert!(
            admission.is_credible_removal(NodeId(2), Index(7)),
            "the entry is here, not known to be committed"
        );
    }

    #[test]
    fn a_node_below_the_active_feature_level_is_rejected() {
        let ours = hello(1, 10);
        let mut admission =
            admission_by(&initial_configuration().at_feature_level(FeatureLevel(2)));
        let older = Hello { feature_level: FeatureLevel::BASE, ..hello(4, 40) };
        let error = admission.admit(&ours, &older, None).unwrap_err();
        assert!(
            error.reason.contains("supports feature level 1, and the cluster uses level 2"),
            "{error:?}"
        );
        assert_eq!(admission_by(&initial_configuration()).admit(&ours, &older, None), Ok(()));
    }

    #[test]
    fn the_configuration_decides_who_is_admitted() {
        let ours = hello(1, 10);
        let mut configuration = initial_configuration();
        configuration.members.get_mut(&NodeId(2)).unwrap().disk = DiskId(20);
        configuration.voters.remove(&NodeId(3));
        configuration.members.remove(&NodeId(3));
        let mut admission = admission_by(&configuration);
        assert_eq!(admission.admit(&ours, &hello(2, 20), None), Ok(()));
        let wiped = admission.admit(&ours, &hello(2, 21), None).unwrap_err();
        assert!(wiped.reason.contains("new id") && !wiped.is_removed, "{wiped:?}");
        let removed = admission.admit(&ours, &hello(3, 30), None).unwrap_err();
        assert!(removed.is_removed && removed.reason.contains("an id above 3"), "{removed:?}");
        assert_eq!(
            admission.admit(&ours, &hello(4, 40), None),
            Ok(()),
            "a member that is not known here yet"
        );
        // A removal that is not committed may be undone: the node may be needed.
        admission.set_configuration(&configuration, Index(1), false);
        assert_eq!(admission.admit(&ours, &hello(3, 30), None), Ok(()));
        // A removal that was truncated away is none, even before an event reports that.
        admission.set_configuration(&initial_configuration(), Index(1), true);
        assert_eq!(admission.admit(&ours, &hello(3, 30), None), Ok(()));
    }

    #[test]
    fn disks_are_learnt_until_the_configuration_holds_them() {
        let ours = hello(1, 10);
        let update = |node, disk| MemberChange::Update {
            node: NodeId(node),
            disk: Some(DiskId(disk)),
            address: None,
            priority: None,
            feature_level: None,
        };
        let mut admission = admission_by(&initial_configuration());
        assert_eq!(admission.unrecorded_disks(&ours), [update(1, 10)]);
        admission.admit(&ours, &hello(3, 30), None).unwrap();
        assert_eq!(admission.unrecorded_disks(&ours), [update(1, 10), update(3, 30)]);
        let next = initial_configuration().changed(&admission.unrecorded_disks(&ours)).unwrap();
        admission.apply(&next);
        assert_eq!(admission.unrecorded_disks(&ours), []);
        assert!(admission.admit(&ours, &hello(3, 31), None).is_err());
        admission.admit(&ours, &hello(2, 20), None).unwrap();
        assert_eq!(admission.unrecorded_disks(&ours), [update(2, 20)]);
    }
}
