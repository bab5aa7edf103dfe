//! `SCAN` and `KEYS`: steps through the keys, and the match of names with a pattern.

use super::{
    buckets::{BUCKETS, Map},
    operation::Arguments,
    store::KEYS_MAX,
};

/// Most keys of a step, unless a bucket alone has more.
pub(crate) const COUNT_MAX: u32 = 10_000;

/// A step also ends after this number of bytes of keys.
const STEP_BYTES: usize = 1 << 20;

/// One step of a scan, from the bucket `cursor` on. Returns the cursor of the next step (0: the
/// scan is done), and the keys of whole buckets: at least `count`, unless they are very long or
/// there are fewer.
pub(super) fn step(map: &Map, cursor: u64, count: u32) -> (u64, Vec<&[u8]>) {
    let (mut keys, mut bytes) = (Vec::new(), 0);
    let first = usize::try_from(cursor).unwrap_or(BUCKETS).min(BUCKETS);
    for bucket in first..BUCKETS {
        keys.extend(map.keys_of(bucket).map(|key| &**key).inspect(|key| bytes += key.len()));
        if (keys.len() >= count.min(COUNT_MAX) as usize || bytes >= STEP_BYTES)
            && bucket + 1 < BUCKETS
        {
            return (bucket as u64 + 1, sorted(keys));
        }
    }
    (0, sorted(keys))
}

/// Estimates how many of `keys` a `Scan` goes through.
pub(super) fn keys_scanned_by_scan(keys: usize, mut arguments: Arguments<'_>) -> usize {
    let count = arguments.nth(1).and_then(|count| count.try_into().ok());
    let count = count.map_or(0, u32::from_le_bytes).min(COUNT_MAX) as usize;
    KEYS_AT_LEAST + count.max(keys / BUCKETS)
}

/// How many of `keys` a `Keys` goes through.
pub(super) fn keys_scanned_by_keys(keys: usize, _: Arguments<'_>) -> usize {
    KEYS_AT_LEAST + keys.min(KEYS_MAX)
}

/// All keys.
pub(super) fn all_keys(map: &Map) -> Vec<&[u8]> {
    sorted((0..BUCKETS).flat_map(|bucket| map.keys_of(bucket)).map(|key| &**key).collect())
}

/// Sorts the keys, so that every node has the same order.
fn sorted(mut keys: Vec<&[u8]>) -> Vec<&[u8]> {
    keys.sort_unstable();
    keys
}

/// Steps of matching that a key may take on average, besides a few for each of its bytes. Matching
/// is quadratic at worst: `*aaaaab` starts again at each byte.
const STEPS_PER_KEY: usize = 500;
/// A scan of few keys may take the steps of one of this number.
pub(super) const KEYS_AT_LEAST: usize = 200;

/// A pattern of Redis with a bound on the steps of matching. It counts steps and reads no clock, so
/// that all nodes agree.
pub(crate) struct Pattern<'a> {
    pattern: &'a [u8],
    steps_left: Option<usize>,
}

impl<'a> Pattern<'a> {
    /// A pattern for this number of names, which have `bytes` bytes together.
    pub(crate) fn new(pattern: &'a [u8], names: usize, bytes: usize) -> Pattern<'a> {
        let by_names = names.saturating_add(KEYS_AT_LEAST).saturating_mul(STEPS_PER_KEY);
        Pattern { pattern, steps_left: Some(by_names.saturating_add(bytes.saturating_mul(4))) }
    }

    /// Whether it has taken too many steps: then the results for the last names are wrong.
    pub(super) fn is_exhausted(&self) -> bool {
        self.steps_left.is_none()
    }

    /// Matches a name: `*` stands for any bytes, `?` for one, `[a-z]` and `[^a-z]` for one of a
    /// class, and `\` quotes the next byte. The steps are at most the product of both lengths: of
    /// several stars only the last one is ever extended.
    pub(crate) fn matches(&mut self, name: &[u8]) -> bool {
        let pattern = self.pattern;
        let (mut at, mut done) = (0, 0);
        // Where to continue if the part after the last star does not match.
        let mut star = None;
        while done < name.len() {
            if pattern.get(at) == Some(&b'*') {
                at += 1;
                if at == pattern.len() {
                    return true;
                }
                star = Some((at, done));
                self.count_steps(1);
                continue;
            }
            let (is_one, length) = match_item(&pattern[at..], name[done]);
            self.count_steps(length.max(1));
            if self.is_exhausted() {
                return false;
            }
            if is_one {
                (at, done) = (at + length, done + 1);
            } else if let Some((after, taken)) = star {
                star = Some((after, taken + 1));
                (at, done) = (after, taken + 1);
            } else {
                return false;
            }
        }
        pattern[at..].iter().all(|&byte| byte == b'*')
    }

    fn count_steps(&mut self, steps: usize) {
        self.steps_left = self.steps_left.and_then(|left| left.checked_sub(steps));
    }
}

/// Whether a pattern's first item matches this byte, and the item's length.
fn match_item(pattern: &[u8], byte: u8) -> (bool, usize) {
    match *pattern {
        [] => (false, 0),
        [b'?', ..] => (true, 1),
        [b'[', ref rest @ ..] => {
            let (fits, length) = match_class(rest, byte);
            (fits, 1 + length)
        }
        [b'\\', escaped, ..] => (escaped == byte, 2),
        [plain, ..] => (plain == byte, 1),
    }
}

/// Whether the byte is in the class whose `[` has been read, and the length of the rest of the
/// class. A class without `]` ends with the pattern.
fn match_class(rest: &[u8], byte: u8) -> (bool, usize) {
    let is_negated = rest.first() == Some(&b'^');
    let (mut at, mut is_in) = (usize::from(is_negated), false);
    loop {
        let (from, to, length) = match rest[at..] {
            [] => return (is_in != is_negated, at),
            [b']', ..] => return (is_in != is_negated, at + 1),
            [b'\\', escaped, ..] => (escaped, escaped, 2),
            [from, b'-', to, ..] if to != b']' => (from.min(to), from.max(to), 3),
            [single, ..] => (single, single, 1),
        };
        is_in |= (from..=to).contains(&byte);
        at += length;
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, sync::Arc};

    use proptest::prelude::*;

    use super::*;

    fn matches(pattern: &[u8], name: &[u8]) -> bool {
        let mut pattern = Pattern::new(pattern, 1, name.len());
        let is_match = pattern.matches(name);
        assert!(!pattern.is_exhausted());
        is_match
    }

    #[test]
    fn a_pattern_takes_no_more_steps_than_it_may() {
        let name = vec![b'a'; 100_000];
        let tried = [&b"*"[..], &vec![b'a'; 50_000], b"b"].concat();
        let mut pattern = Pattern::new(&tried, 1, name.len());
        assert!(!pattern.matches(&name) && pattern.is_exhausted());
        let class = [&b"*["[..], &vec![b'b'; 50_000], b"]"].concat();
        let mut pattern = Pattern::new(&class, 1, name.len());
        assert!(!pattern.matches(&name) && pattern.is_exhausted());
        // A simple pattern may be matched with a long name.
        assert!(matches(b"*a", &name) && !matches(b"*b", &name) && matches(b"*a*a*", &name));
    }

    #[test]
    fn patterns_are_those_of_redis() {
        for (pattern, fitting, others) in [
            ("*", &["", "a", "abc"][..], &[][..]),
            ("", &[""], &["a"]),
            ("h?llo", &["hello", "hallo"], &["hllo", "heello"]),
            ("h*llo", &["hllo", "heeeello", "hllollo"], &["hllox", "ello"]),
            ("*a*b*", &["ab", "xaxbx", "aab"], &["ba", "a", "b"]),
            ("h[ae]llo", &["hello", "hallo"], &["hillo"]),
            ("h[^e]llo", &["hallo", "hbllo"], &["hello"]),
            ("h[a-b]llo", &["hallo", "hbllo"], &["hcllo", "h-llo"]),
            ("h[b-a]llo", &["hallo"], &["hcllo"]),
            ("[a", &["a"], &["b", "[a"]),
            (r"a\*b", &["a*b"], &["axb", r"a\*b"]),
            (r"[\]]", &["]"], &["\\"]),
            ("user:*:name", &["user:1:name"], &["user:1:names", "user:name"]),
        ] {
            fitting.iter().for_each(|name| {
                assert!(matches(pattern.as_bytes(), name.as_bytes()), "{pattern} {name}")
            });
            others.iter().for_each(|name| {
                assert!(!matches(pattern.as_bytes(), name.as_bytes()), "{pattern} {name}")
            });
        }
    }

    /// Simple and slow.
    fn matches_simply(pattern: &[u8], name: &[u8]) -> bool {
        match pattern.split_first() {
            None => name.is_empty(),
            Some((b'*', rest)) => {
                (0..=name.len()).any(|taken| matches_simply(rest, &name[taken..]))
            }
            Some(_) => name.split_first().is_some_and(|(&byte, tail)| {
                let (fits, length) = match_item(pattern, byte);
                fits && matches_simply(&pattern[length..], tail)
            }),
        }
    }

    proptest! {
        #[test]
        fn matching_agrees_with_a_simple_matcher(pattern in "[ab*?]{0,8}", name in "[ab]{0,10}") {
            let (pattern, name) = (pattern.as_bytes(), name.as_bytes());
            prop_assert_eq!(matches(pattern, name), matches_simply(pattern, name));
        }

        #[test]
        fn no_pattern_causes_a_panic(
            pattern in prop::collection::vec(prop::sample::select(b"[]^-\\*?ab".to_vec()), 0..12),
            name in "[ab^-]{0,6}",
        ) {
            matches(&pattern, name.as_bytes());
        }

        /// A key that stays is seen once, whatever other keys come and go between the steps.
        #[test]
        fn a_scan_returns_each_lasting_key_once(
            stays in prop::collection::btree_set(0u16..300, 0..60),
            comings in prop::collection::vec((300u16..400, any::<bool>()), 0..200),
            count in 0u32..9,
        ) {
            let name = |number: u16| Arc::<[u8]>::from(number.to_string().as_bytes());
            let mut map = Map::default();
            stays.iter().for_each(|&number| map.insert(name(number), Arc::default()));
            let (mut cursor, mut seen, mut comings) = (0, Vec::new(), comings.into_iter());
            loop {
                let (next, keys) = step(&map, cursor, count);
                let number = |key: &&[u8]| String::from_utf8_lossy(key).parse::<u16>().unwrap();
                seen.extend(keys.iter().map(number));
                if next == 0 {
                    break;
                }
                prop_assert!(next > cursor);
                cursor = next;
                if let Some((number, comes)) = comings.next() {
                    if comes {
                        map.insert(name(number), Arc::default());
                    } else {
                        drop(map.remove(&name(number)));
                    }
                }
            }
            seen.retain(|number| *number < 300);
            prop_assert_eq!(seen.len(), stays.len());
            prop_assert_eq!(seen.into_iter().collect::<BTreeSet<_>>(), stays);
            prop_assert_eq!(step(&map, u64::MAX, 1), (0, Vec::new()));
        }
    }
}
