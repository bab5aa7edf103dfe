//! What the replica reports, as log lines: a level and words for what an operator must know.

use crate::core;
use crate::replica::Event;
use crate::types::NodeId;

/// Logs an event of `node`'s.
pub(super) fn log(node: NodeId, event: &Event) {
    let node = node.0;
    match event {
        Event::SnapshotFailed { reason, pause } => tracing::warn!(
            node,
            %reason,
            "a snapshot could not be written; the log grows until one is; the next is tried in {pause:?} at the earliest"
        ),
        Event::MachineFailed(failure) => tracing::error!(
            node,
            "{failure}. This node answers no reads or writes, leads no more and takes no snapshots; it goes on voting and \
             acknowledging. Look at the entry with `raft inspect`, and start a version of the program that can go on \
             there: every node comes to this entry"
        ),
        Event::Core(core::Event::Forgot { mark }) => tracing::error!(
            node,
            mark = mark.0,
            "this node's disk has lost writes that it had acknowledged: it votes for nobody and does not campaign until \
             the cluster has made it a learner. Look at the disk; if this repeats, replace the machine"
        ),
        Event::Core(core::Event::PassedFence { index }) => {
            tracing::warn!(node, index = index.0, "this node is a learner now, and is promoted when it has caught up");
        }
        Event::Core(core::Event::PeerForgot { node: peer, matched, is_voter }) => tracing::warn!(
            node,
            peer = peer.0,
            matched = matched.0,
            is_voter,
            "the disk of node {peer} has lost writes that it had acknowledged; what it says does not count. A voter is \
             made a learner while a majority of the others answers, and promoted when it has caught up"
        ),
        Event::Core(core::Event::CommittedConflict { index, leader }) => tracing::error!(
            node,
            index = index.0,
            leader = leader.0,
            "leader {leader} contradicts what is committed here from entry {index} on: acknowledged writes were lost \
             elsewhere. This node has stopped and keeps its log. Do not wipe it: it may hold the only copy of the writes \
             from {index} on. Look with `raft inspect`; `raft recover` makes a new cluster out of it"
        ),
        Event::Core(core::Event::PeerConflict { node: peer, index, .. }) => tracing::error!(
            node,
            peer = peer.0,
            index = index.0,
            "node {peer} has stopped: it has other entries committed from {index} on, so this cluster has lost \
             acknowledged writes. Do not wipe node {peer}: it may hold the only copy"
        ),
        _ => tracing::info!(node, ?event, "raft"),
    }
}
