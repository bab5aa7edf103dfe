//! The first part of a turn: waiting for a reason to have one.
//!
//! A wait without a deadline, in a loop that has nothing unusual about it, reads no clock and looks at no channel. With timeouts
//! pending the clock is read twice a turn: after the wait, for what is due, and before it, since a timeout counted from the
//! turn's beginning would be late by as long as the turn's callbacks took.

use std::io;
use std::time::{Duration, Instant};

use crate::quirks::Quirks;
use crate::{EventLoop, Handler, RunError};

/// How long a turn may wait for its first event.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Limit {
    Forever,
    Until(Instant),
    AtOnce,
}

impl<T: Copy, M> EventLoop<T, M> {
    /// Waits for events until there is a reason for a turn: the short way, for a loop at [rest](crate::turn::End::Rested)
    /// without timeouts.
    #[inline]
    pub(crate) fn collect<H: Handler<T, M> + ?Sized>(&mut self, handler: &mut H) -> Result<(), RunError> {
        self.batch.begin();
        self.stats.sleeps += 1;
        match self.shared.selector.wait(&mut self.batch.events, None) {
            Ok(count) if count > 0 => {
                self.awake();
                Ok(())
            }
            answer => self.collect_otherwise(handler, answer),
        }
    }

    /// The short way has failed.
    #[cold]
    #[inline(never)]
    fn collect_otherwise<H: Handler<T, M> + ?Sized>(
        &mut self,
        handler: &mut H,
        answer: io::Result<usize>,
    ) -> Result<(), RunError> {
        self.awake();
        if let Err(error) = answer {
            self.failed_wait(handler, error)?;
        }
        self.collect_unusual(handler, Limit::Forever)
    }

    /// Waits for events until there is a reason for a turn.
    #[inline(never)]
    pub(crate) fn collect_unusual<H: Handler<T, M> + ?Sized>(
        &mut self,
        handler: &mut H,
        limit: Limit,
    ) -> Result<(), RunError> {
        if self.quirks.any(Quirks::UNFINISHED) {
            self.quirks.remove(Quirks::UNFINISHED);
            self.awake();
            return Ok(());
        }
        loop {
            self.batch.begin();
            let patience = self.patience(limit);
            match self.wait(patience) {
                Ok(0) if patience != Some(Duration::ZERO) && self.is_early(limit) => {}
                Ok(_) => return Ok(()),
                Err(error) => self.failed_wait(handler, error)?,
            }
        }
    }

    /// The wait has ended: the last turn's time is no longer this one's, and senders need not wake the loop.
    #[inline]
    fn awake(&mut self) {
        self.now.set(None);
        if self.channels.bell.rouse() {
            self.quirks.add(Quirks::LOOK);
        }
    }

    #[cold]
    fn failed_wait<H: Handler<T, M> + ?Sized>(&mut self, handler: &mut H, error: io::Error) -> Result<(), RunError> {
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(RunError::Wait(error));
        }
        self.stats.interruptions += 1;
        self.timed(|event_loop| handler.interrupted(event_loop));
        Ok(())
    }

    /// How long the wait may take. Anything but zero leaves the bell armed.
    fn patience(&mut self, limit: Limit) -> Option<Duration> {
        if matches!(limit, Limit::AtOnce) || self.quirks.any(Quirks::LEFT_OVERS) {
            return Some(Duration::ZERO);
        }
        if !self.settle() {
            return Some(Duration::ZERO);
        }
        let until = match limit {
            Limit::Until(deadline) => Some(deadline),
            _ if self.timers.is_empty() => return None,
            _ => None,
        };
        let now = Instant::now();
        let next = self.timers.until_next(now);
        match until {
            Some(deadline) => {
                let left = deadline.saturating_duration_since(now);
                Some(next.map_or(left, |next| next.min(left)))
            }
            None => next,
        }
    }

    fn wait(&mut self, patience: Option<Duration>) -> io::Result<usize> {
        self.stats.sleeps += u64::from(patience != Some(Duration::ZERO));
        if !self.quirks.any(Quirks::MEASURED) {
            let answer = self.shared.selector.wait(&mut self.batch.events, patience);
            self.awake();
            return answer;
        }
        let (earlier, begun) = (self.now(), Instant::now());
        let answer = self.shared.selector.wait(&mut self.batch.events, patience);
        self.awake();
        self.stats.busy += begun.saturating_duration_since(earlier);
        self.stats.idle += self.now().saturating_duration_since(begun);
        answer
    }

    /// Whether the kernel ended the wait with neither an event nor a deadline.
    fn is_early(&self, limit: Limit) -> bool {
        let over = matches!(limit, Limit::Until(deadline) if deadline <= self.now());
        !over && !self.timers.is_due(self.now())
    }
}
