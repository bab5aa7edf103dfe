//! The mutation gate: for each rule, a fault that breaks it and the seeds needed to detect it.
//!
//! Faults that seeds cannot show are left to tests of the core, which `cargo test --features
//! mutants` runs with the fault planted.

use std::process::ExitCode;

use kodiak_raft::sim::{self, Failure, Mutant, Options};

use crate::workers::{Work, Workers};

/// Tries every mutant and prints a table. Fails if one survives its seeds.
pub(crate) fn run(threads: usize, quick: bool) -> ExitCode {
    let mut survivors = Vec::new();
    println!("| rule | mutant | seeds | invariant that broke |\n|---|---|---|---|");
    for mutant in sim::mutants().into_iter().filter(|mutant| !quick || mutant.is_quick()) {
        let rule = mutant.rule();
        if let Some(test) = mutant.unit_test() {
            println!("| {rule} | `{mutant}` | by unit test | `{test}` |");
            continue;
        }
        match find(mutant, threads) {
            Some(failure) => {
                println!("| {rule} | `{mutant}` | {} | {} |", failure.seed + 1, failure.invariant);
            }
            None => {
                println!(
                    "| {rule} | `{mutant}` | more than {} | none: **it survives** |",
                    mutant.seeds()
                );
                survivors.push(mutant.to_string());
            }
        }
    }
    if survivors.is_empty() {
        return ExitCode::SUCCESS;
    }
    println!(
        "\nnot detected: {}. A rule whose mutant survives is not tested.",
        survivors.join(", ")
    );
    ExitCode::FAILURE
}

/// The failure of the first seed that detects the mutant.
fn find(mutant: Mutant, threads: usize) -> Option<Box<Failure>> {
    let options = Options::default().mutant(Some(mutant));
    let work = Work { seeds: 0..mutant.seeds(), until: None };
    Workers::start(work, threads, &options).watch(|_| {}).1
}
