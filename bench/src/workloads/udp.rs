//! UDP echo.

use std::io;

use super::server_cost::ServerCost;
use crate::load;
use crate::measure::Plan;

pub(crate) fn run(plan: &Plan) -> io::Result<()> {
    let mut cost = ServerCost::new(plan, "UDP packets of 64 B, 32 in flight", "udp");
    cost.row("a packet and its echo", |server| {
        let address = server.address();
        Ok(move |limit| load::udp(address, limit))
    })?;
    cost.print();
    Ok(())
}
