//! Why a node cannot start, or has stopped.

use std::{error::Error, io, net::SocketAddr, path::PathBuf};

use crate::{
    replica::ReplicaConfigError,
    storage::StorageError,
    types::{ADDRESS_BYTES_MAX, NodeId},
};

/// Why a node cannot start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NodeError {
    /// A node's number is not valid.
    #[error("node ids start at 1: 0 is nobody's")]
    IdZero,
    /// The node is among its own peers.
    #[error("node {id} is among its own peers: list only the others")]
    PeerIsSelf {
        /// The node.
        id: NodeId,
    },
    /// A node founds a cluster or joins one.
    #[error(
        "node {id} is told both to found a cluster, with peers, and to join one: choose one of the two"
    )]
    FoundsAndJoins {
        /// The node.
        id: NodeId,
    },
    /// A peer's address does not lead anywhere.
    #[error("cannot resolve {address:?}, the address of node {id}: {error}; give it as host:port")]
    PeerAddress {
        /// The peer.
        id: NodeId,
        /// What was given.
        address: String,
        /// Why not.
        error: io::Error,
    },
    /// The node listens on every address of its machine, and does not say by which of them it can
    /// be reached.
    #[error(
        "nobody can reach node {id} at {address}: say where the others can (Options::advertise; 'raft serve' has \
         --advertise-raft)"
    )]
    Unreachable {
        /// The node.
        id: NodeId,
        /// Where it listens.
        address: SocketAddr,
    },
    /// The node's own address is longer than the cluster's configuration takes.
    #[error(
        "{len_bytes} bytes of address are more than a member's may be ({ADDRESS_BYTES_MAX} bytes)"
    )]
    AddressTooLong {
        /// What was given.
        len_bytes: usize,
    },
    /// Too much metadata.
    #[error(
        "{len_bytes} bytes of metadata are more than a handshake carries ({limit_bytes} bytes)"
    )]
    MetadataTooLong {
        /// What was given.
        len_bytes: usize,
        /// The bound.
        limit_bytes: usize,
    },
    /// The data folder cannot be made, locked or read; the error names it.
    #[error(transparent)]
    Folder(io::Error),
    /// The log cannot be opened or made.
    #[error("data folder {}: {error}", folder.display())]
    Storage {
        /// Which folder.
        folder: PathBuf,
        /// Why not.
        error: StorageError,
    },
    /// The data folder is another node's.
    #[error("data folder {} belongs to node {found}, not to node {given}: start it as node {found}, or give node {given} \
             a folder of its own", folder.display())]
    OtherNode {
        /// Which folder.
        folder: PathBuf,
        /// Whose it is.
        found: NodeId,
        /// Who was started.
        given: NodeId,
    },
    /// The settings do not fit together.
    #[error(transparent)]
    Config(#[from] ReplicaConfigError),
    /// A setting is out of its range.
    #[error("Options::{name} is {value}; it must be {bound}")]
    Setting {
        /// The setting.
        name: &'static str,
        /// Its value.
        value: String,
        /// What it may be.
        bound: String,
    },
    /// The listener that was handed over is not bound where the options say.
    #[error(
        "the listener is bound to {found}, and Options::listen is {listen}: give its own address (local_addr)"
    )]
    OtherListener {
        /// What the options say.
        listen: SocketAddr,
        /// Where the listener is bound.
        found: SocketAddr,
    },
    /// The address for peers cannot be listened on.
    #[error("cannot listen for peers on {address}: {error}")]
    Listen {
        /// Which.
        address: SocketAddr,
        /// Why not.
        error: io::Error,
    },
    /// The operating system has no random numbers.
    #[error("cannot read /dev/urandom: {0}")]
    Random(io::Error),
    /// The event loop cannot take the node's sources, timers or channels, or the storage thread
    /// cannot start.
    #[error("cannot set up the node's {what}: {}", error_chain(error.as_ref()))]
    Setup {
        /// Which part.
        what: &'static str,
        /// Why not.
        error: Box<dyn Error + Send + Sync>,
    },
}

/// An error with its causes on one line, each once, for logs and operators. The errors of reactor and
/// net do not repeat their causes.
///
/// ```
/// let error = std::io::Error::other("no space left");
/// assert_eq!(kodiak_raft::node::error_chain(&error), "no space left");
/// ```
#[must_use]
pub fn error_chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let words = error.to_string();
        if !text.ends_with(&words) {
            text = format!("{text}: {words}");
        }
        cause = error.source();
    }
    text
}

impl NodeError {
    pub(super) fn setup<E>(what: &'static str) -> impl FnOnce(E) -> NodeError
    where
        E: Into<Box<dyn Error + Send + Sync>>,
    {
        move |error| NodeError::Setup { what, error: error.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("the kernel refused to register this source")]
    struct Refused(#[source] io::Error);

    #[test]
    fn what_cannot_be_set_up_names_every_cause_once() {
        let cause = || Refused(io::Error::from_raw_os_error(24));
        let error = NodeError::setup::<Refused>("timer")(cause());
        let words = error.to_string();
        assert!(words.starts_with("cannot set up the node's timer: the kernel refused"), "{words}");
        assert!(words.ends_with("(os error 24)"), "{words}");
        let nested = error_chain(&io::Error::other(cause()));
        assert_eq!(nested.matches("os error 24").count(), 1, "{nested}");
    }
}
