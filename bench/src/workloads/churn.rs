//! Short connections: connect, have 64 bytes echoed, close.

use std::io;

use super::server_cost::ServerCost;
use crate::load;
use crate::measure::Plan;

pub(crate) fn run(plan: &Plan) -> io::Result<()> {
    let mut cost = ServerCost::new(plan, "Connect, 64 B echo, close", "tcp");
    cost.row("one after the other", |server| {
        let address = server.address();
        Ok(move |limit| load::churn(address, limit))
    })?;
    cost.print();
    Ok(())
}
