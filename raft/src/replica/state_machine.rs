//! The state machine: the trait that a user implements.

use std::io::{self, Read};

use bytes::Bytes;

use super::{MachineDigest, MachineError, Query};
use crate::types::{Index, Stamp, Term};

/// A committed command, as the state machine receives it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Committed<'a> {
    /// Its index in the log. It increases from command to command; the indexes between belong to
    /// Raft's own entries.
    pub index: Index,
    /// The term of the leader that proposed it.
    pub term: Term,
    /// Log time, in milliseconds: the same on every replica, so it may decide what expires.
    ///
    /// It never decreases along the log. It follows the greatest wall clock time that a majority of
    /// the voters has reached, at half to twice the speed of real time. A wall clock that is wrong
    /// for three seconds moves no expiry by more than three seconds. After all nodes were down it
    /// steps forward before the first command is accepted.
    pub stamp: Stamp,
    /// The command.
    pub command: &'a [u8],
}

/// The state that is replicated: the same commands in the same order on every node.
///
/// `apply` must be deterministic: no clock (the entry carries a stamp), no random source, no
/// iteration order that differs between processes. Otherwise the states of the replicas diverge. A
/// machine with a [`digest`](StateMachine::digest) is compared with the others at regular entries,
/// and a diverged one is stopped. Its answers between the divergence and the stop may have been
/// wrong.
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
    /// Applies a committed command and returns the answer for its author.
    ///
    /// Commands arrive in the order of the log. Between two starts of the node each arrives at most
    /// once; a snapshot may stand for some. After a restart those after the newest snapshot arrive
    /// again.
    ///
    /// # Errors
    /// The machine cannot continue: it does not know the command, or its own storage is full. The
    /// node then reports the failure and no longer leads, answers reads or writes, or takes
    /// snapshots. It still votes and acknowledges. The entry stays in the log and reaches every
    /// node: an error that all nodes return stops all of them, until a version of the program that
    /// can apply the entry is started. A panic counts as an error.
    fn apply(&mut self, entry: &Committed<'_>) -> Result<Bytes, MachineError>;

    /// Answers a query from the current state. If it panics, the query is refused and the machine
    /// continues.
    fn query(&self, query: &Query<'_>) -> Bytes;

    /// Whether `apply` of this command takes a few microseconds at most.
    ///
    /// Waking another thread would cost as much, so the node then calls it on its event loop, up to
    /// 1024 times in a row, if no earlier job is unfinished. Heartbeats wait meanwhile. This method
    /// must be quick itself and change nothing. By default no command is quick.
    fn applies_quickly(&self, _entry: &Committed<'_>) -> bool {
        false
    }

    /// Like [`applies_quickly`](Self::applies_quickly), for `query`.
    fn answers_quickly(&self, _query: &Query<'_>) -> bool {
        false
    }

    /// A copy of the current state, to be read on another thread while this one continues.
    ///
    /// The copy should be cheap (of a persistent map, or of an `Arc`) and encode itself while it is
    /// read. The method is called between commands, whenever
    /// [`Limits::snapshot_every_bytes`](super::Limits) of log have been applied. Commands and
    /// queries wait for it; heartbeats do not.
    ///
    /// A separate thread reads the copy, so a slow read delays no write of the log. If reading
    /// fails or panics, the snapshot fails, and another one is taken later; until then the log
    /// grows. A read that never returns prevents further snapshots. The reader must end: the file
    /// is written until it does, or until the snapshot exceeds
    /// [`Limits::snapshot_bytes`](super::Limits) and fails. Without that limit, a reader that never
    /// ends fills the disk, and a log without room stops the node.
    fn snapshot(&self) -> Box<dyn Read + Send>;

    /// Replaces the state by one that `snapshot` wrote, on this node or another.
    ///
    /// Called at the node's start, and when this node is so far behind that the leader sends its
    /// snapshot.
    ///
    /// # Errors
    /// The reader's error, or that the bytes are not a state. The method is called up to
    /// [`RESTORE_ATTEMPTS`](super::RESTORE_ATTEMPTS) times; then the failure counts like an error
    /// of `apply`.
    fn restore(&mut self, snapshot: &mut dyn Read) -> io::Result<()>;

    /// The digest of the current state, by which the members detect that their states differ.
    ///
    /// Called on the machine's thread after every entry whose index is a multiple of
    /// [`Limits::digest_interval`](super::Limits), before each snapshot and after each restore. The
    /// replica adds the digest of the sessions.
    ///
    /// If a majority of the voters has one value and this node has another one of the same version,
    /// this node stops answering and leading until it has restored the leader's snapshot. It still
    /// votes and acknowledges. If the values differ and none is a majority's, all nodes report it
    /// and none stops.
    ///
    /// The value must depend on the state alone: no addresses, no hash with a random seed, no
    /// iteration order. `version` is the version of the method. A program that computes the value
    /// differently, or keeps another state after the same commands, increments it. It is then not
    /// compared with the older version while nodes are upgraded, so a divergence stays unnoticed
    /// during that time.
    ///
    /// Commands wait while this method runs, so make it cheap: keep the sum of a hash of each
    /// element, and update it with the element. Such a sum detects a command that was applied
    /// differently at once, and a flipped bit in memory when the element is next written or
    /// restored. A hash of the whole state detects both at once; with a million elements choose a
    /// long interval for it.
    ///
    /// ```
    /// # use std::{collections::HashMap, io::{self, Read}};
    /// # use bytes::Bytes;
    /// # use kodiak_raft::replica::{Committed, MachineDigest, MachineError, Query, StateMachine};
    /// /// Counts each command.
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
    ///     let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
    ///     bytes.fold(0xcbf2_9ce4_8422_2325, step)
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
    ///     // query, snapshot and restore as above
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
    /// The default is `None`: the machine is not compared.
    fn digest(&self) -> Option<MachineDigest> {
        None
    }
}
