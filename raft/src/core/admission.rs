//! Which senders' messages have an effect. Terms and logs decide what the effect is.
//!
//! Who may connect at all is decided before: a node of this cluster is refused only if a
//! configuration that is committed here shows that it was removed. This core never asks whether a
//! leader is a voter: a leader that removes itself leads until that is committed, and a follower
//! whose log is one configuration behind must elect and follow a node that it does not know.
//!
//! | message | has an effect if the sender is | otherwise |
//! |---|---|---|
//! | RequestPreVote, RequestVote | any node | |
//! | AppendEntries, InstallSnapshot | any node, and the same one for the whole term | ignored, reported |
//! | PreVote, Vote | a voter, of either half, in the candidate's configuration | ignored |
//! | Appended, Rejected, SnapshotProgress | a node that this leader replicates to | ignored |
//! | TimeoutNow | this term's leader, and the receiver votes by its own log | ignored |
//! | StateDigest | a node that this leader replicates to | ignored |
//! | StateDigests | this term's leader | ignored |
//! | RequestReadIndex | a member, learners included | refused |

use crate::types::{NodeId, Term};

use super::mutants::{Mutant, planted};
use super::{Action, Core, Event};

/// Messages of a second leader in a term that has one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct SecondLeaders {
    /// Messages that were ignored.
    pub(super) ignored: u64,
    /// The last term in which this was reported.
    reported: Term,
}

impl Core {
    /// Whether `from` may be the leader of this node's term: no other node is known to have led it.
    /// That outlives a campaign that changed no term (pre-vote), and this node's own stepping down.
    pub(super) fn may_lead_term(&self, from: NodeId) -> bool {
        let known =
            if planted(Mutant::TermLeaderForgotten) { self.leader } else { self.term_leader };
        known.is_none_or(|leader| leader == from)
    }

    /// Ignores a message of a second leader in one term, which election safety rules out: a node
    /// voted twice, because its disk forgot or was copied. The event comes once a term.
    pub(super) fn ignore_second_leader(&mut self, from: NodeId) {
        self.second_leaders.ignored = self.second_leaders.ignored.saturating_add(1);
        self.ignore();
        let Some(leader) = self.term_leader else { return };
        if self.second_leaders.reported < self.term {
            self.second_leaders.reported = self.term;
            let event = Event::SecondLeader { term: self.term, leader, other: from };
            self.actions.push_back(Action::Event(event));
        }
    }

    /// Whether `from` may ask this leader for a read index.
    pub(super) fn may_request_read_index(&self, from: NodeId) -> bool {
        self.log.configuration().members.contains_key(&from)
            || planted(Mutant::ReadIndexForStrangers)
    }
}
