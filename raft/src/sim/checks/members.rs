//! Checks of configurations: their order, and that each node uses the latest one in its log.
//!
//! Every configuration that any node ever wrote is kept under its index and term, and each node's
//! log has a list of those in it. So the configuration that a node *should* use is known here.

use std::collections::{BTreeMap, BTreeSet};

use super::transfers::LastProposal;
use super::violation::{CheckResult, check};
use crate::core::Core;
use crate::types::{Configuration, Entry, Index, NodeId, Now, Payload, Term, Time, Write};

/// All configurations ever written. See the module.
#[derive(Debug)]
pub(in crate::sim) struct Members {
    known: BTreeMap<(Index, Term), Configuration>,
    /// The configuration with which each node was created.
    initial_configuration: Vec<Configuration>,
    /// The configurations in each node's log, as issued to its storage.
    logs: Vec<Vec<(Index, Term)>>,
    /// The transfer in which each node was last seen, and its begin by the node's clock.
    transfers: Vec<Option<(Term, NodeId, Time)>>,
    /// The last entry that each node proposed before its current transfer.
    last_proposals: Vec<LastProposal>,
}

/// Whether these nodes are a majority of each half of the configuration.
pub(super) fn decides(configuration: &Configuration, has: impl Fn(NodeId) -> bool) -> bool {
    let is_majority =
        |half: &BTreeSet<NodeId>| half.iter().filter(|&&node| has(node)).count() * 2 > half.len();
    is_majority(&configuration.voters)
        && (configuration.outgoing.is_empty() || is_majority(&configuration.outgoing))
}

/// Whether any two quorums, one of each configuration, have a node in common. Tries all sets: there
/// are few nodes.
fn always_overlap(one: &Configuration, other: &Configuration) -> bool {
    let nodes: BTreeSet<NodeId> = [&one.voters, &one.outgoing, &other.voters, &other.outgoing]
        .into_iter()
        .flatten()
        .copied()
        .collect();
    let nodes: Vec<NodeId> = nodes.into_iter().collect();
    let place = |node: NodeId| nodes.binary_search(&node).unwrap_or_default();
    (0..1u32 << nodes.len()).all(|set| {
        let is_in = |node| set >> place(node) & 1 == 1;
        !(decides(one, is_in) && decides(other, |node| !is_in(node)))
    })
}

impl Members {
    pub(super) fn new(initial_configuration: Vec<Configuration>) -> Members {
        let nodes = initial_configuration.len();
        Members {
            known: BTreeMap::new(),
            initial_configuration,
            logs: vec![Vec::new(); nodes],
            transfers: vec![None; nodes],
            last_proposals: vec![LastProposal::default(); nodes],
        }
    }

    /// The latest configuration in a node's log.
    pub(super) fn latest(&self, node: usize) -> &Configuration {
        self.logs[node]
            .last()
            .and_then(|place| self.known.get(place))
            .unwrap_or(&self.initial_configuration[node])
    }

    /// The number of changes in the longest log.
    pub(in crate::sim) fn changes(&self) -> u64 {
        self.logs.iter().map(Vec::len).max().unwrap_or(0) as u64
    }

    /// A node's log now has these terms.
    ///
    /// If it begins with a snapshot, the configuration of the initial members applies until another
    /// one follows, because the snapshot brought it.
    pub(super) fn set_log(&mut self, node: usize, terms: &[Term], has_snapshot: bool) {
        if has_snapshot {
            self.initial_configuration[node] = self.initial_configuration[0].clone();
        }
        let is_in =
            |&&(index, term): &&(Index, Term)| terms.get(index.0 as usize - 1) == Some(&term);
        self.logs[node] = self.known.keys().filter(is_in).copied().collect();
    }

    /// The nodes that a write promotes to voters, each with the entry that promotes it.
    pub(super) fn promoted(&self, node: usize, write: &Write) -> Vec<(NodeId, Index)> {
        let before = self.latest(node);
        let is_known = |entry: &Entry| self.known.contains_key(&(entry.index, entry.term));
        let voters = |entry: &Entry| match &entry.payload {
            Payload::Configuration(next) if !is_known(entry) => next.voters.clone(),
            _ => BTreeSet::new(),
        };
        let fresh =
            |entry: &Entry| voters(entry).into_iter().filter(|&voter| !before.is_voter(voter));
        let entries = write.entries.iter();
        entries
            .flat_map(|entry| fresh(entry).map(|voter| (voter, entry.index)).collect::<Vec<_>>())
            .collect()
    }

    /// A node issues a write to its storage.
    pub(super) fn written(&mut self, node: usize, write: &Write, core: &Core) -> CheckResult {
        if let Some(from) = write.truncate_from {
            self.logs[node].retain(|&(index, _)| index < from);
        }
        for entry in &write.entries {
            let Payload::Configuration(configuration) = &entry.payload else { continue };
            let place = (entry.index, entry.term);
            if !self.known.contains_key(&place) {
                self.check_follows(node, entry, configuration, core)?;
                self.known.insert(place, (**configuration).clone());
            }
            self.logs[node].push(place);
        }
        self.observe_transfer(node, core);
        let late = self.last_proposals[node].first_late(write);
        check(late.is_none(), "no proposals during a transfer", || {
            let to = core.transfer_target();
            format!("node {} transfers to {to:?} and writes {late:?}", node + 1)
        })
    }

    /// Called before each poll of a node's replica.
    pub(in crate::sim) fn observe_transfer(&mut self, node: usize, core: &Core) {
        let is_moving =
            core.transfer_target().is_some() && core.configuration().is_voter(core.id());
        self.last_proposals[node].observe(is_moving.then_some(core.term()), core.last_index());
    }

    /// Checks that a new configuration may follow the previous one in this log.
    fn check_follows(
        &self,
        node: usize,
        entry: &Entry,
        next: &Configuration,
        core: &Core,
    ) -> CheckResult {
        let before = self.latest(node);
        let words = || format!("node {} writes {entry:?} after {before:?}", node + 1);
        check(always_overlap(before, next), "quorums of successive configurations overlap", words)?;
        check(!next.voters.is_empty(), "a configuration has voters", words)?;
        check(
            !before.is_joint() || *next == before.left(),
            "a joint configuration is only followed by its end",
            words,
        )?;
        let past = self.logs[node]
            .iter()
            .filter_map(|place| self.known.get(place))
            .chain([&self.initial_configuration[0]]);
        let highest = past.flat_map(|past| past.members.keys()).max().copied().unwrap_or_default();
        let mut fresh = next.members.keys().filter(|node| !before.members.contains_key(node));
        check(fresh.all(|&node| node > highest), "an id is never used again", words)?;
        let previous = self.logs[node].last().map_or(Index(0), |&(index, _)| index);
        let commit = core.commit();
        check(core.is_leader() && core.term() == entry.term, "leaders make configurations", words)?;
        check(
            core.terms().term_at(commit) == Some(entry.term),
            "no change before an entry of the leader's term",
            words,
        )?;
        check(previous <= commit, "one change of members at a time", words)
    }

    /// Checks that a new leader has the votes of a quorum.
    pub(super) fn check_elected(
        &self,
        node: usize,
        term: Term,
        votes: impl Fn(NodeId) -> bool,
    ) -> CheckResult {
        let configuration = self.latest(node);
        check(decides(configuration, votes), "a leader has the votes of a quorum", || {
            format!(
                "node {} leads term {term} without a quorum's votes in {configuration:?}",
                node + 1
            )
        })
    }

    /// Checks that a node uses the latest configuration in its log. Called when its effects are
    /// done.
    pub(in crate::sim) fn check_in_force(&self, node: usize, core: &Core) -> CheckResult {
        let expected = self.latest(node);
        check(
            core.configuration() == expected,
            "the latest configuration in the log is in force",
            || {
                let found = core.configuration();
                format!("node {} uses {found:?}; the latest in its log is {expected:?}", node + 1)
            },
        )?;
        let is_known = core.commit() >= core.configuration_index() && core.is_leader();
        let has_own = || core.terms().term_at(core.commit()) == Some(core.term());
        let is_left =
            !is_known || !expected.is_joint() || core.transfer_target().is_some() || !has_own();
        check(is_left, "a joint configuration that is committed is left", || {
            format!("node {} leads and still uses {expected:?}", node + 1)
        })
    }

    /// The operator has requested a transfer: a new one may begin, perhaps to the same node.
    pub(in crate::sim) fn operator_transfers(&mut self) {
        self.transfers.fill(None);
    }

    /// Checks transfers and removed members after a node's timer.
    pub(super) fn timer_fired(&mut self, node: usize, core: &Core, now: Now) -> CheckResult {
        let current = core.transfer_target().filter(|_| core.is_leader());
        let begun = match (current, self.transfers[node]) {
            (Some(to), Some((term, known, since))) if (term, known) == (core.term(), to) => {
                Some((term, to, since))
            }
            (Some(to), _) => Some((core.term(), to, now.monotonic)),
            (None, _) => None,
        };
        self.transfers[node] = begun;
        let timeout = core.config().election_timeout.max;
        let is_timely = begun.is_none_or(|(_, _, since)| since.after(timeout) > now.monotonic);
        check(is_timely, "a transfer ends", || {
            format!("node {} still transfers: {begun:?} at {now:?}", node + 1)
        })?;
        if !core.is_leader() {
            return Ok(());
        }
        let (configuration, is_committed) =
            (core.configuration(), core.configuration_index() <= core.commit());
        let leaves = configuration.is_voter(core.id()) || !is_committed || current.is_some();
        check(leaves, "a removed leader steps down", || {
            format!("node {} leads with {configuration:?}", node + 1)
        })?;
        let strangers = core
            .status()
            .peers
            .into_iter()
            .filter(|peer| !configuration.members.contains_key(&peer.id));
        let strangers: Vec<NodeId> = strangers.map(|peer| peer.id).collect();
        check(strangers.is_empty() || !is_committed, "nothing is sent to removed nodes", || {
            format!("node {} leads with {configuration:?} and sends to {strangers:?}", node + 1)
        })
    }
}
