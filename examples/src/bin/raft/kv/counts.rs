//! The number of keys, for the loop: the state machine's thread owns the map.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use super::operation::{KeySpec, decode};

/// Written after each command, and read when needed.
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

    /// Number of keys; some may have expired.
    pub(crate) fn keys(&self) -> usize {
        self.keys.load(Relaxed)
    }

    /// Number of keys that have a deadline.
    pub(crate) fn expires(&self) -> usize {
        self.expires.load(Relaxed)
    }

    /// About how many keys a query goes through; 0 if it names its keys.
    pub(crate) fn scanned_keys(&self, query: &[u8]) -> usize {
        let Some((operation, arguments)) = decode(query) else { return 0 };
        match operation.row().keys {
            KeySpec::Scanned(keys_of) => keys_of(self.keys(), arguments),
            KeySpec::None
            | KeySpec::First
            | KeySpec::FirstTwo
            | KeySpec::All
            | KeySpec::EveryOther
            | KeySpec::Keyspace => 0,
        }
    }
}
