//! One turn of the loop: wait, then signals, I/O, timers, messages, further channels, `turn_end`.
//!
//! A turn with nothing but I/O makes one system call, the wait, and reads the clock once, after it. Before a wait that may
//! block while timeouts are pending the clock is read a second time: a timeout counted from the turn's beginning would be
//! late by as long as the turn's callbacks took.
//!
//! Callbacks are given the whole loop, so between any two of them everything may have changed. Nothing is therefore held
//! across a callback but keys and counts, and each step looks up again what it is about to touch.

use std::io;
use std::time::{Duration, Instant};

use kodiak_sys::{Event, Interest, Readiness, Trigger};

use crate::batch::{Call, Calls};
use crate::handler::ReadHint;
use crate::registry::{SIGNALS_KEY, WAKER_KEY};
use crate::suspension::Verdict;
use crate::{EventLoop, Handler, RunError};

/// How long a turn may wait for its first event.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Limit {
    Forever,
    Until(Instant),
    AtOnce,
}

impl<T: Copy, M> EventLoop<T, M> {
    /// Runs one turn. Says whether the loop has been asked to stop.
    pub(crate) fn turn<H: Handler<T, M> + ?Sized>(&mut self, handler: &mut H, limit: Limit) -> Result<bool, RunError> {
        self.collect(handler, limit)?;
        self.turn += 1;
        self.requests.clear_wake();
        // Looked at before the messages: whatever was sent before a remote's shutdown is still delivered in this turn.
        let shutdown = self.requests.shutdown();
        // What this turn's callbacks ask for is the next turn's.
        let again = self.registry.again_len();
        self.deliver_signals(handler)?;
        self.deliver_events(handler);
        self.deliver_again(handler, again);
        self.fire_timers(handler);
        self.deliver_messages(handler);
        self.visit_channels(handler);
        self.timed(|event_loop| handler.turn_end(event_loop));
        self.stats.turns += 1;
        Ok(shutdown || self.stopping)
    }

    /// Waits for events until there is a reason for a turn.
    fn collect<H: Handler<T, M> + ?Sized>(&mut self, handler: &mut H, limit: Limit) -> Result<(), RunError> {
        if self.batch.is_unfinished() {
            self.now = Instant::now();
            return Ok(());
        }
        self.reap();
        self.registry.end_batch();
        self.batch.reset();
        loop {
            let patience = self.patience(limit);
            let answer = self.wait(patience);
            match answer {
                Ok(0) if patience != Some(Duration::ZERO) && self.is_early(limit) => {}
                Ok(_) => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {
                    self.stats.interruptions += 1;
                    self.timed(|event_loop| handler.interrupted(event_loop));
                }
                Err(error) => return Err(RunError::Wait(error)),
            }
        }
    }

    /// How long the wait may take. Anything but zero leaves the bell armed.
    fn patience(&mut self, limit: Limit) -> Option<Duration> {
        if matches!(limit, Limit::AtOnce) || self.has_left_overs() {
            return Some(Duration::ZERO);
        }
        self.channels.bell.arm();
        if self.channels.any_ready() || self.requests.any() {
            self.channels.bell.hush();
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

    /// Work that the last turn left, apart from what the channels and the wheel know themselves.
    pub(crate) fn has_left_overs(&self) -> bool {
        self.stopping || self.messages_left || self.registry.again_len() > 0
    }

    fn wait(&mut self, patience: Option<Duration>) -> io::Result<usize> {
        let sleeps = patience != Some(Duration::ZERO);
        self.stats.sleeps += u64::from(sleeps);
        let begun = if self.settings.measure_time { Some(Instant::now()) } else { None };
        let answer = self.shared.selector.wait(&mut self.batch.events, patience);
        if sleeps {
            self.channels.bell.hush();
        }
        let earlier = std::mem::replace(&mut self.now, Instant::now());
        if let Some(begun) = begun {
            self.stats.busy += begun.saturating_duration_since(earlier);
            self.stats.idle += self.now.saturating_duration_since(begun);
        }
        answer
    }

    /// Whether the kernel ended the wait with neither an event nor a deadline.
    fn is_early(&self, limit: Limit) -> bool {
        let over = matches!(limit, Limit::Until(deadline) if deadline <= self.now);
        !over && !self.timers.is_due(self.now)
    }

    /// Forgets the sources that were dropped.
    #[inline]
    pub(crate) fn reap(&mut self) {
        while self.shared.any_dead() {
            if let Some(key) = self.shared.take_dead() {
                self.registry.remove(key, self.entered);
            }
        }
    }

    /// Runs a callback, with a watch if the settings ask for it.
    #[inline]
    pub(crate) fn timed(&mut self, callback: impl FnOnce(&mut Self)) {
        if !self.settings.measure_time {
            return callback(self);
        }
        let begun = Instant::now();
        callback(self);
        self.stats.longest_callback = self.stats.longest_callback.max(begun.elapsed());
    }

    /// Signals come first, wherever in the batch the kernel put them.
    fn deliver_signals<H: Handler<T, M> + ?Sized>(&mut self, handler: &mut H) -> Result<(), RunError> {
        if self.signals.is_none() || !self.batch.holds(SIGNALS_KEY) {
            return Ok(());
        }
        for _ in 0..self.settings.signals_per_turn {
            let Some(signals) = &self.signals else { break };
            let Some(info) = signals.receive().map_err(RunError::Signals)? else { break };
            self.stats.signals += 1;
            self.timed(|event_loop| handler.signal(event_loop, info));
        }
        Ok(())
    }

    fn deliver_events<H: Handler<T, M> + ?Sized>(&mut self, handler: &mut H) {
        loop {
            if let Some(call) = self.batch.calls.take() {
                self.reap();
                self.deliver(handler, call);
            } else if let Some(event) = self.batch.next_event() {
                self.reap();
                self.open(event);
            } else {
                return;
            }
        }
    }

    /// Looks at the next event: whose it is, and which callbacks it causes.
    #[inline]
    fn open(&mut self, event: Event) {
        let Some(entry) = self.registry.get_mut(event.key) else {
            match event.key {
                WAKER_KEY => self.stats.wakes += 1,
                SIGNALS_KEY => {}
                _ => self.stats.stale_events += 1,
            }
            return;
        };
        let readiness = event.readiness | entry.patience.implied();
        let (interest, is_child) = (entry.interest, entry.is_child);
        entry.again = 0;
        entry.hint = ReadHint::of(readiness).terminal();
        self.stats.events += 1;
        let lasting = entry.trigger == Trigger::Level && entry.patience.concerns(readiness);
        if lasting && self.suspend(event) {
            return;
        }
        self.batch.key = event.key;
        self.batch.readiness = readiness;
        self.batch.calls = if is_child { Calls::only(Call::ChildExit) } else { calls(readiness, interest) };
    }

    /// Sees to a source that may be telling the same over and over. `true`: it was suspended, and the event is done with.
    #[cold]
    fn suspend(&mut self, event: Event) -> bool {
        let Some(entry) = self.registry.get_mut(event.key) else { return false };
        let before = entry.patience;
        let (noted, interest) = (entry.noted, entry.interest);
        let suspended = self.shared.while_alive(event.key, |selector| {
            let (interest, trigger, suspended) =
                match entry.patience.judge(event.readiness, interest, || noted.bytes_readable().ok()) {
                    Verdict::Deliver => return false,
                    Verdict::Suspend(interest, trigger) => (interest, trigger, true),
                    Verdict::Wake => (interest, Trigger::Level, false),
                };
            let modified = selector.modify_noted(noted, event.key, interest, trigger);
            if modified.is_err() {
                entry.patience = before; // It is as it was, and asked again next time.
            }
            suspended && modified.is_ok()
        });
        self.stats.suspensions += u64::from(suspended == Some(true));
        // A source that has just died is not called either.
        suspended.unwrap_or(true)
    }

    /// One callback of the event at hand, if its source is still there and still wants it.
    #[inline]
    fn deliver<H: Handler<T, M> + ?Sized>(&mut self, handler: &mut H, call: Call) {
        let Some(entry) = self.registry.get(self.batch.key) else {
            self.batch.calls = Calls::NONE;
            return;
        };
        let token = entry.token;
        let wanted = match call {
            Call::Priority => entry.interest.contains(Interest::PRIORITY),
            Call::Readable => entry.interest.contains(Interest::READABLE),
            Call::Writable => entry.interest.contains(Interest::WRITABLE),
            Call::HangUp => true,
            Call::ChildExit => return self.child_ended(handler, self.batch.key, token),
        };
        if !wanted {
            return;
        }
        let hint = ReadHint::of(self.batch.readiness);
        self.timed(|event_loop| match call {
            Call::Priority => handler.priority(event_loop, token),
            Call::Readable | Call::HangUp => handler.readable(event_loop, token, hint),
            Call::Writable => handler.writable(event_loop, token),
            Call::ChildExit => {}
        });
    }

    /// The sources for which somebody said `again` before this turn: the first `count` notes.
    fn deliver_again<H: Handler<T, M> + ?Sized>(&mut self, handler: &mut H, count: usize) {
        for _ in 0..count {
            self.reap();
            let Some(Some(key)) = self.registry.take_again(self.turn) else { continue };
            for (interest, call) in [(Interest::READABLE, Call::Readable), (Interest::WRITABLE, Call::Writable)] {
                self.reap();
                let Some(entry) = self.registry.get(key) else { break };
                if !entry.interest.contains(interest) {
                    continue;
                }
                let (token, hint) = (entry.token, ReadHint::DATA | entry.hint);
                self.timed(|event_loop| match call {
                    Call::Writable => handler.writable(event_loop, token),
                    _ => handler.readable(event_loop, token, hint),
                });
            }
        }
    }

    fn fire_timers<H: Handler<T, M> + ?Sized>(&mut self, handler: &mut H) {
        if self.timers.is_empty() {
            return;
        }
        let mut advance = self.timers.advance(self.now, self.settings.timers_per_turn);
        while let Some(token) = self.timers.next_due(&mut advance) {
            self.stats.timers_fired += 1;
            self.timed(|event_loop| handler.timeout(event_loop, token));
        }
    }

    fn deliver_messages<H: Handler<T, M> + ?Sized>(&mut self, handler: &mut H) {
        // Most turns bring none, and to look is cheaper than to try: two loads against a fence.
        if self.channels.receiver.is_empty() {
            self.messages_left = false;
            return;
        }
        for _ in 0..self.settings.messages_per_turn {
            let Ok(message) = self.channels.receiver.try_recv() else {
                self.messages_left = false;
                return;
            };
            self.stats.messages += 1;
            self.timed(|event_loop| handler.notify(event_loop, message));
        }
        self.messages_left = true;
    }

    /// Calls for each further channel that has something to receive. Channels added meanwhile wait for the next turn.
    fn visit_channels<H: Handler<T, M> + ?Sized>(&mut self, handler: &mut H) {
        let count = self.channels.further_len();
        if count == 0 {
            return;
        }
        for index in 0..count {
            match self.channels.further(index) {
                Some((token, hint)) if hint != ReadHint::NONE => {
                    self.timed(|event_loop| handler.readable(event_loop, token, hint));
                }
                _ => {}
            }
        }
        self.channels.sweep();
    }
}

/// Which callbacks an event causes. Hang-ups and errors go to each direction that the source wants, since that is where
/// the next read or write will report them; if it wants none that they concern, to `readable` with the hint.
#[inline]
fn calls(readiness: Readiness, interest: Interest) -> Calls {
    let mut calls = Calls::NONE;
    if readiness.is_priority() && interest.contains(Interest::PRIORITY) {
        calls.add(Call::Priority);
    }
    let readable = readiness.is_readable() || readiness.is_read_closed() || readiness.is_error();
    if readable && interest.contains(Interest::READABLE) {
        calls.add(Call::Readable);
    }
    let writable = readiness.is_writable() || readiness.is_write_closed() || readiness.is_error();
    if writable && interest.contains(Interest::WRITABLE) {
        calls.add(Call::Writable);
    }
    let terminal = readiness.is_read_closed() || readiness.is_write_closed() || readiness.is_error();
    if terminal && !calls.contains(Call::Readable) && !calls.contains(Call::Writable) {
        calls.add(Call::HangUp);
    }
    calls
}
