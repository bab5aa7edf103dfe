//! A turn of the loop with nothing to do but notice that it was woken, or with one event; on one thread.

use std::io;

use crate::measure::{Plan, Table, alternate};
use crate::peers::{self, Peer, Turn};
use crate::{sys, usage};

const COUNT: u64 = 200_000;

pub(crate) fn run(plan: &Plan) -> io::Result<()> {
    sys::pin(sys::SERVER_CORE);
    let chosen: Vec<&dyn Peer> = peers::ALL.iter().copied().filter(|peer| plan.wants(peer.name())).collect();
    let names: Vec<&str> = chosen.iter().map(|peer| peer.name()).collect();
    let mut table = Table::new("A turn of the loop", "ns", &names);
    for (name, turn) in
        [("the loop's own wake, then a turn", Turn::Wake), ("an eventfd written, then a turn", Turn::Event)]
    {
        let measured = alternate(plan.rounds, &names, |index| match chosen[index].turns(turn, COUNT) {
            None => Ok(None),
            Some(elapsed) => Ok(Some(elapsed?.as_nanos() as f64 / COUNT as f64)),
        })?;
        let values: Vec<Vec<f64>> = measured.into_iter().map(|values| values.into_iter().flatten().collect()).collect();
        table.row(name, &values);
    }
    table.print();
    Ok(())
}

/// One peer, one kind, so many times: for callgrind.
pub(crate) fn alone(peer: &str, turn: &str, count: u64) -> io::Result<()> {
    let turn = match turn {
        "wake" => Turn::Wake,
        "event" => Turn::Event,
        _ => return Err(usage()),
    };
    let elapsed = peers::find(peer).ok_or_else(usage)?.turns(turn, count);
    match elapsed {
        None => println!("{peer} has no such turn"),
        Some(elapsed) => println!("{:.0} ns", elapsed?.as_nanos() as f64 / count as f64),
    }
    Ok(())
}
