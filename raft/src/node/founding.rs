//! A cluster is founded once, by all of its founders.
//!
//! Founders need not be told when they all are there: each knows who they are, and campaigns as
//! soon as it has met the others. A majority would be enough to elect a leader, but a majority of
//! founders whose disks were wiped is enough, too, and would found the same cluster anew, empty,
//! while who remembers it is away. So a founder that knows of no term has a part in the election of
//! the first only once it has met every other founder, and none of them knew a term either. Who
//! meets one that does belongs to a cluster that exists: it waits until that cluster's leader calls
//! it, or turns it away for its new disk.
//!
//! Not to campaign would not be enough. A founder may have met all the others and then have been
//! cut off while these founded the cluster, so it does not know; and one that was wiped, and has
//! met it, would elect it. The wiped one has not met them all.
//!
//! ```text
//!  founders   1, 2, 3 know nothing             all meet, one campaigns; from then on a majority is enough
//!  wiped      2, 3 know nothing, 1 is away     they wait for 1
//!             1 comes back                     1 turns them away: the configuration says which disks they had
//! ```
//!
//! What this cannot see: founders that are wiped *all*, while others, who joined later, remember
//! the cluster. These turn them away.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use super::told::Told;
use crate::{
    types::{Configuration, NodeId},
    wire::Hello,
};

/// Patience with founders who are not there yet, before the log says who is waited for.
const PATIENCE: Duration = Duration::from_secs(5);

/// Whom a founder that knows of no term waits for.
#[derive(Debug, Default)]
pub(super) struct Founding {
    absent: BTreeSet<NodeId>,
    /// One of them knew a term.
    exists_at: Option<NodeId>,
    since: Option<Instant>,
    told: Told,
}

impl Founding {
    /// This node knows of no term, and these are the founders.
    pub(super) fn of(configuration: &Configuration, us: NodeId, now: Instant) -> Founding {
        let absent = configuration.voters.iter().copied().filter(|&id| id != us).collect();
        Founding { absent, since: Some(now), ..Founding::default() }
    }

    /// Whether it must wait.
    pub(super) fn is_waiting(&self) -> bool {
        !self.absent.is_empty()
    }

    /// A node has said who it is, and may be who it says.
    pub(super) fn meet(&mut self, theirs: &Hello) {
        if theirs.is_blank {
            self.absent.remove(&theirs.node);
            self.exists_at.take_if(|id| *id == theirs.node);
        } else if self.absent.contains(&theirs.node) {
            self.exists_at = Some(theirs.node);
        }
    }

    /// The cluster is founded, or this node has a part in it: nobody need be waited for.
    pub(super) fn end(&mut self) {
        self.absent.clear();
    }

    /// What the log should say now of the wait, if anything.
    pub(super) fn complaint(&mut self, now: Instant) -> Option<String> {
        if !self.is_waiting()
            || self.since.is_some_and(|since| now.saturating_duration_since(since) < PATIENCE)
        {
            return None;
        }
        let what = match self.exists_at {
            Some(id) => format!(
                "node {id} knows this cluster: it was founded before, and this node has no part in it until its leader calls. If \
                 this node's disk was wiped or replaced, stop it, let it join with an empty data folder and a new id, and \
                 remove its old id. If that happened to most nodes, 'raft recover' makes a new cluster out of node {id}'s folder"
            ),
            None => {
                let absent: Vec<String> = self.absent.iter().map(ToString::to_string).collect();
                format!(
                    "a cluster is founded once all its founders have met, and this node waits for {}: start them. If the \
                     cluster existed before and this node's disk was wiped, it must not be founded again: bring the others \
                     back, and let this machine join under a new id",
                    absent.join(", ")
                )
            }
        };
        self.told.is_news(&what, now).then_some(what)
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

    fn founding() -> (Founding, Instant) {
        let (founders, now) = ([1, 2, 3].map(|id| (NodeId(id), Member::default())), Instant::now());
        (Founding::of(&Configuration::of_voters(founders), NodeId(1), now), now)
    }

    #[test]
    fn it_waits_until_all_have_met_and_none_knew_a_term() {
        let (mut founding, now) = founding();
        assert_eq!(founding.complaint(now + PATIENCE / 2), None, "they may be on their way");
        founding.meet(&hello(3, true));
        founding.meet(&hello(4, true));
        assert!(founding.is_waiting(), "one is missing");
        let complaint = founding.complaint(now + PATIENCE).expect("it is said who");
        assert!(complaint.contains("waits for 2:"), "{complaint}");
        assert_eq!(founding.complaint(now + PATIENCE), None, "once");
        founding.meet(&hello(2, false));
        assert!(founding.is_waiting(), "the cluster exists");
        let complaint = founding.complaint(now + PATIENCE).expect("and that is said");
        assert!(complaint.contains("node 2 knows this cluster"), "{complaint}");
        founding.meet(&hello(2, true));
        assert!(!founding.is_waiting(), "that one was wiped, too");
        assert_eq!(founding.complaint(now + PATIENCE * 100), None);
    }

    /// As when its first term was lost with its memory, before it was on its disk.
    #[test]
    fn who_knows_the_cluster_no_more_is_not_said_to() {
        let (mut founding, now) = founding();
        founding.meet(&hello(2, false));
        founding.meet(&hello(2, true));
        let complaint = founding.complaint(now + PATIENCE).expect("one is missing");
        assert!(complaint.contains("waits for 3:"), "{complaint}");
    }

    #[test]
    fn who_has_a_part_in_the_cluster_waits_for_nobody() {
        let (mut founding, _) = founding();
        founding.end();
        assert!(!founding.is_waiting());
    }
}
