//! Consensus cores: the time for an entry in batches of several sizes, and the cost of idle groups.
//!
//! One thread on one core; the time is the thread's processor time.

use std::hint::black_box;
use std::io;

use crate::cores::kodiak::{IdleKodiak, Kodiak};
use crate::cores::raft_rs::{IdleRaftRs, Proposals, RaftRs};
use crate::cores::{Cluster, IdleGroups};
use crate::measure::{Plan, Table, interleave};
use crate::{sys, usage};

type MakeCluster = fn() -> Box<dyn Cluster>;

const CORES: [(&str, MakeCluster); 4] = [
    ("kodiak", || Box::new(Kodiak::new())),
    ("raft-rs, one message of proposals", || Box::new(RaftRs::new(Proposals::OneMessage))),
    ("raft-rs, batch_append", || Box::new(RaftRs::new(Proposals::BatchAppend))),
    ("raft-rs, one by one", || Box::new(RaftRs::new(Proposals::OneByOne))),
];

const SIZES: [usize; 3] = [16, 256, 4096];
const BATCHES: [usize; 4] = [1, 16, 64, 256];

/// The number of idle groups of three nodes.
const GROUPS: usize = 10_000;
/// Heartbeats a second, Kodiak's default, in both.
const HEARTBEATS_PER_SECOND: f64 = 20.0;

type MakeIdle = fn() -> Box<dyn IdleGroups>;

pub(crate) fn run(plan: &Plan) -> io::Result<()> {
    sys::pin(sys::SERVER_CORE);
    let chosen: Vec<(&str, MakeCluster)> =
        CORES.into_iter().filter(|(name, _)| plan.includes(name)).collect();
    let names: Vec<&str> = chosen.iter().map(|(name, _)| *name).collect();
    let mut table = Table::new("Cores: time for an entry, three nodes on one thread", "ns", &names);
    let mut rates = Table::new("Cores: million entries a second", "", &names);
    for size in SIZES {
        for batch in BATCHES {
            let nanos = interleave(plan.rounds, &names, |index| {
                Ok(measure(chosen[index].1, size, batch, plan))
            })?;
            let name = format!("{size} B, batches of {batch}");
            table.ratio_row(&name, &nanos);
            let per_second =
                |rounds: &Vec<f64>| rounds.iter().map(|nanos| 1_000.0 / nanos).collect();
            rates.absolute_row(&name, &nanos.iter().map(per_second).collect::<Vec<Vec<f64>>>());
        }
    }
    table.print();
    rates.print();
    idle(plan)
}

/// Runs one core, for callgrind and perf.
pub(crate) fn run_single(core: &str, size: usize, batch: usize, batches: usize) -> io::Result<()> {
    let make = CORES.iter().find(|(name, _)| *name == core).ok_or_else(usage)?.1;
    let mut cluster = make();
    let begin = sys::thread_nanos();
    (0..batches).for_each(|_| commit(cluster.as_mut(), size, batch));
    let nanos = (sys::thread_nanos() - begin) as f64 / (batches * batch) as f64;
    println!("{nanos:.1} ns an entry");
    check(cluster.as_ref(), batches * batch);
    Ok(())
}

fn commit(cluster: &mut dyn Cluster, size: usize, batch: usize) {
    cluster.commit((0..batch).map(|_| black_box(vec![7; size])).collect());
}

fn check(cluster: &dyn Cluster, commands: usize) {
    assert_eq!(cluster.applied(), [commands; 3], "every node has applied every command");
}

/// Nanoseconds for each entry.
fn measure(make: MakeCluster, size: usize, batch: usize, plan: &Plan) -> f64 {
    let mut cluster = make();
    let steps = (4096 / batch).max(1);
    (0..steps).for_each(|_| commit(cluster.as_mut(), size, batch)); // warm-up: memory is allocated
    let (mut batches, begin) = (0, sys::thread_nanos());
    let nanos = loop {
        (0..steps).for_each(|_| commit(cluster.as_mut(), size, batch));
        batches += steps;
        let nanos = sys::thread_nanos() - begin;
        if nanos >= plan.window.as_nanos() as u64 {
            break nanos;
        }
    };
    check(cluster.as_ref(), (steps + batches) * batch);
    nanos as f64 / (batches * batch) as f64
}

fn idle(plan: &Plan) -> io::Result<()> {
    let makes: [(&str, MakeIdle); 2] = [
        ("kodiak", || Box::new(IdleKodiak::new(GROUPS))),
        ("raft-rs", || Box::new(IdleRaftRs::new(GROUPS))),
    ];
    let names = makes.map(|(name, _)| name);
    let mut groups: Vec<Box<dyn IdleGroups>> = makes.iter().map(|(_, make)| make()).collect();
    let heartbeats = interleave(plan.rounds, &names, |index| {
        Ok(nanos_per_group(|| groups[index].heartbeat_round()))
    })?;
    let ticks = interleave(plan.rounds, &names, |index| {
        let group = &mut groups[index];
        Ok(group
            .follower_tick()
            .map(|()| nanos_per_group(|| group.follower_tick().unwrap_or_default())))
    })?;
    let mut table = Table::new(format!("{GROUPS} idle groups of three nodes"), "", &names);
    table.absolute_row(
        "a follower's tick, ns",
        &ticks.iter().map(|rounds| rounds.iter().flatten().copied().collect()).collect::<Vec<_>>(),
    );
    table.absolute_row("a heartbeat to two followers and its answers, ns", &heartbeats);
    let per_second = |rounds: &Vec<f64>| {
        rounds.iter().map(|nanos| nanos * HEARTBEATS_PER_SECOND / 1_000.0).collect()
    };
    table.absolute_row(
        "processor time of a group at 20 heartbeats per second, µs per second",
        &heartbeats.iter().map(per_second).collect::<Vec<Vec<f64>>>(),
    );
    table.print();
    Ok(())
}

/// The processor time of one group, in nanoseconds, over several rounds.
fn nanos_per_group(mut once: impl FnMut()) -> f64 {
    const ROUNDS: usize = 3;
    let begin = sys::thread_nanos();
    (0..ROUNDS).for_each(|_| once());
    (sys::thread_nanos() - begin) as f64 / (ROUNDS * GROUPS) as f64
}
