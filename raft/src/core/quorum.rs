//! Majorities (§3.4, §3.6), in simple and in joint configurations (§4.3).
//!
//! Pure functions of a configuration and of what is known of each node, computed from scratch each
//! time: no count has to be kept up to date. They allocate nothing. Of more than [`SMALL_CLUSTER`]
//! voters the work is the square of their number.

use std::collections::BTreeSet;

use crate::types::{Configuration, NodeId};

use super::mutants::{Mutant, planted};

/// Up to this number of voters the values are sorted.
const SMALL_CLUSTER: usize = 7;

/// The state of a vote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tally {
    /// A majority said yes.
    Won,
    /// A majority can no longer say yes.
    Lost,
    /// Neither, yet.
    Open,
}

/// The number of voters in a majority of `voters`.
pub(super) fn majority(voters: usize) -> usize {
    voters / 2 + 1
}

/// The greatest value that a quorum has reached or passed; `None` without voters.
///
/// ```text
/// voters    1  2  3  4  5
/// value     7  3  9  4  9     a majority (three) has reached 7, only two have reached 9: it is 7
/// ```
pub(super) fn agreed<T: Ord + Copy>(
    configuration: &Configuration,
    value: impl Fn(NodeId) -> T,
) -> Option<T> {
    let incoming = reached_by_majority(&configuration.voters, &value)?;
    if configuration.outgoing.is_empty() || planted(Mutant::JointWithOneHalf) {
        return Some(incoming);
    }
    reached_by_majority(&configuration.outgoing, &value).map(|outgoing| incoming.min(outgoing))
}

/// The state of a vote; `vote` is `None` for a node that has not answered. A vote without voters
/// stays open.
pub(super) fn tally(configuration: &Configuration, vote: impl Fn(NodeId) -> Option<bool>) -> Tally {
    let incoming = tally_half(&configuration.voters, &vote);
    if configuration.outgoing.is_empty() || planted(Mutant::JointWithOneHalf) {
        return incoming;
    }
    match (incoming, tally_half(&configuration.outgoing, &vote)) {
        (Tally::Lost, _) | (_, Tally::Lost) => Tally::Lost,
        (Tally::Won, Tally::Won) => Tally::Won,
        _ => Tally::Open,
    }
}

fn reached_by_majority<T: Ord + Copy>(
    voters: &BTreeSet<NodeId>,
    value: &impl Fn(NodeId) -> T,
) -> Option<T> {
    let needed = majority(voters.len());
    if voters.len() <= SMALL_CLUSTER {
        let mut marks = [value(*voters.first()?); SMALL_CLUSTER];
        let marks = &mut marks[..voters.len()];
        marks.iter_mut().zip(voters).skip(1).for_each(|(mark, &node)| *mark = value(node));
        marks.sort_unstable();
        return Some(marks[voters.len() - needed]);
    }
    let candidates = voters.iter().map(|&node| value(node));
    candidates
        .filter(|&mark| voters.iter().filter(|&&node| value(node) >= mark).count() >= needed)
        .max()
}

fn tally_half(voters: &BTreeSet<NodeId>, vote: &impl Fn(NodeId) -> Option<bool>) -> Tally {
    if voters.is_empty() {
        return Tally::Open;
    }
    let count = |answer| voters.iter().filter(|&&node| vote(node) == Some(answer)).count();
    let needed = majority(voters.len());
    if count(true) >= needed {
        Tally::Won
    } else if count(false) > voters.len() - needed {
        Tally::Lost
    } else {
        Tally::Open
    }
}

#[cfg(test)]
mod tests {

    use proptest::prelude::*;

    use super::*;

    fn nodes() -> impl Strategy<Value = BTreeSet<NodeId>> {
        prop::collection::btree_set((1u64..=9).prop_map(NodeId), 0..=9)
    }

    /// Every subset of `voters` that is a majority of it.
    fn majorities(voters: &BTreeSet<NodeId>) -> Vec<Vec<NodeId>> {
        let voters: Vec<_> = voters.iter().copied().collect();
        (0u32..1 << voters.len())
            .map(|mask| {
                (0..voters.len())
                    .filter(|bit| mask >> bit & 1 == 1)
                    .map(|bit| voters[bit])
                    .collect::<Vec<_>>()
            })
            .filter(|subset| subset.len() * 2 > voters.len())
            .collect()
    }

    fn configuration(voters: &BTreeSet<NodeId>, outgoing: &BTreeSet<NodeId>) -> Configuration {
        let (voters, outgoing) = (voters.clone(), outgoing.clone());
        Configuration { voters, outgoing, ..Configuration::default() }
    }

    proptest! {
        #[test]
        fn agrees_with_trying_every_majority(
            voters in nodes(),
            outgoing in nodes(),
            marks in prop::collection::vec(0u64..5, 10),
        ) {
            let configuration = configuration(&voters, &outgoing);
            let best = |half: &BTreeSet<NodeId>| {
                let least = |m: &Vec<NodeId>| m.iter().map(|node| marks[node.0 as usize]).min();
                majorities(half).iter().filter_map(least).max()
            };
            let expected = match (best(&voters), best(&outgoing)) {
                (a, None) => a,
                (a, b) => a.min(b),
            };
            prop_assert_eq!(agreed(&configuration, |node| marks[node.0 as usize]), expected);
        }

        #[test]
        fn tallies_as_trying_every_majority_does(
            voters in nodes(),
            outgoing in nodes(),
            votes in prop::collection::btree_map((1u64..=9).prop_map(NodeId), any::<bool>(), 0..=9),
        ) {
            let configuration = configuration(&voters, &outgoing);
            let possible = |half: &BTreeSet<NodeId>, missing: bool| {
                let says_yes = |node| votes.get(node).copied().unwrap_or(missing);
                majorities(half).iter().any(|majority| majority.iter().all(says_yes))
            };
            let won = |half: &BTreeSet<NodeId>| possible(half, false);
            let lost = |half: &BTreeSet<NodeId>| !half.is_empty() && !possible(half, true);
            let joint = !outgoing.is_empty();
            let expected = if lost(&voters) || lost(&outgoing) {
                Tally::Lost
            } else if won(&voters) && (!joint || won(&outgoing)) {
                Tally::Won
            } else {
                Tally::Open
            };
            prop_assert_eq!(tally(&configuration, |node| votes.get(&node).copied()), expected);
        }
    }
}
