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
        if event_loop.entered {
            return Err(RunError::AlreadyRunning);
        }
        event_loop.entered = true;
        event_loop.stopped = false;
        Ok(Running { event_loop, ended: false })
    }

    /// The last turn is over, and ended like this.
    #[inline]
    pub(crate) fn end(mut self, end: End) {
        if end == End::Rested {
            // Nothing is left for the destructor: see `leave`.
            self.entered = false;
            mem::forget(self);
        } else {
            self.ended = true;
        }
    }

    /// The last turn is over because somebody wanted it to be; that has been obeyed now.
    pub(crate) fn end_by_shutdown(mut self) {
        self.quirks.remove(Quirks::STOPPING);
        self.quirks.add(Quirks::LOOK);
        self.requests.clear_shutdown();
        self.stopped = true;
        self.ended = true;
    }

    /// A loop that nobody runs may be nested in another one, and sleep in that one's wait: it leaves the bell armed, and
    /// looks when it is next run.
    #[cold]
    fn leave(&mut self) {
        if !self.ended {
            let unfinished = self.batch.is_unfinished();
            self.quirks.set(Quirks::UNFINISHED, unfinished);
            self.quirks.add(Quirks::LOOK);
        }
        if self.quirks.any(Quirks::LOOK) || !self.channels.bell.rest() {
            self.channels.bell.arm();
            self.quirks.add(Quirks::LOOK);
        }
        self.entered = false;
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
