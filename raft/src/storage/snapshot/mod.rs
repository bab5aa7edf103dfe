//! Snapshots on the disk: writing, receiving, checking, reading and removing them.
//!
//! `raft/FORMAT.md` describes every byte. A snapshot gets its final name only once it is whole and
//! synced. The newest one counts; older ones are removed once it has its name.

mod format;
mod reader;
mod receiver;
mod scanner;
mod store;
mod writer;

pub use reader::SnapshotReader;
pub use store::DamagedSnapshot;

pub(super) use format::SnapshotHeader;
#[cfg(test)]
pub(super) use format::trailer;
pub(super) use reader::{open_file, open_in};
pub(super) use receiver::{ReceiveProgress, SnapshotReceiver};
pub(super) use scanner::{Part, Scanner};
pub(super) use store::{FoundSnapshots, SnapshotStore, check};
pub(super) use writer::{SnapshotWriter, WriteProgress};

use super::segment::number_of;
use crate::types::Index;

const SUFFIX: &str = ".snap";
/// The suffix while this node writes the snapshot.
const WRITING_SUFFIX: &str = ".snap.new";
/// The suffix while this node receives the snapshot from another one.
const RECEIVING_SUFFIX: &str = ".snap.part";

/// How much is written without a sync, at most, in bytes. A write may have to wait for the last
/// sync, so that must be short.
const SYNC_BYTES: u64 = 1 << 20;

/// The name of the snapshot whose last entry has this index.
pub(super) fn name(index: Index) -> String {
    format!("{:016x}{SUFFIX}", index.0)
}

pub(super) fn writing_name(index: Index) -> String {
    format!("{:016x}{WRITING_SUFFIX}", index.0)
}

fn receiving_name(index: Index) -> String {
    format!("{:016x}{RECEIVING_SUFFIX}", index.0)
}

/// The index in the name of a snapshot's file, if it is such a name.
pub(super) fn index_of(name: &str) -> Option<Index> {
    number_of(name, SUFFIX).map(Index)
}

/// Whether this is the name of an unfinished snapshot.
pub(super) fn is_unfinished(name: &str) -> bool {
    number_of(name, WRITING_SUFFIX).or_else(|| number_of(name, RECEIVING_SUFFIX)).is_some()
}
