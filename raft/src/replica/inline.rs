//! Runs a state machine where the replica runs.

use std::io::{self, Read};

use super::{Answer, Effect, Outcome, Query, Replica, Sessions, StateMachine, snapshot};
use crate::core::mutants::{Mutant, planted};
use crate::storage::Job;
use crate::types::{Now, SnapshotMeta};

/// A state machine and the sessions of its clients on the replica's own thread, for machines that are quick. The node and
/// the simulator share it.
#[derive(Debug)]
pub struct Inline<S> {
    machine: S,
    sessions: Sessions,
    outputs: Vec<Outcome>,
}

impl<S: StateMachine> Inline<S> {
    /// Takes the machine in its initial state.
    pub fn new(machine: S) -> Inline<S> {
        Inline { machine, sessions: Sessions::new(), outputs: Vec::new() }
    }

    /// The machine.
    pub fn machine(&self) -> &S {
        &self.machine
    }

    /// The open sessions.
    pub fn sessions(&self) -> &Sessions {
        &self.sessions
    }

    /// At the node's start: puts the machine into the state of the newest snapshot, whose content this is.
    ///
    /// # Errors
    /// What reading the content, or the machine, says. The machine is of no use then.
    pub fn begin(&mut self, content: &mut dyn Read) -> io::Result<()> {
        self.sessions = snapshot::restore(&mut self.machine, content)?;
        Ok(())
    }

    /// Carries out an [`Effect::Restore`], given the content of the snapshot that it names, and tells the replica.
    ///
    /// # Errors
    /// As [`begin`](Inline::begin): the replica must be told of a storage failure.
    pub fn restore(
        &mut self,
        now: Now,
        replica: &mut Replica,
        meta: &SnapshotMeta,
        content: &mut dyn Read,
    ) -> io::Result<()> {
        self.begin(content)?;
        replica.restored(now, meta);
        Ok(())
    }

    /// Carries out `effect` if it is an [`Effect::Apply`] or an [`Effect::Query`], and tells the replica; makes a
    /// [`Job::TakeSnapshot`] of an [`Effect::TakeSnapshot`]; gives others back.
    pub fn run(&mut self, now: Now, replica: &mut Replica, effect: Effect) -> Option<Effect> {
        match effect {
            Effect::Apply(entries) => {
                let last = entries.last()?.index;
                for entry in &entries {
                    let stamp = if planted(Mutant::ExpiryByLocalClock) { now.wall } else { entry.stamp };
                    self.outputs.extend(self.sessions.apply_at(stamp, entry, &mut self.machine));
                }
                let told = replica.applied(now, last, &mut self.outputs);
                assert!(told.is_ok(), "one outcome was made for each proposal: {told:?}");
                None
            }
            Effect::Query { id, query } => {
                let applied = replica.applied;
                let bytes = self.machine.query(&Query { applied, bytes: &query });
                replica.queried(now, id, Answer::new(bytes, applied));
                None
            }
            Effect::TakeSnapshot(meta) => {
                let source = snapshot::seal(self.machine.snapshot(), &self.sessions, replica.snapshots.counter());
                Some(Effect::Storage(Job::TakeSnapshot { meta, source }))
            }
            other => Some(other),
        }
    }
}
