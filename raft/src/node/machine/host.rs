//! The host of a state machine: opens its snapshots and times its calls.

use std::{
    io::{self, Read},
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{Gauges, MachineCall};
use crate::{
    replica::{MachineCallback, MachineFailure, MachineHost},
    storage,
    types::{Index, NodeId, SnapshotMeta},
};

/// Time after which results are reported before their batch is done.
///
/// So an answer does not wait for the jobs after it, and the loop is not woken for each answer.
pub(super) const REPORT_INTERVAL: Duration = Duration::from_millis(1);
/// A call that takes this long is logged.
const LONG_CALL: Duration = Duration::from_secs(1);
/// Time between two log lines of a restore.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(1);

/// A call in progress.
#[derive(Clone, Copy, Debug)]
struct TimedCall {
    callback: MachineCallback,
    index: Index,
    began: Instant,
}

/// Opens snapshots in the node's folder and times calls.
#[derive(Debug)]
pub(in crate::node) struct FolderHost {
    folder: PathBuf,
    node: NodeId,
    gauges: Arc<Gauges>,
    call: Option<TimedCall>,
    longest: Duration,
    reported_at: Option<Instant>,
}

impl FolderHost {
    pub(super) fn new(folder: PathBuf, node: NodeId, gauges: Arc<Gauges>) -> FolderHost {
        FolderHost { folder, node, gauges, call: None, longest: Duration::ZERO, reported_at: None }
    }

    /// Ends the last call; no other follows now.
    pub(super) fn go_idle(&mut self) {
        if self.call.is_some() {
            self.end_call(Instant::now());
            self.gauges.go_idle();
        }
        self.reported_at = None;
    }

    fn end_call(&mut self, now: Instant) {
        let Some(TimedCall { callback, index, began }) = self.call.take() else { return };
        let took = now.saturating_duration_since(began);
        if took > self.longest {
            self.longest = took;
            self.gauges.set_longest(MachineCall { callback, index, took });
        }
        if took >= LONG_CALL && callback != MachineCallback::Restore {
            tracing::warn!(
                node = self.node.0,
                %callback,
                index = index.0,
                ?took,
                "a call of the state machine took long; commands and queries behind it waited"
            );
        }
    }
}

impl MachineHost for FolderHost {
    fn open_snapshot(&mut self, meta: &SnapshotMeta) -> io::Result<Box<dyn Read + '_>> {
        let content = storage::open_snapshot(&self.folder, meta.index).map_err(io::Error::other)?;
        let total_bytes = content.total_bytes();
        let (gauges, node, index) = (Arc::clone(&self.gauges), self.node, meta.index);
        gauges.set_restored(0, total_bytes);
        tracing::info!(node = node.0, index = index.0, total_bytes, "restoring the state machine");
        let reported_at = Instant::now();
        Ok(Box::new(RestoreReader {
            content,
            gauges,
            node,
            index,
            bytes: 0,
            total_bytes,
            reported_at,
        }))
    }

    fn before_call(&mut self, callback: MachineCallback, index: Index) {
        let now = Instant::now();
        self.end_call(now);
        self.gauges.begin(callback, index, now);
        self.call = Some(TimedCall { callback, index, began: now });
    }

    fn should_report(&mut self) -> bool {
        // The last call began a moment ago: exact enough, and it saves a reading of the clock.
        let Some(TimedCall { began, .. }) = self.call else { return false };
        let reported_at = *self.reported_at.get_or_insert(began);
        let wants = began.saturating_duration_since(reported_at) >= REPORT_INTERVAL;
        if wants {
            self.reported_at = Some(began);
        }
        wants
    }

    fn restore_failed(&mut self, failure: &MachineFailure) {
        tracing::error!(node = self.node.0, "{failure}; trying again");
    }
}

/// Counts the bytes that a restore reads, and logs them once a second.
struct RestoreReader<R> {
    content: R,
    gauges: Arc<Gauges>,
    node: NodeId,
    index: Index,
    bytes: u64,
    total_bytes: u64,
    reported_at: Instant,
}

impl<R: Read> Read for RestoreReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.content.read(buffer)?;
        self.bytes += read as u64;
        // Small reads are many, so the clock is read once in 64 KiB.
        if self.bytes >> 16 != (self.bytes - read as u64) >> 16 {
            self.gauges.set_restored(self.bytes, self.total_bytes);
            if self.reported_at.elapsed() >= PROGRESS_INTERVAL {
                self.reported_at = Instant::now();
                let (bytes, total_bytes) = (self.bytes, self.total_bytes);
                let (node, index) = (self.node.0, self.index.0);
                tracing::info!(
                    node,
                    index,
                    bytes,
                    total_bytes,
                    "still restoring the state machine"
                );
            }
        }
        Ok(read)
    }
}

/// Times a quick job as one call, and queries not at all: to time each quick call would take longer
/// than the call.
#[derive(Debug)]
pub(super) struct QuickHost<'a> {
    host: &'a mut FolderHost,
    is_timed: bool,
}

impl<'a> QuickHost<'a> {
    pub(super) fn new(host: &'a mut FolderHost) -> QuickHost<'a> {
        QuickHost { host, is_timed: false }
    }
}

impl MachineHost for QuickHost<'_> {
    fn open_snapshot(&mut self, meta: &SnapshotMeta) -> io::Result<Box<dyn Read + '_>> {
        self.host.open_snapshot(meta)
    }

    fn before_call(&mut self, callback: MachineCallback, index: Index) {
        if callback != MachineCallback::Query && !std::mem::replace(&mut self.is_timed, true) {
            self.host.before_call(callback, index);
        }
    }
}
