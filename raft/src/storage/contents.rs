//! What the log holds, as far as memory knows: enough to judge a write and to find an entry.

use super::locator::Locator;
use crate::types::{HardState, Index, Term, TermTable, Write};

/// Term and vote, the term of every entry, and where the entries are. Appending and recovery both go through here.
#[derive(Clone, Debug, Default)]
pub(super) struct Contents {
    pub(super) hard_state: HardState,
    pub(super) terms: TermTable,
    pub(super) locator: Locator,
}

impl Contents {
    /// Says why a write contradicts the log, if it does. Nothing that contradicts is ever written, and recovery takes
    /// nothing that does.
    pub(super) fn check(&self, write: &Write) -> Result<(), String> {
        if let Some(new) = write.hard_state {
            let old = self.hard_state;
            if new.term < old.term {
                return Err(format!("term {} after term {}", new.term, old.term));
            }
            if new.term == old.term && old.vote.is_some() && new.vote != old.vote {
                return Err(format!("a second vote in term {}: {:?} after {:?}", new.term, new.vote, old.vote));
            }
        }
        if write.truncate_from == Some(Index(0)) {
            return Err("a truncation from index 0".to_owned());
        }
        let last = self.terms.last_index();
        let remaining = write.truncate_from.map_or(last, |from| from.previous().min(last));
        let mut previous = (remaining, self.terms.term_at(remaining).unwrap_or(Term(0)));
        for entry in &write.entries {
            if previous.0.0.checked_add(1) != Some(entry.index.0) {
                return Err(format!("entry {} after entry {}", entry.index, previous.0));
            }
            if entry.term < previous.1 || entry.term == Term(0) {
                return Err(format!("entry {} of term {} after one of term {}", entry.index, entry.term, previous.1));
            }
            previous = (entry.index, entry.term);
        }
        Ok(())
    }

    /// Takes in a write that [`check`](Self::check) has passed and whose frame lies at this place.
    pub(super) fn apply(&mut self, write: &Write, segment: u64, offset: u64) {
        if let Some(hard_state) = write.hard_state {
            self.hard_state = hard_state;
        }
        if let Some(from) = write.truncate_from {
            self.terms.truncate_from(from);
            self.locator.truncate_from(from);
        }
        if let Some(first) = write.entries.first() {
            self.locator.add(first.index, segment, offset);
        }
        for entry in &write.entries {
            self.terms.append(entry.index, entry.term);
        }
    }
}
