//! The trace of a run: a hash of all events and, on request, their descriptions.

use std::collections::VecDeque;
use std::fmt;
use std::hash::{Hash, Hasher};

use crate::types::Time;

/// The events to describe. Descriptions cost more than the rest of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TraceDetail {
    /// None.
    None,
    /// The last ones, up to this number: for the second run of a failed seed.
    Last(usize),
    /// All, to compare two runs.
    All,
}

/// Hashes all events. The same seed, options and program give the same hash.
#[derive(Debug)]
pub(super) struct Trace {
    hasher: StableHasher,
    detail: TraceDetail,
    lines: VecDeque<String>,
}

impl Trace {
    pub(super) fn new(detail: TraceDetail) -> Trace {
        Trace { hasher: StableHasher::default(), detail, lines: VecDeque::new() }
    }

    /// Records an event or effect, and its description if it is wanted.
    pub(super) fn record(
        &mut self,
        now: Time,
        event: &(impl Hash + ?Sized),
        describe: impl FnOnce() -> String,
    ) {
        now.hash(&mut self.hasher);
        event.hash(&mut self.hasher);
        let time = now.0 as f64 / 1e6;
        match self.detail {
            TraceDetail::None => {}
            TraceDetail::Last(most) => {
                if self.lines.len() == most {
                    self.lines.pop_front();
                }
                self.lines.push_back(format!("{time:>12.6} ms  {}", describe()));
            }
            // Descriptions are shortened. The hash is complete, so equal lines mean equal runs.
            TraceDetail::All => {
                let hash = self.hash();
                self.lines.push_back(format!("{hash:016x} {time:>12.6} ms  {}", describe()));
            }
        }
    }

    pub(super) fn hash(&self) -> u64 {
        self.hasher.finish()
    }

    pub(super) fn into_lines(self) -> Vec<String> {
        self.lines.into()
    }
}

/// FNV-1a over words of eight bytes: fast, and the same on every machine, which the standard
/// library does not promise for its own hasher.
#[derive(Clone, Copy, Debug)]
pub(super) struct StableHasher(u64);

impl Default for StableHasher {
    fn default() -> StableHasher {
        StableHasher(0xcbf2_9ce4_8422_2325)
    }
}

impl Hasher for StableHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.write_u64(u64::from_le_bytes(word));
        }
    }

    fn write_u64(&mut self, word: u64) {
        self.0 = (self.0 ^ word).wrapping_mul(0x0000_0100_0000_01b3).rotate_left(23);
    }

    fn write_u8(&mut self, byte: u8) {
        self.write_u64(u64::from(byte));
    }

    fn write_u32(&mut self, word: u32) {
        self.write_u64(u64::from(word));
    }

    fn write_usize(&mut self, word: usize) {
        self.write_u64(word as u64);
    }
}

/// The stable hash of one value.
pub(super) fn stable_hash(value: &(impl Hash + ?Sized)) -> u64 {
    let mut hasher = StableHasher::default();
    value.hash(&mut hasher);
    hasher.finish()
}

/// Type names around a number, which only repeat the field's name.
const WRAPPERS: [&str; 4] = ["NodeId(", "Index(", "Term(", "Stamp("];

/// A short form of the `Debug` text, with plain numbers.
pub(super) fn brief(value: &impl fmt::Debug) -> String {
    let long = format!("{value:?}");
    let mut text = String::with_capacity(long.len());
    let mut rest = &long[..];
    while let Some(next) = rest.chars().next() {
        let wrapper = WRAPPERS.iter().find_map(|name| rest.strip_prefix(name));
        let number = wrapper.and_then(|inside| inside.split_once(')'));
        rest = match number.filter(|(number, _)| number.bytes().all(|byte| byte.is_ascii_digit())) {
            Some((number, after)) => {
                text.push_str(number);
                after
            }
            None => {
                text.push(next);
                &rest[next.len_utf8()..]
            }
        };
        if text.len() > 400 {
            text.push('…');
            break;
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{Index, Term};

    #[test]
    fn descriptions_are_short() {
        assert_eq!(brief(&(Index(7), Some(Term(3)), "Index(x)")), r#"(7, Some(3), "Index(x)")"#);
        assert!(brief(&vec![0; 1000]).chars().count() < 410);
    }
}
