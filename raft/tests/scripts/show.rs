//! The output of scripts. An entry is `index/term`, with `=command` if it has one.

use kodiak_raft::core::{Core, Event, PeerMode, PeerStatus, Role};
use kodiak_raft::types::{
    Append, Body, Configuration, Echo, Entry, Index, Message, NodeId, Payload, SnapshotMeta,
    TermTable, Write,
};

/// Numbers of read requests are drawn from seeds; a script shows which request of its node it is
/// instead.
#[derive(Debug, Default)]
pub(super) struct ReadRequests(Vec<(NodeId, u64)>);

impl ReadRequests {
    fn ordinal(&mut self, asker: NodeId, request: u64) -> usize {
        if !self.0.contains(&(asker, request)) {
            self.0.push((asker, request));
        }
        let own = self.0.iter().filter(|(node, _)| *node == asker);
        own.take_while(|(_, known)| *known != request).count() + 1
    }
}

pub(super) fn many(count: usize, one: &str, more: &str) -> String {
    match count {
        0 => format!("no {more}"),
        1 => format!("1 {one}"),
        count => format!("{count} {more}"),
    }
}

fn entry(entry: &Entry) -> String {
    let position = format!("{}/{}", entry.index, entry.term);
    match &entry.payload {
        Payload::Noop => format!("{position}=no-op"),
        Payload::Command(command) if command.is_empty() => position,
        Payload::Command(command) => format!("{position}={}", String::from_utf8_lossy(command)),
        Payload::Configuration(members) => format!("{position}={}", configuration(members)),
        Payload::OpenSession { .. } | Payload::SessionCommand(_) | Payload::CloseSession { .. } => {
            format!("{position}=session")
        }
    }
}

/// `{1 2 3}`; a joint one as `{1 2 4}&{1 2 3}`, the half that is being left last; learners as `+5`.
pub(super) fn configuration(configuration: &Configuration) -> String {
    let set = |nodes: &std::collections::BTreeSet<NodeId>| {
        nodes.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
    };
    let Configuration { voters, outgoing, learners, .. } = configuration;
    let mut text = format!("{{{}}}", set(voters));
    if !outgoing.is_empty() {
        text += &format!("&{{{}}}", set(outgoing));
    }
    learners.iter().for_each(|node| text += &format!("+{node}"));
    text
}

pub(super) fn entries<'a>(entries: impl IntoIterator<Item = &'a Entry>) -> String {
    entries.into_iter().map(entry).collect::<Vec<_>>().join(" ")
}

/// Of every index up to the last; 0 where it is compacted.
pub(super) fn terms(table: &TermTable) -> Vec<u64> {
    let known = |index| table.term_at(index).filter(|_| index > table.base());
    (1..=table.last_index().0)
        .map(Index)
        .map(|index| known(index).map_or(0, |term| term.0))
        .collect()
}

pub(super) fn snapshot(meta: &SnapshotMeta) -> String {
    format!("up to {}/{}", meta.index, meta.term)
}

pub(super) fn kind(body: &Body) -> &'static str {
    match body {
        Body::RequestPreVote { .. } => "RequestPreVote",
        Body::PreVote { .. } => "PreVote",
        Body::RequestVote { .. } => "RequestVote",
        Body::Vote { .. } => "Vote",
        Body::AppendEntries(_) => "AppendEntries",
        Body::Appended { .. } => "Appended",
        Body::Rejected { .. } => "Rejected",
        Body::InstallSnapshot { .. } => "InstallSnapshot",
        Body::SnapshotProgress { .. } => "SnapshotProgress",
        Body::TimeoutNow => "TimeoutNow",
        Body::RequestReadIndex { .. } => "RequestReadIndex",
        Body::ReadIndex { .. } => "ReadIndex",
        Body::Forgot { .. } => "Forgot",
        Body::CommittedConflict { .. } => "CommittedConflict",
        Body::StateDigest(_) => "StateDigest",
        Body::StateDigests(_) => "StateDigests",
    }
}

pub(super) fn message(message: &Message, read_requests: &mut ReadRequests) -> String {
    let Message { from, to, term, body } = message;
    let answer = |granted: bool| if granted { "granted" } else { "refused" };
    let details = match body {
        Body::RequestPreVote { last_index, last_term } => {
            format!("log to {last_index}/{last_term}")
        }
        Body::RequestVote { last_index, last_term, is_transfer } => {
            format!(
                "log to {last_index}/{last_term}{}",
                if *is_transfer { ", as its leader asked" } else { "" }
            )
        }
        Body::TimeoutNow => "campaign now".to_owned(),
        Body::PreVote { campaign_term, granted } => {
            format!("for term {campaign_term} {}", answer(*granted))
        }
        Body::Vote { granted } => answer(*granted).to_owned(),
        Body::AppendEntries(Append {
            previous_index,
            previous_term,
            entries: list,
            commit,
            echo: Echo { round, .. },
            ..
        }) => {
            let list = if list.is_empty() { "nothing".to_owned() } else { entries(list) };
            format!(
                "after {previous_index}/{previous_term}: {list}; commit {commit}, round {round}"
            )
        }
        Body::Appended { matched, report } => format!("to {matched}, round {}", report.round),
        Body::Rejected { previous_index, hint_index, hint_term, report } => {
            format!("after {previous_index}; try {hint_index}/{hint_term}, round {}", report.round)
        }
        Body::InstallSnapshot { meta, chunk, echo: Echo { round, .. }, .. } => {
            let (begin, end, total) = (chunk.offset, chunk.end(), chunk.total_bytes);
            format!("{}, bytes {begin} to {end} of {total}, round {round}", snapshot(meta))
        }
        Body::SnapshotProgress { index, received_bytes, report } => {
            format!("{received_bytes} bytes of the one up to {index}, round {}", report.round)
        }
        Body::RequestReadIndex { request, may_lease } => {
            let lease = if *may_lease { ", a lease is enough" } else { "" };
            format!("request {}{lease}", read_requests.ordinal(*from, *request))
        }
        Body::Forgot { last_index } => format!("up to {last_index}"),
        Body::CommittedConflict { index, log_term } => {
            format!("at {index}, of term {log_term} here")
        }
        Body::StateDigest(digest) => format!("{digest:?}"),
        Body::StateDigests(digests) => format!("{digests:?}"),
        Body::ReadIndex { request, index } => {
            let request = read_requests.ordinal(*to, *request);
            match index {
                Some(index) => format!("request {request}: {index}"),
                None => format!("request {request}: cannot say"),
            }
        }
    };
    format!("{from}->{to} term {term} {} {details}", kind(body))
}

pub(super) fn write(write: &Write) -> String {
    let mut parts = Vec::new();
    if let Some(hard_state) = write.hard_state {
        let vote = hard_state.vote.map_or("no vote".to_owned(), |vote| format!("vote {vote}"));
        parts.push(format!("term {}, {vote}", hard_state.term));
    }
    if let Some(from) = write.truncate_from {
        parts.push(format!("removes {from} and on"));
    }
    if !write.entries.is_empty() {
        parts.push(entries(&write.entries));
    }
    format!("#{}: {}", write.sequence, parts.join("; "))
}

/// What is worth a line; changes of role show in the node's own line.
pub(super) fn event(event: &Event) -> Option<String> {
    match event {
        Event::LeadershipChanged { .. } => None,
        Event::LostQuorum { term } => Some(format!("no quorum answers, gives up term {term}")),
        Event::SnapshotInstalled { index } => {
            Some(format!("a snapshot up to {index} has taken its log's place"))
        }
        Event::MembershipChanged { index, is_joint } => Some(format!(
            "the {}configuration of entry {index} is in force",
            if *is_joint { "joint " } else { "" }
        )),
        Event::Removed { index } => Some(format!("is no longer a member since entry {index}")),
        Event::NoLongerVoter { term } => {
            Some(format!("no longer has a vote, gives up term {term}"))
        }
        Event::TransferFailed { to } => Some(format!("{to} did not take over")),
        Event::Forgot { mark } => Some(format!(
            "its disk forgot: neither votes nor campaigns, the fence comes after {mark}"
        )),
        Event::PassedFence { index } => Some(format!("has passed the fence at {index}")),
        Event::PeerForgot { node, matched, .. } => {
            let known = matched
                .map_or(String::new(), |index| format!(": it had acknowledged up to {index}"));
            Some(format!("the disk of {node} forgot{known}"))
        }
        Event::CommittedConflict { index, leader } => {
            Some(format!("{leader} contradicts what is committed from {index} on: stops"))
        }
        Event::PeerConflict { node, index, .. } => {
            Some(format!("{node} has something else committed from {index} on"))
        }
        Event::StateDiverged(divergence) => {
            Some(format!("has another state than a majority: {divergence:?}"))
        }
        Event::PeerDiverged { node, digest, .. } => {
            Some(format!("{node} has another state than a majority after {}", digest.index))
        }
        Event::StatesDiffer(conflict) => {
            Some(format!("states differ, and none is a majority's: {conflict:?}"))
        }
        Event::TermIgnored { from, term } => {
            Some(format!("ignores a message of {from} for its term, {term}"))
        }
        Event::SecondLeader { term, leader, other } => {
            Some(format!("ignores {other}, for {leader} leads term {term}"))
        }
        Event::OutOfTerms { term } => {
            Some(format!("stays out of elections, term {term} is too great"))
        }
        Event::LogTimeStepped { by } => Some(format!("log time steps forward by {by:?}")),
        Event::Backlogged { backlog_bytes, to } => Some(match to {
            Some(to) => {
                format!("its state machine is {backlog_bytes} bytes behind, hands over to {to}")
            }
            None => format!("its state machine is {backlog_bytes} bytes behind, as are all"),
        }),
        Event::LeaderLoading { to } => Some(match to {
            Some(to) => format!("its state machine loads, hands over to {to}"),
            None => "its state machine loads, and so do all".to_owned(),
        }),
        Event::StalledWrite { term } => {
            Some(format!("its own write is stuck, gives up term {term}"))
        }
        other => Some(format!("{other:?}")),
    }
}

pub(super) fn node(core: &Core) -> String {
    let role = match (core.role(), core.leader()) {
        (Role::Leader, _) => "leader".to_owned(),
        (Role::Candidate, _) => "candidate".to_owned(),
        (Role::PreCandidate, _) => "pre-candidate".to_owned(),
        (Role::Follower, Some(leader)) => format!("follower of {leader}"),
        (Role::Follower, None) => "follower".to_owned(),
    };
    let vote = core.hard_state().vote.map_or(String::new(), |vote| format!(", vote {vote}"));
    let (last, durable) = (core.last_index(), core.durable());
    let durable = if durable == last { String::new() } else { format!(" (durable to {durable})") };
    let log = if last.0 == 0 {
        "empty log".to_owned()
    } else {
        format!("log to {last}/{}", core.terms().last_term())
    };
    let base = core.terms().base();
    let base = if base.0 == 0 { String::new() } else { format!(", compacted to {base}") };
    format!("{role}, term {}{vote}, {log}{durable}{base}, commit {}", core.term(), core.commit())
}

pub(super) fn peer(peer: &PeerStatus) -> String {
    let mode = match peer.mode {
        PeerMode::Probe => "probes",
        PeerMode::Replicate => "streams",
        PeerMode::Snapshot(_) => "sends a snapshot",
    };
    let in_flight = many(peer.in_flight_messages, "message", "messages");
    format!(
        "to {}: matched {}, next {}, {mode}, {in_flight} unanswered",
        peer.id, peer.matched, peer.next
    )
}
