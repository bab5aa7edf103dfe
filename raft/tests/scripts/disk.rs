//! What survives a crash: a log on a disk that carries out every write at once and completely.

use bytes::Bytes;
use kodiak_raft::core::Fetch;
use kodiak_raft::types::{
    Configuration, Entry, HardState, Index, Member, NodeId, Payload, Saved, SnapshotMeta, Stamp,
    Term, TermTable, Write,
};

/// Term, vote and log of one node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Disk {
    pub(crate) hard_state: HardState,
    /// From index 1 on; but those up to `base` cannot be read, and after an installed snapshot they
    /// were never there.
    pub(crate) entries: Vec<Entry>,
    pub(crate) base: Index,
    pub(crate) snapshot: Option<SnapshotMeta>,
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
        for entry in &write.entries {
            assert_eq!(entry.index, Index(self.entries.len() as u64 + 1), "a gap on disk");
            self.entries.push(entry.clone());
        }
    }

    /// A snapshot takes the place of what it includes; what follows stays only if it follows from
    /// it.
    pub(crate) fn install(&mut self, meta: SnapshotMeta) {
        let index = meta.index.0 as usize;
        if self.entries.get(index - 1).map(|entry| entry.term) != Some(meta.term) {
            self.entries = (1..=meta.index.0).map(|index| old_entry(index, meta.term.0)).collect();
        }
        self.base = meta.index;
        self.snapshot = Some(meta);
    }

    /// What is asked for: at least one entry, unless the first is compacted.
    pub(crate) fn read(&self, fetch: &Fetch) -> Vec<Entry> {
        if fetch.from <= self.base {
            return Vec::new();
        }
        let wanted = &self.entries[fetch.from.0 as usize - 1..fetch.to.0 as usize];
        let mut bytes = 0;
        let fits = |(position, entry): &(usize, &Entry)| {
            bytes += entry.size_bytes();
            *position == 0 || bytes <= fetch.limit_bytes
        };
        wanted.iter().enumerate().take_while(fits).map(|(_, entry)| entry.clone()).collect()
    }

    /// What a node finds when it starts.
    pub(crate) fn saved(&self, initial_configuration: Configuration) -> Saved {
        let base = self.base.0 as usize;
        let base_term = base.checked_sub(1).map_or(Term(0), |position| self.entries[position].term);
        let mut terms = TermTable::after(self.base, base_term);
        self.entries[base..].iter().for_each(|entry| terms.append(entry.index, entry.term));
        let (hard_state, snapshot, tail) =
            (self.hard_state, self.snapshot.clone(), self.entries[base..].to_vec());
        let included = snapshot.as_ref().map_or(Index(0), |snapshot| snapshot.index);
        let configuration = |entry: &Entry| match &entry.payload {
            Payload::Configuration(configuration) => Some((entry.index, (**configuration).clone())),
            _ => None,
        };
        let configurations =
            tail.iter().filter(|entry| entry.index > included).filter_map(configuration).collect();
        Saved {
            hard_state,
            initial_configuration,
            snapshot,
            configurations,
            terms,
            tail,
            ..Saved::default()
        }
    }
}
