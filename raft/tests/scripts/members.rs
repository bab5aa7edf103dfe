//! Commands that change who belongs to the cluster, or who leads it.

use kodiak_raft::types::{DiskId, Member, MemberChange, NodeId};

use super::cluster::{Cluster, Outcome, Place};
use super::language::{Node, number};
use super::show;

/// What can be said of members: `add 4`, `promote 4`, `demote 2`, `remove 3`, `priority 2 9`, one
/// after the other.
pub(crate) const CHANGES: &str = "add N | promote N | demote N | remove N | priority N PRIORITY";

/// Understands a list of changes.
///
/// # Errors
/// Names what makes no sense.
pub(crate) fn parse(mut words: &[&str]) -> Result<Vec<MemberChange>, String> {
    let mut changes = Vec::new();
    while let [verb, node, rest @ ..] = words {
        let node = NodeId(number(node)?);
        words = rest;
        changes.push(match *verb {
            "add" => MemberChange::AddLearner { node, member: member(node) },
            "promote" => MemberChange::Promote(node),
            "demote" => MemberChange::Demote(node),
            "remove" => MemberChange::Remove(node),
            "priority" => {
                let [priority, rest @ ..] = words else {
                    return Err("a priority is missing".to_owned());
                };
                words = rest;
                MemberChange::Update {
                    node,
                    disk: None,
                    address: None,
                    priority: Some(number(priority)?),
                    feature_level: None,
                }
            }
            other => return Err(format!("`{other}` is none of: {CHANGES}")),
        });
    }
    if words.is_empty() {
        Ok(changes)
    } else {
        Err(format!("`{}` lacks its node", words.join(" ")))
    }
}

fn member(node: NodeId) -> Member {
    Member { disk: DiskId(node.0.into()), address: String::new(), priority: 0, ..Member::default() }
}

impl Cluster {
    /// A node that waits to be added.
    pub(super) fn join(&mut self, node: Node) -> Outcome {
        let next = self.places.len() as Node + 1;
        if node != next || node > 9 {
            return Err(format!("the next node to join can only be {next}, and at most 9"));
        }
        self.places.push(Place::default());
        self.boot(node)?;
        self.carry_out(node)
    }

    pub(super) fn change(&mut self, node: Node, changes: &[MemberChange]) -> Outcome {
        let now = self.now();
        if let Err(refused) = self.core(node)?.change_membership(now, changes) {
            self.say("refused", format!("{node}: {refused}"));
        }
        self.carry_out(node)
    }

    pub(super) fn transfer(&mut self, node: Node, to: Option<Node>) -> Outcome {
        let now = self.now();
        if let Err(refused) = self.core(node)?.transfer_leadership(now, to.map(NodeId)) {
            self.say("refused", format!("{node}: {refused}"));
        }
        self.carry_out(node)
    }

    /// By which configuration every node counts.
    pub(super) fn members(&mut self) -> Outcome {
        for node in 1..=self.places.len() as Node {
            let Ok(core) = self.core(node) else { continue };
            let line = format!(
                "{node} of entry {}: {}",
                core.configuration_index(),
                show::configuration(core.configuration())
            );
            self.say("counts", line);
        }
        Ok(())
    }
}
