//! What the log holds, as far as memory knows: enough to judge a write and to find an entry.

use std::collections::BTreeMap;

use super::body::Opening;
use super::frame::Format;
use super::locator::Locator;
use crate::types::{
    Configuration, DiskId, HardState, Identity, Index, Payload, PeerRecord, SnapshotMeta, Term,
    TermTable, Write,
};

/// A segment of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SegmentInfo {
    pub(super) number: u64,
    /// The last entry before it, when it was begun.
    pub(super) last_index: Index,
    /// That entry has been truncated since, so a log cannot begin here: what the opening says is no
    /// longer so.
    pub(super) is_overtaken: bool,
    pub(super) capacity_bytes: u64,
    /// How far frames go; of the last segment only while it is being read in.
    pub(super) used_bytes: u64,
}

/// Term and vote, the term of every entry, where the entries are, and who belongs to the cluster.
/// Appending and recovery both go through here.
#[derive(Clone, Debug)]
pub(super) struct Contents {
    pub(super) hard_state: HardState,
    pub(super) terms: TermTable,
    pub(super) locator: Locator,
    /// Numbers rising by one.
    pub(super) segments: Vec<SegmentInfo>,
    /// Known to be committed, at least.
    pub(super) commit: Index,
    /// How often the log has been opened; 0 if its format does not say.
    pub(super) life: u64,
    /// What is remembered of other disks.
    pub(super) peer_records: BTreeMap<DiskId, PeerRecord>,
    /// The format in which the next frame is written. It never falls, though the entry that raised
    /// the feature level may be truncated: the older format has no room for the count of lives, the
    /// records of peers and the mark of a disk that forgot, which frames of this log hold already.
    pub(super) format: Format,
    /// The configuration in force at the base of `terms`, and where it came from.
    configuration: (Index, Configuration),
    /// Those after the base.
    configurations: Vec<(Index, Configuration)>,
}

impl Contents {
    /// Of a log without entries: as a new one is, with its founding configuration.
    pub(super) fn of_new_log(founding: &Configuration) -> Contents {
        Contents {
            hard_state: HardState::default(),
            terms: TermTable::new(),
            locator: Locator::default(),
            segments: Vec::new(),
            commit: Index(0),
            life: u64::from(founding.feature_level.is_above_base()),
            peer_records: BTreeMap::new(),
            format: Format::at(founding.feature_level),
            configuration: (Index(0), founding.clone()),
            configurations: Vec::new(),
        }
    }

    /// Of a log that begins with this segment.
    pub(super) fn at(opening: &Opening) -> Contents {
        Contents {
            hard_state: opening.hard_state,
            terms: TermTable::after(opening.last_index, opening.last_term),
            configuration: opening.configuration.clone(),
            commit: opening.commit,
            life: opening.life,
            peer_records: opening.peer_records.clone(),
            format: opening.format,
            ..Contents::of_new_log(&opening.founding)
        }
    }

    /// Takes note of a segment that begins here.
    pub(super) fn begin_segment(&mut self, number: u64, capacity_bytes: u64) {
        assert!(
            self.segments.last().is_none_or(|last| last.number + 1 == number),
            "segments follow one another"
        );
        self.segments.push(SegmentInfo {
            number,
            last_index: self.terms.last_index(),
            is_overtaken: false,
            capacity_bytes,
            used_bytes: 0,
        });
    }

    /// The configuration in force after the last entry, and where it came from.
    pub(super) fn configuration(&self) -> &(Index, Configuration) {
        self.configurations.last().unwrap_or(&self.configuration)
    }

    /// Configurations after `index`.
    pub(super) fn configurations_after(&self, index: Index) -> Vec<(Index, Configuration)> {
        self.configurations.iter().filter(|(at, _)| *at > index).cloned().collect()
    }

    /// Whether the log has the snapshot's last entry, or begins after it.
    pub(super) fn holds(&self, meta: &SnapshotMeta) -> bool {
        self.terms.term_at(meta.index) == Some(meta.term)
    }

    /// Begins anew after a snapshot; term and vote stay. Returns the segments, which are void once
    /// a new one says so.
    pub(super) fn begin_after(&mut self, meta: &SnapshotMeta) -> Vec<SegmentInfo> {
        self.terms = TermTable::after(meta.index, meta.term);
        // Everything that a snapshot includes is committed.
        self.commit = meta.index;
        self.locator.clear();
        self.configuration = (meta.index, meta.configuration.clone());
        self.configurations.clear();
        self.raise_format(&meta.configuration);
        std::mem::take(&mut self.segments)
    }

    /// Forgets the segments that no entry after `limit` needs, and returns them.
    pub(super) fn forget_up_to(&mut self, limit: Index) -> Vec<SegmentInfo> {
        // A log that begins with entry 1 begins with its birth record.
        let is_start = |segment: &SegmentInfo| {
            !segment.is_overtaken && segment.last_index > Index(0) && segment.last_index <= limit
        };
        let Some(start) = self.segments.iter().rposition(is_start).filter(|&start| start > 0)
        else {
            return Vec::new();
        };
        let gone: Vec<SegmentInfo> = self.segments.drain(..start).collect();
        let SegmentInfo { number, last_index: base, .. } = self.segments[0];
        self.locator.forget_before(number);
        self.terms.compact_to(base);
        let below = self.configurations.partition_point(|&(index, _)| index <= base);
        if let Some(last) = self.configurations.drain(..below).next_back() {
            self.configuration = last;
        }
        gone
    }

    /// The opening of a segment that begins now, in a new file.
    pub(super) fn opening(
        &self,
        segment: u64,
        origin: u64,
        identity: &Identity,
        founding: &Configuration,
    ) -> Opening {
        Opening {
            segment,
            origin,
            is_recycled: false,
            identity: *identity,
            hard_state: self.hard_state,
            last_index: self.terms.last_index(),
            last_term: self.terms.last_term(),
            founding: founding.clone(),
            configuration: self.configuration().clone(),
            commit: self.commit,
            life: self.life,
            peer_records: self.peer_records.clone(),
            format: self.format,
        }
    }

    /// A configuration has come into force: from now on its format is written, if it is newer.
    fn raise_format(&mut self, configuration: &Configuration) {
        self.format = self.format.max(Format::at(configuration.feature_level));
    }

    /// Says why a write contradicts the log, if it does. Nothing that contradicts is ever written,
    /// and recovery takes nothing that does.
    pub(super) fn check(&self, write: &Write) -> Result<(), String> {
        if let Some(new) = write.hard_state {
            let old = self.hard_state;
            if new.term < old.term {
                return Err(format!("term {} after term {}", new.term, old.term));
            }
            if new.term == old.term && old.vote.is_some() && new.vote != old.vote {
                return Err(format!(
                    "a second vote in term {}: {:?} after {:?}",
                    new.term, new.vote, old.vote
                ));
            }
        }
        let base = self.terms.base();
        if let Some(from) = write.truncate_from.filter(|&from| from <= base) {
            return Err(format!(
                "a truncation from index {from} in a log that begins after {base}"
            ));
        }
        if let Some(from) = write.truncate_from.filter(|&from| from <= self.commit) {
            return Err(format!(
                "a truncation from index {from} of what is committed up to {}",
                self.commit
            ));
        }
        let last = self.terms.last_index();
        let remaining = write.truncate_from.map_or(last, |from| from.previous().min(last));
        let mut previous = (remaining, self.terms.term_at(remaining).unwrap_or(Term(0)));
        for entry in &write.entries {
            if previous.0.0.checked_add(1) != Some(entry.index.0) {
                return Err(format!("entry {} after entry {}", entry.index, previous.0));
            }
            if entry.term < previous.1 || entry.term == Term(0) {
                return Err(format!(
                    "entry {} of term {} after one of term {}",
                    entry.index, entry.term, previous.1
                ));
            }
            previous = (entry.index, entry.term);
        }
        // Format 2 says nothing of it, which reads 0.
        if write.commit > Index(0) && write.commit < self.commit {
            return Err(format!(
                "commit index {} after commit index {}",
                write.commit, self.commit
            ));
        }
        if write.commit > previous.0 {
            return Err(format!(
                "commit index {} beyond the last entry, {}",
                write.commit, previous.0
            ));
        }
        Ok(())
    }

    /// Takes in a commit index that no step carries. `false`: it is beyond the last entry.
    pub(super) fn commit_to(&mut self, commit: Index) -> bool {
        let fits = commit <= self.terms.last_index();
        if fits {
            self.commit = self.commit.max(commit);
        }
        fits
    }

    /// Takes in a write that [`check`](Self::check) has passed and whose frame lies at this place.
    pub(super) fn apply(&mut self, write: &Write, segment: u64, offset: u64) {
        if let Some(hard_state) = write.hard_state {
            self.hard_state = hard_state;
        }
        if let Some(from) = write.truncate_from {
            self.terms.truncate_from(from);
            self.locator.truncate_from(from);
            self.configurations.retain(|&(index, _)| index < from);
            for segment in self.segments.iter_mut().filter(|segment| segment.last_index >= from) {
                segment.is_overtaken = true;
            }
        }
        self.commit = self.commit.max(write.commit);
        self.peer_records.extend(write.peer_records.iter().copied());
        if let Some(first) = write.entries.first() {
            self.locator.add(first.index, segment, offset);
        }
        for entry in &write.entries {
            self.terms.append(entry.index, entry.term);
            if let Payload::Configuration(configuration) = &entry.payload {
                self.raise_format(configuration);
                self.configurations.push((entry.index, (**configuration).clone()));
            }
        }
    }
}
