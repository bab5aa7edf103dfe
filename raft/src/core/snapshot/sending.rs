//! The leader's side: a snapshot on its way to one follower, in pieces.
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

use crate::core::lease::Echo;
use crate::core::mutants::{Mutant, planted};
use crate::core::progress::Mode;
use crate::core::{Action, Config, Core, State, Transfer};
use crate::types::{Body, Chunk, Index, Message, NodeId, SnapshotMeta, Time};

/// A snapshot on its way to a follower.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(in crate::core) struct Sending {
    meta: Box<SnapshotMeta>,
    received_bytes: u64,
    sent_bytes: u64,
    /// 0 until the first piece was read.
    total_bytes: u64,
    /// The piece that is being read from the disk.
    reading: Option<u64>,
    /// The follower has answered since the last silence.
    is_answered: bool,
    /// When it last got further; at first when it began.
    progressed: Time,
    /// Nothing is read before: the newest snapshot was not to be found.
    rests_until: Time,
}

impl Sending {
    fn new(meta: SnapshotMeta, now: Time) -> Sending {
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

    pub(in crate::core) fn index(&self) -> Index {
        self.meta.index
    }

    pub(in crate::core) fn transfer(&self) -> Transfer {
        Transfer { index: self.meta.index, received_bytes: self.received_bytes, total_bytes: self.total_bytes }
    }

    /// Whether another piece shall be read now.
    fn wants_piece(&self, config: &Config, now: Time) -> bool {
        let pieces = if self.is_answered { config.snapshot_chunks as u64 } else { 1 };
        let window_bytes = pieces * config.snapshot_chunk_bytes as u64;
        let is_all_sent = self.total_bytes > 0 && self.sent_bytes >= self.total_bytes;
        let in_flight_bytes = self.sent_bytes.saturating_sub(self.received_bytes);
        self.reading.is_none() && !is_all_sent && in_flight_bytes < window_bytes && self.rests_until <= now
    }

    /// The follower says how far it is.
    fn answered(&mut self, received_bytes: u64, now: Time) {
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

    /// Goes back after silence. Returns a question, if there is nothing left to send.
    fn retry(&mut self, now: Time, config: &Config) -> Option<Chunk> {
        let is_silent = self.progressed.after(config.election_timeout.0) <= now;
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

impl Core {
    /// Turns to snapshots for followers whose next entry is compacted, reads the next pieces, and asks again after silence
    /// when a round is due.
    pub(in crate::core) fn send_snapshots(&mut self, is_round_due: bool) {
        let State::Leader(leading) = &mut self.state else { return };
        let (from, term, round, now) = (self.config.id, self.term, leading.round, self.now);
        for (&to, progress) in &mut leading.progress {
            let is_compacted = progress.next <= self.log.base() && !planted(Mutant::CompactedIsSkipped);
            if is_compacted && !matches!(progress.mode, Mode::Snapshot(_)) {
                let newest = self.log.snapshot().expect("what is compacted is in a snapshot");
                progress.send_snapshot(Sending::new(newest.clone(), now));
            }
            let Mode::Snapshot(sending) = &mut progress.mode else { continue };
            if is_round_due && let Some(chunk) = sending.retry(now, &self.config) {
                let body = Body::InstallSnapshot { meta: sending.meta.clone(), chunk, round };
                self.actions.push_back(Action::Send(Message { from, to, term, body }));
            }
            if sending.wants_piece(&self.config, now) {
                let id = self.snapshots.next_id();
                sending.reading = Some(id);
                let (index, offset) = (sending.meta.index, sending.sent_bytes);
                let limit_bytes = self.config.snapshot_chunk_bytes;
                self.actions.push_back(Action::ReadChunk { id, index, offset, limit_bytes });
            }
        }
    }

    pub(super) fn handle_chunk_read(&mut self, id: u64, chunk: Option<Chunk>) {
        let State::Leader(leading) = &mut self.state else { return };
        // Who waits for it may have caught up otherwise, or be sent another snapshot by now.
        let waiting = leading.progress.iter_mut().find_map(|(&to, progress)| match &mut progress.mode {
            Mode::Snapshot(sending) if sending.reading == Some(id) => Some((to, sending)),
            _ => None,
        });
        let Some((to, sending)) = waiting else { return };
        sending.reading = None;
        let Some(chunk) = chunk else {
            // There is a newer one; if it is not known here yet, it is about to be.
            let newest = self.log.snapshot().expect("one was being sent");
            **sending = Sending::new(newest.clone(), self.now);
            sending.rests_until = self.now.after(self.config.heartbeat_interval);
            return;
        };
        if chunk.offset != sending.sent_bytes {
            return; // The follower's answer has moved it meanwhile.
        }
        sending.total_bytes = chunk.total_bytes;
        sending.sent_bytes = chunk.end();
        let body = Body::InstallSnapshot { meta: sending.meta.clone(), chunk, round: leading.round };
        self.send(to, body);
    }

    pub(in crate::core) fn handle_snapshot_progress(&mut self, from: NodeId, index: Index, received: u64, echo: Echo) {
        let now = self.now;
        let Some(progress) = self.peer(from, echo) else { return };
        if let Mode::Snapshot(sending) = &mut progress.mode
            && sending.meta.index == index
        {
            if sending.total_bytes > 0 && received > sending.total_bytes {
                return self.ignore();
            }
            sending.answered(received, now);
        }
        self.count_answered_rounds();
    }
}
