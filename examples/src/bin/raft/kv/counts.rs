//! How many keys there are, for the loop: the map itself is on the state machine's thread.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use super::{
    operation::{Operation, decode},
    scan,
    store::KEYS_MAX,
};

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

    /// How many keys a query looks at one after the other, about; 0 for one that knows where its
    /// keys are.
    pub(crate) fn keys_looked_at(&self, query: &[u8]) -> usize {
        let (keys, _) = self.get();
        match decode(query) {
            Some((Operation::Keys, _)) => scan::KEYS_AT_LEAST + keys.min(KEYS_MAX),
            Some((Operation::Scan, mut arguments)) => {
                let count = arguments
                    .nth(1)
                    .and_then(|count| count.try_into().ok())
                    .map_or(0, u32::from_le_bytes);
                scan::KEYS_AT_LEAST + scan::keys_in_step(keys, count)
            }
            _ => 0,
        }
    }
}
