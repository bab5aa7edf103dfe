//! What 10,000 idle connections cost in the server's memory. Each has had one message echoed.

use std::io;

use crate::load::{Echo, Enough};
use crate::measure::{Plan, Table, alternate};
use crate::peers::{self, Peer};
use crate::server::Server;
use crate::sys;

const CONNECTIONS: usize = 9_900; // with what else is open, within a limit of 10,000

pub(crate) fn run(plan: &Plan) -> io::Result<()> {
    sys::pin(sys::LOAD_CORE);
    let chosen: Vec<&dyn Peer> = peers::ALL.iter().copied().filter(|peer| plan.wants(peer.name())).collect();
    let names: Vec<&str> = chosen.iter().map(|peer| peer.name()).collect();
    let measured = alternate(plan.rounds.min(3), &names, |index| {
        let server = Server::start(chosen[index], "tcp")?;
        Echo::connect(server.address(), 2, 64)?.run(Enough::Count(64))?;
        let before = sys::resident_bytes(server.pid())?;
        let mut echo = Echo::connect(server.address(), CONNECTIONS, 64)?;
        echo.run(Enough::Count(2 * CONNECTIONS as u64))?;
        Ok((sys::resident_bytes(server.pid())? - before) as f64 / CONNECTIONS as f64)
    })?;
    let mut table =
        Table::new("Idle connections: the server's own memory for each (the kernel's not counted)", "B", &names);
    table.plain_row(format!("bytes, of {CONNECTIONS}"), &measured);
    table.print();
    Ok(())
}
