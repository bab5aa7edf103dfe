//! TCP echo on 1, 50 and 1000 connections at once.

use std::io;

use super::server_cost::ServerCost;
use crate::load::Echo;
use crate::measure::Plan;

const SIZES: [(usize, &str); 3] = [(64, "64 B"), (1024, "1 KiB"), (64 * 1024, "64 KiB")];

pub(crate) fn run(plan: &Plan) -> io::Result<()> {
    let mut cost = ServerCost::new(plan, "TCP echo", "tcp");
    for connections in [1, 50, 1000] {
        for (bytes, size) in SIZES {
            let s = if connections == 1 { "" } else { "s" };
            cost.row(&format!("{connections} connection{s}, {size}"), |server| {
                let mut echo = Echo::connect(server.address(), connections, bytes)?;
                Ok(move |limit| echo.run(limit))
            })?;
        }
    }
    cost.print();
    Ok(())
}
