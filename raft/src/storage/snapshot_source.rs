//! The source of a snapshot's bytes.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::io::{self, Read};
use std::sync::mpsc::{Receiver, TryRecvError};

/// The longest piece of [`SnapshotSource::from_pieces`] that is written as one block, in bytes.
pub const SNAPSHOT_PIECE_BYTES: usize = 256 << 10;

/// The source of a snapshot's bytes. Two sources are never equal.
///
/// A state machine's reader may block. A driver whose storage thread must not wait for it reads it
/// on another thread and sends the pieces ([`from_pieces`](SnapshotSource::from_pieces)), as the
/// node does.
pub struct SnapshotSource(Source);

enum Source {
    /// A reader, read by the storage worker.
    Reader(Box<dyn Read + Send>),
    /// Pieces that another thread reads, and the rest of the last one.
    Pieces { pieces: Receiver<io::Result<Vec<u8>>>, rest: Vec<u8>, has_ended: bool },
}

/// What a source has put into a buffer.
pub(super) enum Filled {
    /// This number of bytes.
    Bytes(usize),
    /// Nothing: the source has ended.
    End,
    /// Nothing yet: the next piece has not arrived.
    Waiting,
}

impl SnapshotSource {
    /// A source that the storage worker reads.
    #[must_use]
    pub fn new(source: impl Read + Send + 'static) -> SnapshotSource {
        SnapshotSource(Source::Reader(Box::new(source)))
    }

    /// A source of pieces that another thread reads, in order. An empty piece is the end.
    ///
    /// The worker does not wait for a piece. It looks for one at each
    /// [`Worker::run`](super::Worker::run), so the driver must call `run` when a piece has arrived.
    #[must_use]
    pub fn from_pieces(pieces: Receiver<io::Result<Vec<u8>>>) -> SnapshotSource {
        SnapshotSource(Source::Pieces { pieces, rest: Vec::new(), has_ended: false })
    }

    /// Reads into `buffer` what is available. A reader fills it, unless it ends.
    pub(super) fn fill(&mut self, buffer: &mut [u8]) -> io::Result<Filled> {
        match &mut self.0 {
            Source::Reader(reader) => match fill(reader, buffer)? {
                0 => Ok(Filled::End),
                read => Ok(Filled::Bytes(read)),
            },
            Source::Pieces { pieces, rest, has_ended } => {
                if rest.is_empty() && !*has_ended {
                    match pieces.try_recv() {
                        Ok(piece) => *rest = piece?,
                        Err(TryRecvError::Empty) => return Ok(Filled::Waiting),
                        Err(TryRecvError::Disconnected) => return Err(no_reader()),
                    }
                    *has_ended = rest.is_empty();
                }
                Ok(match take_front(rest, buffer) {
                    0 => Filled::End,
                    taken => Filled::Bytes(taken),
                })
            }
        }
    }
}

fn no_reader() -> io::Error {
    io::Error::other("the thread that reads the state machine's snapshot has ended")
}

/// Moves bytes from `rest` to the front of `buffer`; returns how many.
fn take_front(rest: &mut Vec<u8>, buffer: &mut [u8]) -> usize {
    let taken = rest.len().min(buffer.len());
    buffer[..taken].copy_from_slice(&rest[..taken]);
    rest.drain(..taken);
    taken
}

/// Reads until the buffer is full or the source ends.
fn fill(source: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match source.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

impl From<Box<dyn Read + Send>> for SnapshotSource {
    fn from(source: Box<dyn Read + Send>) -> SnapshotSource {
        SnapshotSource(Source::Reader(source))
    }
}

impl Read for SnapshotSource {
    /// Waits for the next piece, if another thread reads them.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match &mut self.0 {
            Source::Reader(reader) => reader.read(buffer),
            Source::Pieces { pieces, rest, has_ended } => {
                if rest.is_empty() && !*has_ended {
                    *rest = pieces.recv().map_err(|_| no_reader())??;
                    *has_ended = rest.is_empty();
                }
                Ok(take_front(rest, buffer))
            }
        }
    }
}

impl fmt::Debug for SnapshotSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SnapshotSource")
    }
}

impl PartialEq for SnapshotSource {
    fn eq(&self, other: &SnapshotSource) -> bool {
        std::ptr::eq(self, other)
    }
}

impl Eq for SnapshotSource {}

impl Hash for SnapshotSource {
    /// Adds nothing: the source's bytes are not known.
    fn hash<H: Hasher>(&self, _: &mut H) {}
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    #[test]
    fn pieces_are_taken_in_order_and_without_waiting() {
        let (sender, pieces) = channel();
        let mut source = SnapshotSource::from_pieces(pieces);
        let mut buffer = [0; 4];
        assert!(matches!(source.fill(&mut buffer), Ok(Filled::Waiting)));
        sender.send(Ok(b"abcdef".to_vec())).unwrap();
        assert!(matches!(source.fill(&mut buffer), Ok(Filled::Bytes(4))));
        assert_eq!(&buffer, b"abcd");
        assert!(matches!(source.fill(&mut buffer), Ok(Filled::Bytes(2))));
        assert!(matches!(source.fill(&mut buffer), Ok(Filled::Waiting)));
        sender.send(Ok(Vec::new())).unwrap();
        drop(sender);
        for _ in 0..2 {
            assert!(matches!(source.fill(&mut buffer), Ok(Filled::End)));
        }
    }

    #[test]
    fn a_lost_reading_thread_is_an_error() {
        let (sender, pieces) = channel();
        let mut source = SnapshotSource::from_pieces(pieces);
        sender.send(Err(io::Error::other("a bug"))).unwrap();
        drop(sender);
        assert!(source.fill(&mut [0; 4]).is_err_and(|error| error.to_string() == "a bug"));
        assert!(source.fill(&mut [0; 4]).is_err());
        assert!(source.read(&mut [0; 4]).is_err());
    }
}
