//! The leader's side: which followers are sent a snapshot, and its pieces on their way to them
//! ([`SnapshotSender`]).

use crate::core::mutants::{Mutant, planted};
use crate::core::progress::Mode;
use crate::core::snapshot_sender::SnapshotSender;
use crate::core::{Action, Core, ReadChunk, RoleState};
use crate::types::{Body, Chunk, FollowerReport, Index, Message, NodeId};

impl Core {
    /// Turns to snapshots for followers whose next entry is compacted, reads the next pieces, and
    /// asks again after silence when a round is due.
    pub(in crate::core) fn send_snapshots(&mut self, is_round_due: bool) {
        let RoleState::Leader(leading) = &mut self.state else { return };
        let (from, term, now) = (self.config.id, self.term, self.now);
        let echo = self.config.echo(leading.round);
        for (&to, progress) in &mut leading.progress {
            let is_compacted =
                progress.next <= self.log.base() && !planted(Mutant::CompactedIsSkipped);
            if is_compacted && !matches!(progress.mode, Mode::Snapshot(_)) {
                let newest = self.log.snapshot().expect("what is compacted is in a snapshot");
                progress.send_snapshot(SnapshotSender::new(newest.clone(), now));
            }
            progress.seeding.take_if(|seeding| seeding.is_silent(now, &self.config));
            let is_seeding = progress.seeding.is_some();
            let Some(sending) = progress.snapshot_sender() else { continue };
            // A state that is not that of a majority is not sent: the next leader sends its own.
            if self.digests.divergence.is_some() {
                continue;
            }
            if !is_seeding
                && is_round_due
                && let Some(chunk) = sending.retry(now, &self.config)
            {
                let body = Body::InstallSnapshot { meta: sending.meta.clone(), chunk, echo };
                self.actions.push_back(Action::Send(Message { from, to, term, body }));
            }
            if sending.wants_piece(&self.config, now) {
                let id = self.snapshots.next_id();
                sending.reading = Some(id);
                let (index, offset) = (sending.meta.index, sending.sent_bytes);
                let limit_bytes = self.config.snapshot_chunk_bytes;
                let read = ReadChunk { id, index, offset, limit_bytes };
                self.actions.push_back(Action::ReadChunk(read));
            }
        }
    }

    pub(super) fn handle_chunk_read(&mut self, id: u64, chunk: Option<Chunk>) {
        let RoleState::Leader(leading) = &mut self.state else { return };
        // The follower may have caught up otherwise, or receive another snapshot by now.
        let waiting = leading.progress.iter_mut().find_map(|(&to, progress)| {
            let sending = progress.snapshot_sender()?;
            (sending.reading == Some(id)).then_some((to, sending))
        });
        let Some((to, sending)) = waiting else { return };
        sending.reading = None;
        let Some(chunk) = chunk else {
            // There is a newer one; if it is not known here yet, it is about to be.
            let newest = self.log.snapshot().expect("one was being sent");
            *sending = SnapshotSender::new(newest.clone(), self.now);
            sending.rests_until = self.now.after(self.config.heartbeat_interval);
            return;
        };
        if chunk.offset != sending.sent_bytes {
            return; // The follower's answer has moved it meanwhile.
        }
        sending.total_bytes = chunk.total_bytes;
        sending.sent_bytes = chunk.end();
        let (meta, echo) = (sending.meta.clone(), self.config.echo(leading.round));
        let body = Body::InstallSnapshot { meta, chunk, echo };
        self.send(to, body);
    }

    pub(in crate::core) fn handle_snapshot_progress(
        &mut self,
        from: NodeId,
        index: Index,
        received: u64,
        report: &FollowerReport,
    ) {
        let now = self.now;
        let Some(progress) = self.note_answer(from, report) else { return };
        if let Mode::Snapshot(sending) = &mut progress.mode
            && sending.meta.index == index
        {
            if sending.total_bytes > 0 && received > sending.total_bytes {
                return self.ignore();
            }
            sending.answered(received, now);
        } else if !matches!(progress.mode, Mode::Snapshot(_)) {
            self.handle_state_request(from, index, received);
        }
        self.count_answered_rounds();
    }
}
