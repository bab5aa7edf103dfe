//! Terms that no cluster reaches. A term counts elections, so one that is far beyond our own comes
//! from a damaged message or a damaged disk, not from elections.
//!
//! A node that adopted such a term would drive the whole cluster there, and near 2^64 no election
//! could succeed. So a message from too far ahead is ignored as if it had been lost: neither term,
//! nor vote, nor a timer changes. No clock is involved. The bound protects against accidents; only
//! admission protects against attackers.

use std::time::Duration;

use crate::types::{NodeId, Term, Time};

use super::mutants::{Mutant, planted};
use super::{Action, Core, Event};

/// The least time between two events about ignored terms.
const REPORT_INTERVAL: Duration = Duration::from_secs(10);

/// What was ignored.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct IgnoredTerms {
    /// Messages.
    pub(super) count: u64,
    /// The next event comes no earlier.
    quiet_until: Time,
}

impl Core {
    /// Whether a message's term cannot be the outcome of elections since ours. A node that knows
    /// nothing yet cannot tell how far its cluster has come.
    pub(super) fn is_term_too_far(&self, term: Term) -> bool {
        if term <= self.term || planted(Mutant::AnyTermAdopted) {
            return false;
        }
        let is_blank = self.term == Term(0) && self.log.last_index().0 == 0;
        let most = if is_blank {
            Term::MAX
        } else {
            Term::MAX.min(self.term.saturating_add(Term::JUMP_MAX))
        };
        term > most
    }

    /// Takes note of a message that is ignored for its term.
    pub(super) fn ignore_term(&mut self, from: NodeId, term: Term) {
        self.ignored_terms.count = self.ignored_terms.count.saturating_add(1);
        if self.ignored_terms.quiet_until <= self.now {
            self.ignored_terms.quiet_until = self.now.after(REPORT_INTERVAL);
            self.actions.push_back(Action::Event(Event::TermIgnored { from, term }));
        }
    }

    /// Whether there is a term after ours to campaign in.
    pub(super) fn has_next_term(&self) -> bool {
        self.term < Term::MAX || planted(Mutant::AnyTermAdopted)
    }

    /// A saved term beyond the greatest came from a damaged or edited disk. It is never lowered
    /// under the same cluster id, so the node stays out of all elections, and reports it.
    pub(super) fn is_out_of_terms(&self) -> bool {
        self.term > Term::MAX
    }
}
