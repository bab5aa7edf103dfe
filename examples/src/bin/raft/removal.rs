//! That a node was removed, in its data folder. Its log may not know: a node that was away when it
//! was removed is told by others.

use std::{fs::File, path::Path};

const MARKER: &str = "REMOVED";

/// Notes it. A folder that cannot be written is told of and nothing else: the node takes part in
/// nothing more.
pub(crate) fn note(data: &Path) {
    let path = data.join(MARKER);
    if let Err(error) = File::create(&path).and_then(|file| file.sync_all()) {
        tracing::warn!(%error, "cannot write {}, by which 'raft recover' would know that this node was removed", path.display());
    }
}

/// Whether it was noted.
pub(crate) fn is_noted(data: &Path) -> bool {
    data.join(MARKER).exists()
}
