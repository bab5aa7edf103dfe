//! The guard of a running loop.
//!
//! It refuses a second run inside the first, arms the notifier whenever no run is on the stack, and
//! leaves the loop usable after a callback's panic.

use std::mem;
use std::ops::{Deref, DerefMut};

use crate::loop_flags::LoopFlags;
use crate::turn::TurnEnd;
use crate::{EventLoop, RunError};

/// A loop that is running. Dropping this ends the run.
pub(crate) struct Running<'a, T: Copy, M> {
    event_loop: &'a mut EventLoop<T, M>,
    /// Whether the run ended without a panic or an error.
    ended_normally: bool,
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
        Ok(Running { event_loop, ended_normally: false })
    }

    /// Ends the run after its last turn.
    #[inline]
    pub(crate) fn end(mut self, end: TurnEnd) {
        if end == TurnEnd::Armed {
            // Nothing is left for the destructor: see `finish`.
            self.flags = LoopFlags::NONE;
            mem::forget(self);
        } else {
            self.ended_normally = true;
        }
    }

    /// Ends the run after a shutdown, which is thereby served.
    pub(crate) fn end_by_shutdown(mut self) {
        // A shutdown that arrived after the turn's messages is served as well.
        self.take_ready_topics();
        self.flags.remove(LoopFlags::STOPPING | LoopFlags::SHUTDOWN);
        self.flags.add(LoopFlags::STOPPED);
        self.ended_normally = true;
    }

    /// Arms the notifier: a loop that is not running may be nested in another loop and sleep in its
    /// wait. The next run handles the ready topics.
    #[cold]
    fn finish(&mut self) {
        if !self.ended_normally {
            let unfinished = self.batch.is_unfinished();
            self.flags.set(LoopFlags::UNFINISHED, unfinished);
            // The rest of the turn runs without waiting for another event.
            self.flags.add(LoopFlags::WAKE);
        }
        while !self.channels.notifier.prepare_sleep() {
            self.take_ready_topics();
        }
        self.flags.remove(LoopFlags::RUNNING);
    }
}

impl<T: Copy, M> Drop for Running<'_, T, M> {
    fn drop(&mut self) {
        self.finish();
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
