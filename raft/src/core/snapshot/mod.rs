//! Snapshots (§5): taking them, compacting the log after them, and sending them to followers.
//!
//! ```text
//!  taken      S1          S2          S3          after S3 the log goes back to S2, which serves
//!  log        1 . . . . . | . . . . . | . . . .   followers at most that far behind; for a live
//!                         ^ kept from here on     follower further behind it goes back further
//! ```
//!
//! The replica and the driver handle content: the core knows only what a snapshot stands for. A
//! snapshot counts when its file is durable under its name, and only then does anything go.

mod receiving;
mod sending;

use std::collections::VecDeque;

use crate::types::{Digest, Echo, Index, NodeId, SnapshotMeta, Stamp};

use super::mutants::{Mutant, planted};
use super::progress::Mode;
use super::{Action, Core, Done, RoleState, SnapshotProgress};
use receiving::Receiving;

/// What the core knows of snapshots. The newest one is known to the log.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Snapshots {
    /// The one that the state machine is writing to the disk.
    taking: Option<SnapshotMeta>,
    /// What the latest ones include, oldest first; at most `Config::retained_snapshots`.
    history: VecDeque<Index>,
    /// The one that the leader is sending.
    receiving: Option<Receiving>,
    /// Numbers requests for reading and writing pieces.
    last_id: u64,
    /// While this node leads: the index that a member needs a snapshot of.
    wanted: Index,
}

impl Snapshots {
    /// After a start, with a snapshot that includes this much on disk.
    pub(super) fn after(newest: Index) -> Snapshots {
        let history = (newest > Index(0)).then_some(newest).into_iter().collect();
        Snapshots { history, ..Snapshots::default() }
    }

    fn next_id(&mut self) -> u64 {
        self.last_id += 1;
        self.last_id
    }

    pub(super) fn is_installing(&self) -> bool {
        self.receiving.as_ref().is_some_and(Receiving::is_installing)
    }

    /// A member of this leader's needs a snapshot that includes this index.
    pub(super) fn want(&mut self, index: Index) {
        self.wanted = self.wanted.max(index);
    }

    /// What was wanted and is not included yet.
    pub(super) fn wanted_after(&self, newest: Index) -> Option<Index> {
        (self.wanted > newest).then_some(self.wanted)
    }

    pub(super) fn is_taking(&self) -> bool {
        self.taking.is_some()
    }

    pub(super) fn progress(&self) -> Option<SnapshotProgress> {
        self.receiving.as_ref().map(Receiving::progress)
    }
}

impl Core {
    /// For a state machine that is empty, before anything else: it is to take the newest snapshot's
    /// state, if there is one. [`Action::Restore`] asks for it; the node need not wait for that.
    pub fn restore_at_start(&mut self) {
        if let Some(meta) = self.log.begin_restore() {
            // A state that differs from that of a majority stays on the disk, and is never used.
            if self.digests.divergence.is_some() {
                return;
            }
            self.actions.push_back(Action::Restore(Box::new(meta)));
        }
    }

    /// What a snapshot of the state machine would stand for that has applied everything handed out
    /// up to `index`, the last of it with this stamp. [`Done::SnapshotTaken`] says when it is on
    /// disk. `None` if this is no time for one: another is being written or installed, the newest
    /// includes as much, or this node joined and does not know yet who belonged to the cluster at
    /// `index`: the initial members are not in the log, and a snapshot must name them.
    ///
    /// # Panics
    /// If `index` was never handed out to be applied.
    pub fn take_snapshot(&mut self, index: Index, stamp: Stamp) -> Option<SnapshotMeta> {
        assert!(
            index <= self.log.handed_out(),
            "{index} was never handed out, only {}",
            self.log.handed_out()
        );
        let snapshots = &self.snapshots;
        if snapshots.taking.is_some()
            || snapshots.is_installing()
            || index <= self.log.snapshot_index()
        {
            return None;
        }
        let term = self
            .log
            .terms()
            .term_at(index)
            .expect("what is applied after the snapshot is in the log");
        let configuration = self.log.configuration_at(index).clone();
        if configuration.voters.is_empty() {
            return None;
        }
        let meta = SnapshotMeta { index, term, stamp, configuration, digest: None };
        self.snapshots.taking = Some(meta.clone());
        Some(meta)
    }

    /// The state machine has made the copy for the snapshot of this index, and this is its digest.
    pub fn note_snapshot_digest(&mut self, index: Index, digest: Option<Digest>) {
        if let Some(meta) = self.snapshots.taking.as_mut().filter(|meta| meta.index == index) {
            meta.digest = digest;
        }
    }

    pub(super) fn handle_snapshot_done(&mut self, done: Done) {
        match done {
            Done::SnapshotTaken { index } => self.handle_snapshot_taken(index),
            Done::SnapshotFailed { index } => self.handle_snapshot_failed(index),
            Done::ChunkRead { id, chunk } => self.handle_chunk_read(id, chunk),
            Done::ChunkWritten { id, received_bytes } => {
                self.handle_chunk_written(id, received_bytes)
            }
            Done::SnapshotInstalled { index, is_valid } => {
                self.handle_snapshot_installed(index, is_valid)
            }
            Done::DivergenceMarked
            | Done::Compacted { .. }
            | Done::Written { .. }
            | Done::Fetched { .. }
            | Done::Applied { .. } => {}
        }
    }

    fn handle_snapshot_taken(&mut self, index: Index) {
        let Some(meta) = self.snapshots.taking.take_if(|meta| meta.index == index) else {
            panic!(
                "a snapshot of {index} is said to be taken, but {:?} was asked for",
                self.snapshots.taking
            );
        };
        // A leader's snapshot, installed meanwhile, may include more.
        if meta.index > self.log.snapshot_index() {
            self.log.snapshot_taken(meta);
            self.compact(index);
        }
    }

    /// Another one may be taken now.
    fn handle_snapshot_failed(&mut self, index: Index) {
        let failed = self.snapshots.taking.take_if(|meta| meta.index == index);
        assert!(failed.is_some(), "a snapshot of {index} failed that was not asked for");
    }

    /// There is a new snapshot, which includes everything up to `index`: releases what is no longer
    /// needed. What the state machine has not applied stays, whatever the snapshot includes.
    fn compact(&mut self, index: Index) {
        let before = self.snapshots.history.back().copied().unwrap_or_default();
        let oldest = match self.snapshots.history.len() >= self.config.retained_snapshots {
            true => self.snapshots.history.pop_front().unwrap_or_default(),
            false => Index(0),
        };
        self.snapshots.history.push_back(index);
        let mut base = before.min(self.needed_by_followers()).max(oldest);
        if !planted(Mutant::CompactBeyondApplied) {
            base = base.min(self.log.applied());
        }
        if base > self.log.base() {
            self.log.compact_to(base);
            self.actions.push_back(Action::Compact { first: base.next() });
        }
    }

    /// Live followers have everything up to here, or are receiving it.
    fn needed_by_followers(&self) -> Index {
        let RoleState::Leader(leading) = &self.state else { return Index(u64::MAX) };
        let timeout = self.config.election_timeout.max;
        let live =
            leading.progress.values().filter(|progress| progress.heard.after(timeout) > self.now);
        let has = live.map(|progress| match &progress.mode {
            Mode::Snapshot(sending) => sending.index().max(progress.matched),
            _ => progress.matched,
        });
        has.min().unwrap_or(Index(u64::MAX))
    }

    /// Records the sender as the leader of this term. False, and no effect, if another node is
    /// known to lead it.
    pub(super) fn accept_leader(&mut self, from: NodeId, echo: Echo) -> bool {
        if !self.may_lead_term(from) {
            self.ignore_second_leader(from);
            return false;
        }
        self.term_leader = Some(from);
        if self.leader.is_none() || !matches!(self.state, RoleState::Follower) {
            self.become_follower(Some(from));
        }
        self.leader_heard = Some(self.now);
        self.note_leader();
        self.save_promise(echo.wants_promise);
        self.election_deadline = self.now.after(self.randomized_timeout);
        self.repeat_read_requests(echo.round);
        true
    }
}
