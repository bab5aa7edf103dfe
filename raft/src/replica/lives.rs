//! Which life of which disk is met: older copies of a folder, two copies at once, and disks that
//! forgot.
//!
//! Each opening of a log raises a count on its disk, and each start draws a nonce. A peer
//! remembers, per disk, the latest life that it met and how far that was durable, so it can tell:
//!
//! | what comes | what it is |
//! |---|---|
//! | a lower count | an older copy of the folder: turned away |
//! | the same count, another nonce | a second copy of the folder, started beside the first: turned away |
//! | a higher count, durable less far | a disk that forgot what it had acknowledged: let in, and not counted |
//! | a count near the largest | no life at all: turned away |
//!
//! A copy of the present life that is met before the original, or all folders put back together, no
//! peer can see.

use std::collections::{BTreeMap, BTreeSet};

use crate::replica::{PeerMessage, Replica};
use crate::types::{Body, DiskId, Message, NodeId, Now, PeerRecord};
use crate::wire::Hello;

/// No log is opened as often as that.
const COUNT_MAX: u64 = u64::MAX / 2;

/// Why a life is turned away, and what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum LifeError {
    #[error("node {node} says that its log was opened {count} times: its folder is damaged")]
    Count { node: NodeId, count: u64 },
    #[error(
        "node {node} comes with an older copy of its data folder (life {life}, and life {known} was met before): stop \
         it. If the newer folder is lost, remove node {node} and let its machine join with an empty one"
    )]
    OlderCopy { node: NodeId, life: u64, known: u64 },
    #[error(
        "two copies of node {node} run, at {first} and at {second}, or its folder was put back to an older copy: stop \
         it. If the other folder is lost, remove node {node} and let its machine join with an empty one"
    )]
    TwoCopies { node: NodeId, first: String, second: String },
}

/// What is remembered of the lives of other nodes' disks.
#[derive(Debug, Default)]
pub(crate) struct Lives {
    records: BTreeMap<DiskId, PeerRecord>,
    disks: BTreeMap<NodeId, DiskId>,
    /// Where each was met last.
    addresses: BTreeMap<DiskId, String>,
    /// Records that the log does not hold yet.
    unsaved: BTreeSet<DiskId>,
    /// Nodes whose disks forgot, until the replica has been told.
    forgetful: BTreeSet<NodeId>,
}

impl Lives {
    /// With what the log remembers.
    pub(crate) fn new(records: BTreeMap<DiskId, PeerRecord>) -> Lives {
        Lives { records, ..Lives::default() }
    }

    /// Hands on to the replica what it must know: records for its log, and nodes whose disks
    /// forgot.
    pub(crate) fn tell(&mut self, replica: &mut Replica, now: Now) {
        for (disk, record) in self.take_unsaved() {
            replica.record_peer(disk, record);
        }
        for peer in std::mem::take(&mut self.forgetful) {
            replica.peer_forgot(now, peer);
        }
    }

    /// Compares a proven peer's half of a handshake with what is remembered of its disk, and
    /// remembers it.
    ///
    /// # Errors
    /// Why the peer is turned away, and what to do.
    pub(crate) fn meet(&mut self, theirs: &Hello) -> Result<(), LifeError> {
        let (id, life) = (theirs.node, theirs.life);
        let Some(position) = theirs.position.filter(|_| life.count > 0) else { return Ok(()) };
        if life.count >= COUNT_MAX {
            return Err(LifeError::Count { node: id, count: life.count });
        }
        let record = self.records.get(&theirs.disk).copied().unwrap_or_default();
        let known = record.life;
        if life.count < known.count {
            return Err(LifeError::OlderCopy { node: id, life: life.count, known: known.count });
        }
        if life.count == known.count && life.nonce != known.nonce {
            let first = self
                .addresses
                .get(&theirs.disk)
                .map_or("an address not known here", String::as_str);
            let (first, second) = (first.to_owned(), theirs.address.clone());
            return Err(LifeError::TwoCopies { node: id, first, second });
        }
        if (life.count > known.count && position.sequence < record.position.sequence)
            || theirs.has_forgotten
        {
            self.forgetful.insert(id);
        }
        let is_new = life.count > known.count;
        let position = if is_new { position } else { position.max(record.position) };
        self.records.insert(theirs.disk, PeerRecord { life, position });
        self.disks.insert(id, theirs.disk);
        self.addresses.insert(theirs.disk, theirs.address.clone());
        self.unsaved.insert(theirs.disk);
        Ok(())
    }

    /// A message of a node that was met: an answer to a leader says how far the node's log is
    /// durable.
    pub(crate) fn hear(&mut self, from: NodeId, message: &PeerMessage) {
        if let PeerMessage::Raft(Message { body: Body::Appended { report, .. }, .. }) = message
            && let Some(sequence) = report.durable_sequence
        {
            self.acknowledged(from, sequence);
        }
    }

    /// A node's answer says how far its log is durable.
    fn acknowledged(&mut self, id: NodeId, sequence: u64) {
        if let Some(disk) = self.disks.get(&id)
            && let Some(record) = self.records.get_mut(disk)
            && sequence > record.position.sequence
        {
            record.position.sequence = sequence;
            self.unsaved.insert(*disk);
        }
    }

    /// What the log should remember.
    fn take_unsaved(&mut self) -> impl Iterator<Item = (DiskId, PeerRecord)> {
        let records = &self.records;
        std::mem::take(&mut self.unsaved)
            .into_iter()
            .filter_map(|disk| Some((disk, *records.get(&disk)?)))
    }

    /// Whether the replica must be told of a disk that forgot.
    pub(crate) fn has_news(&self) -> bool {
        !self.forgetful.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::types::{ClusterId, FeatureLevel, GroupId, Life, LogPosition, Term};
    use crate::types::{FollowerReport, Index};
    use crate::wire::Version;

    fn hello(count: u64, nonce: u64, sequence: u64) -> Hello {
        Hello {
            cluster: ClusterId(7),
            group: GroupId(0),
            node: NodeId(2),
            disk: DiskId(20),
            life: Life { count, nonce },
            versions: Version::OLDEST..=Version::NEWEST,
            feature_level: FeatureLevel::CURRENT,
            position: Some(LogPosition { sequence, term: Term(1), ..LogPosition::default() }),
            has_forgotten: false,
            is_blank: false,
            address: format!("host:{nonce}"),
            metadata: Bytes::new(),
        }
    }

    #[test]
    fn an_older_copy_of_a_folder_is_turned_away() {
        let mut lives = Lives::default();
        lives.meet(&hello(5, 50, 100)).unwrap();
        let error = lives.meet(&hello(4, 40, 90)).unwrap_err().to_string();
        assert!(
            error.contains("an older copy of its data folder (life 4, and life 5 was met before)"),
            "{error}"
        );
        lives.meet(&hello(5, 50, 100)).unwrap();
    }

    #[test]
    fn two_copies_of_a_folder_are_named_with_their_addresses() {
        let mut lives = Lives::default();
        lives.meet(&hello(5, 50, 100)).unwrap();
        let error = lives.meet(&hello(5, 51, 100)).unwrap_err().to_string();
        assert!(error.contains("two copies of node 2 run, at host:50 and at host:51"), "{error}");
    }

    #[test]
    fn a_later_life_that_is_durable_less_far_forgot() {
        let mut lives = Lives::default();
        lives.meet(&hello(5, 50, 100)).unwrap();
        lives.acknowledged(NodeId(2), 130);
        lives.meet(&hello(6, 60, 130)).unwrap();
        assert!(std::mem::take(&mut lives.forgetful).is_empty());
        lives.meet(&hello(7, 70, 129)).unwrap();
        assert_eq!(std::mem::take(&mut lives.forgetful), [NodeId(2)].into());
        assert!(std::mem::take(&mut lives.forgetful).is_empty(), "told once");
        lives.meet(&hello(8, 80, 129)).unwrap();
        assert!(std::mem::take(&mut lives.forgetful).is_empty(), "nothing more is missing");
    }

    #[test]
    fn what_is_remembered_outlives_a_restart() {
        let mut lives = Lives::default();
        lives.meet(&hello(5, 50, 100)).unwrap();
        lives.acknowledged(NodeId(2), 130);
        let saved: BTreeMap<_, _> = lives.take_unsaved().collect();
        assert_eq!(saved[&DiskId(20)].position.sequence, 130);
        assert_eq!(lives.take_unsaved().count(), 0);
        let mut later = Lives::new(saved);
        assert!(later.meet(&hello(4, 40, 90)).is_err());
        assert!(later.meet(&hello(5, 51, 130)).is_err());
        later.meet(&hello(6, 60, 120)).unwrap();
        assert_eq!(std::mem::take(&mut later.forgetful), [NodeId(2)].into());
    }

    #[test]
    fn what_an_older_version_does_not_say_is_no_evidence() {
        let mut lives = Lives::default();
        lives.meet(&hello(5, 50, 100)).unwrap();
        lives
            .meet(&Hello { life: Life { count: 0, nonce: 9 }, position: None, ..hello(0, 9, 0) })
            .unwrap();
        lives.meet(&hello(5, 50, 100)).unwrap();
        assert!(std::mem::take(&mut lives.forgetful).is_empty());
    }

    #[test]
    fn a_count_near_the_largest_is_refused() {
        assert!(
            Lives::default()
                .meet(&hello(u64::MAX - 1, 1, 1))
                .unwrap_err()
                .to_string()
                .contains("its folder is damaged")
        );
    }

    #[test]
    fn no_report_of_a_life_lowers_what_is_known_of_its_disk() {
        let mut lives = Lives::default();
        lives.meet(&hello(5, 50, 100)).unwrap();
        for (reported, known) in [(130, 130), (120, 130), (140, 140)] {
            let durable_sequence = Some(reported);
            let report = FollowerReport { durable_sequence, ..FollowerReport::default() };
            let body = Body::Appended { matched: Index(0), report };
            let (from, to, term) = (NodeId(2), NodeId(1), Term(1));
            lives.hear(from, &PeerMessage::Raft(Message { from, to, term, body }));
            assert_eq!(lives.records[&DiskId(20)].position.sequence, known);
        }
        lives.meet(&hello(5, 50, 110)).unwrap();
        assert_eq!(lives.records[&DiskId(20)].position.sequence, 140, "a hello of the same life");
        lives.meet(&hello(6, 60, 139)).unwrap();
        assert_eq!(std::mem::take(&mut lives.forgetful), [NodeId(2)].into());
    }

    #[test]
    fn a_life_that_was_met_is_to_be_saved() {
        let mut lives = Lives::default();
        lives.meet(&hello(5, 50, 100)).unwrap();
        let saved: BTreeMap<_, _> = lives.take_unsaved().collect();
        assert_eq!(saved[&DiskId(20)].life.count, 5);
    }
}
