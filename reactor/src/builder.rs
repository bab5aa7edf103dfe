//! The loop's settings.

use std::marker::PhantomData;
use std::time::Duration;

use kodiak_sys::Events;

use crate::loop_flags::LoopFlags;
use crate::{BuildError, EventLoop};

/// The settings of an [`EventLoop`], all of them bounds with sensible defaults: from
/// [`EventLoop::builder`].
///
/// ```
/// use kodiak_reactor::EventLoop;
///
/// let event_loop: EventLoop<(), String> =
///     EventLoop::builder().channel_capacity(64).messages_per_turn(16).build()?;
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Builder<T, M> {
    pub(crate) settings: Settings,
    loop_of: PhantomData<fn() -> (T, M)>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings {
    pub(crate) channel_capacity: usize,
    pub(crate) events_per_turn: usize,
    pub(crate) messages_per_turn: usize,
    pub(crate) timers_per_turn: usize,
    pub(crate) signals_per_turn: usize,
    pub(crate) timer_capacity: usize,
    pub(crate) source_capacity: usize,
    pub(crate) measure_time: bool,
    pub(crate) spin: Duration,
}

impl Settings {
    /// The flags that a loop with these settings always has.
    pub(crate) fn flags(&self) -> LoopFlags {
        let mut flags = LoopFlags::NONE;
        flags.set(LoopFlags::MEASURED, self.measure_time);
        flags.set(LoopFlags::SPINS, self.spin > Duration::ZERO);
        flags
    }
}

impl<T: Copy, M> Builder<T, M> {
    pub(crate) fn new() -> Builder<T, M> {
        let settings = Settings {
            channel_capacity: 4096,
            events_per_turn: 1024,
            messages_per_turn: 1024,
            timers_per_turn: 1024,
            signals_per_turn: 64,
            timer_capacity: 1 << 24,
            source_capacity: 1 << 24,
            measure_time: false,
            spin: Duration::ZERO,
        };
        Builder { settings, loop_of: PhantomData }
    }

    /// How many messages may wait in the loop's own channel. Default 4096. The memory is taken when
    /// the loop is built.
    #[must_use]
    pub fn channel_capacity(mut self, messages: usize) -> Self {
        self.settings.channel_capacity = messages;
        self
    }

    /// How many events the kernel is asked for in one turn, at most 65 536. Default 1024. What is
    /// ready beyond that comes in the next turn.
    #[must_use]
    pub fn events_per_turn(mut self, events: usize) -> Self {
        self.settings.events_per_turn = events;
        self
    }

    /// How many messages one turn delivers. Default 1024. What is left over comes in the next turn,
    /// after its I/O.
    #[must_use]
    pub fn messages_per_turn(mut self, messages: usize) -> Self {
        self.settings.messages_per_turn = messages;
        self
    }

    /// How many timeouts one turn fires. Default 1024. What is left over comes in the next turn,
    /// after its I/O.
    #[must_use]
    pub fn timers_per_turn(mut self, timers: usize) -> Self {
        self.settings.timers_per_turn = timers;
        self
    }

    /// How many signals one turn delivers. Default 64.
    #[must_use]
    pub fn signals_per_turn(mut self, signals: usize) -> Self {
        self.settings.signals_per_turn = signals;
        self
    }

    /// How many timeouts may be pending at one time. Default 16 777 216. No memory is taken
    /// beforehand.
    #[must_use]
    pub fn timer_capacity(mut self, timers: usize) -> Self {
        self.settings.timer_capacity = timers;
        self
    }

    /// How many sources may be registered at one time. Default 16 777 216. No memory is taken
    /// beforehand.
    #[must_use]
    pub fn source_capacity(mut self, sources: usize) -> Self {
        self.settings.source_capacity = sources;
        self
    }

    /// Whether [`Stats`](crate::Stats) measures times: idle, busy and the longest callback. Default
    /// `false`, because it reads the clock (some 25 ns) around each callback and each wait.
    #[must_use]
    pub fn measure_time(mut self, enabled: bool) -> Self {
        self.settings.measure_time = enabled;
        self
    }

    /// How long a wait polls for work before it blocks (busy polling). Default zero: it blocks at
    /// once.
    ///
    /// A spinning loop need not be woken, so a message from another core arrives in a fraction of
    /// the time: without a system call of the sender, and without the time that a sleeping core
    /// takes to wake. Each wait spins for up to this time; the next timeout and the wait's own
    /// limit end the spin as they end a sleep.
    ///
    /// # Danger
    ///
    /// Give a spinning loop a core of its own. If it shares a core with the sender that it waits
    /// for (a machine or container with one core, threads pinned to the same core, more busy
    /// threads than cores), the sender cannot run while the loop spins: an answer that took 2 µs
    /// takes up to this time. A spin time longer than the usual gap between two events keeps the
    /// core busy all the time.
    #[must_use]
    pub fn spin(mut self, time: Duration) -> Self {
        self.settings.spin = time;
        self
    }

    /// Builds the loop.
    ///
    /// # Errors
    ///
    /// [`BuildError::Zero`] or [`BuildError::TooLarge`] names an invalid setting;
    /// [`BuildError::Kernel`]: no descriptor is free; [`BuildError::TooManyLoops`].
    pub fn build(self) -> Result<EventLoop<T, M>, BuildError> {
        let settings = self.settings;
        for (setting, value) in [
            ("channel_capacity", settings.channel_capacity),
            ("events_per_turn", settings.events_per_turn),
            ("messages_per_turn", settings.messages_per_turn),
            ("timers_per_turn", settings.timers_per_turn),
            ("signals_per_turn", settings.signals_per_turn),
            ("timer_capacity", settings.timer_capacity),
            ("source_capacity", settings.source_capacity),
        ] {
            if value == 0 {
                return Err(BuildError::Zero { setting });
            }
        }
        for (setting, value, limit) in [
            ("events_per_turn", settings.events_per_turn, Events::MAX_CAPACITY),
            ("timer_capacity", settings.timer_capacity, u32::MAX as usize),
        ] {
            if value > limit {
                return Err(BuildError::TooLarge { setting, value, limit });
            }
        }
        EventLoop::with_settings(settings)
    }
}
