//! What the node's sources and timers are called in the loop.

/// Names a source or a timer of a node in the event loop that it shares with its user: the user's
/// own token type says `From<Token>`, and the user's handler hands events of such tokens on to the
/// node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Token(pub(super) Kind);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    /// Completions of the storage thread have come.
    Completions,
    /// The state machine has done something.
    Machine,
    /// Calls through a handle have come.
    Calls,
    /// The replica's deadline.
    Deadline,
    /// Somebody connects.
    Listener,
    /// A link that another node made, by slot.
    Incoming(u32),
    /// A link to a peer, or the timer of its next attempt, by position among the peers.
    Peer(u32),
}
