//! What a leader owes the others once its timer has fired: it hears a majority, or it has stepped
//! aside; its windows are kept.

use super::members::decides;
use super::verdict::{Verdict, check};
use crate::core::Core;
use crate::types::{Now, Proposal};

/// No configuration of so few nodes is larger.
const CONFIGURATION_BYTES: usize = 1024;

/// To be called when the core has been told the time, and that only.
pub(super) fn check_leader(node: usize, core: &Core, now: Now) -> Verdict {
    if !core.is_leader() {
        return Ok(());
    }
    let (status, config) = (core.status(), core.config());
    let is_heard =
        |heard: &crate::types::Time| heard.after(config.election_timeout.max) > now.monotonic;
    let hears = |node| {
        node == core.id()
            || status.peers.iter().any(|peer| peer.id == node && is_heard(&peer.heard))
    };
    check(
        decides(core.configuration(), hears),
        "a leader that hears no majority steps aside",
        || {
            let peers = &status.peers;
            format!(
                "node {} leads at {now:?} with {:?} and has heard {peers:?}",
                node + 1,
                core.configuration()
            )
        },
    )?;
    for peer in &status.peers {
        // The last message may exceed the window in bytes, by less than a message and an entry: a
        // command, or a configuration.
        let entry_bytes = Proposal::OVERHEAD_BYTES + config.command_bytes.max(CONFIGURATION_BYTES);
        let bytes = config.in_flight_bytes + config.message_bytes.max(entry_bytes);
        let is_kept =
            peer.in_flight_messages <= config.in_flight_messages && peer.in_flight_bytes <= bytes;
        check(is_kept, "what is in flight is bounded", || format!("node {}: {peer:?}", node + 1))?;
    }
    Ok(())
}
