//! Consensus cores: three nodes on one thread.
//!
//! A batch of commands is proposed to the leader. Then writes to a vector and deliveries of
//! messages are executed until every node has applied every command. Each command is a `Vec<u8>` of
//! its own, as a client would send it. An applied command is read and dropped; stored entries that
//! every node has applied are dropped now and then. No time passes meanwhile, so there are no
//! heartbeats.

pub(crate) mod kodiak;
pub(crate) mod raft_rs;

pub(crate) const NODES: usize = 3;

/// Stored entries are dropped when they exceed this number of bytes.
pub(crate) const MAX_STORED_BYTES: usize = 4 << 20;

/// Three nodes with a leader, whose first entry is committed on every node.
pub(crate) trait Cluster {
    /// Proposes the commands, and executes actions until none is left.
    fn commit(&mut self, commands: Vec<Vec<u8>>);

    /// The number of commands that each node has applied.
    fn applied(&self) -> [usize; NODES];
}

/// Groups of three nodes with a leader and no commands.
pub(crate) trait IdleGroups {
    /// Runs one heartbeat interval for every group: heartbeats, their answers, and ticks.
    fn heartbeat_round(&mut self);

    /// The part of it that a follower does without a message; `None` if there is none.
    fn follower_tick(&mut self) -> Option<()>;
}

/// Counts and reads the applied commands.
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
