//! The first part of a turn: waiting for a reason to have one.
//!
//! A wait without a deadline, in a loop that has nothing unusual about it, reads no clock and looks
//! at no channel. With timeouts pending the clock is read twice a turn: after the wait, for what is
//! due, and before it, since a timeout counted from the turn's beginning would be late by as long
//! as the turn's callbacks took.

use std::hint;
use std::io;
use std::time::{Duration, Instant};

use crate::loop_flags::{LoopFlags, WAKE};
use crate::{EventLoop, Handler, RunError};

/// How often a spinning loop looks at the notifier, which costs a nanosecond, before it asks the
/// kernel, which costs a hundred times as much.
const LOOKS: usize = 32;

/// How long a turn may wait for its first event.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Limit {
    Forever,
    Until(Instant),
    AtOnce,
}

/// What the short way has found.
#[derive(Debug)]
pub(crate) enum Collected {
    /// Events, and no topic with news but a request for a turn.
    Events,
    /// Events, and somebody has.
    More,
    /// No event, with the kernel's answer.
    Nothing(io::Result<usize>),
}

impl<T: Copy, M> EventLoop<T, M> {
    /// Waits for events: the short way, for a loop that has nothing unusual about it.
    #[inline(always)]
    pub(crate) fn collect(&mut self) -> Collected {
        self.stats.sleeps += 1;
        match self.shared.selector.wait(&mut self.batch.events, None) {
            Ok(count) if count > 0 => {}
            answer => return Collected::Nothing(answer),
        }
        self.now.set(None);
        let ready = self.channels.notifier.take_ready();
        self.batch.begin();
        // The turn that a remote asked for is this one.
        if ready.without(WAKE).is_empty() {
            return Collected::Events;
        }
        self.flags.add(LoopFlags::of(ready));
        Collected::More
    }

    /// The short way has failed.
    #[cold]
    #[inline(never)]
    pub(crate) fn collect_otherwise<H: Handler<T, M> + ?Sized>(
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
        if self.flags.any(LoopFlags::UNFINISHED) {
            self.flags.remove(LoopFlags::UNFINISHED);
            self.awake();
            return Ok(());
        }
        loop {
            if self.flags.any(LoopFlags::SPINS) && self.spin(handler, limit)? {
                return Ok(());
            }
            let patience = self.patience(limit);
            match self.wait(patience) {
                Ok(0) if patience != Some(Duration::ZERO) && self.is_early(limit) => {}
                Ok(_) => return Ok(()),
                Err(error) => self.failed_wait(handler, error)?,
            }
        }
    }

    /// The wait has ended: the last turn's time is no longer this one's, and senders need not wake
    /// the loop.
    fn awake(&mut self) {
        self.now.set(None);
        self.take_rung();
    }

    #[cold]
    fn failed_wait<H: Handler<T, M> + ?Sized>(
        &mut self,
        handler: &mut H,
        error: io::Error,
    ) -> Result<(), RunError> {
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(RunError::Wait(error));
        }
        self.stats.interruptions += 1;
        self.timed(|event_loop| handler.interrupted(event_loop));
        Ok(())
    }

    /// Looks for work for as long as the settings say, with the notifier unarmed: whoever sends
    /// needs not wake the loop. `true`: the kernel has reported events.
    #[cold]
    fn spin<H: Handler<T, M> + ?Sized>(
        &mut self,
        handler: &mut H,
        limit: Limit,
    ) -> Result<bool, RunError> {
        self.take_rung();
        if matches!(limit, Limit::AtOnce) || self.flags.any(LoopFlags::LEFT_OVERS) {
            return Ok(false);
        }
        let begun = Instant::now();
        let next = self.timers.until_next(begun).unwrap_or(Duration::MAX);
        let left = match limit {
            Limit::Until(deadline) => deadline.saturating_duration_since(begun),
            Limit::Forever | Limit::AtOnce => Duration::MAX,
        };
        let time = self.settings.spin.min(next).min(left);
        while begun.elapsed() < time {
            for _ in 0..LOOKS {
                if self.channels.notifier.has_ready() {
                    return Ok(false);
                }
                hint::spin_loop();
            }
            match self.wait(Some(Duration::ZERO)) {
                Ok(0) => {}
                Ok(_) => return Ok(true),
                Err(error) => self.failed_wait(handler, error)?,
            }
            // The wait has taken the topics that got news meanwhile.
            if self.flags.any(LoopFlags::LEFT_OVERS) {
                return Ok(false);
            }
        }
        Ok(false)
    }

    /// How long the wait may take. Anything but zero leaves the notifier armed.
    fn patience(&mut self, limit: Limit) -> Option<Duration> {
        if matches!(limit, Limit::AtOnce) || self.flags.any(LoopFlags::LEFT_OVERS) {
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
        if !self.flags.any(LoopFlags::MEASURED) {
            let answer = self.shared.selector.wait(&mut self.batch.events, patience);
            self.batch.begin();
            self.awake();
            return answer;
        }
        let (earlier, begun) = (self.now(), Instant::now());
        let answer = self.shared.selector.wait(&mut self.batch.events, patience);
        self.batch.begin();
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
