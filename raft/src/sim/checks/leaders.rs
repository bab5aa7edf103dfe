//! Checks of a leader after its timer: it hears a majority or has stepped down, and its windows are
//! kept.

use super::members::decides;
use super::violation::{CheckResult, check};
use crate::core::Core;
use crate::types::{Now, Proposal};

/// The most bytes of a configuration with as few nodes as here.
const CONFIGURATION_BYTES: usize = 1024;

/// Called after the core has handled a timeout, and nothing else.
pub(super) fn check_leader(node: usize, core: &Core, now: Now) -> CheckResult {
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
        "a leader that hears no majority steps down",
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
