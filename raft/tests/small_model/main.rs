//! Every interleaving of a small cluster's life: three real cores, a few elections, commands and crashes; messages arrive in
//! any order or never; every write is done at any later time or lost in a crash. Depth first, with a set of fingerprints.
//!
//! Without a model checker's library: `stateright` (0.31) explores and remembers much as `explore.rs` does, in some 150 lines, and
//! brings a web server, a random generator and JSON along, which nothing here needs.
//!
//! ```sh
//! cargo test --release -p kodiak-raft --test small_model -- --ignored --nocapture          # the large scopes: minutes
//! cargo test --release -p kodiak-raft --features mutants --test small_model -- --nocapture # which planted faults are found
//! ```

#[path = "../scripts/disk.rs"]
#[allow(dead_code)]
mod disk;
mod explore;
mod fingerprint;
#[cfg(feature = "mutants")]
mod mutants;
mod promises;
mod scope;
#[path = "../scripts/show.rs"]
#[allow(dead_code)]
mod show;
mod state;

use std::time::Instant;

use explore::{Extent, explore};
use scope::Scope;

/// Explores a scope that must keep all promises, and prints how large it is.
fn exhaust(name: &str, scope: Scope) -> Extent {
    let begin = Instant::now();
    match explore(&scope, usize::MAX) {
        Ok(extent) => {
            let Extent { states, steps, depth, is_exhausted } = extent;
            assert!(is_exhausted);
            println!(
                "{name}: {states} states, {steps} steps, depth {depth}, {:.1} s: {scope:?}",
                begin.elapsed().as_secs_f64()
            );
            extent
        }
        Err(failure) => panic!("{name}: {scope:?}\n{failure}"),
    }
}

#[test]
fn an_election_of_slow_disks() {
    exhaust("one election", scope::SMALL);
}

/// Two elections and three entries (each election's no-op and a command), and what else was once gone through to the end.
#[test]
#[ignore = "takes minutes: --release -- --ignored"]
fn large_scopes() {
    for words in [
        "elections=2 order=links disks=quick",
        "elections=2 commands=1 in-flight=1 disks=quick",
        "commands=1 crashes=1 in-flight=1",
    ] {
        exhaust(words, Scope::parse(words).expect("a scope"));
    }
}

/// A scope of one's own: `KODIAK_SCOPE="elections=2 commands=1 crashes=1 order=links" cargo test ...`.
#[test]
#[ignore = "for KODIAK_SCOPE"]
fn a_scope_of_ones_own() {
    let words = std::env::var("KODIAK_SCOPE").unwrap_or_default();
    exhaust("KODIAK_SCOPE", Scope::parse(&words).unwrap());
}
