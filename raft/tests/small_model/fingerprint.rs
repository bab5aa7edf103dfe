//! 64-bit fingerprints of states: a folded multiplication for each word, as in wyhash (Wang Yi,
//! 2019). With n states, some two are taken for one with a probability of about n² / 2^65: one in
//! 10,000 for sixty million.

use std::hash::{BuildHasherDefault, Hash, Hasher};

#[derive(Clone, Debug)]
pub(crate) struct Mixer(u64);

impl Default for Mixer {
    fn default() -> Mixer {
        Mixer(0x2d35_8dcc_aa6c_78a5)
    }
}

fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    (product as u64) ^ (product >> 64) as u64
}

impl Hasher for Mixer {
    fn finish(&self) -> u64 {
        fold(self.0 ^ 0x8bb8_4b93_962e_acc9, 0x4b33_a62e_d433_d4a3)
    }

    fn write_u64(&mut self, word: u64) {
        self.0 = fold(self.0 ^ word ^ 0x9e37_79b9_7f4a_7c15, 0x8bb8_4b93_962e_acc9)
            .wrapping_add(word.rotate_left(32));
    }

    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.write_u64(u64::from_le_bytes(word));
        }
    }

    fn write_u8(&mut self, number: u8) {
        self.write_u64(number.into());
    }

    fn write_u32(&mut self, number: u32) {
        self.write_u64(number.into());
    }

    fn write_usize(&mut self, number: usize) {
        self.write_u64(number as u64);
    }
}

pub(crate) fn fingerprint(what: &impl Hash) -> u64 {
    let mut mixer = Mixer::default();
    what.hash(&mut mixer);
    mixer.finish()
}

/// For sets of fingerprints, which need no further mixing.
#[derive(Clone, Debug, Default)]
pub(crate) struct AsItIs(u64);

impl Hasher for AsItIs {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write_u64(&mut self, word: u64) {
        self.0 = word;
    }

    fn write(&mut self, _: &[u8]) {
        unreachable!("only fingerprints are put into these sets")
    }
}

pub(crate) type Fingerprints = std::collections::HashSet<u64, BuildHasherDefault<AsItIs>>;
