//! The mark in a data folder that its node was removed from the cluster.
//!
//! The log may lack the removal: a node that was away then learns it from other nodes.

use std::{fs::File, path::Path};

use kodiak_raft::node::error_chain;

const FILE: &str = "REMOVED";

/// Marks a data folder. A folder that cannot be written is only logged: a removed node takes part
/// in nothing more.
pub(crate) fn mark(data: &Path) {
    let path = data.join(FILE);
    if let Err(error) = File::create(&path).and_then(|file| file.sync_all()) {
        tracing::warn!(
            error = error_chain(&error),
            "cannot write {}, by which 'raft recover' would know that this node was removed",
            path.display()
        );
    }
}

/// Whether a data folder is marked.
pub(crate) fn is_marked(data: &Path) -> bool {
    data.join(FILE).exists()
}
