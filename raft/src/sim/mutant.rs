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
    /// A fault in the core.
    #[cfg(feature = "mutants")]
    Core(crate::core::Mutant),
}

impl fmt::Display for Mutant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            #[cfg(feature = "mutants")]
            Mutant::Core(mutant) => write!(f, "{mutant:?}"),
            own => write!(f, "{own:?}"),
        }
    }
}

/// All faults that can be built in: those of the disk, the network and the driver, and, with the feature `mutants`, those
/// of the core.
#[must_use]
pub fn mutants() -> Vec<Mutant> {
    let own = [
        Mutant::SyncDoesNothing,
        Mutant::DirectorySyncDoesNothing,
        Mutant::FailedSyncIgnored,
        Mutant::WrittenBeforeSync,
        Mutant::VotesForgotten,
        Mutant::RefusalCountsAsVote,
        Mutant::ReadsWithoutIndex,
        Mutant::ForwardsRepeated,
    ];
    #[cfg(feature = "mutants")]
    let core = crate::core::Mutant::ALL.iter().copied().map(Mutant::Core);
    #[cfg(not(feature = "mutants"))]
    let core = None;
    own.into_iter().chain(core).collect()
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
            #[cfg(feature = "mutants")]
            Mutant::Core(mutant) => rule_of_core(*mutant),
        }
    }

    /// How many seeds it may take to find it.
    #[must_use]
    pub fn seeds(&self) -> u64 {
        20_000
    }

    /// The core's own test that shows it, where seeds show it too rarely to be waited for, or cannot. These tests are
    /// themselves tested with the fault planted (`core/tests/faults.rs`).
    #[must_use]
    pub fn unit_test(&self) -> Option<&'static str> {
        match self {
            // No configuration changes yet, so a forgotten one is the founding one again.
            #[cfg(feature = "mutants")]
            Mutant::Core(crate::core::Mutant::SnapshotWithoutConfiguration) => {
                Some("a_snapshot_brings_the_configuration_as_of_its_index")
            }
            _ => None,
        }
    }

    /// Whether some hundred seeds are enough to find it, or a test of the core has.
    #[must_use]
    pub fn is_quick(&self) -> bool {
        match self {
            #[cfg(feature = "mutants")]
            Mutant::Core(crate::core::Mutant::InstallBelowCommit) => false,
            _ => true,
        }
    }

    /// Plants a fault of the core in all that runs on this thread, until what is returned is dropped.
    #[cfg(feature = "mutants")]
    pub(super) fn plant(self) -> Option<crate::core::Planted> {
        match self {
            Mutant::Core(mutant) => Some(mutant.plant()),
            _ => None,
        }
    }
}

#[cfg(feature = "mutants")]
fn rule_of_core(mutant: crate::core::Mutant) -> &'static str {
    use crate::core::Mutant;
    match mutant {
        Mutant::CommitWithoutQuorum => "committed is what a quorum has on its disks",
        Mutant::CommitOldTerm => "only entries of the leader's own term are counted",
        Mutant::SeenVoteIsGranted => "a granted vote is never inferred",
        Mutant::VoteTwice => "one vote a term",
        Mutant::VoteBeforeDurable => "a vote leaves when it is durable",
        Mutant::VoteForShorterLog => "a vote goes to a log that is as good",
        Mutant::PreVoteRejectionWithoutTerm => "a refused pre-vote carries the term",
        Mutant::AppendWithoutPrevious => "entries follow what they followed at the leader",
        Mutant::TruncateWithoutConflict => "truncation only at a proven conflict",
        Mutant::AckBeforeDurable => "acknowledged is what is durable",
        Mutant::StaleAppendAck => "a write vouches only for the entries it wrote",
        Mutant::CommitBeyondVerified => "a follower commits only what it has compared",
        Mutant::StaleReadRound => "a read's round is answered after the read",
        Mutant::ReadBeforeTermCommit => "no read before an entry of the own term",
        Mutant::NoStepDownOnStall => "a leader whose write is stuck steps aside",
        Mutant::NoStepDownWithoutQuorum => "a leader without a majority steps aside",
        Mutant::CapBlocksNoop => "the cap lets the no-op through",
        Mutant::ResendNeverProbes => "after a loss the leader looks for the place",
        Mutant::WindowIgnored => "what is in flight is bounded",
        Mutant::StampRunsBackwards => "stamps never fall",
        Mutant::InstallBelowCommit => "a snapshot takes nothing back",
        Mutant::KeepSuffixAtInstall => "a suffix that does not follow from a snapshot goes",
        Mutant::AckBeforeInstalled => "a snapshot is acknowledged when it is installed",
        Mutant::CompactedIsSkipped => "who lacks what was compacted gets a snapshot",
        Mutant::SnapshotWithoutConfiguration => "a snapshot brings its configuration",
    }
}
