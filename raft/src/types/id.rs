//! Identities and positions. Each is a type of its own, so that a term is never passed for an
//! index.

use std::fmt;

macro_rules! number {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $name(pub u64);

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number! {
    /// A server of the cluster. Chosen by the operator, never 0, never used again for another
    /// server or disk.
    NodeId
}
number! {
    /// A leader's term (§3.3 of the dissertation). Starts at 0, in which there is no leader.
    Term
}
number! {
    /// A position in the log. The first entry has index 1; index 0 stands before the log.
    Index
}
number! {
    /// A client's session. No two sessions of a cluster have the same id. Nor have, except with a
    /// chance of one in 2^64, a session of a cluster and one of a cluster that was recovered from
    /// it.
    SessionId
}

impl SessionId {
    /// The id of the session that the entry at `index` opens, made of index and salt. The index
    /// distinguishes sessions of one salt. The salt distinguishes the sessions of a recovered
    /// cluster, which may use indexes again that the lost one had used for other sessions.
    #[must_use]
    pub fn opened(index: Index, salt: u64) -> SessionId {
        SessionId(index.0.wrapping_add(salt))
    }
}
number! {
    /// A Raft group. A node serves one group for now; frames carry the number so that many can
    /// share a wire and a log.
    GroupId
}

impl Index {
    /// The index after this one.
    ///
    /// # Panics
    /// If there is none, which takes 2^64 - 1 entries.
    #[must_use]
    pub fn next(self) -> Index {
        Index(self.0.checked_add(1).expect("the log cannot hold 2^64 entries"))
    }

    /// The index before this one; 0 stays 0.
    #[must_use]
    pub fn previous(self) -> Index {
        Index(self.0.saturating_sub(1))
    }
}

impl Term {
    /// The greatest term. No node campaigns for a later one, and a message of a later one is
    /// ignored.
    pub const MAX: Term = Term(1 << 62);

    /// How far ahead of a node's own term a message's term may be; what is beyond is ignored.
    pub const JUMP_MAX: u64 = 1 << 40;

    /// The term this number of elections later, or the last that a number can name.
    #[must_use]
    pub fn saturating_add(self, elections: u64) -> Term {
        Term(self.0.saturating_add(elections))
    }

    /// The term after this one.
    ///
    /// # Panics
    /// If there is none, which takes 2^64 - 1 elections.
    #[must_use]
    pub fn next(self) -> Term {
        Term(self.0.checked_add(1).expect("there cannot be 2^64 terms"))
    }
}

macro_rules! wide {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $name(pub u128);

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({:032x})"), self.0)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:032x}", self.0)
            }
        }
    };
}

wide! {
    /// A cluster. Nodes of different clusters refuse to talk to each other.
    ClusterId
}
wide! {
    /// A disk (a data folder), drawn at random when the folder is made. 0 stands for "not known
    /// yet".
    DiskId
}

/// The owner of a log: written when the data folder is made, compared on every start and in every
/// handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Identity {
    /// The cluster.
    pub cluster: ClusterId,
    /// The group within the cluster.
    pub group: GroupId,
    /// The node.
    pub node: NodeId,
    /// The disk.
    pub disk: DiskId,
}
