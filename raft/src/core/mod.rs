//! The Raft algorithm, sans-IO.

mod action;
mod config;
mod status;

pub use action::{Action, Done, Event, Fetch, ProposeError, Proposed, ReadError, ReadId, Role};
pub use config::{Config, ConfigError};
pub use status::{PeerStatus, Status};

use bytes::Bytes;

use crate::types::{Configuration, Entry, HardState, Index, Message, NodeId, Now, Saved, Term, TermTable, Time};

/// One node's part in Raft. (First version: signatures only.)
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Core {
    config: Config,
    saved: Saved,
}

#[allow(missing_docs, clippy::missing_errors_doc)]
impl Core {
    pub fn new(config: Config, saved: Saved, now: Now) -> Result<Core, ConfigError> {
        let _ = now;
        config.validate()?;
        Ok(Core { config, saved })
    }
    pub fn handle_message(&mut self, now: Now, message: Message) {
        let _ = (now, message);
    }
    pub fn handle_timeout(&mut self, now: Now) {
        let _ = now;
    }
    pub fn handle_done(&mut self, now: Now, done: Done) {
        let _ = (now, done);
    }
    pub fn propose(&mut self, now: Now, commands: impl IntoIterator<Item = Bytes>) -> Result<Proposed, ProposeError> {
        let _ = (now, commands.into_iter().count());
        Err(ProposeError::NotLeader { leader: None })
    }
    pub fn read_index(&mut self, now: Now, id: ReadId) -> Result<(), ReadError> {
        let _ = (now, id);
        Err(ReadError::NoLeader)
    }
    pub fn poll(&mut self) -> Option<Action> {
        None
    }
    pub fn poll_timeout(&self) -> Option<Time> {
        None
    }
    pub fn status(&self) -> Status {
        Status {
            id: self.config.id,
            role: Role::Follower,
            term: self.term(),
            leader: None,
            commit: Index(0),
            applied: Index(0),
            durable: Index(0),
            last_index: Index(0),
            peers: Vec::new(),
            ignored_messages: 0,
        }
    }
    pub fn config(&self) -> &Config {
        &self.config
    }
    pub fn id(&self) -> NodeId {
        self.config.id
    }
    pub fn role(&self) -> Role {
        Role::Follower
    }
    pub fn is_leader(&self) -> bool {
        false
    }
    pub fn term(&self) -> Term {
        self.saved.hard_state.term
    }
    pub fn hard_state(&self) -> HardState {
        self.saved.hard_state
    }
    pub fn leader(&self) -> Option<NodeId> {
        None
    }
    pub fn commit(&self) -> Index {
        Index(0)
    }
    pub fn applied(&self) -> Index {
        Index(0)
    }
    pub fn durable(&self) -> Index {
        Index(0)
    }
    pub fn last_index(&self) -> Index {
        self.terms().last_index()
    }
    pub fn terms(&self) -> &TermTable {
        &self.saved.terms
    }
    /// The entry at `index`, if the tail in memory still holds it.
    pub fn entry(&self, index: Index) -> Option<&Entry> {
        self.saved.tail.iter().find(|entry| entry.index == index)
    }
    pub fn configuration(&self) -> &Configuration {
        &self.saved.founding
    }
}
