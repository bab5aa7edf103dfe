//! What a running state machine needs of the node: its snapshots' files, and a clock on its calls.

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

/// What is applied is told when the batch is done, and within it after this long: answers do not
/// wait for all that is behind them, and the loop is not woken for each.
pub(super) const REPORT_INTERVAL: Duration = Duration::from_millis(1);
/// A call that takes as long as this is worth a line in the log.
const LONG_CALL: Duration = Duration::from_secs(1);
/// How often a restore says in the log how far it is.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(1);

/// Opens snapshots in the node's folder and times calls.
#[derive(Debug)]
pub(in crate::node) struct FolderHost {
    folder: PathBuf,
    node: NodeId,
    gauges: Arc<Gauges>,
    call: Option<(MachineCallback, Index, Instant)>,
    longest: Duration,
    reported: Option<Instant>,
}

impl FolderHost {
    pub(super) fn new(folder: PathBuf, node: NodeId, gauges: Arc<Gauges>) -> FolderHost {
        FolderHost { folder, node, gauges, call: None, longest: Duration::ZERO, reported: None }
    }

    /// The last call has ended, and no other follows now.
    pub(super) fn rest(&mut self) {
        if self.call.is_some() {
            self.end_call(Instant::now());
            self.gauges.rest();
        }
        self.reported = None;
    }

    fn end_call(&mut self, now: Instant) {
        let Some((callback, index, began)) = self.call.take() else { return };
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
        let reported = Instant::now();
        Ok(Box::new(Watched { content, gauges, node, index, bytes: 0, total_bytes, reported }))
    }

    fn calls(&mut self, callback: MachineCallback, index: Index) {
        let now = Instant::now();
        self.end_call(now);
        self.gauges.begin(callback, index, now);
        self.call = Some((callback, index, now));
    }

    fn wants_report(&mut self) -> bool {
        // The last call began a moment ago: near enough, and no look at the clock.
        let Some((_, _, began)) = self.call else { return false };
        let reported = *self.reported.get_or_insert(began);
        let wants = began.saturating_duration_since(reported) >= REPORT_INTERVAL;
        if wants {
            self.reported = Some(began);
        }
        wants
    }

    fn restore_failed(&mut self, failure: &MachineFailure) {
        tracing::error!(node = self.node.0, "{failure}; trying again");
    }
}

/// Counts what a restore reads, and says so once a second.
struct Watched<R> {
    content: R,
    gauges: Arc<Gauges>,
    node: NodeId,
    index: Index,
    bytes: u64,
    total_bytes: u64,
    reported: Instant,
}

impl<R: Read> Read for Watched<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.content.read(buffer)?;
        self.bytes += read as u64;
        // Small reads are many: the clock is looked at once in 64 KiB.
        if self.bytes >> 16 != (self.bytes - read as u64) >> 16 {
            self.gauges.set_restored(self.bytes, self.total_bytes);
            if self.reported.elapsed() >= PROGRESS_INTERVAL {
                self.reported = Instant::now();
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

/// Times a job as one call, and no query: quick calls are shorter than what it takes to time them.
#[derive(Debug)]
pub(super) struct QuickHost<'a> {
    pub(super) host: &'a mut FolderHost,
    pub(super) is_timed: bool,
}

impl MachineHost for QuickHost<'_> {
    fn open_snapshot(&mut self, meta: &SnapshotMeta) -> io::Result<Box<dyn Read + '_>> {
        self.host.open_snapshot(meta)
    }

    fn calls(&mut self, callback: MachineCallback, index: Index) {
        if callback != MachineCallback::Query && !std::mem::replace(&mut self.is_timed, true) {
            self.host.calls(callback, index);
        }
    }
}
