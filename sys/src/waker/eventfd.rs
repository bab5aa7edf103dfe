//! The eventfd waker (Linux, Android).
//!
//! An eventfd is a counter. Every write causes an edge, whether or not the counter was zero. So an
//! edge-triggered registration reports each of them, and the counter need not be read: it would
//! take 2^64 - 2 wakes to fill.

use crate::fd::{check, read, retry, write};
use crate::{Interest, Selector, Trigger};
use std::io;
use std::os::fd::{AsFd, FromRawFd, OwnedFd};

const ONE: [u8; 8] = 1_u64.to_ne_bytes();

#[derive(Debug)]
pub(super) struct Waker {
    eventfd: OwnedFd,
}

impl Waker {
    pub(super) fn new(selector: &Selector, key: u64) -> io::Result<Waker> {
        // SAFETY: no pointers; the answer is a new descriptor or -1.
        let raw = check(unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) })?;
        // SAFETY: `raw` was just opened and has no other owner.
        let eventfd = unsafe { OwnedFd::from_raw_fd(raw) };
        selector.add(eventfd.as_fd(), key, Interest::READABLE, Trigger::Edge)?;
        Ok(Waker { eventfd })
    }

    #[inline]
    pub(super) fn wake(&self) -> io::Result<()> {
        match write(self.eventfd.as_fd(), &ONE) {
            Ok(_) => Ok(()),
            Err(error) => self.retry_wake(error),
        }
    }

    #[cold]
    fn retry_wake(&self, error: io::Error) -> io::Result<()> {
        let written = match error.kind() {
            io::ErrorKind::Interrupted => retry(|| write(self.eventfd.as_fd(), &ONE)),
            _ => Err(error),
        };
        match written {
            // The counter is full after all: empty it and write again.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                retry(|| read(self.eventfd.as_fd(), &mut [0; 8])).or_else(|error| {
                    match error.kind() {
                        io::ErrorKind::WouldBlock => Ok(0), // another thread was quicker
                        _ => Err(error),
                    }
                })?;
                retry(|| write(self.eventfd.as_fd(), &ONE)).map(drop)
            }
            answer => answer.map(drop),
        }
    }
}
