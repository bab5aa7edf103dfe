//! The tests of the tests: with a rule's fault planted, the test that is named for the rule must
//! fail.
//!
//! Not here, but left to the simulator: `VoteTwice`, `VoteForShorterLog`, `AppendWithoutPrevious`,
//! `TruncateWithoutConflict`, `StaleAppendAck`, `CommitWithoutQuorum`, `CapBlocksNoop`.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::{
    admission, amnesia, backlog, digests, elections, fitness, installs, lease, loading, log_time,
    membership, reads, replication, snapshot_replacement, snapshots, stalls, terms, transfer,
};
use crate::core::Mutant;
use crate::replica::sessions::tests as table;
use crate::replica::snapshot;
use crate::replica::tests::{
    divergence as replica_divergence, log_time as replica_time, sessions,
    snapshot_installs as replica_installs,
};
use crate::storage::tests::{covered, synced};

const RULES: &[(Mutant, fn())] = &[
    (Mutant::MarkBeforeSync, synced::no_crash_leaves_a_mark_beyond_the_log),
    (Mutant::BeginAfterDamage, covered::damage_that_may_hide_a_vote_is_refused),
    (Mutant::TermLeaderForgotten, admission::a_second_leader_is_ignored_and_reported),
    (Mutant::ReadIndexForStrangers, admission::each_message_counts_for_the_right_senders),
    (Mutant::EqualRoundIsProof, amnesia::an_acknowledgement_in_the_same_round_proves_nothing),
    (Mutant::ForgottenCounts, amnesia::what_a_disk_that_forgot_acknowledges_does_not_count),
    (Mutant::MarkDroppedAtCatchUp, amnesia::the_mark_outlives_a_restart_and_forbids_votes),
    (Mutant::ForgottenVoteCounts, amnesia::a_vote_of_a_disk_that_forgot_does_not_count),
    (Mutant::OvertakenMarkCounts, amnesia::an_answer_from_before_the_fence_makes_no_second_one),
    (Mutant::MarkNeverLowered, amnesia::a_mark_beyond_the_next_leaders_log_is_lowered),
    (Mutant::ForgotKnownToLeaderOnly, amnesia::the_mark_outlives_a_restart_and_forbids_votes),
    (
        Mutant::ForgottenMakesMajoritySmaller,
        amnesia::what_a_disk_that_forgot_acknowledges_does_not_count,
    ),
    (Mutant::MarkOnlyInMemory, amnesia::the_mark_outlives_a_restart_and_forbids_votes),
    (Mutant::DigestsAcrossVersions, digests::digests_of_other_versions_stop_nobody),
    (Mutant::MinorityStopsNode, digests::without_a_majority_a_difference_stops_nobody),
    (
        Mutant::RestoredDigestUnchecked,
        replica_divergence::a_restored_state_must_have_its_snapshots_digest,
    ),
    (
        Mutant::DamagedSnapshotKept,
        snapshot_replacement::a_node_whose_snapshot_is_damaged_is_sent_another,
    ),
    (Mutant::CommitOldTerm, replication::figure_8_only_an_entry_of_the_leaders_own_term_commits),
    (Mutant::SeenVoteIsGranted, elections::a_term_seen_is_not_a_vote_granted),
    (Mutant::VoteBeforeDurable, elections::candidacies_and_votes_wait_for_the_disk),
    (
        Mutant::PreVoteRejectionWithoutTerm,
        elections::rejected_pre_votes_raise_the_term_of_a_longer_log,
    ),
    (Mutant::AckBeforeDurable, replication::only_verified_durable_entries_are_acknowledged),
    (Mutant::CommitBeyondVerified, replication::a_follower_commits_no_further_than_it_has_verified),
    (Mutant::StaleReadRound, reads::a_late_answer_to_an_earlier_round_does_not_count),
    (Mutant::ReadBeforeTermCommit, reads::reads_wait_for_the_first_entry_of_the_leaders_term),
    (Mutant::LeaseFromAcknowledgementTime, lease::a_lease_runs_from_when_its_round_was_sent),
    (Mutant::LeaseIgnoresDrift, lease::a_lease_is_shorter_than_a_promise_by_what_clocks_may_drift),
    (Mutant::LeaseIgnoresPromise, lease::a_lease_lasts_no_longer_than_its_voters_have_promised),
    (Mutant::AloneSkipsRestartWait, lease::the_only_voter_by_its_own_log_waits_for_its_promise),
    (Mutant::AnyTermAdopted, terms::one_frame_does_not_end_elections),
    (Mutant::SoleVoterStepsDown, stalls::the_only_voter_leads_on_over_a_slow_write),
    (Mutant::ShortStallTimeout, stalls::a_slow_write_is_tolerated_for_the_stall_timeout),
    (Mutant::NonVoterSitsOutStall, stalls::a_leader_without_a_vote_is_not_exempt_from_stalls),
    (Mutant::PromiseUnasked, lease::a_promise_is_made_only_to_a_leader_that_wants_it),
    (Mutant::VoteBeforeReachable, lease::a_restarted_voter_can_be_reached_before_it_votes),
    (Mutant::RestartForgetsPromise, lease::a_restarted_voter_waits_as_long_as_it_promised_before),
    (Mutant::PromiseBeforeDurable, lease::a_longer_promise_is_made_once_its_length_is_durable),
    (Mutant::LeaseAfterTransfer, lease::there_is_no_lease_once_another_was_asked_to_campaign),
    (Mutant::LeaseSurvivesStepDown, lease::a_lease_ends_with_the_office),
    (
        Mutant::LeaseSurvivesConfiguration,
        lease::a_lease_ends_with_the_configuration_whose_quorum_made_it,
    ),
    (Mutant::LeaseOfNoVoter, lease::a_leader_that_is_no_voter_has_no_lease),
    (Mutant::VoteRightAfterRestart, lease::a_restarted_voter_waits_as_long_as_it_may_have_promised),
    (Mutant::PromiseForgottenWithTerm, lease::a_promise_outlives_the_term_in_which_it_was_made),
    (Mutant::RetryAppliesTwice, sessions::a_retry_after_a_fail_over_gets_the_first_answer),
    (Mutant::RetryAppliesTwice, table::a_repeated_command_gets_the_first_answer),
    (Mutant::AcknowledgedIsAppliedAgain, table::a_late_copy_of_what_was_acknowledged_is_refused),
    (Mutant::SessionsNeverExpire, table::a_session_ends_by_the_stamps_of_applied_entries),
    (Mutant::ExpiryByLocalClock, sessions::a_session_ends_at_the_same_entry_on_every_node),
    (Mutant::SessionNotInSnapshot, sessions::sessions_survive_a_snapshot),
    (Mutant::NoStepDownOnStall, elections::a_leader_with_a_stuck_disk_steps_down_and_stays_down),
    (Mutant::NoStepDownWithoutQuorum, elections::a_leader_cut_off_from_its_majority_is_replaced),
    (Mutant::ResendNeverProbes, replication::windows_bound_what_is_in_flight_and_the_rest_follows),
    (Mutant::WindowIgnored, replication::windows_bound_what_is_in_flight_and_the_rest_follows),
    (
        Mutant::StampRunsBackwards,
        replication::stamps_never_run_backwards_even_if_a_leaders_clock_does,
    ),
    (Mutant::LogTimeFollowsLeader, log_time::one_wrong_clock_of_three_moves_no_expiry),
    (Mutant::LogTimeFollowsGreatest, log_time::one_wrong_clock_of_three_moves_no_expiry),
    (Mutant::LogTimeIsNotLimited, log_time::a_single_voters_wrong_clock_costs_what_it_lasts),
    (Mutant::LogTimeStepsEveryTerm, log_time::a_term_that_follows_another_does_not_step),
    (Mutant::CommandsBeforeClocks, replica_time::a_command_waits_until_the_leader_knows_the_time),
    (
        Mutant::InstallBelowCommit,
        snapshots::a_snapshot_of_what_is_committed_already_is_never_installed,
    ),
    (Mutant::KeepSuffixAtInstall, snapshots::an_installed_snapshot_discards_a_conflicting_suffix),
    (Mutant::EntriesDuringInstall, installs::entries_are_left_out_while_a_snapshot_is_installed),
    (
        Mutant::WriteOutlivesInstall,
        installs::a_write_beside_an_install_makes_only_the_snapshot_durable,
    ),
    (Mutant::CampaignDuringInstall, installs::a_node_that_installs_a_snapshot_does_not_campaign),
    (Mutant::InstallBeforeRestored, installs::no_snapshot_is_installed_before_the_last_is_restored),
    (Mutant::OvertakenIsRefused, replica_installs::commands_replaced_by_a_snapshot_are_unknown),
    (Mutant::FetchedTermIgnored, replication::entries_of_other_terms_than_the_logs_are_not_fetched),
    (Mutant::EarlierPromiseOverwritten, lease::an_earlier_promise_outlives_two_restarts),
    (Mutant::AckBeforeInstalled, snapshots::a_node_that_installs_a_snapshot_takes_no_part),
    (
        Mutant::CompactedIsSkipped,
        snapshots::a_follower_behind_the_log_is_sent_a_snapshot_then_entries,
    ),
    (Mutant::ChangeBeforeOwnTermCommit, membership::the_schedule_of_the_bug_of_2015_is_refused),
    (Mutant::ChangeWhilePending, membership::one_change_at_a_time),
    (
        Mutant::ConfigurationWhenCommitted,
        membership::a_configuration_counts_as_soon_as_it_is_in_the_log,
    ),
    (
        Mutant::TruncationKeepsConfiguration,
        membership::a_truncation_brings_the_earlier_configuration_back,
    ),
    (
        Mutant::JointWithOneHalf,
        membership::a_joint_configuration_needs_both_halves_and_is_then_left,
    ),
    (
        Mutant::JointIsNeverLeft,
        membership::a_new_leader_leaves_the_joint_configuration_that_it_finds,
    ),
    (
        Mutant::RemovedLeaderCounts,
        membership::a_removed_leader_does_not_count_itself_and_steps_down,
    ),
    (Mutant::RemovedLeaderStays, membership::a_removed_leader_does_not_count_itself_and_steps_down),
    (Mutant::RemovalSilencesAtOnce, membership::a_removal_that_may_be_lost_prevents_no_campaign),
    (Mutant::ChangeToTheSilent, membership::a_change_leaves_a_quorum_that_answers),
    (Mutant::PromiseBeforeDurable, lease::a_promise_is_of_a_term_that_is_durable),
    (Mutant::PromoteUnseen, membership::a_learner_that_lags_or_is_silent_is_not_promoted),
    (Mutant::IdReused, membership::an_id_is_never_used_again),
    (Mutant::TransferBeforeFlushed, transfer::the_target_is_asked_once_everything_is_on_its_disk),
    (Mutant::TransferNeverTimesOut, transfer::a_transfer_without_a_new_leader_ends),
    (Mutant::ProposeDuringTransfer, transfer::nothing_is_proposed_while_leadership_moves),
    (Mutant::CompactBeyondApplied, backlog::compaction_keeps_what_is_not_applied),
    (Mutant::FollowerPushesBack, backlog::a_follower_with_a_backlog_acknowledges),
    (Mutant::TransferToBacklogged, backlog::a_leader_with_a_backlog_hands_over_to_a_voter_without),
    (Mutant::UnfitNeverCampaigns, fitness::a_failed_node_that_alone_holds_an_entry_gives_it_away),
    (
        Mutant::LoadingLeaderStays,
        loading::a_leader_that_restores_hands_over_to_a_voter_that_answers,
    ),
    (Mutant::LoadingCampaigns, loading::a_node_that_restores_lets_others_campaign_first),
    (Mutant::LoadingNeverCampaigns, loading::where_all_restore_one_of_them_leads),
    (Mutant::SnapshotUnbounded, snapshot::tests::a_snapshot_that_never_ends_fails_at_its_bound),
    (Mutant::UnfitCampaigns, transfer::the_unfit_hand_over_and_do_not_campaign),
    (
        Mutant::TransferWithoutMark,
        transfer::leadership_moves_at_once_to_a_target_that_lacks_nothing,
    ),
    (
        Mutant::SnapshotWithoutConfiguration,
        snapshots::a_snapshot_brings_the_configuration_as_of_its_index,
    ),
];

#[test]
fn every_rules_test_notices_that_it_is_broken() {
    let survivors: Vec<Mutant> = RULES
        .iter()
        .filter(|(mutant, test)| {
            let _planted = mutant.plant();
            catch_unwind(AssertUnwindSafe(test)).is_ok()
        })
        .map(|&(mutant, _)| mutant)
        .collect();
    assert!(survivors.is_empty(), "these faults are not noticed: {survivors:?}");
}
