//! Faults built in on purpose: a check that finds none of them is not known to check anything.

use std::fmt;

/// A fault built in on purpose, each breaking a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Mutant {
    /// `sync` returns without making anything durable.
    SyncDoesNothing,
    /// Syncing a folder makes no name durable.
    DirectorySyncDoesNothing,
    /// A sync that failed is taken for one that succeeded.
    FailedSyncIgnored,
    /// The driver says that a write is durable before it has begun.
    WrittenBeforeSync,
    /// The driver drops the term and the vote of every write: a restarted node votes again.
    VotesForgotten,
    /// Votes that were refused arrive as granted.
    RefusalCountsAsVote,
    /// The driver answers reads from the state machine as it is, without asking for a read index.
    ReadsWithoutIndex,
    /// The network repeats forwarded commands.
    ForwardsRepeated,
}

impl fmt::Display for Mutant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// All faults that can be built in.
#[must_use]
pub fn mutants() -> Vec<Mutant> {
    vec![
        Mutant::SyncDoesNothing,
        Mutant::DirectorySyncDoesNothing,
        Mutant::FailedSyncIgnored,
        Mutant::WrittenBeforeSync,
        Mutant::VotesForgotten,
        Mutant::RefusalCountsAsVote,
        Mutant::ReadsWithoutIndex,
        Mutant::ForwardsRepeated,
    ]
}

impl Mutant {
    /// The rule that it breaks.
    #[must_use]
    pub fn rule(&self) -> &'static str {
        match self {
            Mutant::SyncDoesNothing => "what was synced survives a loss of power",
            Mutant::DirectorySyncDoesNothing => "a file's name survives a loss of power",
            Mutant::FailedSyncIgnored => "a failed sync poisons the log",
            Mutant::WrittenBeforeSync => "acknowledged only when durable",
            Mutant::VotesForgotten => "a vote outlives a restart",
            Mutant::RefusalCountsAsVote => "only granted votes count",
            Mutant::ReadsWithoutIndex => "a read asks for its index first",
            Mutant::ForwardsRepeated => "a forwarded command is proposed once",
        }
    }

    /// How many seeds it may take to find it.
    #[must_use]
    pub fn seeds(&self) -> u64 {
        2_000
    }

    /// Whether a few seeds are enough to find it.
    #[must_use]
    pub fn is_quick(&self) -> bool {
        true
    }
}
