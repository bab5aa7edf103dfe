//! The first part of a turn: the wait for events.
//!
//! On the fast path, a wait without a deadline, the loop reads no clock and checks no channel.
//! While timeouts are pending it reads the clock twice a turn: after the wait, to find those that
//! are due, and before the next wait, since a wait counted from the turn's beginning would be too
//! long by the time that the turn's callbacks took.

use std::hint;
use std::io;
use std::time::{Duration, Instant};

use crate::loop_flags::{LoopFlags, WAKE};
use crate::{EventLoop, Handler, RunError};

/// Number of checks of the notifier (a nanosecond each) that a spinning loop makes before it polls
/// the kernel (a hundred times as much).
const CHECKS_PER_POLL: usize = 32;

/// How long a turn may wait for its first event.
#[derive(Clone, Copy, Debug)]
pub(crate) enum WaitLimit {
    Unbounded,
    Until(Instant),
    Zero,
}

/// What a wait on the fast path found.
#[derive(Debug)]
pub(crate) enum FastWait {
    /// Events, and no ready topic but a request for a turn.
    Events,
    /// Events, and other ready topics.
    EventsAndTopics,
    /// No event; the kernel's answer.
    NoEvents(io::Result<usize>),
}

impl<T: Copy, M> EventLoop<T, M> {
    /// Waits for events on the fast path.
    #[inline(always)]
    pub(crate) fn wait_fast(&mut self) -> FastWait {
        self.stats.sleeps += 1;
        match self.shared.selector.wait(&mut self.batch.events, None) {
            Ok(count) if count > 0 => {}
            answer => return FastWait::NoEvents(answer),
        }
        self.now.set(None);
        let ready = self.channels.notifier.take_ready();
        self.batch.restart();
        // A wake by a remote is served by this turn.
        if ready.without(WAKE).is_empty() {
            return FastWait::Events;
        }
        self.flags.add(LoopFlags::from_ready(ready));
        FastWait::EventsAndTopics
    }

    /// Waits again after the fast path found no event.
    #[cold]
    #[inline(never)]
    pub(crate) fn retry_wait<H: Handler<T, M> + ?Sized>(
        &mut self,
        handler: &mut H,
        answer: io::Result<usize>,
    ) -> Result<(), RunError> {
        self.after_wait();
        if let Err(error) = answer {
            self.handle_wait_error(handler, error)?;
        }
        self.wait_slow(handler, WaitLimit::Unbounded)
    }

    /// Waits for events until there is a reason for a turn.
    #[inline(never)]
    pub(crate) fn wait_slow<H: Handler<T, M> + ?Sized>(
        &mut self,
        handler: &mut H,
        limit: WaitLimit,
    ) -> Result<(), RunError> {
        if self.flags.any(LoopFlags::UNFINISHED) {
            self.flags.remove(LoopFlags::UNFINISHED);
            self.after_wait();
            return Ok(());
        }
        loop {
            if self.flags.any(LoopFlags::SPINS) && self.spin(handler, limit)? {
                return Ok(());
            }
            let timeout = self.wait_timeout(limit);
            match self.wait(timeout) {
                Ok(0) if timeout != Some(Duration::ZERO) && self.woke_early(limit) => {}
                Ok(_) => return Ok(()),
                Err(error) => self.handle_wait_error(handler, error)?,
            }
        }
    }

    /// Begins a turn after a wait: forgets the last turn's time, and takes the ready topics, so
    /// that senders no longer wake the loop.
    fn after_wait(&mut self) {
        self.now.set(None);
        self.take_ready_topics();
    }

    #[cold]
    fn handle_wait_error<H: Handler<T, M> + ?Sized>(
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

    /// Polls for work for the time in the settings, with the notifier unarmed: senders need not
    /// wake the loop. Returns whether the kernel reported events.
    #[cold]
    fn spin<H: Handler<T, M> + ?Sized>(
        &mut self,
        handler: &mut H,
        limit: WaitLimit,
    ) -> Result<bool, RunError> {
        if matches!(limit, WaitLimit::Zero) || self.take_work() {
            return Ok(false);
        }
        let started = Instant::now();
        let next = self.timers.until_next(started).unwrap_or(Duration::MAX);
        let left = match limit {
            WaitLimit::Until(deadline) => deadline.saturating_duration_since(started),
            WaitLimit::Unbounded | WaitLimit::Zero => Duration::MAX,
        };
        let time = self.settings.spin.min(next).min(left);
        while started.elapsed() < time {
            for _ in 0..CHECKS_PER_POLL {
                if self.channels.notifier.has_ready() && self.take_work() {
                    return Ok(false);
                }
                hint::spin_loop();
            }
            match self.wait(Some(Duration::ZERO)) {
                Ok(0) => {}
                Ok(_) => return Ok(true),
                Err(error) => self.handle_wait_error(handler, error)?,
            }
            if self.take_work() {
                return Ok(false);
            }
        }
        Ok(false)
    }

    /// Takes the ready topics; whether there is work. A notification whose message was received
    /// before it arrived is none.
    fn take_work(&mut self) -> bool {
        self.take_ready_topics();
        self.remove_empty_topics();
        self.flags.any(LoopFlags::REMAINING_WORK)
    }

    /// How long the wait may take. Unless that is zero, the notifier is armed.
    fn wait_timeout(&mut self, limit: WaitLimit) -> Option<Duration> {
        if matches!(limit, WaitLimit::Zero) || self.flags.any(LoopFlags::REMAINING_WORK) {
            return Some(Duration::ZERO);
        }
        if !self.arm_notifier() {
            return Some(Duration::ZERO);
        }
        let until = match limit {
            WaitLimit::Until(deadline) => Some(deadline),
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

    fn wait(&mut self, timeout: Option<Duration>) -> io::Result<usize> {
        self.stats.sleeps += u64::from(timeout != Some(Duration::ZERO));
        if !self.flags.any(LoopFlags::MEASURED) {
            let answer = self.shared.selector.wait(&mut self.batch.events, timeout);
            self.batch.restart();
            self.after_wait();
            return answer;
        }
        let (earlier, started) = (self.now(), Instant::now());
        let answer = self.shared.selector.wait(&mut self.batch.events, timeout);
        self.batch.restart();
        self.after_wait();
        self.stats.busy += started.saturating_duration_since(earlier);
        self.stats.idle += self.now().saturating_duration_since(started);
        answer
    }

    /// Whether the kernel ended the wait with neither an event nor a deadline.
    fn woke_early(&self, limit: WaitLimit) -> bool {
        let over = matches!(limit, WaitLimit::Until(deadline) if deadline <= self.now());
        !over && !self.timers.is_due(self.now())
    }
}
