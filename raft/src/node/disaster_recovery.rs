//! Disaster recovery: a new cluster from one node's data folder, after the loss of a majority.

use std::path::PathBuf;

use super::{NodeError, data_folder::random_u128};
use crate::{
    storage::{DisasterRecovery, DisasterRecoveryError, RecoveredCluster},
    types::{ClusterId, DiskId, GroupId, Identity, NodeId},
};

/// From which data folder [`recover_cluster`] makes a new cluster, and where.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RecoverClusterOptions {
    /// The data folder of a node of the lost cluster. It is only read, and no node may run on it.
    pub from: PathBuf,
    /// The data folder to create. It must not exist, or be empty.
    pub into: PathBuf,
    /// The new node's id.
    pub id: NodeId,
    /// Where the other nodes will reach the new node, `host:port`.
    pub address: String,
}

impl RecoverClusterOptions {
    /// Recovers the folder `from` into the folder `into`, as node `id` at `address` (`host:port`).
    #[must_use]
    pub fn new(
        from: impl Into<PathBuf>,
        into: impl Into<PathBuf>,
        id: NodeId,
        address: impl Into<String>,
    ) -> RecoverClusterOptions {
        RecoverClusterOptions { from: from.into(), into: into.into(), id, address: address.into() }
    }
}

/// Why no cluster was recovered.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecoverClusterError {
    /// The new node's id is not valid, or the system has no random numbers.
    #[error(transparent)]
    Node(#[from] NodeError),
    /// One of the two folders cannot be used.
    #[error(transparent)]
    Folder(#[from] DisasterRecoveryError),
}

/// Makes a new cluster of one node from the data folder of one node of a lost cluster.
///
/// This is for a cluster that has permanently lost a majority of its voters. **It loses data**:
/// everything that the other nodes acknowledged and this node does not have. It keeps everything
/// that this node has, acknowledged or not. The new cluster has an id of its own, so the remaining
/// nodes of the old cluster cannot talk to it. Other nodes join it as they join any cluster.
///
/// # Errors
/// See [`RecoverClusterError`]. The old folder is unchanged, and no new folder exists.
pub fn recover_cluster(
    options: &RecoverClusterOptions,
) -> Result<RecoveredCluster, RecoverClusterError> {
    if options.id == NodeId(0) {
        return Err(NodeError::IdZero.into());
    }
    let (cluster, disk) = (ClusterId(random_u128()?), DiskId(random_u128()?));
    let identity = Identity { cluster, group: GroupId(0), node: options.id, disk };
    let RecoverClusterOptions { from, into, address, .. } = options;
    Ok(DisasterRecovery::new(from, into, identity, address).run()?)
}
