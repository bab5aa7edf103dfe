//! The timer structures, each behind one small trait. A tick is a millisecond, a timer's value a `u32` that names it.
//!
//! The caller keeps the handles in a table by name, as programs do; what a structure needs beside that is its own.

pub(crate) mod btree;
pub(crate) mod four_ary;
pub(crate) mod kodiak;
pub(crate) mod lazy_heap;
pub(crate) mod nexus;
pub(crate) mod quad;
pub(crate) mod tokio_util;

/// How many timers one call may expire, where there is such a bound.
pub(crate) const BUDGET: usize = 512;

/// What [`Timers::expire`] did.
pub(crate) struct Expired {
    pub(crate) count: usize,
    /// The budget ended it; there may be more.
    pub(crate) more: bool,
}

/// The structure does not say when it wants to be called next.
pub(crate) struct Unknown;

/// Timers by deadline.
pub(crate) trait Timers {
    type Handle;

    fn new(capacity: usize) -> Self;

    fn insert(&mut self, tick: u64, name: u32) -> Self::Handle;

    fn cancel(&mut self, handle: Self::Handle);

    fn reschedule(&mut self, handle: Self::Handle, tick: u64, name: u32) -> Self::Handle {
        self.cancel(handle);
        self.insert(tick, name)
    }

    /// Until when a loop may sleep; `None` if there is nothing to wait for. `Err` if that cannot be asked.
    fn next(&mut self) -> Result<Option<u64>, Unknown> {
        Err(Unknown)
    }

    /// Expires what is due at `now`. `next` says for each when it is to fire again, `None` if never.
    fn expire(
        &mut self,
        now: u64,
        handles: &mut [Option<Self::Handle>],
        next: impl FnMut(u32) -> Option<u64>,
    ) -> Expired;
}
