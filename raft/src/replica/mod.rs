//! A replica without I/O: the core, the order of application, forwarding, requests and deadlines.
//!
//! A [`Replica`] is driven like the core: inputs go in, [`Effect`]s come out, time is an argument.
//! The node drives it on a reactor, the simulator on a virtual clock; both are kept too thin to be
//! wrong.
//!
//! ```text
//! submit(Write) -> waiting -> leads?   proposed -> in the log -> applied, same term: Answer
//!                                                             -> a later term applied: Refused
//!                          -> follows? Forward -> the leader's outcome; link broken: Unknown
//!                          -> no leader: waits until the deadline: Refused
//! submit(Read)  -> ReadIndex -> applied up to it -> Query -> Answer; deadline passed: Refused
//! submit(LeaseRead): the same with the leader's lease
//! submit(StaleRead) -> Query -> Answer
//! ```
//!
//! A deadline that passes while a command is in a log or with the leader makes its outcome
//! `Unknown`, never `Refused`: `Refused` means that it had no effect and never will.
//!
//! A command within a session ([`Sessions`]) takes the same way. If its outcome is `Unknown`, its
//! author may submit it again, to any node, and gets the first answer.
//!
//! A cluster of one node, with a disk that stores nothing:
//!
//! ```
//! use std::io::{self, Read};
//!
//! use bytes::Bytes;
//! use kodiak_raft::core::{Config, Done};
//! use kodiak_raft::replica::{
//!     Answer, Committed, Effect, MachineError, MachineHost, MachineRunner, Outcome, Query,
//!     Replica, ReplicaConfig, Request, RequestId, StateMachine,
//! };
//! use kodiak_raft::storage::Job;
//! use kodiak_raft::types::{
//!     Configuration, HardState, Index, Member, NodeId, Now, Saved, SnapshotMeta, TermTable,
//! };
//!
//! struct Count(u64);
//! impl StateMachine for Count {
//!     fn apply(&mut self, _: &Committed<'_>) -> Result<Bytes, MachineError> {
//!         self.0 += 1;
//!         Ok(Bytes::from(self.0.to_string()))
//!     }
//!     fn query(&self, _: &Query<'_>) -> Bytes {
//!         Bytes::from(self.0.to_string())
//!     }
//!     fn snapshot(&self) -> Box<dyn Read + Send> {
//!         Box::new(io::Cursor::new(self.0.to_string()))
//!     }
//!     fn restore(&mut self, snapshot: &mut dyn Read) -> io::Result<()> {
//!         self.0 = io::read_to_string(snapshot)?.parse().map_err(io::Error::other)?;
//!         Ok(())
//!     }
//! }
//!
//! /// Nothing is on disk, so there is no snapshot to open.
//! struct NoDisk;
//! impl MachineHost for NoDisk {
//!     fn open_snapshot(&mut self, _: &SnapshotMeta) -> io::Result<Box<dyn Read + '_>> {
//!         Err(io::ErrorKind::NotFound.into())
//!     }
//! }
//!
//! let initial_configuration = Configuration::of_voters([(NodeId(1), Member::default())]);
//! let (hard_state, terms) = (HardState::default(), TermTable::new());
//! let saved = Saved { hard_state, initial_configuration, terms, ..Saved::default() };
//! let mut now = Now::default();
//! let mut replica = Replica::new(ReplicaConfig::new(Config::new(NodeId(1))), saved, now)?;
//! let mut machine = MachineRunner::new(Count(0));
//!
//! replica.submit(now, RequestId(7), Request::Write(Bytes::from_static(b"one more")));
//! let answer = loop {
//!     match replica.poll() {
//!         Some(Effect::Reply { id: RequestId(7), outcome }) => break outcome,
//!         Some(Effect::Storage(Job::Write(write))) => {
//!             replica.handle_done(now, Done::Written { sequence: write.sequence });
//!         }
//!         Some(Effect::Machine(job)) => {
//!             machine.run(job, &mut NoDisk, &mut |done| replica.handle_machine_done(now, done));
//!         }
//!         Some(_) => {}
//!         None => {
//!             now.monotonic = replica.poll_timeout().unwrap(); // a real driver would sleep
//!             replica.handle_timeout(now);
//!         }
//!     }
//! };
//! // Index 1 is the entry with which the leader began its term.
//! assert_eq!(answer, Outcome::Answer(Answer::new("1", Index(2))));
//! # Ok::<(), kodiak_raft::replica::ReplicaConfigError>(())
//! ```

mod admin;
mod answer;
mod config;
mod divergence;
mod effect;
mod event;
mod feature_levels;
mod machine;
mod machine_digest;
mod message;
mod outcome;
// Only drivers that shake hands use it.
#[cfg(any(test, feature = "node", feature = "sim"))]
pub(crate) mod peer_records;
mod reads;
#[expect(clippy::module_inception, reason = "the type for which the module is named")]
mod replica;
mod requests;
pub(crate) mod sessions;
pub(crate) mod snapshot;
mod snapshot_requests;
mod state_machine;
mod writes;

pub use admin::AdminRequest;
pub use answer::{Answer, Query};
pub use config::{Limits, ReplicaConfig, ReplicaConfigError};
pub use effect::{Effect, QueryId};
pub use event::ReplicaEvent;
pub use machine::{
    LOADING_GRACE, LoadingProgress, MachineCallback, MachineDone, MachineError, MachineFailure,
    MachineHost, MachineJob, MachineRunner, RESTORE_ATTEMPTS, UnappliedLogFull,
};
pub use machine_digest::MachineDigest;
pub use message::{PeerMessage, Request, RequestId};
pub use outcome::{Bound, Doubt, Outcome, Refusal};
pub use replica::{Replica, ReplicaStatus};
pub use sessions::{
    ANSWER_BYTES_MAX, ANSWERS_BYTES_MAX, ANSWERS_PER_SESSION_MAX, SESSION_TTL_MS, SESSIONS_MAX,
    Sessions,
};
pub use state_machine::{Committed, StateMachine};

#[cfg(test)]
pub(crate) mod tests;
