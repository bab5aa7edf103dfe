//! Bytes on their way to a socket.

use std::io::{self, Write};

use bytes::{Buf, BytesMut};

use crate::wire::WireError;

/// What has been encoded for a link and not been taken by its socket yet. Bounded.
#[derive(Debug)]
pub(super) struct Outbox {
    bytes: BytesMut,
    limit_bytes: usize,
}

/// How far a flush came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flushed {
    /// Everything is with the kernel.
    All,
    /// The socket takes no more now.
    Part,
}

/// Why something cannot be sent.
#[derive(Debug, thiserror::Error)]
pub(super) enum PushError {
    /// More waits for the link than may.
    #[error(
        "more than {limit_bytes} bytes (Options::link_buffer_bytes) wait for a link that takes none"
    )]
    Overflow {
        /// The bound.
        limit_bytes: usize,
    },
    /// It cannot be encoded; nothing was added.
    #[error(transparent)]
    Wire(#[from] WireError),
}

impl Outbox {
    /// An empty one that holds up to `limit_bytes`.
    pub(super) fn new(limit_bytes: usize) -> Outbox {
        Outbox { bytes: BytesMut::new(), limit_bytes }
    }

    /// Lets `encode` append to it.
    pub(super) fn push(
        &mut self,
        encode: impl FnOnce(&mut BytesMut) -> Result<(), WireError>,
    ) -> Result<(), PushError> {
        // The bound is looked at before, so that one message of any legal size can always be sent.
        if self.bytes.len() > self.limit_bytes {
            return Err(PushError::Overflow { limit_bytes: self.limit_bytes });
        }
        Ok(encode(&mut self.bytes)?)
    }

    /// Forgets everything: what was meant for one link must not be sent over the next.
    pub(super) fn clear(&mut self) {
        self.bytes.clear();
    }

    /// Whether nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Writes until nothing waits or the socket takes no more.
    pub(super) fn flush(&mut self, mut socket: impl Write) -> io::Result<Flushed> {
        while !self.bytes.is_empty() {
            match socket.write(&self.bytes) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => self.bytes.advance(written),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return Ok(Flushed::Part);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        // Gives the room at the front back, so that a warm outbox never grows for a heartbeat.
        self.bytes.clear();
        Ok(Flushed::All)
    }
}

#[cfg(test)]
mod tests {
    use bytes::BufMut;

    use super::*;

    fn put(text: &'static [u8]) -> impl FnOnce(&mut BytesMut) -> Result<(), WireError> {
        move |bytes| {
            bytes.put_slice(text);
            Ok(())
        }
    }

    /// Takes three bytes, then would block once.
    struct Slow(Vec<u8>, bool);

    impl Write for Slow {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.1 = !self.1;
            if !self.1 {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            let taken = bytes.len().min(3);
            self.0.extend_from_slice(&bytes[..taken]);
            Ok(taken)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn everything_arrives_in_order_however_slowly_it_is_taken() {
        let mut outbox = Outbox::new(100);
        let mut socket = Slow(Vec::new(), false);
        outbox.push(put(b"hello ")).unwrap();
        assert_eq!(outbox.flush(&mut socket).unwrap(), Flushed::Part);
        outbox.push(put(b"world")).unwrap();
        while outbox.flush(&mut socket).unwrap() == Flushed::Part {}
        assert_eq!(socket.0, b"hello world");
        assert!(outbox.is_empty());
    }

    #[test]
    fn the_bound_is_named() {
        let mut outbox = Outbox::new(4);
        outbox.push(put(b"12345")).unwrap();
        let error = outbox.push(put(b"6")).unwrap_err();
        assert!(error.to_string().contains("4 bytes (Options::link_buffer_bytes)"), "{error}");
    }

    #[test]
    fn a_warm_outbox_allocates_nothing() {
        let mut outbox = Outbox::new(1 << 20);
        let mut round = || {
            outbox.push(put(&[7; 48])).unwrap();
            outbox.flush(io::sink()).unwrap();
        };
        round();
        let counted = allocation_counter::measure(|| (0..1000).for_each(|_| round()));
        assert_eq!(counted.count_total, 0);
    }
}
