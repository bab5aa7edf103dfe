//! A read is answered only by a round that began after it (dissertation, §6.4).
//!
//! An echo of an earlier round proves nothing, however late it arrives. The check covers read index
//! requests of followers, because request and answer are messages. It counts the rounds that were
//! sent and echoed, and does not trust the leader's own count.

use std::collections::{BTreeMap, BTreeSet};

use super::violation::{CheckResult, check};
use crate::core::Core;
use crate::types::{
    Append, Body, Configuration, Echo, FollowerReport, Index, Message, NodeId, Term,
};

/// The rounds and read index requests of all nodes. See the module.
#[derive(Debug)]
pub(super) struct Reads {
    leaders: Vec<LeaderRounds>,
}

/// The rounds and requests of a node as a leader, since its start.
#[derive(Clone, Debug, Default)]
struct LeaderRounds {
    term: Term,
    /// The latest round sent.
    sent: u64,
    /// The latest round echoed, by node.
    answered: BTreeMap<NodeId, u64>,
    /// The pending requests, by sender and number.
    questions: BTreeMap<(NodeId, u64), ReadQuestion>,
    /// The configuration in force when the last message arrived, and its entry.
    ///
    /// That message may have answered a read, and another configuration may come into force before
    /// the answer is sent.
    configuration: Option<(Index, Configuration)>,
}

#[derive(Clone, Copy, Debug)]
struct ReadQuestion {
    /// The latest round sent when the request first arrived.
    asked: u64,
    may_lease: bool,
}

impl LeaderRounds {
    fn of(&mut self, term: Term) -> &mut LeaderRounds {
        if self.term < term {
            *self = LeaderRounds { term, ..LeaderRounds::default() };
        }
        self
    }
}

impl Reads {
    pub(super) fn new(nodes: usize) -> Reads {
        Reads { leaders: vec![LeaderRounds::default(); nodes] }
    }

    pub(super) fn started(&mut self, node: usize) {
        self.leaders[node] = LeaderRounds::default();
    }

    /// A node is about to receive this message.
    pub(super) fn observe_received(&mut self, node: usize, core: &Core, message: &Message) {
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
            // If a lease may confirm the read, no round is needed; the clients' histories are
            // checked instead.
            Body::RequestReadIndex { request, may_lease } => {
                let question = ReadQuestion { asked: leader.sent, may_lease };
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

    /// A node sends this message.
    pub(super) fn observe_sent(
        &mut self,
        node: usize,
        core: &Core,
        message: &Message,
    ) -> CheckResult {
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
