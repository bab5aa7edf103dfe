//! What the digests of one entry say, as pure functions of the configuration and of what is
//! reported.

use std::collections::{BTreeMap, BTreeSet};

use crate::core::mutants::{Mutant, planted};
use crate::core::quorum::{Tally, tally};
use crate::types::{Configuration, Digest, NodeId};

/// The digests of one entry, by the nodes that reported them.
pub(in crate::core) type Reported = BTreeMap<NodeId, Digest>;

/// Two nodes whose digests of one entry and one version differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct DigestConflict {
    /// A node.
    pub node: NodeId,
    /// Its digest.
    pub digest: Digest,
    /// Another node.
    pub other: NodeId,
    /// The digest of that one.
    pub other_digest: Digest,
}

/// Whether two digests say the same. Those of different versions say nothing of each other.
fn differ(one: Digest, other: Digest) -> bool {
    let is_comparable = one.version == other.version || planted(Mutant::DigestsAcrossVersions);
    is_comparable && one.value != other.value
}

/// The value that a majority of the voters reported in this version. In a joint configuration it
/// takes a majority of both halves.
pub(super) fn majority(
    configuration: &Configuration,
    reported: &Reported,
    version: u32,
) -> Option<u64> {
    let of_version = reported.values().filter(|digest| digest.version == version);
    let values: BTreeSet<u64> = of_version.map(|digest| digest.value).collect();
    values.into_iter().find(|&value| {
        let has_it = |node| {
            let reported = reported.get(&node);
            reported.is_some_and(|digest| (digest.version, digest.value) == (version, value))
        };
        tally(configuration, |node| Some(has_it(node))) == Tally::Won
    })
}

/// The value from which this digest differs, and by which its node must stop: that of a majority.
pub(super) fn outvoted_by(
    configuration: &Configuration,
    reported: &Reported,
    own: Digest,
) -> Option<u64> {
    if planted(Mutant::MinorityStopsNode) {
        let of_voters = reported.iter().filter(|(node, _)| configuration.is_voter(**node));
        let mut others = of_voters.map(|(_, digest)| *digest);
        return others.find(|&other| differ(own, other)).map(|other| other.value);
    }
    let versions: BTreeSet<u32> = reported.values().map(|digest| digest.version).collect();
    versions.into_iter().find_map(|version| {
        let value = majority(configuration, reported, version)?;
        differ(own, Digest { version, value, ..own }).then_some(value)
    })
}

/// The nodes that a majority outvotes.
pub(super) fn outvoted(configuration: &Configuration, reported: &Reported) -> BTreeSet<NodeId> {
    let is_outvoted = |digest: &Digest| outvoted_by(configuration, reported, *digest).is_some();
    reported.iter().filter(|(_, digest)| is_outvoted(digest)).map(|(&node, _)| node).collect()
}

/// Two nodes that differ although no majority says which of them is wrong.
pub(super) fn conflict(
    configuration: &Configuration,
    reported: &Reported,
) -> Option<DigestConflict> {
    let mut first: BTreeMap<u32, (NodeId, Digest)> = BTreeMap::new();
    reported.iter().find_map(|(&other, &other_digest)| {
        let version = other_digest.version;
        let (node, digest) = *first.entry(version).or_insert((other, other_digest));
        let is_open = digest.value != other_digest.value
            && majority(configuration, reported, version).is_none();
        is_open.then_some(DigestConflict { node, digest, other, other_digest })
    })
}

/// Whether voters that have not reported can still make a majority for a value of this version.
pub(super) fn may_resolve(
    configuration: &Configuration,
    reported: &Reported,
    version: u32,
) -> bool {
    let of_version = reported.values().filter(|digest| digest.version == version);
    let values: BTreeSet<u64> = of_version.map(|digest| digest.value).collect();
    values.into_iter().any(|value| {
        let may_have = |node| {
            let reported = reported.get(&node);
            reported.is_none_or(|digest| (digest.version, digest.value) == (version, value))
        };
        tally(configuration, |node| Some(may_have(node))) == Tally::Won
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::types::{Index, Member};

    fn digest(version: u32, value: u64) -> Digest {
        Digest { index: Index(10), version, value }
    }

    fn voters(count: u64) -> Configuration {
        Configuration::of_voters((1..=count).map(|node| (NodeId(node), Member::default())))
    }

    fn reported(digests: &[(u64, u32, u64)]) -> Reported {
        digests
            .iter()
            .map(|&(node, version, value)| (NodeId(node), digest(version, value)))
            .collect()
    }

    #[test]
    fn two_of_three_outvote_the_third() {
        let all = reported(&[(1, 1, 7), (2, 1, 8), (3, 1, 7)]);
        assert_eq!(outvoted(&voters(3), &all), [NodeId(2)].into());
        assert_eq!(outvoted_by(&voters(3), &all, digest(1, 8)), Some(7));
        assert_eq!(conflict(&voters(3), &all), None, "a majority has decided");
    }

    #[test]
    fn two_against_one_with_one_away_is_no_majority() {
        let all = reported(&[(1, 1, 7), (2, 1, 7), (3, 1, 8)]);
        assert_eq!(outvoted(&voters(4), &all), [].into());
        let conflict = conflict(&voters(4), &all).unwrap();
        assert_eq!((conflict.node, conflict.other), (NodeId(1), NodeId(3)));
        assert!(may_resolve(&voters(4), &all, 1), "the fourth may be the third for 7");
    }

    #[test]
    fn three_values_of_three_nodes_stop_nobody() {
        let all = reported(&[(1, 1, 7), (2, 1, 8), (3, 1, 9)]);
        assert_eq!(outvoted(&voters(3), &all), [].into());
        assert!(conflict(&voters(3), &all).is_some());
        assert!(!may_resolve(&voters(3), &all, 1));
    }

    #[test]
    fn versions_are_not_compared() {
        let all = reported(&[(1, 1, 7), (2, 1, 7), (3, 2, 8)]);
        assert_eq!((outvoted(&voters(3), &all), conflict(&voters(3), &all)), ([].into(), None));
    }

    #[test]
    fn a_learner_is_outvoted_and_does_not_vote() {
        let mut configuration = voters(2);
        configuration.learners.insert(NodeId(3));
        let all = reported(&[(1, 1, 7), (2, 1, 7), (3, 1, 8)]);
        assert_eq!(outvoted(&configuration, &all), [NodeId(3)].into());
        let split = reported(&[(1, 1, 7), (2, 1, 8), (3, 1, 8)]);
        assert_eq!(outvoted(&configuration, &split), [].into());
    }

    #[test]
    fn a_joint_configuration_needs_a_majority_of_both_halves() {
        let mut joint = voters(3);
        joint.outgoing = [NodeId(3), NodeId(4), NodeId(5)].into();
        let incoming = reported(&[(1, 1, 7), (2, 1, 7), (3, 1, 8)]);
        assert_eq!(outvoted(&joint, &incoming), [].into());
        let both = reported(&[(1, 1, 7), (2, 1, 7), (3, 1, 8), (4, 1, 7), (5, 1, 7)]);
        assert_eq!(outvoted(&joint, &both), [NodeId(3)].into());
    }

    proptest! {
        /// A node is outvoted if, and only if, more than half of all voters, itself aside, have one
        /// other value of its version; and no two nodes are outvoted by each other.
        #[test]
        fn only_a_majority_outvotes(
            count in 1..8u64,
            digests in prop::collection::btree_map(1..10u64, (1..3u32, 1..4u64), 0..9),
        ) {
            let configuration = voters(count);
            let all: Reported =
                digests
                .iter()
                .map(|(&node, &(version, value))| (NodeId(node), digest(version, value)))
                .collect();
            let outvoted = outvoted(&configuration, &all);
            for (&node, &own) in &all {
                let of_voters = || all.iter().filter(|(voter, _)| voter.0 <= count);
                let has_majority = |value| {
                    let with = of_voters()
                        .filter(|(_, d)| d.version == own.version && d.value == value);
                    with.count() as u64 * 2 > count
                };
                let expected = (1..4).any(|value| value != own.value && has_majority(value));
                prop_assert_eq!(outvoted.contains(&node), expected);
                let value = outvoted_by(&configuration, &all, own);
                prop_assert_eq!(value.is_some(), expected);
                if let Some(value) = value {
                    let is_winner =
                        |d: &Digest| (d.version, d.value) == (own.version, value);
                    let lost = of_voters().any(|(w, d)| is_winner(d) && outvoted.contains(w));
                    prop_assert!(!lost);
                }
            }
            let differ = all.values().any(|one| all.values().any(|other| {
                one.version == other.version && one.value != other.value
                    && !(1..4).any(|value| {
                        let with = all.iter().filter(|(voter, d)| {
                            voter.0 <= count && (d.version, d.value) == (one.version, value)
                        });
                        with.count() as u64 * 2 > count
                    })
            }));
            prop_assert_eq!(conflict(&configuration, &all).is_some(), differ);
        }
    }
}
