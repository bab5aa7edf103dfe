//! A read is answered by a round that began after it (§6.4 of the dissertation): an answer to an
//! earlier one proves nothing, however late it comes.
//!
//! Looks at followers' questions to their leader, because both question and answer are messages.
//! Rounds are counted as they were sent and echoed, not as the leader has them in its books.

use std::collections::{BTreeMap, BTreeSet};

use super::verdict::{Verdict, check};
use crate::core::Core;
use crate::types::{
    Append, Body, Configuration, Echo, FollowerReport, Index, Message, NodeId, Term,
};

/// See the module.
#[derive(Debug)]
pub(super) struct Reads {
    leaders: Vec<Leader>,
}

/// What a node has said and heard as a leader, in this life.
#[derive(Clone, Debug, Default)]
struct Leader {
    term: Term,
    /// The latest round that it has sent.
    sent: u64,
    /// The latest round that it was answered, by node.
    answered: BTreeMap<NodeId, u64>,
    /// What it was asked, by asker and number.
    questions: BTreeMap<(NodeId, u64), Question>,
    /// The configuration that was in force when the last message came, and the entry that brought
    /// it: one that this message has answered a read by may be followed by another before anybody
    /// sees that answer.
    configuration: Option<(Index, Configuration)>,
}

#[derive(Clone, Copy, Debug)]
struct Question {
    /// The round that it had sent when the question came first.
    asked: u64,
    may_lease: bool,
}

impl Leader {
    fn of(&mut self, term: Term) -> &mut Leader {
        if self.term < term {
            *self = Leader { term, ..Leader::default() };
        }
        self
    }
}

impl Reads {
    pub(super) fn new(nodes: usize) -> Reads {
        Reads { leaders: vec![Leader::default(); nodes] }
    }

    pub(super) fn started(&mut self, node: usize) {
        self.leaders[node] = Leader::default();
    }

    /// A node is about to be told this.
    pub(super) fn hears(&mut self, node: usize, core: &Core, message: &Message) {
        if !core.is_leader() {
            return;
        }
        let leader = self.leaders[node].of(core.term());
        if leader
            .configuration
            .as_ref()
            .is_none_or(|(index, _)| *index != core.configuration_index())
        {
            leader.configuration = Some((core.configuration_index(), core.configuration().clone()));
        }
        match message.body {
            // Where a lease is enough, no round need prove anything: the clients' histories are
            // looked at for that.
            Body::RequestReadIndex { request, may_lease } => {
                let question = Question { asked: leader.sent, may_lease };
                leader.questions.entry((message.from, request)).or_insert(question);
            }
            Body::Appended { report: FollowerReport { round, .. }, .. }
            | Body::Rejected { report: FollowerReport { round, .. }, .. }
            | Body::SnapshotProgress { report: FollowerReport { round, .. }, .. }
                if message.term == core.term() && round <= leader.sent =>
            {
                let answered = leader.answered.entry(message.from).or_default();
                *answered = round.max(*answered);
            }
            _ => {}
        }
    }

    /// A node says this.
    pub(super) fn says(&mut self, node: usize, core: &Core, message: &Message) -> Verdict {
        let leader = self.leaders[node].of(message.term);
        match message.body {
            Body::AppendEntries(Append { echo: Echo { round, .. }, .. })
            | Body::InstallSnapshot { echo: Echo { round, .. }, .. } => {
                leader.sent = round.max(leader.sent);
                Ok(())
            }
            Body::ReadIndex { request, index: Some(index) } => {
                let question = leader.questions.get(&(message.to, request)).copied();
                if question.is_some_and(|question| question.may_lease) {
                    return Ok(());
                }
                let asked = question.map(|question| question.asked);
                let proves = |&voter: &NodeId| {
                    let answered = leader.answered.get(&voter).copied();
                    voter == message.from || asked.is_some_and(|asked| answered > Some(asked))
                };
                let is_majority = |voters: &BTreeSet<NodeId>| {
                    voters.is_empty()
                        || voters.iter().filter(|voter| proves(voter)).count() > voters.len() / 2
                };
                let is_proven_by = |configuration: &Configuration| {
                    [&configuration.voters, &configuration.outgoing].into_iter().all(is_majority)
                };
                let is_proven = is_proven_by(core.configuration())
                    || leader
                        .configuration
                        .as_ref()
                        .is_some_and(|(_, earlier)| is_proven_by(earlier));
                check(is_proven, "a read is answered by a round that began after it", || {
                    format!(
                        "node {} answers {index} to {} (asked in round {asked:?}): {leader:?}",
                        node + 1,
                        message.to
                    )
                })
            }
            _ => Ok(()),
        }
    }
}
