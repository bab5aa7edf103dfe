//! The mutation gate: for every rule a fault that breaks it, and how many seeds it took to see
//! that. What seeds cannot show is left to tests of the core, which `cargo test --features mutants`
//! tries with the fault.

use std::process::ExitCode;

use kodiak_raft::sim::{self, Failure, Mutant, Options};

use crate::workers::{Work, Workers};

/// Tries every mutant; prints a table. Fails if one survives its seeds.
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
    println!("\nnot found: {}. A rule whose mutant survives is not tested.", survivors.join(", "));
    ExitCode::FAILURE
}

/// The first seed that shows it, and how.
fn find(mutant: Mutant, threads: usize) -> Option<Box<Failure>> {
    let options = Options { mutant: Some(mutant), ..Options::default() };
    let work = Work { seeds: 0..mutant.seeds(), until: None };
    Workers::start(work, threads, &options).watch(|_| {}).1
}
