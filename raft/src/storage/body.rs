//! The bodies of frames: a segment's header, a write, a mark.

use std::collections::BTreeMap;

use bytes::{Buf, BufMut, Bytes};

use super::codec::{self, DecodeError, Decoder};
use super::frame::{self, FrameFormat};
use crate::types::{Configuration, DiskId, HardState, Identity, Index, PeerRecord, Term, Write};

/// The body of a segment's first frame: the state of the log before this segment.
///
/// It repeats everything that must be known of earlier segments, so that these can be removed once
/// a snapshot includes their entries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SegmentHeader {
    /// The segment's number. The file's name has it too, so a file under another one's name is
    /// noticed.
    pub(super) segment: u64,
    /// The log's first segment: 1, or the one that was begun after a snapshot was installed.
    /// Earlier segments no longer belong to the log.
    pub(super) origin: u64,
    /// The file was another segment before: its old frames may follow the last one.
    pub(super) is_recycled: bool,
    pub(super) identity: Identity,
    pub(super) hard_state: HardState,
    /// The last entry before this segment.
    pub(super) last_index: Index,
    pub(super) last_term: Term,
    pub(super) initial_configuration: Configuration,
    /// The configuration in force before this segment, and the index of its entry: 0 for the
    /// initial one, the snapshot's index for one that came with a snapshot.
    pub(super) configuration: (Index, Configuration),
    /// The commit index known before this segment.
    pub(super) commit: Index,
    /// How often the log has been opened.
    pub(super) life: u64,
    /// The records of other nodes' disks.
    pub(super) peer_records: BTreeMap<DiskId, PeerRecord>,
    /// The format in which it is written.
    pub(super) format: FrameFormat,
}

const IS_RECYCLED: u8 = 1;

impl SegmentHeader {
    /// The header without what the format leaves out.
    pub(super) fn reduced_to(mut self, format: FrameFormat) -> SegmentHeader {
        if format == FrameFormat::V2 {
            self.hard_state.forgot = None;
            (self.commit, self.life, self.peer_records) = (Index(0), 0, BTreeMap::new());
        }
        self.format = format;
        self
    }

    pub(super) fn put(&self, out: &mut Vec<u8>) {
        out.put_u64_le(self.segment);
        out.put_u64_le(self.origin);
        out.put_u8(if self.is_recycled { IS_RECYCLED } else { 0 });
        codec::put_identity(out, &self.identity);
        codec::put_hard_state(out, &self.hard_state);
        out.put_u64_le(self.last_index.0);
        out.put_u64_le(self.last_term.0);
        codec::put_configuration(out, &self.initial_configuration);
        out.put_u64_le(self.configuration.0.0);
        codec::put_configuration(out, &self.configuration.1);
        if self.format >= FrameFormat::V3 {
            codec::put_feature_levels(out, &self.initial_configuration);
            codec::put_feature_levels(out, &self.configuration.1);
            put_forgot(out, self.hard_state.forgot);
            out.put_u64_le(self.commit.0);
            out.put_u64_le(self.life);
            put_peer_records(out, self.peer_records.iter().map(|(disk, record)| (*disk, *record)));
        }
    }

    /// The length of its frame.
    pub(super) fn frame_bytes(&self) -> usize {
        let configurations =
            [&self.initial_configuration, &self.configuration.1].map(codec::configuration_bytes);
        let fixed_bytes = 8 + 8 + 1 + codec::IDENTITY_BYTES + codec::HARD_STATE_BYTES + 8 + 8 + 8;
        let later_bytes = if self.format >= FrameFormat::V3 {
            let levels = [&self.initial_configuration, &self.configuration.1]
                .map(codec::feature_level_bytes);
            levels.iter().sum::<usize>()
                + 3 * 8
                + 4
                + self.peer_records.len() * codec::PEER_RECORD_BYTES
        } else {
            0
        };
        frame::total_bytes(fixed_bytes + configurations.iter().sum::<usize>() + later_bytes)
    }

    pub(super) fn get(body: Bytes, format: FrameFormat) -> Result<SegmentHeader, DecodeError> {
        let mut from = Decoder::new(body);
        let mut segment_header = SegmentHeader {
            segment: from.u64("a segment's number")?,
            origin: from.u64("the number of the log's first segment")?,
            is_recycled: match from.u8("a segment header's flags")? {
                flags if flags & !IS_RECYCLED == 0 => flags & IS_RECYCLED != 0,
                flags => {
                    return Err(DecodeError::Invalid {
                        what: "set of a segment header's flags",
                        value: flags.into(),
                    });
                }
            },
            identity: codec::get_identity(&mut from)?,
            hard_state: codec::get_hard_state(&mut from)?,
            last_index: Index(from.u64("the last index")?),
            last_term: Term(from.u64("the last term")?),
            initial_configuration: codec::get_configuration(&mut from)?,
            configuration: (
                Index(from.u64("the index of a configuration")?),
                codec::get_configuration(&mut from)?,
            ),
            commit: Index(0),
            life: 0,
            peer_records: BTreeMap::new(),
            format,
        };
        if format >= FrameFormat::V3 {
            codec::get_feature_levels(&mut from, &mut segment_header.initial_configuration)?;
            codec::get_feature_levels(&mut from, &mut segment_header.configuration.1)?;
            segment_header.hard_state.forgot = get_forgot(&mut from)?;
            segment_header.commit = Index(from.u64("a commit index")?);
            segment_header.life = from.u64("a count of openings of the log")?;
            segment_header.peer_records = get_peer_records(&mut from)?.into_iter().collect();
        }
        from.finish("a segment's header")?;
        Ok(segment_header)
    }
}

const HAS_HARD_STATE: u8 = 1;
const HAS_TRUNCATION: u8 = 2;
const HAS_PEER_RECORDS: u8 = 4;

fn put_forgot(out: &mut Vec<u8>, forgot: Option<Index>) {
    // A mark is at least 1: no leader can prove that an entry before its first one was forgotten.
    out.put_u64_le(forgot.map_or(0, |index| index.0));
}

fn get_forgot(from: &mut Decoder<impl Buf>) -> Result<Option<Index>, DecodeError> {
    let index = from.u64("the mark of a disk that forgot")?;
    Ok((index > 0).then_some(Index(index)))
}

fn put_peer_records(
    out: &mut Vec<u8>,
    records: impl ExactSizeIterator<Item = (DiskId, PeerRecord)>,
) {
    out.put_u32_le(u32::try_from(records.len()).expect("about one record for each member"));
    records.for_each(|(disk, record)| codec::put_peer_record(out, disk, &record));
}

fn get_peer_records(
    from: &mut Decoder<impl Buf>,
) -> Result<Vec<(DiskId, PeerRecord)>, DecodeError> {
    let count = from.u32("a count of records of disks")?;
    // No memory is reserved: a damaged count can claim anything.
    (0..count).map(|_| codec::get_peer_record(from)).collect()
}

/// Reads a mark's body: a commit index, or nothing, which reads 0.
pub(super) fn get_mark(body: Bytes) -> Result<Index, DecodeError> {
    if body.is_empty() {
        return Ok(Index(0));
    }
    let mut from = Decoder::new(body);
    let commit = Index(from.u64("a mark's commit index")?);
    from.finish("a mark")?;
    Ok(commit)
}

/// Whether the write changes nothing, so that it needs no frame.
pub(super) fn is_empty(write: &Write) -> bool {
    write.hard_state.is_none() && write.truncate_from.is_none() && write.entries.is_empty()
}

/// Writes `[flags u8][term u64, vote u64, promise u64]?[truncate from u64]?[count u32][entry]…`. In
/// format 3 `[forgot u64]` follows the promise, and `[commit u64]([count u32][peer record]…)?` the
/// flags.
pub(super) fn put_write(out: &mut Vec<u8>, write: &Write, format: FrameFormat) {
    let has_records = format >= FrameFormat::V3 && !write.peer_records.is_empty();
    let hard_state = if write.hard_state.is_some() { HAS_HARD_STATE } else { 0 };
    let truncation = if write.truncate_from.is_some() { HAS_TRUNCATION } else { 0 };
    out.put_u8(hard_state | truncation | if has_records { HAS_PEER_RECORDS } else { 0 });
    if format >= FrameFormat::V3 {
        out.put_u64_le(write.commit.0);
    }
    if has_records {
        put_peer_records(out, write.peer_records.iter().copied());
    }
    if let Some(hard_state) = &write.hard_state {
        codec::put_hard_state(out, hard_state);
        if format >= FrameFormat::V3 {
            put_forgot(out, hard_state.forgot);
        }
    }
    if let Some(from) = write.truncate_from {
        out.put_u64_le(from.0);
    }
    codec::put_entries(out, &write.entries);
}

/// How many bytes [`put_write`] writes.
pub(super) fn write_bytes(write: &Write, format: FrameFormat) -> usize {
    let hard_state = if write.hard_state.is_some() { codec::HARD_STATE_BYTES } else { 0 };
    let truncation = if write.truncate_from.is_some() { 8 } else { 0 };
    let later_bytes = if format >= FrameFormat::V3 {
        let forgot = if write.hard_state.is_some() { 8 } else { 0 };
        let records = write.peer_records.len();
        8 + forgot + if records > 0 { 4 + records * codec::PEER_RECORD_BYTES } else { 0 }
    } else {
        0
    };
    1 + hard_state
        + truncation
        + later_bytes
        + 4
        + write.entries.iter().map(codec::entry_bytes).sum::<usize>()
}

/// Reads a write. Its `sequence`, which is not on disk, is 0.
pub(super) fn get_write(body: Bytes, format: FrameFormat) -> Result<Write, DecodeError> {
    let mut from = Decoder::new(body);
    let flags = from.u8("a write's flags")?;
    let later = if format >= FrameFormat::V3 { HAS_PEER_RECORDS } else { 0 };
    if flags & !(HAS_HARD_STATE | HAS_TRUNCATION | later) != 0 {
        return Err(DecodeError::Invalid { what: "set of a write's flags", value: flags.into() });
    }
    let commit =
        if format >= FrameFormat::V3 { Index(from.u64("a commit index")?) } else { Index(0) };
    let peer_records =
        if flags & HAS_PEER_RECORDS != 0 { get_peer_records(&mut from)? } else { Vec::new() };
    let mut hard_state =
        if flags & HAS_HARD_STATE != 0 { Some(codec::get_hard_state(&mut from)?) } else { None };
    if let Some(hard_state) = hard_state.as_mut().filter(|_| format >= FrameFormat::V3) {
        hard_state.forgot = get_forgot(&mut from)?;
    }
    let truncate_from = if flags & HAS_TRUNCATION != 0 {
        Some(Index(from.u64("where to truncate")?))
    } else {
        None
    };
    let entries = codec::get_entries(&mut from)?;
    from.finish("a write")?;
    Ok(Write { sequence: 0, hard_state, truncate_from, entries, commit, peer_records })
}
