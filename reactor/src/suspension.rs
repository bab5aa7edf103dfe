//! Conditions that stay: a hang-up, an error, urgent data. Under level trigger the kernel reports
//! them in every wait, so a handler that does nothing about one would keep the loop from ever
//! sleeping.
//!
//! A level-triggered source that has told such a condition [`FREE`] times is looked at more
//! closely: if over [`IGNORED`] further tellings nobody has read a byte of it, and nobody
//! reregistered it, nobody is going to. It is then *suspended*: the kernel is asked to report only
//! what is new about it. Nothing is lost by that. Whatever happens next to the source (bytes, room,
//! another error, the rest of a hang-up) is reported, and as soon as something has changed the
//! source is level-triggered again.
//!
//! ```text
//!            lasting condition, told FREE times, then IGNORED times with the same bytes unread
//!   Awake ────────────────────────────────────────────────────────────────────▶ Quiet   (the kernel: edge)
//!     ▲ ◀────────────── an event without it, or with other bytes ─────────────────┘
//!     │
//!     └── only the peer's writing half is closed, and we want to write ─────────▶ Half   (the kernel: level, writable only)
//! ```
//!
//! `Half` exists because a source that wants to write must stay level-triggered for that: its
//! handler may write once a turn. It is told of the closed half with each event for writing, as it
//! would be without us. A full hang-up or an error is then counted anew and leads to `Quiet`.
//! `reregister` leads to `Awake` from everywhere.
//!
//! The first tellings cost nothing, so a connection that is read to its end and dropped makes no
//! system call for this.

use std::collections::HashMap;

use kodiak_sys::{Interest, Readiness, Trigger};

/// How often a lasting condition is told before the source's unread bytes are counted. Two: the
/// peer's last bytes and its hang-up often come together, are read in one turn, and the end of the
/// stream is found in the next.
const FREE: u8 = 2;
/// How often in a row the bytes must have been left as they were. More than one, for a reader that
/// skips a turn.
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

/// One source's history of lasting conditions since it was (re)registered, in a byte: the state,
/// and how often in a row a lasting condition was told: up to [`FREE`] whatever happened, beyond
/// that since the last byte was read.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Patience(u8);

/// The bits of the count; those above are the state.
const TOLD: u8 = 0b111;
const _: () = assert!(FREE + IGNORED < TOLD, "one more than this is counted");

/// Bytes that waited to be read when a descriptor was last asked, by key: of the few sources whose
/// patience has begun to run out.
#[derive(Debug, Default)]
pub(crate) struct Unread(HashMap<u64, u32>);

impl Unread {
    /// Puts a new count in the old one's place. [`UNKNOWN`] if there was none, or if the descriptor
    /// cannot say.
    pub(crate) fn replace(&mut self, key: u64, bytes: u32) -> u32 {
        self.0.insert(key, bytes).unwrap_or(UNKNOWN)
    }

    /// The source's patience is new, or the source has gone.
    pub(crate) fn forget(&mut self, key: u64) {
        self.0.remove(&key);
    }
}

/// More than any descriptor says, since the kernel says it in an `int`.
pub(crate) const UNKNOWN: u32 = u32::MAX;

/// What is to be done about an event.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Verdict {
    /// It is delivered.
    Deliver,
    /// The kernel gets this registration, and the event is dropped: what still holds of it the
    /// kernel reports anew. If the kernel will not have it the event is delivered.
    Suspend(Interest, Trigger),
    /// The kernel gets the owner's registration back, and the event is delivered.
    Wake,
}

impl Patience {
    const fn new(state: State, told: u8) -> Patience {
        Patience((state as u8) << 3 | told)
    }

    fn state(self) -> State {
        match self.0 >> 3 {
            0 => State::Awake,
            1 => State::Half,
            _ => State::Quiet,
        }
    }

    fn told(self) -> u8 {
        self.0 & TOLD
    }

    fn tell(&mut self, told: u8) {
        *self = Patience::new(self.state(), told);
    }

    /// Whether an event of a level-triggered source needs [`judge`](Patience::judge). Nearly none
    /// does.
    #[inline]
    pub(crate) fn concerns(self, readiness: Readiness) -> bool {
        self.told() != 0 || is_closed(readiness) || readiness.is_priority()
    }

    /// Whether the source's bytes may have been counted.
    pub(crate) fn has_counted(self) -> bool {
        // Whatever is not awake is more.
        self.0 > FREE
    }

    /// A lasting condition is told for the first time in the source's life.
    pub(crate) const TOLD_ONCE: Patience = Patience::new(State::Awake, 1);

    /// Takes note of an event if it is one of those that are told whatever happened: a whole life
    /// of most sources knows no other. `false`: it is [`judge`](Patience::judge)'s.
    pub(crate) fn tell_freely(&mut self, readiness: Readiness, interest: Interest) -> bool {
        let free = self.told() < FREE && lasts(readiness, interest);
        if free {
            self.tell(self.told() + 1);
        }
        free
    }

    /// Takes note of an event. `count` counts the bytes that wait to be read, which costs a system
    /// call, and says how many there are and how many there were the time before.
    pub(crate) fn judge(
        &mut self,
        readiness: Readiness,
        interest: Interest,
        count: impl FnOnce() -> (u32, u32),
    ) -> Verdict {
        if !lasts(readiness, interest) {
            return match self.state() {
                State::Half => Verdict::Deliver,
                State::Quiet => self.wake(),
                State::Awake => {
                    self.tell(0);
                    Verdict::Deliver
                }
            };
        }
        if self.tell_freely(readiness, interest) {
            return Verdict::Deliver;
        }
        let (now, before) = count();
        let counted = self.told() > FREE;
        let ignored = counted && now == before && !may_be_datagrams(readiness, interest, now);
        match self.state() {
            State::Quiet if ignored => Verdict::Deliver,
            State::Quiet => self.wake(),
            State::Awake | State::Half => {
                self.tell(if ignored { self.told() + 1 } else { FREE + 1 });
                if self.told() > FREE + IGNORED {
                    self.suspend(readiness, interest)
                } else {
                    Verdict::Deliver
                }
            }
        }
    }

    /// What a suspended source is besides what the kernel reports of it, which must be told too.
    #[inline]
    pub(crate) fn implied(self) -> Readiness {
        match self.state() {
            State::Half => Readiness::READABLE | Readiness::READ_CLOSED,
            State::Awake | State::Quiet => Readiness::empty(),
        }
    }

    fn suspend(&mut self, readiness: Readiness, interest: Interest) -> Verdict {
        let only_reading_is_over =
            !readiness.is_write_closed() && !readiness.is_error() && readiness.is_read_closed();
        if only_reading_is_over
            && interest.contains(Interest::WRITABLE)
            && self.state() == State::Awake
        {
            *self = Patience::new(State::Half, 0);
            return Verdict::Suspend(Interest::WRITABLE, Trigger::Level);
        }
        *self = Patience::new(State::Quiet, self.told());
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

/// Whether the event has something that stays until somebody does something about it. Urgent data
/// of a source that can be written and wants to know is no matter: that alone keeps the loop awake,
/// as its handler asked for.
fn lasts(readiness: Readiness, interest: Interest) -> bool {
    let urgent = readiness.is_priority() && interest.contains(Interest::PRIORITY);
    let can_write = readiness.is_writable() && interest.contains(Interest::WRITABLE);
    is_closed(readiness) || (urgent && !can_write)
}

/// Datagram sockets count only the first datagram's bytes, which are the same before and after one
/// of several equal ones was received. They never hang up, they only have errors.
fn may_be_datagrams(readiness: Readiness, interest: Interest, unread: u32) -> bool {
    let hung_up = readiness.is_read_closed() || readiness.is_write_closed();
    !hung_up
        && readiness.is_error()
        && interest.contains(Interest::READABLE)
        && (1..UNKNOWN).contains(&unread)
}
