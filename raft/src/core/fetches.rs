//! Entries that are no longer in memory: for followers that lag, and for applying after a start.

use std::collections::BTreeMap;

use crate::types::{Entries, Entry, Index, NodeId};

use super::mutants::{Mutant, planted};
use super::{Action, Core, Fetch, RoleState};

/// What a fetch is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Purpose {
    /// To be sent to a follower.
    Send { to: NodeId },
    /// To be applied.
    Apply,
    /// The last entry, whose stamp the next leader's first entry must not precede.
    Last,
}

/// A fetch without an answer so far, for entries from `from` on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct PendingFetch {
    purpose: Purpose,
    from: Index,
}

/// The fetches that are under way: at most one for each follower, one to apply and one for the last
/// entry.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Fetches {
    last_id: u64,
    pending: BTreeMap<u64, PendingFetch>,
}

impl Fetches {
    fn start(&mut self, purpose: Purpose, from: Index, to: Index, limit_bytes: usize) -> Fetch {
        self.last_id += 1;
        self.pending.insert(self.last_id, PendingFetch { purpose, from });
        Fetch { id: self.last_id, from, to, limit_bytes }
    }

    /// A fetch of entries to be sent to a follower.
    pub(super) fn start_to_send(
        &mut self,
        to: NodeId,
        from: Index,
        last: Index,
        limit_bytes: usize,
    ) -> Fetch {
        self.start(Purpose::Send { to }, from, last, limit_bytes)
    }

    fn is_pending(&self, purpose: Purpose) -> bool {
        self.pending.values().any(|pending| pending.purpose == purpose)
    }

    /// A leader that steps down sends no more.
    pub(super) fn forget_sends(&mut self) {
        self.pending.retain(|_, fetch| !matches!(fetch.purpose, Purpose::Send { .. }));
    }
}

impl Core {
    /// Asks for committed entries, unless that has been asked already.
    pub(super) fn fetch_to_apply(&mut self, from: Index, to: Index, limit_bytes: usize) {
        if !self.fetches.is_pending(Purpose::Apply) {
            let fetch = self.fetches.start(Purpose::Apply, from, to, limit_bytes);
            self.actions.push_back(Action::Fetch(fetch));
        }
    }

    /// Asks for the last entry, unless that has been asked already.
    pub(super) fn fetch_last(&mut self) {
        let last = self.log.last_index();
        if !self.fetches.is_pending(Purpose::Last) {
            let fetch = self.fetches.start(Purpose::Last, last, last, 1);
            self.actions.push_back(Action::Fetch(fetch));
        }
    }

    pub(super) fn handle_fetched(&mut self, id: u64, entries: Vec<Entry>) {
        // This fetch was for a follower of an earlier term.
        let Some(PendingFetch { purpose, from }) = self.fetches.pending.remove(&id) else {
            return;
        };
        if purpose == Purpose::Last && self.log.last_stamp().is_some() {
            return; // The log has grown meanwhile, and may even have been cut.
        }
        if from <= self.log.base()
            || (purpose == Purpose::Apply && from != self.log.handed_out().next())
        {
            // Compacted meanwhile, or in a snapshot that was installed meanwhile. The next flush
            // sees it.
            if let (Purpose::Send { to }, RoleState::Leader(leading)) = (purpose, &mut self.state)
                && let Some(progress) = leading.progress.get_mut(&to)
            {
                progress.fetch = progress.fetch.filter(|&waiting| waiting != id);
            }
            return;
        }
        self.check_fetched(from, &entries);
        let entries = Entries::from(entries);
        match purpose {
            Purpose::Send { to } => self.send_fetched(to, id, entries),
            Purpose::Last => self.log.restore_last(entries),
            Purpose::Apply => {
                self.log.hand_out(&entries);
                self.actions.push_back(Action::Apply(entries));
            }
        }
    }

    /// The disk must give back what was put on it.
    fn check_fetched(&self, from: Index, entries: &[Entry]) {
        assert!(!entries.is_empty(), "fetched nothing at {from}");
        for (expected, entry) in (from.0..).zip(entries) {
            let (index, term) = (entry.index, entry.term);
            assert!(
                index == Index(expected),
                "fetched entry {index} where {expected} was asked for"
            );
            let known = self.log.terms().term_at(index);
            let is_right = known == Some(term) || planted(Mutant::FetchedTermIgnored);
            assert!(is_right, "fetched entry {index} of term {term}, but its term is {known:?}");
        }
    }

    fn send_fetched(&mut self, to: NodeId, id: u64, entries: Entries) {
        let RoleState::Leader(leading) = &mut self.state else { return };
        let Some(progress) = leading.progress.get_mut(&to) else { return };
        if progress.fetch != Some(id) {
            return; // It is being sent a snapshot, or was.
        }
        progress.fetch = None;
        // A rejection or an acknowledgement may have moved `next` meanwhile; then the next flush
        // asks again.
        if entries.first().is_some_and(|first| first.index == progress.next) {
            self.send_entries(to, entries);
        }
    }
}
