//! The store as bytes: its time, then its pairs in no particular order.
//!
//! ```text
//! | 0xFFFF_FFFF | stamp u64 LE |
//! | key length u32 LE           | value length u32 LE |                     key | value |
//! | key length, its highest bit | value length u32 LE | deadline u64 LE   | key | value |
//! ```
//! Snapshots of versions in which keys could not expire have no time and no such bit; they are read
//! as they are.

use std::{
    io::{self, Read},
    sync::Arc,
};

use super::{
    buckets::{BUCKETS, Map},
    expiry::{DeadlineMap, Deadlines},
    store::Store,
};

/// About this many bytes are encoded at a time.
const BUFFER_BYTES: usize = 64 << 10;

/// Stands in the place of a key's length: the store's time follows.
const TIME_MARKER: u32 = u32::MAX;
/// In a key's length: the key has a deadline. No key is so long.
const HAS_DEADLINE: u32 = 1 << 31;

/// Turns a copy of the map into bytes as they are read.
pub(super) struct Writer {
    map: Map,
    /// The next bucket to be written.
    bucket: usize,
    deadlines: DeadlineMap,
    buffer: Vec<u8>,
    /// How much of the buffer has been read.
    read_bytes: usize,
}

impl Writer {
    pub(super) fn new(map: Map, deadlines: DeadlineMap, now: u64) -> Writer {
        let mut buffer = TIME_MARKER.to_le_bytes().to_vec();
        buffer.extend_from_slice(&now.to_le_bytes());
        Writer { map, bucket: 0, deadlines, buffer, read_bytes: 0 }
    }

    fn fill(&mut self) -> io::Result<()> {
        self.buffer.clear();
        self.read_bytes = 0;
        while self.bucket < BUCKETS && self.buffer.len() < BUFFER_BYTES {
            // A bucket that is written is dropped.
            for (key, value) in self.map.take_bucket(self.bucket) {
                self.put(&key, &value)?;
            }
            self.bucket += 1;
        }
        Ok(())
    }

    fn put(&mut self, key: &Arc<[u8]>, value: &[u8]) -> io::Result<()> {
        let deadline = if self.deadlines.is_empty() { None } else { self.deadlines.get(key) };
        let key_length = u32::try_from(key.len()).map_err(io::Error::other)?;
        assert!(key_length < HAS_DEADLINE, "a request is smaller than 2 GiB");
        let key_length = key_length | if deadline.is_some() { HAS_DEADLINE } else { 0 };
        let value_length = u32::try_from(value.len()).map_err(io::Error::other)?;
        self.buffer.extend_from_slice(&key_length.to_le_bytes());
        self.buffer.extend_from_slice(&value_length.to_le_bytes());
        if let Some(deadline) = deadline {
            self.buffer.extend_from_slice(&deadline.to_le_bytes());
        }
        self.buffer.extend_from_slice(key);
        self.buffer.extend_from_slice(value);
        Ok(())
    }
}

impl Read for Writer {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.read_bytes == self.buffer.len() {
            self.fill()?;
        }
        let read = (&self.buffer[self.read_bytes..]).read(into)?;
        self.read_bytes += read;
        Ok(read)
    }
}

/// Reads what a writer wrote.
pub(super) fn read(content: &mut dyn Read) -> io::Result<Store> {
    let mut content = io::BufReader::with_capacity(BUFFER_BYTES, content);
    let (mut map, mut deadlines, mut now) = (Map::default(), DeadlineMap::default(), 0);
    loop {
        let mut key_length = [0; 4];
        match content.read(&mut key_length[..1])? {
            0 => {
                return Ok(Store {
                    map,
                    deadlines: Deadlines::new(deadlines),
                    now,
                    ..Store::default()
                });
            }
            _ => content.read_exact(&mut key_length[1..])?,
        }
        let key_length = u32::from_le_bytes(key_length);
        if key_length == TIME_MARKER {
            now = read_u64(&mut content)?;
            continue;
        }
        let mut value_length = [0; 4];
        content.read_exact(&mut value_length)?;
        let deadline =
            if key_length & HAS_DEADLINE == 0 { None } else { Some(read_u64(&mut content)?) };
        let key: Arc<[u8]> = read_bytes(&mut content, key_length & !HAS_DEADLINE)?.into();
        let value = read_bytes(&mut content, u32::from_le_bytes(value_length))?;
        if let Some(deadline) = deadline {
            deadlines.insert(key.clone(), deadline);
        }
        map.insert(key, Arc::new(value));
    }
}

fn read_u64(content: &mut impl Read) -> io::Result<u64> {
    let mut bytes = [0; 8];
    content.read_exact(&mut bytes)?;
    Ok(u64::from_le_bytes(bytes))
}

/// Reads `length` bytes, and allocates no more than the content has.
fn read_bytes(content: &mut impl Read, length: u32) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity((length as usize).min(BUFFER_BYTES));
    content.take(length.into()).read_to_end(&mut bytes)?;
    if bytes.len() == length as usize {
        Ok(bytes)
    } else {
        Err(io::ErrorKind::UnexpectedEof.into())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn a_snapshot_is_whole_though_the_map_changes() {
        let pair = |number: u32| {
            (Arc::from(number.to_string().as_bytes()), Arc::new(vec![7; number as usize % 300]))
        };
        let pairs: BTreeMap<Arc<[u8]>, Arc<Vec<u8>>> = (0..5_000).map(pair).collect();
        let mut map = Map::default();
        pairs.iter().for_each(|(key, value)| map.insert(key.clone(), value.clone()));
        let deadlines: DeadlineMap =
            pairs.keys().filter(|key| key.len() < 3).map(|key| (key.clone(), 77)).collect();
        let mut writer = Writer::new(map.clone(), deadlines.clone(), 42);
        let mut bytes = vec![0; 1000];
        writer.read_exact(&mut bytes).unwrap();
        pairs.keys().filter(|key| key.len() > 3).for_each(|key| drop(map.remove(key)));
        writer.read_to_end(&mut bytes).unwrap();
        let content = read(&mut &bytes[..]).unwrap();
        assert_eq!((content.map.len(), map.len()), (5_000, 1_000));
        assert!(pairs.iter().all(|(key, value)| content.map.get(key) == Some(value)));
        assert!(*content.deadlines.map() == deadlines && content.now == 42);
        bytes.pop();
        assert_eq!(read(&mut &bytes[..]).err().unwrap().kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn a_snapshot_without_deadlines_is_read() {
        let content = read(&mut &b"\x01\0\0\0\x02\0\0\0kvv"[..]).unwrap();
        assert_eq!(content.map.get(&b"k"[..]).map(|value| &value[..]), Some(&b"vv"[..]));
        assert!(content.deadlines.map().is_empty() && content.now == 0);
    }
}
