//! What the state machine is doing and how long its calls take, for whoever asks for the status.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use crate::{replica::MachineCallback, types::Index};

/// A call of a state machine's function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MachineCall {
    /// Which function.
    pub callback: MachineCallback,
    /// The entry that it applies, the last one that it has applied, or what the snapshot stands
    /// for.
    pub index: Index,
    /// How long it took, or has taken so far.
    pub took: Duration,
}

const CALLBACKS: [MachineCallback; 5] = [
    MachineCallback::Apply,
    MachineCallback::Query,
    MachineCallback::Snapshot,
    MachineCallback::Restore,
    MachineCallback::Digest,
];

/// Written where the machine runs, read on the loop. What is read may mix two calls: it is for
/// people, and nothing rests on it.
#[derive(Debug)]
pub(in crate::node) struct Gauges {
    origin: Instant,
    /// Nanoseconds from `origin` to the beginning of the present call; 0 if there is none.
    began: AtomicU64,
    /// Place in `CALLBACKS`.
    callback: AtomicU64,
    index: AtomicU64,
    longest: Mutex<Option<MachineCall>>,
    restored_bytes: AtomicU64,
    restoring_bytes: AtomicU64,
}

impl Gauges {
    pub(in crate::node) fn new() -> Gauges {
        Gauges {
            origin: Instant::now(),
            began: AtomicU64::new(0),
            callback: AtomicU64::new(0),
            index: AtomicU64::new(0),
            longest: Mutex::new(None),
            restored_bytes: AtomicU64::new(0),
            restoring_bytes: AtomicU64::new(0),
        }
    }

    /// A call begins.
    pub(super) fn begin(&self, callback: MachineCallback, index: Index, now: Instant) {
        let place = CALLBACKS.iter().position(|&known| known == callback).unwrap_or_default();
        self.callback.store(place as u64, Relaxed);
        self.index.store(index.0, Relaxed);
        let since = now.saturating_duration_since(self.origin).as_nanos();
        self.began.store(u64::try_from(since).unwrap_or(u64::MAX).max(1), Relaxed);
    }

    /// No call is under way.
    pub(super) fn rest(&self) {
        self.began.store(0, Relaxed);
    }

    /// This call took longer than any before.
    pub(super) fn set_longest(&self, call: MachineCall) {
        *self.longest.lock().unwrap_or_else(PoisonError::into_inner) = Some(call);
    }

    /// A restore has read this much of its file.
    pub(super) fn set_restored(&self, bytes: u64, total_bytes: u64) {
        self.restored_bytes.store(bytes, Relaxed);
        self.restoring_bytes.store(total_bytes, Relaxed);
    }

    /// How much a restore has read, of how much.
    pub(in crate::node) fn restored(&self) -> (u64, u64) {
        (self.restored_bytes.load(Relaxed), self.restoring_bytes.load(Relaxed))
    }

    /// The call that is under way.
    pub(in crate::node) fn call(&self) -> Option<MachineCall> {
        let began = Some(self.began.load(Relaxed)).filter(|&began| began > 0)?;
        let callback = *CALLBACKS.get(self.callback.load(Relaxed) as usize)?;
        let took = self.origin.elapsed().saturating_sub(Duration::from_nanos(began));
        Some(MachineCall { callback, index: Index(self.index.load(Relaxed)), took })
    }

    /// The call that took longest in this life of the node.
    pub(in crate::node) fn longest(&self) -> Option<MachineCall> {
        *self.longest.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
