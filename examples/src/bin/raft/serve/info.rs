//! The text of `INFO`.

use std::{fmt::Write, time::Duration};

use kodiak_raft::{
    core::{self as raft_core, PeerMode, Role, SnapshotProgress},
    node::{MachineCall, Status},
    replica::ReplicaStatus as Replica,
    types::{Digest, NodeId},
};

use super::clock_info;
use crate::{
    kv::Counts,
    membership::listing::{capacity, ids},
};

/// The requested sections; all if none is.
pub(super) fn text(
    sections: &[String],
    status: &Status,
    counts: &Counts,
    clients: usize,
    uptime: Duration,
) -> String {
    let wanted = |name: &str| {
        let everything = ["all", "everything", "default"];
        sections.is_empty()
            || sections
                .iter()
                .any(|section| section == name || everything.contains(&section.as_str()))
    };
    let parts = [
        ("server", server_section(uptime)),
        ("clients", format!("# Clients\r\nconnected_clients:{clients}\r\n")),
        ("keyspace", keyspace_section(counts)),
        ("raft", raft_section(status)),
    ];
    let texts: Vec<String> =
        parts.into_iter().filter(|(name, _)| wanted(name)).map(|(_, text)| text).collect();
    texts.join("\r\n")
}

fn server_section(uptime: Duration) -> String {
    format!(
        // Clients read Redis' version to know which commands there are.
        "# Server\r\nredis_version:7.0.0\r\nkodiak_version:{}\r\nprocess_id:{}\r\n\
         uptime_in_seconds:{}\r\n",
        env!("CARGO_PKG_VERSION"),
        std::process::id(),
        uptime.as_secs()
    )
}

/// As far as the log has been applied here; expired keys count until they are removed.
fn keyspace_section(counts: &Counts) -> String {
    match counts.keys() {
        0 => "# Keyspace\r\n".to_owned(),
        keys => format!("# Keyspace\r\ndb0:keys={keys},expires={}\r\n", counts.expires()),
    }
}

/// A role as `INFO` and `raft status` name it.
fn role_name(role: Role) -> &'static str {
    match role {
        Role::Follower => "follower",
        Role::PreCandidate => "pre-candidate",
        Role::Candidate => "candidate",
        Role::Leader => "leader",
    }
}

fn raft_section(status: &Status) -> String {
    let (replica, core) = (&status.replica, &status.replica.core);
    let mut text = String::from("# Raft\r\n");
    let mut line = |name: &str, value: &dyn std::fmt::Display| {
        // Writing to a string does not fail.
        let _ = write!(text, "{name}:{value}\r\n");
    };
    line("cluster_id", &status.identity.cluster);
    line("node_id", &status.identity.node);
    line("disk_id", &status.identity.disk);
    // A node whose disk has failed, or that was removed, has no role.
    let role = match role_name(core.role) {
        _ if replica.failed.is_some() => "failed",
        _ if replica.is_removed => "removed",
        _ if core.committed_conflict.is_some() => "stopped",
        "follower" if core.has_forgotten => "forgot",
        name => name,
    };
    line("role", &role);
    line("term", &core.term);
    line("leader_id", &core.leader.map_or("none".to_owned(), |leader| leader.to_string()));
    line("commit_index", &core.commit);
    line("applied_index", &replica.applied);
    line("backlog_bytes", &core.backlog_bytes);
    line("backlog_limit_bytes", &core.backlog_limit_bytes);
    line("durable_index", &core.durable);
    line("first_index", &core.first_index);
    line("last_index", &core.last_index);
    line("snapshot_index", &core.snapshot);
    line(
        "receiving_snapshot",
        &core.receiving.map_or("no".to_owned(), |progress| snapshot_progress(&progress)),
    );
    let configuration = &core.configuration;
    line("capacity", &capacity(configuration, core.id));
    line("configuration_index", &core.configuration_index);
    line("voters", &ids(&configuration.voters));
    line("outgoing_voters", &ids(&configuration.outgoing));
    line("learners", &ids(&configuration.learners));
    line("transferring_to", &core.transfer_target.map_or("none".to_owned(), |to| to.to_string()));
    line("lease", &if core.lease_until.is_some() { "held" } else { "none" });
    line("pending_requests", &replica.pending_requests);
    line("pending_bytes", &replica.pending_bytes);
    let machine = &status.machine;
    let call = |call: Option<MachineCall>| match call {
        Some(MachineCall { callback, index, took, .. }) => {
            format!("{callback} at {index}: {} us", took.as_micros())
        }
        None => "none".to_owned(),
    };
    line(
        "loading",
        &replica.loading_progress.map_or("no".to_owned(), |progress| progress.to_string()),
    );
    let failure = replica.machine_failure.as_ref().map_or("ok".to_owned(), ToString::to_string);
    line("state_machine", &failure.replace(['\r', '\n'], " "));
    line("machine_call", &call(machine.call));
    line("longest_machine_call", &call(machine.longest_call));
    let digests = &core.digests;
    let digest = |digest: Option<Digest>| match digest {
        Some(Digest { index, version, value }) => {
            format!("{value:016x} at {index}, version {version}")
        }
        None => "none".to_owned(),
    };
    line("digest", &digest(digests.latest));
    line("agreed_digest", &digest(digests.agreed));
    let (log_time, lead) = clock_info::log_time(core);
    line("log_time_ms", &log_time);
    line("log_time_lead_ms", &lead);
    line("ignored_messages", &core.ignored_messages);
    line("ignored_terms", &core.ignored_terms);
    line("second_leaders", &core.second_leaders);
    line("out_of_terms", &if core.is_out_of_terms { "yes" } else { "no" });
    line("storage", &replica.failed.as_deref().unwrap_or("ok").replace(['\r', '\n'], " "));
    line("alarms", &alarms(replica).replace(['\r', '\n'], " "));
    let snapshot = replica
        .snapshot_failure
        .as_ref()
        .map_or("ok".to_owned(), |reason| format!("failed: {reason}"));
    line("last_snapshot", &snapshot.replace(['\r', '\n'], " "));
    for peer in &status.peers {
        let link = if peer.connected { "up" } else { "down" };
        let client = String::from_utf8_lossy(&peer.metadata);
        let known = peer_state(core, peer.id);
        line(
            &format!("peer_{}", peer.id),
            &format_args!("raft={},client={client},link={link}{known}", peer.address),
        );
    }
    text
}

/// What needs an operator's attention; `none` if nothing does.
fn alarms(replica: &Replica) -> String {
    let core = &replica.core;
    let mut alarms = state_machine_alarms(replica);
    if core.has_forgotten {
        alarms.push(
            "this disk lost acknowledged writes: no votes until the cluster has made it a learner"
                .to_owned(),
        );
    }
    if let Some(index) = core.committed_conflict {
        alarms.push(format!(
            "a leader contradicts what is committed here from {index} on: do not wipe this node"
        ));
    }
    if core.second_leaders > 0 {
        alarms.push(
            "two nodes led one term: a disk lost acknowledged writes, or a folder was copied"
                .to_owned(),
        );
    }
    if core.is_out_of_terms {
        alarms.push(
            "the saved term is beyond the last one: this node neither votes nor campaigns"
                .to_owned(),
        );
    }
    if let Some(divergence) = core.digests.divergence {
        let index = divergence.digest.index;
        alarms.push(format!(
            "the state of this node differs from that of a majority after entry {index}"
        ));
    }
    if core.awaits_snapshot && core.digests.divergence.is_none() {
        let index = core.snapshot;
        alarms.push(format!(
            "this node's snapshot of entry {index} is damaged: it asks its leader for another"
        ));
    }
    if let Some(conflict) = core.digests.conflict {
        let (node, other, index) = (conflict.node, conflict.other, conflict.digest.index);
        alarms.push(format!(
            "the states of nodes {node} and {other} differ after entry {index}, without a majority"
        ));
    }
    for (node, digest) in &core.digests.outvoted {
        alarms.push(format!(
            "the state of node {node} differs from that of a majority after entry {}",
            digest.index
        ));
    }
    if let Some(progress) = replica.loading_progress.filter(|_| core.role == Role::Leader) {
        alarms.push(format!(
            "this leader answers nothing yet ({progress}): it hands over to a voter that does"
        ));
    } else if core.role == Role::Leader && core.backlog_bytes > core.backlog_limit_bytes {
        alarms.push(
            "this leader's state machine is behind: writes are refused until it has caught up"
                .to_owned(),
        );
    }
    for peer in &core.peers {
        if peer.has_forgotten {
            alarms.push(format!("the disk of node {} lost acknowledged writes", peer.id));
        }
        if let Some(index) = peer.conflict {
            alarms.push(format!(
                "node {} has other entries committed from {index} on: do not wipe it",
                peer.id
            ));
        }
    }
    alarms.extend(clock_info::alarms(core));
    if alarms.is_empty() { "none".to_owned() } else { alarms.join("; ") }
}

/// Alarms about a state machine that has failed for reasons that the other alarms do not name, and
/// about snapshots that cannot be written.
fn state_machine_alarms(replica: &Replica) -> Vec<String> {
    let mut alarms = Vec::new();
    let is_named = replica.core.awaits_snapshot || replica.core.digests.divergence.is_some();
    if let Some(failure) = replica.machine_failure.as_ref().filter(|_| !is_named) {
        alarms.push(format!("this node votes and acknowledges, and answers nothing: {failure}"));
    }
    if let Some(reason) = &replica.snapshot_failure {
        alarms.push(format!("no snapshot can be written, so the log grows: {reason}"));
    }
    alarms
}

/// What a leader knows about a peer's log; empty at other nodes.
fn peer_state(core: &raft_core::Status, id: NodeId) -> String {
    let Some(peer) = core.peers.iter().find(|peer| peer.id == id) else { return String::new() };
    let state = match peer.mode {
        PeerMode::Probe => "probe".to_owned(),
        PeerMode::Replicate => "replicate".to_owned(),
        PeerMode::Snapshot(progress) => format!("snapshot {}", snapshot_progress(&progress)),
    };
    let (matched, next) = (peer.matched, peer.next);
    let applied = peer.applied.map_or("unknown".to_owned(), |index| index.to_string());
    let (messages, bytes) = (peer.in_flight_messages, peer.in_flight_bytes);
    let clock = clock_info::peer_lead(core, peer.wall);
    format!(
        ",state={state},matched={matched},applied={applied},next={next},\
         in_flight={messages}/{bytes}{clock}"
    )
}

/// `to 700: 65536 of 300000 bytes`.
fn snapshot_progress(progress: &SnapshotProgress) -> String {
    format!("to {}: {} of {} bytes", progress.index, progress.received_bytes, progress.total_bytes)
}
