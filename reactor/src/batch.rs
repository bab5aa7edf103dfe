//! The events of one wait, and how far the loop has come with them.
//!
//! The place is moved on *before* a callback is called, so that a callback which panics costs its
//! own call and nothing else: the next turn goes on behind it.

use kodiak_sys::{Event, Events, Readiness};

/// Callbacks that one event still has to cause, called in the order of these bits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Calls(pub(crate) u8);

/// One of them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Call {
    Priority,
    Readable,
    Writable,
    /// `readable`, for a hang-up or error that no interest covers.
    HangUp,
    /// `child_exit`.
    ChildExit,
}

impl Calls {
    pub(crate) const NONE: Calls = Calls(0);
    const ORDER: [Call; 5] =
        [Call::Priority, Call::Readable, Call::Writable, Call::HangUp, Call::ChildExit];

    pub(crate) fn only(call: Call) -> Calls {
        Calls(1 << call as u8)
    }

    #[inline]
    pub(crate) fn add(&mut self, call: Call) {
        self.0 |= 1 << call as u8;
    }

    #[inline]
    pub(crate) fn contains(self, call: Call) -> bool {
        self.0 & 1 << call as u8 != 0
    }

    /// Takes the first one out.
    #[inline]
    pub(crate) fn take(&mut self) -> Option<Call> {
        let call = *Calls::ORDER.get(self.0.trailing_zeros() as usize)?;
        self.0 &= self.0 - 1;
        Some(call)
    }
}

pub(crate) struct Batch {
    pub(crate) events: Events,
    next: usize,
    /// The event at hand and what it still has to cause.
    pub(crate) key: u64,
    pub(crate) readiness: Readiness,
    pub(crate) calls: Calls,
}

impl Batch {
    pub(crate) fn new(capacity: usize) -> Batch {
        Batch {
            events: Events::with_capacity(capacity),
            next: 0,
            key: 0,
            readiness: Readiness::default(),
            calls: Calls::NONE,
        }
    }

    /// After a wait, which has replaced the events.
    #[inline]
    pub(crate) fn begin(&mut self) {
        self.next = 0;
    }

    /// Whether a callback's panic left something over.
    pub(crate) fn is_unfinished(&self) -> bool {
        self.calls != Calls::NONE || self.any()
    }

    /// Whether there are events not yet opened.
    #[inline]
    pub(crate) fn any(&self) -> bool {
        self.next < self.events.len()
    }

    /// The next one, if there is [`any`](Batch::any).
    #[inline]
    pub(crate) fn next_event(&mut self) -> Option<Event> {
        let index = self.next;
        self.next += 1;
        self.events.get(index)
    }

    /// Whether `key` is among the events not yet opened.
    pub(crate) fn holds(&self, key: u64) -> bool {
        (self.next..self.events.len())
            .any(|index| self.events.get(index).is_some_and(|event| event.key == key))
    }
}
