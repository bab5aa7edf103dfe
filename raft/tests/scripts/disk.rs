//! What survives a crash: a log on a disk that does what it is told, at once and completely.

use bytes::Bytes;
use kodiak_raft::core::Fetch;
use kodiak_raft::types::{
    Configuration, Entry, HardState, Index, Member, NodeId, Payload, Saved, Stamp, Term, TermTable, Write,
};

/// Term, vote and log of one node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Disk {
    pub(crate) hard_state: HardState,
    /// From index 1 on.
    pub(crate) entries: Vec<Entry>,
}

/// A cluster of `count` voters, numbered from 1.
pub(crate) fn voters(count: u64) -> Configuration {
    Configuration::of_voters((1..=count).map(|node| (NodeId(node), Member::default())))
}

/// An entry of an earlier time, for a log that a test begins with.
pub(crate) fn old_entry(index: u64, term: u64) -> Entry {
    let payload = Payload::Command(Bytes::new());
    Entry { index: Index(index), term: Term(term), stamp: Stamp(0), payload }
}

impl Disk {
    /// Carries out a write.
    pub(crate) fn apply(&mut self, write: Write) {
        if let Some(hard_state) = write.hard_state {
            self.hard_state = hard_state;
        }
        if let Some(from) = write.truncate_from {
            self.entries.truncate(from.0 as usize - 1);
        }
        for entry in write.entries {
            assert_eq!(entry.index, Index(self.entries.len() as u64 + 1), "a gap on disk");
            self.entries.push(entry);
        }
    }

    /// What is asked for: at least one entry.
    pub(crate) fn read(&self, fetch: &Fetch) -> Vec<Entry> {
        let wanted = &self.entries[fetch.from.0 as usize - 1..fetch.to.0 as usize];
        let mut bytes = 0;
        let fits = |(position, entry): &(usize, &Entry)| {
            bytes += entry.size_bytes();
            *position == 0 || bytes <= fetch.limit_bytes
        };
        wanted.iter().enumerate().take_while(fits).map(|(_, entry)| entry.clone()).collect()
    }

    /// What a node finds when it starts.
    pub(crate) fn saved(&self, founding: Configuration) -> Saved {
        let mut terms = TermTable::new();
        self.entries.iter().for_each(|entry| terms.append(entry.index, entry.term));
        let (hard_state, tail) = (self.hard_state, self.entries.clone());
        Saved { hard_state, founding, configurations: Vec::new(), snapshot: None, terms, tail }
    }
}
