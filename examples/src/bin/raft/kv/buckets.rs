//! The keys and values, in buckets, so that nodes keep no state of a `SCAN`.
//!
//! A cursor is the number of a bucket, and a key's bucket is computed from the key alone: so a
//! cursor means the same at every node and after a restart, and it is never too old. A step takes
//! whole buckets. A key that exists from the first step to the last is in its bucket when the scan
//! reaches that, so the scan returns it, and once, even if other keys are added and removed.
//!
//! A copy costs a reference for each bucket, and shares the rest.

use std::{mem, sync::Arc};

use imbl::HashMap;

use super::digest;

/// Number of buckets: a million keys make steps of a thousand, and a copy of the map is a thousand
/// references. It is a power of 32, the width of a bucket's own nodes: then these are as full as
/// those of one map for all keys, and take no more memory.
pub(super) const BUCKETS: usize = 1 << 10;

type Bucket = HashMap<Arc<[u8]>, Arc<Vec<u8>>>;

/// Keys and values are copies of what the log holds: a slice of the entry would keep the whole
/// entry in memory. A value that is shared with a copy of the map is not changed but replaced.
#[derive(Clone)]
pub(super) struct Map {
    buckets: Vec<Bucket>,
    len: usize,
    /// The sum of the digests of all pairs.
    digest: u64,
    /// No value has been longer since the map was made.
    longest_value: usize,
}

impl Default for Map {
    fn default() -> Map {
        // All share one random state: a hash is as good in one bucket as in another.
        Map { buckets: vec![Bucket::new(); BUCKETS], len: 0, digest: 0, longest_value: 0 }
    }
}

impl Map {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn get(&self, key: &[u8]) -> Option<&Arc<Vec<u8>>> {
        self.buckets[bucket_of(key)].get(key)
    }

    /// The sum of the digests of all pairs.
    pub(super) fn digest(&self) -> u64 {
        self.digest
    }

    /// A bound on the length of every value: that of the longest since the map was made.
    pub(super) fn longest_value(&self) -> usize {
        self.longest_value
    }

    /// Gives a key a value.
    pub(super) fn put(&mut self, key: &[u8], value: &[u8]) {
        self.longest_value = self.longest_value.max(value.len());
        let Some(shared) = self.buckets[bucket_of(key)].get_mut(key) else {
            return self.insert(key.into(), Arc::new(value.to_vec()));
        };
        let before = digest::of_pair(key, shared);
        match Arc::get_mut(shared) {
            Some(old) => {
                old.clear();
                old.extend_from_slice(value);
                // A short value does not keep the memory of a long one.
                if old.capacity() > 2 * value.len() + 64 {
                    old.shrink_to_fit();
                }
            }
            None => *shared = Arc::new(value.to_vec()),
        }
        self.digest = self.digest.wrapping_sub(before).wrapping_add(digest::of_pair(key, value));
    }

    /// Adds to the end of a value.
    pub(super) fn append(&mut self, key: &[u8], more: &[u8]) {
        let Some(shared) = self.buckets[bucket_of(key)].get_mut(key) else {
            return self.put(key, more);
        };
        let length = shared.len();
        self.longest_value = self.longest_value.max(length + more.len());
        let before = digest::of_end(key, shared, length);
        Arc::make_mut(shared).extend_from_slice(more);
        let after = digest::of_end(key, shared, length);
        self.digest = self.digest.wrapping_sub(before).wrapping_add(after);
    }

    /// The key as the map has it.
    pub(super) fn key(&self, key: &[u8]) -> Option<&Arc<[u8]>> {
        self.buckets[bucket_of(key)].get_key_value(key).map(|(key, _)| key)
    }

    pub(super) fn contains_key(&self, key: &[u8]) -> bool {
        self.get(key).is_some()
    }

    pub(super) fn insert(&mut self, key: Arc<[u8]>, value: Arc<Vec<u8>>) {
        self.longest_value = self.longest_value.max(value.len());
        self.digest = self.digest.wrapping_add(digest::of_pair(&key, &value));
        let bucket = &mut self.buckets[bucket_of(&key)];
        match bucket.insert(key.clone(), value) {
            Some(before) => self.digest = self.digest.wrapping_sub(digest::of_pair(&key, &before)),
            None => self.len += 1,
        }
    }

    pub(super) fn remove(&mut self, key: &[u8]) -> Option<Arc<Vec<u8>>> {
        let value = self.buckets[bucket_of(key)].remove(key);
        if let Some(value) = &value {
            self.len -= 1;
            self.digest = self.digest.wrapping_sub(digest::of_pair(key, value));
        }
        value
    }

    /// The keys of a bucket, in no order; none if there is no such bucket.
    pub(super) fn keys_of(&self, bucket: usize) -> impl Iterator<Item = &Arc<[u8]>> {
        self.buckets.get(bucket).into_iter().flat_map(HashMap::keys)
    }

    /// Removes the pairs of a bucket and returns them. The map's digest is wrong afterwards.
    pub(super) fn take_bucket(
        &mut self,
        bucket: usize,
    ) -> impl Iterator<Item = (Arc<[u8]>, Arc<Vec<u8>>)> + use<> {
        let taken = self.buckets.get_mut(bucket).map(mem::take).unwrap_or_default();
        self.len -= taken.len();
        taken.into_iter()
    }
}

/// The bucket of a key: a multiplication for every eight bytes, and one to mix the result. It must
/// never change, as cursors that clients hold depend on it.
pub(super) fn bucket_of(key: &[u8]) -> usize {
    const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;
    let mut hash = key.len() as u64;
    for chunk in key.chunks(8) {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        hash = (hash.rotate_left(29) ^ u64::from_le_bytes(word)).wrapping_mul(FACTOR);
    }
    hash ^= hash >> 32;
    (hash.wrapping_mul(FACTOR) >> (64 - BUCKETS.trailing_zeros())) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_spread_over_the_buckets() {
        let names: [fn(u32) -> String; 4] = [
            |n| n.to_string(),
            |n| format!("user:{n:012}"),
            |n| format!("{n:08}:session:profile"),
            |n| {
                format!("{}", char::from_u32(0x4e00 + n % 20_000).unwrap())
                    .repeat(1 + n as usize / 20_000)
            },
        ];
        for (which, name) in names.iter().enumerate() {
            let mut counts = vec![0; BUCKETS];
            (0..BUCKETS as u32 * 10).for_each(|n| counts[bucket_of(name(n).as_bytes())] += 1);
            // Ten each on average; with random keys the fullest has about 25.
            let fullest = counts.iter().max().unwrap();
            assert!(*fullest < 60, "names {which}: {fullest} in one bucket");
        }
    }

    /// A change would break scans that run while nodes are upgraded.
    #[test]
    fn a_key_stays_in_its_bucket() {
        assert_eq!(
            [&b""[..], b"k", b"key:1", b"12345678", b"123456789"].map(bucket_of),
            [0, 550, 758, 945, 722]
        );
    }
}
