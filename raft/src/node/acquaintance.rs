//! Whom this node talks to: what the two halves of a handshake must agree on.

use std::collections::BTreeMap;

use crate::{
    types::{DiskId, NodeId},
    wire::Hello,
};

/// The disks that nodes have come with. A node that comes with another one has lost what it promised.
#[derive(Debug, Default)]
pub(super) struct Acquaintances {
    disks: BTreeMap<NodeId, DiskId>,
}

/// More nodes than any cluster has; a bound on what strangers can make this node remember.
const NODES_MAX: usize = 1024;

impl Acquaintances {
    /// Compares the other side's half of a handshake with this side's. `expected` is whom this node called, if it called.
    /// The error says what does not fit and what to do.
    pub(super) fn check(&mut self, ours: &Hello, theirs: &Hello, expected: Option<NodeId>) -> Result<(), String> {
        let id = theirs.node;
        if theirs.cluster != ours.cluster {
            return Err(format!(
                "node {id} belongs to cluster {}, this is cluster {}: give all nodes the same --cluster and the same \
                 founding members",
                theirs.cluster, ours.cluster
            ));
        }
        if theirs.group != ours.group {
            return Err(format!("node {id} speaks for group {}, this is group {}", theirs.group, ours.group));
        }
        if let Some(expected) = expected.filter(|&expected| expected != id) {
            return Err(format!("node {expected} was called and node {id} answered: correct the addresses"));
        }
        if id == ours.node {
            return Err(format!("another node says that it is node {id} too: give each node a number of its own"));
        }
        match self.disks.get(&id) {
            Some(&known) if known != theirs.disk => Err(format!(
                "node {id} had disk {known} and comes with disk {}: its promises are lost with its old disk, so it must \
                 join as a new node with a new number",
                theirs.disk
            )),
            Some(_) => Ok(()),
            None if self.disks.len() >= NODES_MAX => Err(format!("more than {NODES_MAX} nodes have come")),
            None => {
                self.disks.insert(id, theirs.disk);
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::types::{ClusterId, GroupId};

    fn hello(node: u64, disk: u128) -> Hello {
        Hello {
            cluster: ClusterId(7),
            group: GroupId(0),
            node: NodeId(node),
            disk: DiskId(disk),
            incarnation: 1,
            metadata: Bytes::new(),
        }
    }

    #[test]
    fn strangers_are_turned_away_with_a_reason() {
        let ours = hello(1, 10);
        let mut acquaintances = Acquaintances::default();
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
            (hello(2, 21), None, "new number"),
        ] {
            let error = acquaintances.check(&ours, &theirs, expected).unwrap_err();
            assert!(error.contains(reason), "{error}");
        }
    }
}
