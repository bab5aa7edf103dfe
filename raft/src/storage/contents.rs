//! What the log holds, as kept in memory: enough to check a write and to find an entry.

use std::collections::BTreeMap;

use super::body::SegmentHeader;
use super::frame::FrameFormat;
use super::sparse_index::SparseIndex;
use crate::types::{
    Configuration, DiskId, HardState, Identity, Index, Payload, PeerRecord, SnapshotMeta, Term,
    TermTable, Write,
};

/// A segment of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SegmentInfo {
    pub(super) number: u64,
    /// The last entry before the segment, as its header says.
    pub(super) last_index: Index,
    /// That entry has been truncated since. The header is no longer true, so no log can begin with
    /// this segment.
    pub(super) is_header_stale: bool,
    pub(super) capacity_bytes: u64,
    /// How far frames go. Of the last segment it is known only during recovery.
    pub(super) used_bytes: u64,
}

/// Term and vote, the term and the place of every entry, and the cluster's members.
///
/// Both appending and recovery change it.
#[derive(Clone, Debug)]
pub(super) struct Contents {
    pub(super) hard_state: HardState,
    pub(super) terms: TermTable,
    pub(super) sparse_index: SparseIndex,
    /// Their numbers rise by one.
    pub(super) segments: Vec<SegmentInfo>,
    /// The greatest index known to be committed.
    pub(super) commit: Index,
    /// How often the log has been opened; 0 in format 2.
    pub(super) life: u64,
    /// The records of other nodes' disks.
    pub(super) peer_records: BTreeMap<DiskId, PeerRecord>,
    /// The format in which the next frame is written.
    ///
    /// It never falls, although the entry that raised the feature level may be truncated. Format 2
    /// leaves out the count of openings, the records of peers and the mark of a disk that forgot,
    /// and the log has frames with these already.
    pub(super) format: FrameFormat,
    /// The configuration in force at the base of `terms`, and the index of its entry.
    configuration: (Index, Configuration),
    /// The configurations after the base.
    configurations: Vec<(Index, Configuration)>,
}

impl Contents {
    /// The contents of a new log, with its initial configuration.
    pub(super) fn of_new_log(initial_configuration: &Configuration) -> Contents {
        Contents {
            hard_state: HardState::default(),
            terms: TermTable::new(),
            sparse_index: SparseIndex::default(),
            segments: Vec::new(),
            commit: Index(0),
            life: u64::from(initial_configuration.feature_level.is_above_base()),
            peer_records: BTreeMap::new(),
            format: FrameFormat::for_level(initial_configuration.feature_level),
            configuration: (Index(0), initial_configuration.clone()),
            configurations: Vec::new(),
        }
    }

    /// The contents of a log that begins with this segment.
    pub(super) fn from_header(segment_header: &SegmentHeader) -> Contents {
        Contents {
            hard_state: segment_header.hard_state,
            terms: TermTable::after(segment_header.last_index, segment_header.last_term),
            configuration: segment_header.configuration.clone(),
            commit: segment_header.commit,
            life: segment_header.life,
            peer_records: segment_header.peer_records.clone(),
            format: segment_header.format,
            ..Contents::of_new_log(&segment_header.initial_configuration)
        }
    }

    /// Adds a segment that begins after the last entry.
    pub(super) fn add_segment(&mut self, number: u64, capacity_bytes: u64) {
        assert!(
            self.segments.last().is_none_or(|last| last.number + 1 == number),
            "segments follow one another"
        );
        self.segments.push(SegmentInfo {
            number,
            last_index: self.terms.last_index(),
            is_header_stale: false,
            capacity_bytes,
            used_bytes: 0,
        });
    }

    /// The configuration in force after the last entry, and the index of its entry.
    pub(super) fn configuration(&self) -> &(Index, Configuration) {
        self.configurations.last().unwrap_or(&self.configuration)
    }

    /// Configurations after `index`.
    pub(super) fn configurations_after(&self, index: Index) -> Vec<(Index, Configuration)> {
        self.configurations.iter().filter(|(at, _)| *at > index).cloned().collect()
    }

    /// Whether the log has the snapshot's last entry, or begins after it.
    pub(super) fn matches_snapshot(&self, meta: &SnapshotMeta) -> bool {
        self.terms.term_at(meta.index) == Some(meta.term)
    }

    /// Removes all entries and continues after a snapshot; term and vote stay. Returns the
    /// segments, which no longer belong to the log once a new one names itself the first.
    pub(super) fn restart_after_snapshot(&mut self, meta: &SnapshotMeta) -> Vec<SegmentInfo> {
        self.terms = TermTable::after(meta.index, meta.term);
        // Everything that a snapshot includes is committed.
        self.commit = meta.index;
        self.sparse_index.clear();
        self.configuration = (meta.index, meta.configuration.clone());
        self.configurations.clear();
        self.raise_format(&meta.configuration);
        std::mem::take(&mut self.segments)
    }

    /// Removes the segments that hold no entry after `limit`, and returns them.
    pub(super) fn drop_segments_up_to(&mut self, limit: Index) -> Vec<SegmentInfo> {
        // A segment without an earlier entry is the first one: nothing precedes it.
        let is_start = |segment: &SegmentInfo| {
            !segment.is_header_stale && segment.last_index > Index(0) && segment.last_index <= limit
        };
        let Some(start) = self.segments.iter().rposition(is_start).filter(|&start| start > 0)
        else {
            return Vec::new();
        };
        let dropped: Vec<SegmentInfo> = self.segments.drain(..start).collect();
        let SegmentInfo { number, last_index: base, .. } = self.segments[0];
        self.sparse_index.remove_before(number);
        self.terms.compact_to(base);
        let below = self.configurations.partition_point(|&(index, _)| index <= base);
        if let Some(last) = self.configurations.drain(..below).next_back() {
            self.configuration = last;
        }
        dropped
    }

    /// The header of a segment that begins now, in a new file.
    pub(super) fn segment_header(
        &self,
        segment: u64,
        origin: u64,
        identity: &Identity,
        initial_configuration: &Configuration,
    ) -> SegmentHeader {
        SegmentHeader {
            segment,
            origin,
            is_recycled: false,
            identity: *identity,
            hard_state: self.hard_state,
            last_index: self.terms.last_index(),
            last_term: self.terms.last_term(),
            initial_configuration: initial_configuration.clone(),
            configuration: self.configuration().clone(),
            commit: self.commit,
            life: self.life,
            peer_records: self.peer_records.clone(),
            format: self.format,
        }
    }

    /// Raises the format to that of a configuration that comes into force.
    fn raise_format(&mut self, configuration: &Configuration) {
        self.format = self.format.max(FrameFormat::for_level(configuration.feature_level));
    }

    /// Checks that a write does not contradict the log; the error says what does.
    ///
    /// Appending writes no contradiction, and recovery accepts none.
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
                "a truncation from index {from} although entries up to {} are committed",
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
        // A write of format 2 has no commit index, which reads 0.
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

    /// Raises the commit index without a write. The error says that it is beyond the last entry.
    pub(super) fn commit_to(&mut self, commit: Index) -> Result<(), String> {
        let last = self.terms.last_index();
        if commit > last {
            return Err(format!("commit index {commit} beyond the last entry, {last}"));
        }
        self.commit = self.commit.max(commit);
        Ok(())
    }

    /// Applies a write that has passed [`check`](Self::check) and whose frame lies at this place.
    pub(super) fn apply(&mut self, write: &Write, segment: u64, offset: u64) {
        if let Some(hard_state) = write.hard_state {
            self.hard_state = hard_state;
        }
        if let Some(from) = write.truncate_from {
            self.terms.truncate_from(from);
            self.sparse_index.truncate_from(from);
            self.configurations.retain(|&(index, _)| index < from);
            for segment in self.segments.iter_mut().filter(|segment| segment.last_index >= from) {
                segment.is_header_stale = true;
            }
        }
        self.commit = self.commit.max(write.commit);
        self.peer_records.extend(write.peer_records.iter().copied());
        if let Some(first) = write.entries.first() {
            self.sparse_index.add(first.index, segment, offset);
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
