//! How far a snapshot is on its way to one follower, in pieces.
//!
//! ```text
//!                 received            sent                  total
//!                    v                 v                      v
//!  file   |==========|=====|=====|.....|......................|     two pieces are on their way, one is being read
//! ```
//!
//! Until the first answer there is one piece at a time: the follower may have a part already. An answer that says less
//! than an earlier one (the follower was restarted, or found the whole damaged) sends the leader back at once. Silence for
//! an election timeout sends it back to what was received, one piece at a time; where all has been received it asks.

use bytes::Bytes;

use super::{Config, Transfer};
use crate::types::{Chunk, Index, SnapshotMeta, Time};

/// A snapshot on its way to a follower.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Sending {
    pub(super) meta: Box<SnapshotMeta>,
    pub(super) received_bytes: u64,
    pub(super) sent_bytes: u64,
    /// 0 until the first piece was read.
    pub(super) total_bytes: u64,
    /// The piece that is being read from the disk.
    pub(super) reading: Option<u64>,
    /// The follower has answered since the last silence.
    pub(super) is_answered: bool,
    /// When it last got further; at first when it began.
    pub(super) progressed: Time,
    /// Nothing is read before: the newest snapshot was not to be found.
    pub(super) rests_until: Time,
}

impl Sending {
    pub(super) fn new(meta: SnapshotMeta, now: Time) -> Sending {
        Sending {
            meta: Box::new(meta),
            received_bytes: 0,
            sent_bytes: 0,
            total_bytes: 0,
            reading: None,
            is_answered: false,
            progressed: now,
            rests_until: now,
        }
    }

    pub(super) fn index(&self) -> Index {
        self.meta.index
    }

    pub(super) fn transfer(&self) -> Transfer {
        Transfer { index: self.meta.index, received_bytes: self.received_bytes, total_bytes: self.total_bytes }
    }

    /// Whether another piece shall be read now.
    pub(super) fn wants_piece(&self, config: &Config, now: Time) -> bool {
        let pieces = if self.is_answered { config.snapshot_chunks as u64 } else { 1 };
        let window_bytes = pieces * config.snapshot_chunk_bytes as u64;
        let is_all_sent = self.total_bytes > 0 && self.sent_bytes >= self.total_bytes;
        let in_flight_bytes = self.sent_bytes.saturating_sub(self.received_bytes);
        self.reading.is_none() && !is_all_sent && in_flight_bytes < window_bytes && self.rests_until <= now
    }

    /// The follower says how far it is.
    pub(super) fn answered(&mut self, received_bytes: u64, now: Time) {
        if received_bytes > self.received_bytes {
            self.progressed = now;
            self.sent_bytes = self.sent_bytes.max(received_bytes);
        } else if received_bytes < self.received_bytes {
            self.progressed = now;
            self.sent_bytes = received_bytes;
        }
        self.received_bytes = received_bytes;
        self.is_answered = true;
    }

    /// Whether the follower has not got further for an election timeout.
    pub(super) fn is_silent(&self, now: Time, config: &Config) -> bool {
        self.progressed.after(config.election_timeout.0) <= now
    }

    /// Goes back after silence. Returns a question, if there is nothing left to send.
    pub(super) fn retry(&mut self, now: Time, config: &Config) -> Option<Chunk> {
        let is_silent = self.is_silent(now, config);
        let is_done = self.total_bytes > 0 && self.received_bytes == self.total_bytes;
        if !is_silent || (self.sent_bytes == self.received_bytes && !is_done) {
            return None;
        }
        self.sent_bytes = self.received_bytes;
        self.is_answered = false;
        self.progressed = now;
        let (offset, total_bytes) = (self.received_bytes, self.total_bytes);
        is_done.then(|| Chunk { offset, total_bytes, data: Bytes::new() })
    }
}
