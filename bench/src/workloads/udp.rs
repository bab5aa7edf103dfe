//! Packets there and back.

use std::io;

use super::served::Served;
use crate::load;
use crate::measure::Plan;

pub(crate) fn run(plan: &Plan) -> io::Result<()> {
    let mut served = Served::new(plan, "UDP packets of 64 B, 32 on their way", "udp");
    served.row("a packet there and back", |server| {
        let address = server.address();
        Ok(move |enough| load::udp(address, enough))
    })?;
    served.print();
    Ok(())
}
