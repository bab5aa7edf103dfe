//! The atomics of the wake protocol, in one place, so that `--cfg loom` can put loom's in their
//! stead.
//!
//! Only what the protocol's proof speaks of goes through here: the notifier's word, and the marks
//! that an end is gone. Reference counts stay std's in both builds: they decide who frees, never
//! who wakes.
//!
//! Two fences are there under loom only, because of what loom cannot know.

#[cfg(loom)]
pub(crate) use loom::sync::atomic::{AtomicBool, AtomicU32, Ordering, fence};
#[cfg(not(loom))]
pub(crate) use std::sync::atomic::{AtomicBool, AtomicU32, Ordering, fence};

/// Stands behind a push, in the place of the fence that the push contains: see `Order of a push` in
/// `channel.rs`.
///
/// Loom does not see into the queue, so it is given the fence.
#[inline]
pub(crate) fn pushed() {
    #[cfg(loom)]
    fence(Ordering::SeqCst);
}

/// Follows the exchange that takes the topics. What the loop looks at then is read with
/// sequentially consistent loads, and so ordered after it.
///
/// Loom takes such an order for acquire and release only (loom issue 180), so it is given the
/// fence.
#[inline]
pub(crate) fn taken() {
    #[cfg(loom)]
    fence(Ordering::SeqCst);
}
