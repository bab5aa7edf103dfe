//! Planted faults that test the checks: a check that detects none is not known to work.

use std::fmt;

/// A planted fault. Each breaks one rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Mutant {
    /// `sync` returns without making anything durable.
    SyncDoesNothing,
    /// Syncing a folder makes no name durable.
    DirectorySyncDoesNothing,
    /// A failed sync is reported as successful.
    FailedSyncIgnored,
    /// The driver reports a write as durable before it has begun.
    WrittenBeforeSync,
    /// The driver drops the term and the vote of every write, so a restarted node votes again.
    VotesForgotten,
    /// Refused votes arrive as granted.
    RefusalCountsAsVote,
    /// The driver answers reads from the current state, without a read index.
    ReadsWithoutIndex,
    /// The network repeats forwarded commands.
    ForwardsRepeated,
    /// The driver reads its clock before the messages that it then handles have arrived.
    StaleClock,
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

/// All faults that can be planted: in the disk, the network and the driver, and, with the feature
/// `mutants`, in the core.
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
        Mutant::StaleClock,
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
            Mutant::StaleClock => "a clock is read after what it is read for",
            #[cfg(feature = "mutants")]
            Mutant::Core(mutant) => rule_of_core(*mutant),
        }
    }

    /// The most seeds that it may take to detect it.
    #[must_use]
    pub fn seeds(&self) -> u64 {
        20_000
    }

    /// The core's test that detects it, if seeds detect it too rarely or never.
    ///
    /// These tests are themselves tested with the fault planted (`core/tests/faults.rs`).
    #[must_use]
    pub fn unit_test(&self) -> Option<&'static str> {
        match self {
            // Needs two changes of members within a lease, and a quorum of the third configuration
            // that has promised nothing.
            #[cfg(feature = "mutants")]
            Mutant::Core(crate::core::Mutant::LeaseSurvivesConfiguration) => {
                Some("a_lease_ends_with_the_configuration_whose_quorum_made_it")
            }
            // Needs the only voter that is left to start again within the lease of a leader that
            // was removed.
            #[cfg(feature = "mutants")]
            Mutant::Core(crate::core::Mutant::LeaseOfNoVoter) => {
                Some("a_leader_that_is_no_voter_has_no_lease")
            }
            // Needs a voter that is started again and asked for its vote within a lease: some
            // fifteen thousand seeds.
            #[cfg(feature = "mutants")]
            Mutant::Core(crate::core::Mutant::VoteRightAfterRestart) => {
                Some("a_restarted_voter_waits_as_long_as_it_may_have_promised")
            }
            // Needs a voter that is started again with a shorter timeout and asked for its vote
            // within a lease.
            #[cfg(feature = "mutants")]
            Mutant::Core(crate::core::Mutant::RestartForgetsPromise) => {
                Some("a_restarted_voter_waits_as_long_as_it_promised_before")
            }
            // Few runs start a node on a damaged snapshot, and a node may lag behind in any run.
            #[cfg(feature = "mutants")]
            Mutant::Core(crate::core::Mutant::DamagedSnapshotKept) => {
                Some("a_node_whose_snapshot_is_damaged_is_sent_another")
            }
            // The replica reports what is applied before it takes a snapshot of it.
            #[cfg(feature = "mutants")]
            Mutant::Core(crate::core::Mutant::CompactBeyondApplied) => {
                Some("compaction_keeps_what_is_not_applied")
            }
            // Nothing breaks: the cluster is only slower.
            #[cfg(feature = "mutants")]
            Mutant::Core(crate::core::Mutant::FollowerPushesBack) => {
                Some("a_follower_with_a_backlog_acknowledges")
            }
            #[cfg(feature = "mutants")]
            Mutant::Core(crate::core::Mutant::TransferToBacklogged) => {
                Some("a_leader_with_a_backlog_hands_over_to_a_voter_without")
            }
            // In the simulator a failed node is soon started again, and campaigns then.
            #[cfg(feature = "mutants")]
            Mutant::Core(crate::core::Mutant::UnfitNeverCampaigns) => {
                Some("a_failed_node_that_alone_holds_an_entry_gives_it_away")
            }
            // Nothing breaks: elections are only more frequent, or take longer.
            #[cfg(feature = "mutants")]
            Mutant::Core(crate::core::Mutant::SoleVoterStepsDown) => {
                Some("the_only_voter_leads_on_over_a_slow_write")
            }
            #[cfg(feature = "mutants")]
            Mutant::Core(crate::core::Mutant::ShortStallTimeout) => {
                Some("a_slow_write_is_tolerated_for_the_stall_timeout")
            }
            #[cfg(feature = "mutants")]
            Mutant::Core(crate::core::Mutant::NonVoterSitsOutStall) => {
                Some("a_leader_without_a_vote_is_not_exempt_from_stalls")
            }
            #[cfg(feature = "mutants")]
            Mutant::Core(crate::core::Mutant::NoStepDownOnStall) => {
                Some("a_leader_with_a_stuck_disk_steps_down_and_stays_down")
            }
            // A superfluous promise breaks nothing: nodes only wait longer than they need to.
            #[cfg(feature = "mutants")]
            Mutant::Core(crate::core::Mutant::PromiseUnasked) => {
                Some("a_promise_is_made_only_to_a_leader_that_wants_it")
            }
            // Needs a disk that forgot and a leader that reaches its node just before it would
            // vote.
            #[cfg(feature = "mutants")]
            Mutant::Core(crate::core::Mutant::VoteBeforeReachable) => {
                Some("a_restarted_voter_can_be_reached_before_it_votes")
            }
            // Needs an answer from a later term that comes an election late, within a lease.
            #[cfg(feature = "mutants")]
            Mutant::Core(crate::core::Mutant::PromiseForgottenWithTerm) => {
                Some("a_promise_outlives_the_term_in_which_it_was_made")
            }
            // The simulator cannot detect a fault that all nodes share.
            #[cfg(feature = "mutants")]
            Mutant::Core(crate::core::Mutant::SessionsNeverExpire) => {
                Some("a_session_ends_by_the_stamps_of_applied_entries")
            }
            // The simulator's operator changes little while nodes are down.
            #[cfg(feature = "mutants")]
            Mutant::Core(crate::core::Mutant::ChangeToTheSilent) => {
                Some("a_change_leaves_a_quorum_that_answers")
            }
            // Needs a node that has never known a term and is killed before its first write, within
            // a lease.
            #[cfg(feature = "mutants")]
            Mutant::Core(crate::core::Mutant::PromiseBeforeDurable) => {
                Some("a_promise_is_of_a_term_that_is_durable")
            }
            // Needs a disk whose damage lies before what its snapshot includes, which is rare.
            #[cfg(feature = "mutants")]
            Mutant::Core(crate::core::Mutant::BeginAfterDamage) => {
                Some("damage_that_may_hide_a_vote_is_refused")
            }
            // Such a transfer fails like many others, and breaks no promise.
            #[cfg(feature = "mutants")]
            Mutant::Core(crate::core::Mutant::TransferWithoutMark) => {
                Some("leadership_moves_at_once_to_a_target_that_lacks_nothing")
            }
            #[cfg(feature = "mutants")]
            Mutant::Core(mutant) => test_of_rare_fault(*mutant),
            _ => None,
        }
    }

    /// Whether a few hundred seeds detect it, or a test of the core does.
    #[must_use]
    pub fn is_quick(&self) -> bool {
        match self {
            #[cfg(feature = "mutants")]
            Mutant::Core(
                crate::core::Mutant::InstallBelowCommit
                | crate::core::Mutant::KeepSuffixAtInstall
                | crate::core::Mutant::LeaseFromAcknowledgementTime
                | crate::core::Mutant::LeaseIgnoresDrift,
            ) => false,
            _ => true,
        }
    }

    /// Plants a fault of the core on this thread until the returned guard is dropped.
    #[cfg(feature = "mutants")]
    pub(super) fn plant(self) -> Option<crate::core::Planted> {
        match self {
            Mutant::Core(mutant) => Some(mutant.plant()),
            _ => None,
        }
    }
}

/// The tests for faults that need a rare coincidence, such as a start during an installation: 2,500
/// seeds detect none of these.
#[cfg(feature = "mutants")]
fn test_of_rare_fault(mutant: crate::core::Mutant) -> Option<&'static str> {
    use crate::core::Mutant;
    match mutant {
        // No node votes twice, and no stranger asks, where all follow the rules.
        Mutant::TermLeaderForgotten => Some("a_second_leader_is_ignored_and_reported"),
        Mutant::ReadIndexForStrangers => Some("each_message_counts_for_the_right_senders"),
        Mutant::EqualRoundIsProof => Some("an_acknowledgement_in_the_same_round_proves_nothing"),
        Mutant::OvertakenMarkCounts => Some("an_answer_from_before_the_fence_makes_no_second_one"),
        Mutant::ForgottenCounts => Some("what_a_disk_that_forgot_acknowledges_does_not_count"),
        Mutant::MarkDroppedAtCatchUp => Some("the_mark_outlives_a_restart_and_forbids_votes"),
        Mutant::ForgottenVoteCounts => Some("a_vote_of_a_disk_that_forgot_does_not_count"),
        Mutant::MarkNeverLowered => Some("a_mark_beyond_the_next_leaders_log_is_lowered"),
        Mutant::ForgotKnownToLeaderOnly => Some("the_mark_outlives_a_restart_and_forbids_votes"),
        Mutant::ForgottenMakesMajoritySmaller => {
            Some("what_a_disk_that_forgot_acknowledges_does_not_count")
        }
        Mutant::MarkOnlyInMemory => Some("the_mark_outlives_a_restart_and_forbids_votes"),
        Mutant::LogTimeIsNotLimited => Some("a_single_voters_wrong_clock_costs_what_it_lasts"),
        Mutant::LogTimeStepsEveryTerm => Some("a_term_that_follows_another_does_not_step"),
        Mutant::CommandsBeforeClocks => Some("a_command_waits_until_the_leader_knows_the_time"),
        Mutant::EntriesDuringInstall => Some("entries_are_left_out_while_a_snapshot_is_installed"),
        Mutant::WriteOutlivesInstall => {
            Some("a_write_beside_an_install_makes_only_the_snapshot_durable")
        }
        Mutant::CampaignDuringInstall => Some("a_node_that_installs_a_snapshot_does_not_campaign"),
        Mutant::InstallBeforeRestored => {
            Some("no_snapshot_is_installed_before_the_last_is_restored")
        }
        Mutant::OvertakenIsRefused => Some("commands_replaced_by_a_snapshot_are_unknown"),
        Mutant::FetchedTermIgnored => Some("entries_of_other_terms_than_the_logs_are_not_fetched"),
        Mutant::DigestsAcrossVersions => Some("digests_of_other_versions_stop_nobody"),
        Mutant::MinorityStopsNode => Some("without_a_majority_a_difference_stops_nobody"),
        Mutant::RestoredDigestUnchecked => Some("a_restored_state_must_have_its_snapshots_digest"),
        Mutant::EarlierPromiseOverwritten => Some("an_earlier_promise_outlives_two_restarts"),
        // The simulator's state machines are small.
        Mutant::SnapshotUnbounded => Some("a_snapshot_that_never_ends_fails_at_its_bound"),
        // Nothing breaks: a cluster only waits for longer, until the state machine is there.
        Mutant::LoadingLeaderStays => {
            Some("a_leader_that_restores_hands_over_to_a_voter_that_answers")
        }
        Mutant::LoadingCampaigns => Some("a_node_that_restores_lets_others_campaign_first"),
        Mutant::LoadingNeverCampaigns => Some("where_all_restore_one_of_them_leads"),
        _ => None,
    }
}

#[cfg(feature = "mutants")]
fn rule_of_core(mutant: crate::core::Mutant) -> &'static str {
    use crate::core::Mutant;
    match mutant {
        Mutant::CommitWithoutQuorum => "committed is what a quorum has on its disks",
        Mutant::MarkBeforeSync => "synced, then marked as synced",
        Mutant::BeginAfterDamage => "a damaged log begins where a snapshot reaches",
        Mutant::EqualRoundIsProof => "forgetting is proved by a later round",
        Mutant::OvertakenMarkCounts => "an overtaken answer says nothing of a mark",
        Mutant::ForgottenCounts => "what a disk that forgot says does not count",
        Mutant::MarkDroppedAtCatchUp => "a node that forgot votes once it is fenced",
        Mutant::ForgottenVoteCounts => "the vote of a disk that forgot does not count",
        Mutant::MarkNeverLowered => "a mark never waits for entries that may not come",
        Mutant::ForgotKnownToLeaderOnly => "a node learns that its disk forgot",
        Mutant::ForgottenMakesMajoritySmaller => "a majority stays as large as it is",
        Mutant::MarkOnlyInMemory => "the mark of a disk that forgot is durable",
        Mutant::CommitOldTerm => "only entries of the leader's own term are counted",
        Mutant::SeenVoteIsGranted => "a granted vote is never inferred",
        Mutant::VoteTwice => "one vote a term",
        Mutant::VoteBeforeDurable => "a vote leaves when it is durable",
        Mutant::VoteForShorterLog => "a vote goes to a log that is as up to date",
        Mutant::PreVoteRejectionWithoutTerm => "a refused pre-vote carries the term",
        Mutant::AppendWithoutPrevious => "entries follow what they followed at the leader",
        Mutant::TruncateWithoutConflict => "truncation only at a proven conflict",
        Mutant::AckBeforeDurable => "acknowledged is what is durable",
        Mutant::StaleAppendAck => "a write vouches only for the entries it wrote",
        Mutant::CommitBeyondVerified => "a follower commits only what it has compared",
        Mutant::StaleReadRound => "a read's round is answered after the read",
        Mutant::ReadBeforeTermCommit => "no read before an entry of the own term",
        Mutant::LeaseFromAcknowledgementTime => "a lease runs from when its round was sent",
        Mutant::LeaseIgnoresDrift => "a lease allows for drift",
        Mutant::LeaseIgnoresPromise => "a lease lasts as long as its voters have promised",
        Mutant::LeaseAfterTransfer => "no lease once another was asked to campaign",
        Mutant::LeaseSurvivesStepDown => "a lease ends with leadership",
        Mutant::LeaseSurvivesConfiguration => "a lease ends with its configuration",
        Mutant::LeaseOfNoVoter => "a leader that does not vote has no lease",
        Mutant::VoteRightAfterRestart => "a restarted voter waits",
        Mutant::RestartForgetsPromise => {
            "a restarted voter waits for as long as it promised before"
        }
        Mutant::AloneSkipsRestartWait => "a restarted node waits for what it saved, even alone",
        Mutant::TermLeaderForgotten => "one leader a term, also after a pre-vote",
        Mutant::ReadIndexForStrangers => "read indexes are for members",
        Mutant::AnyTermAdopted => "a term too far ahead is ignored",
        Mutant::SoleVoterStepsDown => "the only voter keeps leading over a slow write",
        Mutant::ShortStallTimeout => "a slow write ends leadership after the stall timeout",
        Mutant::NonVoterSitsOutStall => "a leader without a vote is not exempt from stalls",
        Mutant::PromiseUnasked => "promises are made to leaders that want them",
        Mutant::VoteBeforeReachable => "a restarted voter can be reached before it votes",
        Mutant::PromiseForgottenWithTerm => "a promise outlives its term",
        Mutant::RetryAppliesTwice => "a command of a session is applied once",
        Mutant::AcknowledgedIsAppliedAgain => "an acknowledged command is not applied again",
        Mutant::SessionsNeverExpire => "sessions expire",
        Mutant::ExpiryByLocalClock => "sessions expire by stamps",
        Mutant::SessionNotInSnapshot => "a snapshot holds the sessions",
        Mutant::NoStepDownOnStall => "a leader whose write is stuck steps aside",
        Mutant::NoStepDownWithoutQuorum => "a leader without a majority steps aside",
        Mutant::CapBlocksNoop => "the cap lets the no-op through",
        Mutant::ResendNeverProbes => "after a loss the leader probes for the matching entry",
        Mutant::WindowIgnored => "what is in flight is bounded",
        Mutant::StampRunsBackwards => "stamps never decrease",
        Mutant::LogTimeFollowsLeader => "one wrong clock of three moves no expiry",
        Mutant::LogTimeFollowsGreatest => "log time follows a clock that a majority has reached",
        Mutant::LogTimeIsNotLimited => "log time runs at twice its speed at most",
        Mutant::LogTimeStepsEveryTerm => "log time steps only over a gap",
        Mutant::CommandsBeforeClocks => "no command before the leader knows the time",
        Mutant::InstallBelowCommit => "a snapshot reverts nothing",
        Mutant::KeepSuffixAtInstall => "a suffix that does not follow from a snapshot is dropped",
        Mutant::EntriesDuringInstall => "no entries while a snapshot is installed",
        Mutant::WriteOutlivesInstall => "a write beside an install vouches for the snapshot only",
        Mutant::CampaignDuringInstall => "a node that installs a snapshot does not campaign",
        Mutant::InstallBeforeRestored => "one snapshot after the other",
        Mutant::OvertakenIsRefused => "commands that a snapshot replaced have an unknown outcome",
        Mutant::FetchedTermIgnored => "the disk gives back what was written",
        Mutant::EarlierPromiseOverwritten => "an earlier promise outlives two restarts",
        Mutant::AckBeforeInstalled => "a snapshot is acknowledged when it is installed",
        Mutant::CompactedIsSkipped => "a follower that lacks compacted entries gets a snapshot",
        Mutant::SnapshotWithoutConfiguration => "a snapshot brings its configuration",
        Mutant::ChangeBeforeOwnTermCommit => "no change of members before an entry of the own term",
        Mutant::ChangeWhilePending => "one change of members at a time",
        Mutant::ConfigurationWhenCommitted => "a configuration counts when it is appended",
        Mutant::TruncationKeepsConfiguration => "a truncation restores the configuration",
        Mutant::JointWithOneHalf => "both halves of a joint configuration decide",
        Mutant::JointIsNeverLeft => "a joint configuration is left",
        Mutant::RemovedLeaderCounts => "a removed leader does not count itself",
        Mutant::RemovedLeaderStays => "a removed leader steps down",
        Mutant::RemovalSilencesAtOnce => "an uncommitted removal silences no node",
        Mutant::ChangeToTheSilent => "a change leaves a quorum that answers",
        Mutant::PromiseBeforeDurable => "a promise is of a term that is durable",
        Mutant::PromoteUnseen => "a learner catches up before it votes",
        Mutant::IdReused => "an id is never used again",
        Mutant::TransferBeforeFlushed => "the target of a transfer has everything on its disk",
        Mutant::TransferNeverTimesOut => "a transfer ends",
        Mutant::ProposeDuringTransfer => "no proposals during a transfer",
        Mutant::TransferWithoutMark => "a transfer passes stickiness",
        Mutant::DigestsAcrossVersions => "digests of one version are compared",
        Mutant::MinorityStopsNode => "a majority's digest stops a node, and no other",
        Mutant::RestoredDigestUnchecked => "a restored state has its snapshot's digest",
        Mutant::DamagedSnapshotKept => "a node whose snapshot is damaged is sent another",
        Mutant::CompactBeyondApplied => "compaction keeps what is not applied",
        Mutant::FollowerPushesBack => {
            "a follower acknowledges however far behind its state machine is"
        }
        Mutant::TransferToBacklogged => "a leader with a backlog hands over to a voter without",
        Mutant::UnfitNeverCampaigns => "a failed node that alone holds an entry gives it away",
        Mutant::LoadingLeaderStays => "a leader that loads hands over to a voter that answers",
        Mutant::LoadingCampaigns => "a node that loads lets others campaign first",
        Mutant::LoadingNeverCampaigns => "a node that loads leads if no other can",
        Mutant::SnapshotUnbounded => "a snapshot has its bound",
        Mutant::UnfitCampaigns => "a node whose state machine has failed does not campaign",
    }
}
