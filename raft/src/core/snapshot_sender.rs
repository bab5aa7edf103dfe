//! How far a snapshot has been sent to one follower, in pieces.
//!
//! ```text
//!                 received            sent                  total
//!                    v                 v                      v
//!  file   |==========|=====|=====|.....|......................|     two pieces are on their way,
//!                                                                   one is being read
//! ```
//!
//! Until the first answer there is one piece at a time: the follower may have a part already. An
//! answer that says less than an earlier one (the follower was restarted, or found the whole
//! damaged) sends the leader back at once. Silence for an election timeout sends it back to what
//! was received, one piece at a time; where all has been received it asks.

use bytes::Bytes;

use super::{Config, SnapshotProgress};
use crate::types::{Chunk, Index, SnapshotMeta, Time};

/// A snapshot on its way to a follower.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct SnapshotSender {
    pub(super) meta: Box<SnapshotMeta>,
    pub(super) received_bytes: u64,
    pub(super) sent_bytes: u64,
    /// 0 until the first piece was read.
    pub(super) total_bytes: u64,
    /// The piece that is being read from the disk.
    pub(super) reading: Option<u64>,
    /// The follower has answered since the last silence.
    pub(super) is_answered: bool,
    /// When the follower last received more; at first when the sending began.
    pub(super) progressed: Time,
    /// Nothing is read before this time: the newest snapshot was not found.
    pub(super) rests_until: Time,
}

impl SnapshotSender {
    pub(super) fn new(meta: SnapshotMeta, now: Time) -> SnapshotSender {
        SnapshotSender {
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

    pub(super) fn progress(&self) -> SnapshotProgress {
        SnapshotProgress {
            index: self.meta.index,
            received_bytes: self.received_bytes,
            total_bytes: self.total_bytes,
        }
    }

    /// Whether to read another piece now.
    pub(super) fn wants_piece(&self, config: &Config, now: Time) -> bool {
        let pieces = if self.is_answered { config.snapshot_chunks as u64 } else { 1 };
        let window_bytes = pieces * config.snapshot_chunk_bytes as u64;
        let is_all_sent = self.total_bytes > 0 && self.sent_bytes >= self.total_bytes;
        let in_flight_bytes = self.sent_bytes.saturating_sub(self.received_bytes);
        self.reading.is_none()
            && !is_all_sent
            && in_flight_bytes < window_bytes
            && self.rests_until <= now
    }

    /// The follower reports how much it has.
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
        self.progressed.after(config.election_timeout.min) <= now
    }

    /// Goes back after silence. Returns an empty piece, which asks, if there is nothing left to
    /// send.
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::core::ElectionTimeout;
    use crate::types::NodeId;

    /// Two pieces of ten bytes each; silence is an election timeout of a hundred.
    fn config() -> Config {
        let mut config = Config::new(NodeId(1));
        (config.snapshot_chunks, config.snapshot_chunk_bytes) = (2, 10);
        config.election_timeout =
            ElectionTimeout::new(Duration::from_nanos(100), Duration::from_nanos(200));
        config
    }

    /// A file of 50 bytes, of which this many were sent and received.
    fn sending(sent_bytes: u64, received_bytes: u64) -> SnapshotSender {
        let (index, term, stamp) = (Index(9), crate::types::Term(1), crate::types::Stamp(0));
        let configuration = crate::types::Configuration::default();
        let meta = SnapshotMeta { index, term, stamp, configuration, digest: None };
        let sending = SnapshotSender::new(meta, Time(0));
        SnapshotSender { sent_bytes, received_bytes, total_bytes: 50, ..sending }
    }

    #[test]
    fn one_piece_leaves_before_the_first_answer_then_a_window() {
        let (config, now) = (config(), Time(1));
        assert!(sending(0, 0).wants_piece(&config, now));
        assert!(!sending(10, 0).wants_piece(&config, now), "the follower may have a part already");
        let answered =
            |sent, received| SnapshotSender { is_answered: true, ..sending(sent, received) };
        assert!(answered(10, 0).wants_piece(&config, now));
        assert!(answered(19, 0).wants_piece(&config, now));
        assert!(!answered(20, 0).wants_piece(&config, now), "two pieces are on their way");
        assert!(answered(20, 10).wants_piece(&config, now));
        assert!(!answered(50, 50).wants_piece(&config, now), "that was all");
        assert!(!SnapshotSender { reading: Some(1), ..sending(0, 0) }.wants_piece(&config, now));
        let resting = SnapshotSender { rests_until: Time(9), ..sending(0, 0) };
        assert!(!resting.wants_piece(&config, Time(8)) && resting.wants_piece(&config, Time(9)));
    }

    #[test]
    fn an_answer_moves_what_is_sent_next_and_the_time_of_progress() {
        let mut part = sending(0, 0);
        part.answered(30, Time(5));
        let state = (part.sent_bytes, part.received_bytes, part.progressed);
        assert_eq!(state, (30, 30, Time(5)), "it had a part");
        part.sent_bytes = 40;
        part.answered(30, Time(6));
        assert_eq!((part.sent_bytes, part.progressed), (40, Time(5)), "no progress");
        part.answered(35, Time(7));
        assert_eq!((part.sent_bytes, part.progressed), (40, Time(7)));
        part.answered(0, Time(8));
        let state = (part.sent_bytes, part.received_bytes, part.progressed);
        assert_eq!(state, (0, 0, Time(8)), "it began again");
    }

    #[test]
    fn after_silence_the_leader_goes_back_or_asks() {
        let config = config();
        let mut lost = SnapshotSender { is_answered: true, ..sending(40, 20) };
        assert_eq!(lost.retry(Time(99), &config), None);
        assert_eq!(lost.sent_bytes, 40, "not silent for long enough");
        assert_eq!(lost.retry(Time(100), &config), None);
        let state = (lost.sent_bytes, lost.is_answered, lost.progressed);
        assert_eq!(state, (20, false, Time(100)), "from what was received on, a piece at a time");
        assert_eq!(lost.retry(Time(200), &config), None);
        assert_eq!(lost.progressed, Time(100), "nothing is on its way");
        let mut done = sending(50, 50);
        let question = done.retry(Time(100), &config).expect("a question");
        assert_eq!((question.offset, question.total_bytes, question.data.len()), (50, 50, 0));
        let mut unread = SnapshotSender { total_bytes: 0, ..sending(0, 0) };
        assert_eq!(unread.retry(Time(100), &config), None, "its length is not known");
        assert_eq!(unread.progressed, Time(0));
    }
}
