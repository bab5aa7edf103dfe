//! The server's memory for idle connections. Each has had one message echoed.

use std::io;

use crate::io_stacks::{self, IoStack};
use crate::load::{Echo, Limit};
use crate::measure::{Plan, Table, interleave};
use crate::server::Server;
use crate::sys;

/// Within a limit of 10,000 descriptors.
const CONNECTIONS: usize = 9_900;

pub(crate) fn run(plan: &Plan) -> io::Result<()> {
    sys::pin(sys::LOAD_CORE);
    let chosen: Vec<&dyn IoStack> =
        io_stacks::ALL.iter().copied().filter(|stack| plan.includes(stack.name())).collect();
    let names: Vec<&str> = chosen.iter().map(|stack| stack.name()).collect();
    let measured = interleave(plan.rounds.min(3), &names, |index| {
        let server = Server::start(chosen[index], "tcp")?;
        Echo::connect(server.address(), 2, 64)?.run(Limit::Count(64))?;
        let before = sys::resident_bytes(server.pid())?;
        let mut echo = Echo::connect(server.address(), CONNECTIONS, 64)?;
        echo.run(Limit::Count(2 * CONNECTIONS as u64))?;
        Ok((sys::resident_bytes(server.pid())? - before) as f64 / CONNECTIONS as f64)
    })?;
    let mut table = Table::new(
        "Idle connections: the server's memory for each, without the kernel's",
        "B",
        &names,
    );
    table.absolute_row(format!("bytes, of {CONNECTIONS}"), &measured);
    table.print();
    Ok(())
}
