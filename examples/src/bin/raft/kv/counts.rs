//! How many keys there are, for the loop: the map itself is on the state machine's thread.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use super::operation::{Keys, decode};

/// Written after each command, read on request.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    keys: AtomicUsize,
    expires: AtomicUsize,
}

impl Counts {
    pub(super) fn set(&self, keys: usize, expires: usize) {
        self.keys.store(keys, Relaxed);
        self.expires.store(expires, Relaxed);
    }

    /// How many keys there are, and how many of them have a deadline; some may have expired.
    pub(crate) fn get(&self) -> (usize, usize) {
        (self.keys.load(Relaxed), self.expires.load(Relaxed))
    }

    /// How many keys a query goes through, about; 0 for one that knows where its keys are.
    pub(crate) fn scanned_keys(&self, query: &[u8]) -> usize {
        let Some((operation, arguments)) = decode(query) else { return 0 };
        match operation.row().keys {
            Keys::Scanned(keys_of) => keys_of(self.get().0, arguments),
            Keys::None
            | Keys::First
            | Keys::FirstTwo
            | Keys::All
            | Keys::EveryOther
            | Keys::Keyspace => 0,
        }
    }
}
