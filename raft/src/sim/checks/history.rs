//! What clients were told: acknowledged means durable, refused means never, and a read sees every write that was
//! acknowledged before it began.

use std::collections::{BTreeMap, BTreeSet};

use super::commits::Commits;
use super::{Verdict, check};
use crate::sim::kv::{Command, Value};
use crate::types::Index;

/// An operation under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(in crate::sim) struct Operation {
    pub(in crate::sim) client: usize,
    pub(in crate::sim) node: usize,
    pub(in crate::sim) kind: OperationKind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(in crate::sim) enum OperationKind {
    Write(Command),
    Read {
        key: u8,
        /// What was known about the key when the read began: it must not see less.
        floor: Index,
    },
}

/// See the module.
#[derive(Debug, Default)]
pub(in crate::sim) struct History {
    /// The index of the last change of each key that some client knows of.
    known: BTreeMap<u8, Index>,
    refused: BTreeSet<u64>,
    pub(in crate::sim) writes_answered: u64,
    pub(in crate::sim) reads_answered: u64,
}

impl History {
    /// What a read of `key` that begins now must at least see.
    pub(in crate::sim) fn floor(&self, key: u8) -> Index {
        self.known.get(&key).copied().unwrap_or_default()
    }

    pub(super) fn was_refused(&self, id: u64) -> bool {
        self.refused.contains(&id)
    }

    fn learn(&mut self, key: u8, index: Index) {
        let known = self.known.entry(key).or_default();
        *known = index.max(*known);
    }

    pub(super) fn answered(&mut self, operation: &Operation, output: &[u8], commits: &Commits) -> Verdict {
        match operation.kind {
            OperationKind::Write(command) => {
                let place = commits.place(command.id());
                check(place.is_some(), "acknowledged means committed", || {
                    format!("{command:?} was acknowledged and is not committed")
                })?;
                let index = place.unwrap_or_default();
                let expected = commits.output(index);
                check(expected.is_some_and(|expected| expected == output), "answers are the state machine's", || {
                    format!("{command:?} at {index} was answered {output:?} instead of {expected:?}")
                })?;
                self.learn(command.key(), index);
                self.writes_answered += 1;
            }
            OperationKind::Read { key, floor } => {
                let value = Value::decode(output);
                check(
                    value.is_some_and(|value| value.index >= floor),
                    "a read sees what was acknowledged before",
                    || format!("{operation:?} saw {value:?}; index {floor} was known when it began"),
                )?;
                let value = value.unwrap_or_default();
                let true_value = value == Value::default()
                    || commits.output(value.index).is_some_and(|expected| *expected == value.encode());
                check(true_value, "a read sees what was committed", || format!("{operation:?} saw {value:?}"))?;
                self.learn(key, value.index);
                self.reads_answered += 1;
            }
        }
        Ok(())
    }

    pub(super) fn refused(&mut self, operation: &Operation, commits: &Commits) -> Verdict {
        if let OperationKind::Write(command) = operation.kind {
            let place = commits.place(command.id());
            check(place.is_none(), "what was refused has no effect", || {
                format!("{command:?} was refused and is committed at {place:?}")
            })?;
            self.refused.insert(command.id());
        }
        Ok(())
    }
}
