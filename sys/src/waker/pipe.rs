//! The waker made of a pipe, for kernels that have neither eventfds nor user events.
//!
//! The reading end is watched edge-triggered, and only the next wake reads it: every wake empties
//! the pipe and then writes one byte. A write into an empty pipe is an edge on every kernel; a
//! write into one that still holds bytes is not (Linux 5.5 to 5.13). The lock keeps two wakes from
//! sharing one edge that has been reported already.

use crate::fd::{self, read, retry, write};
use crate::{Interest, Selector, Trigger};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Mutex, PoisonError};

#[derive(Debug)]
pub(super) struct Waker {
    reader: OwnedFd,
    writer: Mutex<OwnedFd>,
}

impl Waker {
    pub(super) fn new(selector: &Selector, key: u64) -> io::Result<Waker> {
        let (reader, writer) = fd::pipe()?;
        selector.add(reader.as_fd(), key, Interest::READABLE, Trigger::Edge)?;
        Ok(Waker { reader, writer: Mutex::new(writer) })
    }

    pub(super) fn wake(&self) -> io::Result<()> {
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        // At most the byte of the last wake is there.
        match retry(|| read(self.reader.as_fd(), &mut [0; 8])) {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => return Err(error),
            _ => {}
        }
        retry(|| write(writer.as_fd(), &[1])).map(drop)
    }
}
