//! What frames carry: the body of a segment's opening, and that of a step.

use bytes::{BufMut, Bytes};

use super::codec::{self, DecodeError, Decoder};
use super::frame;
use crate::types::{Configuration, HardState, Identity, Index, Term, Write};

/// The body of a segment's first frame: everything that must be known of the log before this segment, so that earlier
/// segments can go once a snapshot covers them. The first segment's is the log's birth record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Opening {
    /// The segment's number; also its file's name, so that a file put in another's place is noticed.
    pub(super) segment: u64,
    /// The segment with which the log begins: 1, or the one made when a snapshot took the place of everything before.
    /// Segments below it are void.
    pub(super) origin: u64,
    /// The file had another life: what follows the last frame may be left over from it.
    pub(super) is_recycled: bool,
    pub(super) identity: Identity,
    pub(super) hard_state: HardState,
    /// The last entry before this segment.
    pub(super) last_index: Index,
    pub(super) last_term: Term,
    pub(super) founding: Configuration,
    /// The configuration in force after the last entry before this segment, and the entry that brought it; 0 for the
    /// founding one, the snapshot's index for one that a snapshot brought.
    pub(super) configuration: (Index, Configuration),
}

const IS_RECYCLED: u8 = 1;

impl Opening {
    pub(super) fn put(&self, out: &mut Vec<u8>) {
        out.put_u64_le(self.segment);
        out.put_u64_le(self.origin);
        out.put_u8(if self.is_recycled { IS_RECYCLED } else { 0 });
        codec::put_identity(out, &self.identity);
        codec::put_hard_state(out, &self.hard_state);
        out.put_u64_le(self.last_index.0);
        out.put_u64_le(self.last_term.0);
        codec::put_configuration(out, &self.founding);
        out.put_u64_le(self.configuration.0.0);
        codec::put_configuration(out, &self.configuration.1);
    }

    /// The length of the frame that it makes.
    pub(super) fn frame_bytes(&self) -> usize {
        let configurations = [&self.founding, &self.configuration.1].map(codec::configuration_bytes);
        let fixed_bytes = 8 + 8 + 1 + codec::IDENTITY_BYTES + codec::HARD_STATE_BYTES + 8 + 8 + 8;
        frame::total_bytes(fixed_bytes + configurations.iter().sum::<usize>())
    }

    pub(super) fn get(body: Bytes) -> Result<Opening, DecodeError> {
        let mut from = Decoder::new(body);
        let opening = Opening {
            segment: from.u64("a segment's number")?,
            origin: from.u64("the number of the log's first segment")?,
            is_recycled: match from.u8("an opening's flags")? {
                flags if flags & !IS_RECYCLED == 0 => flags & IS_RECYCLED != 0,
                flags => return Err(DecodeError::Invalid { what: "set of an opening's flags", value: flags.into() }),
            },
            identity: codec::get_identity(&mut from)?,
            hard_state: codec::get_hard_state(&mut from)?,
            last_index: Index(from.u64("the last index")?),
            last_term: Term(from.u64("the last term")?),
            founding: codec::get_configuration(&mut from)?,
            configuration: (Index(from.u64("the index of a configuration")?), codec::get_configuration(&mut from)?),
        };
        from.finish("a segment's opening")?;
        Ok(opening)
    }
}

const HAS_HARD_STATE: u8 = 1;
const HAS_TRUNCATION: u8 = 2;

/// Whether the write changes nothing, and needs no frame.
pub(super) fn is_empty(write: &Write) -> bool {
    write.hard_state.is_none() && write.truncate_from.is_none() && write.entries.is_empty()
}

/// `[flags u8][term u64, vote u64, promise u64]?[truncate from u64]?[count u32][entry]…`
pub(super) fn put_step(out: &mut Vec<u8>, write: &Write) {
    let hard_state = if write.hard_state.is_some() { HAS_HARD_STATE } else { 0 };
    let truncation = if write.truncate_from.is_some() { HAS_TRUNCATION } else { 0 };
    out.put_u8(hard_state | truncation);
    if let Some(hard_state) = &write.hard_state {
        codec::put_hard_state(out, hard_state);
    }
    if let Some(from) = write.truncate_from {
        out.put_u64_le(from.0);
    }
    codec::put_entries(out, &write.entries);
}

/// How many bytes [`put_step`] writes.
pub(super) fn step_bytes(write: &Write) -> usize {
    let hard_state = if write.hard_state.is_some() { codec::HARD_STATE_BYTES } else { 0 };
    let truncation = if write.truncate_from.is_some() { 8 } else { 0 };
    1 + hard_state + truncation + 4 + write.entries.iter().map(codec::entry_bytes).sum::<usize>()
}

/// Reads a step; its `sequence`, which the disk does not know, is 0.
pub(super) fn get_step(body: Bytes) -> Result<Write, DecodeError> {
    let mut from = Decoder::new(body);
    let flags = from.u8("a step's flags")?;
    if flags & !(HAS_HARD_STATE | HAS_TRUNCATION) != 0 {
        return Err(DecodeError::Invalid { what: "set of a step's flags", value: flags.into() });
    }
    let hard_state = if flags & HAS_HARD_STATE != 0 { Some(codec::get_hard_state(&mut from)?) } else { None };
    let truncate_from = if flags & HAS_TRUNCATION != 0 { Some(Index(from.u64("where to truncate")?)) } else { None };
    let entries = codec::get_entries(&mut from)?;
    from.finish("a step")?;
    Ok(Write { sequence: 0, hard_state, truncate_from, entries })
}
