//! Faults planted in the core, and how much of which scope it takes to find them.
//!
//! Those about time, windows, reads and snapshots are not here: they break no promise that this
//! model checks. The scripts and the simulator find them. Nor are those of membership here that
//! take a fourth node, or a second life of an id.

use std::time::Instant;

use kodiak_raft::core::Mutant;

use crate::explore::{Failure, explore};
use crate::scope::Scope;

/// More states than any of the faults needs.
const LIMIT: usize = 3_000_000;

/// A fault and a scope in which it shows, with a look at the disks whenever something is promised
/// and, where the last word says so, without.
const TABLE: &[(Mutant, &str, bool)] = &[
    (Mutant::CommitWithoutQuorum, "in-flight=1 disks=quick", true),
    // Figure 8: the first node has led term 1, the third term 2.
    (Mutant::CommitOldTerm, "elections=2 in-flight=1 disks=quick message-bytes=1 logs=1//2", true),
    (Mutant::SeenVoteIsGranted, "elections=2 in-flight=1 disks=quick", true),
    (Mutant::VoteTwice, "elections=2 in-flight=1 disks=quick", true),
    // The vote is given twice only if the voter crashes in between, and a second candidate has not
    // heard of the first: more states than the limit lie before that.
    (Mutant::VoteBeforeDurable, "elections=2 crashes=1 in-flight=1", false),
    // A voter that has just acknowledged an entry does not help to depose its leader, unless it
    // crashes and forgets that.
    (Mutant::VoteForShorterLog, "elections=2 crashes=1 in-flight=1 disks=quick", true),
    (Mutant::AppendWithoutPrevious, "in-flight=1 disks=quick logs=2/1/", true),
    (Mutant::TruncateWithoutConflict, "commands=2 in-flight=2 order=any disks=quick", true),
    (Mutant::AckBeforeDurable, "crashes=1 in-flight=1", true),
    (Mutant::StaleAppendAck, "elections=2 in-flight=1 logs=1/1/1", true),
    (Mutant::ConfigurationWhenCommitted, "changes=1 in-flight=1 disks=quick order=links", true),
    (Mutant::JointWithOneHalf, "changes=1 learners=1 in-flight=1 disks=quick order=links", true),
    (Mutant::RemovedLeaderCounts, "changes=1 in-flight=1 disks=quick order=links", true),
    (
        Mutant::ForgotKnownToLeaderOnly,
        "elections=2 forgets=1 in-flight=1 disks=quick order=links",
        true,
    ),
    (Mutant::ForgottenMakesMajoritySmaller, "forgets=1 in-flight=1 disks=quick order=links", true),
    // The node acknowledged something in a later term than that of the leader that informs it, and
    // forgot that, too.
    (
        Mutant::MarkDroppedAtCatchUp,
        "elections=3 forgets=1 in-flight=1 disks=quick order=links",
        true,
    ),
    (
        Mutant::VoteRightAfterRestart,
        "elections=2 crashes=1 leases=mixed in-flight=1 disks=quick order=links",
        true,
    ),
    (Mutant::CommitBeyondVerified, "elections=2 in-flight=1 disks=quick logs=2/1/2", true),
];

fn find(mutant: Mutant, words: &str, checks_promises: bool) -> Option<Box<Failure>> {
    let _planted = mutant.plant();
    let scope = Scope { checks_promises, ..Scope::parse(words).expect("a scope") };
    explore(&scope, LIMIT).err()
}

#[test]
fn faults_are_found() {
    let mut missed = Vec::new();
    for &(mutant, words, shows_without) in TABLE {
        for checks_promises in [true, false].into_iter().filter(|checks| *checks || shows_without) {
            let begin = Instant::now();
            let Some(failure) = find(mutant, words, checks_promises) else {
                missed.push((mutant, checks_promises));
                println!(
                    "{mutant:?}: not found in {:.1} s: {words}",
                    begin.elapsed().as_secs_f64()
                );
                continue;
            };
            let (states, seconds) = (failure.extent.states, begin.elapsed().as_secs_f64());
            let (promise, way) = (failure.promise, failure.steps.len());
            println!(
                "{mutant:?}, promises {}: {states} states, {seconds:.1} s, {way} steps: \
                 {promise}: {words}",
                if checks_promises { "compared with the disk" } else { "not looked at" }
            );
        }
    }
    assert!(missed.is_empty(), "not found: {missed:?}");
}
