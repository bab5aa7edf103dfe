//! Feature levels: what the whole cluster can do, whatever mixture of versions its nodes run.

use std::fmt;

/// A feature level: a number that stands for formats of log, snapshot and wire, and for kinds of
/// entries.
///
/// Each node supports every level up to its own. A cluster has one *active* level, in its
/// configuration: no node writes, proposes or forwards what needs a higher one. An entry raises it
/// once every member supports the new level, and nothing ever lowers it.
///
/// | level | log | snapshot | wire | entries |
/// |---|---|---|---|---|
/// | 1 | format 2 | format 1 | version 2 | kinds 0 to 5 |
/// | 2 | format 3 | format 2 | version 3 | kind 6: a configuration with feature levels |
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FeatureLevel(pub u16);

impl FeatureLevel {
    /// The level that every node supports, and that a member has which says nothing of its own.
    pub const BASE: FeatureLevel = FeatureLevel(1);

    /// The level of this code.
    pub const CURRENT: FeatureLevel = FeatureLevel(2);

    /// Whether entries, logs and snapshots of this level say what the base level cannot.
    #[must_use]
    pub fn is_above_base(self) -> bool {
        self > FeatureLevel::BASE
    }
}

impl Default for FeatureLevel {
    fn default() -> FeatureLevel {
        FeatureLevel::BASE
    }
}

impl fmt::Display for FeatureLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
