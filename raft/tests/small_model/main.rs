//! Explores every interleaving of a small cluster: three real cores, a few elections, commands and
//! crashes. Messages arrive in any order or never; members and leaders change; every write is done
//! at any later time or lost in a crash. Depth first, with a set of fingerprints.
//!
//! Without a model checker's library: `stateright` (0.31) explores and remembers much as
//! `explore.rs` does, in some 150 lines, and brings a web server, a random generator and JSON
//! along, which nothing here needs.
//!
//! ```sh
//! # A small scope, at once:
//! cargo test -p kodiak-raft --test small_model
//! # The large ones, in minutes:
//! KODIAK_SCOPE=large cargo test --release -p kodiak-raft --test small_model -- --nocapture
//! # One of your own:
//! KODIAK_SCOPE="elections=2 commands=1 crashes=1 order=links" cargo test ...
//! # Which planted faults are found:
//! cargo test --release -p kodiak-raft --features mutants --test small_model -- --nocapture
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

/// The scopes that `KODIAK_SCOPE` names; without it, small ones that take a moment.
fn scopes() -> Vec<(String, Scope)> {
    let named = |words: &str| {
        (
            words.to_owned(),
            Scope::parse(words).unwrap_or_else(|error| panic!("KODIAK_SCOPE: {error}")),
        )
    };
    match std::env::var("KODIAK_SCOPE").as_deref() {
        Err(_) => {
            let small = ("one election of slow disks".to_owned(), scope::SMALL);
            let further =
                scope::FURTHER.into_iter().map(|(name, words)| (name.to_owned(), named(words).1));
            std::iter::once(small).chain(further).collect()
        }
        Ok("large") => scope::LARGE.map(named).into(),
        Ok(words) => vec![named(words)],
    }
}

#[test]
fn no_interleaving_breaks_a_promise() {
    for (name, scope) in scopes() {
        let extent = exhaust(&name, scope);
        assert!(extent.states > 500, "it was a scope of {} states", extent.states);
    }
}
