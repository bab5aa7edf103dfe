//! Versions of the wire protocol.

use std::fmt;
use std::ops::RangeInclusive;

/// A version of the wire protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version(pub u16);

impl Version {
    /// Answers to a leader carry a promise's length, hellos whether a node is blank, sessions a
    /// salt.
    pub const V2: Version = Version(2);

    /// Answers also carry the follower's clock, position and what it has applied; hellos the range
    /// of versions, the feature level, the life and the durable position.
    pub const V3: Version = Version(3);

    /// The oldest version that this code speaks.
    pub const OLDEST: Version = Version::V2;

    /// The newest version that this code speaks.
    pub const NEWEST: Version = Version::V3;

    /// Whether this code speaks it.
    #[must_use]
    pub fn is_known(self) -> bool {
        (Version::OLDEST..=Version::NEWEST).contains(&self)
    }

    /// The version of a link between this node and one that speaks `theirs`; `None` if the two
    /// share none.
    #[must_use]
    pub fn agreed(theirs: &RangeInclusive<Version>) -> Option<Version> {
        let highest = Version::NEWEST.min(*theirs.end());
        (highest >= Version::OLDEST && highest >= *theirs.start()).then_some(highest)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lower_of_the_newest_versions_is_used() {
        let agreed = |oldest, newest| Version::agreed(&(Version(oldest)..=Version(newest)));
        assert_eq!(agreed(2, 2), Some(Version::V2));
        assert_eq!(agreed(2, 3), Some(Version::V3));
        assert_eq!(agreed(2, 9), Some(Version::V3), "a newer peer comes down");
        assert_eq!(agreed(4, 9), None, "unless it no longer speaks ours");
        assert_eq!(agreed(1, 1), None);
    }
}
