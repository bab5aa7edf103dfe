//! The bracket around a run: not twice at a time, a notifier that is armed whenever no run is on
//! the stack, and a loop that is usable after a callback's panic.

use std::mem;
use std::ops::{Deref, DerefMut};

use crate::loop_flags::LoopFlags;
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
    pub(crate) fn begin(
        event_loop: &'a mut EventLoop<T, M>,
    ) -> Result<Running<'a, T, M>, RunError> {
        if event_loop.flags == LoopFlags::NONE {
            event_loop.flags = LoopFlags::RUNNING;
        } else if event_loop.flags.any(LoopFlags::RUNNING) {
            return Err(RunError::AlreadyRunning);
        } else {
            event_loop.flags.remove(LoopFlags::STOPPED);
            event_loop.flags.add(LoopFlags::RUNNING);
        }
        Ok(Running { event_loop, ended: false })
    }

    /// The last turn is over, and ended like this.
    #[inline]
    pub(crate) fn end(mut self, end: End) {
        if end == End::Rested {
            // Nothing is left for the destructor: see `leave`.
            self.flags = LoopFlags::NONE;
            mem::forget(self);
        } else {
            self.ended = true;
        }
    }

    /// The last turn is over because somebody wanted it to be; that has been obeyed now.
    pub(crate) fn end_by_shutdown(mut self) {
        // One that came after the turn's messages is obeyed as well.
        self.take_rung();
        self.flags.remove(LoopFlags::STOPPING | LoopFlags::SHUTDOWN);
        self.flags.add(LoopFlags::STOPPED);
        self.ended = true;
    }

    /// A loop that nobody runs may be nested in another one, and sleep in that one's wait: it
    /// leaves the notifier armed, and looks at what was published when it is next run.
    #[cold]
    fn leave(&mut self) {
        if !self.ended {
            let unfinished = self.batch.is_unfinished();
            self.flags.set(LoopFlags::UNFINISHED, unfinished);
            // What is left of the turn need not wait for another reason.
            self.flags.add(LoopFlags::WAKE);
        }
        while !self.channels.notifier.prepare_sleep() {
            self.take_rung();
        }
        self.flags.remove(LoopFlags::RUNNING);
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
