//! Checks of the answers to clients.
//!
//! Acknowledged writes are committed, and a read sees every write that was committed before it
//! began: both are checked at once, by the index of each value. All answers about a key are
//! linearizable: this is checked at the end, from times and values alone.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use super::commits::Commits;
use super::violation::{CheckResult, Violation, check};
use crate::replica::Answer;
use crate::sim::kv::{Command, ID_STEP, Value};
use crate::sim::linearizability::{Call, SearchResult, Specification, search};
use crate::types::Index;

/// The most configurations that the search for an order may visit for one key.
const CONFIGURATIONS_MAX: usize = 200_000;

/// A pending operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(in crate::sim) struct Operation {
    pub(in crate::sim) client: usize,
    pub(in crate::sim) node: usize,
    pub(in crate::sim) kind: OperationKind,
    /// Its position in the key's history.
    place: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(in crate::sim) enum OperationKind {
    Write(Command),
    Read {
        key: u8,
        /// The key's last change that was committed when the read began. The read must see it, even
        /// if no client knows of it: rounds of heartbeats promise that (dissertation, §6.4).
        floor: Index,
    },
    /// A read that a lease may confirm.
    LeaseRead {
        key: u8,
        /// As for `Read`; `None` if the clocks exceed the bound of the lease. Such a read promises
        /// no more than a stale read.
        floor: Option<Index>,
    },
    /// A read that may see an old state, but none older than the node has shown since its start.
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

    /// Whether it must be linearizable with all others.
    fn is_linearizable(self) -> bool {
        !matches!(
            self,
            OperationKind::LeaseRead { floor: None, .. } | OperationKind::StaleRead { .. }
        )
    }
}

/// A client's operation on a key and, if it was answered, the number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct RegisterOperation {
    /// `None` for a read.
    command: Option<Command>,
    answer: Option<u64>,
}

impl Specification for RegisterOperation {
    type State = u64;

    fn apply(&self, &number: &u64) -> Option<u64> {
        let after = self.command.map_or(number, |command| command.number_after(number));
        self.answer.is_none_or(|answer| answer == after).then_some(after)
    }
}

/// The history of all operations. See the module.
#[derive(Debug, Default)]
pub(in crate::sim) struct History {
    /// The latest value of each key that some client knows.
    known: BTreeMap<u8, Value>,
    /// The operations on each key; `None` if one was refused.
    calls: BTreeMap<u8, Vec<Option<Call<RegisterOperation>>>>,
    /// A logical clock that counts begins and ends.
    clock: u64,
    pub(in crate::sim) writes_answered: u64,
    pub(in crate::sim) reads_answered: u64,
    pub(in crate::sim) lease_reads_answered: u64,
    pub(in crate::sim) stale_reads_answered: u64,
    /// The latest change that each node has shown in each life.
    shown: BTreeMap<(usize, u64), Index>,
    /// The number of keys whose search was given up.
    pub(in crate::sim) undecided: u64,
}

impl History {
    /// The latest value of a key that some client knows.
    pub(in crate::sim) fn known(&self, key: u8) -> Value {
        self.known.get(&key).copied().unwrap_or_default()
    }

    /// A client begins an operation.
    pub(in crate::sim) fn begin(
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
        let operation = RegisterOperation { command, answer: None };
        calls.push(Some(Call { began: self.clock, ended: None, operation, after: None }));
        Operation { client, node, kind, place: calls.len() - 1 }
    }

    fn call(&mut self, operation: &Operation) -> Option<&mut Option<Call<RegisterOperation>>> {
        self.calls.get_mut(&operation.kind.key())?.get_mut(operation.place)
    }

    pub(super) fn refused(&mut self, operation: &Operation) {
        if let Some(call) = self.call(operation) {
            *call = None;
        }
    }

    /// A node has answered an operation in this life.
    pub(super) fn answered(
        &mut self,
        operation: &Operation,
        life: u64,
        answer: &Answer,
        commits: &Commits,
    ) -> CheckResult {
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
            self.check_shown(operation, life, value, commits)?;
        }
        let known = self.known.entry(operation.kind.key()).or_default();
        if value.index > known.index {
            *known = value;
        }
        self.clock += 1;
        let now = self.clock;
        if let Some(Some(call)) = self.call(operation) {
            call.ended = Some(now);
            call.operation.answer = Some(value.number);
        }
        Ok(())
    }

    /// Checks that a node shows no older state than before.
    fn check_shown(
        &mut self,
        operation: &Operation,
        life: u64,
        value: Value,
        commits: &Commits,
    ) -> CheckResult {
        let shown = self.shown.entry((operation.node, life)).or_default();
        let replaced = commits.next_change(operation.kind.key(), value.index);
        check(
            replaced.is_none_or(|replaced| replaced > *shown),
            "a node shows no earlier state than before",
            || {
                format!(
                    "{operation:?} saw {value:?}, replaced at {replaced:?}; the node had shown \
                     {shown} in its life {life}"
                )
            },
        )?;
        *shown = value.index.max(*shown);
        Ok(())
    }

    /// Checks, key by key, that all answers are linearizable.
    pub(in crate::sim) fn check_linearizable(&mut self) -> CheckResult {
        for (key, calls) in &self.calls {
            let calls = relevant(calls);
            match search(0, &calls, CONFIGURATIONS_MAX) {
                SearchResult::Order(_) => {}
                SearchResult::Undecided => self.undecided += 1,
                SearchResult::NoOrder(most) => {
                    let details = describe(*key, &calls, &most);
                    return Err(Violation { invariant: "answers are linearizable", details });
                }
            }
        }
        Ok(())
    }
}

pub(super) fn check_write(command: Command, answer: &Answer, commits: &Commits) -> CheckResult {
    let output = &answer.bytes;
    let place = commits.index_of(command.id());
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
    // A repeated command of a session has the later index of the repetition. In wire version 2 the
    // answer to a forwarded command has no index.
    check(answer.index.is_none_or(|named| named >= index), "an answer names its index", || {
        format!("{command:?} was applied at {index}; its author was given {:?}", answer.index)
    })
}

/// Checks that a query's answer is from the state at the index that it names.
fn check_index(
    operation: &Operation,
    named: Option<Index>,
    value: Value,
    commits: &Commits,
) -> CheckResult {
    let next = commits.next_change(operation.kind.key(), value.index);
    let is_true =
        named.is_some_and(|named| value.index <= named && next.is_none_or(|next| named < next));
    check(is_true, "an answer names its index", || {
        format!("{operation:?} saw {value:?}, valid until {next:?}, and was given {named:?}")
    })
}

fn check_read(operation: &Operation, floor: Index, value: Value, commits: &Commits) -> CheckResult {
    check(value.index >= floor, "a read sees what was committed before", || {
        format!("{operation:?} saw {value:?}; index {floor} was committed when it began")
    })?;
    let is_true = value == Value::default()
        || commits.output(value.index).is_some_and(|expected| *expected == value.encode());
    check(is_true, "a read sees what was committed", || format!("{operation:?} saw {value:?}"))
}

/// The calls that can affect an answer; equal ones without an outcome are put into one order.
///
/// If no answer contained a number and no swap expected it, the call without an outcome that would
/// have set it cannot matter and is left out. Increments without an outcome are all equal.
fn relevant(calls: &[Option<Call<RegisterOperation>>]) -> Vec<Call<RegisterOperation>> {
    let calls = || calls.iter().flatten();
    let family = |number: u64| number / ID_STEP;
    let answers = calls().filter_map(|call| call.operation.answer);
    let expected = calls().filter_map(|call| match call.operation.command {
        Some(Command::Swap { expected, .. }) => Some(expected),
        _ => None,
    });
    let seen: BTreeSet<u64> = answers.chain(expected).map(family).collect();
    let mut kept: Vec<Call<RegisterOperation>> = Vec::new();
    let mut last_increment = None;
    for call in calls() {
        let mut call = call.clone();
        if call.ended.is_none() {
            match call.operation.command {
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

/// Describes the last calls that could be placed, and those that are left.
fn describe(key: u8, calls: &[Call<RegisterOperation>], most: &[usize]) -> String {
    let mut words = format!(
        "key {key}: the last ones of {} calls that could be put into an order:",
        most.len()
    );
    let name = |call: &Call<RegisterOperation>| {
        let ended = call.ended.map_or("?".to_owned(), |ended| ended.to_string());
        let asked =
            call.operation.command.map_or("Read".to_owned(), |command| format!("{command:?}"));
        let answer = call.operation.answer.map_or("?".to_owned(), |answer| answer.to_string());
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
        history.begin(0, 0, kind)
    }

    fn answer(history: &mut History, operation: &Operation, number: u64) {
        history.clock += 1;
        let now = history.clock;
        let call = history.call(operation).unwrap().as_mut().unwrap();
        (call.ended, call.operation.answer) = (Some(now), Some(number));
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
    fn a_refused_write_must_not_show() {
        let mut history = History::default();
        let set = operation(&mut history, SET);
        history.refused(&set);
        let read = operation(&mut history, None);
        answer(&mut history, &read, ID_STEP);
        assert!(history.check_linearizable().is_err());
    }

    /// Each may take effect at any later time or never: as sets these would be 2^40 possibilities.
    #[test]
    fn many_increments_in_doubt_are_decided() {
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
