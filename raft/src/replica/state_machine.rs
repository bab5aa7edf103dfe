//! What the user replicates.

use std::io::{self, Read};

use bytes::Bytes;

use super::{MachineDigest, MachineError, Query};
use crate::types::{Index, Stamp, Term};

/// A committed command, as the state machine sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Committed<'a> {
    /// Its position in the log. Rises from command to command; indexes between belong to Raft's own
    /// entries.
    pub index: Index,
    /// The term of the leader that made it.
    pub term: Term,
    /// Log time: the same on every replica, so what expires may be decided by it. It never falls
    /// along the log, and keeps to the greatest wall clock that a majority of the voters has
    /// reached, at half to twice the speed of real time: a wall clock that is wrong for three
    /// seconds moves no expiry by more than three seconds. After all nodes were off it steps
    /// forward, before the first command is taken.
    pub stamp: Stamp,
    /// The command.
    pub command: &'a [u8],
}

/// The state that is replicated: the same commands in the same order on every node.
///
/// `apply` must be deterministic: no clock (the entry carries a stamp), no random source, no
/// iteration order that differs between processes. Otherwise replicas drift apart. A machine that
/// gives a [`digest`](StateMachine::digest) of its state is compared with the others at regular
/// entries, and the one that has drifted apart is stopped; what its node has answered in between
/// may have been wrong.
///
/// ```
/// use std::io::{self, Read};
///
/// use bytes::Bytes;
/// use kodiak_raft::replica::{Committed, MachineError, Query, StateMachine};
///
/// /// Adds up numbers.
/// #[derive(Default)]
/// struct Sum(u64);
///
/// impl StateMachine for Sum {
///     fn apply(&mut self, entry: &Committed<'_>) -> Result<Bytes, MachineError> {
///         let number = entry.command.try_into().map_or(0, u64::from_le_bytes);
///         self.0 = self.0.wrapping_add(number);
///         Ok(Bytes::copy_from_slice(&self.0.to_le_bytes()))
///     }
///     fn query(&self, _query: &Query<'_>) -> Bytes {
///         Bytes::copy_from_slice(&self.0.to_le_bytes())
///     }
///     fn snapshot(&self) -> Box<dyn Read + Send> {
///         Box::new(io::Cursor::new(self.0.to_le_bytes()))
///     }
///     fn restore(&mut self, snapshot: &mut dyn Read) -> io::Result<()> {
///         let mut number = [0; 8];
///         snapshot.read_exact(&mut number)?;
///         self.0 = u64::from_le_bytes(number);
///         Ok(())
///     }
/// }
/// ```
pub trait StateMachine {
    /// Applies a committed command and says what its author is told. Commands come in the log's
    /// order, each once in a life of the node, except that a snapshot may stand for some; after a
    /// restart those that follow the newest snapshot come again.
    ///
    /// # Errors
    /// If the machine cannot go on: it knows the command not, or its own storage is full. The node
    /// then leads no more, answers no reads or writes and takes no snapshots, and says so; it goes
    /// on voting and acknowledging. The entry stays in the log, and every node comes to it: an
    /// error that all nodes return stops all of them, until a version of the program is started
    /// that can apply it. A panic counts as an error.
    fn apply(&mut self, entry: &Committed<'_>) -> Result<Bytes, MachineError>;

    /// Answers a query from the state as it is. If it panics, that query is refused and the
    /// machine goes on.
    fn query(&self, query: &Query<'_>) -> Bytes;

    /// Whether `apply` of this command takes some microseconds at most: no more than a wake of
    /// another thread costs. The node then calls it on the loop, where heartbeats wait for it, if
    /// nothing else is to be done before; up to 1024 such calls follow each other. It must be
    /// quick itself and change nothing. By default nothing is quick.
    fn applies_quickly(&self, _entry: &Committed<'_>) -> bool {
        false
    }

    /// As [`applies_quickly`](Self::applies_quickly), of `query`.
    fn answers_quickly(&self, _query: &Query<'_>) -> bool {
        false
    }

    /// The state as it is, to be read on another thread while this one goes on: a cheap copy (of a
    /// persistent map, or of what is behind an `Arc`) that turns itself into bytes as it is read.
    /// Called between commands, whenever [`Limits::snapshot_every_bytes`](super::Limits) of log
    /// have been applied. While it runs, commands and queries wait, but no heartbeat does.
    ///
    /// What it gives is read on a thread for that alone: however long a read takes, no write of the
    /// log waits for it. If reading fails or panics, that snapshot fails, and another one is taken
    /// later; meanwhile the log grows. A reader that does not come back keeps further snapshots
    /// out. It must end: what it gives is written until it does, or until the snapshot has more
    /// than [`Limits::snapshot_bytes`](super::Limits) and fails. Without that limit a reader that
    /// never ends fills the disk, and a log without room stops the node.
    fn snapshot(&self) -> Box<dyn Read + Send>;

    /// Forgets the state and takes the one that `snapshot` wrote, on this node or another. Called
    /// at the node's start, and when this node is so far behind that the leader sends its
    /// snapshot.
    ///
    /// # Errors
    /// What reading says, or that the bytes make no sense. It is called again, up to
    /// [`RESTORE_ATTEMPTS`](super::RESTORE_ATTEMPTS) times; then it is as for an error of `apply`.
    fn restore(&mut self, snapshot: &mut dyn Read) -> io::Result<()>;

    /// The digest of the state as it is, by which the members find out whether all of them have the
    /// same. Called on the machine's thread after every entry whose index is a multiple of
    /// [`Limits::digest_interval`](super::Limits), before each snapshot and after each restore. The
    /// sessions of clients are not the machine's: their digest is mixed in.
    ///
    /// If a majority of the voters has one value and this node another one of the same version,
    /// this node stops answering and leading, until a snapshot of the leader's has taken the place
    /// of its state. It goes on voting and acknowledging. If values differ and none is that of a
    /// majority, all nodes say so and none stops.
    ///
    /// The value must depend on the state alone: no addresses, no hash with a random seed, no
    /// iteration order. `version` says how it is made: a program that makes it in another way, or
    /// that keeps another state after the same commands, raises it, and is not compared with the
    /// older one while nodes are upgraded. (It may still have diverged: that is then not noticed.)
    ///
    /// Commands wait while it runs, so make it cheap: keep the sum of a hash of each entry, and
    /// change it with the entry. A sum that is kept in this way finds commands that were applied
    /// differently at once. It finds a bit that has turned over in memory when the entry is written
    /// next, or restored. A hash of everything finds both at once; with a million entries choose a
    /// long interval for it.
    ///
    /// ```
    /// # use std::{collections::HashMap, io::{self, Read}};
    /// # use bytes::Bytes;
    /// # use kodiak_raft::replica::{Committed, MachineDigest, MachineError, Query, StateMachine};
    /// /// Counts how often each command came.
    /// #[derive(Default)]
    /// struct Counts {
    ///     of: HashMap<Vec<u8>, u64>,
    ///     /// The sum of `hash` over all pairs.
    ///     sum: u64,
    /// }
    ///
    /// /// FNV-1a over a command and its count.
    /// fn hash(command: &[u8], count: u64) -> u64 {
    ///     let bytes = command.iter().copied().chain(count.to_le_bytes());
    ///     bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3))
    /// }
    ///
    /// impl StateMachine for Counts {
    ///     fn apply(&mut self, entry: &Committed<'_>) -> Result<Bytes, MachineError> {
    ///         let count = self.of.entry(entry.command.to_vec()).or_default();
    ///         if *count > 0 {
    ///             self.sum = self.sum.wrapping_sub(hash(entry.command, *count));
    ///         }
    ///         *count += 1;
    ///         self.sum = self.sum.wrapping_add(hash(entry.command, *count));
    ///         Ok(Bytes::new())
    ///     }
    ///     fn digest(&self) -> Option<MachineDigest> {
    ///         Some(MachineDigest { version: 1, value: self.sum })
    ///     }
    ///     // query, snapshot and restore as ever
    /// #   fn query(&self, _: &Query<'_>) -> Bytes { Bytes::new() }
    /// #   fn snapshot(&self) -> Box<dyn Read + Send> { Box::new(io::empty()) }
    /// #   fn restore(&mut self, _: &mut dyn Read) -> io::Result<()> { Ok(()) }
    /// }
    /// # let mut counts = Counts::default();
    /// # for command in [b"a", b"b", b"a"] {
    /// #     let stamp = kodiak_raft::types::Stamp(0);
    /// #     let (index, term) = (kodiak_raft::types::Index(1), kodiak_raft::types::Term(1));
    /// #     counts.apply(&Committed { index, term, stamp, command }).unwrap();
    /// # }
    /// # assert_eq!(counts.sum, hash(b"a", 2).wrapping_add(hash(b"b", 1)));
    /// ```
    ///
    /// The default takes no digests, so the machine is compared with no other.
    fn digest(&self) -> Option<MachineDigest> {
        None
    }
}
