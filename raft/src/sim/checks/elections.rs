//! Election safety, one vote a term, and numbers that never fall.

use std::collections::BTreeMap;

use super::verdict::{Verdict, Violation, check};
use crate::core::Core;
use crate::types::{HardState, Index, NodeId, Term, TermTable};

/// See the module.
#[derive(Debug)]
pub(super) struct Elections {
    /// Who led in each term, and in which of its lives.
    leaders: BTreeMap<Term, (usize, u64)>,
    /// For whom each node has voted, as others were told.
    votes: BTreeMap<(usize, Term), NodeId>,
    /// How the voter's log ended when it decided on its vote, by voter, term and candidate.
    decided: BTreeMap<(usize, Term, NodeId), (Term, Index)>,
    /// The last term and index of each candidate's log.
    candidates: BTreeMap<(usize, Term), (Term, Index)>,
    /// The highest term in which each node has promised something to others.
    promised: Vec<Term>,
    seen: Vec<Seen>,
}

/// What a node was seen to be, in this life.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    term: Term,
    commit: Index,
    applied: Index,
    leads: bool,
    last_index: Index,
    snapshot: Index,
}

impl Elections {
    pub(super) fn new(nodes: usize) -> Elections {
        Elections {
            leaders: BTreeMap::new(),
            votes: BTreeMap::new(),
            decided: BTreeMap::new(),
            candidates: BTreeMap::new(),
            promised: vec![Term(0); nodes],
            seen: vec![Seen::default(); nodes],
        }
    }

    pub(super) fn leaders(&self) -> u64 {
        self.leaders.len() as u64
    }

    pub(super) fn started(
        &mut self,
        node: usize,
        hard_state: HardState,
        snapshot: Index,
    ) -> Verdict {
        let promised = self.promised[node];
        check(hard_state.term >= promised, "a term outlives a restart", || {
            format!(
                "node {} starts in term {}, after it made promises in term {promised}",
                node + 1,
                hard_state.term
            )
        })?;
        self.seen[node] = Seen { term: hard_state.term, snapshot, ..Seen::default() };
        Ok(())
    }

    /// A node's disk has been put back to this.
    pub(super) fn forgot(&mut self, node: usize, hard_state: HardState) {
        self.promised[node] = hard_state.term;
    }

    pub(super) fn promised(&mut self, node: usize, term: Term) -> Verdict {
        self.promised[node] = self.promised[node].max(term);
        Ok(())
    }

    /// A node asks for votes with a log that ends so.
    pub(super) fn campaigned(&mut self, node: usize, term: Term, log: (Term, Index)) {
        self.candidates.insert((node, term), log);
    }

    /// A node whose log ends so writes down that it votes for a candidate.
    pub(super) fn decided(
        &mut self,
        node: usize,
        term: Term,
        candidate: NodeId,
        log: (Term, Index),
    ) {
        self.decided.insert((node, term, candidate), log);
    }

    /// A vote goes to a log that holds all that the voter's held when it decided (§3.6.1). Until
    /// the vote is on the disk and leaves, the voter may have heard from the term's leader, the
    /// candidate or another one, and its log have grown.
    pub(super) fn is_up_to_date(
        &self,
        node: usize,
        terms: &TermTable,
        term: Term,
        candidate: NodeId,
    ) -> Verdict {
        let now = (terms.last_term(), terms.last_index());
        let own = self.decided.get(&(node, term, candidate)).copied().unwrap_or(now);
        let other =
            self.candidates.get(&(candidate.0 as usize - 1, term)).copied().unwrap_or_default();
        check(own <= other, "a vote goes to a log that is as good", || {
            format!(
                "node {}'s log ends at {own:?}; it votes for {candidate}, whose log ends at {other:?}",
                node + 1
            )
        })
    }

    pub(super) fn voted(&mut self, node: usize, term: Term, candidate: NodeId) -> Verdict {
        self.promised(node, term)?;
        let &mut earlier = self.votes.entry((node, term)).or_insert(candidate);
        check(earlier == candidate, "one vote a term", || {
            format!(
                "node {} votes for {candidate} in term {term}, and has voted for {earlier}",
                node + 1
            )
        })
    }

    /// Whether `voter` has voted for this node in its term.
    pub(super) fn has_voted(&self, voter: NodeId, core: &Core) -> bool {
        self.votes.get(&(voter.0 as usize - 1, core.term())) == Some(&core.id())
    }

    /// True if the node has just become a leader.
    pub(super) fn observe(
        &mut self,
        node: usize,
        life: u64,
        core: &Core,
    ) -> Result<bool, Violation> {
        let seen = self.seen[node];
        let now = Seen {
            term: core.term(),
            commit: core.commit(),
            applied: core.applied(),
            leads: core.is_leader(),
            last_index: core.last_index(),
            snapshot: core.snapshot().map_or(Index(0), |snapshot| snapshot.index),
        };
        let never_falls = now.term >= seen.term
            && now.commit >= seen.commit
            && now.applied >= seen.applied
            && now.snapshot >= seen.snapshot;
        check(never_falls, "term, commit, applied and snapshot never fall in a life", || {
            format!("node {} went from {seen:?} to {now:?}", node + 1)
        })?;
        // A snapshot from the leader is on the disk before the state machine has its state.
        let is_ordered =
            now.applied.max(now.snapshot) <= now.commit && now.commit <= now.last_index;
        check(is_ordered, "snapshot, applied <= commit <= last", || {
            format!("node {}: {now:?}", node + 1)
        })?;
        let still_leads = seen.leads && now.leads && seen.term == now.term;
        check(!still_leads || now.last_index >= seen.last_index, "a leader only appends", || {
            format!("node {} leads term {} and went from {seen:?} to {now:?}", node + 1, now.term)
        })?;
        self.seen[node] = now;
        if !now.leads || still_leads {
            return Ok(false);
        }
        let leader = *self.leaders.entry(now.term).or_insert((node, life));
        check(leader == (node, life), "one leader a term", || {
            let (other, other_life) = leader;
            format!(
                "node {} (life {life}) leads term {}, as did node {} (life {other_life})",
                node + 1,
                now.term,
                other + 1
            )
        })?;
        self.voted(node, now.term, NodeId(node as u64 + 1))?;
        Ok(true)
    }
}
