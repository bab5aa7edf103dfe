//! The follower's side: taking in a leader's snapshot, and installing it.
//!
//! Pieces go to the disk in the order of their arrival. When all are there, the snapshot is
//! installed: on the disk first, in one step that either happens or does not; then in memory; then
//! in the state machine. While the disk works on it, the log stays as it is: entries are ignored
//! (the leader sends them again) and this node does not campaign.
//!
//! A snapshot that includes no more than what is committed here is never installed: it would take
//! back what is applied.

use std::collections::VecDeque;

use crate::core::mutants::{Mutant, planted};
use crate::core::{Action, Core, Event, InstallSnapshot, RoleState, SnapshotProgress, WriteChunk};
use crate::types::{Body, Chunk, Echo, Index, NodeId, SnapshotMeta, Term};

/// The most pieces that may wait for this node's disk; a leader has fewer on their way.
const WRITING_LIMIT: usize = 64;

/// A snapshot that is being received.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Receiving {
    meta: SnapshotMeta,
    /// The term of the leader that sends it.
    term: Term,
    total_bytes: u64,
    /// Bytes that the disk has taken in.
    received_bytes: u64,
    /// Bytes handed to the disk.
    handed_bytes: u64,
    /// Pieces that the disk has not taken in yet.
    writing: VecDeque<u64>,
    /// The write that installs it.
    installing: Option<u64>,
}

impl Receiving {
    fn new(meta: SnapshotMeta, term: Term, total_bytes: u64) -> Receiving {
        let (received_bytes, handed_bytes) = (0, 0);
        let (writing, installing) = (VecDeque::new(), None);
        Receiving { meta, term, total_bytes, received_bytes, handed_bytes, writing, installing }
    }

    pub(super) fn is_installing(&self) -> bool {
        self.installing.is_some()
    }

    fn is_complete(&self) -> bool {
        self.writing.is_empty() && self.received_bytes == self.total_bytes
    }

    pub(super) fn progress(&self) -> SnapshotProgress {
        let &Receiving { received_bytes, total_bytes, .. } = self;
        SnapshotProgress { index: self.meta.index, received_bytes, total_bytes }
    }
}

/// Whether a leader of `term` can have sent this.
fn is_sound(meta: &SnapshotMeta, chunk: &Chunk, term: Term) -> bool {
    let is_meta_sound =
        meta.index > Index(0) && meta.index < Index(u64::MAX) && meta.term > Term(0);
    let ends_inside = chunk
        .offset
        .checked_add(chunk.data.len() as u64)
        .is_some_and(|end| end <= chunk.total_bytes);
    term > Term(0) && is_meta_sound && meta.term <= term && ends_inside && chunk.total_bytes > 0
}

impl Core {
    pub(in crate::core) fn handle_install_snapshot(
        &mut self,
        from: NodeId,
        meta: SnapshotMeta,
        chunk: Chunk,
        echo: Echo,
    ) {
        if !is_sound(&meta, &chunk, self.term) {
            return self.ignore();
        }
        if !self.accept_leader(from, echo) {
            return;
        }
        self.following.note_round(echo.round);
        if self.awaits_state() {
            if meta.index < self.state_floor() {
                return; // The next answer to a round says what it needs.
            }
        } else if self.adopt_if_covered(&meta) {
            self.following.require_acknowledgement(); // The acknowledgement says so.
            return;
        }
        let term = self.term;
        let receiving = match &mut self.snapshots.receiving {
            Some(receiving)
                if receiving.meta == meta && receiving.total_bytes == chunk.total_bytes =>
            {
                receiving
            }
            // A late piece of one that the leader has given up, or the disk is busy installing.
            Some(receiving) if receiving.is_installing() => return self.send_snapshot_progress(),
            Some(receiving) if receiving.term == term && receiving.meta.index > meta.index => {
                return;
            }
            other => other.insert(Receiving::new(meta, term, chunk.total_bytes)),
        };
        receiving.term = term;
        let is_next = chunk.offset == receiving.handed_bytes && !chunk.data.is_empty();
        if !is_next || receiving.writing.len() >= WRITING_LIMIT {
            return self.send_snapshot_progress();
        }
        receiving.handed_bytes = chunk.end();
        self.snapshots.last_id += 1;
        let id = self.snapshots.last_id;
        receiving.writing.push_back(id);
        let meta = Box::new(receiving.meta.clone());
        self.actions.push_back(Action::WriteChunk(WriteChunk { id, meta, chunk }));
        if planted(Mutant::AckBeforeInstalled) {
            let (matched, leader) = (receiving.meta.index, from);
            let report = self.follower_report(echo.round);
            self.send(leader, Body::Appended { matched, report });
        }
    }

    /// Commits what the snapshot includes if this log has it already; whether it has. What a
    /// snapshot includes is committed, and a log that has it committed, or reaches as far with the
    /// same last entry (log matching), has the same entries up to there.
    fn adopt_if_covered(&mut self, meta: &SnapshotMeta) -> bool {
        let is_below = meta.index <= self.log.commit();
        if (is_below && planted(Mutant::InstallBelowCommit))
            || (!is_below && self.log.terms().term_at(meta.index) != Some(meta.term))
        {
            return false;
        }
        self.following.verified_to(meta.index);
        if !is_below {
            self.log.commit_to(meta.index);
        }
        true
    }

    /// Reports to the leader how much of the snapshot is here.
    pub(in crate::core) fn send_snapshot_progress(&mut self) {
        let Some(leader) = self.leader.filter(|&leader| leader != self.config.id) else { return };
        let Some(receiving) = &self.snapshots.receiving else { return };
        let (index, received_bytes) = (receiving.meta.index, receiving.received_bytes);
        let report = self.follower_report(self.following.round());
        self.send(leader, Body::SnapshotProgress { index, received_bytes, report });
    }

    pub(super) fn handle_chunk_written(&mut self, id: u64, received_bytes: u64) {
        let Some(receiving) = &mut self.snapshots.receiving else { return };
        if receiving.writing.front() != Some(&id) {
            return; // Of a snapshot that has been given up for another.
        }
        receiving.writing.pop_front();
        receiving.received_bytes = received_bytes.min(receiving.total_bytes);
        if receiving.writing.is_empty() {
            receiving.handed_bytes = receiving.received_bytes;
        }
        self.send_snapshot_progress();
    }

    /// Installs the snapshot when it is all there: not while this node campaigns, nor before an
    /// earlier one has reached the state machine.
    pub(in crate::core) fn install_received(&mut self) {
        let Some(receiving) = &self.snapshots.receiving else { return };
        let is_ready = receiving.is_complete()
            && !receiving.is_installing()
            && matches!(self.state, RoleState::Follower);
        let is_restored = self.log.applied() >= self.log.snapshot_index() || self.awaits_state();
        if !is_ready || !(is_restored || planted(Mutant::InstallBeforeRestored)) {
            return;
        }
        let meta = receiving.meta.clone();
        if self.awaits_state() {
            if meta.index < self.state_floor() {
                self.snapshots.receiving = None;
                return;
            }
        } else if self.adopt_if_covered(&meta) {
            // The entries have come another way meanwhile.
            self.snapshots.receiving = None;
            return self.following.require_acknowledgement();
        }
        let sequence = self.writes.issue_install(self.now);
        if let Some(receiving) = &mut self.snapshots.receiving {
            receiving.installing = Some(sequence);
        }
        let install = InstallSnapshot { meta: Box::new(meta), sequence };
        self.actions.push_back(Action::InstallSnapshot(install));
    }

    pub(super) fn handle_snapshot_installed(&mut self, index: Index, is_valid: bool) {
        let receiving =
            self.snapshots.receiving.as_mut().filter(|receiving| receiving.meta.index == index);
        let Some(sequence) = receiving.and_then(|receiving| receiving.installing.take()) else {
            panic!(
                "a snapshot of {index} is said to be installed, but {:?} was asked for",
                self.snapshots.receiving
            );
        };
        if !is_valid {
            // It was damaged on the way, or pieces of two leaders' files do not fit: from the
            // beginning.
            if let Some(receiving) = &mut self.snapshots.receiving {
                (receiving.received_bytes, receiving.handed_bytes) = (0, 0);
            }
            self.handle_written(sequence);
            return self.send_snapshot_progress();
        }
        let Some(Receiving { meta, .. }) = self.snapshots.receiving.take() else {
            unreachable!("checked above")
        };
        // What was written before it is in it, or is gone.
        self.writes.installed(index);
        if self.awaits_state() && index <= self.log.commit() {
            self.log.replace_state(meta.clone());
        } else {
            self.log.install(meta.clone());
            if self.log.last_index() == index {
                self.log_time.installed(self.now);
            }
        }
        self.digests.state_installed();
        self.snapshots.history.clear();
        self.snapshots.history.push_back(index);
        self.following.verified_to(index);
        self.following.require_acknowledgement();
        self.actions.push_back(Action::Event(Event::SnapshotInstalled { index }));
        self.actions.push_back(Action::Restore(Box::new(meta)));
        self.handle_written(sequence);
    }
}
