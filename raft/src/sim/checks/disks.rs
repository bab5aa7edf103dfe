//! What is on the platters: what a node is told is durable is, what starts again is what was
//! written, and what is committed is on a majority of them.

use std::collections::VecDeque;

use super::members::decides;
use super::verdict::{Verdict, check};
use crate::types::{Configuration, HardState, Index, Message, NodeId, Term, TermTable, Write};

/// See the module.
#[derive(Debug)]
pub(super) struct Disks {
    nodes: Vec<Platter>,
}

/// What a node's disk holds for certain, and the writes that may follow.
#[derive(Debug, Default)]
struct Platter {
    content: Content,
    /// Asked for and not known to be durable, in order, with their numbers.
    pending: VecDeque<(u64, Change)>,
    durable_sequence: u64,
    /// What the newest snapshot that is known to be durable includes.
    snapshot: Index,
    /// What was on it before it forgot. Leaders count it until one of them has learnt of that.
    forgotten: Vec<Term>,
}

#[derive(Clone, Debug)]
enum Change {
    Write(Write),
    /// A snapshot up to here takes the log's place, unless the log has its last entry. These are
    /// the terms up to there.
    Install(Vec<Term>),
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Content {
    hard_state: HardState,
    /// From index 1 on, whether or not the first ones are compacted.
    terms: Vec<Term>,
}

impl Content {
    fn change(&mut self, change: &Change) {
        match change {
            Change::Write(write) => self.write(write),
            Change::Install(terms) if self.terms.get(terms.len() - 1) == terms.last() => {}
            Change::Install(terms) => self.terms.clone_from(terms),
        }
    }

    fn write(&mut self, write: &Write) {
        if let Some(hard_state) = write.hard_state {
            self.hard_state = hard_state;
        }
        if let Some(from) = write.truncate_from {
            self.terms.truncate(from.previous().0 as usize);
        }
        self.terms.extend(write.entries.iter().map(|entry| entry.term));
    }
}

impl Disks {
    pub(super) fn new(nodes: usize) -> Disks {
        Disks { nodes: (0..nodes).map(|_| Platter::default()).collect() }
    }

    pub(super) fn issued(&mut self, node: usize, write: &Write) {
        self.nodes[node].pending.push_back((write.sequence, Change::Write(write.clone())));
    }

    pub(super) fn install_issued(&mut self, node: usize, sequence: u64, terms: Vec<Term>) {
        self.nodes[node].pending.push_back((sequence, Change::Install(terms)));
    }

    /// The disk has been put back to this.
    pub(super) fn forgot(
        &mut self,
        node: usize,
        hard_state: HardState,
        snapshot: Index,
        terms: Vec<Term>,
    ) {
        let before = std::mem::take(&mut self.nodes[node]);
        let content = Content { hard_state, terms };
        self.nodes[node] =
            Platter { content, snapshot, forgotten: before.content.terms, ..Platter::default() };
    }

    /// A leader has learnt that it was.
    pub(super) fn proved(&mut self, node: usize) {
        self.nodes[node].forgotten.clear();
    }

    /// The snapshot was damaged: nothing has changed.
    pub(super) fn install_refused(&mut self, node: usize, sequence: u64) {
        self.nodes[node].pending.retain(|(number, _)| *number != sequence);
    }

    pub(super) fn snapshot_durable(&mut self, node: usize, index: Index) {
        let known = &mut self.nodes[node].snapshot;
        *known = index.max(*known);
    }

    pub(super) fn durable(&mut self, node: usize, sequence: u64) {
        let platter = &mut self.nodes[node];
        while let Some((_, change)) =
            platter.pending.pop_front_if(|(number, _)| *number <= sequence)
        {
            platter.content.change(&change);
        }
        platter.durable_sequence = platter.durable_sequence.max(sequence);
    }

    pub(super) fn reported(&self, node: usize, sequence: u64) -> Verdict {
        let durable = self.nodes[node].durable_sequence;
        check(sequence <= durable, "durable before it is said to be", || {
            format!(
                "node {} is told that write {sequence} is durable; only {durable} writes are",
                node + 1
            )
        })
    }

    /// What a node starts with is what was durable, or that and some of the changes that followed,
    /// each whole.
    pub(super) fn recovered(
        &mut self,
        node: usize,
        hard_state: HardState,
        snapshot: Index,
        terms: &[Term],
        is_damaged: bool,
    ) -> Verdict {
        let platter = &mut self.nodes[node];
        let found = Content { hard_state, terms: terms.to_vec() };
        // A damaged one is passed over while the log still has all that it includes.
        check(snapshot >= platter.snapshot || is_damaged, "a snapshot outlives a restart", || {
            format!(
                "node {} starts with a snapshot of {snapshot}; durable was that of {}",
                node + 1,
                platter.snapshot
            )
        })?;
        let mut possible = platter.content.clone();
        let mut fits = possible == found;
        for (_, change) in &platter.pending {
            if fits {
                break;
            }
            possible.change(change);
            fits = possible == found;
        }
        check(fits, "what starts again is what was written", || {
            format!(
                "node {} starts with {found:?}; durable was {:?}, and then came {:?}",
                node + 1,
                platter.content,
                platter.pending
            )
        })?;
        let forgotten = std::mem::take(&mut platter.forgotten);
        *platter = Platter { content: found, snapshot, forgotten, ..Platter::default() };
        Ok(())
    }

    pub(super) fn is_on_a_majority(
        &self,
        node: usize,
        index: Index,
        term: Term,
        configuration: &Configuration,
    ) -> Verdict {
        let place = index.previous().0 as usize;
        let has = |node: NodeId| {
            let platter = &self.nodes[node.0 as usize - 1];
            [&platter.content.terms, &platter.forgotten]
                .iter()
                .any(|terms| terms.get(place) == Some(&term))
        };
        check(decides(configuration, has), "what is committed is on a majority's disks", || {
            let holders: Vec<u64> =
                (1..=self.nodes.len() as u64).filter(|&id| has(NodeId(id))).collect();
            format!(
                "node {} commits entry {index} of term {term}, durable on {holders:?}, in {configuration:?}",
                node + 1
            )
        })
    }

    /// A node that votes for the first time, by the entry at `index`, lacks at most `lag` of the
    /// entries before that one. What its leader has appended since then does not count: it was not
    /// there when the leader decided.
    pub(super) fn has_most(&self, voter: NodeId, index: Index, lag: u64) -> Verdict {
        let length = self.nodes[voter.0 as usize - 1].content.terms.len() as u64;
        check(length + lag >= index.previous().0, "a learner catches up before it votes", || {
            format!("node {voter} is promoted by entry {index} with a log of {length} on its disk")
        })
    }

    /// Who is told to take over has all of the leader's log on its disk, unless a later leader has
    /// taken that away since.
    pub(super) fn has_all(&self, leader: usize, told: &Message, terms: &TermTable) -> Verdict {
        let to = told.to;
        let (last, last_term) = (terms.last_index(), terms.last_term());
        let content = &self.nodes[to.0 as usize - 1].content;
        let found = content.terms.get(last.previous().0 as usize);
        let is_past = content.hard_state.term > told.term;
        check(
            is_past || found == Some(&last_term),
            "who is told to take over has everything on its disk",
            || {
                format!(
                    "node {} tells {to}, which has {found:?} at {last}, not {last_term}",
                    leader + 1
                )
            },
        )
    }
}
