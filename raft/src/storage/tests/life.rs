//! A worker against a model: writes, truncations, snapshots written and received, compactions, and
//! a power failure after any operation of the disk, which keeps any part of what was not synced.

use std::collections::VecDeque;
use std::io;

use proptest::prelude::*;

use super::snapshots::{content, file_of, meta, read_to_end};
use super::*;
use crate::core::Done;
use crate::storage::{Completion, SnapshotSource, StorageError, Worker};

#[derive(Clone, Debug)]
enum Step {
    /// Payload sizes; by how much the term rises before; how many of the last entries are
    /// truncated, at most.
    Write(Vec<usize>, u64, u64),
    HardState(u64),
    /// How many entries before the last the snapshot ends.
    Take(u64),
    /// How many entries before the last the log is compacted to.
    Compact(u64),
    /// How many entries after the last the snapshot ends, and by how much its term is higher.
    Install(i64, u64),
    Reopen,
}

/// What a log should hold.
#[derive(Clone, Debug, PartialEq, Eq)]
struct State {
    hard_state: HardState,
    /// The entry before the first: a snapshot includes everything up to it.
    base: (Index, Term),
    entries: Vec<Entry>,
}

impl State {
    fn last(&self) -> (Index, Term) {
        self.entries.last().map_or(self.base, |entry| (entry.index, entry.term))
    }

    fn term_at(&self, index: Index) -> Option<Term> {
        let entry = self.entries.iter().find(|entry| entry.index == index);
        entry.map(|entry| entry.term).or((index == self.base.0).then_some(self.base.1))
    }

    fn apply(&mut self, write: &Write) {
        if let Some(hard_state) = write.hard_state {
            self.hard_state = hard_state;
        }
        if let Some(from) = write.truncate_from {
            self.entries.retain(|entry| entry.index < from);
        }
        self.entries.extend(write.entries.iter().cloned());
    }

    fn follow(&mut self, meta: &SnapshotMeta) {
        if meta.index >= self.base.0 && self.term_at(meta.index) != Some(meta.term) {
            self.base = (meta.index, meta.term);
            self.entries.clear();
        }
    }
}

struct Life {
    disk: TestDisk,
    worker: Worker<TestDisk>,
    /// The durable state, and then the states that the current batch may lead to.
    states: Vec<State>,
    /// Every snapshot begun or received, and which of them must be durable.
    snapshots: Vec<SnapshotMeta>,
    durable_snapshot: Index,
    /// The last entry that must not be truncated.
    committed: Index,
    failure: Option<StorageError>,
}

impl Life {
    fn new() -> Life {
        let disk = TestDisk::default();
        let worker = Worker::new(create(&disk));
        let state = State {
            hard_state: HardState::default(),
            base: (Index(0), Term(0)),
            entries: Vec::new(),
        };
        let (snapshots, durable_snapshot, committed) = (Vec::new(), Index(0), Index(0));
        Life {
            disk,
            worker,
            states: vec![state],
            snapshots,
            durable_snapshot,
            committed,
            failure: None,
        }
    }

    /// A copy, on a disk of its own.
    fn copy(&self) -> Life {
        let disk = self.disk.copy();
        let (states, snapshots) = (self.states.clone(), self.snapshots.clone());
        // A process that starts needs nothing of the old worker.
        let worker = Worker::new(create(&TestDisk::default()));
        Life { disk, states, snapshots, worker, failure: None, ..*self }
    }

    fn state(&self) -> &State {
        self.states.last().unwrap()
    }

    fn jobs(&mut self, step: &Step) -> Vec<Job> {
        let mut next = self.state().clone();
        let (last, last_term) = next.last();
        match step {
            Step::Write(sizes, rise, cut) => {
                let from = Index(last.0.saturating_sub(*cut).max(self.committed.0).min(last.0) + 1);
                let truncates = *cut > 0 && from <= last;
                let term = last_term.0.max(1) + rise + u64::from(truncates);
                let commands = (from.0..)
                    .zip(sizes)
                    .map(|(index, &bytes)| command(index, term, bytes))
                    .collect();
                let write = Write { truncate_from: truncates.then_some(from), ..entries(commands) };
                next.apply(&write);
                self.states.push(next);
                vec![Job::Write(write)]
            }
            Step::HardState(vote) => {
                let term = next.hard_state.term.0 + 1;
                let write = Write { hard_state: hard_state(term, *vote), ..entries(vec![]) };
                next.apply(&write);
                self.states.push(next);
                vec![Job::Write(write)]
            }
            Step::Take(back) => {
                let index = Index(last.0.saturating_sub(*back));
                let Some(term) = next.term_at(index).filter(|_| index > Index(0)) else {
                    return vec![];
                };
                let meta = meta(index.0, term.0);
                self.committed = self.committed.max(index);
                self.snapshots.push(meta.clone());
                let source = SnapshotSource::new(io::Cursor::new(content(index)));
                vec![Job::TakeSnapshot { meta, source }]
            }
            Step::Compact(back) => {
                vec![Job::Compact { first: Index(last.0.saturating_sub(*back)) }]
            }
            Step::Install(ahead, rise) => {
                let index = Index(last.0.saturating_add_signed(*ahead).max(self.committed.0 + 1));
                let term = next.term_at(index).map_or(last_term.0.max(1), |term| term.0) + rise;
                let meta = meta(index.0, term);
                self.committed = self.committed.max(index);
                self.snapshots.push(meta.clone());
                next.follow(&meta);
                self.states.push(next);
                let file = file_of(&meta, &content(index));
                let total_bytes = file.len() as u64;
                let pieces = file.chunks(100_000).enumerate().map(|(at, piece)| {
                    let chunk = Chunk {
                        offset: at as u64 * 100_000,
                        total_bytes,
                        data: Bytes::copy_from_slice(piece),
                    };
                    write_chunk(at as u64, &meta, chunk)
                });
                pieces.chain([install_snapshot(0, &meta)]).collect()
            }
            Step::Reopen => vec![],
        }
    }

    /// Does a step. Returns `false` if the disk has failed.
    fn step(&mut self, step: &Step) -> bool {
        let jobs = self.jobs(step);
        let mut failure = None;
        let (durable, snapshots) = (&mut self.durable_snapshot, &self.snapshots);
        let mut complete = |completion| match completion {
            Completion::Done(Done::SnapshotTaken { index }) => *durable = (*durable).max(index),
            Completion::Done(Done::SnapshotInstalled { index, is_valid }) => {
                assert!(is_valid, "{index} of {snapshots:?}");
                *durable = (*durable).max(index);
            }
            Completion::Done(_) | Completion::Synced { .. } => {}
            // On a disk that fails, the unfinished snapshot cannot be removed: the log fails
            // instead.
            Completion::SnapshotFailed { error, .. } => {
                panic!("the disk fails every operation: {error}")
            }
            Completion::Failed(error) => failure = Some(error),
        };
        self.worker.run(&mut VecDeque::from(jobs), &mut complete);
        if failure.is_some() {
            self.failure = failure;
            return false;
        }
        self.states.drain(..self.states.len() - 1);
        if matches!(step, Step::Reopen) {
            return self.open();
        }
        self.holds(&self.state().clone());
        true
    }

    /// Starts the node again. Returns `false` if the disk has failed.
    fn open(&mut self) -> bool {
        let (mut log, recovered) = match Log::open(self.disk.clone(), OPTIONS) {
            Ok(opened) => opened,
            Err(error) => {
                assert!(matches!(error, StorageError::Io { .. }), "{error}");
                self.failure = Some(error);
                return false;
            }
        };
        let Saved { hard_state, initial_configuration: found, snapshot, terms, tail, .. } =
            recovered.saved;
        assert_eq!(found, initial_configuration());
        assert_eq!(snapshot.as_ref(), log.snapshot());
        let index = snapshot.as_ref().map_or(Index(0), |meta| meta.index);
        assert!(index >= self.durable_snapshot, "{index} is older than what was reported durable");
        self.durable_snapshot = index;
        if let Some(snapshot) = &snapshot {
            assert!(self.snapshots.contains(snapshot));
            assert_eq!(terms.term_at(index), Some(snapshot.term), "the log follows the snapshot");
            assert_eq!(read_to_end(log.snapshot_reader().unwrap().unwrap()), content(index));
            // A snapshot that was being installed counts as soon as it has its name.
            let installed = self.states.iter().map(|state| {
                let mut state = state.clone();
                state.follow(snapshot);
                state
            });
            self.states = self.states.iter().cloned().chain(installed).collect();
        }
        assert!(terms.base() <= index, "the snapshot includes all removed entries");
        assert_eq!(terms.last_index(), log.last_index());
        let first = log.first_index();
        let found = read(&mut log, first.0, u64::MAX, usize::MAX);
        assert!(found.ends_with(&tail));
        let fits = |state: &&State| {
            let kept: Vec<&Entry> =
                state.entries.iter().filter(|entry| entry.index >= first).collect();
            state.hard_state == hard_state
                && state.last().0 == log.last_index()
                && found.iter().eq(kept)
        };
        let state = self.states.iter().rev().find(fits).unwrap_or_else(|| {
            let indexes: Vec<_> = found.iter().map(|entry| (entry.index, entry.term)).collect();
            panic!(
                "found {first} {indexes:?} {hard_state:?}, snapshot {index}; expected one of {:?}",
                self.states
            )
        });
        self.states = vec![state.clone()];
        self.worker = Worker::new(log);
        true
    }

    /// Checks that the log holds the end of the state, from its first entry on.
    fn holds(&mut self, state: &State) {
        let log = self.worker.log_mut();
        assert_eq!(log.last_index(), state.last().0);
        let first = log.first_index();
        assert!(first.previous() <= log.snapshot().map_or(Index(0), |meta| meta.index));
        let kept: Vec<Entry> =
            state.entries.iter().filter(|entry| entry.index >= first).cloned().collect();
        assert_eq!(read(log, first.0, u64::MAX, usize::MAX), kept);
        assert_eq!(read(log, 1, first.previous().0, usize::MAX), []);
    }

    fn crash(&mut self, sectors: u64, changes: u64) {
        self.disk.fail_after(None);
        self.disk.crash(sectors, changes);
        assert!(self.open(), "the disk works again");
    }
}

fn step() -> impl Strategy<Value = Step> {
    let size = || prop_oneof![8 => 0usize..300, 1 => 0usize..6000];
    prop_oneof![
        10 => (
            prop::collection::vec(size(), 1..6),
            prop_oneof![3 => Just(0u64), 1 => Just(1)],
            prop_oneof![4 => Just(0u64), 1 => 1u64..9],
        )
            .prop_map(|(sizes, rise, cut)| Step::Write(sizes, rise, cut)),
        1 => (0u64..3).prop_map(Step::HardState),
        3 => (0u64..12).prop_map(Step::Take),
        3 => (0u64..6).prop_map(Step::Compact),
        1 => (-6i64..9, 0u64..2).prop_map(|(ahead, rise)| Step::Install(ahead, rise)),
        1 => Just(Step::Reopen),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 120, ..ProptestConfig::default() })]

    #[test]
    fn every_promise_is_kept(
        lives in prop::collection::vec(
            (prop::collection::vec(step(), 1..25), 0u64..250, any::<u64>(), any::<u64>()),
            1..4,
        ),
    ) {
        let mut life = Life::new();
        for (steps, operations, sectors, changes) in lives {
            life.disk.fail_after(Some(operations));
            let _ = steps.iter().all(|step| life.step(step));
            life.crash(sectors, changes);
        }
        life.crash(0, 0);
    }
}

/// Steps of every kind, which fill several segments.
fn script() -> Vec<Step> {
    let writes = |count| (0..count).map(|_| Step::Write(vec![300, 300, 300, 300], 0, 0));
    writes(6)
        .chain([
            Step::Take(3),
            Step::Compact(2),
            Step::Write(vec![10], 0, 0),
            Step::Compact(2),
            Step::HardState(1),
        ])
        .chain(writes(7))
        .chain([
            Step::Write(vec![700], 0, 2),
            Step::Take(0),
            Step::Write(vec![1], 0, 0),
            Step::Compact(0),
        ])
        .chain(writes(3))
        .chain([Step::Install(40, 1)])
        .chain(writes(4))
        .chain([Step::Reopen, Step::Install(-2, 0), Step::Compact(0), Step::Install(-1, 2)])
        .chain(writes(1))
        .collect()
}

#[test]
fn a_crash_after_any_operation_keeps_every_promise() {
    for operations in 0.. {
        let mut life = Life::new();
        life.disk.fail_after(Some(operations));
        let is_over = script().iter().all(|step| life.step(step));
        crash_while_opening_after_a_kill(&life);
        for changes in life.disk.subsets_of_changes() {
            for sectors in [0, u64::MAX, 0x5555_5555_5555_5555] {
                let mut copy = life.copy();
                copy.crash(sectors, changes);
                crash_while_opening(&copy);
                assert!(copy.step(&Step::Write(vec![5, 50], 1, 0)));
                assert!(copy.step(&Step::Reopen));
            }
        }
        if is_over {
            assert!(operations > 150, "{operations}");
            return;
        }
    }
}

/// Opening fails after any number of operations, the machine crashes, and the next opening finds
/// the same.
fn crash_while_opening(life: &Life) {
    let (_, expected) = reopen(&life.disk.copy());
    for operations in 0.. {
        let disk = life.disk.copy();
        disk.fail_after(Some(operations));
        let opened = Log::open(disk.clone(), OPTIONS);
        disk.fail_after(None);
        disk.lose_unsynced();
        let (_, again) = reopen(&disk);
        // Whether the interrupted opening counts depends on how far it came.
        assert!((expected.saved.life..=expected.saved.life + 1).contains(&again.saved.life));
        let (life, position) = (expected.saved.life, expected.saved.position);
        assert_eq!(Saved { life, position, ..again.saved }, expected.saved);
        if opened.is_ok() {
            return;
        }
    }
}

/// The process is killed, so the next one sees bytes that are not on the disk. Opening fails after
/// any number of operations and the machine crashes. The log then keeps every promise, and can be
/// opened again.
fn crash_while_opening_after_a_kill(life: &Life) {
    for operations in 0.. {
        let (killed, is_open) = killed_while_opening(life, operations);
        every_crash_keeps_the_promises(&killed);
        if is_open {
            return;
        }
    }
}

/// Opens the log in a process that is killed after `operations`. Returns also whether it was open.
fn killed_while_opening(life: &Life, operations: u64) -> (Life, bool) {
    let killed = life.copy();
    killed.disk.fail_after(Some(operations));
    let is_open = Log::open(killed.disk.clone(), OPTIONS).is_ok();
    killed.disk.fail_after(None);
    (killed, is_open)
}

fn every_crash_keeps_the_promises(life: &Life) {
    for changes in life.disk.subsets_of_changes() {
        for sectors in [0, u64::MAX, 0x5555_5555_5555_5555] {
            let mut copy = life.copy();
            copy.crash(sectors, changes);
            assert!(copy.step(&Step::Reopen));
        }
    }
}

#[test]
fn two_killed_openings_and_a_crash_keep_every_promise() {
    for operations in [40, 80, 120, 160] {
        let mut life = Life::new();
        life.disk.fail_after(Some(operations));
        assert!(!script().iter().all(|step| life.step(step)));
        for first in 0.. {
            let (once, is_first_open) = killed_while_opening(&life, first);
            for second in 0.. {
                let (twice, is_second_open) = killed_while_opening(&once, second);
                every_crash_keeps_the_promises(&twice);
                if is_second_open {
                    break;
                }
            }
            if is_first_open {
                break;
            }
        }
    }
}

#[test]
fn a_full_disk_is_reported_and_loses_nothing() {
    for operations in 0.. {
        let mut life = Life::new();
        life.disk.fail_as(io::ErrorKind::StorageFull);
        life.disk.fail_after(Some(operations));
        if script().iter().all(|step| life.step(step)) {
            return;
        }
        for _ in 0..2 {
            let error = life.failure.take().unwrap();
            assert!(
                matches!(
                    &error,
                    StorageError::Io { source, .. } if source.kind() == io::ErrorKind::StorageFull
                ),
                "{error}"
            );
            let text = error.to_string();
            assert!(
                text.contains("free some space")
                    && ["0000000000", "SYNCED", "folder"].iter().any(|name| text.contains(name)),
                "{text}"
            );
            assert!(!life.open(), "the disk is still full");
        }
        life.disk.fail_after(None);
        assert!(life.open());
        assert!(
            life.disk
                .names()
                .iter()
                .all(|name| !name.ends_with(".new") && !name.ends_with(".part"))
        );
        assert!(life.step(&Step::Write(vec![5, 50], 1, 0)));
        assert!(life.step(&Step::Reopen));
    }
}
