//! Consensus cores, three nodes on one thread: what they have in common here.
//!
//! A batch of commands is proposed to the leader; then writes are done at once, to a vector, and messages are carried, until
//! nothing is left and every node has applied every command. Each command is a `Vec<u8>` of its own, as it might come from a
//! client. What is applied is looked at and dropped; stored entries that everybody has applied are forgotten now and then.
//! No time passes meanwhile: no heartbeats.

pub(crate) mod kodiak;
pub(crate) mod raft_rs;

pub(crate) const NODES: usize = 3;

/// Stored entries are forgotten when there are so many bytes of commands.
pub(crate) const KEPT_BYTES: usize = 4 << 20;

/// Three nodes, one of which leads and has committed an entry of its term everywhere.
pub(crate) trait Cluster {
    /// Proposes the commands and carries everything until it is quiet.
    fn commit(&mut self, commands: Vec<Vec<u8>>);

    /// How many commands each node has applied.
    fn applied(&self) -> [usize; NODES];
}

/// Groups of three nodes with a leader and nothing to do.
pub(crate) trait Idle {
    /// A heartbeat interval passes for every group: the leader's heartbeats, their answers, and whatever clocks need.
    fn beat(&mut self);

    /// The part of it that every follower does by itself, without a message; `None` if there is no such thing.
    fn follower_tick(&mut self) -> Option<()>;
}

/// Counts what is applied, and looks at it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Applied {
    pub(crate) commands: usize,
    sum: usize,
}

impl Applied {
    #[inline]
    pub(crate) fn apply(&mut self, command: &[u8]) {
        self.commands += 1;
        self.sum = self.sum.wrapping_add(command.len() + usize::from(command[0]));
    }
}
