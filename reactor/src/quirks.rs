//! What is unusual about the next steps: one word, so that a turn in which nothing is asks once instead of eight times.

use std::ops::BitOr;

use kodiak_channel::{Line, Rung};

/// The loop's own channel.
pub(crate) const MESSAGES: Line = Line::new(0);
/// A remote wants a turn.
pub(crate) const WAKE: Line = Line::new(1);
/// A remote wants the loop to stop.
pub(crate) const SHUTDOWN: Line = Line::new(2);
/// The first of the lines that further channels share.
const FIRST_FURTHER: u32 = 3;

/// The line of the further channel of this number.
pub(crate) fn further_line(number: u32) -> Line {
    Line::new(FIRST_FURTHER + number % (Line::COUNT - FIRST_FURTHER))
}

/// A set of reasons to leave the short way through a turn: the lines of the bell that were rung and that the loop has not yet
/// looked at, and others.
///
/// Between two turns there is nothing unusual only if the bell is armed. Then the next wait may begin at once.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Quirks(u64);

impl Quirks {
    pub(crate) const NONE: Quirks = Quirks(0);
    /// Somebody has sent over the loop's own channel, and the loop has not since found it empty.
    pub(crate) const MESSAGES: Quirks = Quirks::line(MESSAGES);
    /// A turn is to begin.
    pub(crate) const WAKE: Quirks = Quirks::line(WAKE);
    /// A remote wants the loop to stop.
    pub(crate) const SHUTDOWN: Quirks = Quirks::line(SHUTDOWN);
    /// Somebody has sent over a further channel.
    pub(crate) const FURTHER: Quirks = Quirks(Quirks::LINES.0 & (u64::MAX << FIRST_FURTHER));
    /// Any of these four.
    pub(crate) const LINES: Quirks = Quirks((1 << Line::COUNT) - 1);
    /// Sources wait to be called again.
    pub(crate) const AGAIN: Quirks = Quirks(1 << 32);
    /// The loop's owner wants it to stop.
    pub(crate) const STOPPING: Quirks = Quirks(1 << 33);
    /// A panic or an error has left something of the last batch of events.
    pub(crate) const UNFINISHED: Quirks = Quirks(1 << 34);
    /// Signals are watched.
    pub(crate) const SIGNALS: Quirks = Quirks(1 << 36);
    /// Times are measured.
    pub(crate) const MEASURED: Quirks = Quirks(1 << 37);
    /// Timeouts are pending, or were when a turn last looked.
    pub(crate) const TIMERS: Quirks = Quirks(1 << 38);
    /// Waits begin with a spin.
    pub(crate) const SPINS: Quirks = Quirks(1 << 39);
    /// A `run` has ended because of a shutdown, and no other has begun.
    pub(crate) const STOPPED: Quirks = Quirks(1 << 40);
    /// Nothing unusual: `run` or `run_once` is on the stack.
    pub(crate) const RUNNING: Quirks = Quirks(1 << 41);

    /// Work that the last turn left, apart from what the wheel knows itself.
    pub(crate) const LEFT_OVERS: Quirks = Quirks(Quirks::LINES.0 | Quirks::AGAIN.0 | Quirks::STOPPING.0);

    /// What was rung.
    #[inline]
    pub(crate) fn of(rung: Rung) -> Quirks {
        Quirks(rung.bits().into())
    }

    const fn line(line: Line) -> Quirks {
        Quirks(Rung::of_line(line).bits() as u64)
    }

    /// Whether a turn can go the short way.
    #[inline]
    pub(crate) fn is_usual(self) -> bool {
        self == Quirks::RUNNING
    }

    /// Whether any of `others` is in the set.
    #[inline]
    pub(crate) fn any(self, others: Quirks) -> bool {
        self.0 & others.0 != 0
    }

    /// Those that are in `others` as well.
    pub(crate) fn within(self, others: Quirks) -> Quirks {
        Quirks(self.0 & others.0)
    }

    pub(crate) fn has_line(self, line: Line) -> bool {
        self.any(Quirks::line(line))
    }

    pub(crate) fn add_line(&mut self, line: Line) {
        self.add(Quirks::line(line));
    }

    #[inline]
    pub(crate) fn add(&mut self, others: Quirks) {
        self.0 |= others.0;
    }

    #[inline]
    pub(crate) fn remove(&mut self, others: Quirks) {
        self.0 &= !others.0;
    }

    pub(crate) fn set(&mut self, other: Quirks, whether: bool) {
        if whether { self.add(other) } else { self.remove(other) }
    }
}

impl BitOr for Quirks {
    type Output = Quirks;

    #[inline]
    fn bitor(self, other: Quirks) -> Quirks {
        Quirks(self.0 | other.0)
    }
}
