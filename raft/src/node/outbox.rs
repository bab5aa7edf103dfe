//! Bytes on their way to a socket.

use std::io::{self, Write};

use bytes::{Buf, BytesMut};

use crate::wire::WireError;

/// A bounded buffer of encoded bytes that the link's socket has not taken yet.
#[derive(Debug)]
pub(super) struct Outbox {
    bytes: BytesMut,
    limit_bytes: usize,
}

/// The result of a flush.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flushed {
    /// The kernel has taken everything.
    All,
    /// The socket takes no more now.
    Part,
}

/// Why a message cannot be sent.
#[derive(Debug, thiserror::Error)]
pub(super) enum PushError {
    /// The buffer is full.
    #[error(
        "more than {limit_bytes} bytes (Options::link_buffer_bytes) wait for a link that takes none"
    )]
    Overflow {
        /// The limit.
        limit_bytes: usize,
    },
    /// The message cannot be encoded; nothing was added.
    #[error(transparent)]
    Wire(#[from] WireError),
}

impl Outbox {
    /// An empty buffer for `limit_bytes`.
    pub(super) fn new(limit_bytes: usize) -> Outbox {
        Outbox { bytes: BytesMut::new(), limit_bytes }
    }

    /// Lets `encode` append a message.
    pub(super) fn push(
        &mut self,
        encode: impl FnOnce(&mut BytesMut) -> Result<(), WireError>,
    ) -> Result<(), PushError> {
        // The limit is checked before, so that one message of any legal size can always be sent.
        if self.bytes.len() > self.limit_bytes {
            return Err(PushError::Overflow { limit_bytes: self.limit_bytes });
        }
        Ok(encode(&mut self.bytes)?)
    }

    /// Drops all bytes: those for one link must not be sent over the next.
    pub(super) fn clear(&mut self) {
        self.bytes.clear();
    }

    /// Whether no bytes wait.
    pub(super) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Writes until the buffer is empty or the socket is full.
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
        // Frees the capacity at the front, so that a warm buffer never grows for a heartbeat.
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
    struct Slow {
        taken: Vec<u8>,
        is_writable: bool,
    }

    impl Write for Slow {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.is_writable = !self.is_writable;
            if !self.is_writable {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            let taken = bytes.len().min(3);
            self.taken.extend_from_slice(&bytes[..taken]);
            Ok(taken)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn bytes_arrive_in_order_over_a_slow_socket() {
        let mut outbox = Outbox::new(100);
        let mut socket = Slow { taken: Vec::new(), is_writable: false };
        outbox.push(put(b"hello ")).unwrap();
        assert_eq!(outbox.flush(&mut socket).unwrap(), Flushed::Part);
        outbox.push(put(b"world")).unwrap();
        while outbox.flush(&mut socket).unwrap() == Flushed::Part {}
        assert_eq!(socket.taken, b"hello world");
        assert!(outbox.is_empty());
    }

    #[test]
    fn an_overflow_names_the_limit_and_its_option() {
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
