//! The log's settings.

use super::segment::LENGTH_UNIT;
use crate::setters::setters;

/// Settings of a [`Log`](super::Log). They may differ from one opening to the next.
///
/// ```
/// use kodiak_raft::storage::LogOptions;
///
/// let options = LogOptions::default().segment_bytes(64 << 20);
/// assert_eq!(options.tail_bytes, 8 << 20);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LogOptions {
    /// The length of a segment's file, in bytes. Default 16 MiB.
    ///
    /// A segment that must hold a longer frame is longer, and none is shorter than 1 KiB. A new
    /// segment costs at least two syncs. Opening a log reads one segment at a time into memory.
    pub segment_bytes: u64,
    /// How much of the last entries is returned in [`Saved::tail`](crate::types::Saved::tail) when
    /// the log is opened, in bytes of [`Entry::size_bytes`](crate::types::Entry::size_bytes).
    /// Default 8 MiB.
    pub tail_bytes: usize,
}

impl Default for LogOptions {
    fn default() -> LogOptions {
        LogOptions { segment_bytes: 16 << 20, tail_bytes: 8 << 20 }
    }
}

setters!(LogOptions { segment_bytes: u64, tail_bytes: usize });

impl LogOptions {
    /// The length of a segment's file as used.
    pub(super) fn file_bytes(&self) -> u64 {
        self.segment_bytes.max(LENGTH_UNIT).next_multiple_of(LENGTH_UNIT)
    }
}
