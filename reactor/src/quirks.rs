//! What is unusual about the next steps: one byte, so that a turn in which nothing is asks once instead of eight times.

/// A set of reasons to leave the short way through a turn.
///
/// The set is empty between two turns only if the bell is armed, and nobody had rung since the loop last looked at everything that
/// rings it. Then the next wait may begin at once.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Quirks(u32);

impl Quirks {
    pub(crate) const NONE: Quirks = Quirks(0);
    /// Somebody has rung, and since then the loop has not looked at everything and found nothing.
    pub(crate) const LOOK: Quirks = Quirks(1);
    /// The last turn's budget ended before the messages did, or its last look has found something for the next turn.
    pub(crate) const READY: Quirks = Quirks(1 << 1);
    /// Sources wait to be called again.
    pub(crate) const AGAIN: Quirks = Quirks(1 << 2);
    /// A callback called `shutdown`.
    pub(crate) const STOPPING: Quirks = Quirks(1 << 3);
    /// A panic or an error has left something of the last batch of events.
    pub(crate) const UNFINISHED: Quirks = Quirks(1 << 4);
    /// Signals are watched.
    pub(crate) const SIGNALS: Quirks = Quirks(1 << 6);
    /// Times are measured.
    pub(crate) const MEASURED: Quirks = Quirks(1 << 7);
    /// Timeouts are pending, or were when a turn last looked.
    pub(crate) const TIMERS: Quirks = Quirks(1 << 8);

    /// Work that the last turn left, apart from what the channels and the wheel know themselves.
    pub(crate) const LEFT_OVERS: Quirks = Quirks(Quirks::READY.0 | Quirks::AGAIN.0 | Quirks::STOPPING.0);

    #[inline]
    pub(crate) fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether any of `others` is in the set.
    #[inline]
    pub(crate) fn any(self, others: Quirks) -> bool {
        self.0 & others.0 != 0
    }

    #[inline]
    pub(crate) fn add(&mut self, others: Quirks) {
        self.0 |= others.0;
    }

    pub(crate) fn remove(&mut self, others: Quirks) {
        self.0 &= !others.0;
    }

    pub(crate) fn set(&mut self, other: Quirks, whether: bool) {
        if whether { self.add(other) } else { self.remove(other) }
    }
}
