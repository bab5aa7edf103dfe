//! A digest of the externally visible behaviour: message bytes, disk calls, applied entries.
//!
//! Unlike [`Report::trace_hash`](super::Report::trace_hash) it covers bytes only, so it does not
//! change with types and names. `--example sim -- --seeds 0..1000 --behaviour` prints the sum over
//! seeds.

use std::hash::Hasher;

use crate::storage::codec::put_entry;
use crate::types::{Entry, Time};

use super::trace::StableHasher;

/// The digest so far.
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

    /// A node applies this entry.
    pub(super) fn applies(&mut self, now: Time, node: usize, entry: &Entry) {
        self.numbers([8, now.0, node as u64, entry.index.0]);
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.clear();
        put_entry(&mut buffer, entry);
        self.bytes(&buffer);
        self.buffer = buffer;
    }

    /// A disk is called for this file and offset, with a name or content.
    pub(super) fn disk(&mut self, call: DiskCall, inode: u64, offset: u64, bytes: &[u8]) {
        self.numbers([call as u64, inode, offset, 0]);
        self.bytes(bytes);
    }

    /// Adds another digest.
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
