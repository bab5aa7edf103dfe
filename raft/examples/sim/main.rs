//! Runs the simulator: one seed, a range of them, or as many as fit some minutes.
//!
//! ```text
//! cargo run --release -p kodiak-raft --example sim -- --minutes 2
//! cargo run --release -p kodiak-raft --example sim -- --minutes 2 --first 4711
//! cargo run --release -p kodiak-raft --example sim -- --seeds 0..100000
//! cargo run --release -p kodiak-raft --example sim -- --seed 4711           # replays it
//! cargo run --release -p kodiak-raft --example sim -- --seed 4711 --trace   # and says all that happens in it
//! cargo run --release -p kodiak-raft --example sim -- --mutants             # are the checks any good?
//! ```
//!
//! The exit code is 1 if an invariant was broken; what is printed then replays it.

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

/// Runs Raft in a simulated world, where a seed decides everything, and checks its invariants after
/// every step.
#[derive(Debug, Parser)]
#[command(name = "sim")]
struct Args {
    /// Run this seed.
    #[arg(long, conflicts_with_all = ["seeds", "minutes", "mutants"])]
    seed: Option<u64>,
    /// Run these seeds: `A..B`, the last one excluded.
    #[arg(long, value_parser = range, conflicts_with_all = ["minutes", "mutants"])]
    seeds: Option<Range<u64>>,
    /// Run seeds for so many minutes, beginning with `--first`: which ones come first is repeatable
    /// then, how many does depend on the machine.
    #[arg(long, conflicts_with = "mutants")]
    minutes: Option<f64>,
    /// Where `--minutes` begins; without it, where no earlier run began: at a number made of the
    /// time. CI gives a number made of the commit's files (`git rev-parse HEAD^{tree}`), so that
    /// every commit tries new seeds, and the same commit the same.
    #[arg(long, visible_alias = "from", requires = "minutes")]
    first: Option<u64>,
    /// How many threads run seeds.
    #[arg(long, default_value_t = std::thread::available_parallelism().map_or(1, usize::from))]
    threads: usize,
    /// How many events of a seed happen while there are faults.
    #[arg(long, default_value_t = Options::default().faulty_steps)]
    steps: u64,
    /// Build in this fault.
    #[arg(long, value_parser = mutant)]
    mutant: Option<Mutant>,
    /// Do not look at the disks: only what nodes and clients see counts.
    #[arg(long)]
    blind: bool,
    /// Print everything that happens in `--seed`, each line with the hash of all before.
    #[arg(long, requires = "seed")]
    trace: bool,
    /// End with a table of what went wrong, and how often, counted where it had its effect.
    #[arg(long, conflicts_with_all = ["trace", "mutants"])]
    faults: bool,
    /// End with a digest of message bytes, disk calls and applied entries: the same before and
    /// after a change that changes no behaviour
    #[arg(long, requires = "seeds", conflicts_with_all = ["trace", "mutants"])]
    behaviour: bool,
    /// Build in every fault there is, one after the other, and see that each is found.
    #[arg(long)]
    mutants: bool,
    /// With `--mutants`: one fault for each rule that a moment can show.
    #[arg(long, requires = "mutants")]
    quick: bool,
}

fn range(words: &str) -> Result<Range<u64>, String> {
    let (first, end) = words.split_once("..").ok_or("a range of seeds is written `A..B`")?;
    let number =
        |word: &str| word.parse::<u64>().map_err(|error| format!("{word:?} is no seed: {error}"));
    let range = number(first)?..number(end)?;
    if range.is_empty() { Err("there is no seed in this range".to_owned()) } else { Ok(range) }
}

fn mutant(words: &str) -> Result<Mutant, String> {
    let named = sim::mutants().into_iter().find(|mutant| mutant.to_string() == words);
    named.ok_or_else(|| {
        let names: Vec<String> = sim::mutants().iter().map(Mutant::to_string).collect();
        format!("there is no such mutant; there are: {}", names.join(", "))
    })
}

fn main() -> ExitCode {
    let args = Args::parse();
    let options = Options {
        faulty_steps: args.steps,
        looks_at_disks: !args.blind,
        mutant: args.mutant,
        ..Options::default()
    };
    if args.seed.is_none() {
        // A panic in the code under test is a broken invariant, and is reported as one; a replay shows
        // where it was.
        std::panic::set_hook(Box::new(|_| {}));
    }
    if args.mutants {
        return gate::run(args.threads, args.quick);
    }
    match args.seed {
        Some(seed) if args.trace => trace(seed, &options),
        Some(seed) => {
            many(Work { seeds: seed..seed + 1, until: None }, 1, &options, args.faults, false)
        }
        None => {
            let work = match args.seeds {
                Some(seeds) => Work { seeds, until: None },
                None => {
                    let first = args.first.unwrap_or_else(fresh_seed);
                    let minutes = args.minutes.unwrap_or(1.0).clamp(0.0, 1e6);
                    println!("seeds from {first} on, for {minutes} minutes");
                    let until = Instant::now() + Duration::from_secs_f64(minutes * 60.0);
                    Work { seeds: first..u64::MAX, until: Some(until) }
                }
            };
            many(work, args.threads.max(1), &options, args.faults, args.behaviour)
        }
    }
}

/// The first of a million seeds for every second since 1970: more than one second can run.
fn fresh_seed() -> u64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    now.as_secs() * 1_000_000
}

/// Prints all that happens. Two processes that run the same seed must print the same.
fn trace(seed: u64, options: &Options) -> ExitCode {
    let (verdict, lines) = sim::trace(seed, options);
    let mut out = std::io::stdout().lock();
    let printed =
        lines.iter().try_for_each(|line| writeln!(out, "{line}")).and_then(|()| match &verdict {
            Ok(report) => writeln!(out, "{report:#?}"),
            Err(failure) => writeln!(out, "{failure}"),
        });
    // A closed pipe is no error here: the reader has seen enough.
    if printed.is_err() || verdict.is_err() { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn many(
    work: Work,
    threads: usize,
    options: &Options,
    with_faults: bool,
    with_behaviour: bool,
) -> ExitCode {
    let workers = Workers::start(work, threads, options);
    let (total, failure) = workers.watch(|total| println!("{total}"));
    if with_faults {
        println!("{}", total.faults());
    }
    if with_behaviour {
        println!("{}", total.behaviour());
    }
    match failure {
        None => {
            println!("{total}\nevery invariant held");
            ExitCode::SUCCESS
        }
        Some(failure) => {
            println!("{total}\n\n{failure}\n");
            let blind = if options.looks_at_disks { "" } else { " --blind" };
            let mutant =
                options.mutant.map_or(String::new(), |mutant| format!(" --mutant {mutant}"));
            println!(
                "replay it with: cargo run --release -p kodiak-raft --example sim -- --seed {} --steps {}{blind}{mutant}\n\
                 and when it is mended, add the seed to raft/tests/sim_seeds.txt",
                failure.seed, options.faulty_steps
            );
            ExitCode::FAILURE
        }
    }
}
