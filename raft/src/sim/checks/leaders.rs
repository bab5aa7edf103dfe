//! What a leader owes the others once its timer has fired: it hears a majority, or it has stepped aside; its windows are
//! kept.

use super::{Verdict, check};
use crate::core::Core;
use crate::types::Now;

/// To be called when the core has been told the time, and that only.
pub(super) fn keeps_its_promises(node: usize, core: &Core, now: Now) -> Verdict {
    if !core.is_leader() {
        return Ok(());
    }
    let (status, config) = (core.status(), core.config());
    let is_heard = |heard: &crate::types::Time| heard.after(config.election_timeout.1) > now.monotonic;
    let heard = status.peers.iter().filter(|peer| is_heard(&peer.heard)).count();
    let peers = status.peers.len();
    check(peers == 0 || heard + 1 > peers.div_ceil(2), "a leader that hears no majority steps aside", || {
        format!("node {} leads and has heard {heard} of {peers} others within an election timeout", node + 1)
    })?;
    for peer in &status.peers {
        // The last message may exceed the window in bytes, by less than a message and an entry.
        let bytes = config.in_flight_bytes + config.message_bytes.max(config.command_bytes + 32);
        let is_kept = peer.in_flight_messages <= config.in_flight_messages && peer.in_flight_bytes <= bytes;
        check(is_kept, "what is in flight is bounded", || format!("node {}: {peer:?}", node + 1))?;
    }
    Ok(())
}
