//! Planted faults: the simulator must detect each of them.

use kodiak_raft::sim::{Failure, Mutant, Options, run};

/// Runs seeds until one fails.
fn find(mutant: Mutant, seeds: u64, checks_disks: bool) -> Option<(u64, Failure)> {
    let options = Options::default().mutant(Some(mutant)).checks_disks(checks_disks);
    (0..seeds).find_map(|seed| run(seed, &options).err().map(|failure| (seed, *failure)))
}

fn must_detect(mutant: Mutant, seeds: u64, checks_disks: bool) -> Failure {
    let Some((seed, failure)) = find(mutant, seeds, checks_disks) else {
        panic!("{mutant:?} was not found in {seeds} seeds (checks disks: {checks_disks})");
    };
    println!(
        "{mutant:?}: seed {seed}, step {}: {}: {:.300}",
        failure.step, failure.invariant, failure.details
    );
    assert!(!failure.events.is_empty(), "a failure shows the events before it");
    failure
}

#[test]
fn a_disk_that_never_syncs_is_found() {
    must_detect(Mutant::SyncDoesNothing, 20, true);
}

#[test]
fn clients_and_peers_find_a_disk_that_never_syncs() {
    must_detect(Mutant::SyncDoesNothing, 200, false);
}

#[test]
fn a_folder_that_never_syncs_is_found() {
    must_detect(Mutant::DirectorySyncDoesNothing, 100, true);
}

#[test]
fn a_failed_sync_that_is_ignored_is_found() {
    must_detect(Mutant::FailedSyncIgnored, 200, true);
}

#[test]
fn an_answer_before_the_sync_is_found() {
    let failure = must_detect(Mutant::WrittenBeforeSync, 20, true);
    assert_eq!(failure.invariant, "durable before it is reported durable");
}

#[test]
fn clients_and_peers_find_an_answer_before_the_sync() {
    must_detect(Mutant::WrittenBeforeSync, 500, false);
}

#[test]
fn a_forgotten_vote_is_found() {
    must_detect(Mutant::VotesForgotten, 100, false);
}

#[test]
fn a_refusal_that_counts_as_a_vote_is_found() {
    let failure = must_detect(Mutant::RefusalCountsAsVote, 500, true);
    assert_eq!(failure.invariant, "a leader has the votes of a quorum");
}

#[test]
fn a_read_without_a_read_index_is_found() {
    let failure = must_detect(Mutant::ReadsWithoutIndex, 200, true);
    assert_eq!(failure.invariant, "a read sees what was committed before");
}

#[test]
fn a_forwarded_command_that_is_repeated_is_found() {
    let failure = must_detect(Mutant::ForwardsRepeated, 100, true);
    assert_eq!(failure.invariant, "a command is committed once");
}

#[test]
fn a_clock_that_is_read_too_early_is_found() {
    let failure = must_detect(Mutant::StaleClock, 1_000, true);
    assert_eq!(failure.invariant, "while a lease holds no other node leads a later term");
}

/// Most seeds detect a lost write when a restarted node has forgotten a promise.
///
/// The loss must also show in the logs of nodes that did not restart: some seed must break one of
/// Raft's own invariants (figure 3.2).
#[test]
fn lost_writes_break_rafts_own_invariants() {
    let options = Options::default().mutant(Some(Mutant::WrittenBeforeSync)).checks_disks(false);
    let of_raft =
        ["one leader a term", "leader completeness", "log matching", "state-machine safety"];
    let broken = (0..500).find_map(|seed| {
        let failure = run(seed, &options).err()?;
        of_raft.contains(&failure.invariant).then_some(failure)
    });
    println!("{:.300}", broken.expect("an invariant of Raft's own is broken").to_string());
}
