//! Connections that come, have 64 bytes echoed, and go.

use std::io;

use super::served::Served;
use crate::load;
use crate::measure::Plan;

pub(crate) fn run(plan: &Plan) -> io::Result<()> {
    let mut served = Served::new(plan, "Connect, 64 B echo, close", "tcp");
    served.row("one after the other", |server| {
        let address = server.address();
        Ok(move |enough| load::churn(address, enough))
    })?;
    served.print();
    Ok(())
}
