//! Runs the simulator: one seed, a range of seeds, or seeds for some minutes.
//!
//! ```text
//! alias sim='cargo run --release -p kodiak-raft --features mutants --example sim --'
//! sim --minutes 2
//! sim --minutes 2 --first 4711
//! sim --seeds 0..100000
//! sim --seed 4711           # replays one seed
//! sim --seed 4711 --trace   # prints all its events
//! sim --mutants             # tests the checks
//! ```
//!
//! The exit code is 1 if an invariant was broken; the output has the command that replays it.

#![forbid(unsafe_code)]

mod gate;
mod workers;

use std::io::Write;
use std::ops::Range;
use std::process::ExitCode;
use std::time::{Duration, Instant, SystemTime};

use clap::Parser;
use kodiak_raft::sim::{self, Mutant, Options};
use workers::{Work, Workers};

/// Run Raft in a deterministic simulation and check its invariants after every step.
#[derive(Debug, Parser)]
#[command(name = "sim")]
struct Args {
    /// Run this seed.
    #[arg(long, conflicts_with_all = ["seeds", "minutes", "mutants"])]
    seed: Option<u64>,
    /// Run these seeds: `A..B`, the last one excluded.
    #[arg(long, value_parser = range, conflicts_with_all = ["minutes", "mutants"])]
    seeds: Option<Range<u64>>,
    /// Run seeds for this many minutes, beginning with `--first`. The number of seeds depends on
    /// the machine.
    #[arg(long, conflicts_with = "mutants")]
    minutes: Option<f64>,
    /// The first seed of `--minutes`. By default it is derived from the time, so that no two runs
    /// share seeds. CI derives it from the commit's files (`git rev-parse HEAD^{tree}`), so that
    /// each commit has its own seeds.
    #[arg(long, visible_alias = "from", requires = "minutes")]
    first: Option<u64>,
    /// The number of threads.
    #[arg(long, default_value_t = std::thread::available_parallelism().map_or(1, usize::from))]
    threads: usize,
    /// The number of events of a seed with faults.
    #[arg(long, default_value_t = Options::default().faulty_steps)]
    steps: u64,
    /// Plant this fault.
    #[arg(long, value_parser = mutant)]
    mutant: Option<Mutant>,
    /// Do not check the disks, only what nodes and clients can see.
    #[arg(long)]
    blind: bool,
    /// Print all events of `--seed`, each with the hash of all events up to it.
    #[arg(long, requires = "seed")]
    trace: bool,
    /// End with a table of fault counters. Faults are counted where they take effect.
    #[arg(long, conflicts_with_all = ["trace", "mutants"])]
    faults: bool,
    /// End with a digest of message bytes, disk calls and applied entries. It stays the same if a
    /// change of the program changes no behaviour.
    #[arg(long, requires = "seeds", conflicts_with_all = ["trace", "mutants"])]
    behaviour: bool,
    /// Plant each fault in turn and check that it is detected.
    #[arg(long)]
    mutants: bool,
    /// With `--mutants`: only the faults that are detected quickly.
    #[arg(long, requires = "mutants")]
    quick: bool,
}

fn range(text: &str) -> Result<Range<u64>, String> {
    let (first, end) = text.split_once("..").ok_or("a range of seeds is written `A..B`")?;
    let number = |word: &str| {
        word.parse::<u64>().map_err(|error| format!("{word:?} is not a seed: {error}"))
    };
    let range = number(first)?..number(end)?;
    if range.is_empty() { Err("the range of seeds is empty".to_owned()) } else { Ok(range) }
}

fn mutant(text: &str) -> Result<Mutant, String> {
    let named = sim::mutants().into_iter().find(|mutant| mutant.to_string() == text);
    named.ok_or_else(|| {
        let names: Vec<String> = sim::mutants().iter().map(Mutant::to_string).collect();
        format!("unknown mutant; the mutants are: {}", names.join(", "))
    })
}

fn main() -> ExitCode {
    let args = Args::parse();
    let options =
        Options::default().faulty_steps(args.steps).checks_disks(!args.blind).mutant(args.mutant);
    if args.seed.is_none() {
        // A panic in the code under test is reported as a broken invariant; a replay shows its
        // place.
        std::panic::set_hook(Box::new(|_| {}));
    }
    if args.mutants {
        return gate::run(args.threads, args.quick);
    }
    let tables = Tables { faults: args.faults, behaviour: args.behaviour };
    match args.seed {
        Some(seed) if args.trace => trace(seed, &options),
        Some(seed) => run_seeds(Work { seeds: seed..seed + 1, until: None }, 1, &options, tables),
        None => {
            let work = match args.seeds {
                Some(seeds) => Work { seeds, until: None },
                None => {
                    let first = args.first.unwrap_or_else(seed_from_time);
                    let minutes = args.minutes.unwrap_or(1.0).clamp(0.0, 1e6);
                    println!("seeds from {first} on, for {minutes} minutes");
                    let until = Instant::now() + Duration::from_secs_f64(minutes * 60.0);
                    Work { seeds: first..u64::MAX, until: Some(until) }
                }
            };
            run_seeds(work, args.threads.max(1), &options, tables)
        }
    }
}

/// A first seed derived from the time: each second has a million seeds, more than can run in it.
fn seed_from_time() -> u64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    now.as_secs() * 1_000_000
}

/// Prints all events. Two processes that run the same seed must print the same.
fn trace(seed: u64, options: &Options) -> ExitCode {
    let (verdict, lines) = sim::trace(seed, options);
    let mut out = std::io::stdout().lock();
    let printed =
        lines.iter().try_for_each(|line| writeln!(out, "{line}")).and_then(|()| match &verdict {
            Ok(report) => writeln!(out, "{report:#?}"),
            Err(failure) => writeln!(out, "{failure}"),
        });
    // A closed pipe only ends the output.
    if printed.is_err() || verdict.is_err() { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// What to print after the last seed.
struct Tables {
    faults: bool,
    behaviour: bool,
}

fn run_seeds(work: Work, threads: usize, options: &Options, tables: Tables) -> ExitCode {
    let workers = Workers::start(work, threads, options);
    let (total, failure) = workers.watch(|total| println!("{total}"));
    if tables.faults {
        println!("{}", total.faults());
    }
    if tables.behaviour {
        println!("{}", total.behaviour());
    }
    match failure {
        None => {
            println!("{total}\nevery invariant held");
            ExitCode::SUCCESS
        }
        Some(failure) => {
            println!("{total}\n\n{failure}\n");
            let blind = if options.checks_disks { "" } else { " --blind" };
            let mutant =
                options.mutant.map_or(String::new(), |mutant| format!(" --mutant {mutant}"));
            println!(
                "replay it with: cargo run --release -p kodiak-raft --example sim -- \
                 --seed {} --steps {}{blind}{mutant}\n\
                 and when it is fixed, add the seed to raft/tests/sim_seeds.txt",
                failure.seed, options.faulty_steps
            );
            ExitCode::FAILURE
        }
    }
}
