//! The replica's events as log lines: a level, and what an operator must know and do.

use crate::core;
use crate::error_chain::error_chain;
use crate::replica::{MachineCallback, ReplicaEvent};
use crate::types::{Divergence, NodeId};

/// Logs an event of `node`.
pub(super) fn log_event(node: NodeId, event: &ReplicaEvent) {
    let node = node.0;
    match event {
        ReplicaEvent::SnapshotFailed { reason, pause } => tracing::warn!(
            node,
            %reason,
            "a snapshot could not be written, so the log grows; the next attempt is in {pause:?} \
             at the earliest"
        ),
        // `StateDiverged` reports it.
        ReplicaEvent::MachineFailed(failure)
            if failure.callback == MachineCallback::Digest && !failure.has_panicked => {}
        ReplicaEvent::Core(event) => log_core_event(node, event),
        ReplicaEvent::SnapshotDamaged { index } => tracing::error!(
            node,
            index = index.0,
            "the snapshot of entry {index} is damaged or holds a wrong state, and the log before \
             it is gone. This node votes and acknowledges, and asks the leader for another \
             snapshot. It serves once its state machine is restored from that. Check the disk"
        ),
        ReplicaEvent::UnappliedLogFull(full) => {
            let full = error_chain(full);
            tracing::error!(node, "{full}. This node takes part in nothing from now on");
        }
        ReplicaEvent::MachineFailed(failure) if failure.callback == MachineCallback::Restore => {
            tracing::error!(
                node,
                "{failure}. This node answers no reads or writes, does not lead and takes no \
                 snapshots; it votes and acknowledges. If the file is damaged, the node asks the \
                 leader for another snapshot. If it is not, start a version of the program that \
                 can read it"
            );
        }
        ReplicaEvent::MachineFailed(failure) => tracing::error!(
            node,
            "{failure}. This node answers no reads or writes, does not lead and takes no \
             snapshots; it votes and acknowledges. Look at the entry with 'raft inspect', and \
             start a version of the program that can apply it: every node comes to this entry"
        ),
        _ => tracing::info!(node, ?event, "raft"),
    }
}

fn log_core_event(node: u64, event: &core::Event) {
    match event {
        core::Event::StateDiverged(divergence) => log_divergence(node, divergence),
        core::Event::PeerDiverged { node: peer, digest, majority } => tracing::error!(
            node,
            peer = peer.0,
            index = digest.index.0,
            version = digest.version,
            "the state of node {peer} differs from that of a majority after entry {}: its digest \
             is {:016x}, theirs is {majority:016x}. It stops answering. Its answers since the last \
             equal digest, `digest_interval` entries before, may be wrong",
            digest.index,
            digest.value
        ),
        core::Event::StatesDiffer(conflict) => tracing::error!(
            node,
            index = conflict.digest.index.0,
            version = conflict.digest.version,
            "the states of the members differ after entry {}, and no majority has the same: the \
             digest of node {} is {:016x}, that of node {} is {:016x}. No node stops, and some \
             answers are wrong. Compare the machines and the versions of the program ('INFO raft' \
             of every node), and restart the nodes that are wrong from the snapshot of one that is \
             right",
            conflict.digest.index,
            conflict.node,
            conflict.digest.value,
            conflict.other,
            conflict.other_digest.value
        ),
        core::Event::Backlogged { backlog_bytes, to: Some(to) } => tracing::warn!(
            node,
            backlog_bytes,
            to = to.0,
            "this leader's state machine has lagged by more than Config::backlog_bytes for longer \
             than Config::backlog_timeout: it transfers leadership to node {to}, which lags less"
        ),
        core::Event::Backlogged { backlog_bytes, to: None } => tracing::warn!(
            node,
            backlog_bytes,
            "this leader's state machine has lagged by more than Config::backlog_bytes for longer \
             than Config::backlog_timeout, and writes are refused. It stays leader: no other voter \
             is known to lag less. See what the state machine does ('machine_call' in INFO raft)"
        ),
        core::Event::LeaderLoading { to: Some(to) } => tracing::warn!(
            node,
            to = to.0,
            "this leader's state machine restores or replays, and has answered nothing for longer \
             than Config::backlog_timeout: it transfers leadership to node {to}, which has applied \
             that much"
        ),
        core::Event::LeaderLoading { to: None } => tracing::warn!(
            node,
            "this leader's state machine restores or replays, and has answered nothing for longer \
             than Config::backlog_timeout. It stays leader: no other voter is known to have \
             applied that much. INFO raft shows its progress ('loading')"
        ),
        core::Event::Forgot { mark } => tracing::error!(
            node,
            mark = mark.0,
            "this node's disk has lost writes that it had acknowledged. The node neither votes nor \
             campaigns until the cluster has made it a learner. Check the disk; if this repeats, \
             replace the machine"
        ),
        core::Event::PassedFence { index } => tracing::warn!(
            node,
            index = index.0,
            "this node is a learner now, and is promoted when it has caught up"
        ),
        core::Event::PeerForgot { node: peer, matched, is_voter } => tracing::warn!(
            node,
            peer = peer.0,
            matched = matched.map(|index| index.0),
            is_voter,
            "the disk of node {peer} has lost writes that it had acknowledged; its answers do not \
             count. A voter is made a learner while a majority of the others answers, and promoted \
             when it has caught up"
        ),
        core::Event::SecondLeader { term, leader, other } => tracing::error!(
            node,
            term = term.0,
            "nodes {leader} and {other} both lead term {term}; the messages of node {other} are \
             ignored. A node has voted twice: its disk lost writes, or two copies of its data \
             folder run. Look for nodes that were started recently, and stop the copy"
        ),
        core::Event::TermIgnored { from, term } => tracing::error!(
            node,
            peer = from.0,
            term = term.0,
            "messages of node {from} are ignored: term {term} is too far ahead to come from \
             elections. Its disk or memory is damaged: stop node {from}, look at its log with \
             'raft inspect', and replace it"
        ),
        core::Event::OutOfTerms { term } => tracing::error!(
            node,
            term = term.0,
            "the saved term {term} is beyond the last one: the disk was damaged or edited. This \
             node neither votes nor campaigns. Remove it and let its machine join with an empty \
             folder, or use 'raft recover' if no other node has the data"
        ),
        core::Event::CommittedConflict { index, leader } => tracing::error!(
            node,
            index = index.0,
            leader = leader.0,
            "leader {leader} contradicts this node's committed log from entry {index} on: \
             acknowledged writes were lost elsewhere. This node has stopped and keeps its log. Do \
             not wipe it: it may hold the only copy of the writes from {index} on. Look at it with \
             'raft inspect'; 'raft recover' makes a new cluster from it"
        ),
        core::Event::PeerConflict { node: peer, index, .. } => tracing::error!(
            node,
            peer = peer.0,
            index = index.0,
            "node {peer} has stopped: it has other entries committed from {index} on, so this \
             cluster has lost acknowledged writes. Do not wipe node {peer}: it may hold the only \
             copy"
        ),
        core::Event::LogTimeStepped { by } => tracing::info!(
            node,
            ?by,
            "log time went forward by {by:?}, to the wall clocks of a majority: the last entry was \
             from before this node's start. Keys that expired meanwhile are gone"
        ),
        event => tracing::info!(node, event = ?ReplicaEvent::Core(*event), "raft"),
    }
}

fn log_divergence(node: u64, divergence: &Divergence) {
    let Divergence { digest, majority, agreed } = divergence;
    tracing::error!(
        node,
        index = digest.index.0,
        version = digest.version,
        "the state of this node differs from that of a majority of the voters after entry {}: its \
         digest is {:016x}, theirs is {majority:016x}; they last agreed after entry {agreed} (0: \
         not since the start). This node answers no reads or writes, does not lead and takes no \
         snapshots; it votes and acknowledges. A snapshot from the leader will replace its state. \
         Look for a command that is not deterministic, and check the machine's memory",
        digest.index,
        digest.value
    );
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use tracing::field::{Field, Visit};
    use tracing::span::{Attributes, Id, Record};
    use tracing::{Level, Metadata, Subscriber};

    use super::*;
    use crate::types::{Digest, Index, Term};

    /// Keeps the level and the message of each line.
    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<(Level, String)>>>);

    struct Words<'a>(&'a mut String);

    impl Visit for Words<'_> {
        fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
            if field.name() == "message" {
                *self.0 = format!("{value:?}");
            }
        }
    }

    impl Subscriber for Lines {
        fn enabled(&self, _: &Metadata<'_>) -> bool {
            true
        }

        fn new_span(&self, _: &Attributes<'_>) -> Id {
            Id::from_u64(1)
        }

        fn record(&self, _: &Id, _: &Record<'_>) {}

        fn record_follows_from(&self, _: &Id, _: &Id) {}

        fn event(&self, event: &tracing::Event<'_>) {
            let mut words = String::new();
            event.record(&mut Words(&mut words));
            self.0.lock().unwrap().push((*event.metadata().level(), words));
        }

        fn enter(&self, _: &Id) {}

        fn exit(&self, _: &Id) {}
    }

    /// The line that the event is logged as.
    fn line(event: core::Event) -> (Level, String) {
        let lines = Lines::default();
        tracing::subscriber::with_default(lines.clone(), || {
            log_event(NodeId(1), &ReplicaEvent::Core(event))
        });
        let written = lines.0.lock().unwrap().clone();
        let [line] = &written[..] else { panic!("{written:?}") };
        line.clone()
    }

    #[test]
    fn an_ignored_term_is_an_error_that_names_the_sender() {
        let (level, words) =
            line(core::Event::TermIgnored { from: NodeId(3), term: Term(u64::MAX) });
        assert_eq!(level, Level::ERROR);
        assert!(
            words.starts_with("messages of node 3 are ignored: term 18446744073709551615"),
            "{words}"
        );
    }

    #[test]
    fn a_step_of_log_time_names_its_length_and_reason() {
        let by = std::time::Duration::from_secs(36_000);
        let (level, words) = line(core::Event::LogTimeStepped { by });
        assert_eq!(level, Level::INFO);
        assert!(words.starts_with("log time went forward by 36000s"), "{words}");
    }

    #[test]
    fn a_saved_term_beyond_the_last_names_the_remedy() {
        let (level, words) = line(core::Event::OutOfTerms { term: Term(u64::MAX) });
        assert_eq!(level, Level::ERROR);
        assert!(words.contains("neither votes nor campaigns"), "{words}");
        assert!(words.contains("'raft recover'"), "{words}");
    }

    #[test]
    fn a_second_leader_is_an_error_that_names_both() {
        let (leader, other) = (NodeId(2), NodeId(3));
        let (level, words) = line(core::Event::SecondLeader { term: Term(7), leader, other });
        assert_eq!(level, Level::ERROR);
        assert!(words.starts_with("nodes 2 and 3 both lead term 7"), "{words}");
    }

    #[test]
    fn a_divergence_names_the_entry_and_both_digests() {
        let digest = Digest { index: Index(300), version: 2, value: 0xab };
        let divergence = Divergence { digest, majority: 0xcd, agreed: Index(200) };
        let (level, words) = line(core::Event::StateDiverged(divergence));
        assert_eq!(level, Level::ERROR);
        for part in
            ["entry 300", "00000000000000ab", "00000000000000cd", "entry 200", "Look for a command"]
        {
            assert!(words.contains(part), "{part}: {words}");
        }
        let (level, words) =
            line(core::Event::PeerDiverged { node: NodeId(3), digest, majority: 0xcd });
        assert_eq!(level, Level::ERROR);
        assert!(
            words.starts_with("the state of node 3 differs from that of a majority"),
            "{words}"
        );
        let (node, other) = (NodeId(1), NodeId(3));
        let other_digest = Digest { value: 0xcd, ..digest };
        let conflict = core::DigestConflict { node, digest, other, other_digest };
        let (level, words) = line(core::Event::StatesDiffer(conflict));
        assert_eq!(level, Level::ERROR);
        assert!(
            words.contains("no majority has the same") && words.contains("00000000000000cd"),
            "{words}"
        );
    }
}
