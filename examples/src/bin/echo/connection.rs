//! One client of a stream socket, with a buffer of bytes not sent back yet.

use std::io::{self, Read, Write};

use kodiak_net::{Fill, RingBuf, TcpStream, UnixStream};
use kodiak_reactor::{Interest, Source};

/// How much of a client's data is held while it does not read.
const BUFFER_BYTES: usize = 64 * 1024;

/// Either kind of stream.
pub(crate) trait Stream: Source + Read + Write {}

impl Stream for TcpStream {}
impl Stream for UnixStream {}

/// The result of serving a connection once.
pub(crate) enum Progress {
    /// Wait for this readiness.
    Wait(Interest),
    /// The client has closed its writing half, and everything was sent back.
    Done,
}

pub(crate) struct Connection {
    stream: Box<dyn Stream>,
    /// The registered interest.
    interest: Interest,
    buffer: RingBuf,
    /// Whether the client has closed its writing half.
    finished: bool,
}

impl Connection {
    pub(crate) fn new(stream: Box<dyn Stream>) -> Connection {
        Connection {
            stream,
            interest: Interest::READABLE,
            buffer: RingBuf::new(BUFFER_BYTES),
            finished: false,
        }
    }

    pub(crate) fn stream(&self) -> &dyn Stream {
        &*self.stream
    }

    /// Sets the interest to register, and returns whether it has changed.
    pub(crate) fn set_interest(&mut self, interest: Interest) -> bool {
        std::mem::replace(&mut self.interest, interest) != interest
    }

    /// Reads once and writes once. The loop is level-triggered: if there is more, it calls again
    /// after it has served the others.
    ///
    /// # Errors
    /// The connection failed, most often by a reset.
    pub(crate) fn serve(&mut self) -> io::Result<Progress> {
        if !self.finished {
            match self.buffer.fill_from(&mut *self.stream)? {
                Fill::Closed => self.finished = true,
                Fill::Bytes(_) | Fill::WouldBlock | Fill::Full => {}
            }
        }
        self.buffer.drain_to(&mut *self.stream)?;
        Ok(self.next())
    }

    /// Back-pressure: while the buffer is full nothing is read, until the client has read
    /// something.
    fn next(&self) -> Progress {
        let reading = !self.finished && !self.buffer.is_full();
        match (reading, !self.buffer.is_empty()) {
            (true, true) => Progress::Wait(Interest::READABLE | Interest::WRITABLE),
            (true, false) => Progress::Wait(Interest::READABLE),
            (false, true) => Progress::Wait(Interest::WRITABLE),
            (false, false) => Progress::Done,
        }
    }
}
