//! The atomics of the wake protocol, which `--cfg loom` replaces by loom's.
//!
//! Only the atomics of the protocol's proof are here: the notifier's word, and the flags of dropped
//! ends. Reference counts are std's in both builds, because no wake depends on them.
//!
//! Two fences exist only under loom, which does not model two of the orders that the proof uses.

#[cfg(loom)]
pub(crate) use loom::sync::atomic::{AtomicBool, AtomicU32, Ordering, fence};
#[cfg(not(loom))]
pub(crate) use std::sync::atomic::{AtomicBool, AtomicU32, Ordering, fence};

/// Called after a push. The push contains a fence: see `Order of a push` in `channel.rs`.
///
/// Loom cannot see inside the queue, so under loom this is that fence.
#[inline]
pub(crate) fn pushed() {
    #[cfg(loom)]
    fence(Ordering::SeqCst);
}

/// Called after the exchange that takes the topics. Later loads are sequentially consistent, and so
/// ordered after it.
///
/// Loom treats that order as acquire and release (loom issue 180), so under loom this is a fence.
#[inline]
pub(crate) fn taken() {
    #[cfg(loom)]
    fence(Ordering::SeqCst);
}
