//! Election safety, one vote in each term, and values that never decrease.

use std::collections::BTreeMap;

use super::violation::{CheckResult, Violation, check};
use crate::core::Core;
use crate::types::{HardState, Index, NodeId, Term, TermTable};

/// Leaders, votes and the state of each node. See the module.
#[derive(Debug)]
pub(super) struct Elections {
    /// The leader of each term, and its life.
    leaders: BTreeMap<Term, (usize, u64)>,
    /// The candidate for whom each node has sent its vote.
    votes: BTreeMap<(usize, Term), NodeId>,
    /// The end of the voter's log when it decided on its vote, by voter, term and candidate.
    decided: BTreeMap<(usize, Term, NodeId), (Term, Index)>,
    /// The last term and index of each candidate's log.
    candidates: BTreeMap<(usize, Term), (Term, Index)>,
    /// The highest term in which each node has made a promise.
    promised: Vec<Term>,
    observed: Vec<Observed>,
}

/// The last observed state of a node since its start.
#[derive(Clone, Copy, Debug, Default)]
struct Observed {
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
            observed: vec![Observed::default(); nodes],
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
    ) -> CheckResult {
        let promised = self.promised[node];
        check(hard_state.term >= promised, "a term survives a restart", || {
            format!(
                "node {} starts in term {}, after it made promises in term {promised}",
                node + 1,
                hard_state.term
            )
        })?;
        self.observed[node] = Observed { term: hard_state.term, snapshot, ..Observed::default() };
        Ok(())
    }

    /// A node's disk was put back to this state.
    pub(super) fn on_put_back(&mut self, node: usize, hard_state: HardState) {
        self.promised[node] = hard_state.term;
    }

    pub(super) fn promised(&mut self, node: usize, term: Term) -> CheckResult {
        self.promised[node] = self.promised[node].max(term);
        Ok(())
    }

    /// A node requests votes; `log` is the end of its log.
    pub(super) fn campaigned(&mut self, node: usize, term: Term, log: (Term, Index)) {
        self.candidates.insert((node, term), log);
    }

    /// A node writes its vote for a candidate; `log` is the end of its log.
    pub(super) fn decided(
        &mut self,
        node: usize,
        term: Term,
        candidate: NodeId,
        log: (Term, Index),
    ) {
        self.decided.insert((node, term, candidate), log);
    }

    /// Checks that the candidate's log is as up to date as the voter's was when it decided
    /// (§3.6.1).
    ///
    /// Before the durable vote is sent, the voter may hear from the term's leader and its log may
    /// grow.
    pub(super) fn check_up_to_date(
        &self,
        node: usize,
        terms: &TermTable,
        term: Term,
        candidate: NodeId,
    ) -> CheckResult {
        let now = (terms.last_term(), terms.last_index());
        let own = self.decided.get(&(node, term, candidate)).copied().unwrap_or(now);
        let other =
            self.candidates.get(&(candidate.0 as usize - 1, term)).copied().unwrap_or_default();
        check(own <= other, "a vote goes to a log that is as up to date", || {
            format!(
                "node {}'s log ends at {own:?}; it votes for {candidate}, whose log ends at \
                 {other:?}",
                node + 1
            )
        })
    }

    pub(super) fn voted(&mut self, node: usize, term: Term, candidate: NodeId) -> CheckResult {
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

    /// Checks a node's state; returns whether it has just become a leader.
    pub(super) fn observe(
        &mut self,
        node: usize,
        life: u64,
        core: &Core,
    ) -> Result<bool, Violation> {
        let seen = self.observed[node];
        let now = Observed {
            term: core.term(),
            commit: core.commit(),
            applied: core.applied(),
            leads: core.is_leader(),
            last_index: core.last_index(),
            snapshot: core.snapshot().map_or(Index(0), |snapshot| snapshot.index),
        };
        let never_decreases = now.term >= seen.term
            && now.commit >= seen.commit
            && now.applied >= seen.applied
            && now.snapshot >= seen.snapshot;
        check(never_decreases, "term, commit, applied and snapshot never decrease", || {
            format!("node {} went from {seen:?} to {now:?}", node + 1)
        })?;
        // A leader's snapshot is on disk before the state machine is restored from it.
        let is_ordered =
            now.applied.max(now.snapshot) <= now.commit && now.commit <= now.last_index;
        check(is_ordered, "snapshot, applied <= commit <= last", || {
            format!("node {}: {now:?}", node + 1)
        })?;
        let still_leads = seen.leads && now.leads && seen.term == now.term;
        check(!still_leads || now.last_index >= seen.last_index, "a leader only appends", || {
            format!("node {} leads term {} and went from {seen:?} to {now:?}", node + 1, now.term)
        })?;
        self.observed[node] = now;
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
