//! Digests of the state: when one is taken, and the reaction to one that differs from a majority's.
//!
//! ```text
//!  committed   Apply 8 to 10 | TakeDigest 10 | Apply 11 to 13      with digest_interval 10
//! ```

use super::machine::MachineJob;
use super::{Effect, MachineCallback, MachineFailure, Replica, ReplicaEvent};
use crate::storage::Job;
use crate::types::{Digest, Divergence, Entries, Index, Now};

impl Replica {
    /// Whether digests are taken now. Below feature level 2 some members may not know them.
    pub(super) fn takes_digests(&self) -> bool {
        let is_on = self.limits.digest_interval > 0;
        is_on && self.core.configuration().feature_level.is_above_base()
    }

    /// Gives entries to the state machine, with the digests that are due among them.
    pub(super) fn apply_with_digests(&mut self, mut entries: Entries) {
        while let Some(index) = self.next_digest_index(&entries) {
            let (before, after) = entries.split_after(index);
            self.ask_machine(MachineJob::Apply(before));
            self.ask_machine(MachineJob::TakeDigest(index));
            entries = after;
        }
        if !entries.is_empty() {
            self.ask_machine(MachineJob::Apply(entries));
        }
    }

    /// The index of the first of these entries after which a digest is due. Raft's own entries
    /// count.
    fn next_digest_index(&self, entries: &Entries) -> Option<Index> {
        if !self.takes_digests() {
            return None;
        }
        let (first, last) = (entries.first()?.index.0, entries.last()?.index.0);
        let next = first.checked_next_multiple_of(self.limits.digest_interval)?;
        (next <= last).then_some(Index(next))
    }

    /// The state machine has taken a digest, or takes none.
    ///
    /// A digest taken for a snapshot alone is not reported: other nodes take none after that entry.
    pub(super) fn handle_digest(&mut self, now: Now, digest: Option<Digest>) {
        let Some(digest) = digest else { return };
        let is_regular = digest.index.0.is_multiple_of(self.limits.digest_interval.max(1));
        let is_first = std::mem::take(&mut self.machine.is_replaced);
        if (is_regular || is_first) && self.failed.is_none() {
            self.now = self.now.then(now);
            self.core.note_digest(now, digest);
        }
    }

    /// A majority of the voters has a state that differs from this node's.
    ///
    /// The node stops answering, and its state machine stops after the jobs that it has already.
    pub(super) fn handle_divergence(&mut self, divergence: Divergence) {
        let failure = divergence_failure(divergence);
        self.machine.is_stopping = true;
        self.stop_answering(failure.clone());
        self.ask_machine(MachineJob::Stop(failure.clone()));
        self.effects.push_back(Effect::Storage(Job::MarkDiverged(divergence)));
        self.effects.push_back(Effect::Event(ReplicaEvent::MachineFailed(failure)));
    }
}

/// The failure of a state machine whose state differs from a majority's, for clients and operators.
pub(super) fn divergence_failure(divergence: Divergence) -> MachineFailure {
    let Divergence { digest: Digest { index, version, value }, majority, .. } = divergence;
    let reason = format!(
        "its digest is {value:016x}, and a majority of the voters has {majority:016x} \
         (version {version})"
    );
    MachineFailure { callback: MachineCallback::Digest, index, reason, has_panicked: false }
}
