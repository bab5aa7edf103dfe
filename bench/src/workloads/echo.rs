//! TCP echo: messages that go to and fro on 1, 50 and 1000 connections at once.

use std::io;

use super::served::Served;
use crate::load::Echo;
use crate::measure::Plan;

const SIZES: [(usize, &str); 3] = [(64, "64 B"), (1024, "1 KiB"), (64 * 1024, "64 KiB")];

pub(crate) fn run(plan: &Plan) -> io::Result<()> {
    let mut served = Served::new(plan, "TCP echo", "tcp");
    for connections in [1, 50, 1000] {
        for (bytes, size) in SIZES {
            let s = if connections == 1 { "" } else { "s" };
            served.row(&format!("{connections} connection{s}, {size}"), |server| {
                let mut echo = Echo::connect(server.address(), connections, bytes)?;
                Ok(move |enough| echo.run(enough))
            })?;
        }
    }
    served.print();
    Ok(())
}
