//! What a turn of the loop must handle besides events.
//!
//! All of it is one word, so that a turn with nothing else checks once instead of eight times.

use std::ops::BitOr;

use kodiak_channel::{Ready, Topic};

/// The loop's own channel.
pub(crate) const MESSAGES: Topic = Topic::new(0);
/// A remote asks for a turn.
pub(crate) const WAKE: Topic = Topic::new(1);
/// A remote asks the loop to stop.
pub(crate) const SHUTDOWN: Topic = Topic::new(2);
/// The first of the topics that further channels share.
const FIRST_FURTHER: u32 = 3;

/// The topic of the further channel of this number.
pub(crate) fn further_topic(number: u32) -> Topic {
    Topic::new(FIRST_FURTHER + number % (Topic::COUNT - FIRST_FURTHER))
}

/// A set of reasons to leave the fast path of a turn: ready topics of the notifier, and others.
///
/// Between two turns the set is [`RUNNING`](LoopFlags::RUNNING) alone only if the notifier is
/// armed. Then the next wait may begin at once.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct LoopFlags(u64);

impl LoopFlags {
    pub(crate) const NONE: LoopFlags = LoopFlags(0);
    /// A message was sent over the loop's own channel, which was not found empty since.
    pub(crate) const MESSAGES: LoopFlags = LoopFlags::topic(MESSAGES);
    /// A remote asked for a turn.
    pub(crate) const WAKE: LoopFlags = LoopFlags::topic(WAKE);
    /// A remote asked the loop to stop.
    pub(crate) const SHUTDOWN: LoopFlags = LoopFlags::topic(SHUTDOWN);
    /// A message was sent over a further channel.
    pub(crate) const FURTHER: LoopFlags =
        LoopFlags(LoopFlags::TOPICS.0 & (u64::MAX << FIRST_FURTHER));
    /// Any of these four.
    pub(crate) const TOPICS: LoopFlags = LoopFlags((1 << Topic::COUNT) - 1);
    /// Sources wait to be called again.
    pub(crate) const AGAIN: LoopFlags = LoopFlags(1 << 32);
    /// `shutdown` was called.
    pub(crate) const STOPPING: LoopFlags = LoopFlags(1 << 33);
    /// A panic or an error has left events of the last batch undelivered.
    pub(crate) const UNFINISHED: LoopFlags = LoopFlags(1 << 34);
    /// Signals are watched.
    pub(crate) const SIGNALS: LoopFlags = LoopFlags(1 << 36);
    /// Times are measured.
    pub(crate) const MEASURED: LoopFlags = LoopFlags(1 << 37);
    /// Timeouts are pending, or were when a turn last looked.
    pub(crate) const TIMERS: LoopFlags = LoopFlags(1 << 38);
    /// Waits begin with a spin.
    pub(crate) const SPINS: LoopFlags = LoopFlags(1 << 39);
    /// A `run` has ended because of a shutdown, and no other has begun.
    pub(crate) const STOPPED: LoopFlags = LoopFlags(1 << 40);
    /// The fast path: `run` or `run_once` is on the stack.
    pub(crate) const RUNNING: LoopFlags = LoopFlags(1 << 41);

    /// Work that the last turn left, apart from timeouts.
    pub(crate) const REMAINING_WORK: LoopFlags =
        LoopFlags(LoopFlags::TOPICS.0 | LoopFlags::AGAIN.0 | LoopFlags::STOPPING.0);

    /// The flags of ready topics.
    #[inline]
    pub(crate) fn from_ready(ready: Ready) -> LoopFlags {
        LoopFlags(ready.bits().into())
    }

    const fn topic(topic: Topic) -> LoopFlags {
        LoopFlags(Ready::of_topic(topic).bits() as u64)
    }

    /// Whether a turn can take the fast path.
    #[inline]
    pub(crate) fn is_fast_path(self) -> bool {
        self == LoopFlags::RUNNING
    }

    /// Whether any of `others` is in the set.
    #[inline]
    pub(crate) fn any(self, others: LoopFlags) -> bool {
        self.0 & others.0 != 0
    }

    /// Those that are in `others` as well.
    pub(crate) fn intersection(self, others: LoopFlags) -> LoopFlags {
        LoopFlags(self.0 & others.0)
    }

    pub(crate) fn has_topic(self, topic: Topic) -> bool {
        self.any(LoopFlags::topic(topic))
    }

    pub(crate) fn add_topic(&mut self, topic: Topic) {
        self.add(LoopFlags::topic(topic));
    }

    #[inline]
    pub(crate) fn add(&mut self, others: LoopFlags) {
        self.0 |= others.0;
    }

    #[inline]
    pub(crate) fn remove(&mut self, others: LoopFlags) {
        self.0 &= !others.0;
    }

    pub(crate) fn set(&mut self, other: LoopFlags, on: bool) {
        if on { self.add(other) } else { self.remove(other) }
    }
}

impl BitOr for LoopFlags {
    type Output = LoopFlags;

    #[inline]
    fn bitor(self, other: LoopFlags) -> LoopFlags {
        LoopFlags(self.0 | other.0)
    }
}
