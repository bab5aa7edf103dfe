//! The simulator over hundreds of seeds, and over those that once failed.
//!
//! `.ci/run sim` runs many more.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use kodiak_raft::sim::{Options, Report, run, trace};

/// The number of seeds of a normal run. `KODIAK_SIM_SEEDS` sets another number, and
/// `KODIAK_SIM_FIRST` the first seed.
const SEEDS: u64 = 300;

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|value| value.parse().ok()).unwrap_or(default)
}

/// Runs seeds on two threads.
fn run_seeds(first: u64, count: u64, options: &Options) -> Vec<Report> {
    let next = AtomicU64::new(first);
    let reports = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= first + count {
                        return;
                    }
                    match run(seed, options) {
                        Ok(report) => reports.lock().unwrap().push(report),
                        Err(failure) => {
                            next.store(first + count, Ordering::Relaxed);
                            panic!("{failure}");
                        }
                    }
                }
            });
        }
    });
    let mut reports = reports.into_inner().unwrap();
    reports.sort_by_key(|report| report.seed);
    reports
}

#[test]
fn invariants_hold_over_hundreds_of_seeds() {
    let (first, count) = (setting("KODIAK_SIM_FIRST", 0), setting("KODIAK_SIM_SEEDS", SEEDS));
    let began = std::time::Instant::now();
    let reports = run_seeds(first, count, &Options::default());
    let sum = |of: fn(&Report) -> u64| reports.iter().map(of).sum::<u64>();
    assert!(sum(|report| report.membership_changes) > 0, "members change in some runs");
    for of in [
        |report: &Report| report.lease_reads_answered,
        |report: &Report| report.stale_reads_answered,
        |report: &Report| report.session_retries,
        |report: &Report| report.answers_repeated,
    ] {
        assert!(sum(of) > 0, "clients use every kind of access");
    }
    for name in
        ["disk put back, within reach of its leader", "disk put back, beyond what Raft tolerates"]
    {
        let times = reports
            .iter()
            .flat_map(|report| report.fault_counters.iter())
            .filter(|(counted, _)| *counted == name);
        assert!(times.map(|(_, times)| times).sum::<u64>() > 0, "{name}: never");
    }
    let steps = sum(|report| report.steps);
    println!(
        "{count} seeds, {steps} steps, {} virtual s in {:?}: {} leaders, {} starts, {} entries, \
         {} writes and {} reads answered",
        sum(|report| report.elapsed.as_millis() as u64) / 1000,
        began.elapsed(),
        sum(|report| report.leaders),
        sum(|report| report.process_starts),
        sum(|report| report.committed),
        sum(|report| report.writes_answered),
        sum(|report| report.reads_answered),
    );
}

#[test]
fn the_same_seed_gives_the_same_run() {
    for seed in 0..20 {
        let options = Options::default();
        assert_eq!(run(seed, &options).unwrap(), run(seed, &options).unwrap());
        let other = options.clone().checks_disks(false);
        let (with, without) = (run(seed, &options).unwrap(), run(seed, &other).unwrap());
        assert_eq!(with.trace_hash, without.trace_hash, "checking the disks changes nothing");
        assert_eq!(with.behaviour, without.behaviour);
    }
    assert_ne!(
        run(1, &Options::default()).unwrap().trace_hash,
        run(2, &Options::default()).unwrap().trace_hash
    );
}

/// Seeds that once broke an invariant.
#[test]
fn seeds_that_once_failed_hold() {
    let list = include_str!("sim_seeds.txt");
    let seeds = list
        .lines()
        .map(|line| line.split('#').next().unwrap_or_default().trim())
        .filter(|line| !line.is_empty());
    for seed in seeds {
        let number = seed.parse().unwrap_or_else(|error| panic!("{seed:?} is not a seed: {error}"));
        if let Err(failure) = run(number, &Options::default()) {
            panic!("{failure}");
        }
    }
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    let options = Options::default().faulty_steps(500);
    let (one, other) = (trace(3, &options), trace(3, &options));
    assert!(one.0.is_ok() && one.1.len() > 500);
    assert_eq!(one, other);
    assert_eq!(one.0, run(3, &options), "describing the events changes nothing");
}
