//! What clients were told: acknowledged means committed, a read sees every write that was committed
//! before it began, and all that was answered about a key can be put into one order.
//!
//! The first two are checked at once, with the help of the index that each number carries. The last
//! one is checked when all is over, and believes nothing but clocks and numbers.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use super::commits::Commits;
use super::verdict::{Verdict, Violation, check};
use crate::replica::Answer;
use crate::sim::kv::{Command, ID_STEP, Value};
use crate::sim::linearizability::{Call, Found, Specification, search};
use crate::types::Index;

/// How many configurations the search for an order may look at, for one key.
const CONFIGURATIONS_MAX: usize = 200_000;

/// An operation under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(in crate::sim) struct Operation {
    pub(in crate::sim) client: usize,
    pub(in crate::sim) node: usize,
    pub(in crate::sim) kind: OperationKind,
    /// Its place in the key's history.
    place: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(in crate::sim) enum OperationKind {
    Write(Command),
    Read {
        key: u8,
        /// The key's last change that was committed when the read began: it must not see less,
        /// whether or not a client knows of it. Rounds promise that (§6.4 of the dissertation).
        floor: Index,
    },
    /// One for which a lease is enough.
    LeaseRead {
        key: u8,
        /// As for `Read`; `None` where the clocks are worse than the lease allows for. Then it is
        /// as good as a stale read.
        floor: Option<Index>,
    },
    /// One that may see an old state: one that was, and none before what the same life of the node
    /// has shown.
    StaleRead {
        key: u8,
    },
}

impl OperationKind {
    fn key(self) -> u8 {
        match self {
            OperationKind::Write(command) => command.key(),
            OperationKind::Read { key, .. }
            | OperationKind::LeaseRead { key, .. }
            | OperationKind::StaleRead { key } => key,
        }
    }

    /// Whether it must fit into one order with all others.
    fn is_linearizable(self) -> bool {
        !matches!(
            self,
            OperationKind::LeaseRead { floor: None, .. } | OperationKind::StaleRead { .. }
        )
    }
}

/// What a client asked and, if it was told, the number it was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Asked {
    /// `None` reads.
    command: Option<Command>,
    answer: Option<u64>,
}

impl Specification for Asked {
    type State = u64;

    fn apply(&self, &number: &u64) -> Option<u64> {
        let after = self.command.map_or(number, |command| command.number_after(number));
        self.answer.is_none_or(|answer| answer == after).then_some(after)
    }
}

/// See the module.
#[derive(Debug, Default)]
pub(in crate::sim) struct History {
    /// The latest that some client knows of each key.
    known: BTreeMap<u8, Value>,
    /// What was asked about each key; `None` if it was refused.
    calls: BTreeMap<u8, Vec<Option<Call<Asked>>>>,
    /// Counts begins and ends.
    clock: u64,
    pub(in crate::sim) writes_answered: u64,
    pub(in crate::sim) reads_answered: u64,
    pub(in crate::sim) lease_reads_answered: u64,
    pub(in crate::sim) stale_reads_answered: u64,
    /// The latest change that each node has shown in each of its lives.
    shown: BTreeMap<(usize, u64), Index>,
    /// Keys whose search was given up.
    pub(in crate::sim) undecided: u64,
}

impl History {
    /// The latest that some client knows of a key.
    pub(in crate::sim) fn known(&self, key: u8) -> Value {
        self.known.get(&key).copied().unwrap_or_default()
    }

    /// A client asks for something.
    pub(in crate::sim) fn began(
        &mut self,
        client: usize,
        node: usize,
        kind: OperationKind,
    ) -> Operation {
        self.clock += 1;
        let command = match kind {
            OperationKind::Write(command) => Some(command),
            _ => None,
        };
        if !kind.is_linearizable() {
            return Operation { client, node, kind, place: usize::MAX };
        }
        let calls = self.calls.entry(kind.key()).or_default();
        let what = Asked { command, answer: None };
        calls.push(Some(Call { began: self.clock, ended: None, what, after: None }));
        Operation { client, node, kind, place: calls.len() - 1 }
    }

    fn call(&mut self, operation: &Operation) -> Option<&mut Option<Call<Asked>>> {
        self.calls.get_mut(&operation.kind.key())?.get_mut(operation.place)
    }

    pub(super) fn refused(&mut self, operation: &Operation) {
        if let Some(call) = self.call(operation) {
            *call = None;
        }
    }

    /// A node in this life of its has answered.
    pub(super) fn answered(
        &mut self,
        operation: &Operation,
        life: u64,
        answer: &Answer,
        commits: &Commits,
    ) -> Verdict {
        let output = &answer.bytes;
        let value = Value::decode(output);
        check(value.is_some(), "answers are the state machine's", || {
            format!("{operation:?} was answered {output:?}")
        })?;
        let value = value.unwrap_or_default();
        match operation.kind {
            OperationKind::Write(command) => {
                check_write(command, answer, commits)?;
                self.writes_answered += 1;
            }
            OperationKind::Read { floor, .. } => {
                check_read(operation, floor, value, commits)?;
                self.reads_answered += 1;
            }
            OperationKind::LeaseRead { floor, .. } => {
                check_read(operation, floor.unwrap_or_default(), value, commits)?;
                self.lease_reads_answered += 1;
            }
            OperationKind::StaleRead { .. } => {
                check_read(operation, Index(0), value, commits)?;
                self.stale_reads_answered += 1;
            }
        }
        if !matches!(operation.kind, OperationKind::Write(_)) {
            check_index(operation, answer.index, value, commits)?;
            self.showed(operation, life, value, commits)?;
        }
        let known = self.known.entry(operation.kind.key()).or_default();
        if value.index > known.index {
            *known = value;
        }
        self.clock += 1;
        let now = self.clock;
        if let Some(Some(call)) = self.call(operation) {
            call.ended = Some(now);
            call.what.answer = Some(value.number);
        }
        Ok(())
    }

    /// What a node shows is the state after some entry: that of the latest read's, or a later one.
    fn showed(
        &mut self,
        operation: &Operation,
        life: u64,
        value: Value,
        commits: &Commits,
    ) -> Verdict {
        let shown = self.shown.entry((operation.node, life)).or_default();
        let replaced = commits.next_change(operation.kind.key(), value.index);
        check(
            replaced.is_none_or(|replaced| replaced > *shown),
            "a node shows no earlier state than before",
            || {
                format!(
                    "{operation:?} saw {value:?}, replaced at {replaced:?}; the node had shown {shown} in its life {life}"
                )
            },
        )?;
        *shown = value.index.max(*shown);
        Ok(())
    }

    /// Whether all that was answered can be put into one order, key by key.
    pub(in crate::sim) fn check_linearizable(&mut self) -> Verdict {
        for (key, calls) in &self.calls {
            let calls = relevant(calls);
            match search(0, &calls, CONFIGURATIONS_MAX) {
                Found::Order(_) => {}
                Found::Undecided => self.undecided += 1,
                Found::NoOrder(most) => {
                    let details = describe(*key, &calls, &most);
                    return Err(Violation { invariant: "answers are linearizable", details });
                }
            }
        }
        Ok(())
    }
}

pub(super) fn check_write(command: Command, answer: &Answer, commits: &Commits) -> Verdict {
    let output = &answer.bytes;
    let place = commits.place(command.id());
    check(place.is_some(), "acknowledged means committed", || {
        format!("{command:?} was acknowledged and is not committed")
    })?;
    let index = place.unwrap_or_default();
    let expected = commits.output(index);
    check(
        expected.is_some_and(|expected| expected == output),
        "answers are the state machine's",
        || format!("{command:?} at {index} was answered {output:?} instead of {expected:?}"),
    )?;
    // One that was asked for again within a session has the index of that, which is a later one. In
    // version 2 of the wire a leader's answer to the node that forwarded has none.
    check(answer.index.is_none_or(|told| told >= index), "an answer names its index", || {
        format!("{command:?} was applied at {index}; its author was given {:?}", answer.index)
    })
}

/// A query's answer is from the state after the index that it names: not an earlier, nor a later.
fn check_index(
    operation: &Operation,
    told: Option<Index>,
    value: Value,
    commits: &Commits,
) -> Verdict {
    let next = commits.next_change(operation.kind.key(), value.index);
    let is_true =
        told.is_some_and(|told| value.index <= told && next.is_none_or(|next| told < next));
    check(is_true, "an answer names its index", || {
        format!("{operation:?} saw {value:?}, which held until {next:?}, and was given {told:?}")
    })
}

fn check_read(operation: &Operation, floor: Index, value: Value, commits: &Commits) -> Verdict {
    check(value.index >= floor, "a read sees what was committed before", || {
        format!("{operation:?} saw {value:?}; index {floor} was committed when it began")
    })?;
    let is_true = value == Value::default()
        || commits.output(value.index).is_some_and(|expected| *expected == value.encode());
    check(is_true, "a read sees what was committed", || format!("{operation:?} saw {value:?}"))
}

/// The calls that can make a difference, and of those without outcome that are alike, one order.
///
/// A number that nobody was ever told, and nobody ever expected, was never there as far as anybody
/// can tell: the call without outcome that might have made it is left out. Increments without
/// outcome are all alike.
fn relevant(calls: &[Option<Call<Asked>>]) -> Vec<Call<Asked>> {
    let calls = || calls.iter().flatten();
    let family = |number: u64| number / ID_STEP;
    let answers = calls().filter_map(|call| call.what.answer);
    let expected = calls().filter_map(|call| match call.what.command {
        Some(Command::Swap { expected, .. }) => Some(expected),
        _ => None,
    });
    let seen: BTreeSet<u64> = answers.chain(expected).map(family).collect();
    let mut kept: Vec<Call<Asked>> = Vec::new();
    let mut last_increment = None;
    for call in calls() {
        let mut call = call.clone();
        if call.ended.is_none() {
            match call.what.command {
                None => continue,
                Some(Command::Increment { .. }) => {
                    call.after = last_increment.replace(kept.len());
                }
                Some(command) if !seen.contains(&family(command.id())) => continue,
                Some(_) => {}
            }
        }
        kept.push(call);
    }
    kept
}

/// What was placed last, and what is left.
fn describe(key: u8, calls: &[Call<Asked>], most: &[usize]) -> String {
    let mut words =
        format!("key {key}: these could be put into an order, the last ones of {}:", most.len());
    let name = |call: &Call<Asked>| {
        let ended = call.ended.map_or("?".to_owned(), |ended| ended.to_string());
        let asked = call.what.command.map_or("Read".to_owned(), |command| format!("{command:?}"));
        let answer = call.what.answer.map_or("?".to_owned(), |answer| answer.to_string());
        format!("{:>5} to {ended:>5}: {asked} -> {answer}", call.began)
    };
    for &call in &most[most.len().saturating_sub(8)..] {
        let _ = write!(words, "\n  {}", name(&calls[call]));
    }
    words.push_str("\nand these could not follow:");
    let left = (0..calls.len()).filter(|call| !most.contains(call) && calls[*call].ended.is_some());
    for call in left.take(8) {
        let _ = write!(words, "\n  {}", name(&calls[call]));
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    fn operation(history: &mut History, command: Option<Command>) -> Operation {
        let kind = match command {
            Some(command) => OperationKind::Write(command),
            None => OperationKind::Read { key: 0, floor: Index(0) },
        };
        history.began(0, 0, kind)
    }

    fn answer(history: &mut History, operation: &Operation, number: u64) {
        history.clock += 1;
        let now = history.clock;
        let call = history.call(operation).unwrap().as_mut().unwrap();
        (call.ended, call.what.answer) = (Some(now), Some(number));
    }

    const SET: Option<Command> = Some(Command::Set { key: 0, id: ID_STEP });
    const INCREMENT: Option<Command> = Some(Command::Increment { key: 0, id: 2 * ID_STEP });

    #[test]
    fn a_write_in_doubt_may_show_late_but_not_vanish_again() {
        let mut history = History::default();
        operation(&mut history, SET);
        for number in [0, ID_STEP] {
            let read = operation(&mut history, None);
            answer(&mut history, &read, number);
            history.check_linearizable().unwrap();
        }
        let read = operation(&mut history, None);
        answer(&mut history, &read, 0);
        let violation = history.check_linearizable().unwrap_err();
        assert_eq!(violation.invariant, "answers are linearizable");
        assert!(violation.details.contains("Read -> 0"), "{}", violation.details);
    }

    #[test]
    fn what_was_refused_must_not_show() {
        let mut history = History::default();
        let set = operation(&mut history, SET);
        history.refused(&set);
        let read = operation(&mut history, None);
        answer(&mut history, &read, ID_STEP);
        assert!(history.check_linearizable().is_err());
    }

    /// Each might have been carried out or not, at any later time: as sets they would be 2^40
    /// possibilities.
    #[test]
    fn many_increments_in_doubt_are_no_trouble() {
        let mut history = History::default();
        for _ in 0..40 {
            operation(&mut history, INCREMENT);
        }
        for number in [3, 3, 17, 40] {
            let read = operation(&mut history, None);
            answer(&mut history, &read, number);
        }
        history.check_linearizable().unwrap();
        let read = operation(&mut history, None);
        answer(&mut history, &read, 41);
        assert!(history.check_linearizable().is_err());
        assert_eq!(history.undecided, 0);
    }
}
