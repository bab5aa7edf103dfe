//! Bounds on what is saved: a number that no log reaches by counting is not what was written, and
//! arithmetic on it would overflow.

use super::body::Opening;
use crate::types::{Index, Term, Write};

/// Indexes, numbers of frames and segments, and counts of lives stay below: a billion a second
/// reach it in a century and a half.
pub(super) const NUMBER_MAX: u64 = 1 << 62;

fn number(what: &str, value: u64) -> Result<(), String> {
    if value <= NUMBER_MAX { Ok(()) } else { Err(format!("{value} is beyond any {what}")) }
}

/// What an opening says must be possible, whatever was before it.
pub(super) fn check_opening(opening: &Opening) -> Result<(), String> {
    let Opening {
        segment,
        origin,
        last_index,
        last_term,
        configuration,
        commit,
        life,
        hard_state,
        ..
    } = opening;
    number("segment's number", *segment)?;
    number("last index", last_index.0)?;
    number("count of lives", *life)?;
    number("mark of what was forgotten", hard_state.forgot.map_or(0, |index| index.0))?;
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

/// What a step says must be possible, whatever was before it;
/// [`Contents::check`](super::contents::Contents::check) judges the rest.
pub(super) fn check_step(write: &Write) -> Result<(), String> {
    let last = write.entries.last().map_or(Index(0), |entry| entry.index);
    number("entry's index", last.0)?;
    number("truncation's index", write.truncate_from.map_or(0, |from| from.0))?;
    number("commit index", write.commit.0)?;
    let forgot = write.hard_state.and_then(|hard_state| hard_state.forgot);
    number("mark of what was forgotten", forgot.map_or(0, |index| index.0))
}
