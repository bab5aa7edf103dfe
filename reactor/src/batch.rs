//! The events of one wait, and the position of the next one to deliver.
//!
//! The position advances *before* a callback is called. So a callback that panics loses only its
//! own call: the next turn continues after it.

use kodiak_sys::{Event, Events, Readiness};

/// Callbacks still to be called for one event, in the order of these bits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Calls(pub(crate) u8);

/// A callback.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Call {
    Priority,
    Readable,
    Writable,
    /// `readable`, for a hang-up or error outside the source's interest.
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

    /// Removes the first call and returns it.
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
    /// The current event, and the calls still to be made for it.
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

    /// Starts again at the first event, after a wait has replaced them.
    #[inline]
    pub(crate) fn restart(&mut self) {
        self.next = 0;
    }

    /// Whether events or calls are left, as after a callback's panic.
    pub(crate) fn is_unfinished(&self) -> bool {
        self.calls != Calls::NONE || self.has_next()
    }

    /// Whether there are events not yet taken.
    #[inline]
    pub(crate) fn has_next(&self) -> bool {
        self.next < self.events.len()
    }

    /// Takes the next event, if there [is one](Batch::has_next).
    #[inline]
    pub(crate) fn next_event(&mut self) -> Option<Event> {
        let index = self.next;
        self.next += 1;
        self.events.get(index)
    }

    /// Whether `key` is among the events not yet taken.
    pub(crate) fn contains_key(&self, key: u64) -> bool {
        (self.next..self.events.len())
            .any(|index| self.events.get(index).is_some_and(|event| event.key == key))
    }
}
