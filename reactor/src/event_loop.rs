//! [`EventLoop`], the public type of the crate.

use std::cell::Cell;
use std::fmt;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::time::{Duration, Instant};

use kodiak_channel::{Notifier, Sender, Wake};
use kodiak_sys::{Interest, RawSource, Selector, Signal, Signals, Trigger, Waker};

use crate::batch::Batch;
use crate::builder::Settings;
use crate::channels::Channels;
use crate::children::Children;
use crate::hang_up_filter::UnreadBytes;
use crate::loop_flags::LoopFlags;
use crate::loop_table::{MAX_LOOPS, Shared};
use crate::registration::Ownership;
use crate::registry::{Registry, SIGNALS_KEY, WAKER_KEY};
use crate::running::Running;
use crate::timers::Timers;
use crate::turn::TurnEnd;
use crate::waiting::WaitLimit;
use crate::{
    BuildError, Builder, Handler, LoopThread, Receiver, RegisterError, Remote, RunError, Source,
    StartError, Stats, Timeout, TimerError,
};

/// An event loop: calls a [`Handler`] for sources, timeouts, messages and signals, on one thread.
///
/// `M` is the type of messages. `T` is the token that callbacks for sources and timeouts are given:
/// any `Copy` type of yours, such as an enum of roles, a connection's number, or `()`. Several
/// sources may have the same token.
///
/// The loop is `Send` (where `T` and `M` are), so it can be built on one thread and run on another.
/// Other threads reach it through [`Sender`]s and [`Remote`]s. Dropping it closes its channels; its
/// sources stay open and can be registered with another loop.
///
/// See the [crate's documentation](crate) for a first program, and [`Handler`] for the order of
/// callbacks.
pub struct EventLoop<T, M> {
    pub(crate) shared: Shared,
    pub(crate) registry: Registry<T>,
    pub(crate) batch: Batch,
    pub(crate) timers: Timers<T>,
    pub(crate) channels: Channels<T, M>,
    pub(crate) signals: Option<Signals>,
    pub(crate) children: Children,
    pub(crate) settings: Settings,
    pub(crate) stats: Stats,
    /// The turn's time, once it was read.
    pub(crate) now: Cell<Option<Instant>>,
    pub(crate) flags: LoopFlags,
    pub(crate) unread_bytes: UnreadBytes,
}

/// The kernel's waker, as the trait of the notifier.
struct LoopWaker(Waker);

impl Wake for LoopWaker {
    fn wake(&self) -> io::Result<()> {
        self.0.wake()
    }
}

/// Building.
impl<T: Copy, M> EventLoop<T, M> {
    /// A loop with the default settings.
    ///
    /// # Errors
    ///
    /// As [`Builder::build`]. The loop needs two descriptors.
    pub fn new() -> Result<EventLoop<T, M>, BuildError> {
        EventLoop::builder().build()
    }

    /// The settings of a loop, to change before it is built.
    pub fn builder() -> Builder<T, M> {
        Builder::new()
    }

    pub(crate) fn with_settings(settings: Settings) -> Result<EventLoop<T, M>, BuildError> {
        let kernel = |action| move |source| BuildError::Kernel { action, source };
        let selector = Selector::new().map_err(kernel("creating its selector"))?;
        let waker = Waker::new(&selector, WAKER_KEY).map_err(kernel("creating its waker"))?;
        let notifier = Notifier::new(LoopWaker(waker));
        // The notifier is armed whenever no `run` is on the stack: a loop nested in another sleeps
        // in the other loop's wait.
        notifier.arm();
        let now = Instant::now();
        Ok(EventLoop {
            shared: Shared::new(selector).ok_or(BuildError::TooManyLoops { limit: MAX_LOOPS })?,
            registry: Registry::new(),
            batch: Batch::new(settings.events_per_turn),
            timers: Timers::new(now, settings.timer_capacity),
            channels: Channels::new(notifier, settings.channel_capacity),
            signals: None,
            children: Children::default(),
            settings,
            stats: Stats::default(),
            now: Cell::new(Some(now)),
            flags: settings.flags(),
            unread_bytes: UnreadBytes::default(),
        })
    }
}

/// Sources.
impl<T: Copy, M> EventLoop<T, M> {
    /// Watches `source` for being readable, level-triggered: [`Handler::readable`] is called with
    /// `token` in every turn in which there is something to read.
    ///
    /// # Errors
    ///
    /// See [`register_opt`](EventLoop::register_opt).
    pub fn register<S: Source + ?Sized>(
        &mut self,
        source: &S,
        token: T,
    ) -> Result<(), RegisterError> {
        self.register_opt(source, token, Interest::READABLE, Trigger::Level)
    }

    /// Watches `source` for what `interest` names, and calls the handler with `token`, as often as
    /// `trigger` says.
    ///
    /// One source is watched by one loop, once. It is watched until it is deregistered or dropped.
    ///
    /// # Suspension
    ///
    /// A hang-up, an error or urgent data lasts, so under [`Trigger::Level`] it is reported in
    /// every turn. If the handler does not react after a few reports (drop, deregister or
    /// reregister the source, or read from it), the loop *suspends* the source, so that it can
    /// sleep. From then on the handler gets only what is new about the source, as under
    /// [`Trigger::Edge`], until the source changes or is [reregistered](EventLoop::reregister). A
    /// source whose peer has closed only its writing half, and whose interest is writable, stays
    /// level-triggered for writing. [`Stats::suspensions`] counts suspensions.
    ///
    /// # Errors
    ///
    /// [`RegisterError::AlreadyRegistered`], [`RegisterError::OtherLoop`];
    /// [`RegisterError::TooMany`] if the builder's `source_capacity` is reached;
    /// [`RegisterError::Kernel`] if the kernel cannot watch such a source (a regular file), or not
    /// for this interest.
    pub fn register_opt<S: Source + ?Sized>(
        &mut self,
        source: &S,
        token: T,
        interest: Interest,
        trigger: Trigger,
    ) -> Result<(), RegisterError> {
        self.forget_dropped();
        let claim =
            source.registration().claim(&self.shared).map_err(|ownership| match ownership {
                Ownership::This { .. } => RegisterError::AlreadyRegistered,
                _ => RegisterError::OtherLoop,
            })?;
        let limit = self.settings.source_capacity;
        if self.registry.len() >= limit {
            return Err(RegisterError::TooMany { limit });
        }
        let raw_source = RawSource::of(source.as_fd());
        self.registry.end_quarantine_before(self.stats.turns);
        if !self.registry.has_free_slot() {
            self.add_slot(token, raw_source)?;
        }
        let key = self.registry.insert(token, interest, trigger, raw_source);
        if let Err(error) = self.shared.selector.add(source.as_fd(), key, interest, trigger) {
            self.registry.remove(key, None);
            return Err(RegisterError::Kernel { action: "watch", source: error });
        }
        claim.commit(&self.shared, key);
        Ok(())
    }

    /// Adds a slot for another source, and room for its key in the drop list.
    #[cold]
    fn add_slot(&mut self, token: T, raw_source: RawSource) -> Result<(), RegisterError> {
        let limit = self.registry.slot_count();
        if !self.registry.add_slot(token, raw_source) {
            return Err(RegisterError::TooMany { limit });
        }
        self.shared.reserve_drop_list(limit + 1);
        Ok(())
    }

    /// Gives a registered source another token, interest and trigger, and arms it again: what is
    /// ready now is reported again. This also rearms a source that fired under
    /// [`Trigger::Oneshot`], and one that was [suspended](EventLoop::register_opt).
    ///
    /// # Errors
    ///
    /// [`RegisterError::NotRegistered`], [`RegisterError::OtherLoop`], [`RegisterError::Kernel`].
    pub fn reregister<S: Source + ?Sized>(
        &mut self,
        source: &S,
        token: T,
        interest: Interest,
        trigger: Trigger,
    ) -> Result<(), RegisterError> {
        let key = self.key_of(source)?;
        let slot = self.registry.get_mut(key).ok_or(RegisterError::NotRegistered)?;
        let modified = self.shared.selector.modify(source.as_fd(), key, interest, trigger);
        modified.map_err(|source| RegisterError::Kernel { action: "change", source })?;
        if slot.hang_up_filter.has_counted() {
            self.unread_bytes.remove(key);
        }
        slot.set_registration(token, interest, trigger);
        Ok(())
    }

    /// Stops watching a source. The handler is not called for it again, not even for events that
    /// the kernel has already reported.
    ///
    /// # Errors
    ///
    /// [`RegisterError::NotRegistered`], [`RegisterError::OtherLoop`].
    pub fn deregister<S: Source + ?Sized>(&mut self, source: &S) -> Result<(), RegisterError> {
        let key = self.key_of(source)?;
        // An error means that the kernel does not watch the descriptor, which is the goal.
        let _ = self.shared.selector.remove(source.as_fd());
        self.remove_source(key);
        source.registration().release();
        Ok(())
    }

    /// Calls the handler for `source` in the next turn, as if the kernel had reported it ready for
    /// all of its interest.
    ///
    /// This is how a handler shares the loop fairly: it stops reading an edge-triggered source that
    /// has more, or leaves the rest of its own buffer for later, and calls `again`. It costs no
    /// system call. Several calls in one turn count as one. An event that arrives first replaces
    /// the call.
    ///
    /// # Errors
    ///
    /// [`RegisterError::NotRegistered`], [`RegisterError::OtherLoop`].
    pub fn again<S: Source + ?Sized>(&mut self, source: &S) -> Result<(), RegisterError> {
        let key = self.key_of(source)?;
        if !self.registry.queue_again(key) {
            return Err(RegisterError::NotRegistered);
        }
        self.flags.add(LoopFlags::AGAIN);
        Ok(())
    }

    /// How many sources are registered. A dropped source no longer counts, on whichever thread it
    /// was dropped.
    pub fn source_count(&self) -> usize {
        self.registry.len() - self.shared.drop_list_len()
    }

    /// Removes a source from the registry.
    pub(crate) fn remove_source(&mut self, key: u64) {
        let batch = self.current_batch();
        let Some(filter) = self.registry.remove(key, batch) else { return };
        if filter.has_counted() {
            self.unread_bytes.remove(key);
        }
    }

    /// The number of the turn whose events may still be delivered, during which no slot is reused.
    /// `None` between two turns.
    pub(crate) fn current_batch(&self) -> Option<u64> {
        let in_turn = self.flags.any(LoopFlags::RUNNING | LoopFlags::UNFINISHED);
        in_turn.then_some(self.stats.turns)
    }

    fn key_of<S: Source + ?Sized>(&mut self, source: &S) -> Result<u64, RegisterError> {
        match source.registration().ownership(&self.shared) {
            Ownership::This { key } => Ok(key),
            Ownership::NoLoop => Err(RegisterError::NotRegistered),
            Ownership::Other => Err(RegisterError::OtherLoop),
        }
    }
}

/// Timeouts.
impl<T: Copy, M> EventLoop<T, M> {
    /// Calls [`Handler::timeout`] with `token` once, when `delay` has passed from this moment on,
    /// or at the first opportunity after that. Never early. Reads the clock. One set in a callback
    /// fires in the next turn at the earliest.
    ///
    /// Deadlines are kept in microseconds, rounded up.
    ///
    /// # Errors
    ///
    /// [`TimerError::TooFar`], and [`TimerError::TooMany`] if the builder's `timer_capacity` is
    /// reached.
    pub fn timeout(&mut self, token: T, delay: Duration) -> Result<Timeout, TimerError> {
        self.timeout_at(token, after(delay)?)
    }

    /// [`timeout`](EventLoop::timeout) with a point in time. `event_loop.now() + delay` counts from
    /// the turn's own time and reads no clock.
    ///
    /// # Errors
    ///
    /// [`TimerError::TooMany`].
    pub fn timeout_at(&mut self, token: T, deadline: Instant) -> Result<Timeout, TimerError> {
        self.flags.add(LoopFlags::TIMERS);
        self.timers.set(token, deadline)
    }

    /// Calls [`Handler::timeout`] with `token` every `period`, first when one has passed.
    ///
    /// It does not drift: the n-th firing is due n periods from now, even if earlier ones were
    /// late. Periods that have passed entirely (a callback took long, the machine slept) are
    /// skipped.
    ///
    /// # Errors
    ///
    /// [`TimerError::ZeroPeriod`] for less than a microsecond; [`TimerError::TooFar`];
    /// [`TimerError::TooMany`].
    pub fn interval(&mut self, token: T, period: Duration) -> Result<Timeout, TimerError> {
        self.flags.add(LoopFlags::TIMERS);
        self.timers.set_periodic(token, after(period)?, period)
    }

    /// Cancels a timeout and returns its token; `None` if it has fired or was cleared already.
    pub fn clear_timeout(&mut self, timeout: Timeout) -> Option<T> {
        self.timers.clear(timeout)
    }

    /// Moves a pending timeout so that it fires when `delay` has passed from this moment on; the
    /// handle stays valid. A periodic one continues from there with its period. Cheaper than
    /// setting another one, especially to postpone it.
    ///
    /// # Errors
    ///
    /// [`TimerError::NotPending`] if it has fired already or was cleared; [`TimerError::TooFar`].
    pub fn reset_timeout(&mut self, timeout: Timeout, delay: Duration) -> Result<(), TimerError> {
        self.timers.reset(timeout, after(delay)?)
    }

    /// [`reset_timeout`](EventLoop::reset_timeout) with a point in time.
    ///
    /// # Errors
    ///
    /// [`TimerError::NotPending`].
    pub fn reset_timeout_at(
        &mut self,
        timeout: Timeout,
        deadline: Instant,
    ) -> Result<(), TimerError> {
        self.timers.reset(timeout, deadline)
    }

    /// When a pending timeout is due, rounded up to a microsecond of the loop's scale.
    pub fn deadline(&self, timeout: Timeout) -> Option<Instant> {
        self.timers.deadline(timeout)
    }

    /// How many timeouts are pending.
    pub fn timeout_count(&self) -> usize {
        self.timers.len()
    }

    /// The turn's time, the same for as long as the turn lasts. Outside of `run`, the last turn's.
    ///
    /// The clock is read once a turn: after its wait if timeouts are pending, else when this is
    /// first called, and not at all if it never is.
    pub fn now(&self) -> Instant {
        let now = self.now.get().unwrap_or_else(Instant::now);
        self.now.set(Some(now));
        now
    }
}

/// The instant `delay` from now. Not from the turn's time, which is older by the time that the
/// turn's callbacks took.
fn after(delay: Duration) -> Result<Instant, TimerError> {
    Instant::now().checked_add(delay).ok_or(TimerError::TooFar)
}

/// Messages and signals.
impl<T: Copy, M> EventLoop<T, M> {
    /// A sender to [`Handler::notify`]. Messages may be sent at once, before the loop runs.
    ///
    /// The channel holds as many messages as the builder's `channel_capacity` says; `send` gives
    /// back what does not fit, and everything once the loop was dropped.
    pub fn channel(&self) -> Sender<M> {
        self.channels.sender.clone()
    }

    /// A further channel, for messages of another type `N`. [`Handler::readable`] is called with
    /// `token` in every turn in which messages wait
    /// ([`ReadHint::is_data`](crate::ReadHint::is_data)); it takes them with
    /// [`Receiver::try_recv`]. When the last sender is gone and nothing is left it is called with
    /// [`ReadHint::is_hup`](crate::ReadHint::is_hup), until `try_recv` has returned `Closed`. While
    /// messages are left in the channel it is called in every turn, so a handler that never
    /// receives keeps the loop from sleeping.
    ///
    /// Dropping the receiver closes the channel and takes it out of the loop.
    ///
    /// # Errors
    ///
    /// [`BuildError::Zero`] if `capacity` is zero.
    pub fn add_channel<N: Send + 'static>(
        &mut self,
        token: T,
        capacity: usize,
    ) -> Result<(Sender<N>, Receiver<N>), BuildError> {
        if capacity == 0 {
            return Err(BuildError::Zero { setting: "capacity" });
        }
        Ok(self.channels.add(token, capacity))
    }

    /// Delivers exactly these signals to [`Handler::signal`] instead of running their default
    /// action. An empty list ends that, as does dropping the loop.
    ///
    /// # Errors
    ///
    /// The kernel refused, or another loop watches one of the signals. The signals watched before
    /// are then still watched.
    pub fn watch_signals(&mut self, signals: &[Signal]) -> io::Result<()> {
        if signals.is_empty() {
            self.forget_signals();
            return Ok(());
        }
        let watched = Signals::new(signals)?;
        self.shared.selector.add(
            watched.as_fd(),
            SIGNALS_KEY,
            Interest::READABLE,
            Trigger::Level,
        )?;
        self.forget_signals();
        self.signals = Some(watched);
        self.flags.add(LoopFlags::SIGNALS);
        Ok(())
    }

    fn forget_signals(&mut self) {
        if let Some(signals) = self.signals.take() {
            let _ = self.shared.selector.remove(signals.as_fd());
        }
        self.flags.remove(LoopFlags::SIGNALS);
    }

    /// Takes the first error, if any, with which a sender failed to wake the loop since the last
    /// call. The message was queued and is delivered; only the wake is missing.
    pub fn take_wake_error(&self) -> Option<io::Error> {
        self.channels.notifier.take_wake_error()
    }
}

/// Running.
impl<T: Copy, M> EventLoop<T, M> {
    /// Runs turns until [`shutdown`](EventLoop::shutdown) is called. Blocks in the kernel, without
    /// a limit, while there is nothing to do. May be called again afterwards.
    ///
    /// # Errors
    ///
    /// [`RunError::AlreadyRunning`] inside a callback of this loop; [`RunError::Wait`] and
    /// [`RunError::Signals`] if the kernel fails, which it does not in normal operation.
    ///
    /// # Panics
    ///
    /// A callback's panic unwinds through here. The loop can be run again and goes on with the rest
    /// of the turn.
    pub fn run<H: Handler<T, M> + ?Sized>(&mut self, handler: &mut H) -> Result<(), RunError> {
        let mut running = Running::begin(self)?;
        while running.turn(handler, WaitLimit::Unbounded)? != TurnEnd::Stop {}
        running.end_by_shutdown();
        Ok(())
    }

    /// Runs one turn, waiting at most `timeout` for an event, a timeout that is due, a message, a
    /// signal or a wake (`None`: without a limit; zero: not at all). If none arrives in that time,
    /// it runs an empty turn.
    ///
    /// After a [`shutdown`](EventLoop::shutdown) it does not wait, and
    /// [`is_running`](EventLoop::is_running) returns `false`.
    ///
    /// # Errors
    ///
    /// As [`run`](EventLoop::run).
    ///
    /// # Panics
    ///
    /// As [`run`](EventLoop::run).
    #[inline]
    pub fn run_once<H: Handler<T, M> + ?Sized>(
        &mut self,
        handler: &mut H,
        timeout: Option<Duration>,
    ) -> Result<(), RunError> {
        match timeout {
            None => self.run_turn(handler, WaitLimit::Unbounded),
            Some(timeout) => self.run_turn_within(handler, timeout),
        }
    }

    #[inline(never)]
    fn run_turn_within<H: Handler<T, M> + ?Sized>(
        &mut self,
        handler: &mut H,
        timeout: Duration,
    ) -> Result<(), RunError> {
        let limit = match timeout {
            Duration::ZERO => WaitLimit::Zero,
            timeout => {
                Instant::now().checked_add(timeout).map_or(WaitLimit::Unbounded, WaitLimit::Until)
            }
        };
        self.run_turn(handler, limit)
    }

    #[inline(always)]
    fn run_turn<H: Handler<T, M> + ?Sized>(
        &mut self,
        handler: &mut H,
        limit: WaitLimit,
    ) -> Result<(), RunError> {
        let mut running = Running::begin(self)?;
        let end = running.turn(handler, limit)?;
        running.end(end);
        Ok(())
    }

    /// Runs the loop and `handler` on a thread of their own.
    ///
    /// # Errors
    ///
    /// The system cannot start a thread; [`StartError`] gives loop and handler back.
    pub fn start<H>(self, handler: H) -> Result<LoopThread<H>, Box<StartError<T, M, H>>>
    where
        T: Send + 'static,
        M: Send + 'static,
        H: Handler<T, M> + Send + 'static,
    {
        LoopThread::spawn(self, handler)
    }

    /// Lets [`run`](EventLoop::run) return at the end of this turn. Called outside of a callback,
    /// it lets the next `run` return after one turn, which does not wait.
    pub fn shutdown(&mut self) {
        self.flags.add(LoopFlags::STOPPING);
    }

    /// `false` after a [`shutdown`](EventLoop::shutdown), also one by a [`Remote`], until the loop
    /// is run again.
    pub fn is_running(&self) -> bool {
        !self.all_flags().any(LoopFlags::STOPPED | LoopFlags::STOPPING | LoopFlags::SHUTDOWN)
    }

    /// Stops or wakes this loop from anywhere.
    pub fn remote(&self) -> Remote {
        Remote::new(&self.channels.notifier)
    }

    /// How long an outer loop may wait before it calls [`run_once`](EventLoop::run_once).
    ///
    /// Until the next timeout; zero while work remains; `None` until the descriptor ([`AsFd`]) is
    /// readable.
    ///
    /// ```
    /// # use kodiak_reactor::{EventLoop, Handler};
    /// # use std::time::Duration;
    /// # struct Idle;
    /// # impl Handler<(), ()> for Idle {}
    /// let mut event_loop = EventLoop::<(), ()>::new()?;
    /// assert_eq!(event_loop.next_timeout(), None);
    /// event_loop.channel().send(())?;
    /// assert_eq!(event_loop.next_timeout(), Some(Duration::ZERO));
    /// event_loop.run_once(&mut Idle, Some(Duration::ZERO))?;
    /// assert_eq!(event_loop.next_timeout(), None);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn next_timeout(&self) -> Option<Duration> {
        let flags = self.all_flags();
        // A channel whose topic is ready may have been emptied since.
        let left = (LoopFlags::AGAIN | LoopFlags::STOPPING | LoopFlags::WAKE | LoopFlags::SHUTDOWN)
            | self.channels.ready_topics(flags);
        let work = flags.any(left) || self.batch.is_unfinished();
        if work { Some(Duration::ZERO) } else { self.timers.until_next(Instant::now()) }
    }

    /// The flags, and the topics that became ready since the loop last took them.
    fn all_flags(&self) -> LoopFlags {
        self.flags | LoopFlags::from_ready(self.channels.notifier.ready())
    }

    /// What the loop has done so far.
    pub fn stats(&self) -> Stats {
        self.stats
    }
}

/// The selector's descriptor, readable when events wait: for nesting this loop in another. See
/// [`next_timeout`](EventLoop::next_timeout).
impl<T, M> AsFd for EventLoop<T, M> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.shared.selector.as_fd()
    }
}

impl<T, M> AsRawFd for EventLoop<T, M> {
    fn as_raw_fd(&self) -> RawFd {
        self.as_fd().as_raw_fd()
    }
}

impl<T: Copy, M> fmt::Debug for EventLoop<T, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventLoop")
            .field("sources", &self.source_count())
            .field("timeouts", &self.timers.len())
            .field("messages", &self.channels.receiver.len())
            .field("stats", &self.stats)
            .finish_non_exhaustive()
    }
}
