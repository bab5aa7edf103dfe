//! The store's digest: a sum over all pairs and deadlines.
//!
//! It changes with each of them, so that reading it costs nothing.
//!
//! ```text
//! value of 10 000 bytes   h(k, 0, first 4096) + h(k, 1, next 4096) + h(k, 2, rest) + h(k, 10 000)
//! ```
//!
//! A value is summed up in pieces, so that `APPEND` to a long one hashes its last piece alone.

/// Bytes of a piece of a value.
const PIECE_BYTES: usize = 4096;

/// Raised when digests are computed in another way, or operations have another effect than before.
pub(super) const VERSION: u32 = 1;

const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;

/// Spreads what differs in a few bits over all 64 (the finalizer of SplitMix64).
pub(super) fn mix(hash: u64, word: u64) -> u64 {
    let value = hash.rotate_left(23).wrapping_add(word).wrapping_add(FACTOR);
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

/// Hashes with a multiplication for every eight bytes, with the same result on every machine.
fn hash(seed: u64, bytes: &[u8]) -> u64 {
    let mut hash = mix(seed, bytes.len() as u64);
    let mut words = bytes.chunks_exact(8);
    for word in &mut words {
        let word = u64::from_le_bytes(word.try_into().expect("eight bytes"));
        hash = (hash.rotate_left(29) ^ word).wrapping_mul(FACTOR);
    }
    let mut last = [0; 8];
    last[..words.remainder().len()].copy_from_slice(words.remainder());
    mix(hash, u64::from_le_bytes(last))
}

/// A key with its value.
pub(super) fn of_pair(key: &[u8], value: &[u8]) -> u64 {
    of_end(key, value, 0)
}

/// The part of a pair's digest that changes when something is appended to a value of `length`
/// bytes: its last piece, and its length.
pub(super) fn of_end(key: &[u8], value: &[u8], length: usize) -> u64 {
    let key = hash(1, key);
    let first = length / PIECE_BYTES;
    let pieces = value[first * PIECE_BYTES..].chunks(PIECE_BYTES);
    let sum = (first as u64..).zip(pieces).map(|(place, piece)| hash(mix(key, place), piece));
    sum.fold(mix(!key, value.len() as u64), u64::wrapping_add)
}

/// The deadline of a key.
pub(super) fn of_deadline(key: &[u8], deadline: u64) -> u64 {
    mix(hash(2, key), deadline)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Nodes of different builds compare these: a change needs a new [`VERSION`].
    #[test]
    fn digests_are_those_of_other_builds() {
        let digests = [
            of_pair(b"", b""),
            of_pair(b"key", b"value"),
            of_pair(b"k", &[7; 10_000]),
            of_deadline(b"k", 5),
        ];
        assert_eq!((VERSION, digests), (1, GOLDEN));
    }

    const GOLDEN: [u64; 4] =
        [0x34e31ee791d31ecf, 0x7d306192cf202737, 0xc8f65c967f0fd7d8, 0x8ffb8e9baeeeee19];

    #[test]
    fn keys_and_values_do_not_run_into_each_other() {
        let pairs: [(&[u8], &[u8]); 5] =
            [(b"ab", b"c"), (b"a", b"bc"), (b"", b"abc"), (b"abc", b""), (b"abc", b"\0")];
        let mut digests = pairs.map(|(key, value)| of_pair(key, value)).to_vec();
        digests.sort_unstable();
        digests.dedup();
        assert_eq!(digests.len(), pairs.len());
    }

    proptest! {
        #[test]
        fn an_append_changes_the_end_alone(
            before in prop::collection::vec(any::<u8>(), 0..3 * PIECE_BYTES),
            more in prop::collection::vec(any::<u8>(), 0..2 * PIECE_BYTES),
        ) {
            let after = [&before[..], &more].concat();
            let end = |value: &[u8]| of_end(b"k", value, before.len());
            let change = end(&after).wrapping_sub(end(&before));
            prop_assert_eq!(of_pair(b"k", &before).wrapping_add(change), of_pair(b"k", &after));
        }
    }
}
