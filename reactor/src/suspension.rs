//! Conditions that stay: a hang-up, an error, urgent data. Under level trigger the kernel reports them in every wait, so a
//! handler that does nothing about one would keep the loop from ever sleeping.
//!
//! A level-triggered source that has told such a condition [`FREE`] times is looked at more closely: if over [`IGNORED`]
//! further tellings nobody has read a byte of it, and nobody reregistered it, nobody is going to. It is then *suspended*: the
//! kernel is asked to report only what is new about it. Nothing is lost by that. Whatever happens next to the source
//! (bytes, room, another error, the rest of a hang-up) is reported, and as soon as something has changed the source is level-triggered again.
//!
//! ```text
//!            lasting condition, told FREE times, then IGNORED times with the same bytes unread
//!   Awake ────────────────────────────────────────────────────────────────────▶ Quiet   (the kernel: edge)
//!     ▲ ◀────────────── an event without it, or with other bytes ─────────────────┘
//!     │
//!     └── only the peer's writing half is closed, and we want to write ─────────▶ Half   (the kernel: level, writable only)
//! ```
//!
//! `Half` exists because a source that wants to write must stay level-triggered for that: its handler may write once a
//! turn. It is told of the closed half with each event for writing, as it would be without us. A full hang-up
//! or an error is then counted anew and leads to `Quiet`. `reregister` leads to `Awake` from everywhere.
//!
//! The first tellings cost nothing, so a connection that is read to its end and dropped makes no system call for this.

use kodiak_sys::{Interest, Readiness, Trigger};

/// How often a lasting condition is told before the source's unread bytes are counted. Two: the peer's last bytes and its
/// hang-up often come together, are read in one turn, and the end of the stream is found in the next.
const FREE: u8 = 2;
/// How often in a row the bytes must have been left as they were. More than one, for a reader that skips a turn.
const IGNORED: u8 = 3;

/// How far a source has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum State {
    /// As its owner registered it.
    #[default]
    Awake,
    /// The kernel reports only room to write, and hang-ups and errors, which it always does.
    Half,
    /// The kernel reports only what is new.
    Quiet,
}

/// One source's history of lasting conditions since it was (re)registered.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Patience {
    state: State,
    /// How often in a row a lasting condition was told: up to [`FREE`] whatever happened, beyond that since the last byte was read.
    told: u8,
    /// Bytes that waited to be read when they were last counted; [`UNKNOWN`] if the descriptor cannot say.
    unread: u32,
}

/// More than any descriptor says, since the kernel says it in an `int`.
const UNKNOWN: u32 = u32::MAX;

/// What is to be done about an event.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Verdict {
    /// It is delivered.
    Deliver,
    /// The kernel gets this registration, and the event is dropped: what still holds of it the kernel reports anew. If the
    /// kernel will not have it the event is delivered.
    Suspend(Interest, Trigger),
    /// The kernel gets the owner's registration back, and the event is delivered.
    Wake,
}

impl Patience {
    /// Whether an event of a level-triggered source needs [`judge`](Patience::judge). Nearly none does.
    #[inline]
    pub(crate) fn concerns(&self, readiness: Readiness) -> bool {
        self.told != 0 || is_closed(readiness) || readiness.is_priority()
    }

    /// Takes note of an event. `unread` counts the bytes that wait to be read, which costs a system call.
    pub(crate) fn judge(
        &mut self,
        readiness: Readiness,
        interest: Interest,
        unread: impl FnOnce() -> Option<usize>,
    ) -> Verdict {
        if !lasts(readiness, interest) {
            return match self.state {
                State::Half => Verdict::Deliver,
                State::Quiet => self.wake(),
                State::Awake => {
                    self.told = 0;
                    Verdict::Deliver
                }
            };
        }
        if self.told < FREE {
            self.told += 1;
            return Verdict::Deliver;
        }
        let now = unread().and_then(|bytes| u32::try_from(bytes).ok()).unwrap_or(UNKNOWN);
        let before = std::mem::replace(&mut self.unread, now);
        let counted = self.told > FREE;
        let ignored = counted && now == before && !may_be_datagrams(readiness, interest, now);
        match self.state {
            State::Quiet if ignored => Verdict::Deliver,
            State::Quiet => self.wake(),
            State::Awake | State::Half => {
                self.told = if ignored { self.told + 1 } else { FREE + 1 };
                if self.told > FREE + IGNORED { self.suspend(readiness, interest) } else { Verdict::Deliver }
            }
        }
    }

    /// What a suspended source is besides what the kernel reports of it, which must be told too.
    #[inline]
    pub(crate) fn implied(&self) -> Readiness {
        match self.state {
            State::Half => Readiness::READABLE | Readiness::READ_CLOSED,
            State::Awake | State::Quiet => Readiness::empty(),
        }
    }

    fn suspend(&mut self, readiness: Readiness, interest: Interest) -> Verdict {
        let only_reading_is_over = !readiness.is_write_closed() && !readiness.is_error() && readiness.is_read_closed();
        if only_reading_is_over && interest.contains(Interest::WRITABLE) && self.state == State::Awake {
            *self = Patience { state: State::Half, ..Patience::default() };
            return Verdict::Suspend(Interest::WRITABLE, Trigger::Level);
        }
        self.state = State::Quiet;
        Verdict::Suspend(interest, Trigger::Edge)
    }

    fn wake(&mut self) -> Verdict {
        *self = Patience::default();
        Verdict::Wake
    }
}

fn is_closed(readiness: Readiness) -> bool {
    readiness.is_read_closed() || readiness.is_write_closed() || readiness.is_error()
}

/// Whether the event has something that stays until somebody does something about it. Urgent data of a source that can be
/// written and wants to know is no matter: that alone keeps the loop awake, as its handler asked for.
fn lasts(readiness: Readiness, interest: Interest) -> bool {
    let urgent = readiness.is_priority() && interest.contains(Interest::PRIORITY);
    let can_write = readiness.is_writable() && interest.contains(Interest::WRITABLE);
    is_closed(readiness) || (urgent && !can_write)
}

/// Datagram sockets count only the first datagram's bytes, which are the same before and after one of several equal ones was
/// received. They never hang up, they only have errors.
fn may_be_datagrams(readiness: Readiness, interest: Interest, unread: u32) -> bool {
    let hung_up = readiness.is_read_closed() || readiness.is_write_closed();
    !hung_up && readiness.is_error() && interest.contains(Interest::READABLE) && (1..UNKNOWN).contains(&unread)
}
