//! One client of a stream socket: what it sent and has not got back yet, and what to wait for.

use std::io::{self, Read, Write};

use kodiak_net::{Fill, RingBuf, TcpStream, UnixStream};
use kodiak_reactor::{Interest, Source};

/// How much of a client's data is held while it does not read.
const BUFFER_BYTES: usize = 64 * 1024;

/// Either kind of stream.
pub(crate) trait Stream: Source + Read + Write {}

impl Stream for TcpStream {}
impl Stream for UnixStream {}

/// What became of a connection in one callback.
pub(crate) enum Progress {
    /// It goes on, and waits for this now.
    Wait(Interest),
    /// The client has finished and has everything back.
    Done,
}

pub(crate) struct Connection {
    stream: Box<dyn Stream>,
    /// What the loop was last asked to wait for.
    interest: Interest,
    buffer: RingBuf,
    /// The client has sent all it will send.
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

    /// Notes what the loop is asked to wait for, and tells whether that is new.
    pub(crate) fn set_interest(&mut self, interest: Interest) -> bool {
        std::mem::replace(&mut self.interest, interest) != interest
    }

    /// Reads once and writes once. The loop is level-triggered: if there is more, it calls again,
    /// after the others had their turn.
    ///
    /// # Errors
    /// The connection is broken (reset, most often).
    pub(crate) fn proceed(&mut self) -> io::Result<Progress> {
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
