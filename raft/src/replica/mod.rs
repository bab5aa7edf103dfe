//! Everything that decides, without I/O: the core, the order of application, forwarding, requests and their deadlines.
//!
//! A [`Replica`] is driven like the core: inputs in, [`Effect`]s out, time as an argument. The node drives it on a
//! reactor, the simulator on a virtual clock; both are meant to be too thin to be wrong.
//!
//! ```text
//! submit(Write) -> waiting -> leads?   propose -> in the log -> applied, same term: Answer
//!                                                            -> a later term is applied: Refused
//!                          -> follows? Forward -> the leader's outcome; link broken: Unknown
//!                          -> nobody?  waits, bounded, until the deadline: Refused
//! submit(Read)  -> ReadIndex -> applied up to it -> Query -> Answer; nothing until the deadline: Refused
//! ```
//!
//! A deadline that passes while a command is in a log or with the leader makes its outcome `Unknown`, never `Refused`:
//! `Refused` means that it had no effect and never will have one.

mod effect;
mod inline;
mod limits;
mod message;
mod reads;
#[expect(clippy::module_inception, reason = "the type for which the module is named")]
mod replica;
mod requests;
mod state_machine;
mod writes;

pub use effect::{Effect, Event, QueryId};
pub use inline::Inline;
pub use limits::{Limits, ReplicaConfig, ReplicaConfigError};
pub use message::{Bound, Doubt, Outcome, PeerMessage, Refusal, Request, RequestId};
pub use replica::{Replica, Status};
pub use state_machine::{Committed, StateMachine};
pub use writes::AppliedError;

#[cfg(test)]
mod tests;
