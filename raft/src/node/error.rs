//! Why a node cannot start.

use std::{error::Error, io, net::SocketAddr, path::PathBuf};

use crate::{
    replica::ReplicaConfigError,
    storage::StorageError,
    types::{ADDRESS_BYTES_MAX, NodeId},
};

/// Why a node cannot start.
///
/// The text does not repeat the error's cause: print both with
/// [`error_chain`](super::error_chain).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NodeError {
    /// A node's id is 0.
    #[error("node id 0 is not valid: ids start at 1")]
    IdZero,
    /// The node is among its own peers.
    #[error("node {id} is among its own peers: list only the other nodes")]
    PeerIsSelf {
        /// The node.
        id: NodeId,
    },
    /// The options have both [`peers`](super::Options::peers) and [`join`](super::Options::join).
    #[error(
        "node {id} has peers, to bootstrap a new cluster, and a cluster to join: choose one of the \
         two (Options::peers, Options::join)"
    )]
    BootstrapsAndJoins {
        /// The node.
        id: NodeId,
    },
    /// A peer's address cannot be looked up.
    #[error("cannot resolve {address:?}, the address of node {id}; give it as host:port")]
    PeerAddress {
        /// The peer.
        id: NodeId,
        /// The address.
        address: String,
        /// The resolver's error.
        source: io::Error,
    },
    /// The node listens on every address of its machine and advertises none.
    #[error(
        "other nodes cannot reach node {id} at {address}: give an address that they can reach \
         (Options::advertise; 'raft serve' has --advertise-raft)"
    )]
    Unreachable {
        /// The node.
        id: NodeId,
        /// The address on which it listens.
        address: SocketAddr,
    },
    /// The node's own address is too long for the cluster's configuration.
    #[error("the node's address has {len_bytes} bytes; at most {ADDRESS_BYTES_MAX} are possible")]
    AddressTooLong {
        /// The address's length.
        len_bytes: usize,
    },
    /// The node's metadata are too long for a handshake.
    #[error("Options::metadata has {len_bytes} bytes; at most {limit_bytes} are possible")]
    MetadataTooLong {
        /// The metadata's length.
        len_bytes: usize,
        /// The limit.
        limit_bytes: usize,
    },
    /// The data folder cannot be created, locked or read. The error names it.
    #[error(transparent)]
    Folder(io::Error),
    /// The log cannot be opened or created.
    #[error("cannot start from data folder {}", folder.display())]
    Storage {
        /// The data folder.
        folder: PathBuf,
        /// The log's error.
        source: StorageError,
    },
    /// The data folder belongs to another node.
    #[error(
        "data folder {} belongs to node {found}, not to node {given}: start it as node {found}, or \
         give node {given} a folder of its own",
        folder.display()
    )]
    OtherNode {
        /// The data folder.
        folder: PathBuf,
        /// The node that it belongs to.
        found: NodeId,
        /// The node that was started.
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
        /// Its range, in words.
        bound: String,
    },
    /// The given listener is not bound to [`Options::listen`](super::Options::listen).
    #[error(
        "the listener is bound to {found}, and Options::listen is {listen}: set it to the \
         listener's address (local_addr)"
    )]
    OtherListener {
        /// The address in the options.
        listen: SocketAddr,
        /// The listener's address.
        found: SocketAddr,
    },
    /// The node cannot listen for its peers.
    #[error("cannot listen for peers on {address}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The kernel's error.
        source: io::Error,
    },
    /// The system has no random numbers.
    #[error("cannot read /dev/urandom")]
    Random(#[source] io::Error),
    /// The event loop cannot take the node's sources, timers or channels, or a thread cannot start.
    #[error("cannot set up the node's {what}")]
    Setup {
        /// The part that failed.
        what: &'static str,
        /// Why.
        source: Box<dyn Error + Send + Sync>,
    },
}

/// [`error_chain`], for `map_err`.
pub(super) fn text_of(error: impl Error + 'static) -> String {
    super::error_chain(&error)
}

impl NodeError {
    pub(super) fn setup<E>(what: &'static str) -> impl FnOnce(E) -> NodeError
    where
        E: Into<Box<dyn Error + Send + Sync>>,
    {
        move |error| NodeError::Setup { what, source: error.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::error_chain, *};

    #[derive(Debug, thiserror::Error)]
    #[error("the kernel refused to register this source")]
    struct Refused(#[source] io::Error);

    #[test]
    fn a_chain_names_every_cause_once() {
        let cause = || Refused(io::Error::from_raw_os_error(24));
        let error = NodeError::setup::<Refused>("timer")(cause());
        assert_eq!(error.to_string(), "cannot set up the node's timer");
        let words = error_chain(&error);
        assert!(words.starts_with("cannot set up the node's timer: the kernel refused"), "{words}");
        assert!(words.ends_with("(os error 24)"), "{words}");
        let nested = error_chain(&io::Error::other(cause()));
        assert_eq!(nested.matches("os error 24").count(), 1, "{nested}");
    }

    #[test]
    fn the_cause_of_a_failed_start_stands_in_the_chain_alone() {
        let folder = PathBuf::from("/data");
        let error = NodeError::Storage { folder, source: StorageError::NoLog };
        assert_eq!(error.to_string(), "cannot start from data folder /data");
        let expected = format!("cannot start from data folder /data: {}", StorageError::NoLog);
        assert_eq!(error_chain(&error), expected);
    }
}
