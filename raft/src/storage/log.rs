//! The log: appends, syncs and reads.

use std::collections::BTreeMap;
use std::fmt;

use super::body;
use super::contents::Contents;
use super::frame::{self, Format, Kind, MAX_FRAME_BYTES};
use super::next_segment::NextSegment;
use super::reader::Reader;
use super::recovery::{self, Parts, Recovered};
use super::segment::{self, Active, Chain};
use super::segment_pool::SegmentPool;
use super::snapshot::{Found, SnapshotStore};
use super::synced::{SyncedFile, SyncedMark};
use super::{Disk, DiskFile, LogOptions, StorageError};
use crate::core::Fetch;
use crate::core::mutants::{Mutant, planted};
use crate::types::{
    Configuration, Divergence, Entry, Identity, Index, LogPosition, Saved, SnapshotMeta, Write,
};

/// Frames wait in memory for the next [`Log::sync`], and go to the file before it once they are
/// this many bytes.
const BUFFER_BYTES: usize = 1 << 20;

/// A log on a disk: what one node has promised.
///
/// After any failed write or sync it is poisoned: what is on disk is unknown then (the kernel may
/// have dropped the bytes and still show them), so every further call fails, and only opening it
/// anew finds out.
///
/// ```
/// use kodiak_raft::core::Fetch;
/// use kodiak_raft::storage::{Log, LogOptions, RealDisk};
/// use kodiak_raft::types::*;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let folder = tempfile::tempdir()?;
/// let identity = Identity { cluster: ClusterId(1), group: GroupId(1), node: NodeId(1), disk: DiskId(77) };
/// let founding = Configuration::of_voters([(NodeId(1), Member::default())]);
/// let mut log = Log::create(RealDisk::open(folder.path())?, &identity, &founding, LogOptions::default())?;
/// let entry = Entry { index: Index(1), term: Term(1), stamp: Stamp(0), payload: Payload::Noop };
/// log.append(&Write { sequence: 1, entries: entry.clone().into(), ..Write::default() })?;
/// log.sync()?; // now it is durable
/// drop(log);
///
/// let (mut log, recovered) = Log::open(RealDisk::open(folder.path())?, LogOptions::default())?;
/// assert_eq!(recovered.identity, identity);
/// assert_eq!(recovered.saved.terms.last_index(), Index(1));
/// assert_eq!(log.read(&Fetch { id: 1, from: Index(1), to: Index(1), limit_bytes: 100 })?, [entry]);
/// # Ok(())
/// # }
/// ```
pub struct Log<D: Disk> {
    pub(super) disk: D,
    pub(super) identity: Identity,
    founding: Configuration,
    pub(super) contents: Contents,
    pub(super) segment_pool: SegmentPool,
    pub(super) snapshot_store: SnapshotStore<D::File>,
    /// The segment with which the log begins, or began before it was compacted.
    origin: u64,
    active: Active<D::File>,
    /// The file of the next segment.
    next_segment: NextSegment<D::File>,
    /// The second mark of what is on the disk.
    synced_file: SyncedFile<D::File>,
    chain: Chain,
    /// The last frame that holds more than a mark.
    last_step: u64,
    /// The greatest `synced` that a frame carries.
    marked: u64,
    /// The greatest commit index that a frame carries.
    written_commit: Index,
    /// Frames of the active segment that its file has not been given yet.
    buffer: Vec<u8>,
    pub(super) reader: Reader<D::File>,
    poisoned: Option<String>,
    /// The newest snapshot may hold a state that is not that of a majority.
    pub(super) divergence: Option<Divergence>,
}

impl<D: Disk> fmt::Debug for Log<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Log")
            .field("identity", &self.identity)
            .field("hard_state", &self.contents.hard_state)
            .field("last_index", &self.contents.terms.last_index())
            .field("segment", &self.active.number)
            .field("sequence", &self.chain.sequence)
            .field("synced", &self.chain.synced)
            .field("poisoned", &self.poisoned)
            .finish_non_exhaustive()
    }
}

impl<D: Disk> Log<D> {
    /// Makes the log of a new node. Its first frame is its birth record, durable on return.
    ///
    /// # Errors
    /// [`StorageError::AlreadyExists`] if the disk holds a log; [`StorageError::Io`].
    pub fn create(
        mut disk: D,
        identity: &Identity,
        founding: &Configuration,
        options: LogOptions,
    ) -> Result<Log<D>, StorageError> {
        if let Some(file) = recovery::what_is_there(&mut disk)? {
            return Err(StorageError::AlreadyExists { file });
        }
        segment::remove_unfinished(&mut disk)?;
        let found = Found::search(&mut disk)?;
        let snapshot_store = SnapshotStore::new(&mut disk, found)?;
        let mut segment_pool = SegmentPool::find(&mut disk, &options)?;
        let synced_file = SyncedFile::prepare(&mut disk)?;
        let mut contents = Contents::of_new_log(founding);
        let mut chain = Chain { group: identity.group.0, sequence: 0, checksum: 0, synced: 0 };
        let mut opening = contents.opening(1, 1, identity, founding);
        let room = segment_pool.room(opening.frame_bytes());
        opening.is_recycled = room.is_recycled();
        let mut content = Vec::new();
        let tag = chain.open_segment(&mut content, &opening, 0);
        let capacity_bytes = room.capacity_bytes;
        contents.begin_segment(1, capacity_bytes);
        contents.locator.reserve(capacity_bytes);
        let file = room.make(&mut disk, 1, &content)?;
        let active =
            Active { number: 1, file, tag, capacity_bytes, written_bytes: content.len() as u64 };
        let (identity, founding) = (*identity, founding.clone());
        let origin = 1;
        Log::assemble(Parts {
            disk,
            identity,
            founding,
            contents,
            segment_pool,
            snapshot_store,
            origin,
            active,
            synced_file,
            chain,
        })
    }

    /// Opens the log of a node that has run before. Everything handed over is durable on return.
    ///
    /// # Errors
    /// [`StorageError::NoLog`] if the disk holds none; [`StorageError::Corrupt`] if anything that
    /// was known to be durable and is needed is damaged, the newest snapshot included unless the
    /// log reaches back to the one before or to the start; [`StorageError::Unsupported`] if a later
    /// version wrote it; [`StorageError::Io`].
    pub fn open(disk: D, options: LogOptions) -> Result<(Log<D>, Recovered), StorageError> {
        let (parts, mut recovered) = recovery::recover(disk, options)?;
        let mut log = Log::assemble(parts)?;
        recovered.saved.position = log.position();
        log.find_divergence(&mut recovered.saved)?;
        Ok((log, recovered))
    }

    /// Opens the log if the disk holds one; else makes one for the identity and the founding
    /// configuration that `birth` gives.
    ///
    /// # Errors
    /// Those of [`open`](Self::open), except `NoLog`, and of [`create`](Self::create).
    pub fn open_or_create(
        mut disk: D,
        options: LogOptions,
        birth: impl FnOnce() -> (Identity, Configuration),
    ) -> Result<(Log<D>, Recovered), StorageError> {
        if recovery::what_is_there(&mut disk)?.is_some() {
            return Log::open(disk, options);
        }
        let (identity, founding) = birth();
        let log = Log::create(disk, &identity, &founding, options)?;
        let saved = Saved {
            hard_state: log.contents.hard_state,
            initial_configuration: founding,
            snapshot: None,
            configurations: Vec::new(),
            terms: log.contents.terms.clone(),
            tail: Vec::new(),
            commit: Index(0),
            peer_records: BTreeMap::new(),
            life: log.contents.life,
            position: log.position(),
            divergence: None,
        };
        let (torn, damaged_snapshots, damaged_segment) = (None, Vec::new(), None);
        let lacks_snapshot = false;
        Ok((
            log,
            Recovered {
                identity,
                saved,
                rewritten: 0,
                torn,
                damaged_snapshots,
                lacks_snapshot,
                damaged_segment,
            },
        ))
    }

    pub(super) fn assemble(parts: Parts<D>) -> Result<Log<D>, StorageError> {
        let Parts {
            disk,
            identity,
            founding,
            contents,
            segment_pool,
            snapshot_store,
            origin,
            active,
            synced_file,
            chain,
        } = parts;
        assert!(chain.synced == chain.sequence, "a new segment is durable before it is used");
        let written_commit = contents.commit;
        let mut log = Log {
            disk,
            identity,
            founding,
            contents,
            segment_pool,
            snapshot_store,
            origin,
            active,
            next_segment: NextSegment::Missing,
            last_step: chain.sequence,
            marked: chain.sequence,
            written_commit,
            synced_file,
            chain,
            buffer: Vec::new(),
            reader: Reader::default(),
            poisoned: None,
            divergence: None,
        };
        log.note_synced(chain)?;
        Ok(log)
    }

    /// Whom the log belongs to.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// The last entry's index, durable or not; that of the snapshot if none follows it, 0 if there
    /// is neither.
    #[must_use]
    pub fn last_index(&self) -> Index {
        self.contents.terms.last_index()
    }

    /// How far the log is durable, if nothing was appended since the last [`sync`](Self::sync).
    #[must_use]
    pub fn position(&self) -> LogPosition {
        let terms = &self.contents.terms;
        LogPosition {
            sequence: self.chain.synced,
            term: terms.last_term(),
            index: terms.last_index(),
        }
    }

    /// The first entry that the log holds, or will hold if it is empty.
    #[must_use]
    pub fn first_index(&self) -> Index {
        self.contents.terms.base().next()
    }

    /// Adds a write to the log, as one frame; durable after the next [`sync`](Self::sync). A write
    /// that changes nothing takes no frame.
    ///
    /// # Errors
    /// [`StorageError::Rejected`] if the write contradicts the log (entries that do not follow, a
    /// term that falls, a second vote) and [`StorageError::TooLarge`] if it does not fit a frame:
    /// nothing has happened then. [`StorageError::Io`] and [`StorageError::Poisoned`]: the log is
    /// poisoned.
    pub fn append(&mut self, write: &Write) -> Result<(), StorageError> {
        self.check_poison()?;
        if body::is_empty(write) {
            return Ok(());
        }
        self.contents.check(write).map_err(|what| StorageError::Rejected { what })?;
        if let Some(from) =
            write.truncate_from.filter(|&from| from <= self.snapshot_store.newest_index())
        {
            let what = format!("a truncation from index {from} of what a snapshot includes");
            return Err(StorageError::Rejected { what });
        }
        let bytes = frame::total_bytes(body::step_bytes(write, self.format()));
        if bytes > MAX_FRAME_BYTES {
            return Err(StorageError::TooLarge {
                bytes: bytes as u64,
                limit: MAX_FRAME_BYTES as u64,
            });
        }
        let result = self.append_frame(write, bytes);
        self.poison_on_error(result)
    }

    /// Makes everything appended durable, with one sync; with none if there is nothing to do.
    ///
    /// # Errors
    /// [`StorageError::Io`] and [`StorageError::Poisoned`]: the log is poisoned, and which of the
    /// writes since the last successful sync are on disk is unknown.
    pub fn sync(&mut self) -> Result<(), StorageError> {
        self.check_poison()?;
        if self.last_step <= self.chain.synced {
            return Ok(());
        }
        let result = self.sync_all();
        self.poison_on_error(result)
    }

    /// Notes in the log how far it is known to be durable, if no frame says so yet and nothing is
    /// unsynced. The note is not synced itself: where it survives it narrows what could be mistaken
    /// for a torn write, and where it does not nothing is lost.
    ///
    /// # Errors
    /// [`StorageError::Io`] and [`StorageError::Poisoned`]: the log is poisoned.
    pub fn mark(&mut self) -> Result<(), StorageError> {
        self.check_poison()?;
        let settles = self.marked < self.last_step && self.last_step <= self.chain.synced;
        let commits = self.format() >= Format::V3 && self.written_commit < self.contents.commit;
        let body_bytes = if commits { 8 } else { 0 };
        let fits =
            self.end_bytes() + frame::total_bytes(body_bytes) as u64 <= self.active.capacity_bytes;
        if !(settles || commits) || !fits {
            return Ok(());
        }
        let start = frame::begin(&mut self.buffer);
        if commits {
            self.buffer.extend_from_slice(&self.contents.commit.0.to_le_bytes());
            self.written_commit = self.contents.commit;
        }
        self.seal(start, Kind::Mark);
        let result = self.flush();
        self.poison_on_error(result)
    }

    /// Takes note of what is committed. The next frame says it, or the next [`mark`](Self::mark) if
    /// no frame follows; in format 2 nothing does.
    ///
    /// # Errors
    /// [`StorageError::Rejected`] if the log does not reach so far.
    pub fn commit_to(&mut self, commit: Index) -> Result<(), StorageError> {
        if self.contents.commit_to(commit) {
            return Ok(());
        }
        let what = format!("commit index {commit} beyond the last entry, {}", self.last_index());
        Err(StorageError::Rejected { what })
    }

    /// Once the segment is half full, makes the file for the next one, a piece at each call, so
    /// that a write which finds the segment full need not wait for that. `true` if it should be
    /// called again soon; a call takes about as long as a sync of a megabyte.
    ///
    /// # Errors
    /// [`StorageError::Io`] and [`StorageError::Poisoned`]: the log is poisoned. A disk that has no
    /// room for the file is no error yet.
    pub fn prepare(&mut self) -> Result<bool, StorageError> {
        self.check_poison()?;
        if self.end_bytes() < self.active.capacity_bytes / 2 {
            return Ok(false);
        }
        let result =
            self.next_segment.step(&mut self.disk, &mut self.segment_pool, self.active.number + 1);
        self.poison_on_error(result)
    }

    /// Reads entries `fetch.from..=fetch.to`, as many as fit `fetch.limit_bytes`, though at least
    /// one; those that the log does not hold are left out, so there may be none. Entries share
    /// memory, in pieces of some 64 KiB.
    ///
    /// # Errors
    /// [`StorageError::Corrupt`] if a frame is no longer what was written; [`StorageError::Io`];
    /// [`StorageError::Poisoned`].
    pub fn read(&mut self, fetch: &Fetch) -> Result<Vec<Entry>, StorageError> {
        self.check_poison()?;
        let result = self.flush();
        self.poison_on_error(result)?;
        self.reader.read(&mut self.disk, &self.active, &self.contents, fetch)
    }

    fn append_frame(&mut self, write: &Write, bytes: usize) -> Result<(), StorageError> {
        if self.end_bytes() + bytes as u64 > self.active.capacity_bytes {
            self.roll(bytes)?;
        }
        let offset = self.end_bytes();
        let start = frame::begin(&mut self.buffer);
        let format = self.format();
        body::put_step(&mut self.buffer, write, format);
        self.seal(start, Kind::Step);
        assert!(self.end_bytes() == offset + bytes as u64, "a frame is as long as was computed");
        self.last_step = self.chain.sequence;
        self.written_commit = self.written_commit.max(write.commit);
        self.contents.apply(write, self.active.number, offset);
        if self.buffer.len() >= BUFFER_BYTES { self.flush() } else { Ok(()) }
    }

    /// Begins a new segment with room for a frame of `frame_bytes`. The old one is synced first, so
    /// that only the last segment of a log can be torn.
    fn roll(&mut self, frame_bytes: usize) -> Result<(), StorageError> {
        self.finish_segment()?;
        self.begin_segment(self.origin, frame_bytes)
    }

    /// Begins anew after a snapshot: term and vote stay, all entries go. The snapshot has its name
    /// already, so whatever happens on the way, opening the log will find that it must begin there.
    pub(super) fn begin_after(&mut self, meta: &SnapshotMeta) -> Result<(), StorageError> {
        self.finish_segment()?;
        let void = self.contents.begin_after(meta);
        self.begin_segment(self.active.number + 1, 0)?;
        // What it takes the place of may go only once its name is durable.
        self.sync_directory()?;
        self.note_synced(self.chain)?;
        self.reader.forget();
        for segment in &void {
            self.segment_pool.retire(&mut self.disk, segment)?;
        }
        self.sync_directory()
    }

    fn finish_segment(&mut self) -> Result<(), StorageError> {
        if self.chain.sequence > self.chain.synced {
            self.sync_all()?;
        }
        let last = self.contents.segments.last_mut().expect("a log has a segment");
        last.used_bytes = self.active.written_bytes;
        Ok(())
    }

    fn begin_segment(&mut self, origin: u64, frame_bytes: usize) -> Result<(), StorageError> {
        let number = self.active.number + 1;
        let mut opening = self.contents.opening(number, origin, &self.identity, &self.founding);
        let needed_bytes = opening.frame_bytes() + frame_bytes;
        let room = match self.next_segment.take(&mut self.disk, number, needed_bytes)? {
            Some(room) => room,
            None => self.segment_pool.room(needed_bytes),
        };
        opening.is_recycled = room.is_recycled();
        let capacity_bytes = room.capacity_bytes;
        let tag = self.chain.open_segment(&mut self.buffer, &opening, 0);
        let file = room.make(&mut self.disk, number, &self.buffer)?;
        let written_bytes = self.buffer.len() as u64;
        self.buffer.clear();
        self.origin = origin;
        self.active = Active { number, file, tag, capacity_bytes, written_bytes };
        self.last_step = self.chain.sequence;
        self.marked = self.chain.synced;
        self.written_commit = self.contents.commit;
        self.contents.begin_segment(number, capacity_bytes);
        self.contents.locator.reserve(capacity_bytes);
        Ok(())
    }

    pub(super) fn sync_directory(&mut self) -> Result<(), StorageError> {
        self.disk
            .sync_directory()
            .map_err(|error| StorageError::io("sync", "the data folder", &error))
    }

    /// The format in which the next frame is written.
    fn format(&self) -> Format {
        self.contents.format
    }

    fn seal(&mut self, start: usize, kind: Kind) {
        let format = self.format();
        self.chain.seal(&mut self.buffer, start, kind, format, self.active.tag);
        self.marked = self.chain.synced;
    }

    /// Where the next frame begins in the active segment.
    fn end_bytes(&self) -> u64 {
        self.active.written_bytes + self.buffer.len() as u64
    }

    /// Hands the buffer to the file, in one write.
    pub(super) fn flush(&mut self) -> Result<(), StorageError> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let Active { file, written_bytes, number, .. } = &mut self.active;
        file.write_at(&self.buffer, *written_bytes)
            .map_err(|error| StorageError::io("write", &segment::name(*number), &error))?;
        *written_bytes += self.buffer.len() as u64;
        self.buffer.clear();
        // One huge frame should not cost its memory for ever.
        self.buffer.shrink_to(4 * BUFFER_BYTES);
        Ok(())
    }

    fn sync_all(&mut self) -> Result<(), StorageError> {
        self.flush()?;
        if planted(Mutant::MarkBeforeSync) {
            self.note_synced(Chain { synced: self.chain.sequence, ..self.chain })?;
        }
        let Active { file, number, .. } = &mut self.active;
        file.sync().map_err(|error| StorageError::io("sync", &segment::name(*number), &error))?;
        self.chain.synced = self.chain.sequence;
        self.note_synced(self.chain)
    }

    /// Writes the second mark of what is on the disk. Only for a segment whose name is durable, or
    /// that has frames besides its opening: another one may be gone after a power failure, which is
    /// no loss.
    fn note_synced(&mut self, chain: Chain) -> Result<(), StorageError> {
        self.synced_file.note(&SyncedMark::now(
            &self.identity,
            &chain,
            &self.active,
            &self.contents,
        ))
    }

    pub(super) fn check_poison(&self) -> Result<(), StorageError> {
        match &self.poisoned {
            None => Ok(()),
            Some(cause) => Err(StorageError::Poisoned { cause: cause.clone() }),
        }
    }

    pub(super) fn poison_on_error<T>(
        &mut self,
        result: Result<T, StorageError>,
    ) -> Result<T, StorageError> {
        if let Err(error) = &result {
            self.poisoned = Some(error.to_string());
        }
        result
    }
}
