//! The log: appends, syncs and reads.

use std::collections::BTreeMap;
use std::fmt;

use super::body;
use super::contents::Contents;
use super::frame::{self, FrameFormat, FrameKind, MAX_FRAME_BYTES};
use super::next_segment::NextSegment;
use super::reader::EntryReader;
use super::recovery::{self, LogParts, Recovered};
use super::segment::{self, ActiveSegment, FrameChain};
use super::segment_pool::SegmentPool;
use super::snapshot::{FoundSnapshots, SnapshotStore};
use super::synced::{SyncedFile, SyncedMark};
use super::{Disk, DiskFile, LogOptions, StorageError};
use crate::core::Fetch;
use crate::core::mutants::{Mutant, planted};
use crate::types::{
    Configuration, Divergence, Entry, Identity, Index, LogPosition, Saved, SnapshotMeta, Write,
};

/// Frames wait in memory for the next [`Log::sync`]. They are written to the file earlier once they
/// reach this size, in bytes.
const BUFFER_BYTES: usize = 1 << 20;

/// A log on a disk: one node's entries, term, vote and promise.
///
/// A failed write or sync poisons the log: every later call fails, until the log is opened again.
/// The kernel may have dropped the bytes and still show them, so only recovery finds out what is on
/// disk.
///
/// ```
/// use kodiak_raft::core::Fetch;
/// use kodiak_raft::storage::{Log, LogOptions, RealDisk};
/// use kodiak_raft::types::*;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let folder = tempfile::tempdir()?;
/// let disk = RealDisk::open(folder.path())?;
/// let identity =
///     Identity { cluster: ClusterId(1), group: GroupId(1), node: NodeId(1), disk: DiskId(77) };
/// let configuration = Configuration::of_voters([(NodeId(1), Member::default())]);
/// let mut log = Log::create(disk, &identity, &configuration, LogOptions::default())?;
/// let entry = Entry { index: Index(1), term: Term(1), stamp: Stamp(0), payload: Payload::Noop };
/// log.append(&Write { sequence: 1, entries: entry.clone().into(), ..Write::default() })?;
/// log.sync()?; // now the entry is durable
/// drop(log);
///
/// let disk = RealDisk::open(folder.path())?;
/// let (mut log, recovered) = Log::open(disk, LogOptions::default())?;
/// assert_eq!(recovered.identity, identity);
/// assert_eq!(recovered.saved.terms.last_index(), Index(1));
/// let fetch = Fetch { id: 1, from: Index(1), to: Index(1), limit_bytes: 100 };
/// assert_eq!(log.read(&fetch)?, [entry]);
/// # Ok(())
/// # }
/// ```
pub struct Log<D: Disk> {
    pub(super) disk: D,
    pub(super) identity: Identity,
    initial_configuration: Configuration,
    pub(super) contents: Contents,
    pub(super) segment_pool: SegmentPool,
    pub(super) snapshot_store: SnapshotStore<D::File>,
    /// The segment with which the log began, before any compaction.
    origin: u64,
    active: ActiveSegment<D::File>,
    next_segment: NextSegment<D::File>,
    /// The file `SYNCED`.
    synced_file: SyncedFile<D::File>,
    chain: FrameChain,
    /// The last frame that is not a mark: a sync must reach it.
    last_content_sequence: u64,
    /// The `synced` of the last frame.
    marked: u64,
    /// The greatest commit index in a frame.
    written_commit: Index,
    /// Frames of the active segment that are not written to its file yet.
    buffer: Vec<u8>,
    pub(super) reader: EntryReader<D::File>,
    /// The failure that poisoned the log.
    poisoned: Option<StorageError>,
    /// Set if the newest snapshot may hold a state that differs from that of a majority.
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
    /// Creates the log of a new node. It is durable on return.
    ///
    /// # Errors
    /// [`StorageError::AlreadyExists`] if the disk holds a log; [`StorageError::Io`].
    pub fn create(
        mut disk: D,
        identity: &Identity,
        initial_configuration: &Configuration,
        options: LogOptions,
    ) -> Result<Log<D>, StorageError> {
        if let Some(file) = recovery::find_log_file(&mut disk)? {
            return Err(StorageError::AlreadyExists { file });
        }
        segment::remove_unfinished(&mut disk)?;
        let found = FoundSnapshots::search(&mut disk)?;
        let snapshot_store = SnapshotStore::new(&mut disk, found)?;
        let mut segment_pool = SegmentPool::find(&mut disk, &options)?;
        let synced_file = SyncedFile::prepare(&mut disk)?;
        let mut contents = Contents::of_new_log(initial_configuration);
        let mut chain = FrameChain { group: identity.group.0, sequence: 0, checksum: 0, synced: 0 };
        let mut segment_header = contents.segment_header(1, 1, identity, initial_configuration);
        let new_file = segment_pool.allocate(segment_header.frame_bytes());
        segment_header.is_recycled = new_file.is_recycled();
        let mut content = Vec::new();
        let tag = chain.append_segment_header(&mut content, &segment_header, 0);
        let capacity_bytes = new_file.capacity_bytes;
        contents.add_segment(1, capacity_bytes);
        contents.sparse_index.reserve(capacity_bytes);
        let file = new_file.create(&mut disk, 1, &content)?;
        let active = ActiveSegment {
            number: 1,
            file,
            tag,
            capacity_bytes,
            written_bytes: content.len() as u64,
        };
        let (identity, initial_configuration) = (*identity, initial_configuration.clone());
        let origin = 1;
        Log::assemble(LogParts {
            disk,
            identity,
            initial_configuration,
            contents,
            segment_pool,
            snapshot_store,
            origin,
            active,
            synced_file,
            chain,
        })
    }

    /// Opens the log of a node that has run before. Everything returned is durable.
    ///
    /// # Errors
    /// - [`StorageError::NoLog`] if the disk holds none.
    /// - [`StorageError::Corrupt`] if something is damaged that was known to be durable and is
    ///   needed. The newest snapshot is needed, unless the log reaches back to an older one or to
    ///   its first entry.
    /// - [`StorageError::EndLost`] if `SYNCED` says that the log was longer.
    /// - [`StorageError::Unsupported`] if a later version wrote it.
    /// - [`StorageError::Io`] and [`StorageError::SpecialFile`].
    pub fn open(disk: D, options: LogOptions) -> Result<(Log<D>, Recovered), StorageError> {
        let (parts, mut recovered) = recovery::recover(disk, options)?;
        let mut log = Log::assemble(parts)?;
        recovered.saved.position = log.position();
        log.load_divergence(&mut recovered.saved)?;
        Ok((log, recovered))
    }

    /// Opens the log if the disk holds one. Otherwise creates one for the identity and the initial
    /// configuration that `bootstrap` returns.
    ///
    /// # Errors
    /// Those of [`open`](Self::open), except `NoLog`, and those of [`create`](Self::create).
    pub fn open_or_create(
        mut disk: D,
        options: LogOptions,
        bootstrap: impl FnOnce() -> (Identity, Configuration),
    ) -> Result<(Log<D>, Recovered), StorageError> {
        if recovery::find_log_file(&mut disk)?.is_some() {
            return Log::open(disk, options);
        }
        let (identity, initial_configuration) = bootstrap();
        let log = Log::create(disk, &identity, &initial_configuration, options)?;
        let saved = Saved {
            hard_state: log.contents.hard_state,
            initial_configuration,
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

    pub(super) fn assemble(parts: LogParts<D>) -> Result<Log<D>, StorageError> {
        let LogParts {
            disk,
            identity,
            initial_configuration,
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
            initial_configuration,
            contents,
            segment_pool,
            snapshot_store,
            origin,
            active,
            next_segment: NextSegment::Missing,
            last_content_sequence: chain.sequence,
            marked: chain.sequence,
            written_commit,
            synced_file,
            chain,
            buffer: Vec::new(),
            reader: EntryReader::default(),
            poisoned: None,
            divergence: None,
        };
        log.write_synced_mark(chain)?;
        Ok(log)
    }

    /// The node, group, cluster and disk that the log belongs to.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// The last entry's index, durable or not.
    ///
    /// If no entry follows the snapshot it is the snapshot's index, and 0 if there is no snapshot.
    #[must_use]
    pub fn last_index(&self) -> Index {
        self.contents.terms.last_index()
    }

    /// How far the log is durable. Exact only if nothing was appended since the last
    /// [`sync`](Self::sync).
    #[must_use]
    pub fn position(&self) -> LogPosition {
        let terms = &self.contents.terms;
        LogPosition {
            sequence: self.chain.synced,
            term: terms.last_term(),
            index: terms.last_index(),
        }
    }

    /// The first entry that the log holds; if it is empty, the first that it will hold.
    #[must_use]
    pub fn first_index(&self) -> Index {
        self.contents.terms.base().next()
    }

    /// Appends a write as one frame, which the next [`sync`](Self::sync) makes durable. A write
    /// that changes nothing takes no frame.
    ///
    /// # Errors
    /// - [`StorageError::Rejected`] if the write contradicts the log: entries that do not follow, a
    ///   term that falls, a second vote. Nothing has changed.
    /// - [`StorageError::TooLarge`] if it does not fit a frame. Nothing has changed.
    /// - [`StorageError::Io`] and [`StorageError::Poisoned`]: the log is poisoned.
    pub fn append(&mut self, write: &Write) -> Result<(), StorageError> {
        self.check_not_poisoned()?;
        if body::is_empty(write) {
            return Ok(());
        }
        self.contents.check(write).map_err(|what| StorageError::Rejected { what })?;
        if let Some(from) =
            write.truncate_from.filter(|&from| from <= self.snapshot_store.newest_index())
        {
            let what = format!("a truncation from index {from}, which a snapshot includes");
            return Err(StorageError::Rejected { what });
        }
        let bytes = frame::total_bytes(body::write_bytes(write, self.format()));
        if bytes > MAX_FRAME_BYTES {
            return Err(StorageError::TooLarge {
                bytes: bytes as u64,
                limit: MAX_FRAME_BYTES as u64,
            });
        }
        let result = self.append_frame(write, bytes);
        self.poison_on_error(result)
    }

    /// Makes everything appended durable with one sync, or with none if everything is durable.
    ///
    /// # Errors
    /// [`StorageError::Io`] and [`StorageError::Poisoned`]: the log is poisoned. Which writes since
    /// the last successful sync are on disk is unknown.
    pub fn sync(&mut self) -> Result<(), StorageError> {
        self.check_not_poisoned()?;
        if self.last_content_sequence <= self.chain.synced {
            return Ok(());
        }
        let result = self.sync_all();
        self.poison_on_error(result)
    }

    /// Writes a mark of how far the log is durable, unless a frame says so already or something is
    /// unsynced.
    ///
    /// The mark is not synced. If it survives a crash, recovery can mistake less damage for a torn
    /// write; if it does not, nothing is lost.
    ///
    /// # Errors
    /// [`StorageError::Io`] and [`StorageError::Poisoned`]: the log is poisoned.
    pub fn write_mark(&mut self) -> Result<(), StorageError> {
        self.check_not_poisoned()?;
        let notes_sync = self.marked < self.last_content_sequence
            && self.last_content_sequence <= self.chain.synced;
        let notes_commit =
            self.format() >= FrameFormat::V3 && self.written_commit < self.contents.commit;
        let body_bytes = if notes_commit { 8 } else { 0 };
        let fits =
            self.end_bytes() + frame::total_bytes(body_bytes) as u64 <= self.active.capacity_bytes;
        if !(notes_sync || notes_commit) || !fits {
            return Ok(());
        }
        let start = frame::begin(&mut self.buffer);
        if notes_commit {
            self.buffer.extend_from_slice(&self.contents.commit.0.to_le_bytes());
            self.written_commit = self.contents.commit;
        }
        self.finish_frame(start, FrameKind::Mark);
        let result = self.flush();
        self.poison_on_error(result)
    }

    /// Raises the commit index. The next frame holds it, or the next
    /// [mark](Self::write_mark) if no frame follows; in format 2 neither does.
    ///
    /// # Errors
    /// [`StorageError::Rejected`] if the log ends before `commit`.
    pub fn commit_to(&mut self, commit: Index) -> Result<(), StorageError> {
        self.contents.commit_to(commit).map_err(|what| StorageError::Rejected { what })
    }

    /// Prepares the next segment's file, one megabyte at each call, once the active segment is half
    /// full. Returns whether another call is needed.
    ///
    /// A write that finds the segment full then need not wait for a new file. A call takes about as
    /// long as a sync of a megabyte.
    ///
    /// # Errors
    /// [`StorageError::Io`] and [`StorageError::Poisoned`]: the log is poisoned. It is no error if
    /// the disk has no space for the file: the write that needs the file reports that.
    pub fn prepare_next_segment(&mut self) -> Result<bool, StorageError> {
        self.check_not_poisoned()?;
        if self.end_bytes() < self.active.capacity_bytes / 2 {
            return Ok(false);
        }
        let result = self.next_segment.prepare_slice(
            &mut self.disk,
            &mut self.segment_pool,
            self.active.number + 1,
        );
        self.poison_on_error(result)
    }

    /// Reads entries `fetch.from..=fetch.to`: as many as fit `fetch.limit_bytes`, but at least one.
    ///
    /// Returns none if the log does not hold the first. Entries share memory, in pieces of about
    /// 64 KiB.
    ///
    /// # Errors
    /// [`StorageError::Corrupt`] if a frame is not what was written; [`StorageError::Io`];
    /// [`StorageError::Poisoned`].
    pub fn read(&mut self, fetch: &Fetch) -> Result<Vec<Entry>, StorageError> {
        self.check_not_poisoned()?;
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
        body::put_write(&mut self.buffer, write, format);
        self.finish_frame(start, FrameKind::Write);
        assert!(self.end_bytes() == offset + bytes as u64, "a frame is as long as was computed");
        self.last_content_sequence = self.chain.sequence;
        self.written_commit = self.written_commit.max(write.commit);
        self.contents.apply(write, self.active.number, offset);
        if self.buffer.len() >= BUFFER_BYTES { self.flush() } else { Ok(()) }
    }

    /// Begins a new segment with space for a frame of `frame_bytes`.
    ///
    /// The old one is synced first, so that only the last segment of a log can be torn.
    fn roll(&mut self, frame_bytes: usize) -> Result<(), StorageError> {
        self.finish_segment()?;
        self.begin_segment(self.origin, frame_bytes)
    }

    /// Removes all entries and continues after a snapshot; term and vote stay.
    ///
    /// The snapshot has its final name already, so after a crash recovery does the same.
    pub(super) fn restart_after_snapshot(
        &mut self,
        meta: &SnapshotMeta,
    ) -> Result<(), StorageError> {
        self.finish_segment()?;
        let superseded = self.contents.restart_after_snapshot(meta);
        self.begin_segment(self.active.number + 1, 0)?;
        // The old segments may be removed only once the new one's name is durable.
        self.sync_directory()?;
        self.write_synced_mark(self.chain)?;
        self.reader.close_segment();
        for segment in &superseded {
            self.segment_pool.recycle_or_remove(&mut self.disk, segment)?;
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
        let mut segment_header = self.contents.segment_header(
            number,
            origin,
            &self.identity,
            &self.initial_configuration,
        );
        let needed_bytes = segment_header.frame_bytes() + frame_bytes;
        let new_file = match self.next_segment.take(&mut self.disk, number, needed_bytes)? {
            Some(new_file) => new_file,
            None => self.segment_pool.allocate(needed_bytes),
        };
        segment_header.is_recycled = new_file.is_recycled();
        let capacity_bytes = new_file.capacity_bytes;
        let tag = self.chain.append_segment_header(&mut self.buffer, &segment_header, 0);
        let file = new_file.create(&mut self.disk, number, &self.buffer)?;
        let written_bytes = self.buffer.len() as u64;
        self.buffer.clear();
        self.origin = origin;
        self.active = ActiveSegment { number, file, tag, capacity_bytes, written_bytes };
        self.last_content_sequence = self.chain.sequence;
        self.marked = self.chain.synced;
        self.written_commit = self.contents.commit;
        self.contents.add_segment(number, capacity_bytes);
        self.contents.sparse_index.reserve(capacity_bytes);
        Ok(())
    }

    pub(super) fn sync_directory(&mut self) -> Result<(), StorageError> {
        self.disk
            .sync_directory()
            .map_err(|error| StorageError::io("sync", "the data folder", &error))
    }

    /// The format of the next frame.
    fn format(&self) -> FrameFormat {
        self.contents.format
    }

    fn finish_frame(&mut self, start: usize, kind: FrameKind) {
        let format = self.format();
        self.chain.finish_frame(&mut self.buffer, start, kind, format, self.active.tag);
        self.marked = self.chain.synced;
    }

    /// Where the next frame begins in the active segment.
    fn end_bytes(&self) -> u64 {
        self.active.written_bytes + self.buffer.len() as u64
    }

    /// Writes the buffer to the file, in one write.
    pub(super) fn flush(&mut self) -> Result<(), StorageError> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let ActiveSegment { file, written_bytes, number, .. } = &mut self.active;
        file.write_at(&self.buffer, *written_bytes)
            .map_err(|error| StorageError::io("write", &segment::name(*number), &error))?;
        *written_bytes += self.buffer.len() as u64;
        self.buffer.clear();
        // The memory of one huge frame is given back.
        self.buffer.shrink_to(4 * BUFFER_BYTES);
        Ok(())
    }

    fn sync_all(&mut self) -> Result<(), StorageError> {
        self.flush()?;
        if planted(Mutant::MarkBeforeSync) {
            self.write_synced_mark(FrameChain { synced: self.chain.sequence, ..self.chain })?;
        }
        let ActiveSegment { file, number, .. } = &mut self.active;
        file.sync().map_err(|error| StorageError::io("sync", &segment::name(*number), &error))?;
        self.chain.synced = self.chain.sequence;
        self.write_synced_mark(self.chain)
    }

    /// Writes to `SYNCED` how far the log is durable.
    ///
    /// Only for a segment whose name is durable, or that has frames besides its header. Another one
    /// may be missing after a power failure, and nothing is lost then.
    fn write_synced_mark(&mut self, chain: FrameChain) -> Result<(), StorageError> {
        self.synced_file.write(&SyncedMark::current(
            &self.identity,
            &chain,
            &self.active,
            &self.contents,
        ))
    }

    pub(super) fn check_not_poisoned(&self) -> Result<(), StorageError> {
        match &self.poisoned {
            None => Ok(()),
            Some(first) => Err(StorageError::Poisoned { source: Box::new(first.clone()) }),
        }
    }

    pub(super) fn poison_on_error<T>(
        &mut self,
        result: Result<T, StorageError>,
    ) -> Result<T, StorageError> {
        if let Err(error) = &result {
            self.poisoned = Some(error.clone());
        }
        result
    }
}
