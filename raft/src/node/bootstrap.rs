//! Bootstrap: the initial members of a cluster form it once, and together.
//!
//! Every initial member knows the others' ids. It takes part in the first election only once it has
//! met all of them, and none of them knew a term.
//!
//! A majority would be enough to elect a leader. But a majority of initial members whose disks were
//! wiped is a majority too: it would bootstrap the same cluster again, empty, while a member that
//! remembers the cluster is away. An initial member that meets one with a term belongs to a cluster
//! that exists. It waits until that cluster's leader calls it, or rejects it for its new disk.
//!
//! Such a member must not vote either, not only not campaign. A member that has met all the others
//! may be cut off while they bootstrap the cluster, so it does not know the cluster. A wiped member
//! that has met it could elect it. But the wiped one has not met all the others.
//!
//! ```text
//!  new      1, 2, 3 know nothing           all meet, one campaigns; later a majority is enough
//!  wiped    2, 3 know nothing, 1 is away   they wait for 1
//!           1 comes back                   1 rejects them: the configuration holds their old disks
//! ```
//!
//! This cannot see that *all* initial members were wiped while members that joined later remember
//! the cluster. Those members reject them.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use super::log_throttle::LogThrottle;
use crate::{
    types::{Configuration, NodeId},
    wire::Hello,
};

/// How long a node waits before the log names the initial members that it waits for.
const WARN_AFTER: Duration = Duration::from_secs(5);

/// The initial members that a node without a term waits for.
#[derive(Debug, Default)]
pub(super) struct Bootstrap {
    not_met: BTreeSet<NodeId>,
    /// An initial member that knows a term.
    exists_at: Option<NodeId>,
    since: Option<Instant>,
    throttle: LogThrottle,
}

impl Bootstrap {
    /// Waits for the voters of this configuration, except for `us`.
    pub(super) fn new(configuration: &Configuration, us: NodeId, now: Instant) -> Bootstrap {
        let not_met = configuration.voters.iter().copied().filter(|&id| id != us).collect();
        Bootstrap { not_met, since: Some(now), ..Bootstrap::default() }
    }

    /// Whether the node must wait.
    pub(super) fn is_waiting(&self) -> bool {
        !self.not_met.is_empty()
    }

    /// Takes note of a node that was admitted.
    pub(super) fn meet(&mut self, theirs: &Hello) {
        if theirs.is_blank {
            self.not_met.remove(&theirs.node);
            self.exists_at.take_if(|id| *id == theirs.node);
        } else if self.not_met.contains(&theirs.node) {
            self.exists_at = Some(theirs.node);
        }
    }

    /// Ends the wait: the node belongs to a cluster that exists.
    pub(super) fn end(&mut self) {
        self.not_met.clear();
    }

    /// The line to log now about the wait, if one is due.
    pub(super) fn warning(&mut self, now: Instant) -> Option<String> {
        if !self.is_waiting()
            || self.since.is_some_and(|since| now.saturating_duration_since(since) < WARN_AFTER)
        {
            return None;
        }
        let warning = match self.exists_at {
            Some(id) => format!(
                "node {id} knows this cluster: it was bootstrapped before, and this node is not \
                 part of it until its leader calls. If this node's disk was wiped or replaced, \
                 stop this node, let it join with an empty data folder and a new id, and remove \
                 its old id. If that happened to most nodes, 'raft recover' makes a new cluster \
                 from node {id}'s folder"
            ),
            None => {
                let not_met: Vec<String> = self.not_met.iter().map(ToString::to_string).collect();
                format!(
                    "a new cluster is bootstrapped once all its initial members have met, and this \
                     node waits for {}: start them. If the cluster existed before and this node's \
                     disk was wiped, it must not be bootstrapped again: bring the others back, and \
                     let this machine join under a new id",
                    not_met.join(", ")
                )
            }
        };
        self.throttle.should_log(&warning, now).then_some(warning)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::types::{ClusterId, DiskId, FeatureLevel, GroupId, Life, Member};
    use crate::wire::Version;

    fn hello(node: u64, is_blank: bool) -> Hello {
        Hello {
            cluster: ClusterId(7),
            group: GroupId(0),
            node: NodeId(node),
            disk: DiskId(node.into()),
            life: Life { count: 1, nonce: 1 },
            versions: Version::OLDEST..=Version::NEWEST,
            feature_level: FeatureLevel::CURRENT,
            position: None,
            has_forgotten: false,
            is_blank,
            address: String::new(),
            metadata: Bytes::new(),
        }
    }

    fn bootstrap_of_three() -> (Bootstrap, Instant) {
        let (initial_members, now) =
            ([1, 2, 3].map(|id| (NodeId(id), Member::default())), Instant::now());
        (Bootstrap::new(&Configuration::of_voters(initial_members), NodeId(1), now), now)
    }

    #[test]
    fn a_node_waits_until_all_have_met_and_none_knew_a_term() {
        let (mut bootstrap, now) = bootstrap_of_three();
        assert_eq!(bootstrap.warning(now + WARN_AFTER / 2), None, "they may be on their way");
        bootstrap.meet(&hello(3, true));
        bootstrap.meet(&hello(4, true));
        assert!(bootstrap.is_waiting(), "one is missing");
        let warning = bootstrap.warning(now + WARN_AFTER).expect("the log names it");
        assert!(warning.contains("waits for 2:"), "{warning}");
        assert_eq!(bootstrap.warning(now + WARN_AFTER), None, "once");
        bootstrap.meet(&hello(2, false));
        assert!(bootstrap.is_waiting(), "the cluster exists");
        let warning = bootstrap.warning(now + WARN_AFTER).expect("the log says so");
        assert!(warning.contains("node 2 knows this cluster"), "{warning}");
        bootstrap.meet(&hello(2, true));
        assert!(!bootstrap.is_waiting(), "that one was wiped, too");
        assert_eq!(bootstrap.warning(now + WARN_AFTER * 100), None);
    }

    /// A crash can lose a first term that was not on the disk yet.
    #[test]
    fn a_member_that_forgot_its_term_does_not_know_the_cluster() {
        let (mut bootstrap, now) = bootstrap_of_three();
        bootstrap.meet(&hello(2, false));
        bootstrap.meet(&hello(2, true));
        let warning = bootstrap.warning(now + WARN_AFTER).expect("one is missing");
        assert!(warning.contains("waits for 3:"), "{warning}");
    }

    #[test]
    fn a_node_that_knows_a_term_waits_for_no_other() {
        let (mut bootstrap, _) = bootstrap_of_three();
        bootstrap.end();
        assert!(!bootstrap.is_waiting());
    }
}
