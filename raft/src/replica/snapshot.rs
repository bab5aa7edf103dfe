//! Snapshots: when one is taken, what is in it besides the state machine's own bytes, and what one
//! from the leader means for those who wait.
//!
//! ```text
//! content  version u8 | length u32 | the sessions ... | the state machine's bytes ...
//! ```
//!
//! The sessions are as [`Sessions::encode`] writes them.

use std::io::{self, Cursor, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::machine::MachineReader;
use super::requests::RequestKey;
use super::{
    Doubt, Effect, MachineJob, Outcome, Refusal, Replica, ReplicaEvent, Sessions, StateMachine,
};
use crate::core::Done;
use crate::core::mutants::{Mutant, planted};
use crate::storage::{SnapshotSource, StorageError};
use crate::types::{Entries, Index, Now, SnapshotMeta, Stamp, Time};

const VERSION: u8 = 2;

/// How long no snapshot is tried after one could not be written; after each further one twice as
/// long.
const RETRY_PAUSE_MIN: Duration = Duration::from_secs(1);
const RETRY_PAUSE_MAX: Duration = Duration::from_secs(300);

/// The content of a snapshot, around what the state machine gives.
pub(super) fn encode_content(machine: Box<dyn Read + Send>, sessions: &Sessions) -> SnapshotSource {
    let own = if planted(Mutant::SessionNotInSnapshot) {
        Sessions::new().encode()
    } else {
        sessions.encode()
    };
    let mut head = vec![VERSION];
    let own_bytes =
        u32::try_from(own.len()).expect("the bounds on sessions keep it far below 4 GiB");
    head.extend_from_slice(&own_bytes.to_le_bytes());
    head.extend_from_slice(&own);
    SnapshotSource::new(Cursor::new(head).chain(MachineReader::new(machine)))
}

/// Counts the bytes of a snapshot while they are read, and ends one that has too many: a state
/// machine whose reader never ends would fill the disk, and take the log's room with it.
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
                "it has more than the {limit} bytes of Limits::snapshot_bytes; raise that limit, unless the state \
                 machine's reader never ends"
            ))),
            None => Ok(read),
        }
    }
}

/// Reads up to where the state machine's own bytes begin.
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
    let own_bytes = u64::from(u32::from_le_bytes(length));
    let mut own = Vec::new();
    content.take(own_bytes).read_to_end(&mut own)?;
    if (own.len() as u64) < own_bytes {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Sessions::decode(&own).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

/// Puts a state machine into the state that a snapshot's content holds, and gives the sessions.
///
/// # Errors
/// What reading the content, or the state machine, says. The state machine is of no use then.
pub(super) fn restore(
    machine: &mut impl StateMachine,
    content: &mut dyn Read,
) -> io::Result<Sessions> {
    let sessions = decode_sessions(content)?;
    machine.restore(content)?;
    // Whatever the machine leaves is read, so that a file that is damaged there is noticed.
    io::copy(content, &mut io::sink())?;
    Ok(sessions)
}

/// What decides when the next snapshot is taken: when as much log has been applied since the last
/// one as the setting says, but no less than the last one took, so that no more is written for
/// snapshots than for the log.
#[derive(Debug)]
pub(super) struct SnapshotPolicy {
    /// `Limits::snapshot_every_bytes`.
    interval_bytes: u64,
    /// `Limits::snapshot_bytes`.
    limit_bytes: Option<u64>,
    /// Handed out to be applied since the last one.
    applied_bytes: u64,
    /// The last entry that was handed out to be applied, or what was restored.
    last: (Index, Stamp),
    /// What the last one took, once it is written.
    last_bytes: u64,
    /// Counts what the one takes that is being written.
    counter: Arc<AtomicU64>,
    /// How many could not be written since one was, why the last of them could not, and when
    /// another one is tried.
    failures: u32,
    failure: Option<String>,
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

    /// The last entry that the state machine was handed, or what the snapshot stands for that it
    /// restores.
    pub(super) fn handed_out(&self) -> Index {
        self.last.0
    }

    /// Counts what is read of the next one, and bounds it.
    pub(super) fn bound(&self, source: SnapshotSource) -> SnapshotSource {
        let size_bytes = Arc::clone(&self.counter);
        size_bytes.store(0, Ordering::Relaxed);
        SnapshotSource::new(BoundedReader { source, size_bytes, limit_bytes: self.limit_bytes })
    }

    /// The last one is written.
    pub(super) fn record_written(&mut self) {
        self.last_bytes = self.counter.load(Ordering::Relaxed);
        (self.failures, self.failure) = (0, None);
    }

    /// The last one could not be written. Returns how long no other one is tried: each time twice
    /// as long.
    fn record_failure(&mut self, now: Time, reason: String) -> Duration {
        let pause = RETRY_PAUSE_MIN.saturating_mul(1 << self.failures.min(16)).min(RETRY_PAUSE_MAX);
        self.failures = self.failures.saturating_add(1);
        (self.failure, self.retry_at) = (Some(reason), now.after(pause));
        // The next one is due as soon as it may be tried.
        self.applied_bytes = self.interval_bytes.max(self.last_bytes);
        pause
    }

    /// Why the last one could not be written, if none has been since.
    pub(super) fn failure(&self) -> Option<&str> {
        self.failure.as_deref()
    }
}

impl Replica {
    /// These are handed to the state machine: if enough has been since the last snapshot, the next
    /// one follows them.
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

    /// A member needs a snapshot now.
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

    /// The state machine copies its state as of the last entry that it was handed.
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

    /// The snapshot up to `index` could not be written. The log goes on, and another one is tried
    /// later, after pauses that grow, once entries are applied.
    pub fn handle_snapshot_failure(&mut self, now: Now, index: Index, error: &StorageError) {
        self.handle_done(now, Done::SnapshotFailed { index });
        if self.failed.is_none() {
            let reason = error.to_string();
            let pause = self.snapshots.record_failure(self.now.monotonic, reason.clone());
            self.refuse_snapshot_requests(&reason);
            self.effects.push_back(Effect::Event(ReplicaEvent::SnapshotFailed { reason, pause }));
        }
    }

    /// A leader's snapshot has taken the log's place: the state machine follows, after what it was
    /// handed before.
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

    /// The state machine is in the state of the snapshot that [`MachineJob::Restore`] named.
    ///
    /// # Panics
    /// If it had not applied everything before: it would have been restored out of order.
    pub(super) fn handle_restored(&mut self, now: Now, meta: &SnapshotMeta) {
        self.now = self.now.then(now);
        // A state that takes the place of a wrong one may be as old.
        let is_later =
            meta.index > self.applied || (meta.index == self.applied && self.machine.is_replaced);
        assert!(is_later, "{} is restored after {} was applied", meta.index, self.applied);
        self.writes.record_restore(meta);
        self.resolve_admin_requests(meta);
        self.applied = meta.index;
        // What this node has proposed in earlier terms beyond the snapshot is lost; what lies
        // before its end may be in it.
        let overtaken = match planted(Mutant::OvertakenIsRefused) {
            true => Outcome::Refused(Refusal::Superseded),
            false => Outcome::Unknown(Doubt::LogReplaced),
        };
        for key in self.overtaken(meta.index) {
            self.finish(key, overtaken.clone());
        }
        self.refuse_superseded(meta.term);
        if self.failed.is_none() {
            self.core.handle_done(now, Done::Applied { index: meta.index });
            self.release_reads();
            self.reads.wake();
        }
    }

    fn overtaken(&self, index: Index) -> Vec<RequestKey> {
        self.writes.proposed_up_to(index).collect()
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
