//! A deterministic simulator: real replicas on real logs and snapshots, in a world where one `u64`
//! decides everything.
//!
//! The seed draws the size of the cluster, its timeouts, the speed and malice of network and disks,
//! what clients do and what goes wrong when. What runs is the code that runs in production:
//! [`Replica`](crate::replica::Replica), [`Log`](crate::storage::Log),
//! [`Worker`](crate::storage::Worker), the frames of [`wire`](crate::wire); what is simulated is
//! what they touch: time, messages, disks, crashes. After every step the invariants of Raft (figure
//! 3.2) are checked, and what clients were told; at the end the faults stop, and the cluster must
//! elect, write and converge, and all answers must fit into one order.
//!
//! | what goes wrong | how |
//! |---|---|
//! | network | loss, repetition, reordering, delays longer than an election, damaged bytes, terms that no cluster reaches, partitions: whole, partial, one-way; answers that come an election late |
//! | disk | power lost at any call, torn at any byte, any unsynced writes and names lost; failed syncs, reads and writes, no room, stalls; bits that rot, in a snapshot that a node needs in a part of the runs, writes that land elsewhere |
//! | process | death between any two effects, pauses, late timers, clocks that jump, are a day wrong, and run up to 1 % wrong, or 20 % to try leases; election timeouts that differ from node to node, and from life to life |
//! | cluster | leaders that fall as soon as they are elected; up to a minority whose disks lose what they promised |
//! | state machine | slow, or refuses an entry, or panics; its state goes wrong on one node, which its digest must show within an interval |
//! | clients | three kinds of reads; sessions that expire, commands that are asked for again under the same number, of other nodes, before they are answered |
//! | folder | in a part of the runs: put back to an earlier copy, of one node in reach of its leader, or worse (`forgetting`) |
//! | operator | in a part of the runs: members added, promoted, demoted, removed and replaced, ids used again, disks wiped, leaders told to hand over, priorities |
//!
//! A node whose disk is damaged must refuse to start, and is then lost to its cluster; what it
//! starts with must be what was durable. Damage in the last synced batch is the log's documented
//! limit (`raft/FORMAT.md`): there the simulator takes the node away itself.
//!
//! # To replay a seed
//!
//! A run is a function of its seed, its [`Options`] and the program: the same seed gives the same
//! [`Report::trace_hash`], and [`trace`] the same lines. The runner is an example of this crate:
//!
//! ```text
//! cargo run --release -p kodiak-raft --example sim -- --minutes 2            # new seeds every time
//! cargo run --release -p kodiak-raft --example sim -- --minutes 2 --first 4711   # the same ones
//! cargo run --release -p kodiak-raft --example sim -- --seeds 0..100000
//! cargo run --release -p kodiak-raft --example sim -- --seed 4711            # replays what failed
//! cargo run --release -p kodiak-raft --example sim -- --seed 4711 --trace    # everything that happens in it
//! cargo run --release -p kodiak-raft --example sim --features mutants -- --mutants
//! ```
//!
//! With `--faults` the runner ends with a table of what went wrong how often ([`Report::harms`]),
//! counted where it had its effect.
//!
//! What once failed is kept in `raft/tests/sim_seeds.txt`, which the tests run. The last command is
//! the mutation gate: it builds in one [`Mutant`] after the other and shows how many seeds it takes
//! to notice.
//!
//! ```
//! use kodiak_raft::sim::{Options, run};
//!
//! let report = run(7, &Options::default()).unwrap_or_else(|failure| panic!("{failure}"));
//! assert_eq!(run(7, &Options::default()).unwrap(), report);
//! ```

mod access;
mod behaviour;
mod checks;
mod churn;
mod clients;
mod clock;
mod digests;
mod disk;
mod event;
mod fault_counters;
mod faults;
mod forgetting;
mod handshakes;
mod kv;
mod linearizability;
mod links;
mod lost_writes;
mod machines;
mod mutant;
mod network;
mod operator_requests;
mod options;
mod process;
mod process_starts;
mod random;
mod requests;
mod session_clients;
mod session_state;
mod snapshot_rot;
mod storages;
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

use crate::types::Time;
use checks::Violation;
use trace::Words;
use world::World;

/// How many events a failure shows.
const EVENTS_SHOWN: usize = 60;

/// What happened in a run that went well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Report {
    /// The seed.
    pub seed: u64,
    /// How large the cluster was.
    pub nodes: usize,
    /// How many events there were.
    pub steps: u64,
    /// How long it took, in virtual time.
    pub elapsed: Duration,
    /// How long after the last fault all was well again, in virtual time.
    pub converged_after: Duration,
    /// How many leaders there were.
    pub leaders: u64,
    /// How often a process started.
    pub process_starts: u64,
    /// How many nodes lost what their disks had promised, and with it their place in the cluster.
    pub lost_disks: u64,
    /// How many entries were committed.
    pub committed: u64,
    /// How many snapshots from a leader took the place of a log.
    pub snapshots_installed: u64,
    /// How many writes were acknowledged.
    pub writes_answered: u64,
    /// How many reads were answered.
    pub reads_answered: u64,
    /// How many lease reads were answered, those by a lease and those by a majority.
    pub lease_reads_answered: u64,
    /// How many stale reads were answered.
    pub stale_reads_answered: u64,
    /// How many sessions clients have opened.
    pub sessions_opened: u64,
    /// How often a command of a session was asked for again.
    pub session_retries: u64,
    /// How often a command of a session was answered again.
    pub answers_repeated: u64,
    /// For how many keys the search for an order of the answers was given up.
    pub undecided_keys: u64,
    /// How many changes of membership the longest log has.
    pub membership_changes: u64,
    /// What went wrong, and how often.
    pub fault_counters: FaultCounters,
    /// A hash of everything that happened.
    pub trace_hash: u64,
    /// A digest of message bytes, disk calls and applied entries, whatever types the program has
    /// for them.
    pub behaviour: u64,
}

/// An invariant did not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Replays it.
    pub seed: u64,
    /// Which invariant.
    pub invariant: &'static str,
    /// How it was broken.
    pub details: String,
    /// After how many events.
    pub step: u64,
    /// The last events before it, the last one last.
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
/// The first invariant that does not hold, with the events that led to it. A panic in the code
/// under test is one.
pub fn run(seed: u64, options: &Options) -> Result<Report, Box<Failure>> {
    let (verdict, _) = run_with_trace(seed, options, Words::No);
    verdict.map_err(|failure| {
        // Words are dear, so only the second time: it goes the same way.
        let (verdict, events) = run_with_trace(seed, options, Words::Last(EVENTS_SHOWN));
        let failure = verdict.err().unwrap_or(failure);
        Box::new(Failure { events, ..*failure })
    })
}

/// Runs one seed and puts all that happens into words, a line each, with the hash of everything up
/// to it. The same seed, options and program give the same lines, byte for byte.
///
/// # Errors
/// As [`run`]; the lines are there all the same.
pub fn trace(seed: u64, options: &Options) -> (Result<Report, Box<Failure>>, Vec<String>) {
    run_with_trace(seed, options, Words::All)
}

fn run_with_trace(
    seed: u64,
    options: &Options,
    words: Words,
) -> (Result<Report, Box<Failure>>, Vec<String>) {
    #[cfg(feature = "mutants")]
    let _planted = options.mutant.and_then(Mutant::plant);
    let mut world = World::new(seed, options, words);
    let verdict = catch_unwind(AssertUnwindSafe(|| drive(&mut world, seed, options)))
        .unwrap_or_else(|panic| {
            let words = panic.downcast_ref::<String>().map(String::as_str);
            let words =
                words.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no words");
            Err(Violation { invariant: "nothing panics", details: words.to_owned() })
        });
    let step = world.steps;
    let verdict = verdict.map_err(|Violation { invariant, details }| {
        Box::new(Failure { seed, invariant, details, step, events: Vec::new() })
    });
    (verdict, world.trace.into_lines())
}

/// Faults for so many steps, then none until all is well.
fn drive(world: &mut World, seed: u64, options: &Options) -> Result<Report, Violation> {
    while world.steps < options.faulty_steps && world.step()? {}
    world.calm_down();
    let calm_since = world.now;
    let limit = world.longest_election_timeout() * 40
        + world.plan.request_timeout * 4
        + Duration::from_secs(4);
    let (last_step, last_time) = (world.steps + options.calm_steps, calm_since.after(limit));
    while !world.converged {
        if world.forgetting.is_worse && !(world.steps < last_step && world.now < last_time) {
            break;
        }
        let in_time = world.steps < last_step && world.now < last_time;
        checks::check(in_time && world.step()?, "a cluster without faults converges", || {
            format!("not within {limit:?}: {}", world.describe())
        })?;
    }
    if world.forgetting.is_worse {
        world.check_lost_writes()?;
    } else {
        world.checks.history.check_linearizable()?;
    }
    Ok(Report {
        seed,
        nodes: world.plan.nodes,
        steps: world.steps,
        elapsed: world.now.since(Time(0)),
        converged_after: world.now.since(calm_since),
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
