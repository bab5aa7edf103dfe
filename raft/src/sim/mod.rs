//! A deterministic simulator: the production code on simulated time, network and disks.
//!
//! One `u64`, the seed, decides everything: the size of the cluster, its timeouts, the speed and
//! the faults of network and disks, the requests of clients, and the time of each fault. The code
//! under test is that of production: [`Replica`](crate::replica::Replica),
//! [`Log`](crate::storage::Log), [`Worker`](crate::storage::Worker) and the frames of
//! [`wire`](crate::wire). After every step the invariants of Raft (figure 3.2) and the answers to
//! clients are checked. At the end the faults stop: the cluster must elect a leader, write and
//! converge, and all answers must be linearizable.
//!
//! | what fails | how |
//! |---|---|
//! | network | loss, repetition, reordering, delays longer than an election, damaged bytes, terms that no cluster reaches, partitions: whole, partial, one-way; answers that come an election late |
//! | disk | power lost at any call; writes torn at any byte; any unsynced writes and names lost; failed syncs, reads and writes; no room; stalls; bit rot, in some runs in a snapshot that a node needs; misdirected writes |
//! | process | crashes between any two effects, pauses, late timers; clocks that jump, are a day wrong, or drift by up to 1 % (20 % to test leases); election timeouts that differ between nodes and between starts |
//! | cluster | leaders that fail soon after their election; up to a minority of lost disks |
//! | state machine | slow; returns an error or panics; its state diverges on one node, which its digest must show within an interval |
//! | clients | three kinds of reads; sessions that expire; commands of sessions repeated at other nodes, even before an answer |
//! | folder | in some runs: put back to an earlier copy, of one node in reach of its leader, or beyond what Raft tolerates (`amnesia`) |
//! | operator | in some runs: members added, promoted, demoted, removed and replaced; ids used again; disks wiped; leadership transferred; priorities |
//!
//! A node whose disk is damaged must refuse to start, and is then lost to its cluster. A node that
//! starts must have exactly what was durable. The log cannot detect damage in the last synced batch
//! (`raft/FORMAT.md`): in that case the simulator removes the node itself.
//!
//! # Replaying a seed
//!
//! A run is a function of its seed, its [`Options`] and the program: the same seed gives the same
//! [`Report::trace_hash`], and [`trace`] the same lines. The runner is an example of this crate:
//!
//! ```text
//! alias sim='cargo run --release -p kodiak-raft --features mutants --example sim --'
//! sim --minutes 2                 # new seeds every time
//! sim --minutes 2 --first 4711    # seeds from 4711 on
//! sim --seeds 0..100000
//! sim --seed 4711                 # replays one seed
//! sim --seed 4711 --trace         # prints all its events
//! sim --mutants                   # the mutation gate
//! ```
//!
//! With `--faults` the runner ends with a table of [`Report::fault_counters`]: each fault is
//! counted where it takes effect.
//!
//! Seeds that once failed are kept in `raft/tests/sim_seeds.txt`, which the tests run. The mutation
//! gate plants one [`Mutant`] after another and prints the number of seeds that it takes to detect
//! each.
//!
//! ```
//! use kodiak_raft::sim::{Options, run};
//!
//! let report = run(7, &Options::default()).unwrap_or_else(|failure| panic!("{failure}"));
//! assert_eq!(run(7, &Options::default()).unwrap(), report);
//! ```

mod amnesia;
mod behaviour;
mod checks;
mod client_access;
mod clients;
mod clock;
mod disk;
mod event;
mod fault_counters;
mod faults;
mod handshakes;
mod kv;
mod linearizability;
mod links;
mod lost_writes;
mod machines;
mod mutant;
mod network;
mod operator;
mod operator_requests;
mod options;
mod process;
mod process_starts;
mod random;
mod requests;
mod session_clients;
mod session_state;
mod snapshot_rot;
mod state_faults;
mod storage_thread;
mod terms_out_of_range;
mod trace;
mod wall_clocks;
mod world;

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

pub use fault_counters::FaultCounters;
pub use mutant::{Mutant, mutants};
pub use options::Options;

use crate::panic_message::panic_message;
use crate::types::Time;
use checks::Violation;
use trace::TraceDetail;
use world::World;

/// The number of events that a failure shows.
const EVENTS_SHOWN: usize = 60;

/// The statistics of a run without a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Report {
    /// The seed.
    pub seed: u64,
    /// The number of nodes.
    pub nodes: usize,
    /// The number of events.
    pub steps: u64,
    /// The duration of the run, in virtual time.
    pub elapsed: Duration,
    /// The time from the last fault to convergence, in virtual time.
    pub converged_after: Duration,
    /// The number of leaders.
    pub leaders: u64,
    /// The number of process starts.
    pub process_starts: u64,
    /// The number of nodes that left the cluster because their disks were lost.
    pub lost_disks: u64,
    /// The number of committed entries.
    pub committed: u64,
    /// The number of logs that a leader's snapshot replaced.
    pub snapshots_installed: u64,
    /// The number of acknowledged writes.
    pub writes_answered: u64,
    /// The number of answered reads.
    pub reads_answered: u64,
    /// The number of answered lease reads, confirmed by a lease or by a majority.
    pub lease_reads_answered: u64,
    /// The number of answered stale reads.
    pub stale_reads_answered: u64,
    /// The number of sessions opened.
    pub sessions_opened: u64,
    /// The number of repeated commands of sessions.
    pub session_retries: u64,
    /// The number of repeated answers to commands of sessions.
    pub answers_repeated: u64,
    /// The number of keys for which the search for a linear order was given up.
    pub undecided_keys: u64,
    /// The number of membership changes in the longest log.
    pub membership_changes: u64,
    /// The number of faults of each kind.
    pub fault_counters: FaultCounters,
    /// A hash of all events and effects.
    pub trace_hash: u64,
    /// A digest of message bytes, disk calls and applied entries. It does not depend on the
    /// program's types.
    pub behaviour: u64,
}

/// An invariant that does not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Failure {
    /// The seed that replays the failure.
    pub seed: u64,
    /// The name of the invariant.
    pub invariant: &'static str,
    /// How it was broken, with the values that differ.
    pub details: String,
    /// The number of events before the failure.
    pub step: u64,
    /// The last events before the failure, oldest first.
    pub events: Vec<String>,
}

impl std::error::Error for Failure {}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "seed {} breaks \"{}\" at step {}:", self.seed, self.invariant, self.step)?;
        for event in &self.events {
            writeln!(f, "  {event}")?;
        }
        write!(f, "{}", self.details)
    }
}

/// Runs one seed.
///
/// # Errors
/// The first invariant that does not hold, with the events before it. A panic in the code under
/// test counts as one.
pub fn run(seed: u64, options: &Options) -> Result<Report, Box<Failure>> {
    let (verdict, _) = run_with_trace(seed, options, TraceDetail::None);
    verdict.map_err(|failure| {
        // Describing events is slow, so only a failing seed is run again with descriptions.
        let (verdict, events) = run_with_trace(seed, options, TraceDetail::Last(EVENTS_SHOWN));
        let failure = verdict.err().unwrap_or(failure);
        Box::new(Failure { events, ..*failure })
    })
}

/// Runs one seed and returns a line for each event, with the hash of all events up to it.
///
/// The same seed, options and program give the same lines, byte for byte.
///
/// # Errors
/// As [`run`]; the lines are returned too.
pub fn trace(seed: u64, options: &Options) -> (Result<Report, Box<Failure>>, Vec<String>) {
    run_with_trace(seed, options, TraceDetail::All)
}

fn run_with_trace(
    seed: u64,
    options: &Options,
    detail: TraceDetail,
) -> (Result<Report, Box<Failure>>, Vec<String>) {
    #[cfg(feature = "mutants")]
    let _planted = options.mutant.and_then(Mutant::plant);
    let mut world = World::new(seed, options, detail);
    let verdict = catch_unwind(AssertUnwindSafe(|| drive(&mut world, seed, options)))
        .unwrap_or_else(|panic| {
            let details = panic_message(&*panic).to_owned();
            Err(Violation { invariant: "nothing panics", details })
        });
    let step = world.steps;
    let verdict = verdict.map_err(|Violation { invariant, details }| {
        Box::new(Failure { seed, invariant, details, step, events: Vec::new() })
    });
    (verdict, world.trace.into_lines())
}

/// Runs the steps with faults, then steps without faults until the cluster has converged.
fn drive(world: &mut World, seed: u64, options: &Options) -> Result<Report, Violation> {
    while world.steps < options.faulty_steps && world.step()? {}
    world.end_faults();
    let faults_ended_at = world.now;
    let limit = world.longest_election_timeout() * 40
        + world.plan.request_timeout * 4
        + Duration::from_secs(4);
    let (last_step, last_time) =
        (world.steps + options.convergence_steps, faults_ended_at.after(limit));
    while !world.converged {
        if world.amnesia.is_beyond_tolerance && !(world.steps < last_step && world.now < last_time)
        {
            break;
        }
        let in_time = world.steps < last_step && world.now < last_time;
        checks::check(in_time && world.step()?, "a cluster without faults converges", || {
            format!("not within {limit:?}: {}", world.describe())
        })?;
    }
    if world.amnesia.is_beyond_tolerance {
        world.check_lost_writes()?;
    } else {
        world.checks.history.check_linearizable()?;
    }
    Ok(Report {
        seed,
        nodes: world.plan.nodes,
        steps: world.steps,
        elapsed: world.now.since(Time(0)),
        converged_after: world.now.since(faults_ended_at),
        leaders: world.checks.leaders(),
        process_starts: world.process_starts,
        lost_disks: world.processes.iter().filter(|process| process.is_lost).count() as u64,
        committed: world.checks.committed().0,
        snapshots_installed: world.checks.snapshots_restored(),
        writes_answered: world.checks.history.writes_answered,
        reads_answered: world.checks.history.reads_answered,
        lease_reads_answered: world.checks.history.lease_reads_answered,
        stale_reads_answered: world.checks.history.stale_reads_answered,
        sessions_opened: world.session_clients.opened,
        session_retries: world.session_clients.retries,
        answers_repeated: world.session_clients.repeated_answers,
        undecided_keys: world.checks.history.undecided,
        membership_changes: world.checks.members.changes(),
        fault_counters: world.fault_counters(),
        trace_hash: world.trace.hash(),
        behaviour: world.behaviour(),
    })
}
