//! The map as bytes: for each pair `key length u32 | value length u32 | key | value`, in no particular order.

use std::{
    io::{self, Read},
    sync::Arc,
};

use imbl::hashmap::ConsumingIter;

use super::store::Map;

/// So much is turned into bytes at a time.
const BUFFER_BYTES: usize = 64 << 10;

type Pairs = ConsumingIter<(Arc<[u8]>, Arc<Vec<u8>>), imbl::shared_ptr::DefaultSharedPtr>;

/// Turns a copy of the map into bytes as they are read.
pub(super) struct Writer {
    pairs: Pairs,
    buffer: Vec<u8>,
    /// How much of the buffer has been read.
    read_bytes: usize,
}

impl Writer {
    pub(super) fn new(map: Map) -> Writer {
        Writer { pairs: map.into_iter(), buffer: Vec::new(), read_bytes: 0 }
    }

    fn fill(&mut self) -> io::Result<()> {
        self.buffer.clear();
        self.read_bytes = 0;
        for (key, value) in self.pairs.by_ref() {
            for part in [key.len(), value.len()] {
                let length = u32::try_from(part).map_err(io::Error::other)?;
                self.buffer.extend_from_slice(&length.to_le_bytes());
            }
            self.buffer.extend_from_slice(&key);
            self.buffer.extend_from_slice(&value);
            if self.buffer.len() >= BUFFER_BYTES {
                break;
            }
        }
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

/// Reads a map.
pub(super) fn read(content: &mut dyn Read) -> io::Result<Map> {
    let mut content = io::BufReader::with_capacity(BUFFER_BYTES, content);
    let mut map = Map::default();
    loop {
        let mut key_length = [0; 4];
        match content.read(&mut key_length[..1])? {
            0 => return Ok(map),
            _ => content.read_exact(&mut key_length[1..])?,
        }
        let mut value_length = [0; 4];
        content.read_exact(&mut value_length)?;
        let key = take(&mut content, u32::from_le_bytes(key_length))?;
        let value = take(&mut content, u32::from_le_bytes(value_length))?;
        map.insert(key.into(), Arc::new(value));
    }
}

/// Reads so many bytes, and reserves no more room than there are bytes for.
fn take(content: &mut impl Read, length: u32) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity((length as usize).min(BUFFER_BYTES));
    content.take(length.into()).read_to_end(&mut bytes)?;
    if bytes.len() == length as usize { Ok(bytes) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_map_survives_and_may_change_meanwhile() {
        let pair = |number: u32| (Arc::from(number.to_string().as_bytes()), Arc::new(vec![7; number as usize % 300]));
        let mut map: Map = (0..5_000).map(pair).collect();
        let before = map.clone();
        let mut writer = Writer::new(map.clone());
        let mut bytes = vec![0; 1000];
        writer.read_exact(&mut bytes).unwrap();
        map.retain(|key, _| key.len() > 3);
        writer.read_to_end(&mut bytes).unwrap();
        assert!(read(&mut &bytes[..]).unwrap() == before);
        bytes.pop();
        assert_eq!(read(&mut &bytes[..]).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }
}
