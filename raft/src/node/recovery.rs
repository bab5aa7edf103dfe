//! After the loss of a majority: a new cluster out of one node's data folder.

use std::path::PathBuf;

use super::{NodeError, birth::random_u128};
use crate::{
    storage::{DisasterRecovery, DisasterRecoveryError, LogOptions, RecoveredCluster},
    types::{ClusterId, DiskId, GroupId, Identity, NodeId},
};

/// What is to be recovered. See [`recover`].
#[derive(Clone, Debug)]
pub struct Recovery {
    /// The data folder of a node of the lost cluster. It is only read, and no node may run on it.
    pub from: PathBuf,
    /// The data folder to make. It must not exist, or be empty.
    pub into: PathBuf,
    /// The new node's id.
    pub id: NodeId,
    /// Where the others will reach it, `host:port`.
    pub address: String,
}

/// Why nothing was recovered.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecoveryError {
    /// What was asked for makes no sense, or there are no random numbers.
    #[error(transparent)]
    Node(#[from] NodeError),
    /// One of the folders.
    #[error(transparent)]
    Folder(#[from] DisasterRecoveryError),
}

/// Founds a new cluster, of one node, with everything that one node of a lost cluster has on its
/// disk.
///
/// This is for a cluster that has lost a majority of its voters for ever. **It loses data**:
/// whatever the others had acknowledged and this node does not have. It keeps what this node has,
/// acknowledged or not. The new cluster has an id of its own, so what is left of the old one can
/// never talk to it; other nodes join it as they would any cluster.
///
/// # Errors
/// See [`RecoveryError`]. The old folder is as it was, and there is no new one.
pub fn recover(recovery: &Recovery) -> Result<RecoveredCluster, RecoveryError> {
    if recovery.id == NodeId(0) {
        return Err(NodeError::IdZero.into());
    }
    let (cluster, disk) = (ClusterId(random_u128()?), DiskId(random_u128()?));
    let identity = Identity { cluster, group: GroupId(0), node: recovery.id, disk };
    let Recovery { from, into, address, .. } = recovery.clone();
    Ok(DisasterRecovery { from, into, identity, address, log: LogOptions::default() }.run()?)
}
