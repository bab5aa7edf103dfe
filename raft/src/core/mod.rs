//! The Raft algorithm, sans-IO.

mod action;

pub use action::{Action, Done, Event, Fetch, ReadId, Role};
