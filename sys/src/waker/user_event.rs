//! The waker made of a kqueue's user event (EVFILT_USER).
//!
//! It needs no descriptor, and one system call for each wake.

use crate::Selector;
use crate::selector::imp::UserEvent;
use std::io;

#[derive(Debug)]
pub(super) struct Waker {
    event: UserEvent,
}

impl Waker {
    pub(super) fn new(selector: &Selector, key: u64) -> io::Result<Waker> {
        Ok(Waker { event: UserEvent::new(&selector.imp, key)? })
    }

    pub(super) fn wake(&self) -> io::Result<()> {
        self.event.trigger()
    }
}
