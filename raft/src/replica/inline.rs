//! Runs a state machine where the replica runs.

use bytes::Bytes;

use super::{Committed, Effect, Replica, StateMachine};
use crate::types::{Now, Payload};

/// A state machine on the replica's own thread, for machines that are quick. The node and the simulator share it.
#[derive(Debug)]
pub struct Inline<S> {
    machine: S,
    outputs: Vec<Bytes>,
}

impl<S: StateMachine> Inline<S> {
    /// Takes the machine in its initial state.
    pub fn new(machine: S) -> Inline<S> {
        Inline { machine, outputs: Vec::new() }
    }

    /// The machine.
    pub fn machine(&self) -> &S {
        &self.machine
    }

    /// Carries out `effect` if it is an [`Effect::Apply`] or an [`Effect::Query`], and tells the replica; otherwise gives
    /// it back.
    pub fn run(&mut self, now: Now, replica: &mut Replica, effect: Effect) -> Option<Effect> {
        match effect {
            Effect::Apply(entries) => {
                let last = entries.last()?.index;
                for entry in &entries {
                    if let Payload::Command(command) = &entry.payload {
                        let committed = Committed { index: entry.index, term: entry.term, stamp: entry.stamp, command };
                        self.outputs.push(self.machine.apply(&committed));
                    }
                }
                let told = replica.applied(now, last, &mut self.outputs);
                assert!(told.is_ok(), "one output was made for each command: {told:?}");
                None
            }
            Effect::Query { id, query } => {
                replica.queried(now, id, self.machine.query(&query));
                None
            }
            other => Some(other),
        }
    }
}
