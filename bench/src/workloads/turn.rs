//! A turn of the loop that was woken, or has one event. Everything runs on one thread.

use std::io;

use crate::io_stacks::{self, IoStack, Turn};
use crate::measure::{Plan, Table, interleave};
use crate::{sys, usage};

const COUNT: u64 = 200_000;

pub(crate) fn run(plan: &Plan) -> io::Result<()> {
    sys::pin(sys::SERVER_CORE);
    let chosen: Vec<&dyn IoStack> =
        io_stacks::ALL.iter().copied().filter(|stack| plan.includes(stack.name())).collect();
    let names: Vec<&str> = chosen.iter().map(|stack| stack.name()).collect();
    let mut table = Table::new("A turn of the loop", "ns", &names);
    for (name, turn) in [
        ("the loop's own wake, then a turn", Turn::Wake),
        ("an eventfd written, then a turn", Turn::Event),
    ] {
        let measured =
            interleave(plan.rounds, &names, |index| match chosen[index].turns(turn, COUNT) {
                None => Ok(None),
                Some(elapsed) => Ok(Some(elapsed?.as_nanos() as f64 / COUNT as f64)),
            })?;
        let values: Vec<Vec<f64>> =
            measured.into_iter().map(|values| values.into_iter().flatten().collect()).collect();
        table.ratio_row(name, &values);
    }
    table.print();
    Ok(())
}

/// Runs `count` turns of one stack, for callgrind.
pub(crate) fn run_single(stack: &str, turn: &str, count: u64) -> io::Result<()> {
    let turn = match turn {
        "wake" => Turn::Wake,
        "event" => Turn::Event,
        _ => return Err(usage()),
    };
    let elapsed = io_stacks::find(stack).ok_or_else(usage)?.turns(turn, count);
    match elapsed {
        None => println!("{stack} does not support such a turn"),
        Some(elapsed) => println!("{:.0} ns", elapsed?.as_nanos() as f64 / count as f64),
    }
    Ok(())
}
