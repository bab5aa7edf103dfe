//! Snapshots on the disk: how one is written, received, checked, read and thrown away.
//!
//! `raft/FORMAT.md` says every byte. A snapshot has its name only once it is whole and synced, so
//! who finds the name finds the snapshot; the newest one counts, and older ones go once it has its
//! name.

mod format;
mod reader;
mod receiving;
mod scanner;
mod store;
mod taking;

pub use reader::SnapshotReader;
pub use store::DamagedSnapshot;

pub(super) use format::Header;
#[cfg(test)]
pub(super) use format::trailer;
pub(super) use reader::{open_file, open_in};
pub(super) use receiving::{Received, Receiving};
pub(super) use scanner::{Scanner, Step};
pub(super) use store::{Found, SnapshotStore, check};
pub(super) use taking::{Taken, Taking};

use super::segment::number_of;
use crate::types::Index;

const SUFFIX: &str = ".snap";
/// While it is being written by this node.
const TAKING_SUFFIX: &str = ".snap.new";
/// While it is being received from another one.
const RECEIVING_SUFFIX: &str = ".snap.part";

/// What is written without a sync, at most: so that the last sync, which a write may have to wait
/// for, is a short one.
const SYNC_BYTES: u64 = 1 << 20;

/// The name of the snapshot that ends with this entry.
pub(super) fn name(index: Index) -> String {
    format!("{:016x}{SUFFIX}", index.0)
}

pub(super) fn taking_name(index: Index) -> String {
    format!("{:016x}{TAKING_SUFFIX}", index.0)
}

fn receiving_name(index: Index) -> String {
    format!("{:016x}{RECEIVING_SUFFIX}", index.0)
}

/// The index in the name of a snapshot's file, if it is such a name.
pub(super) fn index_of(name: &str) -> Option<Index> {
    number_of(name, SUFFIX).map(Index)
}

/// Whether this is the name of a snapshot that a crash has cut short.
pub(super) fn is_unfinished(name: &str) -> bool {
    number_of(name, TAKING_SUFFIX).or_else(|| number_of(name, RECEIVING_SUFFIX)).is_some()
}
