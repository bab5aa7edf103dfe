//! Digests of the replicated state: the state machine and the sessions.

use crate::types::{Digest, Index};

/// The digest of a state machine's state.
///
/// See [`StateMachine::digest`](super::StateMachine::digest).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct MachineDigest {
    /// The version of the method that computes the value. Digests of different versions are not
    /// compared; a program that changes the method increments this.
    pub version: u32,
    /// The value: equal for equal states, and different for almost all different ones.
    pub value: u64,
}

impl MachineDigest {
    /// The digest of machine and sessions together, after this entry.
    pub(super) fn with_sessions(self, index: Index, sessions: u64) -> Digest {
        Digest { index, version: self.version, value: mix(mix(0, self.value), sessions) }
    }
}

/// The finalizer of SplitMix64 (Steele, Lea, Flood, 2014) over `hash` and `word`. It gives the same
/// value on every machine, because digests are compared between them.
pub(super) fn mix(hash: u64, word: u64) -> u64 {
    let value = hash.rotate_left(23).wrapping_add(word).wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

/// `mix` over bytes, eight at a time, and their number.
pub(super) fn mix_bytes(hash: u64, bytes: &[u8]) -> u64 {
    bytes.chunks(8).fold(mix(hash, bytes.len() as u64), |hash, chunk| {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        mix(hash, u64::from_le_bytes(word))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Nodes of different versions compare these: a change would stop healthy nodes.
    #[test]
    fn digest_values_never_change() {
        assert_eq!([mix(0, 0), mix(1, 2), mix_bytes(7, b"0123456789")], GOLDEN);
        let digest = MachineDigest { version: 3, value: 4 }.with_sessions(Index(5), 6);
        assert_eq!((digest.index, digest.version, digest.value), (Index(5), 3, GOLDEN_DIGEST));
    }

    const GOLDEN: [u64; 3] = [0xe220a8397b1dcdaf, 0x885d9e34f64ff357, 0x2be5cc485f6a25b2];
    const GOLDEN_DIGEST: u64 = 0x96c1012cb6d756f2;
}
