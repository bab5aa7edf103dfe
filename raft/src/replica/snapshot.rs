//! Snapshots: when one is taken, its content, and the effect of a leader's one on requests.
//!
//! ```text
//! content  version u8 | length u32 | sessions ... | the state machine's bytes ...
//! ```
//!
//! [`Sessions::encode`] gives the bytes of the sessions.

use std::io::{self, Cursor, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::machine::MachineReader;
use super::{
    Doubt, Effect, MachineJob, Outcome, Refusal, Replica, ReplicaEvent, Sessions, StateMachine,
};
use crate::core::Done;
use crate::core::mutants::{Mutant, planted};
use crate::error_chain::error_chain;
use crate::storage::{SnapshotSource, StorageError};
use crate::types::{Entries, Index, Now, SnapshotMeta, Stamp, Time};

const VERSION: u8 = 2;

/// The pause after a snapshot that could not be written. Each further failure doubles it.
const RETRY_PAUSE_MIN: Duration = Duration::from_secs(1);
const RETRY_PAUSE_MAX: Duration = Duration::from_secs(300);

/// The content of a snapshot: the sessions, then the state machine's bytes.
pub(super) fn encode_content(machine: Box<dyn Read + Send>, sessions: &Sessions) -> SnapshotSource {
    let encoded = if planted(Mutant::SessionNotInSnapshot) {
        Sessions::new().encode()
    } else {
        sessions.encode()
    };
    let mut head = vec![VERSION];
    let sessions_bytes =
        u32::try_from(encoded.len()).expect("the bounds on sessions keep it far below 4 GiB");
    head.extend_from_slice(&sessions_bytes.to_le_bytes());
    head.extend_from_slice(&encoded);
    SnapshotSource::new(Cursor::new(head).chain(MachineReader::new(machine)))
}

/// Counts the bytes of a snapshot while they are read, and fails beyond a limit.
///
/// A state machine whose reader never ends would otherwise fill the disk that the log needs.
struct BoundedReader<R> {
    source: R,
    size_bytes: Arc<AtomicU64>,
    limit_bytes: Option<u64>,
}

impl<R: Read> Read for BoundedReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.source.read(buffer)?;
        let size_bytes = self.size_bytes.fetch_add(read as u64, Ordering::Relaxed) + read as u64;
        match self
            .limit_bytes
            .filter(|&limit| size_bytes > limit && !planted(Mutant::SnapshotUnbounded))
        {
            Some(limit) => Err(io::Error::other(format!(
                "it has more than the {limit} bytes of Limits::snapshot_bytes; raise that limit, \
                 unless the state machine's reader never ends"
            ))),
            None => Ok(read),
        }
    }
}

/// Reads the sessions, up to where the state machine's bytes begin.
fn decode_sessions(content: &mut dyn Read) -> io::Result<Sessions> {
    let mut head = [0; 5];
    content.read_exact(&mut head)?;
    let [version, length @ ..] = head;
    if version != VERSION {
        let what = format!(
            "the snapshot's content is of version {version}, this program reads version {VERSION}"
        );
        return Err(io::Error::new(io::ErrorKind::InvalidData, what));
    }
    let sessions_bytes = u64::from(u32::from_le_bytes(length));
    let mut encoded = Vec::new();
    content.take(sessions_bytes).read_to_end(&mut encoded)?;
    if (encoded.len() as u64) < sessions_bytes {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Sessions::decode(&encoded).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

/// Restores a state machine from a snapshot's content and returns the sessions.
///
/// # Errors
/// The error of the reader or the state machine, which must not be used after that.
pub(super) fn restore(
    machine: &mut impl StateMachine,
    content: &mut dyn Read,
) -> io::Result<Sessions> {
    let sessions = decode_sessions(content)?;
    machine.restore(content)?;
    // Reads the rest too, so that damage behind the machine's last read is noticed.
    io::copy(content, &mut io::sink())?;
    Ok(sessions)
}

/// Decides when the next snapshot is taken.
///
/// It is due when `Limits::snapshot_every_bytes` of log have been applied since the last one, but
/// no fewer than the last one took, so that snapshots never write more than the log.
#[derive(Debug)]
pub(super) struct SnapshotPolicy {
    /// `Limits::snapshot_every_bytes`.
    interval_bytes: u64,
    /// `Limits::snapshot_bytes`.
    limit_bytes: Option<u64>,
    /// Bytes of log given to the state machine since the last snapshot.
    applied_bytes: u64,
    /// The last entry given to the state machine, or the last one of the restored snapshot.
    last: (Index, Stamp),
    /// The bytes of the last snapshot written.
    last_bytes: u64,
    /// The bytes read so far of the snapshot that is being written.
    counter: Arc<AtomicU64>,
    /// The number of consecutive failures.
    failures: u32,
    /// Why the last attempt failed.
    failure: Option<String>,
    /// No attempt is made before this time.
    retry_at: Time,
}

impl SnapshotPolicy {
    pub(super) fn new(interval_bytes: u64, limit_bytes: Option<u64>) -> SnapshotPolicy {
        SnapshotPolicy {
            interval_bytes,
            limit_bytes,
            applied_bytes: 0,
            last: (Index(0), Stamp(0)),
            last_bytes: 0,
            counter: Arc::default(),
            failures: 0,
            failure: None,
            retry_at: Time(0),
        }
    }

    /// The last entry given to the state machine, or the last one of the snapshot that it restores.
    pub(super) fn last_given(&self) -> Index {
        self.last.0
    }

    /// Counts and limits the bytes of the next snapshot.
    pub(super) fn bound(&self, source: SnapshotSource) -> SnapshotSource {
        let size_bytes = Arc::clone(&self.counter);
        size_bytes.store(0, Ordering::Relaxed);
        SnapshotSource::new(BoundedReader { source, size_bytes, limit_bytes: self.limit_bytes })
    }

    /// A snapshot was written.
    pub(super) fn record_written(&mut self) {
        self.last_bytes = self.counter.load(Ordering::Relaxed);
        (self.failures, self.failure) = (0, None);
    }

    /// A snapshot could not be written. Returns the pause before the next attempt.
    fn record_failure(&mut self, now: Time, reason: String) -> Duration {
        let pause = RETRY_PAUSE_MIN.saturating_mul(1 << self.failures.min(16)).min(RETRY_PAUSE_MAX);
        self.failures = self.failures.saturating_add(1);
        (self.failure, self.retry_at) = (Some(reason), now.after(pause));
        // The next one is due as soon as the pause is over.
        self.applied_bytes = self.interval_bytes.max(self.last_bytes);
        pause
    }

    /// Why the last attempt failed, if no snapshot has been written since.
    pub(super) fn failure(&self) -> Option<&str> {
        self.failure.as_deref()
    }
}

impl Replica {
    /// Counts entries given to the state machine, and starts a snapshot after them if one is due.
    pub(super) fn count_for_snapshot(&mut self, entries: &Entries) {
        self.snapshots.applied_bytes += entries.size_bytes() as u64;
        let Some(last) = entries.last() else { return };
        self.snapshots.last = (last.index, last.stamp);
        if self.snapshots.applied_bytes
            < self.snapshots.interval_bytes.max(self.snapshots.last_bytes)
        {
            return;
        }
        if self.now.monotonic < self.snapshots.retry_at {
            return;
        }
        self.start_snapshot();
    }

    /// Takes the snapshot that the core needs for a member, if it is possible now.
    pub(super) fn take_wanted_snapshot(&mut self) {
        let Some(wanted) = self.core.wanted_snapshot() else { return };
        let is_able = self.machine.failure.is_none() && self.machine.restoring.is_none();
        if is_able
            && wanted <= self.snapshots.last.0
            && self.snapshots.retry_at <= self.now.monotonic
        {
            self.start_snapshot();
        }
    }

    /// Asks the state machine for a copy of its state as of the last entry given to it.
    pub(super) fn start_snapshot(&mut self) {
        let (index, stamp) = self.snapshots.last;
        if let Some(meta) = self.core.take_snapshot(index, stamp) {
            self.snapshots.applied_bytes = 0;
            self.machine.snapshotting = Some(meta.index);
            if self.takes_digests() {
                self.ask_machine(MachineJob::TakeDigest(meta.index));
            }
            self.ask_machine(MachineJob::TakeSnapshot(meta));
        }
    }

    /// The snapshot up to `index` could not be written.
    ///
    /// The log is not affected. Another attempt follows after a pause, once entries are applied;
    /// the pause grows with each failure.
    pub fn handle_snapshot_failure(&mut self, now: Now, index: Index, error: &StorageError) {
        self.handle_done(now, Done::SnapshotFailed { index });
        if self.failed.is_none() {
            let reason = error_chain(error);
            let pause = self.snapshots.record_failure(self.now.monotonic, reason.clone());
            self.refuse_snapshot_requests(&reason);
            self.effects.push_back(Effect::Event(ReplicaEvent::SnapshotFailed { reason, pause }));
        }
    }

    /// A leader's snapshot has replaced the log. The state machine restores it after the jobs that
    /// it has already.
    pub(super) fn start_restore(&mut self, meta: SnapshotMeta) {
        self.snapshots.applied_bytes = 0;
        self.snapshots.last = (meta.index, meta.stamp);
        self.machine.restoring = Some(meta.index);
        let index = meta.index;
        self.ask_machine(MachineJob::Restore(meta));
        if self.takes_digests() {
            self.ask_machine(MachineJob::TakeDigest(index));
        }
    }

    /// The state machine was restored from the snapshot of [`MachineJob::Restore`].
    ///
    /// # Panics
    /// If it was restored out of order.
    pub(super) fn handle_restored(&mut self, now: Now, meta: &SnapshotMeta) {
        self.now = self.now.then(now);
        // A state that replaces a wrong one may have the same index.
        let is_later =
            meta.index > self.applied || (meta.index == self.applied && self.machine.is_replaced);
        assert!(is_later, "{} is restored after {} was applied", meta.index, self.applied);
        self.writes.record_restore(meta);
        self.resolve_admin_requests(meta);
        self.applied = meta.index;
        // This node's earlier proposals beyond the snapshot are lost; those before its end may be
        // included in it.
        let outcome = match planted(Mutant::OvertakenIsRefused) {
            true => Outcome::Refused(Refusal::Superseded),
            false => Outcome::Unknown(Doubt::LogReplaced),
        };
        for key in self.writes.proposed_up_to(meta.index).collect::<Vec<_>>() {
            self.finish(key, outcome.clone());
        }
        self.refuse_superseded(meta.term);
        if self.failed.is_none() {
            self.core.handle_done(now, Done::Applied { index: meta.index });
            self.release_reads();
            self.reads.wake();
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    fn content(bytes: &[u8]) -> io::Result<Vec<u8>> {
        let mut reader = bytes;
        decode_sessions(&mut reader).map(|_| reader.to_vec())
    }

    #[test]
    pub(crate) fn a_snapshot_that_never_ends_fails_at_its_bound() {
        let policy = SnapshotPolicy::new(1, Some(1_000));
        let mut source =
            policy.bound(encode_content(Box::new(io::repeat(7).take(1 << 20)), &Sessions::new()));
        let error = io::copy(&mut source, &mut io::sink()).unwrap_err().to_string();
        assert!(error.contains("1000 bytes of Limits::snapshot_bytes"), "{error}");
        // One that has just as many is whole.
        let head_bytes =
            io::copy(&mut encode_content(Box::new(io::empty()), &Sessions::new()), &mut io::sink())
                .unwrap();
        let mut source = policy.bound(encode_content(
            Box::new(io::repeat(7).take(1_000 - head_bytes)),
            &Sessions::new(),
        ));
        assert_eq!(io::copy(&mut source, &mut io::sink()).unwrap(), 1_000);
    }

    #[test]
    fn the_machines_bytes_come_back() {
        let mut sealed = Vec::new();
        let mut policy = SnapshotPolicy::new(1, None);
        policy
            .bound(encode_content(Box::new(&b"state"[..]), &Sessions::new()))
            .read_to_end(&mut sealed)
            .unwrap();
        assert_eq!(content(&sealed).unwrap(), b"state");
        policy.record_written();
        assert_eq!(policy.last_bytes, sealed.len() as u64);
    }

    #[test]
    fn snapshots_that_fail_are_tried_after_growing_pauses() {
        let mut policy = SnapshotPolicy::new(100, None);
        let pauses: Vec<u64> = (0..12)
            .map(|at| {
                let now = Time(at);
                let pause = policy.record_failure(now, format!("no room, {at}"));
                assert_eq!(
                    (policy.retry_at, policy.failure()),
                    (now.after(pause), Some(&*format!("no room, {at}")))
                );
                assert!(
                    policy.applied_bytes >= policy.interval_bytes,
                    "one is due as soon as it may be tried"
                );
                pause.as_secs()
            })
            .collect();
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300]);
        policy.record_written();
        assert_eq!(policy.failure(), None);
        assert_eq!(
            policy.record_failure(Time(0), String::new()).as_secs(),
            1,
            "the count begins again"
        );
    }

    #[test]
    fn other_versions_and_short_contents_are_refused() {
        assert!(content(&[1, 0, 0, 0, 0]).unwrap_err().to_string().contains("version 1"));
        assert!(content(&[VERSION, 0, 0]).is_err());
        assert!(content(&[VERSION, 5, 0, 0, 0, 0, 0, 0, 0]).is_err(), "less than it says");
        assert!(content(&[VERSION, 5, 0, 0, 0, 0, 0, 0, 0, 9]).is_err(), "more than the sessions");
    }
}
