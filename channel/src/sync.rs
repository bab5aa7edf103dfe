//! The atomics of the wake protocol, in one place, so that `--cfg loom` can put loom's in their stead.
//!
//! Only what the protocol's proof speaks of goes through here: the bell's flag, its fences, and the marks that an end is
//! gone. Reference counts stay std's in both builds: they decide who frees, never who wakes.
//!
//! Two steps differ under loom, because of what loom cannot know.

#[cfg(loom)]
pub(crate) use loom::sync::atomic::{AtomicBool, AtomicU8, Ordering, fence};
#[cfg(not(loom))]
pub(crate) use std::sync::atomic::{AtomicBool, AtomicU8, Ordering, fence};

/// Stands behind a push, in the place of the fence that the push contains: see `Order of a push` in `channel.rs`.
///
/// Loom does not see into the queue, so it is given the fence.
#[inline]
pub(crate) fn pushed() {
    #[cfg(loom)]
    fence(Ordering::SeqCst);
}

/// A store that orders nothing.
///
/// For loom an exchange: it lets a concurrent exchange read what was there before a store, and yet leaves its own value
/// behind for those who come after the store. In C++'s memory model, which is Rust's, an exchange reads the value just
/// before its own in the flag's history, so then the store's value is the later one.
#[inline]
pub(crate) fn set(flag: &AtomicU8, value: u8) {
    #[cfg(loom)]
    flag.swap(value, Ordering::AcqRel);
    #[cfg(not(loom))]
    flag.store(value, Ordering::Relaxed);
}
