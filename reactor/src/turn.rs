//! One turn of the loop: wait, then signals, I/O, timers, messages, further channels, `turn_end`.
//!
//! The fast path is a turn with nothing but I/O: one system call, the wait, one check of the loop's
//! [`LoopFlags`] and one of the notifier. Everything else is the slow path.
//!
//! Callbacks are given the whole loop, so everything may have changed after one. Only keys and
//! counts are held across a callback; each step looks up again what it is about to use.

use std::time::Instant;

use kodiak_sys::{Event, Interest, Readiness, Trigger};

use crate::batch::{Call, Calls};
use crate::handler::ReadHint;
use crate::hang_up_filter::{Decision, HangUpFilter, UNKNOWN};
use crate::loop_flags::LoopFlags;
use crate::registry::{AgainEntry, SIGNALS_KEY, WAKER_KEY};
use crate::waiting::{FastWait, WaitLimit};
use crate::{EventLoop, Handler, RunError};

/// How a turn ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum TurnEnd {
    /// The loop has no [`LoopFlags`], and the notifier is armed: the next wait may begin at once.
    Armed,
    /// The next turn takes the slow path.
    Continue,
    /// A shutdown was asked for.
    Stop,
}

impl<T: Copy, M> EventLoop<T, M> {
    /// Runs one turn.
    #[inline(always)]
    pub(crate) fn turn<H: Handler<T, M> + ?Sized>(
        &mut self,
        handler: &mut H,
        limit: WaitLimit,
    ) -> Result<TurnEnd, RunError> {
        'fast: {
            if self.flags.is_fast_path() && matches!(limit, WaitLimit::Unbounded) {
                match self.wait_fast() {
                    FastWait::Events => break 'fast,
                    FastWait::EventsAndTopics => {}
                    FastWait::NoEvents(answer) => self.retry_wait(handler, answer)?,
                }
            } else {
                self.wait_slow(handler, limit)?;
            }
            self.begin_slow_turn(handler)?;
        }
        self.deliver_events(handler);
        if !self.flags.is_fast_path() || self.channels.notifier.has_ready() {
            return Ok(self.end_slow_turn(handler));
        }
        handler.turn_end(self);
        self.stats.turns += 1;
        if self.flags.is_fast_path() && self.channels.notifier.prepare_sleep() {
            return Ok(TurnEnd::Armed);
        }
        Ok(self.finish_turn(false))
    }

    /// The slow path before the events.
    #[inline(never)]
    fn begin_slow_turn<H: Handler<T, M> + ?Sized>(
        &mut self,
        handler: &mut H,
    ) -> Result<(), RunError> {
        // A wake that arrived before the turn began is served by this turn.
        self.flags.remove(LoopFlags::WAKE);
        if self.flags.any(LoopFlags::AGAIN) {
            self.registry.swap_again_queues();
        }
        if self.flags.any(LoopFlags::SIGNALS) {
            self.deliver_signals(handler)?;
        }
        self.finish_event(handler);
        if self.flags.any(LoopFlags::MEASURED) {
            self.deliver_events_timed(handler);
        }
        Ok(())
    }

    /// The slow path after the events.
    #[inline(never)]
    fn end_slow_turn<H: Handler<T, M> + ?Sized>(&mut self, handler: &mut H) -> TurnEnd {
        let shutdown = self.deliver_others(handler);
        self.timed(|event_loop| handler.turn_end(event_loop));
        self.stats.turns += 1;
        // Most turns with messages end here: all were delivered, and no topic became ready since.
        if !shutdown && self.flags.is_fast_path() && self.channels.notifier.prepare_sleep() {
            return TurnEnd::Armed;
        }
        self.finish_turn(shutdown)
    }

    /// Delivers everything between the events and `turn_end`. Returns whether a remote asked for a
    /// shutdown.
    fn deliver_others<H: Handler<T, M> + ?Sized>(&mut self, handler: &mut H) -> bool {
        if self.flags.any(LoopFlags::AGAIN) {
            self.deliver_again(handler);
        }
        if self.flags.any(LoopFlags::TIMERS) {
            self.fire_timers(handler);
        }
        self.take_ready_topics();
        // Checked before the messages, so that messages sent before a remote's shutdown are still
        // delivered in this turn.
        let shutdown = self.flags.any(LoopFlags::SHUTDOWN);
        if self.flags.any(LoopFlags::MESSAGES) {
            self.deliver_messages(handler);
            self.take_ready_topics();
        }
        if self.flags.any(LoopFlags::FURTHER) {
            self.deliver_channels(handler);
        }
        shutdown
    }

    /// Ends a turn on the slow path: takes the ready topics, and arms the notifier unless work is
    /// left.
    #[inline(never)]
    fn finish_turn(&mut self, shutdown_requested: bool) -> TurnEnd {
        if shutdown_requested || self.flags.any(LoopFlags::STOPPING) {
            return TurnEnd::Stop;
        }
        self.remove_empty_topics();
        if !self.flags.any(LoopFlags::REMAINING_WORK | LoopFlags::SPINS)
            && self.arm_notifier()
            && self.flags.is_fast_path()
        {
            return TurnEnd::Armed;
        }
        TurnEnd::Continue
    }

    /// Arms the notifier, unless a topic became ready meanwhile and has something to receive. Then
    /// it returns `false`, and the notifier is not armed.
    pub(crate) fn arm_notifier(&mut self) -> bool {
        while !self.channels.notifier.prepare_sleep() {
            self.take_ready_topics();
            self.remove_empty_topics();
            if self.flags.any(LoopFlags::TOPICS) {
                return false;
            }
        }
        true
    }

    /// Removes the topics of channels that are empty: a message that was sent after its topic was
    /// taken may have been received already.
    pub(crate) fn remove_empty_topics(&mut self) {
        let topics = self.flags.intersection(LoopFlags::MESSAGES | LoopFlags::FURTHER);
        self.flags.remove(topics);
        self.flags.add(self.channels.ready_topics(topics));
    }

    /// Takes the ready topics.
    #[inline]
    pub(crate) fn take_ready_topics(&mut self) {
        if self.channels.notifier.has_ready() {
            self.flags.add(LoopFlags::from_ready(self.channels.notifier.take_ready()));
        }
    }

    /// Removes the dropped sources from the registry.
    #[inline]
    pub(crate) fn forget_dropped(&mut self) {
        if self.shared.has_dropped() {
            self.forget_dropped_slow();
        }
    }

    #[cold]
    fn forget_dropped_slow(&mut self) {
        let batch = self.current_batch();
        let EventLoop { shared, registry, unread_bytes, .. } = self;
        shared.drain_drop_list(|key| {
            if registry.remove(key, batch).is_some_and(HangUpFilter::has_counted) {
                unread_bytes.remove(key);
            }
        });
    }

    /// Runs a callback, and measures its time if the settings ask for that.
    #[inline]
    pub(crate) fn timed(&mut self, callback: impl FnOnce(&mut Self)) {
        if !self.flags.any(LoopFlags::MEASURED) {
            return callback(self);
        }
        let started = Instant::now();
        callback(self);
        self.stats.longest_callback = self.stats.longest_callback.max(started.elapsed());
    }

    /// Delivers signals first, wherever in the batch their event is.
    fn deliver_signals<H: Handler<T, M> + ?Sized>(
        &mut self,
        handler: &mut H,
    ) -> Result<(), RunError> {
        if self.signals.is_none() || !self.batch.contains_key(SIGNALS_KEY) {
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
        while self.batch.has_next() {
            if self.shared.has_dropped() {
                self.forget_dropped();
                continue;
            }
            let Some(event) = self.batch.next_event() else { return };
            if event.readiness != Readiness::READABLE {
                if event.readiness == Readiness::READABLE | Readiness::READ_CLOSED
                    && let Some(token) = self.registry.record_fast_path_end(event.key)
                {
                    // Most connections end here.
                    self.stats.events += 1;
                    handler.readable(self, token, ReadHint::DATA | ReadHint::HUP);
                } else {
                    self.deliver_event(handler, event);
                }
                continue;
            }
            // Nearly all events: a source can be read, and nothing else was ever reported of it.
            if let Some(token) = self.registry.fast_path_token(event.key) {
                self.stats.events += 1;
                handler.readable(self, token, ReadHint::DATA);
            } else if event.key == WAKER_KEY {
                self.stats.wakes += 1;
            } else {
                self.deliver_event(handler, Event::new(event.key, Readiness::READABLE));
            }
        }
    }

    /// As [`deliver_events`](EventLoop::deliver_events), with the time of each callback measured.
    fn deliver_events_timed<H: Handler<T, M> + ?Sized>(&mut self, handler: &mut H) {
        while self.batch.has_next() {
            let Some(event) = self.batch.next_event() else { return };
            self.forget_dropped();
            self.deliver_event(handler, event);
        }
    }

    #[inline(never)]
    fn deliver_event<H: Handler<T, M> + ?Sized>(&mut self, handler: &mut H, event: Event) {
        self.open_event(event);
        self.finish_event(handler);
    }

    /// Makes the calls that are left for the current event.
    fn finish_event<H: Handler<T, M> + ?Sized>(&mut self, handler: &mut H) {
        while let Some(call) = self.batch.calls.take() {
            self.forget_dropped();
            self.deliver(handler, call);
        }
    }

    /// Finds the source of an event, and the calls to make for it.
    fn open_event(&mut self, event: Event) {
        let Some(slot) = self.registry.get_mut(event.key) else {
            match event.key {
                WAKER_KEY => self.stats.wakes += 1,
                SIGNALS_KEY => {}
                _ => self.stats.stale_events += 1,
            }
            return;
        };
        let readiness = event.readiness | slot.hang_up_filter.unreported_readiness();
        let (interest, is_child) = (slot.interest, slot.is_child());
        slot.record_event(readiness);
        self.stats.events += 1;
        let lasting = slot.trigger == Trigger::Level && slot.hang_up_filter.must_observe(readiness);
        if lasting && self.filter_event(event) {
            return;
        }
        self.batch.key = event.key;
        self.batch.readiness = readiness;
        self.batch.calls =
            if is_child { Calls::only(Call::ChildExit) } else { calls(readiness, interest) };
    }

    /// Passes an event to its source's hang-up filter. Returns whether the event is dropped,
    /// because the source was suspended or has gone.
    #[cold]
    fn filter_event(&mut self, event: Event) -> bool {
        let EventLoop { registry, shared, unread_bytes, .. } = self;
        let Some(slot) = registry.get_mut(event.key) else { return false };
        if slot.hang_up_filter.observe_within_allowance(event.readiness, slot.interest) {
            slot.update_fast_path();
            return false;
        }
        let (before, raw_source, interest) = (slot.hang_up_filter, slot.raw_source, slot.interest);
        let mut counted_before = None;
        let suspended = shared.unless_dropped(event.key, |selector| {
            let count = || {
                let bytes = raw_source
                    .bytes_readable()
                    .ok()
                    .and_then(|bytes| u32::try_from(bytes).ok())
                    .unwrap_or(UNKNOWN);
                (bytes, *counted_before.insert(unread_bytes.replace(event.key, bytes)))
            };
            let (interest, trigger, suspended) =
                match slot.hang_up_filter.observe(event.readiness, interest, count) {
                    Decision::Deliver => return false,
                    Decision::Suspend(interest, trigger) => (interest, trigger, true),
                    Decision::Resume => (interest, Trigger::Level, false),
                };
            let modified = selector.modify_raw(raw_source, event.key, interest, trigger);
            if modified.is_err() {
                // The kernel refused: restore the filter, and try again with the next event.
                slot.hang_up_filter = before;
                counted_before.map(|bytes| unread_bytes.replace(event.key, bytes));
            }
            suspended && modified.is_ok()
        });
        slot.update_fast_path();
        if before.has_counted() && !slot.hang_up_filter.has_counted() {
            unread_bytes.remove(event.key);
        }
        self.stats.suspensions += u64::from(suspended == Some(true));
        // A source that was dropped meanwhile is not called either.
        suspended.unwrap_or(true)
    }

    /// Makes one call of the current event, if its source is still registered for it.
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
            Call::ChildExit => return self.deliver_child_exit(handler, self.batch.key, token),
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

    /// Calls the sources for which `again` was called before this turn.
    fn deliver_again<H: Handler<T, M> + ?Sized>(&mut self, handler: &mut H) {
        loop {
            self.forget_dropped();
            let key = match self.registry.pop_again(self.stats.turns) {
                None => break,
                Some(AgainEntry::Stale) => continue,
                Some(AgainEntry::Call(key)) => key,
            };
            for (interest, call) in
                [(Interest::READABLE, Call::Readable), (Interest::WRITABLE, Call::Writable)]
            {
                self.forget_dropped();
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
        self.flags.set(LoopFlags::AGAIN, self.registry.has_again());
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

    /// Calls the handler for each further channel whose topic is ready and that has something to
    /// receive. Channels added meanwhile wait for the next turn.
    fn deliver_channels<H: Handler<T, M> + ?Sized>(&mut self, handler: &mut H) {
        let topics = self.flags.intersection(LoopFlags::FURTHER);
        for index in 0..self.channels.further_len() {
            match self.channels.further(index, topics) {
                Some((token, hint)) if hint != ReadHint::NONE => {
                    self.timed(|event_loop| handler.readable(event_loop, token, hint));
                }
                _ => {}
            }
        }
        self.channels.remove_closed();
    }
}

/// The calls to make for an event. A hang-up or error goes to each direction of the interest, since
/// the next read or write reports it there. If it concerns no direction of the interest, it goes to
/// `readable`, with the hint.
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
