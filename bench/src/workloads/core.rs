//! Consensus cores: entries a second for several batches and sizes, and what idle groups cost. One thread, one core, its
//! processor time.

use std::hint::black_box;
use std::io;

use crate::cores::kodiak::{IdleKodiak, Kodiak};
use crate::cores::raft_rs::{IdleRaftRs, Mode, RaftRs};
use crate::cores::{Cluster, Idle};
use crate::measure::{Plan, Table, alternate};
use crate::{sys, usage};

type Make = fn() -> Box<dyn Cluster>;

const PEERS: [(&str, Make); 4] = [
    ("kodiak", || Box::new(Kodiak::new())),
    ("raft-rs, one message of proposals", || Box::new(RaftRs::new(Mode::OneMessage))),
    ("raft-rs, batch_append", || Box::new(RaftRs::new(Mode::BatchAppend))),
    ("raft-rs, one by one", || Box::new(RaftRs::new(Mode::OneByOne))),
];

const SIZES: [usize; 3] = [16, 256, 4096];
const BATCHES: [usize; 4] = [1, 16, 64, 256];

/// Idle groups of three nodes.
const GROUPS: usize = 10_000;
/// Heartbeats a second in both, as ours has them.
const BEATS_A_SECOND: f64 = 20.0;

type MakeIdle = fn() -> Box<dyn Idle>;

pub(crate) fn run(plan: &Plan) -> io::Result<()> {
    sys::pin(sys::SERVER_CORE);
    let chosen: Vec<(&str, Make)> = PEERS.into_iter().filter(|(name, _)| plan.wants(name)).collect();
    let names: Vec<&str> = chosen.iter().map(|(name, _)| *name).collect();
    let mut table = Table::new("Cores: time for an entry, three nodes on one thread", "ns", &names);
    let mut plain = Table::new("Cores: million entries a second", "", &names);
    for size in SIZES {
        for batch in BATCHES {
            let nanos = alternate(plan.rounds, &names, |index| Ok(measure(chosen[index].1, size, batch, plan)))?;
            let name = format!("{size} B, batches of {batch}");
            table.row(&name, &nanos);
            let rates = |rounds: &Vec<f64>| rounds.iter().map(|nanos| 1_000.0 / nanos).collect();
            plain.plain_row(&name, &nanos.iter().map(rates).collect::<Vec<Vec<f64>>>());
        }
    }
    table.print();
    plain.print();
    idle(plan)
}

/// One peer alone: for callgrind and perf.
pub(crate) fn alone(peer: &str, size: usize, batch: usize, batches: usize) -> io::Result<()> {
    let make = PEERS.iter().find(|(name, _)| *name == peer).ok_or_else(usage)?.1;
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

/// Nanoseconds an entry.
fn measure(make: Make, size: usize, batch: usize, plan: &Plan) -> f64 {
    let mut cluster = make();
    let steps = (4096 / batch).max(1);
    (0..steps).for_each(|_| commit(cluster.as_mut(), size, batch)); // Grown, and its memory touched.
    let (mut batches, begin) = (0, sys::thread_nanos());
    let nanos = loop {
        (0..steps).for_each(|_| commit(cluster.as_mut(), size, batch));
        batches += steps;
        let nanos = sys::thread_nanos() - begin;
        if nanos >= plan.slice.as_nanos() as u64 {
            break nanos;
        }
    };
    check(cluster.as_ref(), (steps + batches) * batch);
    nanos as f64 / (batches * batch) as f64
}

fn idle(plan: &Plan) -> io::Result<()> {
    let makes: [(&str, MakeIdle); 2] =
        [("kodiak", || Box::new(IdleKodiak::new(GROUPS))), ("raft-rs", || Box::new(IdleRaftRs::new(GROUPS)))];
    let names = makes.map(|(name, _)| name);
    let mut groups: Vec<Box<dyn Idle>> = makes.iter().map(|(_, make)| make()).collect();
    let beats = alternate(plan.rounds, &names, |index| Ok(nanos_a_group(|| groups[index].beat())))?;
    let ticks = alternate(plan.rounds, &names, |index| {
        let group = &mut groups[index];
        Ok(group.follower_tick().map(|()| nanos_a_group(|| group.follower_tick().unwrap_or_default())))
    })?;
    let mut table = Table::new(format!("{GROUPS} idle groups of three nodes"), "", &names);
    table.plain_row(
        "a follower's tick, ns",
        &ticks.iter().map(|rounds| rounds.iter().flatten().copied().collect()).collect::<Vec<_>>(),
    );
    table.plain_row("a heartbeat to two followers and its answers, ns", &beats);
    let a_second = |rounds: &Vec<f64>| rounds.iter().map(|nanos| nanos * BEATS_A_SECOND / 1_000.0).collect();
    table.plain_row(
        "processor time a group and second at 20 heartbeats, µs",
        &beats.iter().map(a_second).collect::<Vec<Vec<f64>>>(),
    );
    table.print();
    Ok(())
}

/// Of ten rounds over all groups.
fn nanos_a_group(mut once: impl FnMut()) -> f64 {
    const TIMES: usize = 3;
    let begin = sys::thread_nanos();
    (0..TIMES).for_each(|_| once());
    (sys::thread_nanos() - begin) as f64 / (TIMES * GROUPS) as f64
}
