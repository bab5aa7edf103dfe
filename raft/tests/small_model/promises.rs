//! What must hold in every state (figure 3.2 of the dissertation, and what it rests on).

use std::sync::Arc;

use kodiak_raft::core::Core;
use kodiak_raft::types::{Body, Configuration, Index, Message, NodeId, Payload};

use crate::disk::Disk;
use crate::scope::Scope;
use crate::state::{ClusterState, NODES, Node, Violation, initial_configuration};

/// Compares a message that leaves a node with its disk: a vote, a candidacy, an acknowledgement
/// must be there.
///
/// # Errors
/// If it is not.
pub(crate) fn check_sent(message: &Message, disk: &Disk) -> Result<(), Violation> {
    let broken = |what| Err((what, format!("{message:?} with {:?} on disk", disk.hard_state)));
    let has =
        |vote: NodeId| disk.hard_state.term == message.term && disk.hard_state.vote == Some(vote);
    match message.body {
        Body::Vote { granted: true } if !has(message.to) => {
            broken("a vote is on disk before it is sent")
        }
        Body::RequestVote { .. } if !has(message.from) => {
            broken("a candidacy is on disk before it is sent")
        }
        Body::Appended { matched, .. } if matched.0 > disk.entries.len() as u64 => {
            broken("what is acknowledged is on disk")
        }
        _ => Ok(()),
    }
}

/// Checks the state after a step of node `position`, and notes what is new.
///
/// # Errors
/// Says which promise is broken.
pub(crate) fn check(
    before: &ClusterState,
    after: &mut ClusterState,
    position: usize,
    scope: &Scope,
) -> Result<(), Violation> {
    let node = after.nodes[position].clone();
    own_marks(&node)?;
    if Arc::ptr_eq(&before.nodes[position], &node) {
        return Ok(());
    }
    leader_append_only(&before.nodes[position].core, &node.core)?;
    election_safety(after, &node.core)?;
    lease_exclusion(after)?;
    commitment(after, &before.nodes[position].core, &node.core, scope)?;
    (0..NODES)
        .filter(|&other| other != position)
        .try_for_each(|other| log_matching(&node.core, &after.nodes[other].core))?;
    after.nodes.iter().try_for_each(|node| leader_completeness(after, &node.core))
}

fn own_marks(node: &Node) -> Result<(), Violation> {
    let (core, disk) = (&node.core, &node.disk);
    if core.commit() > core.last_index()
        || core.durable() > core.last_index()
        || core.applied() > core.commit()
    {
        return Err(("marks are in order", format!("{:?}", core.status())));
    }
    for index in (1..=core.durable().0).map(Index) {
        let on_disk = disk.entries.get(index.0 as usize - 1).map(|entry| entry.term);
        if on_disk != core.terms().term_at(index) {
            return Err((
                "what is called durable is on disk",
                format!("index {index}: {:?}; {disk:?}", core.status()),
            ));
        }
    }
    Ok(())
}

fn leader_append_only(before: &Core, after: &Core) -> Result<(), Violation> {
    let stays = before.is_leader() && after.is_leader() && before.term() == after.term();
    if stays
        && (1..=before.last_index().0)
            .map(Index)
            .any(|index| before.entry(index) != after.entry(index))
    {
        return Err((
            "a leader only appends",
            format!("{:?} then {:?}", before.terms(), after.terms()),
        ));
    }
    Ok(())
}

fn election_safety(state: &mut ClusterState, core: &Core) -> Result<(), Violation> {
    if !core.is_leader() {
        return Ok(());
    }
    let (term, id) = (core.term(), core.id());
    match state.history.leaders.iter().find(|(known, _)| *known == term) {
        Some(&(_, other)) if other != id => {
            Err(("one leader a term", format!("{other} and {id} in term {term}")))
        }
        Some(_) => Ok(()),
        None => {
            let leaders = &mut Arc::make_mut(&mut state.history).leaders;
            leaders.push((term, id));
            leaders.sort_unstable();
            Ok(())
        }
    }
}

/// While a leader holds a lease no node leads a later term.
fn lease_exclusion(state: &ClusterState) -> Result<(), Violation> {
    let cores = || state.nodes.iter().map(|node| &node.core);
    let holders =
        cores().filter(|core| core.lease_until().is_some_and(|until| state.clock < until));
    for holder in holders {
        if let Some(later) = cores().find(|core| core.is_leader() && core.term() > holder.term()) {
            let details = format!(
                "{} has a lease in term {}, {} leads term {}",
                holder.id(),
                holder.term(),
                later.id(),
                later.term()
            );
            return Err(("while a lease holds no node leads a later term", details));
        }
    }
    Ok(())
}

/// The latest configuration in a log, committed or not.
fn latest_configuration(core: &Core, scope: &Scope) -> Configuration {
    let latest = (1..=core.last_index().0).rev().find_map(|index| {
        match &core.entry(Index(index))?.payload {
            Payload::Configuration(configuration) => Some((**configuration).clone()),
            _ => None,
        }
    });
    latest.unwrap_or_else(|| initial_configuration(scope))
}

/// By what a leader may have counted in this step: what it has now, or had before the step. If that
/// was a joint one it was that, for it is left only once it is committed.
fn counted(before: &Core, core: &Core, scope: &Scope) -> Vec<Configuration> {
    let mut counted = Vec::new();
    if before.is_leader() && before.term() == core.term() {
        counted.push(latest_configuration(before, scope));
    }
    if counted.iter().all(|configuration| !configuration.is_joint()) {
        counted.push(latest_configuration(core, scope));
    }
    counted
}

/// Whether these nodes are a majority of each half.
fn decides(configuration: &Configuration, nodes: &[NodeId]) -> bool {
    [&configuration.voters, &configuration.outgoing].into_iter().all(|half| {
        half.is_empty() || nodes.iter().filter(|node| half.contains(node)).count() * 2 > half.len()
    })
}

/// State-machine safety, and that an entry is committed only when a quorum of the disks has it.
fn commitment(
    state: &mut ClusterState,
    before: &Core,
    core: &Core,
    scope: &Scope,
) -> Result<(), Violation> {
    for index in (1..=core.commit().0).map(Index) {
        let entry = core.entry(index).expect("nothing leaves so small a tail");
        if let Some((known, _)) = state.history.committed.get(index.0 as usize - 1) {
            if known != entry {
                return Err(("one committed log", format!("{known:?} and {entry:?}")));
            }
            continue;
        }
        let place = index.0 as usize - 1;
        let (forgetful, forgotten) = &*state.forgotten;
        let had = |node: &Node| node.core.id() == *forgetful && forgotten.get(place) == Some(entry);
        let has = |node: &&Arc<Node>| node.disk.entries.get(place) == Some(entry) || had(node);
        let disks: Vec<NodeId> =
            state.nodes.iter().filter(has).map(|node| node.core.id()).collect();
        if !counted(before, core, scope).iter().any(|configuration| decides(configuration, &disks))
        {
            return Err((
                "committed means on a quorum of disks",
                format!("{entry:?} is on {disks:?}"),
            ));
        }
        let committed = (entry.clone(), core.term());
        Arc::make_mut(&mut state.history).committed.push(committed);
    }
    Ok(())
}

fn log_matching(one: &Core, other: &Core) -> Result<(), Violation> {
    let shared = one.last_index().min(other.last_index());
    let equal_terms = |index: &Index| one.terms().term_at(*index) == other.terms().term_at(*index);
    let Some(last) = (1..=shared.0).rev().map(Index).find(equal_terms) else { return Ok(()) };
    match (1..=last.0).map(Index).find(|&index| one.entry(index) != other.entry(index)) {
        None => Ok(()),
        Some(index) => {
            let (one, other) = (one.entry(index), other.entry(index));
            Err((
                "log matching",
                format!("the logs agree on {last} but at {index} have {one:?} and {other:?}"),
            ))
        }
    }
}

fn leader_completeness(state: &ClusterState, core: &Core) -> Result<(), Violation> {
    let later = |(_, term): &&(_, _)| core.is_leader() && *term < core.term();
    let missing = state
        .history
        .committed
        .iter()
        .filter(later)
        .find(|(entry, _)| core.entry(entry.index) != Some(entry));
    match missing {
        None => Ok(()),
        Some((entry, _)) => Err((
            "leader completeness",
            format!("leader {} of term {} lacks {entry:?}", core.id(), core.term()),
        )),
    }
}
