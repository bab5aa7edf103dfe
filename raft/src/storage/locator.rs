//! Where in which segment each entry is.

use crate::types::Index;

/// A run ends once its frames lie this far from its start, so finding an entry reads at most about
/// this much.
const RUN_BYTES: u64 = 16 << 10;

/// Entries from `first` on, up to the next run, are in the frames that follow one another from
/// `offset` of `segment`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Run {
    pub(super) first: Index,
    pub(super) segment: u64,
    pub(super) offset: u64,
}

/// Finds entries. Takes 24 bytes for a run, and a run covers 16 KiB of the log unless a truncation
/// or a segment's end cuts it short: about 1.5 bytes of memory for a KiB of log.
///
/// ```text
/// frames     [1 2] [3 4 5] [truncate from 4: 4 5] [6]        runs: (1, frame 1) (4, frame 3)
/// ```
#[derive(Clone, Debug, Default)]
pub(super) struct Locator {
    /// Indexes strictly rising; so are places.
    runs: Vec<Run>,
    /// The next frame begins a run, because what precedes it was truncated.
    cut: bool,
}

impl Locator {
    /// Takes note that entries from `first` on, until further notice, are in the frame at this
    /// place.
    pub(super) fn add(&mut self, first: Index, segment: u64, offset: u64) {
        let goes_on = self.runs.last().is_some_and(|run| {
            !self.cut && run.segment == segment && offset - run.offset < RUN_BYTES
        });
        if !goes_on {
            self.runs.push(Run { first, segment, offset });
        }
        self.cut = false;
    }

    /// Forgets entries from `from` on.
    pub(super) fn truncate_from(&mut self, from: Index) {
        let kept = self.runs.partition_point(|run| run.first < from);
        self.runs.truncate(kept);
        self.cut = true;
    }

    /// Forgets entries in segments before `segment`.
    pub(super) fn forget_before(&mut self, segment: u64) {
        self.runs.retain(|run| run.segment >= segment);
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        self.runs.clear();
        self.cut = false;
    }

    /// The run that holds `index`, if the log holds it, and the first index of the next run.
    pub(super) fn find(&self, index: Index) -> Option<(Run, Option<Index>)> {
        let following = self.runs.partition_point(|run| run.first <= index);
        let run = self.runs.get(following.checked_sub(1)?)?;
        Some((*run, self.runs.get(following).map(|run| run.first)))
    }

    /// Makes room for the runs of a segment, so that appends to it need not.
    pub(super) fn reserve(&mut self, segment_bytes: u64) {
        self.runs.reserve(
            usize::try_from(segment_bytes / RUN_BYTES).expect("a segment fits the address space")
                + 2,
        );
    }
}
