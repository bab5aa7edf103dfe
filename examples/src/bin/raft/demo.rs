//! `raft demo`: a cluster of three processes that loses its leader and nothing else.

mod cluster;
mod load;

use std::{
    error::Error,
    time::{Duration, Instant},
};

use cluster::Cluster;
use load::{Load, Tally};

use crate::flags::number;

/// Flags of `raft demo`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// How many keys to write before the leader is killed, and as many again around its death.
    #[arg(long, value_name = "N", default_value_t = 3000, value_parser = number::<usize>("a number of keys", 1..=1_000_000), allow_negative_numbers = true)]
    keys: usize,
}

/// How long any step may take before the demo gives up.
const PATIENCE: Duration = Duration::from_secs(10);

/// Prints a step and how long it took.
fn step(started: Instant, text: &str) {
    println!("{:>9.1} ms  {text}", started.elapsed().as_secs_f64() * 1e3);
}

/// Runs the demo; an error if anything was lost.
pub(crate) fn run(arguments: &Arguments) -> Result<(), Box<dyn Error>> {
    let folder = tempfile::Builder::new().prefix("kodiak-demo-").tempdir()?;
    println!("three nodes on loopback, data in {}", folder.path().display());

    let started = Instant::now();
    let mut cluster = Cluster::start(folder.path(), PATIENCE)?;
    step(started, "three nodes started");

    let started = Instant::now();
    cluster.write_once("first", PATIENCE)?;
    let leader = cluster.leader(PATIENCE)?;
    step(started, &format!("node {leader} elected, first write acknowledged"));

    let started = Instant::now();
    let mut tally = Tally::default();
    let addresses = cluster.client_addresses();
    tally.add(Load { prefix: "before", keys: arguments.keys }.run(&addresses, PATIENCE, |_| {})?);
    let rate = tally.acknowledged.len() as f64 / started.elapsed().as_secs_f64();
    step(
        started,
        &format!(
            "{} keys written through all three nodes ({rate:.0} writes/s)",
            tally.acknowledged.len()
        ),
    );

    // The leader dies when half of the next keys are written, with the other half still coming.
    let started = Instant::now();
    let (mut killed, mut survivors_serve) = (None, None);
    let half = arguments.keys / 2;
    let during = Load { prefix: "during", keys: arguments.keys }.run(
        &addresses,
        PATIENCE,
        |acknowledged| {
            if killed.is_none() && acknowledged >= half {
                cluster.kill(leader);
                killed = Some(Instant::now());
            } else if let (Some(killed), None) = (killed, survivors_serve) {
                survivors_serve = cluster.try_write("after-kill").then(|| killed.elapsed());
            }
        },
    )?;
    let (acknowledged, unsure) = (during.acknowledged.len(), during.unsure);
    tally.add(during);
    if killed.is_none() {
        return Err("the leader was to be killed amid the writes, but they ended before".into());
    }
    step(
        started,
        &format!(
            "node {leader} killed (SIGKILL) amid {acknowledged} acknowledged and {unsure} failed writes"
        ),
    );

    let started = Instant::now();
    cluster.write_once("after-kill", PATIENCE)?;
    let new_leader = cluster.leader(PATIENCE)?;
    if new_leader == leader {
        return Err(format!("node {leader} was killed and is still called the leader").into());
    }
    match survivors_serve {
        Some(outage) => step(
            started,
            &format!(
                "node {new_leader} leads; writes were served again {:.0} ms after the kill",
                outage.as_secs_f64() * 1e3
            ),
        ),
        None => step(started, &format!("node {new_leader} leads")),
    }

    let started = Instant::now();
    cluster.check(&tally, PATIENCE)?;
    step(
        started,
        &format!(
            "all {} acknowledged keys read back from both survivors",
            tally.acknowledged.len()
        ),
    );

    let started = Instant::now();
    cluster.restart(leader, PATIENCE)?;
    cluster.check(&tally, PATIENCE)?;
    step(
        started,
        &format!("node {leader} restarted; all acknowledged keys read back from all three nodes"),
    );

    println!("nothing was lost");
    Ok(())
}
