//! One turn of the loop: wait, then signals, I/O, timers, messages, further channels, `turn_end`.
//!
//! A turn with nothing but I/O makes one system call, the wait, and asks after everything else with
//! one look at the loop's [`LoopFlags`] and one at the notifier.
//!
//! Callbacks are given the whole loop, so between any two of them everything may have changed.
//! Nothing is therefore held across a callback but keys and counts, and each step looks up again
//! what it is about to touch.

use std::time::Instant;

use kodiak_sys::{Event, Interest, Readiness, Trigger};

use crate::batch::{Call, Calls};
use crate::handler::ReadHint;
use crate::loop_flags::LoopFlags;
use crate::registry::{SIGNALS_KEY, WAKER_KEY};
use crate::suspension::{Patience, UNKNOWN, Verdict};
use crate::waiting::{Collected, Limit};
use crate::{EventLoop, Handler, RunError};

/// How a turn has ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum End {
    /// The loop has no [`LoopFlags`], and the notifier is armed: the next wait may begin at once.
    Rested,
    /// As it comes.
    Going,
    /// Somebody wants the loop to stop.
    Stop,
}

impl<T: Copy, M> EventLoop<T, M> {
    /// Runs one turn.
    #[inline(always)]
    pub(crate) fn turn<H: Handler<T, M> + ?Sized>(
        &mut self,
        handler: &mut H,
        limit: Limit,
    ) -> Result<End, RunError> {
        'usual: {
            if self.flags.is_usual() && matches!(limit, Limit::Forever) {
                match self.collect() {
                    Collected::Events => break 'usual,
                    Collected::More => {}
                    Collected::Nothing(answer) => self.collect_otherwise(handler, answer)?,
                }
            } else {
                self.collect_unusual(handler, limit)?;
            }
            self.begin_unusual(handler)?;
        }
        self.deliver_events(handler);
        if !self.flags.is_usual() || self.channels.notifier.has_ready() {
            return Ok(self.end_unusual(handler));
        }
        handler.turn_end(self);
        self.stats.turns += 1;
        if self.flags.is_usual() && self.channels.notifier.prepare_sleep() {
            return Ok(End::Rested);
        }
        Ok(self.end(false))
    }

    /// What comes before the events.
    #[inline(never)]
    fn begin_unusual<H: Handler<T, M> + ?Sized>(
        &mut self,
        handler: &mut H,
    ) -> Result<(), RunError> {
        // Whoever asked for a turn before it began has it.
        self.flags.remove(LoopFlags::WAKE);
        if self.flags.any(LoopFlags::AGAIN) {
            self.registry.begin_again();
        }
        if self.flags.any(LoopFlags::SIGNALS) {
            self.deliver_signals(handler)?;
        }
        self.finish_event(handler);
        if self.flags.any(LoopFlags::MEASURED) {
            self.deliver_measured(handler);
        }
        Ok(())
    }

    /// What comes after the events, with more of it than usual.
    #[inline(never)]
    fn end_unusual<H: Handler<T, M> + ?Sized>(&mut self, handler: &mut H) -> End {
        let shutdown = self.deliver_others(handler);
        self.timed(|event_loop| handler.turn_end(event_loop));
        self.stats.turns += 1;
        // Most turns with messages: they have all been delivered, and nothing was published since.
        if !shutdown && self.flags.is_usual() && self.channels.notifier.prepare_sleep() {
            return End::Rested;
        }
        self.end(shutdown)
    }

    /// What comes between the events and `turn_end`. Says whether a remote wants the loop to stop.
    fn deliver_others<H: Handler<T, M> + ?Sized>(&mut self, handler: &mut H) -> bool {
        if self.flags.any(LoopFlags::AGAIN) {
            self.deliver_again(handler);
        }
        if self.flags.any(LoopFlags::TIMERS) {
            self.fire_timers(handler);
        }
        self.take_rung();
        // Looked at before the messages: whatever was sent before a remote's shutdown is still
        // delivered in this turn.
        let shutdown = self.flags.any(LoopFlags::SHUTDOWN);
        if self.flags.any(LoopFlags::MESSAGES) {
            self.deliver_messages(handler);
            self.take_rung();
        }
        if self.flags.any(LoopFlags::FURTHER) {
            self.visit_channels(handler);
        }
        shutdown
    }

    /// The loop is not known to have seen everything. Unless work is left over, it looks at the
    /// topics with news, and arms the notifier.
    #[inline(never)]
    fn end(&mut self, shutdown: bool) -> End {
        if shutdown || self.flags.any(LoopFlags::STOPPING) {
            return End::Stop;
        }
        self.dismiss_emptied();
        if !self.flags.any(LoopFlags::LEFT_OVERS | LoopFlags::SPINS)
            && self.settle()
            && self.flags.is_usual()
        {
            return End::Rested;
        }
        End::Going
    }

    /// Arms the notifier, unless a topic has got news meanwhile and there is something to look at.
    /// Returns `false` in that case; then the notifier is not armed.
    pub(crate) fn settle(&mut self) -> bool {
        while !self.channels.notifier.prepare_sleep() {
            self.take_rung();
            self.dismiss_emptied();
            if self.flags.any(LoopFlags::TOPICS) {
                return false;
            }
        }
        true
    }

    /// Drops the topics of channels that have nothing to receive any more: what was sent after a
    /// topic was taken may have been received all the same.
    fn dismiss_emptied(&mut self) {
        let topics = self.flags.within(LoopFlags::MESSAGES | LoopFlags::FURTHER);
        self.flags.remove(topics);
        self.flags.add(self.channels.ready(topics));
    }

    /// Takes the topics with news.
    #[inline]
    pub(crate) fn take_rung(&mut self) {
        if self.channels.notifier.has_ready() {
            self.flags.add(LoopFlags::of(self.channels.notifier.take_ready()));
        }
    }

    /// Forgets the sources that were dropped.
    #[inline]
    pub(crate) fn reap(&mut self) {
        if self.shared.any_dead() {
            self.reap_dead();
        }
    }

    #[cold]
    fn reap_dead(&mut self) {
        let batch = self.batch_at_hand();
        let EventLoop { shared, registry, unread, .. } = self;
        shared.take_dead(|key| {
            if registry.remove(key, batch).is_some_and(Patience::has_counted) {
                unread.forget(key);
            }
        });
    }

    /// Runs a callback, with a watch if the settings ask for it.
    #[inline]
    pub(crate) fn timed(&mut self, callback: impl FnOnce(&mut Self)) {
        if !self.flags.any(LoopFlags::MEASURED) {
            return callback(self);
        }
        let begun = Instant::now();
        callback(self);
        self.stats.longest_callback = self.stats.longest_callback.max(begun.elapsed());
    }

    /// Signals come first, wherever in the batch the kernel put them.
    fn deliver_signals<H: Handler<T, M> + ?Sized>(
        &mut self,
        handler: &mut H,
    ) -> Result<(), RunError> {
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

    #[inline(always)]
    fn deliver_events<H: Handler<T, M> + ?Sized>(&mut self, handler: &mut H) {
        while self.batch.any() {
            if self.shared.any_dead() {
                self.reap();
                continue;
            }
            let Some(event) = self.batch.next_event() else { return };
            if event.readiness != Readiness::READABLE {
                if event.readiness == Readiness::READABLE | Readiness::READ_CLOSED
                    && let Some(token) = self.registry.plain_end(event.key)
                {
                    // The end of nearly all connections.
                    self.stats.events += 1;
                    handler.readable(self, token, ReadHint::DATA | ReadHint::HUP);
                } else {
                    self.deliver_event(handler, event);
                }
                continue;
            }
            // Nearly all events: a source that can be read, and of which nothing else is or was to
            // be told.
            if let Some(token) = self.registry.plain(event.key) {
                self.stats.events += 1;
                handler.readable(self, token, ReadHint::DATA);
            } else if event.key == WAKER_KEY {
                self.stats.wakes += 1;
            } else {
                self.deliver_event(
                    handler,
                    Event { key: event.key, readiness: Readiness::READABLE },
                );
            }
        }
    }

    /// The same, each callback with a watch.
    fn deliver_measured<H: Handler<T, M> + ?Sized>(&mut self, handler: &mut H) {
        while self.batch.any() {
            let Some(event) = self.batch.next_event() else { return };
            self.reap();
            self.deliver_event(handler, event);
        }
    }

    #[inline(never)]
    fn deliver_event<H: Handler<T, M> + ?Sized>(&mut self, handler: &mut H, event: Event) {
        self.open(event);
        self.finish_event(handler);
    }

    /// The callbacks that the event at hand still has to cause.
    fn finish_event<H: Handler<T, M> + ?Sized>(&mut self, handler: &mut H) {
        while let Some(call) = self.batch.calls.take() {
            self.reap();
            self.deliver(handler, call);
        }
    }

    /// Looks at the next event: whose it is, and which callbacks it causes.
    fn open(&mut self, event: Event) {
        let Some(slot) = self.registry.get_mut(event.key) else {
            match event.key {
                WAKER_KEY => self.stats.wakes += 1,
                SIGNALS_KEY => {}
                _ => self.stats.stale_events += 1,
            }
            return;
        };
        let readiness = event.readiness | slot.patience.implied();
        let (interest, is_child) = (slot.interest, slot.is_child());
        slot.note_event(readiness);
        self.stats.events += 1;
        let lasting = slot.trigger == Trigger::Level && slot.patience.concerns(readiness);
        if lasting && self.suspend(event) {
            return;
        }
        self.batch.key = event.key;
        self.batch.readiness = readiness;
        self.batch.calls =
            if is_child { Calls::only(Call::ChildExit) } else { calls(readiness, interest) };
    }

    /// Sees to a source that may be telling the same over and over. `true`: it was suspended, and
    /// the event is done with.
    #[cold]
    fn suspend(&mut self, event: Event) -> bool {
        let EventLoop { registry, shared, unread, .. } = self;
        let Some(slot) = registry.get_mut(event.key) else { return false };
        if slot.patience.tell_freely(event.readiness, slot.interest) {
            slot.settle();
            return false;
        }
        let (before, noted, interest) = (slot.patience, slot.noted, slot.interest);
        let mut counted_before = None;
        let suspended = shared.while_alive(event.key, |selector| {
            let count = || {
                let bytes = noted
                    .bytes_readable()
                    .ok()
                    .and_then(|bytes| u32::try_from(bytes).ok())
                    .unwrap_or(UNKNOWN);
                (bytes, *counted_before.insert(unread.replace(event.key, bytes)))
            };
            let (interest, trigger, suspended) =
                match slot.patience.judge(event.readiness, interest, count) {
                    Verdict::Deliver => return false,
                    Verdict::Suspend(interest, trigger) => (interest, trigger, true),
                    Verdict::Wake => (interest, Trigger::Level, false),
                };
            let modified = selector.modify_noted(noted, event.key, interest, trigger);
            if modified.is_err() {
                // It is as it was, and asked again next time.
                slot.patience = before;
                counted_before.map(|bytes| unread.replace(event.key, bytes));
            }
            suspended && modified.is_ok()
        });
        slot.settle();
        if before.has_counted() && !slot.patience.has_counted() {
            unread.forget(event.key);
        }
        self.stats.suspensions += u64::from(suspended == Some(true));
        // A source that has just died is not called either.
        suspended.unwrap_or(true)
    }

    /// One callback of the event at hand, if its source is still there and still wants it.
    #[inline]
    fn deliver<H: Handler<T, M> + ?Sized>(&mut self, handler: &mut H, call: Call) {
        let Some(slot) = self.registry.get(self.batch.key) else {
            self.batch.calls = Calls::NONE;
            return;
        };
        let token = slot.token;
        let wanted = match call {
            Call::Priority => slot.interest.contains(Interest::PRIORITY),
            Call::Readable => slot.interest.contains(Interest::READABLE),
            Call::Writable => slot.interest.contains(Interest::WRITABLE),
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

    /// The sources for which somebody said `again` before this turn.
    fn deliver_again<H: Handler<T, M> + ?Sized>(&mut self, handler: &mut H) {
        loop {
            self.reap();
            let key = match self.registry.take_again(self.stats.turns) {
                None => break,
                Some(None) => continue,
                Some(Some(key)) => key,
            };
            for (interest, call) in
                [(Interest::READABLE, Call::Readable), (Interest::WRITABLE, Call::Writable)]
            {
                self.reap();
                let Some(slot) = self.registry.get(key) else { break };
                if !slot.interest.contains(interest) {
                    continue;
                }
                let (token, hint) = (slot.token, ReadHint::DATA | slot.lasting_hint());
                self.timed(|event_loop| match call {
                    Call::Writable => handler.writable(event_loop, token),
                    _ => handler.readable(event_loop, token, hint),
                });
            }
        }
        self.flags.set(LoopFlags::AGAIN, self.registry.any_again());
    }

    fn fire_timers<H: Handler<T, M> + ?Sized>(&mut self, handler: &mut H) {
        if self.timers.is_empty() {
            self.flags.remove(LoopFlags::TIMERS);
            return;
        }
        if !self.timers.is_due(self.now()) {
            return;
        }
        let mut advance = self.timers.advance(self.now(), self.settings.timers_per_turn);
        while let Some(token) = self.timers.next_due(&mut advance) {
            self.stats.timers_fired += 1;
            self.timed(|event_loop| handler.timeout(event_loop, token));
        }
    }

    fn deliver_messages<H: Handler<T, M> + ?Sized>(&mut self, handler: &mut H) {
        for _ in 0..self.settings.messages_per_turn {
            let Ok(message) = self.channels.receiver.try_recv() else {
                self.flags.remove(LoopFlags::MESSAGES);
                return;
            };
            self.stats.messages += 1;
            self.timed(|event_loop| handler.notify(event_loop, message));
        }
    }

    /// Calls the handler for each further channel whose topic has news and that has something to
    /// receive. Channels added meanwhile wait for the next turn.
    fn visit_channels<H: Handler<T, M> + ?Sized>(&mut self, handler: &mut H) {
        let topics = self.flags.within(LoopFlags::FURTHER);
        for index in 0..self.channels.further_len() {
            match self.channels.further(index, topics) {
                Some((token, hint)) if hint != ReadHint::NONE => {
                    self.timed(|event_loop| handler.readable(event_loop, token, hint));
                }
                _ => {}
            }
        }
        self.channels.sweep();
    }
}

/// Which callbacks an event causes. Hang-ups and errors go to each direction that the source wants,
/// since that is where the next read or write will report them; if it wants none that they concern,
/// to `readable` with the hint.
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
    let terminal =
        readiness.is_read_closed() || readiness.is_write_closed() || readiness.is_error();
    if terminal && !calls.contains(Call::Readable) && !calls.contains(Call::Writable) {
        calls.add(Call::HangUp);
    }
    calls
}
