//! Gauges of the state machine's calls, for the node's status.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use crate::{node::RestoreProgress, replica::MachineCallback, types::Index};

/// A call of a state machine's function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct MachineCall {
    /// The function.
    pub callback: MachineCallback,
    /// The entry that is applied, the last applied entry, or the snapshot's last entry.
    pub index: Index,
    /// How long the call took, or has taken so far.
    pub took: Duration,
}

const CALLBACKS: [MachineCallback; 5] = [
    MachineCallback::Apply,
    MachineCallback::Query,
    MachineCallback::Snapshot,
    MachineCallback::Restore,
    MachineCallback::Digest,
];

/// Written by the thread that runs the machine, read by the loop.
///
/// A reading may mix two calls. That is good enough for an operator, and no code depends on it.
#[derive(Debug)]
pub(in crate::node) struct Gauges {
    origin: Instant,
    /// Nanoseconds from `origin` to the start of the present call; 0 if there is none.
    began: AtomicU64,
    /// An index into `CALLBACKS`.
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

    /// Begins a call.
    pub(super) fn begin(&self, callback: MachineCallback, index: Index, now: Instant) {
        let place = CALLBACKS.iter().position(|&known| known == callback).unwrap_or_default();
        self.callback.store(place as u64, Relaxed);
        self.index.store(index.0, Relaxed);
        let since = now.saturating_duration_since(self.origin).as_nanos();
        self.began.store(u64::try_from(since).unwrap_or(u64::MAX).max(1), Relaxed);
    }

    /// Notes that no call is in progress.
    pub(super) fn go_idle(&self) {
        self.began.store(0, Relaxed);
    }

    /// Sets the longest call so far.
    pub(super) fn set_longest(&self, call: MachineCall) {
        *self.longest.lock().unwrap_or_else(PoisonError::into_inner) = Some(call);
    }

    /// Notes how much of its file a restore has read.
    pub(super) fn set_restored(&self, bytes: u64, total_bytes: u64) {
        self.restored_bytes.store(bytes, Relaxed);
        self.restoring_bytes.store(total_bytes, Relaxed);
    }

    /// How far the last restore has come.
    pub(in crate::node) fn restored(&self) -> RestoreProgress {
        RestoreProgress {
            read_bytes: self.restored_bytes.load(Relaxed),
            total_bytes: self.restoring_bytes.load(Relaxed),
        }
    }

    /// The call in progress.
    pub(in crate::node) fn call(&self) -> Option<MachineCall> {
        let began = Some(self.began.load(Relaxed)).filter(|&began| began > 0)?;
        let callback = *CALLBACKS.get(self.callback.load(Relaxed) as usize)?;
        let took = self.origin.elapsed().saturating_sub(Duration::from_nanos(began));
        Some(MachineCall { callback, index: Index(self.index.load(Relaxed)), took })
    }

    /// The longest call since the node's start.
    pub(in crate::node) fn longest(&self) -> Option<MachineCall> {
        *self.longest.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
