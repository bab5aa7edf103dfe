//! The atomics of the wake protocol, in one place, so that `--cfg loom` can put loom's in their stead.
//!
//! Only what the protocol's proof speaks of goes through here: the bell's flag, its fences, and the mark that the last
//! sender left. Reference counts stay std's in both builds: they decide who frees, never who wakes.

#[cfg(loom)]
pub(crate) use loom::sync::atomic::{AtomicBool, AtomicU8, Ordering, fence};
#[cfg(not(loom))]
pub(crate) use std::sync::atomic::{AtomicBool, AtomicU8, Ordering, fence};
