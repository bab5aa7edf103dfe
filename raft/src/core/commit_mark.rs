//! When a commit index that no write carries is written to the disk.
//!
//! Each write carries the commit index as of its step. When the index rises and no write follows, a
//! note of its own goes to disk after one interval. Under load, writes follow and the note never
//! leaves:
//!
//! ```text
//!  write 7 (commit 5)  commit 6      write 8 (commit 6)  commit 7      deadline: MarkCommit(7)
//!  |                   |-------------|  cleared          |-------------|
//! ```

use std::time::Duration;

use crate::types::{Index, Time};

/// The commit index that was handed to the disk, and the deadline for a later one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct CommitMark {
    /// The greatest commit index handed to the disk in this life.
    written: Index,
    deadline: Option<Time>,
}

impl CommitMark {
    /// A write carries `commit`.
    pub(super) fn written(&mut self, commit: Index) {
        if commit > self.written {
            self.written = commit;
        }
        self.deadline = None;
    }

    /// Returns the commit index to be written now, if any. Arms the deadline when the index has
    /// risen above what is written.
    pub(super) fn advance(
        &mut self,
        now: Time,
        commit: Index,
        interval: Duration,
    ) -> Option<Index> {
        if commit <= self.written {
            self.deadline = None;
            return None;
        }
        let deadline = *self.deadline.get_or_insert_with(|| now.after(interval));
        if now < deadline {
            return None;
        }
        self.written(commit);
        Some(commit)
    }

    /// When [`CommitMark::advance`] should be called again.
    pub(super) fn deadline(&self) -> Option<Time> {
        self.deadline
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: Duration = Duration::from_nanos(10);

    #[test]
    fn a_commit_that_no_write_carries_is_noted_once() {
        let mut mark = CommitMark::default();
        assert_eq!(mark.advance(Time(1), Index(0), INTERVAL), None);
        assert_eq!(mark.deadline(), None);
        assert_eq!(mark.advance(Time(1), Index(3), INTERVAL), None);
        assert_eq!(mark.advance(Time(5), Index(4), INTERVAL), None);
        assert_eq!(mark.deadline(), Some(Time(11)), "it runs from the first rise");
        assert_eq!(mark.advance(Time(11), Index(4), INTERVAL), Some(Index(4)));
        assert_eq!(mark.advance(Time(40), Index(4), INTERVAL), None);
        assert_eq!(mark.deadline(), None);
    }

    #[test]
    fn a_write_that_carries_the_commit_spares_the_note() {
        let mut mark = CommitMark::default();
        mark.advance(Time(1), Index(3), INTERVAL);
        mark.written(Index(3));
        assert_eq!(mark.advance(Time(11), Index(3), INTERVAL), None);
        mark.advance(Time(12), Index(4), INTERVAL);
        mark.written(Index(3));
        assert_eq!(
            mark.advance(Time(13), Index(4), INTERVAL),
            None,
            "the write did not carry entry 4"
        );
        assert_eq!(mark.deadline(), Some(Time(23)));
    }
}
