//! What a node remembers of its peers' data folders: rejects copies, finds lost writes.
//!
//! Each opening of a log increments a counter on its disk, and each start draws a nonce; together
//! they name one *life* of the folder. A node remembers, for each disk, the latest life that it met
//! and how far that life's log was durable. A later handshake is compared with the record:
//!
//! | handshake | meaning | reaction |
//! |---|---|---|
//! | a lower count | an older copy of the folder | rejected |
//! | the same count, another nonce | a second copy of the folder that runs beside the first | rejected |
//! | a higher count, less durable | the disk lost writes that it had acknowledged | accepted, not counted |
//! | a count near the largest | a damaged folder | rejected |
//!
//! Two cases stay hidden from every peer: a copy of the present life that is met before the
//! original, and a cluster in which all folders were put back together.

use std::collections::{BTreeMap, BTreeSet};

use crate::replica::{PeerMessage, Replica};
use crate::types::{Body, DiskId, Message, NodeId, Now, PeerRecord};
use crate::wire::Hello;

/// No log is opened as often as this.
const COUNT_MAX: u64 = u64::MAX / 2;

/// Why a handshake is rejected, and what an operator can do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PeerRecordError {
    #[error("node {node} claims that its log was opened {count} times: its folder is damaged")]
    Count { node: NodeId, count: u64 },
    #[error(
        "node {node} comes with an older copy of its data folder (life {life}, and life {known} \
         was met before): stop it. If the newer folder is lost, remove node {node} and let its \
         machine join with an empty one"
    )]
    OlderCopy { node: NodeId, life: u64, known: u64 },
    #[error(
        "two copies of node {node} run, at {first} and at {second}, or its folder was put back to \
         an older copy: stop it. If the other folder is lost, remove node {node} and let its \
         machine join with an empty one"
    )]
    TwoCopies { node: NodeId, first: String, second: String },
}

/// The records of all peers' disks.
#[derive(Debug, Default)]
pub(crate) struct PeerRecords {
    records: BTreeMap<DiskId, PeerRecord>,
    disks: BTreeMap<NodeId, DiskId>,
    /// The address from which each disk was last met.
    addresses: BTreeMap<DiskId, String>,
    /// Disks whose records are newer than the log's.
    unsaved: BTreeSet<DiskId>,
    /// Nodes whose disks lost writes, until the replica is informed.
    forgetful: BTreeSet<NodeId>,
}

impl PeerRecords {
    /// Starts with the records that the log holds.
    pub(crate) fn new(records: BTreeMap<DiskId, PeerRecord>) -> PeerRecords {
        PeerRecords { records, ..PeerRecords::default() }
    }

    /// Hands the replica new records for its log, and the nodes whose disks lost writes.
    pub(crate) fn report_to(&mut self, replica: &mut Replica, now: Now) {
        for (disk, record) in self.take_unsaved() {
            replica.record_peer(disk, record);
        }
        for peer in std::mem::take(&mut self.forgetful) {
            replica.handle_peer_forgot(now, peer);
        }
    }

    /// Compares an authenticated peer's hello with the record of its disk, and updates the record.
    ///
    /// # Errors
    /// Why the peer is rejected, and what to do.
    pub(crate) fn check_hello(&mut self, theirs: &Hello) -> Result<(), PeerRecordError> {
        let (id, life) = (theirs.node, theirs.life);
        let Some(position) = theirs.position.filter(|_| life.count > 0) else { return Ok(()) };
        if life.count >= COUNT_MAX {
            return Err(PeerRecordError::Count { node: id, count: life.count });
        }
        let record = self.records.get(&theirs.disk).copied().unwrap_or_default();
        let known = record.life;
        if life.count < known.count {
            let (life, known) = (life.count, known.count);
            return Err(PeerRecordError::OlderCopy { node: id, life, known });
        }
        if life.count == known.count && life.nonce != known.nonce {
            let first = self.addresses.get(&theirs.disk);
            let first = first.map_or("an address not known here", String::as_str).to_owned();
            let second = theirs.address.clone();
            return Err(PeerRecordError::TwoCopies { node: id, first, second });
        }
        let is_new = life.count > known.count;
        let has_lost_writes = is_new && position.sequence < record.position.sequence;
        if has_lost_writes || theirs.has_forgotten {
            self.forgetful.insert(id);
        }
        let position = if is_new { position } else { position.max(record.position) };
        self.records.insert(theirs.disk, PeerRecord { life, position });
        self.disks.insert(id, theirs.disk);
        self.addresses.insert(theirs.disk, theirs.address.clone());
        self.unsaved.insert(theirs.disk);
        Ok(())
    }

    /// Updates the record of `from` if its message reports how far its log is durable.
    pub(crate) fn observe_message(&mut self, from: NodeId, message: &PeerMessage) {
        if let PeerMessage::Raft(Message { body: Body::Appended { report, .. }, .. }) = message
            && let Some(sequence) = report.durable_sequence
        {
            self.record_durable(from, sequence);
        }
    }

    fn record_durable(&mut self, id: NodeId, sequence: u64) {
        if let Some(disk) = self.disks.get(&id)
            && let Some(record) = self.records.get_mut(disk)
            && sequence > record.position.sequence
        {
            record.position.sequence = sequence;
            self.unsaved.insert(*disk);
        }
    }

    fn take_unsaved(&mut self) -> impl Iterator<Item = (DiskId, PeerRecord)> {
        let records = &self.records;
        std::mem::take(&mut self.unsaved)
            .into_iter()
            .filter_map(|disk| Some((disk, *records.get(&disk)?)))
    }

    /// Whether [`report_to`](PeerRecords::report_to) has a node to report whose disk lost writes.
    pub(crate) fn has_forgetful_peers(&self) -> bool {
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
    fn an_older_copy_of_a_folder_is_rejected() {
        let mut records = PeerRecords::default();
        records.check_hello(&hello(5, 50, 100)).unwrap();
        let error = records.check_hello(&hello(4, 40, 90)).unwrap_err().to_string();
        assert!(
            error.contains("an older copy of its data folder (life 4, and life 5 was met before)"),
            "{error}"
        );
        records.check_hello(&hello(5, 50, 100)).unwrap();
    }

    #[test]
    fn two_copies_of_a_folder_are_named_with_their_addresses() {
        let mut records = PeerRecords::default();
        records.check_hello(&hello(5, 50, 100)).unwrap();
        let error = records.check_hello(&hello(5, 51, 100)).unwrap_err().to_string();
        assert!(error.contains("two copies of node 2 run, at host:50 and at host:51"), "{error}");
    }

    #[test]
    fn a_later_life_with_less_durable_has_forgotten() {
        let mut records = PeerRecords::default();
        records.check_hello(&hello(5, 50, 100)).unwrap();
        records.record_durable(NodeId(2), 130);
        records.check_hello(&hello(6, 60, 130)).unwrap();
        assert!(std::mem::take(&mut records.forgetful).is_empty());
        records.check_hello(&hello(7, 70, 129)).unwrap();
        assert_eq!(std::mem::take(&mut records.forgetful), [NodeId(2)].into());
        assert!(std::mem::take(&mut records.forgetful).is_empty(), "reported once");
        records.check_hello(&hello(8, 80, 129)).unwrap();
        assert!(std::mem::take(&mut records.forgetful).is_empty(), "nothing more is missing");
    }

    #[test]
    fn peer_records_survive_a_restart() {
        let mut records = PeerRecords::default();
        records.check_hello(&hello(5, 50, 100)).unwrap();
        records.record_durable(NodeId(2), 130);
        let saved: BTreeMap<_, _> = records.take_unsaved().collect();
        assert_eq!(saved[&DiskId(20)].position.sequence, 130);
        assert_eq!(records.take_unsaved().count(), 0);
        let mut later = PeerRecords::new(saved);
        assert!(later.check_hello(&hello(4, 40, 90)).is_err());
        assert!(later.check_hello(&hello(5, 51, 130)).is_err());
        later.check_hello(&hello(6, 60, 120)).unwrap();
        assert_eq!(std::mem::take(&mut later.forgetful), [NodeId(2)].into());
    }

    #[test]
    fn a_hello_without_a_position_is_no_evidence() {
        let mut records = PeerRecords::default();
        records.check_hello(&hello(5, 50, 100)).unwrap();
        records
            .check_hello(&Hello {
                life: Life { count: 0, nonce: 9 },
                position: None,
                ..hello(0, 9, 0)
            })
            .unwrap();
        records.check_hello(&hello(5, 50, 100)).unwrap();
        assert!(std::mem::take(&mut records.forgetful).is_empty());
    }

    #[test]
    fn a_count_near_the_largest_is_rejected() {
        assert!(
            PeerRecords::default()
                .check_hello(&hello(u64::MAX - 1, 1, 1))
                .unwrap_err()
                .to_string()
                .contains("its folder is damaged")
        );
    }

    #[test]
    fn no_report_lowers_a_recorded_position() {
        let mut records = PeerRecords::default();
        records.check_hello(&hello(5, 50, 100)).unwrap();
        for (reported, known) in [(130, 130), (120, 130), (140, 140)] {
            let durable_sequence = Some(reported);
            let report = FollowerReport { durable_sequence, ..FollowerReport::default() };
            let body = Body::Appended { matched: Index(0), report };
            let (from, to, term) = (NodeId(2), NodeId(1), Term(1));
            records.observe_message(from, &PeerMessage::Raft(Message { from, to, term, body }));
            assert_eq!(records.records[&DiskId(20)].position.sequence, known);
        }
        records.check_hello(&hello(5, 50, 110)).unwrap();
        assert_eq!(records.records[&DiskId(20)].position.sequence, 140, "a hello of the same life");
        records.check_hello(&hello(6, 60, 139)).unwrap();
        assert_eq!(std::mem::take(&mut records.forgetful), [NodeId(2)].into());
    }

    #[test]
    fn a_life_that_was_met_is_to_be_saved() {
        let mut records = PeerRecords::default();
        records.check_hello(&hello(5, 50, 100)).unwrap();
        let saved: BTreeMap<_, _> = records.take_unsaved().collect();
        assert_eq!(saved[&DiskId(20)].life.count, 5);
    }
}
