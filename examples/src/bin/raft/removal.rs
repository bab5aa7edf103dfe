//! The mark in a data folder that its node was removed from the cluster.
//!
//! The log need not say it: a node that was away at its removal learns of it from other nodes.

use std::{fs::File, path::Path};

const FILE: &str = "REMOVED";

/// Marks a data folder. A folder that cannot be written is only logged: a removed node takes part
/// in nothing more.
pub(crate) fn mark(data: &Path) {
    let path = data.join(FILE);
    if let Err(error) = File::create(&path).and_then(|file| file.sync_all()) {
        tracing::warn!(
            %error,
            "cannot write {}, by which 'raft recover' would know that this node was removed",
            path.display()
        );
    }
}

/// Whether a data folder is marked.
pub(crate) fn is_marked(data: &Path) -> bool {
    data.join(FILE).exists()
}
