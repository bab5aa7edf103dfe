//! Finds the place of an entry: a sparse index, kept in memory.

use crate::types::Index;

/// The length of a run, in bytes. Finding an entry reads at most about one run.
const RUN_BYTES: u64 = 16 << 10;

/// Successive frames: the entries from `first` on, up to the next run, are in the frames from
/// `offset` of `segment` on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FrameRun {
    pub(super) first: Index,
    pub(super) segment: u64,
    pub(super) offset: u64,
}

/// The places of entries. A run takes 24 bytes and covers 16 KiB of the log, unless a truncation or
/// the segment's end cuts it short: about 1.5 bytes of memory for a KiB of log.
///
/// ```text
/// frames     [1 2] [3 4 5] [truncate from 4: 4 5] [6]        runs: (1, frame 1) (4, frame 3)
/// ```
#[derive(Clone, Debug, Default)]
pub(super) struct SparseIndex {
    /// Both indexes and places strictly rise.
    runs: Vec<FrameRun>,
    /// The next frame begins a run, because entries before it were truncated.
    starts_new_run: bool,
}

impl SparseIndex {
    /// Adds a frame at this place with entries from `first` on.
    pub(super) fn add(&mut self, first: Index, segment: u64, offset: u64) {
        let goes_on = self.runs.last().is_some_and(|run| {
            !self.starts_new_run && run.segment == segment && offset - run.offset < RUN_BYTES
        });
        if !goes_on {
            self.runs.push(FrameRun { first, segment, offset });
        }
        self.starts_new_run = false;
    }

    /// Removes entries from `from` on.
    pub(super) fn truncate_from(&mut self, from: Index) {
        let kept = self.runs.partition_point(|run| run.first < from);
        self.runs.truncate(kept);
        self.starts_new_run = true;
    }

    /// Removes entries in segments before `segment`.
    pub(super) fn remove_before(&mut self, segment: u64) {
        self.runs.retain(|run| run.segment >= segment);
    }

    /// Removes all entries.
    pub(super) fn clear(&mut self) {
        self.runs.clear();
        self.starts_new_run = false;
    }

    /// The run that holds `index`, if the log holds it, and the first index of the next run.
    pub(super) fn find(&self, index: Index) -> Option<(FrameRun, Option<Index>)> {
        let following = self.runs.partition_point(|run| run.first <= index);
        let run = self.runs.get(following.checked_sub(1)?)?;
        Some((*run, self.runs.get(following).map(|run| run.first)))
    }

    /// Reserves memory for the runs of a segment, so that appends to it allocate none.
    pub(super) fn reserve(&mut self, segment_bytes: u64) {
        self.runs.reserve(
            usize::try_from(segment_bytes / RUN_BYTES).expect("a segment fits the address space")
                + 2,
        );
    }
}
