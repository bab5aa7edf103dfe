//! Tests of the log as a whole.

pub(crate) mod codec;
mod commits;
mod compaction;
pub(crate) mod covered;
mod damage;
mod disaster_recovery;
mod diverged;
mod exhausted;
mod failure;
mod fields;
mod formats;
mod life;
mod model;
mod next_segment;
mod recycling;
mod snapshots;
mod special_files;
mod steady;
pub(crate) mod synced;
mod syscalls;

use std::time::Duration;

use bytes::Bytes;

use super::test_disk::TestDisk;
use super::{Job, Log, LogOptions, Recovered};
use crate::core::{Fetch, InstallSnapshot, WriteChunk};
use crate::types::{
    Chunk, ClusterId, Configuration, DiskId, Entry, FeatureLevel, GroupId, HardState, Identity,
    Index, Member, NodeId, Payload, Saved, SnapshotMeta, Stamp, Term, Write,
};

pub(super) const OPTIONS: LogOptions = LogOptions { segment_bytes: 4096, tail_bytes: 500 };

/// How long the promises of [`hard_state`] last.
const PROMISE: Duration = Duration::from_millis(250);

pub(super) fn identity() -> Identity {
    Identity { cluster: ClusterId(5), group: GroupId(6), node: NodeId(2), disk: DiskId(0xD15C) }
}

pub(super) fn initial_configuration() -> Configuration {
    let member = |disk, address: &str| Member {
        disk: DiskId(disk),
        address: address.to_owned(),
        priority: 3,
        ..Member::default()
    };
    Configuration::of_voters([
        (NodeId(1), member(0, "one:1")),
        (NodeId(2), member(0xD15C, "two:2")),
    ])
    .at_feature_level(FeatureLevel::CURRENT)
}

pub(super) fn create(disk: &TestDisk) -> Log<TestDisk> {
    Log::create(disk.clone(), &identity(), &initial_configuration(), OPTIONS).unwrap()
}

pub(super) fn reopen(disk: &TestDisk) -> (Log<TestDisk>, Recovered) {
    Log::open(disk.clone(), OPTIONS).unwrap()
}

pub(super) fn command(index: u64, term: u64, bytes: usize) -> Entry {
    let byte = index.wrapping_mul(31).wrapping_add(term.wrapping_mul(7)) as u8 | 1;
    let payload = Payload::Command(Bytes::from(vec![byte; bytes]));
    Entry { index: Index(index), term: Term(term), stamp: Stamp(index.wrapping_mul(10)), payload }
}

/// A write of entries alone.
pub(super) fn entries(entries: Vec<Entry>) -> Write {
    Write { entries: entries.into(), ..Write::default() }
}

pub(super) fn hard_state(term: u64, vote: u64) -> Option<HardState> {
    let vote = (vote > 0).then_some(NodeId(vote));
    Some(HardState { term: Term(term), vote, promise: PROMISE, forgot: None })
}

pub(super) fn write_chunk(id: u64, meta: &SnapshotMeta, chunk: Chunk) -> Job {
    Job::WriteChunk(WriteChunk { id, meta: Box::new(meta.clone()), chunk })
}

pub(super) fn install_snapshot(sequence: u64, meta: &SnapshotMeta) -> Job {
    Job::InstallSnapshot(InstallSnapshot { sequence, meta: Box::new(meta.clone()) })
}

/// What a log should hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Model {
    pub(super) hard_state: HardState,
    pub(super) entries: Vec<Entry>,
}

impl Model {
    pub(super) fn apply(&mut self, write: &Write) {
        if let Some(hard_state) = write.hard_state {
            self.hard_state = hard_state;
        }
        if let Some(from) = write.truncate_from {
            self.entries.retain(|entry| entry.index < from);
        }
        self.entries.extend(write.entries.iter().cloned());
    }

    /// Everything that `log` holds.
    pub(super) fn of(log: &mut Log<TestDisk>, saved: &Saved) -> Model {
        Model { hard_state: saved.hard_state, entries: read_all(log) }
    }

    /// Checks that opening has returned this state.
    pub(super) fn assert_matches(&self, saved: &Saved) {
        assert_eq!(saved.hard_state, self.hard_state);
        assert_eq!(saved.initial_configuration, initial_configuration());
        assert_eq!(saved.terms.last_index(), Index(self.entries.len() as u64));
        for entry in &self.entries {
            assert_eq!(saved.terms.term_at(entry.index), Some(entry.term));
        }
        let configurations: Vec<_> = self
            .entries
            .iter()
            .filter_map(|entry| match &entry.payload {
                Payload::Configuration(configuration) => {
                    Some((entry.index, (**configuration).clone()))
                }
                _ => None,
            })
            .collect();
        assert_eq!(saved.configurations, configurations);
        assert!(self.entries.ends_with(&saved.tail));
        assert!(saved.tail.iter().map(Entry::size_bytes).sum::<usize>() <= OPTIONS.tail_bytes);
    }
}

pub(super) fn read_all(log: &mut Log<TestDisk>) -> Vec<Entry> {
    read(log, 1, u64::MAX, usize::MAX)
}

pub(super) fn read(log: &mut Log<TestDisk>, from: u64, to: u64, limit_bytes: usize) -> Vec<Entry> {
    log.read(&Fetch { id: 1, from: Index(from), to: Index(to), limit_bytes }).unwrap()
}

/// Small writes of all kinds, each valid after the one before it. They fill several segments.
pub(super) fn workload() -> Vec<Write> {
    let configured = Entry {
        payload: Payload::Configuration(Box::new(initial_configuration())),
        ..command(9, 2, 0)
    };
    vec![
        Write { hard_state: hard_state(1, 2), ..entries(vec![]) },
        entries(vec![command(1, 1, 20), command(2, 1, 0), command(3, 1, 300)]),
        entries(vec![command(4, 1, 1500)]),
        Write { hard_state: hard_state(2, 0), ..entries(vec![]) },
        Write { truncate_from: Some(Index(3)), ..entries(vec![command(3, 2, 10)]) },
        entries((4..9).map(|index| command(index, 2, 100)).collect()),
        entries(vec![configured, command(10, 2, 2500)]),
        Write { hard_state: hard_state(2, 1), ..entries(vec![command(11, 2, 64)]) },
        entries(vec![command(12, 2, 9000), command(13, 2, 9)]),
        Write { truncate_from: Some(Index(13)), hard_state: hard_state(4, 1), ..entries(vec![]) },
        entries(vec![command(13, 4, 40)]),
    ]
}
