//! Log matching: two logs that have an entry of the same index and term are the same up to it.
//!
//! Every entry that any node ever wrote is kept under its index and term, with a hash of the log up
//! to it. Every node that writes an entry of that index and term must have the same hash, which
//! compares whole logs at the cost of one entry.

use std::collections::BTreeMap;

use super::violation::{CheckResult, check};
use crate::sim::trace::stable_hash;
use crate::types::{Entry, Index, Stamp, Term, Write};

/// All entries ever written. See the module.
#[derive(Debug)]
pub(super) struct Logs {
    known: BTreeMap<(Index, Term), KnownEntry>,
    /// The terms of each node's log, as issued to its storage.
    terms: Vec<Vec<Term>>,
}

#[derive(Debug)]
struct KnownEntry {
    entry: Entry,
    /// The hash of the log up to and with this entry.
    up_to: u64,
}

impl Logs {
    pub(super) fn new(nodes: usize) -> Logs {
        Logs { known: BTreeMap::new(), terms: vec![Vec::new(); nodes] }
    }

    /// The entry that some node wrote with this index and term.
    pub(super) fn entry(&self, index: Index, term: Term) -> Option<&Entry> {
        self.known.get(&(index, term)).map(|known| &known.entry)
    }

    /// A node starts with these entries, which follow the committed ones of these terms.
    pub(super) fn recovered(
        &mut self,
        node: usize,
        compacted: Vec<Term>,
        entries: &[Entry],
    ) -> CheckResult {
        self.terms[node] = compacted;
        entries.iter().try_for_each(|entry| self.append(node, entry))
    }

    /// The terms of a node's log, as issued to its storage, from index 1 on.
    pub(super) fn terms(&self, node: usize) -> &[Term] {
        &self.terms[node]
    }

    /// A snapshot that includes the committed entries of these terms has replaced a node's log,
    /// unless the log has its last entry.
    pub(super) fn installed(&mut self, node: usize, included: Vec<Term>) {
        let terms = &mut self.terms[node];
        if included.last().is_some() && terms.get(included.len() - 1) != included.last() {
            *terms = included;
        }
    }

    pub(super) fn written(&mut self, node: usize, write: &Write) -> CheckResult {
        if let Some(from) = write.truncate_from {
            self.terms[node].truncate(from.previous().0 as usize);
        }
        write.entries.iter().try_for_each(|entry| self.append(node, entry))
    }

    fn append(&mut self, node: usize, entry: &Entry) -> CheckResult {
        let terms = &mut self.terms[node];
        let previous = Index(terms.len() as u64);
        check(entry.index == previous.next(), "entries are written in order", || {
            format!("node {} writes entry {} after entry {previous}", node + 1, entry.index)
        })?;
        let previous_term = terms.last().copied().unwrap_or_default();
        let before = self.known.get(&(previous, previous_term));
        let stamp = before.map_or(Stamp(0), |known| known.entry.stamp);
        check(entry.stamp >= stamp, "stamps never decrease along a log", || {
            format!("node {} writes {entry:?} after an entry of {stamp:?}", node + 1)
        })?;
        let before = before.map_or(0, |known| known.up_to);
        terms.push(entry.term);
        let up_to = stable_hash(&(before, entry));
        let known = self
            .known
            .entry((entry.index, entry.term))
            .or_insert_with(|| KnownEntry { entry: entry.clone(), up_to });
        check(known.up_to == up_to, "log matching", || {
            format!(
                "node {} has {entry:?} after term {previous_term}; another log has {:?} there, or \
                 differs before it",
                node + 1,
                known.entry
            )
        })
    }
}
