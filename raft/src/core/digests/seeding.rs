//! Reseeding: a node whose state went wrong takes the state of a leader's snapshot. So does a node
//! whose newest snapshot cannot be read, while the log before it is gone.
//!
//! Its log is right, and so are its votes and acknowledgements. So the snapshot comes beside the
//! entries, takes the place of the state alone, and what follows it in the log is applied again:
//!
//! ```text
//!  node 3   log   1 ... 80 ......... 120 ..... 140      stopped at 120; its own snapshot of 80
//!                                                       may be wrong
//!  asks     SnapshotProgress { 120, 0 bytes }           with each answer to a round
//!  leader   takes a snapshot, of 135                    unless the newest one includes 120
//!           InstallSnapshot 135 ...                     in pieces, as ever
//!  node 3   restores 135, applies 136 ...               and answers again
//! ```
//!
//! It asks for what it has applied, or what its own snapshot includes: then no snapshot on its disk
//! is newer than the one that it gets. A leader of an older version does not understand the
//! request.

use crate::core::mutants::{Mutant, planted};
use crate::core::snapshot_sender::SnapshotSender;
use crate::core::{Core, RoleState};
use crate::types::{Body, Digest, Divergence, Index, NodeId, Now};

use super::Digests;

/// Whether a node waits for another state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(in crate::core) struct Seeding {
    /// The state machine has stopped, and no snapshot has been installed since.
    is_awaited: bool,
    /// The latest round with which this node asked.
    asked_round: u64,
}

impl Digests {
    /// After a start with a disk that says this.
    pub(in crate::core) fn after(divergence: Option<Divergence>) -> Digests {
        let seeding = Seeding { is_awaited: divergence.is_some(), asked_round: 0 };
        Digests { divergence, seeding, ..Digests::default() }
    }

    /// A snapshot is about to take the place of the state that the digests were taken of.
    pub(in crate::core) fn state_installed(&mut self) {
        self.own.clear();
        self.unconfirmed.clear();
        self.seeding = Seeding::default();
    }

    /// A member has a state again that is the leader's.
    fn clear_outvoted(&mut self, node: NodeId) {
        self.outvoted.remove(&node);
        for reported in self.reported.values_mut() {
            reported.remove(&node);
        }
    }
}

impl Core {
    /// Requests a leader's snapshot for the state machine, which has stopped because its state is
    /// not that of a majority.
    pub fn request_state(&mut self, now: Now) {
        self.begin(now);
        if self.digests.divergence.is_some() {
            self.digests.seeding = Seeding { is_awaited: true, asked_round: 0 };
        }
    }

    /// Requests a leader's snapshot of the same entry or a later one: the file of the newest
    /// snapshot is damaged, and the log before it is gone. The log, the marks, term and vote stay.
    pub fn request_snapshot(&mut self, now: Now) {
        self.begin(now);
        if self.log.snapshot_index() > Index(0) && !planted(Mutant::DamagedSnapshotKept) {
            self.digests.seeding = Seeding { is_awaited: true, asked_round: 0 };
        }
    }

    /// Whether this node waits for another snapshot because its own cannot be read; its state is
    /// not known to differ from that of a majority.
    #[must_use]
    pub fn awaits_readable_snapshot(&self) -> bool {
        self.awaits_state() && self.digests.divergence.is_none()
    }

    pub(in crate::core) fn awaits_state(&self) -> bool {
        self.digests.seeding.is_awaited
    }

    /// What the snapshot must include at least that this node waits for.
    pub(in crate::core) fn state_floor(&self) -> Index {
        self.log.applied().max(self.log.snapshot_index())
    }

    /// With each answer to a round: requests a snapshot, or reports how much of one is here.
    pub(in crate::core) fn send_state_request(&mut self) {
        let round = self.following.round();
        let Some(leader) = self.leader.filter(|&leader| leader != self.config.id) else { return };
        let is_busy = self.snapshots.is_taking() || self.snapshots.is_installing();
        let is_known = self.writes.is_hard_state_durable() && self.following.is_acknowledged(round);
        if !self.awaits_state() || is_busy || !is_known || self.digests.seeding.asked_round == round
        {
            return;
        }
        self.digests.seeding.asked_round = round;
        let floor = self.state_floor();
        if self.snapshots.progress().is_some_and(|transfer| transfer.index >= floor) {
            return self.send_snapshot_progress();
        }
        let report = self.follower_report(round);
        self.send(leader, Body::SnapshotProgress { index: floor, received_bytes: 0, report });
    }

    /// A member that receives entries needs a snapshot of this index or a later one, or reports how
    /// much of one it has.
    pub(in crate::core) fn handle_state_request(
        &mut self,
        to: NodeId,
        index: Index,
        received_bytes: u64,
    ) {
        let (now, newest) = (self.now, self.log.snapshot().cloned());
        let RoleState::Leader(leading) = &mut self.state else { return };
        let Some(progress) = leading.progress.get_mut(&to) else { return };
        match (&mut progress.seeding, newest) {
            (Some(seeding), _) if seeding.index() == index => {
                if seeding.total_bytes == 0 || received_bytes <= seeding.total_bytes {
                    seeding.answered(received_bytes, now);
                }
            }
            // One that is new enough is on its way.
            (Some(seeding), _) if seeding.index() > index => {}
            (seeding, Some(newest)) if newest.index >= index => {
                *seeding = Some(Box::new(SnapshotSender::new(newest, now)));
            }
            _ => self.snapshots.want(index),
        }
    }

    /// A leader's: the index that the next snapshot must include, because a member needs one. It
    /// should be taken as soon as that has been applied.
    #[must_use]
    pub fn wanted_snapshot(&self) -> Option<Index> {
        let is_free = !self.snapshots.is_taking() && !self.snapshots.is_installing();
        let wanted = self.snapshots.wanted_after(self.log.snapshot_index());
        wanted.filter(|_| is_free && self.is_leader() && self.digests.divergence.is_none())
    }

    /// A member has restored the state of this leader's newest snapshot: it is right again.
    pub(super) fn note_reseeded(&mut self, node: NodeId, digest: Digest) {
        let is_newest = self.log.snapshot().is_some_and(|newest| newest.digest == Some(digest));
        if is_newest
            && self.digests.outvoted.get(&node).is_some_and(|known| known.index <= digest.index)
        {
            self.digests.clear_outvoted(node);
        }
    }
}
