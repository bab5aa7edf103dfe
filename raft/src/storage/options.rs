//! The log's settings.

use super::segment::LENGTH_UNIT;

/// Settings of a [`Log`](super::Log). They may differ from one opening to the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogOptions {
    /// How long a segment file is made, in bytes; one that must hold a longer frame is made longer.
    /// At least 1 KiB is used. Default 16 MiB: a new segment costs two syncs, or some more if the
    /// disk was too slow to make its file ready in time, which is nothing once in 16 MiB; and
    /// opening a log reads a segment into memory at a time.
    pub segment_bytes: u64,
    /// How many bytes of the last entries ([`Entry::size_bytes`](crate::types::Entry::size_bytes))
    /// opening hands over in [`Saved::tail`](crate::types::Saved::tail), at most. Default 8 MiB.
    pub tail_bytes: usize,
}

impl Default for LogOptions {
    fn default() -> LogOptions {
        LogOptions { segment_bytes: 16 << 20, tail_bytes: 8 << 20 }
    }
}

impl LogOptions {
    pub(super) fn segment_bytes(&self) -> u64 {
        self.segment_bytes.max(LENGTH_UNIT).next_multiple_of(LENGTH_UNIT)
    }
}
