//! Random registrations and traffic, against a model of what must be reported.

mod common;

use common::{ready_now, unix_pair};
use kodiak_sys::{Interest, Readiness, Selector, Trigger};
use proptest::collection::vec;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;

const SOURCES: usize = 4;

#[derive(Clone, Debug)]
enum Operation {
    Add(usize, u64, Interest, Trigger),
    Modify(usize, u64, Interest, Trigger),
    Remove(usize),
    Write(usize),
    Read(usize),
    /// Closes both ends and opens new ones, which get the same numbers.
    Reopen(usize),
    Wait,
}

fn interest() -> impl Strategy<Value = Interest> {
    prop_oneof![
        Just(Interest::READABLE),
        Just(Interest::WRITABLE),
        Just(Interest::READABLE | Interest::WRITABLE),
        Just(Interest::empty()),
    ]
}

fn trigger() -> impl Strategy<Value = Trigger> {
    prop_oneof![Just(Trigger::Level), Just(Trigger::Edge), Just(Trigger::Oneshot)]
}

fn operation() -> impl Strategy<Value = Operation> {
    let source = || 0..SOURCES;
    prop_oneof![
        2 => (source(), any::<u64>(), interest(), trigger())
            .prop_map(|(s, k, i, t)| Operation::Add(s, k, i, t)),
        2 => (source(), any::<u64>(), interest(), trigger())
            .prop_map(|(s, k, i, t)| Operation::Modify(s, k, i, t)),
        1 => source().prop_map(Operation::Remove),
        3 => source().prop_map(Operation::Write),
        2 => source().prop_map(Operation::Read),
        1 => source().prop_map(Operation::Reopen),
        4 => Just(Operation::Wait),
    ]
}

#[derive(Clone, Copy, Debug)]
struct Registered {
    key: u64,
    interest: Interest,
    trigger: Trigger,
    /// Level: the whole interest. Edge: what has become ready since the last report. Oneshot: the
    /// whole interest until it has fired.
    armed: Interest,
}

struct Source {
    ours: UnixStream,
    theirs: UnixStream,
    unread: usize,
    registered: Option<Registered>,
}

impl Source {
    fn new() -> Source {
        let (ours, theirs) = unix_pair();
        Source { ours, theirs, unread: 0, registered: None }
    }

    fn register(&mut self, key: u64, interest: Interest, trigger: Trigger) {
        self.registered = Some(Registered { key, interest, trigger, armed: interest });
    }

    /// Without traffic in the other direction there is always room to write.
    fn ready(&self, interest: Interest) -> Readiness {
        let mut ready = Readiness::empty();
        if interest.contains(Interest::READABLE) && self.unread > 0 {
            ready |= Readiness::READABLE;
        }
        if interest.contains(Interest::WRITABLE) {
            ready |= Readiness::WRITABLE;
        }
        ready
    }
}

/// Compares one wait with the model.
///
/// Every source that must be reported is reported, with exactly its readiness. Others are not,
/// unless they are edge-triggered: those may be reported more often than they must, and need not
/// repeat a readiness that was reported before.
fn compare(selector: &Selector, sources: &mut [Source]) -> Result<(), TestCaseError> {
    let mut reported: BTreeMap<u64, Readiness> = BTreeMap::new();
    for event in ready_now(selector) {
        prop_assert!(
            reported.insert(event.key, event.readiness).is_none(),
            "two events for one source"
        );
    }
    for source in sources {
        let Some(mut registered) = source.registered else { continue };
        let (ready, must) = (source.ready(registered.interest), source.ready(registered.armed));
        let report = reported.remove(&registered.key);
        match report {
            Some(readiness) if registered.trigger == Trigger::Edge => {
                let possible =
                    !readiness.is_empty() && ready.contains(readiness) && readiness.contains(must);
                prop_assert!(possible, "{:?} reported as {:?}", registered, readiness);
                registered.armed = Interest::empty();
            }
            Some(readiness) => {
                prop_assert_eq!(readiness, ready, "{:?}", registered);
                prop_assert!(!registered.armed.is_empty(), "{:?}", registered);
                if registered.trigger == Trigger::Oneshot {
                    registered.armed = Interest::empty();
                }
            }
            None => prop_assert!(must.is_empty(), "not reported: {:?}", registered),
        }
        source.registered = Some(registered);
    }
    prop_assert!(reported.is_empty(), "reported, but not registered: {:?}", reported);
    Ok(())
}

fn run(operations: Vec<Operation>) -> Result<(), TestCaseError> {
    let selector = Selector::new().unwrap();
    let mut sources: Vec<_> = (0..SOURCES).map(|_| Source::new()).collect();
    for (number, operation) in operations.into_iter().enumerate() {
        // Keys that differ, so that a report identifies its source.
        let unique = |key: u64| (key & !0xffff) | number as u64;
        match operation {
            Operation::Add(s, key, interest, trigger) => {
                let expected = match () {
                    () if interest.is_empty() => Err(ErrorKind::InvalidInput),
                    () if sources[s].registered.is_some() => Err(ErrorKind::AlreadyExists),
                    () => Ok(()),
                };
                let answer = selector.add(sources[s].ours.as_fd(), unique(key), interest, trigger);
                prop_assert_eq!(answer.map_err(|error| error.kind()), expected);
                if expected.is_ok() {
                    sources[s].register(unique(key), interest, trigger);
                }
            }
            Operation::Modify(s, key, interest, trigger) => {
                let expected = match () {
                    () if interest.is_empty() => Err(ErrorKind::InvalidInput),
                    () if sources[s].registered.is_none() => Err(ErrorKind::NotFound),
                    () => Ok(()),
                };
                let answer =
                    selector.modify(sources[s].ours.as_fd(), unique(key), interest, trigger);
                prop_assert_eq!(answer.map_err(|error| error.kind()), expected);
                if expected.is_ok() {
                    sources[s].register(unique(key), interest, trigger);
                }
            }
            Operation::Remove(s) => {
                let expected = if sources[s].registered.take().is_some() {
                    Ok(())
                } else {
                    Err(ErrorKind::NotFound)
                };
                let answer = selector.remove(sources[s].ours.as_fd());
                prop_assert_eq!(answer.map_err(|error| error.kind()), expected);
            }
            Operation::Write(s) => {
                sources[s].theirs.write_all(b"x").unwrap();
                sources[s].unread += 1;
                if let Some(registered) = &mut sources[s].registered
                    && registered.trigger == Trigger::Edge
                    && registered.interest.contains(Interest::READABLE)
                {
                    registered.armed |= Interest::READABLE;
                }
            }
            Operation::Read(s) => {
                let source = &mut sources[s];
                let read = source.ours.read(&mut [0; 4096]).unwrap_or(0);
                prop_assert_eq!(read, source.unread);
                source.unread = 0;
            }
            Operation::Reopen(s) => sources[s] = Source::new(),
            Operation::Wait => compare(&selector, &mut sources)?,
        }
    }
    compare(&selector, &mut sources)
}

fn config() -> ProptestConfig {
    ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(400) }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn the_selector_reports_what_the_model_does(operations in vec(operation(), 1..60)) {
        run(operations)?;
    }

    #[test]
    fn interests_are_sets(a in 0_u8..8, b in 0_u8..8) {
        let set = |bits: u8| {
            [Interest::READABLE, Interest::WRITABLE, Interest::PRIORITY]
                .into_iter()
                .enumerate()
                .filter(|(bit, _)| bits & (1 << bit) != 0)
                .fold(Interest::empty(), |all, (_, interest)| all | interest)
        };
        prop_assert_eq!(set(a) | set(b), set(a | b));
        prop_assert_eq!(set(a).add(set(b)), set(a | b));
        prop_assert_eq!(set(a).remove(set(b)), set(a & !b));
        prop_assert_eq!(set(a).contains(set(b)), a & b == b);
        prop_assert_eq!(set(a).is_empty(), a == 0);
        prop_assert_eq!(set(a) == set(b), a == b);
    }

    #[test]
    fn readinesses_are_sets(a in 0_u8..64, b in 0_u8..64) {
        let all = [
            Readiness::READABLE,
            Readiness::WRITABLE,
            Readiness::READ_CLOSED,
            Readiness::WRITE_CLOSED,
            Readiness::ERROR,
            Readiness::PRIORITY,
        ];
        let set = |bits: u8| {
            all.into_iter()
                .enumerate()
                .filter(|(bit, _)| bits & (1 << bit) != 0)
                .fold(Readiness::empty(), |all, (_, one)| all | one)
        };
        prop_assert_eq!(set(a) | set(b), set(a | b));
        prop_assert_eq!(set(a).contains(set(b)), a & b == b);
        let answers = [
            set(a).is_readable(),
            set(a).is_writable(),
            set(a).is_read_closed(),
            set(a).is_write_closed(),
            set(a).is_error(),
            set(a).is_priority(),
        ];
        prop_assert_eq!(answers.map(u8::from).iter().rev().fold(0, |bits, bit| bits << 1 | bit), a);
    }
}
