//! The timer structures, behind one trait.
//!
//! A tick is a millisecond, and a timer's value is its id, a `u32`. The caller keeps the handles in
//! a table by id, as programs do; that table is not part of a structure.

pub(crate) mod btree_map;
pub(crate) mod delay_queue;
pub(crate) mod four_ary_heap;
pub(crate) mod kodiak;
pub(crate) mod lazy_heap;
pub(crate) mod nexus_timer;
pub(crate) mod quad_wheel;

/// The greatest number of timers that one call expires, where the structure has such a bound.
pub(crate) const BUDGET: usize = 512;

/// What [`Timers::expire`] did.
pub(crate) struct Expired {
    pub(crate) count: usize,
    /// Whether more timers may be due, because the bound was reached.
    pub(crate) has_more: bool,
}

/// The structure does not report its next deadline.
pub(crate) struct NotSupported;

/// Timers by deadline.
pub(crate) trait Timers {
    type Handle;

    fn new(capacity: usize) -> Self;

    fn insert(&mut self, tick: u64, id: u32) -> Self::Handle;

    fn cancel(&mut self, handle: Self::Handle);

    fn reschedule(&mut self, handle: Self::Handle, tick: u64, id: u32) -> Self::Handle {
        self.cancel(handle);
        self.insert(tick, id)
    }

    /// The time until which a loop may sleep; `None` if no timer is set.
    fn next(&mut self) -> Result<Option<u64>, NotSupported> {
        Err(NotSupported)
    }

    /// Expires the timers that are due at `now`. `rearm` returns when a timer is to fire again.
    fn expire(
        &mut self,
        now: u64,
        handles: &mut [Option<Self::Handle>],
        rearm: impl FnMut(u32) -> Option<u64>,
    ) -> Expired;
}
