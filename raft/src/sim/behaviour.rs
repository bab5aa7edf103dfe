//! A digest of what a run does to the outside: message bytes, disk calls, applied entries.
//!
//! Unlike [`Report::trace_hash`](super::Report::trace_hash) it looks at bytes only, so it stays the
//! same when types and names change and nothing else does. `--example sim -- --seeds 0..1000
//! --behaviour` prints the sum over seeds.

use std::hash::Hasher;

use crate::storage::codec::put_entry;
use crate::types::{Entry, Time};

use super::trace::StableHasher;

/// What is hashed, in the order in which it happens.
#[derive(Clone, Debug, Default)]
pub(super) struct Behaviour {
    hasher: StableHasher,
    buffer: Vec<u8>,
}

/// A call that changes a disk.
#[derive(Clone, Copy, Debug)]
pub(super) enum DiskCall {
    Create = 1,
    Rename = 2,
    Remove = 3,
    Write = 4,
    Sync = 5,
    SyncDirectory = 6,
}

impl Behaviour {
    /// A node has sent this frame.
    pub(super) fn sent(&mut self, now: Time, node: usize, to: usize, frame: &[u8]) {
        self.numbers([7, now.0, node as u64, to as u64]);
        self.bytes(frame);
    }

    /// A node applies this.
    pub(super) fn applies(&mut self, now: Time, node: usize, entry: &Entry) {
        self.numbers([8, now.0, node as u64, entry.index.0]);
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.clear();
        put_entry(&mut buffer, entry);
        self.bytes(&buffer);
        self.buffer = buffer;
    }

    /// A disk is called, with a name or content, for this file and place in it.
    pub(super) fn disk(&mut self, call: DiskCall, inode: u64, offset: u64, bytes: &[u8]) {
        self.numbers([call as u64, inode, offset, 0]);
        self.bytes(bytes);
    }

    /// Takes in what another digest has come to.
    pub(super) fn add(&mut self, other: &Behaviour) {
        self.hasher.write_u64(other.digest());
    }

    pub(super) fn digest(&self) -> u64 {
        self.hasher.finish()
    }

    fn numbers(&mut self, numbers: [u64; 4]) {
        numbers.into_iter().for_each(|number| self.hasher.write_u64(number));
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.hasher.write_u64(bytes.len() as u64);
        self.hasher.write(bytes);
    }
}
