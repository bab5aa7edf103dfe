//! Tokens of the node's sources and timers in the loop.

/// Names a source or a timer of a node in the event loop that the node shares with its user.
///
/// The user's own token type implements `From<Token>`. The user's handler passes events of such
/// tokens to the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Token(pub(super) TokenKind);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum TokenKind {
    /// The channel of the storage thread's completions.
    Completions,
    /// The channel of the state machine's reports.
    Machine,
    /// The channel of calls through handles.
    Calls,
    /// The replica's deadline.
    Deadline,
    /// The listener for peers, and its pause.
    Listener,
    /// A link that another node made, by its slot.
    Incoming(u32),
    /// A link to a peer, or the timer of the next attempt to make one, by the peer's slot.
    Peer(u32),
}
