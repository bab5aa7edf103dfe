//! The hang-up filter: suspends a source whose hang-up, error or urgent data the handler ignores.
//!
//! Such a condition lasts. Under level trigger the kernel reports it in every wait, so a handler
//! that does nothing about it would keep the loop from ever sleeping.
//!
//! The first [`ALLOWANCE`] reports of a lasting condition are delivered without a closer look. From
//! then on the filter counts the source's unread bytes. If [`IGNORED_LIMIT`] further reports find
//! the same number of unread bytes, and the source was not reregistered meanwhile, the source is
//! *suspended*: the kernel reports only what is new about it. Nothing is lost by that. A later
//! change (bytes, room to write, another error, the rest of a hang-up) is reported, and returns the
//! source to level trigger.
//!
//! ```text
//!                  a lasting condition, ALLOWANCE reports,
//!                  then IGNORED_LIMIT with the same unread bytes
//!   AsRegistered ───────────────────────────────────────────────▶ EdgeTriggered
//!     ▲    ▲                                                           │
//!     │    └────── an event without it, or with other unread bytes ────┘
//!     │
//!     └── only the peer's writing half is closed, and we want to write ──▶ WritableOnly
//! ```
//!
//! `WritableOnly` (level trigger) exists because a source that wants to write must stay
//! level-triggered for writing: its handler may write once a turn. Each event for writing then
//! carries the hint of the closed half, as it would without the filter. A full hang-up or an error
//! is counted from zero again and leads to `EdgeTriggered`. `reregister` always leads to
//! `AsRegistered`.
//!
//! The allowance costs nothing, so a connection that is read to its end and dropped makes no system
//! call for this.

use std::collections::HashMap;

use kodiak_sys::{Interest, Readiness, Trigger};

/// Reports of a lasting condition before the source's unread bytes are counted. Two: the peer's
/// last bytes and its hang-up often arrive together and are read in one turn; the next turn finds
/// the end of the stream.
const ALLOWANCE: u8 = 2;
/// Consecutive reports with unchanged unread bytes before the source is suspended. More than one,
/// for a reader that skips a turn.
const IGNORED_LIMIT: u8 = 3;

/// What the kernel reports of a source.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum Mode {
    /// What its owner registered.
    #[default]
    AsRegistered,
    /// Room to write, and hang-ups and errors, which the kernel always reports.
    WritableOnly,
    /// Only what is new.
    EdgeTriggered,
}

/// One source's lasting conditions since it was registered or reregistered, in a byte: the mode,
/// and the number of consecutive reports. Up to [`ALLOWANCE`] every report counts; beyond it, those
/// since a byte was last read.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct HangUpFilter(u8);

/// The bits of the number of reports; those above are the mode.
const REPORTS_MASK: u8 = 0b111;
const _: () = assert!(ALLOWANCE + IGNORED_LIMIT < REPORTS_MASK, "one more than this is counted");

/// Unread bytes of descriptors, by key, when they were last counted. Holds only the few sources
/// that have used up their allowance.
#[derive(Debug, Default)]
pub(crate) struct UnreadBytes(HashMap<u64, u32>);

impl UnreadBytes {
    /// Replaces the count and returns the old one. [`UNKNOWN`] if there was none, or if the kernel
    /// could not count.
    pub(crate) fn replace(&mut self, key: u64, bytes: u32) -> u32 {
        self.0.insert(key, bytes).unwrap_or(UNKNOWN)
    }

    /// Removes the count of a source whose filter was reset, or that has gone.
    pub(crate) fn remove(&mut self, key: u64) {
        self.0.remove(&key);
    }
}

/// More than the kernel reports of any descriptor, since it counts in an `int`.
pub(crate) const UNKNOWN: u32 = u32::MAX;

/// What the loop does about an event.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Decision {
    /// Delivers it.
    Deliver,
    /// Gives the kernel this registration and drops the event: the kernel reports again what still
    /// holds of it. If the kernel refuses the registration, the event is delivered.
    Suspend(Interest, Trigger),
    /// Gives the kernel the owner's registration back, and delivers the event.
    Resume,
}

impl HangUpFilter {
    const fn new(mode: Mode, reports: u8) -> HangUpFilter {
        HangUpFilter((mode as u8) << 3 | reports)
    }

    fn mode(self) -> Mode {
        match self.0 >> 3 {
            0 => Mode::AsRegistered,
            1 => Mode::WritableOnly,
            _ => Mode::EdgeTriggered,
        }
    }

    fn reports(self) -> u8 {
        self.0 & REPORTS_MASK
    }

    fn set_reports(&mut self, reports: u8) {
        *self = HangUpFilter::new(self.mode(), reports);
    }

    /// Whether an event of a level-triggered source must be passed to
    /// [`observe`](HangUpFilter::observe). Nearly none must.
    #[inline]
    pub(crate) fn must_observe(self, readiness: Readiness) -> bool {
        self.reports() != 0 || is_closed(readiness) || readiness.is_priority()
    }

    /// Whether the source's unread bytes may have been counted.
    pub(crate) fn has_counted(self) -> bool {
        // Every mode but `AsRegistered` is a greater number.
        self.0 > ALLOWANCE
    }

    /// The state after the first report of a lasting condition.
    pub(crate) const ONE_REPORT: HangUpFilter = HangUpFilter::new(Mode::AsRegistered, 1);

    /// Counts an event that reports a lasting condition within the allowance, and returns whether
    /// it was one. Most sources never have another. If not, the event is for
    /// [`observe`](HangUpFilter::observe).
    pub(crate) fn observe_within_allowance(
        &mut self,
        readiness: Readiness,
        interest: Interest,
    ) -> bool {
        let within = self.reports() < ALLOWANCE && has_lasting_condition(readiness, interest);
        if within {
            self.set_reports(self.reports() + 1);
        }
        within
    }

    /// Counts an event and decides what the loop does about it. `count_unread` returns the unread
    /// bytes now, which costs a system call, and those of the time before.
    pub(crate) fn observe(
        &mut self,
        readiness: Readiness,
        interest: Interest,
        count_unread: impl FnOnce() -> (u32, u32),
    ) -> Decision {
        if !has_lasting_condition(readiness, interest) {
            return match self.mode() {
                Mode::WritableOnly => Decision::Deliver,
                Mode::EdgeTriggered => self.resume(),
                Mode::AsRegistered => {
                    self.set_reports(0);
                    Decision::Deliver
                }
            };
        }
        if self.observe_within_allowance(readiness, interest) {
            return Decision::Deliver;
        }
        let (now, before) = count_unread();
        let counted = self.reports() > ALLOWANCE;
        let ignored = counted && now == before && !may_be_datagrams(readiness, interest, now);
        match self.mode() {
            Mode::EdgeTriggered if ignored => Decision::Deliver,
            Mode::EdgeTriggered => self.resume(),
            Mode::AsRegistered | Mode::WritableOnly => {
                self.set_reports(if ignored { self.reports() + 1 } else { ALLOWANCE + 1 });
                if self.reports() > ALLOWANCE + IGNORED_LIMIT {
                    self.suspend(readiness, interest)
                } else {
                    Decision::Deliver
                }
            }
        }
    }

    /// Readiness that a suspended source has although the kernel does not report it; the handler
    /// gets it with each event.
    #[inline]
    pub(crate) fn unreported_readiness(self) -> Readiness {
        match self.mode() {
            Mode::WritableOnly => Readiness::READABLE | Readiness::READ_CLOSED,
            Mode::AsRegistered | Mode::EdgeTriggered => Readiness::empty(),
        }
    }

    fn suspend(&mut self, readiness: Readiness, interest: Interest) -> Decision {
        let only_read_closed =
            !readiness.is_write_closed() && !readiness.is_error() && readiness.is_read_closed();
        if only_read_closed
            && interest.contains(Interest::WRITABLE)
            && self.mode() == Mode::AsRegistered
        {
            *self = HangUpFilter::new(Mode::WritableOnly, 0);
            return Decision::Suspend(Interest::WRITABLE, Trigger::Level);
        }
        *self = HangUpFilter::new(Mode::EdgeTriggered, self.reports());
        Decision::Suspend(interest, Trigger::Edge)
    }

    fn resume(&mut self) -> Decision {
        *self = HangUpFilter::default();
        Decision::Resume
    }
}

fn is_closed(readiness: Readiness) -> bool {
    readiness.is_read_closed() || readiness.is_write_closed() || readiness.is_error()
}

/// Whether the event reports something that lasts until the handler reacts. Urgent data of a source
/// that can be written, and whose owner wants to know, does not count: the room to write alone
/// keeps the loop awake, as the handler asked for.
fn has_lasting_condition(readiness: Readiness, interest: Interest) -> bool {
    let urgent = readiness.is_priority() && interest.contains(Interest::PRIORITY);
    let can_write = readiness.is_writable() && interest.contains(Interest::WRITABLE);
    is_closed(readiness) || (urgent && !can_write)
}

/// Whether the unread bytes may be those of datagrams, which say nothing about progress. The kernel
/// counts only the first datagram's bytes, and they are the same before and after one of several
/// equal datagrams was received. Datagram sockets never hang up, they only have errors.
fn may_be_datagrams(readiness: Readiness, interest: Interest, unread: u32) -> bool {
    let hung_up = readiness.is_read_closed() || readiness.is_write_closed();
    !hung_up
        && readiness.is_error()
        && interest.contains(Interest::READABLE)
        && (1..UNKNOWN).contains(&unread)
}
