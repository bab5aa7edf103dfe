//! The bracket around a run: not twice at a time, a bell that is armed whenever no run is on the stack, and a loop that is usable
//! after a callback's panic.

use std::mem;
use std::ops::{Deref, DerefMut};

use crate::quirks::Quirks;
use crate::turn::End;
use crate::{EventLoop, RunError};

/// A loop that runs until this is dropped.
pub(crate) struct Running<'a, T: Copy, M> {
    event_loop: &'a mut EventLoop<T, M>,
    /// Not by a panic, nor by an error.
    ended: bool,
}

impl<'a, T: Copy, M> Running<'a, T, M> {
    #[inline]
    pub(crate) fn begin(event_loop: &'a mut EventLoop<T, M>) -> Result<Running<'a, T, M>, RunError> {
        if event_loop.quirks == Quirks::NONE {
            event_loop.quirks = Quirks::RUNNING;
        } else if event_loop.quirks.any(Quirks::RUNNING) {
            return Err(RunError::AlreadyRunning);
        } else {
            event_loop.quirks.remove(Quirks::STOPPED);
            event_loop.quirks.add(Quirks::RUNNING);
        }
        Ok(Running { event_loop, ended: false })
    }

    /// The last turn is over, and ended like this.
    #[inline]
    pub(crate) fn end(mut self, end: End) {
        if end == End::Rested {
            // Nothing is left for the destructor: see `leave`.
            self.quirks = Quirks::NONE;
            mem::forget(self);
        } else {
            self.ended = true;
        }
    }

    /// The last turn is over because somebody wanted it to be; that has been obeyed now.
    pub(crate) fn end_by_shutdown(mut self) {
        // One that came after the turn's messages is obeyed as well.
        self.take_rung();
        self.quirks.remove(Quirks::STOPPING | Quirks::SHUTDOWN);
        self.quirks.add(Quirks::STOPPED);
        self.ended = true;
    }

    /// A loop that nobody runs may be nested in another one, and sleep in that one's wait: it leaves the bell armed, and
    /// looks at what was rung when it is next run.
    #[cold]
    fn leave(&mut self) {
        if !self.ended {
            let unfinished = self.batch.is_unfinished();
            self.quirks.set(Quirks::UNFINISHED, unfinished);
            // What is left of the turn need not wait for another reason.
            self.quirks.add(Quirks::WAKE);
        }
        while !self.channels.bell.rest() {
            self.take_rung();
        }
        self.quirks.remove(Quirks::RUNNING);
    }
}

impl<T: Copy, M> Drop for Running<'_, T, M> {
    fn drop(&mut self) {
        self.leave();
    }
}

impl<T: Copy, M> Deref for Running<'_, T, M> {
    type Target = EventLoop<T, M>;

    #[inline]
    fn deref(&self) -> &EventLoop<T, M> {
        self.event_loop
    }
}

impl<T: Copy, M> DerefMut for Running<'_, T, M> {
    #[inline]
    fn deref_mut(&mut self) -> &mut EventLoop<T, M> {
        self.event_loop
    }
}
