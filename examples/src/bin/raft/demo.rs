//! `raft demo`: a cluster of three processes loses its leader, and no data.

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
    /// Keys to write before the leader is killed, and again while it is killed.
    #[arg(
        long,
        value_name = "N",
        default_value_t = 3000,
        value_parser = number::<usize>("a number of keys", 1..=1_000_000),
        allow_negative_numbers = true
    )]
    keys: usize,
}

/// How long a step may take before the demo gives up.
const STEP_TIMEOUT: Duration = Duration::from_secs(10);

/// Prints a step and its duration.
fn print_step(started: Instant, text: &str) {
    println!("{:>9.1} ms  {text}", started.elapsed().as_secs_f64() * 1e3);
}

/// Runs the demo; an error if anything was lost.
pub(crate) fn run(arguments: &Arguments) -> Result<(), Box<dyn Error>> {
    let folder = tempfile::Builder::new().prefix("kodiak-demo-").tempdir()?;
    println!("three nodes on loopback, data in {}", folder.path().display());

    let started = Instant::now();
    let mut cluster = Cluster::start(folder.path(), STEP_TIMEOUT)?;
    print_step(started, "three nodes started");

    let started = Instant::now();
    cluster.write_once("first", STEP_TIMEOUT)?;
    let leader = cluster.leader(STEP_TIMEOUT)?;
    print_step(started, &format!("node {leader} elected, first write acknowledged"));

    let started = Instant::now();
    let mut tally = Tally::default();
    let addresses = cluster.client_addresses();
    tally.add(Load { prefix: "before", keys: arguments.keys }.run(
        &addresses,
        STEP_TIMEOUT,
        |_| {},
    )?);
    let rate = tally.acknowledged.len() as f64 / started.elapsed().as_secs_f64();
    print_step(
        started,
        &format!(
            "{} keys written through all three nodes ({rate:.0} writes/s)",
            tally.acknowledged.len()
        ),
    );

    // The leader is killed when half of the next keys are written.
    let started = Instant::now();
    let (mut killed, mut survivors_serve) = (None, None);
    let half = arguments.keys / 2;
    let during = Load { prefix: "during", keys: arguments.keys }.run(
        &addresses,
        STEP_TIMEOUT,
        |acknowledged| {
            if killed.is_none() && acknowledged >= half {
                cluster.kill(leader);
                killed = Some(Instant::now());
            } else if let (Some(killed), None) = (killed, survivors_serve) {
                survivors_serve = cluster.try_write("after-kill").then(|| killed.elapsed());
            }
        },
    )?;
    let (acknowledged, unknown) = (during.acknowledged.len(), during.unknown);
    tally.add(during);
    if killed.is_none() {
        return Err("the writes ended before the leader was killed: give more --keys".into());
    }
    print_step(
        started,
        &format!(
            "node {leader} killed (SIGKILL) during {acknowledged} acknowledged and {unknown} \
             failed writes"
        ),
    );

    let started = Instant::now();
    cluster.write_once("after-kill", STEP_TIMEOUT)?;
    let new_leader = cluster.leader(STEP_TIMEOUT)?;
    if new_leader == leader {
        return Err(format!("node {leader} was killed and is still called the leader").into());
    }
    match survivors_serve {
        Some(outage) => print_step(
            started,
            &format!(
                "node {new_leader} leads; writes were served again {:.0} ms after the kill",
                outage.as_secs_f64() * 1e3
            ),
        ),
        None => print_step(started, &format!("node {new_leader} leads")),
    }

    let started = Instant::now();
    cluster.check(&tally, STEP_TIMEOUT)?;
    print_step(
        started,
        &format!(
            "all {} acknowledged keys read back from both survivors",
            tally.acknowledged.len()
        ),
    );

    let started = Instant::now();
    cluster.restart(leader, STEP_TIMEOUT)?;
    cluster.check(&tally, STEP_TIMEOUT)?;
    print_step(
        started,
        &format!("node {leader} restarted; all acknowledged keys read back from all three nodes"),
    );

    println!("nothing was lost");
    Ok(())
}
