//! Bounds on the numbers that are read from a disk.
//!
//! No log reaches a greater number by counting, so such a number is damage; computing with it could
//! overflow.

use super::body::SegmentHeader;
use crate::types::{Index, Term, Write};

/// The bound of indexes, of the numbers of frames and segments, and of counts of openings. A
/// billion a second reach it in a century and a half.
pub(super) const NUMBER_MAX: u64 = 1 << 62;

fn check_number(what: &str, value: u64) -> Result<(), String> {
    if value <= NUMBER_MAX { Ok(()) } else { Err(format!("{value} is too great for {what}")) }
}

/// Refuses a segment header that is impossible whatever came before it.
pub(super) fn check_segment_header(segment_header: &SegmentHeader) -> Result<(), String> {
    let SegmentHeader {
        segment,
        origin,
        last_index,
        last_term,
        configuration,
        commit,
        life,
        hard_state,
        ..
    } = segment_header;
    check_number("a segment's number", *segment)?;
    check_number("a last index", last_index.0)?;
    check_number("a count of openings", *life)?;
    check_number("a mark of what was forgotten", hard_state.forgot.map_or(0, |index| index.0))?;
    if *origin == 0 || origin > segment {
        return Err(format!(
            "segment {segment} cannot belong to a log that begins with segment {origin}"
        ));
    }
    if (*last_index == Index(0)) != (*last_term == Term(0)) {
        return Err(format!("the last entry cannot be entry {last_index} of term {last_term}"));
    }
    if commit > last_index {
        return Err(format!("the commit index {commit} is beyond the last entry, {last_index}"));
    }
    if configuration.0 > *last_index {
        return Err(format!(
            "the configuration's index {} is beyond the last entry, {last_index}",
            configuration.0
        ));
    }
    Ok(())
}

/// Refuses a write that is impossible whatever came before it.
///
/// [`Contents::check`](super::contents::Contents::check) compares it with the log.
pub(super) fn check_write(write: &Write) -> Result<(), String> {
    let last = write.entries.last().map_or(Index(0), |entry| entry.index);
    check_number("an entry's index", last.0)?;
    check_number("a truncation's index", write.truncate_from.map_or(0, |from| from.0))?;
    check_number("a commit index", write.commit.0)?;
    let forgot = write.hard_state.and_then(|hard_state| hard_state.forgot);
    check_number("a mark of what was forgotten", forgot.map_or(0, |index| index.0))
}
