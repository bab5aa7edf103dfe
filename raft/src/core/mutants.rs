//! Faults of the core, and of the replica around it, that can be planted on purpose, so that the
//! simulator, the scripts and the small model can show that they would notice: each breaks one rule
//! that another implementation has broken by accident. A rule whose mutant survives is not tested.
//!
//! Without the feature `mutants` the question "is it planted?" is the constant `false`, and the
//! faults are not compiled in. With it, a fault is planted for the current thread, not for a core:
//! a core's state stays what it is.

macro_rules! mutants {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {
        /// A fault in the core or the replica.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[cfg_attr(not(feature = "mutants"), expect(unreachable_pub, reason = "public with the \
            feature `mutants`"))]
        pub enum Mutant {
            $($(#[$doc])* $name),*
        }

        #[cfg(feature = "mutants")]
        impl Mutant {
            /// All of them.
            pub const ALL: &[Mutant] = &[$(Mutant::$name),*];
        }
    };
}

mutants! {
    /// A leader commits what is durable on its own disk alone.
    CommitWithoutQuorum,
    /// The log says that frames are on the disk before it has synced them.
    MarkBeforeSync,
    /// Opening a damaged log begins after the damage, whatever the snapshot includes.
    BeginAfterDamage,
    /// A rejection of the round in which the follower acknowledged proves that its disk forgot.
    EqualRoundIsProof,
    /// An answer from before the fence, which later ones have overtaken, marks the follower once
    /// more.
    OvertakenMarkCounts,
    /// What a disk that forgot acknowledges counts.
    ForgottenCounts,
    /// A node whose disk forgot votes again as soon as it has caught up.
    MarkDroppedAtCatchUp,
    /// A vote of a node whose disk is known to have forgotten counts.
    ForgottenVoteCounts,
    /// A leader tells a node that it forgot only until the node has confirmed.
    MarkNeverLowered,
    /// A node ignores `Forgot`.
    ForgotKnownToLeaderOnly,
    /// A leader commits with one node less where one forgot.
    ForgottenMakesMajoritySmaller,
    /// A node that receives `Forgot` does not make the mark durable.
    MarkOnlyInMemory,
    /// A leader commits an entry of an earlier term because a majority has it (figure 3.7).
    CommitOldTerm,
    /// An answer to a request for a vote counts as a grant whatever it says.
    SeenVoteIsGranted,
    /// A voter grants its vote to every candidate whose log is good enough.
    VoteTwice,
    /// A vote leaves before it is on disk.
    VoteBeforeDurable,
    /// A voter does not compare logs.
    VoteForShorterLog,
    /// A refused pre-vote does not name the voter's term.
    PreVoteRejectionWithoutTerm,
    /// A follower does not look at what precedes the entries it gets.
    AppendWithoutPrevious,
    /// A follower removes what follows the entries it gets, although nothing contradicts it.
    TruncateWithoutConflict,
    /// A follower acknowledges what is not on its disk yet.
    AckBeforeDurable,
    /// A write that is done makes entries durable that have replaced those it wrote.
    StaleAppendAck,
    /// A follower applies its leader's commit index to entries that it has not compared with the
    /// leader's.
    CommitBeyondVerified,
    /// An answer to an earlier round counts for the latest.
    StaleReadRound,
    /// A leader answers reads before an entry of its own term is committed.
    ReadBeforeTermCommit,
    /// A lease runs from when a quorum's answers arrived.
    LeaseFromAcknowledgementTime,
    /// A lease is as long as a promise, whatever the clocks.
    LeaseIgnoresDrift,
    /// A leader takes every promise to be as long as its own would be.
    LeaseIgnoresPromise,
    /// A leader that has asked another to campaign relies on its lease.
    LeaseAfterTransfer,
    /// A lease outlives its leader's term.
    LeaseSurvivesStepDown,
    /// A lease outlives the configuration whose quorum made it.
    LeaseSurvivesConfiguration,
    /// A leader without a vote relies on a lease.
    LeaseOfNoVoter,
    /// A voter may vote as soon as it is restarted.
    VoteRightAfterRestart,
    /// A restarted voter waits for as long as its promises last now, whatever it promised before.
    RestartForgetsPromise,
    /// A restarted node that votes alone by its own log does not wait for what it promised before.
    AloneSkipsRestartWait,
    /// A node that has asked for pre-votes forgets who leads the term.
    TermLeaderForgotten,
    /// A leader gives read indexes to nodes that are no members.
    ReadIndexForStrangers,
    /// A node adopts any term, however far ahead of its own.
    AnyTermAdopted,
    /// A leader that votes alone steps down over a slow write, although no other node can lead.
    SoleVoterStepsDown,
    /// A leader whose write is slow steps down after an election timeout.
    ShortStallTimeout,
    /// A leader that does not vote is exempt from stepping down over a slow write, as the only
    /// voter is.
    NonVoterSitsOutStall,
    /// A follower makes a promise although its leader wants none.
    PromiseUnasked,
    /// A restarted voter may vote before a living leader has had the time to reach it.
    VoteBeforeReachable,
    /// A voter that has come to a later term forgets what it promised to an earlier leader.
    PromiseForgottenWithTerm,
    /// A command of a session that comes again is applied again.
    RetryAppliesTwice,
    /// A command of a session is applied although its author has acknowledged it: a late copy of it
    /// counts again.
    AcknowledgedIsAppliedAgain,
    /// Sessions never expire.
    SessionsNeverExpire,
    /// Sessions expire by the node's own clock.
    ExpiryByLocalClock,
    /// A snapshot does not hold the sessions.
    SessionNotInSnapshot,
    /// A leader whose write is stuck goes on leading.
    NoStepDownOnStall,
    /// A leader without a majority's answers goes on leading.
    NoStepDownWithoutQuorum,
    /// What earlier leaders left uncommitted counts for the cap, and can keep the no-op out.
    CapBlocksNoop,
    /// A leader does not look for the place where the logs agree after messages were lost.
    ResendNeverProbes,
    /// A leader sends although the window is full.
    WindowIgnored,
    /// A leader's first entry may have an earlier stamp than the one before it.
    StampRunsBackwards,
    /// Log time is steered by the leader's wall clock alone.
    LogTimeFollowsLeader,
    /// Log time is steered by the voter whose wall clock is ahead of all.
    LogTimeFollowsGreatest,
    /// Log time goes to its target at once, whatever the distance.
    LogTimeIsNotLimited,
    /// Each new leader lets log time step, though it knows when the last entry was made.
    LogTimeStepsEveryTerm,
    /// Commands are proposed before a new leader knows the time.
    CommandsBeforeClocks,
    /// A snapshot is installed although as much is committed here.
    InstallBelowCommit,
    /// What follows an installed snapshot stays, although it does not follow from it.
    KeepSuffixAtInstall,
    /// A follower takes entries in although a snapshot is about to take its log's place.
    EntriesDuringInstall,
    /// A write that was under way at an install counts for the log that was there before.
    WriteOutlivesInstall,
    /// A node campaigns although a snapshot is about to take its log's place.
    CampaignDuringInstall,
    /// A snapshot is installed before the state machine has the state of the one before.
    InstallBeforeRestored,
    /// A command overtaken by a snapshot is reported as without effect.
    OvertakenIsRefused,
    /// Entries that were fetched are used whatever their terms.
    FetchedTermIgnored,
    /// A restarted voter writes down the length of its new promises while an earlier one lasts.
    EarlierPromiseOverwritten,
    /// A follower acknowledges a snapshot before it is installed.
    AckBeforeInstalled,
    /// A leader sends entries where a snapshot is needed: what was compacted in between is missing.
    CompactedIsSkipped,
    /// A snapshot does not bring its configuration along.
    SnapshotWithoutConfiguration,
    /// A leader changes the membership before an entry of its own term is committed.
    ChangeBeforeOwnTermCommit,
    /// A leader changes the membership although an earlier change is still under way.
    ChangeWhilePending,
    /// A configuration counts only once it is committed.
    ConfigurationWhenCommitted,
    /// A truncation leaves the configuration in force that it has removed.
    TruncationKeepsConfiguration,
    /// In a joint configuration the incoming half decides alone.
    JointWithOneHalf,
    /// A joint configuration is never left.
    JointIsNeverLeft,
    /// A leader that has been removed goes on counting itself.
    RemovedLeaderCounts,
    /// A leader that has been removed goes on leading.
    RemovedLeaderStays,
    /// A node with its own removal in its log, committed or not, does not campaign.
    RemovalSilencesAtOnce,
    /// A change may leave voters that do not answer.
    ChangeToTheSilent,
    /// A voter makes a promise before its term is on disk.
    PromiseBeforeDurable,
    /// A learner is promoted whatever it lacks.
    PromoteUnseen,
    /// The id of a member that is gone may be used again.
    IdReused,
    /// The target of a transfer is asked to campaign before everything is on its disk.
    TransferBeforeFlushed,
    /// A transfer whose target does not take over never ends.
    TransferNeverTimesOut,
    /// A leader takes proposals while it hands over.
    ProposeDuringTransfer,
    /// A request for votes after a transfer is not marked as one.
    TransferWithoutMark,
    /// Digests of different versions are compared.
    DigestsAcrossVersions,
    /// A node stops if any voter's digest differs from its own.
    MinorityStopsNode,
    /// The digest of a snapshot is not compared after the state machine was restored from it.
    RestoredDigestUnchecked,
    /// A node whose newest snapshot is damaged asks for no other.
    DamagedSnapshotKept,
    /// Compaction takes what the state machine has not applied.
    CompactBeyondApplied,
    /// A follower that applies slowly takes in no entries.
    FollowerPushesBack,
    /// A leader with a backlog hands over to a voter that has one, too.
    TransferToBacklogged,
    /// A node whose state machine has failed campaigns.
    UnfitCampaigns,
    /// A node whose state machine has failed never campaigns, although it alone holds an entry.
    UnfitNeverCampaigns,
    /// A leader whose state machine restores or replays leads on, however long that takes.
    LoadingLeaderStays,
    /// A node whose state machine restores or replays campaigns as soon as others do.
    LoadingCampaigns,
    /// A node whose state machine restores or replays does not campaign, though no other node can
    /// lead.
    LoadingNeverCampaigns,
    /// A snapshot is written however long it is.
    SnapshotUnbounded,
}

#[cfg(feature = "mutants")]
mod planting {
    use std::cell::Cell;

    use super::Mutant;

    thread_local! {
        static PLANTED: Cell<Option<Mutant>> = const { Cell::new(None) };
    }

    impl Mutant {
        /// Plants the fault in all cores that run on this thread, until what is returned is
        /// dropped.
        #[must_use = "the fault is gone as soon as this is dropped"]
        pub fn plant(self) -> Planted {
            Planted { before: PLANTED.replace(Some(self)) }
        }
    }

    /// See [`Mutant::plant`].
    #[derive(Debug)]
    pub struct Planted {
        before: Option<Mutant>,
    }

    impl Drop for Planted {
        fn drop(&mut self) {
            PLANTED.set(self.before);
        }
    }

    pub(crate) fn planted(mutant: Mutant) -> bool {
        PLANTED.get() == Some(mutant)
    }
}

#[cfg(feature = "mutants")]
pub use planting::Planted;
#[cfg(feature = "mutants")]
pub(crate) use planting::planted;

/// Whether this fault is planted.
#[cfg(not(feature = "mutants"))]
pub(crate) const fn planted(_: Mutant) -> bool {
    false
}
